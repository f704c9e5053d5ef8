"""A forecast as a value: what an outcome says, and when each step begins, how long it lasts and what is left meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from simdeploy.plan.forecast import Expected, Forecast, StepForecast
from simdeploy.plan.plan import Plan
from simdeploy.simulation import statistics
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import KEPT_PATHS, Floats, Outcome, Path, simulate
from simdeploy.simulation.sampler import Draws

WORTH_TRACING = 4_000_000
"""Steps times replications whose times are kept for each step: beyond it fewer replications are followed step by step."""


def forecast(
    plan: Plan, replications: int = 1000, seed: int = 0, jobs: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Forecast:
    """What to expect of *plan* and of each of its steps; the steps' figures are of the first replications, at most KEPT_PATHS."""
    return forecast_of(simulate(plan, replications, seed, jobs, progress))


def forecast_of(outcome: Outcome) -> Forecast:
    """The forecast that an outcome amounts to. Its steps are followed anew, with the same luck."""
    plan = outcome.plan
    followed = min(outcome.replications, KEPT_PATHS, max(20, WORTH_TRACING // max(1, len(plan.steps))), len(outcome.paths))
    return Forecast(
        plan_sha256=plan.digest,
        tool=version("simdeploy"),
        seed=outcome.seed,
        replications=outcome.replications,
        metrics={name: _expected(values) for name, values in outcome.values.items()},
        steps=_steps(plan, outcome.seed, outcome.paths[:followed]),
        goals={str(result.goal): result.met for result in outcome.goals()},
    )


def _steps(plan: Plan, seed: int, paths: list[Path]) -> dict[str, StepForecast]:
    engine = Engine(plan)
    begins: dict[str, list[float]] = {s.id: [] for s in plan.steps}
    lasts: dict[str, list[float]] = {s.id: [] for s in plan.steps}
    least: dict[str, float] = {}
    for replication, path in enumerate(paths):
        running: dict[str, float] = {}
        for record in engine.trace(Draws(plan, seed, replication, 1, engine.names)):
            if record.kind == "began":
                running[record.subject] = record.at_s
            elif record.kind == "ended" and record.subject in running:
                begun = running.pop(record.subject)
                begins[record.subject].append(begun)
                lasts[record.subject].append(record.at_s - begun)
                least[record.subject] = min(least.get(record.subject, math.inf), _lowest(path, begun, record.at_s))
    return {
        step: StepForecast(
            began=len(begins[step]) / max(1, len(paths)),
            begins_s=_expected(np.array(begins[step])),
            lasts_s=_expected(np.array(lasts[step])),
            capacity_per_s=None if math.isinf(least.get(step, math.inf)) else least[step],
        )
        for step in begins
    }


def _lowest(path: Path, begun: float, ended: float) -> float:
    """The lowest capacity that held at any moment from *begun* to *ended*."""
    first = max(0, int(np.searchsorted(path.times, begun, side="right")) - 1)
    last = max(first + 1, int(np.searchsorted(path.times, ended, side="left")))
    return float(path.capacity[first:last].min())


def _expected(values: Floats) -> Expected:
    """Mean and quantiles of *values*; None where there are none, or too few, or one has no bound."""
    known = len(values) > 0 and not np.isnan(values).any()
    quantiles = [statistics.quantile(values, p) if known else None for p in (0.5, 0.95, 0.99)]
    mean = float(values.mean()) if known else None
    return Expected(**{name: _finite(value) for name, value in zip(("mean", "p50", "p95", "p99"), (mean, *quantiles), strict=True)})


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
