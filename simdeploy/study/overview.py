"""A comparison and its robustness at a glance."""

from __future__ import annotations

import math

import numpy as np

from simdeploy.environment.durations import Floats
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.plan.standing import standing_sentence
from simdeploy.planning.kinds import KINDS
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult
from simdeploy.simulation.overview import chance
from simdeploy.study.comparison import Comparison, words
from simdeploy.study.robustness import FACTORS, Robustness, Variant
from simdeploy.tables import Table
from simdeploy.units import TIME

HEADINGS = {
    "downtime_s": ("downtime\np95", "p95", ""),
    "failed_requests": ("failed\nmean", "mean", ""),
    "lost_capacity": ("cap.\nlost", "mean", "cap. lost: requests that the steady capacity could have served, mean"),
    "makespan_s": ("makespan\np95", "p95", ""),
    "single_fault_s": ("at risk\nmean", "mean", "at risk: time in which the loss of one more machine is not survived"),
    "exposure_max_s": ("data at\nrisk p95", "p95", "data at risk: what would be gone if a store were lost while the plan runs"),
    "success": ("ends\nwell %", "", "ends well: share of the runs in which every step succeeds"),
    "blind_s": ("blind\nmean", "mean", "blind: time in which something serves unobserved"),
    "unobserved_change_s": ("changed\nunseen", "mean", "changed unseen: time in which a step runs where nothing is observed"),
    "unchecked_s": ("unchecked\nmean", "mean", "unchecked: time in which new code serves without its new checks"),
    "rto_s": ("RTO\np95", "p95", "RTO: until validated service at the demanded capacity; - where some run never gets there"),
    "data_loss_s": ("data lost\np95", "p95", "data lost: acknowledged writes of this long are gone"),
    "lost_writes": ("lost\nwrites", "mean", ""),
    "brownout_s": ("brownout\np95", "p95", "brownout: time in which less is served than users want"),
    "machine_hours": ("machine\nhours", "mean", ""),
    "capacity_min": ("capacity\nmin", "mean", "capacity min: the lowest at the front door, req/s"),
    "capacity_end": ("capacity\nend", "mean", "capacity end: at the front door, req/s"),
}
"""Metric -> its heading in a comparison, the statistic that is shown, and what the foot of the table says of it."""


def compared(comparison: Comparison) -> Table:
    """One row per strategy: the metrics that decide most in this kind of scenario."""
    metrics = KINDS[comparison.scenario.scenario].read_for
    rows = [
        (_marked(comparison, name), *(_cell(outcome.values[metric], metric) for metric in metrics))
        for name, outcome in comparison.outcomes.items()
    ]
    headings = [HEADINGS[metric] for metric in metrics]
    notes = ["* recommended   - dominated by another strategy", *(note for _, _, note in headings if note)]
    title = f"{comparison.scenario.title or comparison.scenario.name}: {comparison.replications:,} replications, seed {comparison.seed}"
    return Table(title, ("strategy", *(heading for heading, _, _ in headings)), rows, "\n".join(notes))


def _cell(values: Floats, metric: str) -> str:
    if metric in OUTCOMES:
        return chance(values).removesuffix(" %")
    if HEADINGS[metric][1] == "p95":
        return number(metric, statistics.quantile(values, 0.95))
    estimate = statistics.mean(values)
    return number(metric, estimate.mean if estimate else None)


def ends(comparison: Comparison) -> Table:
    """One row per strategy: the probability of each outcome that any has, and what rollbacks and bad releases cost in the mean."""
    columns = (("rollback_s", "time rolling\nback, mean"), ("bad_release_requests", "failed by a\nbad release"))
    outcomes = comparison.outcomes
    had = [end for end in OUTCOMES if any(o.values[end].any() for o in outcomes.values())]
    rows = []
    for name, outcome in outcomes.items():
        means = [statistics.mean(outcome.values[metric]) for metric, _ in columns]
        costs = [number(metric, mean.mean if mean else None) for (metric, _), mean in zip(columns, means, strict=True)]
        rows.append((_marked(comparison, name), *(chance(outcome.values[end]) for end in had), *costs))
    header = ("strategy", *(words(end).replace(" ", "\n") for end in had), *(heading for _, heading in columns))
    never = ", ".join(words(end) for end in OUTCOMES if end not in had)
    bound = chance(np.zeros(comparison.replications))
    note = f"{bound}: in none of the {comparison.replications:,} runs; the bound is the end of the exact 95 % interval"
    return Table("How the runs end", header, rows, note + (f"\nso for all strategies: {never}" if never else ""))


def goals_met(comparison: Comparison) -> Table:
    """One row per strategy, one column per goal: whether it is met, and in what share of the replications."""
    goals = comparison.scenario.goals
    header = ("strategy", *(f"[{i}]" for i in range(1, len(goals) + 1)))
    rows = [(_marked(comparison, name), *map(goal_met, results)) for name, results in comparison.goals.items()]
    note = "\n".join(f"[{i}] {goal.text}" for i, goal in enumerate(goals, start=1))
    if any(result.met is None for results in comparison.goals.values() for result in results):
        note += "\n? too few replications to tell: a p95 takes 72, a p99 takes 368"
    return Table("Goals, and the share of the replications that keep each goal's bound", header, rows, note)


