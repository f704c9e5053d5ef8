"""Replications of plans on all cores, and what is to be expected of each plan: an Outcome."""

from __future__ import annotations

import functools
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.errors import StudyError
from simdeploy.plan.goals import GoalParts
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.trace import Trace
from simdeploy.simulation import statistics
from simdeploy.simulation.display import notebook_progress
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from simdeploy.simulation.steptimes import StepTimes
from simdeploy.tables import mime_bundle

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
KEPT_PATHS = 200
"""Replications whose course of capacity is kept for pictures."""
WORTH_WORKERS = 600_000
"""Steps times replications from which starting worker processes pays: they take about two seconds to start."""


class Path(NamedTuple):
    """The course of one replication: what holds from each moment on."""

    times: Floats
    capacity: Floats
    demand: Floats


class GoalResult(NamedTuple):
    """Whether a goal is met; None where the replications cannot support its statistic."""

    goal: GoalParts
    met: bool | None
    probability: float | None
    """Share of the replications in which METRIC OP VALUE holds."""


class Outcome(NamedTuple):
    """What to expect of one plan."""

    plan: Plan
    seed: int
    values: dict[str, Floats]
    """Metric -> one value per replication, nan where it has none."""
    paths: list[Path]
    """Of the first replications."""
    interrupted: bool = False
    steps: StepTimes | None = None
    """When each step ran, where that was asked for."""

    @property
    def replications(self) -> int:
        """How many replications were done."""
        return len(self.values["makespan_s"])

    def __repr__(self) -> str:
        return f"<Outcome of {self.plan.source.strategy or 'a plan'}: {self.replications} replications, seed {self.seed}>"

    def frame(self) -> pd.DataFrame:
        """One row per replication (index `replication`), one column per metric, in the metrics' units."""
        import pandas as pd

        frame = pd.DataFrame(self.values)
        frame.index.name = "replication"
        return frame

    def summary(self) -> pd.DataFrame:
        """One row per metric: unit, mean, ci95_low, ci95_high, p50, p95, p99; missing where not supported."""
        import pandas as pd

        rows = []
        for name, values in self.values.items():
            estimate = self.estimate(name)
            low, high = (estimate.ci95 if estimate else None) or (None, None)
            quantiles = [statistics.quantile(values, p) for p in (0.5, 0.95, 0.99)]
            rows.append((name, METRICS[name].unit, estimate.mean if estimate else None, low, high, *quantiles))
        numbers = ["mean", "ci95_low", "ci95_high", "p50", "p95", "p99"]
        frame = pd.DataFrame(rows, columns=["metric", "unit", *numbers]).set_index("metric")
        return frame.astype(dict.fromkeys(numbers, float))

    def estimate(self, metric: str) -> statistics.Estimate | None:
        """The mean of *metric* with its 95 % interval, of a probability the exact one; None where a replication has no value."""
        values = self.values[metric]
        return statistics.proportion(values) if METRICS[metric].unit == "probability" else statistics.mean(values)

    def goals(self) -> list[GoalResult]:
        """Each goal of the plan, in order."""
        return [self.judge(goal) for goal in self.plan.goals]

    def judge(self, goal: GoalParts) -> GoalResult:
        """Whether *goal* is met, and in what share of the replications its comparison holds."""
        values = self.values[goal.metric]
        if np.isnan(values).any():
            return GoalResult(goal, None, None)
        probability = float(np.mean([goal.holds(x) for x in values]))
        if goal.chance is not None:
            return GoalResult(goal, probability >= goal.chance, probability)
        reached = _statistic(goal.statistic or "mean", values)
        return GoalResult(goal, None if reached is None else goal.holds(reached), probability)

    def to_json(self) -> str:
        """The forecast as JSON: metric -> mean, interval and quantiles, None where not supported; then the goals."""
        rows = self.summary().astype(object)
        rows = rows.where(rows.notna() & (rows != np.inf), None)
        content = {
            "format": 1,
            "scenario": self.plan.source.scenario,
            "strategy": self.plan.source.strategy,
            "plan_sha256": self.plan.digest,
            "seed": self.seed,
            "replications": self.replications,
            "metrics": rows.to_dict(orient="index"),
            "goals": [{"goal": g.goal.text, "met": g.met, "probability": g.probability} for g in self.goals()],
        }
        return json.dumps(content, indent=1, allow_nan=False)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.simulation.overview import forecast

        return mime_bundle(forecast(self))


def _statistic(name: str, values: Floats) -> float | None:
    """One of goals.STATISTICS of *values*, None where their number cannot support it."""
    if name in ("mean", "min", "max"):
        return float(getattr(np, name)(values))
    return statistics.quantile(values, int(name[1:]) / 100)


class _Block(NamedTuple):
    values: dict[str, Floats]
    paths: list[Path]
    steps: StepTimes | None


