"""Where the boxes of a page's drawings stand: the schedule and the environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx

from simdeploy.environment.models import Environment
from simdeploy.export.batches import Entry, Part
from simdeploy.export.words import visible
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.tables import listed
from simdeploy.units import format_s

ROW, LABELS, WIDTH, MOST_ROWS = 22, 230, 620, 48
BOX, GAP, HIGH, BETWEEN = 190, 26, 62, 44
CELL, IN_A_ROW, MOST_CELLS = 22, 8, 48
"""Of the squares below a service's name: one for each instance, and of more than the last so many one for each batch."""


class Bar(NamedTuple):
    """One row of the schedule."""

    label: str
    y: int
    x: float
    width: float
    when: str
    no_return: bool
    begins_s: float
    ends_s: float
    steps: tuple[Step, ...]


class Timeline(NamedTuple):
    """The schedule as bars, and what it says in words."""

    source: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    width: int
    height: int
    summary: str
    ends_s: float
    """When the last bar does; where there is none 1 s."""


class Cell(NamedTuple):
    """A square of the topology: one instance, or all of one service that are done in the same batch."""

    label: str
    """The number of the first batch that is about it; "" = the plan leaves it alone."""
    x: float
    y: int
    width: int
    about: str


class Box(NamedTuple):
    """One service."""

    name: str
    role: str
    machines: str
    zones: str
    x: float
    y: int
    height: int
    cells: tuple[Cell, ...]


class Topology(NamedTuple):
    """The services with their machines, zones and batches, and who calls whom."""

    boxes: tuple[Box, ...]
    calls: tuple[tuple[float, float, float, float], ...]
    width: float
    height: int
    summary: tuple[str, ...]


def timeline(plan: Plan, part: Part, forecast: Forecast | None) -> Timeline:
    """The schedule of a section: begin and length at P50, without a forecast at mean durations along the longest path."""
    spans = _spans(plan, part, forecast)
    entries = [(e.number, e) for b in part.batches for e in b.entries if e.first.kind != "judge"]
    rows: list[tuple[str, list[Entry]]] = [(f"{n} {_label(e)}", [e]) for n, e in entries]
    if len(rows) > MOST_ROWS:
        rows = [(f"batch {b.number}", [e for e in b.entries if e.first.kind != "judge"]) for b in part.batches]
    shown = [(label, [spans[s.id] for e in some for s in e.steps if s.id in spans], some) for label, some in rows]
    shown = [row for row in shown if row[1]]
    end = max((stop for _, times, _ in shown for _, stop in times), default=0.0) or 1.0
    scale = WIDTH / end
    bars = []
    for k, (label, times, some) in enumerate(shown):
        begin, stop = min(t[0] for t in times), max(t[1] for t in times)
        when = f"{format_s(begin)} to {format_s(stop)}"
        width, is_final = max((stop - begin) * scale, 1.5), any(e.first.no_return for e in some)
        steps = tuple(s for e in some for s in e.steps)
        bars.append(Bar(label, k * ROW, LABELS + begin * scale, width, when, is_final, begin, stop, steps))
    ticks = tuple((LABELS + WIDTH * k / 4, format_s(end * k / 4)) for k in range(5))
    source = "the medians of the forecast" if forecast else "mean durations along the longest path, since there is no forecast"
    longest = max(bars, key=lambda b: b.width, default=None)
    summary = f"{len(bars)} rows from 0 to {format_s(end)}" + (f"; the longest is {longest.label}, {longest.when}" if longest else "")
    return Timeline(source, tuple(bars), ticks, LABELS + WIDTH + 40, len(bars) * ROW + 28, summary, end)


def _label(entry: Entry) -> str:
    step = entry.first
    target = step.target.split("@")[0] + f" x{len(entry.steps)}" if len(entry.steps) > 1 else step.target
    text = visible(f"{step.action.split('#')[0]} {target}".strip())
    return text if len(text) <= 30 else text[:29] + "…"


def _spans(plan: Plan, part: Part, forecast: Forecast | None) -> dict[str, tuple[float, float]]:
    """Step -> when it begins and ends [s]."""
    spans: dict[str, tuple[float, float]] = {}
    if forecast is not None:
        for step in part.steps:
            told = forecast.steps.get(step.id)
            if told is not None and told.begins_s.p50 is not None and told.lasts_s.p50 is not None:
                spans[step.id] = (told.begins_s.p50, told.begins_s.p50 + told.lasts_s.p50)
        return spans
    means = plan.means_s()
    for step in part.steps:
        begin = max((spans[u][1] for u in (*step.needs, *step.after)), default=0.0)
        spans[step.id] = (begin, begin + means[step.id])
    return spans


