"""Tables: Rich tables for terminals of 80 columns, HTML for notebooks, Markdown for reports; one set of cells for all."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.plan import Plan
from simdeploy.planning.scenario import Scenario
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult, Outcome
from simdeploy.study.comparison import Comparison, words
from simdeploy.study.robustness import FACTORS, Robustness, Variant
from simdeploy.units import TIME, format_s


class Table(NamedTuple):
    """A table of texts."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    left: tuple[int, ...] = (0,)
    """Columns that hold words; the others hold numbers and are aligned to the right."""


def number(metric: str, value: float | None) -> str:
    """*value* of *metric* for reading: '3.5 s', '12,041', '80.0 %'; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    unit = METRICS[metric].unit
    if unit == "s":
        return format_s(value)
    if metric == "availability":
        return f"{100 * value:.4g} %"
    if unit in ("share", "probability"):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def compared(comparison: Comparison) -> Table:
    """One row per strategy: the metrics that decide most."""
    columns = (("downtime_s", "downtime\np95"), ("failed_requests", "failed\nmean"), ("lost_capacity", "capacity\nlost"),
               ("makespan_s", "makespan\np95"), ("single_fault_s", "at risk\nmean"), ("added_exposure_s", "data\nrisk"))  # fmt: skip
    rows = []
    for name, outcome in comparison.outcomes.items():
        cells = [_marked(comparison, name)]
        for metric, heading in columns:
            values = outcome.values[metric]
            estimate = statistics.mean(values)
            cells.append(number(metric, statistics.quantile(values, 0.95) if "p95" in heading else estimate.mean if estimate else None))
        rows.append(tuple(cells))
    note = (
        "* recommended   - dominated by another strategy\n"
        "capacity lost: requests that the steady capacity could have served, mean\n"
        "at risk: time in which the loss of one more machine is not survived\n"
        "data risk (p95): how much more a lost store would cost than one left alone"
    )
    title = f"{comparison.scenario.title or comparison.scenario.name}: {comparison.replications:,} replications, seed {comparison.seed}"
    return Table(title, ("strategy", *(h for _, h in columns)), rows, note)


def goals_met(comparison: Comparison) -> Table:
    """One row per strategy, one column per goal: whether it is met, and in what share of the replications."""
    goals = comparison.scenario.goals
    header = ("strategy", *(f"[{i}]" for i in range(1, len(goals) + 1)))
    rows = [(_marked(comparison, name), *map(_met, results)) for name, results in comparison.goals.items()]
    note = "\n".join(f"[{i}] {goal.text}" for i, goal in enumerate(goals, start=1))
    return Table("Goals, and the share of the replications that keep each goal's bound", header, rows, note)


def differences(comparison: Comparison) -> Table:
    """One row per strategy: what it costs more (+) or less (-) than the baseline, with 95 % intervals, in up to three metrics."""
    wanted = dict.fromkeys(("downtime_s", *comparison.scenario.prefer))
    metrics = [m for m in wanted if any(_moves(comparison, n, m) for n in comparison.outcomes)][:3]
    rows = [
        (_marked(comparison, name), *(_difference(comparison, name, m) for m in metrics))
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


def steps(plan: Plan) -> Table:
    """One row per step of a plan."""
    rows = [
        (s.id, s.on or "desk", "-" if s.kind == "judge" else str(s.duration), ", ".join((*s.needs, *s.after)) or "start")
        for s in plan.steps
    ]  # fmt: skip
    return Table(
        f"{plan.source.scenario}, {plan.source.strategy}: {len(rows)} steps",
        ("step", "on", "takes", "comes after"),
        rows,
        left=(0, 1, 2, 3),
    )


def tiers(env: Environment) -> Table:
    """One row per service of an environment."""
    rows = []
    for name, service in env.services.items():
        calls = ", ".join(f"{c} x{call.times:g}{'' if call.dependency == 'hard' else ' (soft)'}" for c, call in service.calls.items())
        capacity = f"{len(service.on)} x {service.capacity_per_s:g} req/s" if service.capacity_per_s is not None else "not limiting"
        door = (
            f"{len(service.on) * service.capacity_per_s / env.visits[name]:.4g} req/s"
            if service.capacity_per_s and env.visits[name]
            else "-"
        )
        rows.append((name, service.role, ", ".join(service.on), capacity, door, calls or "-"))
    marks = [i.mark for i in env.inputs]
    note = f"demand up to {env.demand.peak_per_s:g} req/s; {marks.count('assumed')} numbers assumed, {marks.count('measured')} measured"
    return Table(f"{env.name} ({env.kind})", ("service", "role", "on", "capacity", "at the door", "calls"), rows, note, left=(0, 1, 2, 5))


def strategies(scenario: Scenario) -> Table:
    """One row per strategy of a scenario."""
    rows = []
    for name, strategy in scenario.strategies.items():
        stages = " > ".join("+".join(stage) for stage in scenario.stages(strategy))
        rows.append((name, stages, strategy.about or "-"))
    to = ", ".join(f"{s} to {v}" for s, v in scenario.to.items())
    return Table(
        scenario.title or scenario.name,
        ("strategy", "order", "about"),
        rows,
        f"upgrades {to}; goals: {'; '.join(g.text for g in scenario.goals) or 'none'}",
        left=(0, 1, 2),
    )


def text(table: Table, width: int = 80) -> str:
    """*table* for a terminal of *width* columns, without trailing blanks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    rendered = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for i, heading in enumerate(table.header):
        words = i in table.left
        rendered.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in table.rows:
        rendered.add_row(*map(Text, row))
    console = Console(highlight=False, width=width, color_system=None)
    with console.capture() as capture:
        console.print(Text(table.title), rendered, Text(table.note), sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"


def markdown(table: Table) -> str:
    """*table* as Markdown with its note below."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    ruler = "|" + "|".join(" --- " if i in table.left else " ---: " for i in range(len(table.header))) + "|"
    lines = [line(table.header), ruler, *map(line, table.rows)]
    note = ["- " + said.removeprefix("* ").replace("recommended  ", "\\* recommended,") for said in table.note.splitlines()]
    return "\n".join([*lines, "", *note, ""] if note else [*lines, ""])


def html_table(table: Table) -> str:
    """*table* as HTML, every text escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag} style='text-align:{'left' if i in table.left else 'right'}'>{html.escape(c)}</{tag}>" for i, c in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(row(r, "td") for r in table.rows)
    note = f"<p><small>{'<br>'.join(map(html.escape, table.note.splitlines()))}</small></p>" if table.note else ""
    return (
        f"<table><caption>{html.escape(table.title)}</caption><thead>{row(table.header, 'th')}</thead><tbody>{body}</tbody></table>{note}"
    )


