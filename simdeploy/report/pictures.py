"""The charts of a page: what is drawn of a comparison, and what each drawing says in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simdeploy.export.drawings import Timeline
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.planning.kinds import KINDS
from simdeploy.report.charts import SIDE, Axis, Floats, Tick, area, histogram, line, linear_axis, time_axis, value_axis
from simdeploy.report.figures import LABELS, kind_of
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Outcome
from simdeploy.study.comparison import Comparison, differs, mean_of, words
from simdeploy.study.courses import Band, Courses, capacity_course
from simdeploy.tables import Table, listed
from simdeploy.units import format_s

MOST_SPREAD = 3
"""Metrics whose distributions are drawn."""
ROOM = (0.045, 0.04, 0.12)
"""What the label of a point of the front takes, in shares of the width: its frame and each letter; and of the height."""
TOLD_APART = 0.01
"""How far the middle 90 % of a metric's values must reach, against the highest of them, to be drawn."""
TOLD = 9
"""Moments of a course that its table tells."""

KINDS_DRAWN = {**LABELS, "several": "several kinds"}
"""Kind of the steps in a row of the schedule -> its name."""


class Shape(NamedTuple):
    """A path and how it is drawn."""

    style: str
    path: str


class Plot(NamedTuple):
    """A chart over the time of a plan."""

    title: str
    summary: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    shapes: tuple[Shape, ...]
    note: str = ""
    """Stands beside the title."""


class Spread(NamedTuple):
    """How one strategy's replications are spread."""

    name: str
    path: str
    marks: tuple[tuple[str, float], ...]
    """(style, share of the width) of the mean and of the 95th percentile, as far as they are known."""
    cells: tuple[str, ...]


class Spreads(NamedTuple):
    """One metric of all strategies on one axis."""

    title: str
    axis: Axis
    rows: tuple[Spread, ...]


class Point(NamedTuple):
    """Strategies that stand in one place of the front."""

    label: str
    x: float
    y: float
    is_on_front: bool


class Front(NamedTuple):
    """The strategies by two metrics of which less is better."""

    metrics: tuple[str, str]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    points: tuple[Point, ...]
    path: str
    """Along the front."""
    summary: str
    table: Table


class Span(NamedTuple):
    """A row of the schedule."""

    label: str
    kind: str
    begin: float
    length: float
    begins: str
    lasts: str
    is_final: bool


class Schedule(NamedTuple):
    """The steps over time."""

    source: str
    x: tuple[Tick, ...]
    spans: tuple[Span, ...]
    kinds: tuple[tuple[str, str], ...]
    """(kind, its name) of those that there are."""


def capacity_plot(title: str, outcome: Outcome, at_s: Floats, capacity: Band, demand: Band, note: str = "") -> Plot:
    """Capacity at the front door against the demand: median and middle 90 % of the replications."""
    x = time_axis(float(at_s[-1]))
    finite = np.concatenate([b[np.isfinite(b)] for b in (*capacity, *demand)])
    y = linear_axis(1.1 * (float(finite.max(initial=0.0)) or 1.0), "capacity_min", 5)
    at, wanted = x.shares(at_s), y.shares(demand.middle)
    low, middle, high = (y.shares(b) for b in capacity)
    shapes = [
        Shape("band", area(at, low, high)),
        Shape("short", area(at, np.minimum(middle, wanted), wanted)),
        Shape("median", line(at, middle)),
        Shape("demand", line(at, wanted)),
        _end(outcome, x),
    ]
    return Plot(title, capacity_words(outcome, demand), x.ticks, y.ticks, tuple(shapes), note)


def capacity_words(outcome: Outcome, demand: Band) -> str:
    """What the chart of a strategy's capacity shows."""
    wanted = _rate(float(demand.high.max()))
    least, lowest = np.quantile(outcome.values["capacity_min"], (0.05, 0.5), method="inverted_cdf").tolist()
    low = f"{_rate(lowest)} in the median run and {_rate(least)} in the worst 5 %" if least < lowest else _rate(lowest)
    short = {"nothing is served": mean_of(outcome, "downtime_s"), "too little is served": mean_of(outcome, "brownout_s")}
    told = [f"{what} for {format_s(mean_s)}" for what, mean_s in short.items() if mean_s > 0]
    if told:
        return f"Capacity goes down to {low}; the demand is up to {wanted}. In the mean {listed(told)}."
    said = f"Capacity covers the demand of up to {wanted} in every run."
    return f"{said} It goes down to {low}." if outcome.plan.start.live else said


def _rate(per_s: float) -> str:
    return f"{per_s:.4g} req/s" if math.isfinite(per_s) else "no limit"