def topology(env: Environment, part: Part) -> Topology:
    """The services from the front door down, each level in a row, each instance with the first batch of *part* that is about it."""
    level = dict.fromkeys(env.services, 0)
    for name in nx.topological_sort(env.calls):
        for callee in env.calls.successors(name):
            level[callee] = max(level[callee], level[name] + 1)
    lonely = [n for n in env.services if n != env.entry and not env.calls.degree(n)]  # monitoring stands aside, in the last row
    level |= dict.fromkeys(lonely, max(level.values()))
    rows: dict[int, list[str]] = {}
    for name in env.services:
        rows.setdefault(level[name], []).append(name)
    widest = max(map(len, rows.values()))
    width = widest * BOX + (widest - 1) * GAP
    batches = batches_of(env, part)
    cells = {name: _cells(env, name, batches) for name in env.services}
    high = {name: HIGH + max((c.y + CELL for c in of), default=0) for name, of in cells.items()}
    place: dict[str, tuple[float, int]] = {}
    y = 0
    for _, names in sorted(rows.items()):
        free = width - len(names) * BOX - (len(names) - 1) * GAP
        place |= {n: (free / 2 + i * (BOX + GAP), y) for i, n in enumerate(names)}
        y += max(high[n] for n in names) + BETWEEN
    boxes = tuple(_box(env, name, *place[name], high[name], cells[name]) for name in env.services)
    calls = tuple((place[u][0] + BOX / 2, place[u][1] + high[u], place[v][0] + BOX / 2, place[v][1]) for u, v in env.calls.edges)
    return Topology(boxes, calls, width, y - BETWEEN, tuple(_said(env, b, batches) for b in boxes))


def batches_of(env: Environment, part: Part) -> dict[str, tuple[str, ...]]:
    """Instance -> the numbers of the batches of *part* that are about it, in order."""
    found: dict[str, dict[str, None]] = {}
    for batch in part.batches:
        for step in (s for s in batch.steps if s.kind == "step"):
            for name in _about(env, step):
                found.setdefault(name, {})[batch.number] = None
    return {name: tuple(numbers) for name, numbers in found.items()}


def _about(env: Environment, step: Step) -> Sequence[str]:
    """The instance that a step is about; of one on a service, those on its machine, where it does anything to them."""
    if step.target not in env.services:
        return [step.target] if step.target in env.instances else []
    members = env.members(step.target)
    touched = {str(e[1]) for e in (*step.begin, *step.end) if len(e) > 1} | {i for i, _ in step.slow}
    return [m for m in members if step.on in ("", env.instances[m][1])] if touched & {step.target, *members} else []


def _cells(env: Environment, service: str, batches: dict[str, tuple[str, ...]]) -> tuple[Cell, ...]:
    """The squares of a service; none where the plan leaves all of it alone."""
    members = env.members(service)
    if not any(m in batches for m in members):
        return ()
    first = {m: batches[m][0] if m in batches else "" for m in members}
    if len(members) <= MOST_CELLS:
        shown = [(first[m], 1, f"{m}: {_batches(batches.get(m, ()))}") for m in members]
    else:
        counts = Counter(first.values())
        shown = [(label and f"{label}: {n}", 2, f"{n} instances: {_batches((label,) if label else ())}") for label, n in counts.items()]
        shown = shown[: MOST_CELLS // 2]
    row = IN_A_ROW // max((span for _, span, _ in shown), default=1)
    return tuple(
        Cell(label, 7 + k % row * CELL * span, k // row * CELL, CELL * span - 2, about) for k, (label, span, about) in enumerate(shown)
    )


def _batches(numbers: Sequence[str]) -> str:
    return f"batch{'es' * (len(numbers) > 1)} {', '.join(numbers)}" if numbers else "left alone"


def _said(env: Environment, box: Box, batches: dict[str, tuple[str, ...]]) -> str:
    """One service in words."""
    calls, members = env.services[box.name].calls, env.members(box.name)
    done: dict[tuple[str, ...], int] = Counter(batches[m] for m in members if m in batches)
    said = f"{box.name} ({box.role}) on {box.machines}{'; zones: ' + box.zones if box.zones else ''}"
    said += f"; calls {', '.join(calls)}" if calls else ""
    told = [f"{n} of {len(members)} in {_batches(numbers)}" for numbers, n in done.items()]
    return f"{said}; {listed(told, most=12)}" if told else said


def _box(env: Environment, name: str, x: float, y: int, height: int, cells: tuple[Cell, ...]) -> Box:
    service = env.services[name]
    zones = Counter(z for m in service.on if (z := env.machines[env.machine_index[m]].zone))
    machines = ", ".join(service.on)
    if len(service.on) > 3 or len(machines) > 28:
        machines = f"{len(service.on)} machine{'s' * (len(service.on) > 1)}, {service.on[0]} ..."
    told = ", ".join(f"{zone} x{n}" for zone, n in zones.items())
    return Box(name, service.role.replace("_", " "), _short(machines), _short(told), x, y, height, cells)


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
