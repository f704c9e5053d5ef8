"""A forecast at a glance."""

from __future__ import annotations

from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Outcome
from simdeploy.tables import Table


def forecast(outcome: Outcome) -> Table:
    """One row per metric of one plan, without the outcomes that never happened."""
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
        count = int(outcome.values[name].sum())
        if count:
            low, high = statistics.share_ci95(count, outcome.replications)
            chances.append(f"{name} {100 * count / outcome.replications:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)")
    source = outcome.plan.source
    title = f"{source.scenario}, {source.strategy}: {outcome.replications:,} replications, seed {outcome.seed}"
    return Table(title, ("metric", "mean", "95 %", "p50", "p95", "p99"), rows, f"outcome: {', '.join(chances)}")