def _end(outcome: Outcome, x: Axis) -> Shape:
    at = round(SIDE * x.share(float(np.median(outcome.values["makespan_s"]))))
    return Shape("end", f"M{at} 0V{SIDE}")


def exposure_plot(outcome: Outcome, told: Courses) -> Plot | None:
    """What would be gone if a store were lost just then; None where nobody knows, nothing bounds it, or it is nothing."""
    exposure = told.exposure_s
    highest = 0.0 if exposure is None else float(exposure.high[np.isfinite(exposure.high)].max(initial=0.0))
    if exposure is None or highest <= 0:
        return None
    x, y = time_axis(float(told.at_s[-1])), linear_axis(1.1 * highest, "exposure_max_s", 5)
    at, (low, middle, high) = x.shares(told.at_s), (y.shares(b) for b in exposure)
    said = (
        f"At the start {number('exposure_max_s', float(exposure.middle[0]))} of writes in the median; at the most "
        f"{number('exposure_max_s', float(exposure.middle.max()))} in the median and "
        f"{number('exposure_max_s', float(exposure.high.max()))} at the 95th percentile."
    )
    shapes = (Shape("band", area(at, low, high)), Shape("median", line(at, middle)), _end(outcome, x))
    return Plot("Data at risk: what would be gone if a store were lost just then", said, x.ticks, y.ticks, shapes)


def risk_plot(outcome: Outcome, told: Courses) -> Plot:
    """The share of the runs in which one more loss would not be survived."""
    x = time_axis(float(told.at_s[-1]))
    y = tuple(Tick(s, f"{100 * s:.0f} %") for s in (0.0, 0.5, 1.0))
    at = x.shares(told.at_s)
    mean_s = mean_of(outcome, "single_fault_s")
    said = (
        f"In the mean for {format_s(mean_s)} the loss of one more machine would leave less than is wanted, where the start state bore it."
        if mean_s > 0
        else "At no moment: every loss that the start state bore is borne throughout."
    )
    shapes = (Shape("risk", area(at, np.zeros(len(at)), told.at_risk)), _end(outcome, x))
    return Plot("Exposed to one more loss: share of the runs", said, x.ticks, y, shapes)


def course_table(told: Courses) -> Table:
    """The courses as numbers, at moments evenly apart."""
    rows = []
    for t in np.linspace(0, told.at_s[-1], TOLD).tolist():
        k = int(np.searchsorted(told.at_s, t, side="right")) - 1
        cells = [f"{b[k]:.4g}" for b in (*told.capacity, told.demand.middle)]
        if told.exposure_s is not None:
            cells += [number("exposure_max_s", float(b[k])) for b in told.exposure_s[1:]]
        rows.append((format_s(t), *cells, f"{100 * told.at_risk[k]:.0f} %"))
    data = ("data at risk, median", "data at risk, P95") if told.exposure_s is not None else ()
    header = ("time", "capacity P5", "capacity median", "capacity P95", "demand", *data, "one loss too many")
    return Table(f"The same in numbers: req/s at the front door, of {told.replications} runs", header, rows)


def capacity_plots(comparison: Comparison, at_s: Floats) -> list[Plot]:
    """One small chart of capacity against demand for each strategy, over the same time."""
    plots = []
    for name, outcome in comparison.outcomes.items():
        note = "recommended" if name == comparison.recommended else ""
        plots.append(capacity_plot(name, outcome, at_s, *capacity_course(outcome.paths, at_s), note))
    return plots


def varied(comparison: Comparison) -> list[str]:
    """The metrics that tell most replications or strategies apart, those that decide most first."""
    wanted = dict.fromkeys((*comparison.scenario.prefer, *KINDS[comparison.scenario.scenario].read_for, "makespan_s"))
    return [m for m in wanted if m not in OUTCOMES and _differs(_finite(comparison, m))]


def _differs(values: Floats) -> bool:
    if not len(values):
        return False
    low, high = np.quantile(values, (0.05, 0.95), method="inverted_cdf")
    return bool(high - low > TOLD_APART * abs(high))


def _finite(comparison: Comparison, metric: str) -> Floats:
    values = np.concatenate([o.values[metric] for o in comparison.outcomes.values()])
    finite: Floats = values[np.isfinite(values)]
    return finite


def spreads(comparison: Comparison) -> list[Spreads]:
    """How the metrics that decide most are spread over the replications of each strategy."""
    return [_spreads(comparison, m) for m in varied(comparison)[:MOST_SPREAD]]


