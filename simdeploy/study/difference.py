"""Two plans side by side: what differs in their steps and settings, in what to expect of them, and in what vetting finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from simdeploy.plan.findings import Finding, Vetting
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult, Outcome, simulate_all
from simdeploy.study.comparison import finite, interval
from simdeploy.tables import mime_bundle
from simdeploy.vetting.vet import vet

ORDER = "(order)"
"""Last part of the path of a change that is of nothing but the order of named things."""


class Absent:
    """What a plan does not have; None is a value."""

    def __repr__(self) -> str:
        return "-"


ABSENT = Absent()


class Change(NamedTuple):
    """One value that differs, as plain data as in a plan's JSON."""

    path: tuple[str, ...]
    """Of a step: its id and the keys from there; of everything else the keys from the plan on; of named things their names."""
    old: Any
    """In the first plan; ABSENT where it has none."""
    new: Any
    """In the second one."""


class Difference(NamedTuple):
    """How the plan *b* differs from the plan *a*; nothing is simulated or vetted where they do not differ."""

    a: Plan
    b: Plan
    added: tuple[str, ...]
    """Steps that only *b* has, in its order."""
    removed: tuple[str, ...]
    """Steps that only *a* has, in its order."""
    changed: tuple[Change, ...]
    """Fields of steps that both have."""
    settings: tuple[Change, ...]
    """Everything else: environment, start, goals, pools and the other fields of a plan, and the order of the steps."""
    outcomes: tuple[Outcome, Outcome] | None
    """What to expect of *a* and of *b*, under the same luck."""
    vettings: tuple[Vetting, Vetting] | None

    def __repr__(self) -> str:
        steps = f"{len(self.added)} steps added, {len(self.removed)} removed"
        return f"<Difference: {steps}, {len(self.changed)} fields and {len(self.settings)} settings changed>"

    @property
    def is_empty(self) -> bool:
        """Whether the two plans are the same."""
        return not (self.added or self.removed or self.changed or self.settings)

    @property
    def interrupted(self) -> bool:
        """Whether fewer replications were done than asked for."""
        return self.outcomes is not None and self.outcomes[0].interrupted

    def metric(self, name: str) -> statistics.Estimate | None:
        """By how much a metric is higher in *b*, in the mean, paired replication by replication; None where one has no value."""
        if self.outcomes is None:
            return statistics.Estimate(0.0, None)
        a, b = self.outcomes
        return statistics.mean(statistics.paired(b.values[name], a.values[name]))

    def goals(self) -> list[tuple[GoalResult, GoalResult]]:
        """Each goal that either plan has, judged in both."""
        if self.outcomes is None:
            return []
        one, other = self.outcomes
        goals = {goal.text: goal for goal in (*self.a.goals, *self.b.goals)}
        return [(one.judge(goal), other.judge(goal)) for goal in goals.values()]

    def findings(self) -> dict[str, tuple[Finding | None, Finding | None]]:
        """The id of each finding of either plan -> as it is in *a* and in *b*; None where it is not."""
        if self.vettings is None:
            return {}
        one, other = ({f.id: f for f in vetting.findings} for vetting in self.vettings)
        return {name: (one.get(name), other.get(name)) for name in {**one, **other}}

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain data (format 1); a value that a plan does not have is left out."""
        content: dict[str, Any] = {
            "format": 1,
            "a": self.a.digest,
            "b": self.b.digest,
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [{"step": c.path[0], "field": ".".join(c.path[1:])} | _values(c) for c in self.changed],
            "settings": [{"path": list(c.path)} | _values(c) for c in self.settings],
        }
        if self.outcomes is not None:
            first = self.outcomes[0]
            content |= {"seed": first.seed, "replications": first.replications, "metrics": {name: self._metric(name) for name in METRICS}}
            content["goals"] = [{"goal": one.goal.text, "a": one.met, "b": other.met} for one, other in self.goals()]
        content["findings"] = [
            {"finding": name, "a": one.severity if one else None, "b": other.severity if other else None}
            for name, (one, other) in self.findings().items()
        ]
        return content

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def _metric(self, name: str) -> dict[str, Any]:
        assert self.outcomes is not None  # asked before
        content: dict[str, Any] = {}
        for side, outcome in zip("ab", self.outcomes, strict=True):
            estimate = outcome.estimate(name)
            quantiles = {f"p{100 * p:.0f}": finite(statistics.quantile(outcome.values[name], p)) for p in (0.5, 0.95, 0.99)}
            content[side] = {"mean": finite(estimate.mean) if estimate else None, "ci95": interval(estimate), **quantiles}
        moved = self.metric(name)
        return content | {"difference": {"mean": finite(moved.mean), "ci95": interval(moved)} if moved else None}

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study import difference_overview as overview

        return mime_bundle(*overview.tables(self))


def difference(
    a: Plan,
    b: Plan,
    replications: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Difference:
    """How *b* differs from *a*: both are forecast with the same luck and vetted, unless they are the same."""
    one, other = ({step.id: step for step in plan.steps} for plan in (a, b))
    added, removed = (tuple(name for name in x if name not in y) for x, y in ((other, one), (one, other)))
    changed = tuple(change for name in one if name in other for change in _step_changes(one[name], other[name]))
    settings = tuple(_setting_changes(a, b))
    if not (added or removed or changed or settings):
        return Difference(a, b, added, removed, changed, settings, None, None)
    outcomes = simulate_all({"a": a, "b": b}, replications, seed, jobs, progress, paths=0)
    return Difference(a, b, added, removed, changed, settings, (outcomes["a"], outcomes["b"]), (vet(a), vet(b)))


def _step_changes(one: Step, other: Step) -> Iterator[Change]:
    if one == other:
        return
    fields = {name for name in Step.model_fields if getattr(one, name) != getattr(other, name)}
    old, new = (step.model_dump(mode="json", include=fields) for step in (one, other))
    for name in Step.model_fields:
        if name in fields:
            yield from _changes((one.id, name), old[name], new[name])


def _setting_changes(a: Plan, b: Plan) -> Iterator[Change]:
    old, new = (plan.model_dump(mode="json", exclude={"steps"}) for plan in (a, b))
    yield from _changes((), old, new)
    yield from _order(("steps",), [s.id for s in a.steps], [s.id for s in b.steps])


def _changes(path: tuple[str, ...], old: Any, new: Any) -> Iterator[Change]:
    """Every value that differs, as deep as both sides have the same form; the order of a mapping's keys is none."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from _changes((*path, str(key)), old.get(key, ABSENT), new.get(key, ABSENT))
    elif (one := _named(old)) is not None and (other := _named(new)) is not None:
        yield from _changes(path, one, other)
        yield from _order(path, list(one), list(other))
    else:
        yield Change(path, old, new)


def _order(path: tuple[str, ...], old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Whether those that both have come in another order: the order of machines names their luck, that of steps breaks ties."""
    both = set(old) & set(new)
    one, other = ([name for name in names if name in both] for names in (old, new))
    if one != other:
        yield Change((*path, ORDER), one, other)


def _named(value: Any) -> dict[str, Any] | None:
    """A list of things with different names, by their names; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(x, dict) and isinstance(x.get("name"), str) for x in value):
        return None
    named = {x["name"]: x for x in value}
    return named if len(named) == len(value) else None


def _values(change: Change) -> dict[str, Any]:
    return {key: _plain(value) for key, value in (("old", change.old), ("new", change.new)) if value is not ABSENT}


def _plain(value: Any) -> Any:
    """As JSON may hold it: a number without bound as a text."""
    if isinstance(value, float):
        return value if finite(value) is not None else str(value)
    if isinstance(value, list):
        return [_plain(x) for x in value]
    return {k: _plain(x) for k, x in value.items()} if isinstance(value, dict) else value
