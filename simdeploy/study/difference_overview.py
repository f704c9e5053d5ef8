"""The difference of two plans at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from simdeploy.environment.durations import Distribution
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.overview import number
from simdeploy.plan.plan import Plan
from simdeploy.simulation import statistics
from simdeploy.study.difference import ABSENT, ORDER, Change, Difference
from simdeploy.study.overview import goal_met, signed
from simdeploy.tables import Table, listed
from simdeploy.units import format_s

T = TypeVar("T")
DURATIONS = ("duration", "retry_delay", "hold", "repair")
"""Keys whose value is a duration: a number of seconds, or a family with its parameters."""


def tables(difference: Difference) -> list[Table]:
    """Those that have something to show, in the order of reading."""
    shown = [steps(difference), settings(difference), forecasts(difference), goals(difference), findings(difference)]
    return [table for table in shown if table.rows]


def verdict(difference: Difference) -> str:
    """Which plans these are and whether they differ, in a sentence."""
    a, b = difference.a, difference.b
    if difference.is_empty:
        return f"No difference: both are the plan {a.digest[:12]}."
    return f"A is {_title(a)}, B is {_title(b)}."


def _title(plan: Plan) -> str:
    source = ", ".join(name for name in (plan.source.scenario, plan.source.strategy) if name)
    return f"{source or 'a plan'} ({len(plan.steps)} steps, {plan.digest[:12]})"


def steps(difference: Difference) -> Table:
    """What only one plan has, and what differs in both; steps that differ alike share a row."""
    rows: list[tuple[str, ...]] = []
    for mark, names in (("-", difference.removed), ("+", difference.added)):
        rows += [(mark, alike[0] if len(alike) == 1 else key, _times(alike), "", "", "") for key, alike in _grouped(names, _alike).items()]
    grouped = _grouped(difference.changed, _change_key)
    for (name, field, old, new), alike in grouped.items():
        only = alike[0] if len(alike) == 1 else None
        shown = (name, old, new) if only is None else (only.path[0], *_texts(only))
        rows.append(("~", shown[0], _times(alike), field, *shown[1:]))
    changed = len({c.path[0] for c in difference.changed})
    counts = [(len(difference.removed), "removed (-)"), (len(difference.added), "added (+)"), (changed, "changed (~)")]
    title = f"Steps: {listed([f'{n:,} {what}' for n, what in counts])}"
    return Table(title, ("", "step", "x", "field", "A", "B"), rows, left=(0, 1, 3, 4, 5))


def settings(difference: Difference) -> Table:
    """What else decides the two plans: a row for each value that differs, machines that differ alike in one."""
    machines = {m.name for plan in (difference.a, difference.b) for m in plan.environment.machines}

    def key(change: Change) -> tuple[str, ...]:
        path = ".".join("*" if part in machines and k else part for k, part in enumerate(change.path))
        return path, *_texts(change)

    rows = []
    for (path, old, new), alike in _grouped(difference.settings, key).items():
        rows.append((path if len(alike) > 1 else ".".join(alike[0].path), _times(alike), old, new))
    return Table("Environment, start, goals and other settings", ("what", "x", "A", "B"), rows, left=(0, 2, 3))


def forecasts(difference: Difference) -> Table:
    """A row for each metric that differs in some replication: both means, and the paired difference."""
    if difference.outcomes is None:
        return Table("Forecast", ("metric", "A mean", "B mean", "B - A"), [])
    a, b = difference.outcomes
    rows = []
    for name, metric in METRICS.items():
        moved = statistics.paired(b.values[name], a.values[name])
        if np.array_equal(np.isnan(a.values[name]), np.isnan(b.values[name])) and not np.nan_to_num(moved).any():
            continue
        means = [number(name, estimate.mean if estimate else None) for estimate in (a.estimate(name), b.estimate(name))]
        label = name if metric.unit in ("s", "share", "probability") else f"{name} [{metric.unit}]"
        rows.append((label, *means, signed(difference.metric(name), name)))
    same = len(METRICS) - len(rows)
    title = f"Forecast under the same luck: {a.replications:,} replications, seed {a.seed}"
    return Table(
        title, ("metric", "A mean", "B mean", "B - A, 95 %"), rows or [("none", "", "", "")], f"metrics that do not differ: {same}"
    )


def goals(difference: Difference) -> Table:
    """A row for each goal of either plan: whether each meets it."""
    rows = [(one.goal.text, goal_met(one), goal_met(other)) for one, other in difference.goals()]
    return Table("Goals, and the share of the replications that keep each goal's bound", ("goal", "A", "B"), rows)


def findings(difference: Difference) -> Table:
    """A row for each finding that only one plan has, or that is graver in one; how many they share below."""
    rows, shared = [], 0
    for name, (one, other) in difference.findings().items():
        if one is not None and other is not None and one.severity == other.severity:
            shared += 1
            continue
        [message, *_] = [f.message for f in (other, one) if f is not None]
        rows.append((one.severity if one else "-", other.severity if other else "-", name, message))
    note = f"findings and notes that both have: {shared}" if shared else ""
    return Table("Vetting: findings and notes that differ", ("A", "B", "finding", "what is wrong"), rows, note, left=(0, 1, 2, 3))


def _grouped(items: Iterable[T], key: Any) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _times(alike: list[Any]) -> str:
    return f"{len(alike):,}" if len(alike) > 1 else ""


def _alike(text: str) -> str:
    """*text* without what tells like instances and ordinals apart: 'code/web@web1/judge#2' as 'code/web@*/judge#*'."""
    return re.sub(r"#\d+", "#*", re.sub(r"@[^/,;\s]+", "@*", text))


def _change_key(change: Change) -> tuple[str, str, str, str]:
    texts = _texts(change)
    old, new = map(_alike, texts)
    if old != new:  # else the names are what differs
        texts = old, new
    return _alike(change.path[0]), ".".join(change.path[1:]), *texts


def _texts(change: Change) -> tuple[str, str]:
    """Both values for reading; of two lists only what the other has not."""
    old, new, field = change.old, change.new, change.path[-1]
    if isinstance(old, list) and isinstance(new, list) and field not in (*DURATIONS, ORDER):
        less, more = [x for x in old if x not in new], [x for x in new if x not in old]
        if less or more:
            old, new = less, more
    texts = _said(old, field), _said(new, field)
    return texts if texts[0] != texts[1] else (repr(old), repr(new))


def _said(value: Any, field: str) -> str:
    if value is ABSENT or value is None or value == []:
        return repr(ABSENT)
    if field in DURATIONS and not isinstance(value, str):
        return str(_distribution(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return format_s(value) if field.endswith("_s") and not field.endswith("_per_s") else f"{value:,.6g}"
    if isinstance(value, list):
        flat = all(not isinstance(x, list | dict) for x in value)
        return listed([_said(x, "") if flat else " ".join(_said(y, "") for y in _parts(x)) for x in value], most=4)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_said(v, k)}" for k, v in value.items() if v is not None and v != [] and v != {})
    return str(value) or "''"


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _distribution(value: Any) -> Distribution:
    if isinstance(value, list):
        return Distribution(kind=value[0], parameters=tuple(value[1:]))
    return Distribution(kind="fixed", parameters=(value,))