def _spreads(comparison: Comparison, metric: str) -> Spreads:
    axis = value_axis(_finite(comparison, metric), metric, 5)
    rows = []
    for name, outcome in comparison.outcomes.items():
        values = outcome.values[metric]
        median, late = (statistics.quantile(values, p) for p in (0.5, 0.95))
        marks = tuple((s, axis.share(v)) for s, v in (("p50", median), ("p95", late)) if v is not None and math.isfinite(v))
        mean = statistics.mean(values)
        cells = (number(metric, mean.mean if mean else None), number(metric, median), number(metric, late))
        rows.append(Spread(name, histogram(values, axis), marks, cells))
    title = f"{_named(metric)[0].upper()}{_named(metric)[1:]}: {METRICS[metric].meaning}{' (logarithmic)' if axis.is_log else ''}"
    return Spreads(title, axis, tuple(rows))


def _named(metric: str) -> str:
    return {"rto_s": "RTO"}.get(metric, words(metric))


def front(comparison: Comparison) -> Front | None:
    """The strategies by the two preferred metrics that tell them apart; None where there are not two, or not two strategies."""
    means = {m: {n: mean_of(o, m) for n, o in comparison.outcomes.items()} for m in varied(comparison) if METRICS[m].better == "lower"}
    apart = [m for m, of in means.items() if len({round(v, 6) for v in of.values() if math.isfinite(v)}) > 1][:2]
    if len(apart) < 2:
        return None
    down, across = apart
    known = [n for n in comparison.outcomes if all(math.isfinite(means[m][n]) for m in apart)]
    values = {n: (means[across][n], means[down][n]) for n in known}
    best = [n for n in known if not any(_beats(comparison.outcomes[o], comparison.outcomes[n], apart) for o in known)]
    x, y = (value_axis(np.array([v[k] for v in values.values()]), m, 5) for k, m in enumerate((across, down)))
    letters = {n: chr(ord("A") + k % 26) + (str(k // 26) if k >= 26 else "") for k, n in enumerate(comparison.outcomes)}
    places = {n: (x.share(a), y.share(b)) for n, (a, b) in values.items()}
    corners = sorted({places[n] for n in best})
    stairs = line(np.array([c[0] for c in corners]), np.array([c[1] for c in corners]))
    rows = [
        (f"{letters[n]}: {n}", *(number(m, means[m][n]) for m in (across, down)), "yes" if n in best else "-" if n in known else "no value")
        for n in comparison.outcomes
    ]
    table = Table(
        "Means of the strategies", ("strategy", _named(across), _named(down), "on the front"), rows,
        "on the front: no other strategy is better in one of the two and no worse in the other, by more than chance", left=(0, 3),
    )  # fmt: skip
    said = f"Of {len(rows)} strategies {listed(best, most=8)} {'are' if len(best) > 1 else 'is'} on the front."
    return Front((_named(across), _named(down)), x.ticks, y.ticks, _points(places, letters, best), stairs, said, table)


def _beats(one: Outcome, other: Outcome, metrics: Sequence[str]) -> bool:
    """Whether *one* is less than *other* in one of the *metrics* and more in none, by more than the 95 % interval of the difference."""
    told_apart = [m for m in metrics if differs(one, other, m)]
    return bool(told_apart) and all(mean_of(one, m) < mean_of(other, m) for m in told_apart)


def _points(places: dict[str, tuple[float, float]], letters: dict[str, str], best: Sequence[str]) -> tuple[Point, ...]:
    """The points with their letters; those that would cover each other have one label."""
    groups: list[list[str]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1]):
        near = (g for g in groups if abs(places[g[0]][0] - x) < ROOM[0] + ROOM[1] * len(g) and abs(places[g[0]][1] - y) < ROOM[2])
        group = next(near, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return tuple(Point(", ".join(sorted(letters[n] for n in group)), *places[group[0]], any(n in best for n in group)) for group in groups)


def schedule(drawn: Timeline) -> Schedule:
    """The main section's steps over time."""
    axis = time_axis(drawn.ends_s, 5)
    spans = []
    for bar in drawn.bars:
        kinds = {kind_of(s) for s in bar.steps if s.kind != "judge"}
        kind = kinds.pop() if len(kinds) == 1 else "several"
        begin, length = 100 * bar.begins_s / axis.high, 100 * (bar.ends_s - bar.begins_s) / axis.high
        lasts = format_s(bar.ends_s - bar.begins_s)
        spans.append(Span(bar.label, kind, round(begin, 2), round(length, 2), format_s(bar.begins_s), lasts, bar.no_return))
    used = {s.kind for s in spans}
    return Schedule(drawn.source, axis.ticks, tuple(spans), tuple((k, name) for k, name in KINDS_DRAWN.items() if k in used))
