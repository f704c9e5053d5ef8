"""Which failures a plan tolerates, and from when on it is known that somebody has not failed."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from simdeploy.plan.steps import Judge
from simdeploy.vetting.section import MODES, Life, Section
from simdeploy.vetting.shape import Event


class Release(NamedTuple):
    """When it is known of those who live a life that they have not failed."""

    staying: int
    """How many of them may stay out for good, as far as their own judges go."""
    speaks: Mapping[Event, Event | None]
    """Of each event of the life: from which on it is known of the others; None = never."""
    later: tuple[tuple[Event, int], ...]
    """(event, how many at most stay out from it on): judges that come after theirs and count them too."""
    each: int
    """How many of them one failure keeps out."""

    def or_else(self, other: Release) -> Release:
        """That of a lane which has both lives."""
        later = tuple(x for x in self.later if x in other.later)
        return Release(max(self.staying, other.staying), {**self.speaks, **other.speaks}, later, max(self.each, other.each))

    def kept(self, state: Collection[Event]) -> int:
        """How many at most stay out in *state*, when their own judges have spoken."""
        return min([self.staying, *(most for e, most in self.later if e in state)])

    def failures(self, state: Collection[Event]) -> int:
        """How many failures it takes at least that so many stay out in *state*."""
        return -(-self.kept(state) // self.each)

    def still_out(self, of: int, event: Event, state: Collection[Event]) -> int:
        """How many *of* so many may have failed at *event*, and be out in *state*."""
        if self.speaks.get(event) not in state:
            return of
        return min(of, self.kept(state))


class Spent(NamedTuple):
    """What a life takes of what judges tolerate."""

    judges: set[int]
    release: Release
    rests_on: set[int]
    """The classes of the steps whose failures it takes."""


class Unit(NamedTuple):
    """What happens to those whose lane is one, in the order of the DAG's levels."""

    events: list[Event]
    settles: set[Event]
    """After which it does not matter what failed before, apart from what these need."""
    taken_late: bool
    """Whether the first of it is that somebody is taken at the end of a step: before that a failure changes nothing."""
    comes: bool
    """Whether the first of it is that somebody comes who did not serve: what keeps that from happening is a failure of his."""
    lack: float
    """How much less than in the end they count at worst on the way; at most 0."""


