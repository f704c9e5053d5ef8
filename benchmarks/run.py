"""The speed against a plain SimPy program, as ratios in one run, and where the time goes: `make benchmarks`.

Both do the same work: a rolling upgrade in waves, four steps a machine, retries, limited forks. The plain
program tracks one number, we compute every metric. One core; the best of several rounds, taken in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks import plain, workload
from simdeploy.plan.measurement import metrics_of
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from simdeploy.study.comparison import compare

SIZES = ((5, 1000), (100, 200), (1000, 64))
"""(machines, replications of one round)"""
ROUNDS = 4


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call [s]."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sem(values: list[float]) -> float:
    """Standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


class Ours:
    """The same workload on our engine, with a clock on each part."""

    def __init__(self, machines: int, count: int) -> None:
        self.plan, self.count = workload.plan(machines), count
        self.engine = Engine(self.plan)
        self.spent: dict[str, float] = {}
        self.failed: list[float] = []

    def replicate(self, first: int) -> None:
        """One round: *count* replications from *first* on."""
        draws = Draws(self.plan, 0, first, self.count, self.engine.names)
        self.spent["drawing"] = seconds(lambda: list(draws.rows()))
        runs: list = []
        self.spent["drawing and running"] = seconds(lambda: runs.extend(self.engine.runs(draws)))
        self.spent["metrics"] = seconds(lambda: self._measure(runs))

    def _measure(self, runs: list) -> None:
        self.failed += metrics_of(self.plan, self.engine.book, runs, [{}] * len(runs))["failed_requests"].tolist()

    @property
    def total(self) -> float:
        """Of the last round [s]; drawing is part of running."""
        return self.spent["drawing and running"] + self.spent["metrics"]


def main() -> None:
    """Print the table."""
    print(f"{'machines':>8} {'plain':>10} {'simdeploy':>10} {'ratio':>6}   of ours: drawing, running, metrics")
    for machines, count in SIZES:
        ours = Ours(machines, count)
        best_plain, best, shares = float("inf"), float("inf"), {}
        failed: list[float] = []
        for k in range(ROUNDS):
            best_plain = min(best_plain, seconds(lambda: failed.extend(plain.replicate(machines, k * count + i) for i in range(count))))  # noqa: B023
            ours.replicate(k * count)
            if ours.total < best:
                best, shares = ours.total, dict(ours.spent)
        gap, band = abs(np.mean(failed) - np.mean(ours.failed)), 4 * np.hypot(sem(failed), sem(ours.failed))
        assert gap <= band, f"{machines} machines: failed requests differ by {gap:.0f}, more than {band:.0f}: not the same workload"
        running = shares["drawing and running"] - shares["drawing"]
        parts = " ".join(f"{100 * part / best:4.0f} %" for part in (shares["drawing"], running, shares["metrics"]))
        print(f"{machines:>8} {1e3 * best_plain / count:>7.3f} ms {1e3 * best / count:>7.3f} ms {best_plain / best:>6.2f}   {parts}")
    print("ratio: replications a second of ours over those of the plain program, all metrics against one;")
    print("both fail the same requests in the mean, within four standard errors")
    scenario = load_scenario("scenarios/canonical/upgrade.yaml")
    names = list(scenario.strategies)[:5]
    wall = seconds(lambda: compare(scenario, 1000, strategies=names))
    print(f"comparing {len(names)} strategies of the canonical upgrade, 1,000 replications each: {wall:.1f} s")


if __name__ == "__main__":
    main()