def verdict(comparison: Comparison) -> str:
    """Two sentences: which strategy and why, and what its cost comes from."""
    return f"Recommended: {comparison.recommended}; {comparison.because}.\n{comparison.causes[comparison.recommended].sentence}"


def environment_html(env: Environment) -> str:
    """An environment for a notebook."""
    return html_table(tiers(env))


def scenario_html(scenario: Scenario) -> str:
    """A scenario for a notebook."""
    return html_table(strategies(scenario))


def plan_html(plan: Plan) -> str:
    """A plan for a notebook."""
    return html_table(steps(plan))


def outcome_html(outcome: Outcome) -> str:
    """A forecast for a notebook."""
    return html_table(forecast(outcome))


def comparison_html(comparison: Comparison) -> str:
    """A comparison for a notebook: the verdict first."""
    said = "".join(f"<p>{html.escape(line)}</p>" for line in verdict(comparison).splitlines())
    return said + html_table(compared(comparison)) + html_table(goals_met(comparison)) + html_table(differences(comparison))


def robustness_html(robustness: Robustness) -> str:
    """The variation of the assumed inputs for a notebook: what to measure first comes first."""
    table = robust(robustness)
    return f"<p>{html.escape(robustness.sentence)}</p>{html_table(table) if table.rows else ''}"


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


def _met(result: GoalResult) -> str:
    if result.met is None:
        return "?"
    share = f" {100 * result.probability:.3g} %" if result.probability is not None else ""
    return f"{'met' if result.met else 'MISSED'}{share}"


def _moves(comparison: Comparison, name: str, metric: str) -> bool:
    difference = comparison.difference(name, metric)
    return difference is not None and difference.ci95 not in (None, (0.0, 0.0))


def _difference(comparison: Comparison, name: str, metric: str) -> str:
    difference = comparison.difference(name, metric)
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