class Failures:
    """What the judges of one section let pass; *forced* are the events that must come before anything counts."""

    def __init__(self, section: Section, forced: Collection[Event]) -> None:
        self.section, self.shape = section, section.shape
        self.forced = forced
        self._past: dict[int, set[Event]] = {}
        """Of a judge: the judges of all failures that have spoken when it has, itself too."""

    def releases(
        self, lives: Collection[Life], lost: frozenset[int] = frozenset(), values: Mapping[int, list[float]] | None = None
    ) -> dict[int, Release]:
        """Of each life: how many of it may stay out, and from which event on the others are known not to have failed.

        *values* say what one who lives it counts in each of its spells, by default his share.

        A batch's judge tolerates so many failures; until it has spoken any of the batch may have failed. What no judge
        watches may fail unnoticed, unless its failure is fatal. A failure that several batches share is given to the one that
        lacks most by it, and of those to the one that is judged first, where one is judged before the other; else to each.
        One that several lives share is counted once.
        """
        unit_of = {life.name: seen for unit in self.units(lives) for seen in [self._seen(unit, values)] for life in unit}
        known = {life.name: self._speaks(life, unit_of[life.name]) for life in lives}
        judges = {n: {s >> 1 for e, s in speaks.items() if s is not None and s != e} for n, speaks in known.items()}
        each = {life.name: self._each(life, unit_of[life.name]) for life in lives}
        spent: list[Spent] = []
        found: dict[int, Release] = {}
        for life in sorted(lives, key=lambda life: self._urgency(unit_of[life.name].lack * each[life.name], judges[life.name])):
            mine, speaks, many = judges[life.name], known[life.name], each[life.name]
            count, rests_on = sum(i not in lost for i in life.like), self._steps_of(life, unit_of[life.name])
            others = [s for s in spent if s.rests_on.isdisjoint(rests_on)]
            left = [self._left(j, spec, others) for j in mine if (spec := self.shape.step_of[j].judge)]
            release = Release(min(count, max(left, default=0) * many), speaks, self._later(mine, others, many), many)
            found[life.name] = release
            if len(mine) == 1 and None not in speaks.values():  # else he may fail where another counts it, or nobody
                if len(others) == len(spent):
                    spent.append(Spent(mine, release, rests_on))
        return found

    def units(self, lives: Collection[Life]) -> list[list[Life]]:
        """The lives that end together when a step fails: of one lane in which each change needs the one before, as an old
        machine's and its heir's.
        """
        number = self.shape.units(self.section.part)
        units: dict[int, list[Life]] = defaultdict(list)
        for life in lives:
            units[number[life.name]].append(life)
        return [one for unit in units.values() for one in ([unit] if self._is_chained(unit) else [[life] for life in unit])]

    def _is_chained(self, unit: list[Life]) -> bool:
        """Whether no change of a unit comes when one before it has failed."""
        classes = [event >> 1 for event in self._seen(unit).events]
        return len(unit) == 1 or all(early == late or early in self.needed([late]) for early, late in itertools.pairwise(classes))

    def _seen(self, unit: Collection[Life], values: Mapping[int, list[float]] | None = None) -> Unit:
        level, first = self.shape.level, self.shape.first.tolist()
        events = {s.since for life in unit for s in life.spells if s.since is not None}
        ordered = sorted(events, key=lambda e: (2 * level[first[e >> 1]] + e % 2, e))
        starts = [life for life in unit if ordered and life.spells[0].serves and life.spells[0].until == ordered[0]]
        counts = {life.name: [s.share for s in life.spells] if values is None else values[life.name] for life in unit}
        now = {name: count[0] for name, count in counts.items()}
        sums = [sum(now.values())]
        for event in ordered:
            now |= {life.name: count for life in unit for s, count in zip(life.spells, counts[life.name], strict=True) if s.since == event}
            sums.append(sum(now.values()))
        return Unit(ordered, self._settles(unit), bool(starts) and ordered[0] % 2 == 1, not starts, min(sums) - sums[-1])

    def _settles(self, unit: Collection[Life]) -> set[Event]:
        """The events that say how somebody stands by themselves, where it is about him alone and his weight stays."""
        touches = [t for life in unit for t in self.shape.touches[life.name]]
        if len(unit) > 1 or any(t.verb == "weight" for t in touches):
            return set()
        return {self.shape.event(t) for t in touches if t.verb in MODES}

    def _steps_of(self, life: Life, unit: Unit) -> set[int]:
        """The classes of the steps of which one that fails keeps somebody out who lives a life."""
        return {c for s in life.spells if s.since is not None for c in self._rests_on(unit, s.since)}

    def _each(self, life: Life, unit: Unit) -> int:
        """How many of those who live a life one failure keeps out at most."""
        like = set(life.like)
        return max([1, *(len(like & self.shape.stopped_by(c)) for c in self._steps_of(life, unit))]) if len(like) > 1 else 1

    def _speaks(self, life: Life, unit: Unit) -> dict[Event, Event | None]:
        """Of each event of a life: from which on it is known that who lives it has not failed before it; None = never."""
        sure, speaks = self._surely_succeed(life, unit), dict[Event, Event | None]()
        for event in [s.since for s in life.spells if s.since is not None]:
            judge = self.shape.judge_of.get(event >> 1)
            told = judge is not None and all(self._says_of(judge, c) for c in self._rests_on(unit, event))
            speaks[event] = event if event in sure else 2 * judge + 1 if judge is not None and told else None
        return speaks

    def _later(self, judges: set[int], spent: Sequence[Spent], each: int) -> tuple[tuple[Event, int], ...]:
        """The judges of all failures that surely come after all of *judges*: (the event that it has spoken, what it tolerates)."""
        after = [x for x in self.shape.judges_of_all if judges and all(self.shape.precedes(2 * k + 1, 2 * x[0], False) for k in judges)]
        return tuple((2 * j + 1, self._left(j, spec, spent) * each) for j, spec in after)

    def _left(self, judge: int, spec: Judge, spent: Sequence[Spent]) -> int:
        """How many failures a judge tolerates beside those that are *spent* and that it counts."""
        counted = [s.release for s in spent if any(self._counts(judge, spec, other) for other in s.judges)]
        if not counted:
            return _tolerated(spec)
        if judge not in self._past:
            self._past[judge] = {2 * j + 1 for j, _ in self.shape.judges_of_all if self.shape.precedes(2 * j + 1, 2 * judge + 1, True)}
        return max(0, _tolerated(spec) - sum(release.failures(self._past[judge]) for release in counted))

    def _urgency(self, lack: float, judges: Collection[int]) -> tuple[float, int]:
        """By which lives are sorted: those that lack most when they fail first, then as they are judged."""
        return lack, min((self.shape.level[self.shape.members[j][0]] for j in judges), default=0)

    def _counts(self, judge: int, spec: Judge, other: int) -> bool:
        """Whether what the *other* judge let pass is surely among what *judge* counts."""
        return other == judge or (spec.of in ("carried", "plan") and self.shape.precedes(2 * other + 1, 2 * judge + 1, True))

    def _surely_succeed(self, life: Life, unit: Unit) -> set[Event]:
        """The events of a life at which it is known that none who lives it has failed, since nothing goes on after such a failure.

        So the doors open only after what they need, and a fatal step ends all; but where a step before it, since the first was
        taken, failed without an end, the fatal one is passed over and says nothing.
        """
        events = [s.since for s in life.spells if s.since is not None]
        found = {e for e in events if e >> 1 in self._must_succeed}
        if unit.taken_late and unit.events[0] in events:
            found.add(unit.events[0])  # who fails before he is taken is not taken
        fatal = [e for e in events if self.shape.step_of[e >> 1].fatal]
        return found.union(e for e in fatal if all(self.shape.ends_all(c) for c in self._rests_on(unit, e)))

    def _rests_on(self, unit: Unit, event: Event) -> set[int]:
        """The classes of the steps, from the first of a unit on, that have failed or not when *event* comes, and of what they need."""
        first = unit.events[0]
        if event == first and not unit.comes:
            return {event >> 1}
        past = unit.events[: unit.events.index(event) + 1]
        own = [e >> 1 for e in past[max((k for k, e in enumerate(past) if e in unit.settles), default=0) :]]
        before = self._must_succeed if unit.comes else self.needed([first >> 1]) | ({first >> 1} if unit.taken_late else set())
        return {*own, *self.needed(own)} - before

    def _says_of(self, judge: int, c: int) -> bool:
        """Whether a failure of a step of class *c* ends all, or is counted by *judge*."""
        spec = self.shape.step_of[judge].judge
        of_all = spec is not None and spec.of in ("carried", "plan") and bool(self.shape.sure_ancestors[judge] >> c & 1)
        return of_all or self.shape.judge_of.get(c) == judge or self.shape.ends_all(c)

    @cached_property
    def _must_succeed(self) -> set[int]:
        """The classes of what must have succeeded when the doors open."""
        return self.needed([e >> 1 for e in self.forced])

    def needed(self, todo: list[int]) -> set[int]:
        """The classes of all that must have succeeded before a step of these classes begins."""
        found = set[int]()
        while todo:
            for name in self.shape.step_of[todo.pop()].needs:
                c = self.shape.cls[self.shape.position[name]]
                if c not in found:
                    found.add(c)
                    todo.append(c)
        return found


def _tolerated(judge: Judge) -> int:
    """How many failures a judge lets pass: the most that are not strictly more than its limit."""
    if judge.of == "all_of_batch":
        return judge.size - 1
    if judge.limit is None:
        return 1 << 30
    return math.floor(judge.limit) if judge.unit == "count" else math.floor(judge.limit * judge.size / 100 + 1e-9)