def differences(comparison: Comparison) -> Table:
    """One row per strategy: what it costs more (+) or less (-) than the baseline, with 95 % intervals, in up to three metrics."""
    wanted = dict.fromkeys(("downtime_s", *comparison.scenario.prefer))
    metrics = [m for m in wanted if any(_moves(comparison, n, m) for n in comparison.outcomes)][:3]
    rows = [
        (_marked(comparison, name), *(signed(comparison.difference(name, m), m) for m in metrics))
        for name in comparison.outcomes
        if name != comparison.baseline
    ]
    header = ("strategy", *(m.removesuffix("_s").replace("_", " ") for m in metrics))
    return Table(f"Difference to {comparison.baseline} under the same luck (mean ± 95 % interval)", header, rows)


def robust(robustness: Robustness) -> Table:
    """Two rows per assumed input that changes something or cannot be varied: what halving and what doubling it does."""
    shown = [i for i in robustness.inputs if i.changes_something or i.half.problem or i.double.problem]
    rows = []
    for given in shown:
        places = (given.at.removeprefix("services.").replace(".actions.", "."), f"  {given.was}")
        rows += [(place, *_varied(robustness, v)) for place, v in zip(places, (given.half, given.double), strict=True)]
    metric, name, outcome = words(robustness.metric), robustness.recommended, robustness.outcome
    as_it_is = statistics.mean(outcome.values[robustness.metric])
    problems = [f"{i.at} cannot be {FACTORS[v.factor]}: {v.problem}" for i in shown for v in (i.half, i.double) if v.problem]
    notes = [
        f"{metric}: mean of {name}, against {number(robustness.metric, as_it_is.mean if as_it_is else None)} as it is",
        f"goals: those that {name} then meets or misses",
        *problems,
        f"assumed numbers that change none of this: {len(robustness.inputs) - len(shown)}",
    ]
    title = f"Assumed numbers, halved and doubled one at a time: {outcome.replications:,} replications, seed {outcome.seed}"
    return Table(title, ("input", "is", metric.replace(" ", "\n"), "goals", "recommended"), rows, "\n".join(notes), left=(0, 1, 3, 4))


def verdict(comparison: Comparison) -> str:
    """A few sentences: which strategy and why, and what its cost comes from; then what was at risk before any plan."""
    recommended = comparison.recommended
    accepted = standing_sentence(comparison.scenario.environment)
    return f"Recommended: {recommended}; {comparison.because}.\n{comparison.causes[recommended].sentence}\n{accepted}"


def _varied(robustness: Robustness, variant: Variant) -> tuple[str, ...]:
    """How far the metric moves, which goals are met or missed that were not, and what is then recommended."""
    if variant.recommended is None:
        return (FACTORS[variant.factor], "-", "", "not possible")
    moved = variant.difference.mean if variant.difference else math.nan
    turned = [
        f"{'meets' if now.met else 'misses'} [{k}]"
        for k, (now, was) in enumerate(zip(variant.goals, robustness.goals, strict=True), start=1)
        if now.met != was.met
    ]
    recommended = "same" if variant.recommended == robustness.recommended else variant.recommended
    return (FACTORS[variant.factor], f"{'+' * (moved > 0)}{number(robustness.metric, moved)}", "\n".join(turned), recommended)


def _marked(comparison: Comparison, name: str) -> str:
    return f"{'*' if name == comparison.recommended else '-' if comparison.dominated[name] else ' '} {name}"


def goal_met(result: GoalResult) -> str:
    """Whether a goal is met, and in what share of the replications its bound is kept; '?' where they cannot tell."""
    if result.met is None:
        return "?"
    share = f" {100 * result.probability:.3g} %" if result.probability is not None else ""
    return f"{'met' if result.met else 'MISSED'}{share}"


def _moves(comparison: Comparison, name: str, metric: str) -> bool:
    difference = comparison.difference(name, metric)
    return difference is not None and difference.ci95 not in (None, (0.0, 0.0))


def signed(difference: statistics.Estimate | None, metric: str) -> str:
    """A difference in *metric* with half its 95 % interval: '+3.5 ± 0.2 min'; a dash where it has none."""
    if difference is None or difference.ci95 is None:
        return "-"
    half = (difference.ci95[1] - difference.ci95[0]) / 2
    unit, scale = "", 1.0
    if METRICS[metric].unit == "s":
        unit, scale = next(((f" {u}", TIME[u]) for u in ("h", "min") if abs(difference.mean) >= 2 * TIME[u]), (" s", 1.0))
    mean = difference.mean / scale
    return (
        f"{mean:+,.0f} ± {half / scale:,.0f}{unit}"
        if abs(mean) >= 1000
        else f"{mean:+.3g} ± {half / scale:.2g}{unit}"
        if difference.mean
        else "0"
    )
