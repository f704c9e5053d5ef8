"""What to expect of a plan and of each of its steps, as the value that lies beside the plan's file."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from simdeploy.plan.forecast import Expected, Forecast, StepForecast
from simdeploy.plan.plan import Plan
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Floats, Outcome, simulate_all
from simdeploy.simulation.steptimes import StepTimes

QUANTILES = (0.5, 0.95, 0.99)


def forecast(
    plan: Plan, replications: int = 1000, seed: int = 0, jobs: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Forecast:
    """What to expect of *plan* and of its steps; the arguments are those of `simulate`, and so are the numbers.

    An interrupt gives the forecast of the replications that were done.
    """
    outcome = simulate_all({"": plan}, replications, seed, jobs, progress, paths=0, follow_steps=True)[""]
    assert outcome.steps is not None  # asked for
    return Forecast(
        plan_sha256=plan.digest,
        tool=version("simdeploy"),
        seed=seed,
        replications=outcome.replications,
        metrics={name: _metric(outcome, name) for name in outcome.values},
        steps=_steps(plan, outcome.steps),
        goals={result.goal.text: result.met for result in outcome.goals()},
    )


def _metric(outcome: Outcome, name: str) -> Expected:
    estimate, values = outcome.estimate(name), outcome.values[name]
    return _expected(estimate.mean if estimate else None, *(statistics.quantile(values, p) for p in QUANTILES))


def _steps(plan: Plan, times: StepTimes) -> dict[str, StepForecast]:
    began = np.mean(~np.isnan(times.begins_s), axis=0)
    columns = zip(plan.steps, began.tolist(), expected(times.begins_s), expected(times.lasts_s), times.capacity_per_s.tolist(), strict=True)
    return {
        step.id: StepForecast(began=share, begins_s=begins_s, lasts_s=lasts_s, capacity_per_s=_finite(capacity))
        for step, share, begins_s, lasts_s, capacity in columns
    }


def expected(values: Floats) -> list[Expected]:
    """Of each column the mean and the quantiles of what is not nan; None where too few or infinite values do not support it."""
    ordered = np.sort(values, axis=0)  # nan comes last
    counts = np.sum(~np.isnan(values), axis=0)
    means = np.divide(np.nansum(values, axis=0), counts, out=np.full(len(counts), math.nan), where=counts > 0)
    quantiles = [_quantiles(ordered, counts, p) for p in QUANTILES]
    return [_expected(*column) for column in zip(means.tolist(), *quantiles, strict=True)]


def _quantiles(ordered: Floats, counts: np.typing.NDArray[np.intp], p: float) -> list[float | None]:
    """Of each rising column, as `statistics.quantile` of its first *counts* values."""
    place = np.maximum(np.ceil(counts * p).astype(np.intp) - 1, 0)
    found = np.take_along_axis(ordered, place[np.newaxis], axis=0)[0].tolist()
    needed = statistics.replications_needed(p)
    return [value if count >= needed else None for value, count in zip(found, counts.tolist(), strict=True)]


def _expected(mean: float | None, p50: float | None, p95: float | None, p99: float | None) -> Expected:
    return Expected(mean=_finite(mean), p50=_finite(p50), p95=_finite(p95), p99=_finite(p99))


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
