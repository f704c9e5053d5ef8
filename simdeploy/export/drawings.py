"""Where the boxes of a page's drawings stand: the schedule and the environment."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import networkx as nx

from simdeploy.environment.models import Environment
from simdeploy.export.batches import Entry, Part
from simdeploy.export.words import visible
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.units import format_s

ROW, LABELS, WIDTH, MOST_ROWS = 22, 230, 620, 48
BOX, GAP, HIGH = 190, 26, 62


class Bar(NamedTuple):
    """One row of the schedule."""

    label: str
    y: int
    x: float
    width: float
    when: str
    no_return: bool


class Timeline(NamedTuple):
    """The schedule as bars, and what it says in words."""

    source: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    width: int
    height: int
    summary: str


class Box(NamedTuple):
    """One service."""

    name: str
    role: str
    machines: str
    zones: str
    x: float
    y: int


class Topology(NamedTuple):
    """The services with their machines and zones, and who calls whom."""

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
        bars.append(
            Bar(label, k * ROW, LABELS + begin * scale, max((stop - begin) * scale, 1.5), when, any(e.first.no_return for e in some))
        )
    ticks = tuple((LABELS + WIDTH * k / 4, format_s(end * k / 4)) for k in range(5))
    source = "the medians of the forecast" if forecast else "mean durations along the longest path, since there is no forecast"
    longest = max(bars, key=lambda b: b.width, default=None)
    summary = f"{len(bars)} rows from 0 to {format_s(end)}" + (f"; the longest is {longest.label}, {longest.when}" if longest else "")
    return Timeline(source, tuple(bars), ticks, LABELS + WIDTH + 40, len(bars) * ROW + 28, summary)


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


def topology(env: Environment) -> Topology:
    """The services from the front door down, each level in a row."""
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
    place: dict[str, tuple[float, int]] = {}
    for k, names in rows.items():
        free = width - len(names) * BOX - (len(names) - 1) * GAP
        place |= {n: (free / 2 + i * (BOX + GAP), k * (HIGH + 44)) for i, n in enumerate(names)}
    boxes = tuple(_box(env, name, *place[name]) for name in env.services)
    calls = tuple((place[u][0] + BOX / 2, place[u][1] + HIGH, place[v][0] + BOX / 2, place[v][1]) for u, v in env.calls.edges)
    summary = tuple(
        f"{b.name} ({b.role}) on {b.machines}{'; zones: ' + b.zones if b.zones else ''}"
        + (f"; calls {', '.join(env.services[b.name].calls)}" if env.services[b.name].calls else "")
        for b in boxes
    )
    return Topology(boxes, calls, width, max(rows) * (HIGH + 44) + HIGH, summary)


def _box(env: Environment, name: str, x: float, y: int) -> Box:
    service = env.services[name]
    zones = Counter(z for m in service.on if (z := env.machines[env.machine_index[m]].zone))
    machines = ", ".join(service.on)
    if len(service.on) > 3 or len(machines) > 28:
        machines = f"{len(service.on)} machine{'s' * (len(service.on) > 1)}, {service.on[0]} ..."
    told = ", ".join(f"{zone} x{n}" for zone, n in zones.items())
    return Box(name, service.role.replace("_", " "), _short(machines), _short(told), x, y)


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