def simulate(
    plan: Plan, replications: int = 1000, seed: int = 0, jobs: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """What to expect of *plan* over *replications* runs; see `simulate_all`."""
    if not isinstance(plan, Plan):
        raise StudyError(f"a {type(plan).__name__} is no Plan; make one with build_plan(scenario, strategy)")
    return simulate_all({"": plan}, replications, seed, jobs, progress)[""]


def simulate_all(
    plans: Mapping[str, Plan],
    replications: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    paths: int = KEPT_PATHS,
    follow_steps: bool = False,
) -> dict[str, Outcome]:
    """Name -> Outcome for rival plans that meet the same luck, each with the course of its first *paths* replications.

    *follow_steps* also keeps when each step ran, in every replication.

    The numbers depend on *seed* alone, not on *jobs* (processes; None = all cores where that pays). *progress* is
    called with (replications done, replications in all) over all plans; without it a notebook shows a bar. An interrupt
    (Ctrl-C) ends early with the replications that all plans have done, marked `interrupted`; with none done it is raised again.
    """
    if replications < 1:
        raise StudyError(f"{replications} replications are none; ask for at least 1")
    if jobs is not None and jobs < 1:
        raise StudyError(f"{jobs} jobs are none; ask for at least 1")
    work = sum(len(p.steps) for p in plans.values()) * replications
    size = _block_size(replications, max((len(p.steps) for p in plans.values()), default=1), len(plans))
    tasks = [(name, first, min(size, replications - first)) for first in range(0, replications, size) for name in plans]
    done: dict[str, list[_Block]] = {name: [] for name in plans}
    progress = progress or notebook_progress()
    interrupted, count = False, 0
    alone = jobs == 1 or (jobs is None and work < WORTH_WORKERS)
    blocks = _serial(plans, seed, tasks, paths, follow_steps) if alone else _parallel(plans, seed, tasks, paths, follow_steps, jobs)
    try:
        for (name, _, n), block in zip(tasks, blocks, strict=True):
            done[name].append(block)
            count += n
            if progress is not None:
                progress(count, replications * len(plans))
    except KeyboardInterrupt:
        interrupted = True
    whole = min(len(blocks) for blocks in done.values())
    if whole == 0:
        raise KeyboardInterrupt
    return {name: _join(plans[name], seed, blocks[:whole], interrupted) for name, blocks in done.items()}


def trace(plan: Plan, seed: int = 0, replication: int = 0) -> Trace:
    """The trace of one replication, the same as in a forecast of many."""
    engine = Engine(plan)
    return engine.trace(Draws(plan, seed, replication, 1, engine.names))


def _block_size(replications: int, steps: int, plans: int) -> int:
    """Replications of one task: enough work to be worth sending, few enough to share out, a multiple of 4 for the sampler.

    Each task learns its plan's states anew, so of many plans none is cut into more tasks than sharing out needs.
    """
    worth = max(32, 40_000 // max(1, steps))
    share = max(4, -(-replications // max(1, min(8, 64 // max(1, plans)))))
    return -(-min(worth, share) // 4) * 4


def _block(engine: Engine, seed: int, first: int, count: int, kept: int, follow_steps: bool) -> _Block:
    draws = Draws(engine.plan, seed, first, count, engine.names)
    steps = StepTimes.empty(len(engine.plan.steps), count) if follow_steps else None
    if steps is None:
        runs = list(engine.runs(draws))
    else:
        runs = [steps.fill_in(r, engine.book, *timed) for r, timed in enumerate(engine.timed_runs(draws))]
    values = metrics_of(engine.plan, engine.book, runs, [draws.phases(r) for r in range(count)])
    paths = []
    for run in runs[: max(0, kept - first)]:
        facts = [engine.book.facts[s] for s in run.states]
        paths.append(Path(np.array(run.times), np.array([f.capacity for f in facts]), np.array([f.demand for f in facts])))
    return _Block(values, paths, steps)


def _serial(plans: Mapping[str, Plan], seed: int, tasks: Sequence[tuple[str, int, int]], kept: int, follow_steps: bool) -> Iterator[_Block]:
    engines = {name: Engine(plan) for name, plan in plans.items()}
    return (_block(engines[name], seed, first, count, kept, follow_steps) for name, first, count in tasks)


@functools.lru_cache(maxsize=8)
def _engine(plan: bytes) -> Engine:
    """The engine of a pickled plan: a worker builds it once for all its tasks, and keeps the facts of its states."""
    return Engine(pickle.loads(plan))


def _alone(plan: bytes, seed: int, first: int, count: int, kept: int, follow_steps: bool) -> _Block:
    return _block(_engine(plan), seed, first, count, kept, follow_steps)


def _parallel(
    plans: Mapping[str, Plan], seed: int, tasks: Sequence[tuple[str, int, int]], kept: int, follow_steps: bool, jobs: int | None
) -> Iterator[_Block]:
    from joblib import Parallel, delayed

    pickled = {name: pickle.dumps(plan) for name, plan in plans.items()}
    cores = os.cpu_count() or 1
    work = (delayed(_alone)(pickled[name], seed, first, count, kept, follow_steps) for name, first, count in tasks)
    blocks: Iterator[_Block] = Parallel(n_jobs=min(jobs or cores, cores, len(tasks)), return_as="generator")(work)
    return blocks


def _join(plan: Plan, seed: int, blocks: Sequence[_Block], interrupted: bool) -> Outcome:
    values = {name: np.concatenate([b.values[name] for b in blocks]) for name in METRICS}
    steps = StepTimes.joined([b.steps for b in blocks if b.steps is not None])
    return Outcome(plan, seed, values, [p for b in blocks for p in b.paths], interrupted, steps)
