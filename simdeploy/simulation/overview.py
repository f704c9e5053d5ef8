"""A forecast at a glance."""

from __future__ import annotations

import math

from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Floats, Outcome
from simdeploy.simulation.statistics import TAIL
from simdeploy.tables import Table


def forecast(outcome: Outcome) -> Table:
    """One row per metric of one plan; below them how its runs end."""
    rows = []
    for name, values in outcome.values.items():
        if name in OUTCOMES:
            continue
        estimate = statistics.mean(values)
        half = (estimate.ci95[1] - estimate.ci95[0]) / 2 if estimate and estimate.ci95 else None
        mean = number(name, estimate.mean if estimate else None)
        quantiles = [number(name, statistics.quantile(values, p)) for p in (0.5, 0.95, 0.99)]
        unit = METRICS[name].unit
        label = name if unit in ("s", "share", "probability") else f"{name} [{unit}]"
        rows.append((label, mean, f"± {number(name, half)}" if half else "", *quantiles))
    chances = []
    for name in OUTCOMES:
        values = outcome.values[name]
        low, high = statistics.proportion(values).ci95 or (0.0, 1.0)
        chances.append(f"{name} {chance(values)}" + (f" ({100 * low:.1f} to {100 * high:.1f} %)" if 0 < values.mean() < 1 else ""))
    source = outcome.plan.source
    title = f"{source.scenario}, {source.strategy}: {outcome.replications:,} replications, seed {outcome.seed}"
    return Table(title, ("metric", "mean", "95 %", "p50", "p95", "p99"), rows, f"outcome: {', '.join(chances)}")


def chance(values: Floats) -> str:
    """A probability from zeros and ones, as text; where it never or always happened, the bound of its exact 95 % interval."""
    share = statistics.proportion(values).mean
    if 0 < share < 1:
        return f"{100 * share:.1f} %"
    bound = 100 * (1 - TAIL ** (1 / len(values)))
    digits = max(0, -math.floor(math.log10(bound)))
    bound = math.ceil(bound * 10**digits) / 10**digits  # rounded so that it stays a bound
    return f"<{bound:.{digits}f} %" if share == 0 else f">{100 - bound:.{digits}f} %"
