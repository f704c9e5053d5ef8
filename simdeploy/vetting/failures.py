"""Which failures a plan tolerates, and from when on it is known that somebody has not failed."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from simdeploy.plan.steps import Judge
from simdeploy.vetting.section import MODES, Life, Section
from simdeploy.vetting.shape import Event, Shape


class Release(NamedTuple):
    """When it is known of those who live a life that they have not failed."""

    staying: int
    """How many of them may stay out for good, as far as their own judges go."""
    speaks: Mapping[Event, Event | None]
    """Of each event of the life: from which on it is known of the others; None = never."""
    later: tuple[tuple[int, int], ...]
    """(judge, how many at most stay out when it has spoken): those that come after theirs and count them too."""
    each: int
    """How many of them one failure keeps out."""

    def or_else(self, other: Release) -> Release:
        """That of a lane which has both lives."""
        later = tuple(x for x in self.later if x in other.later)
        return Release(max(self.staying, other.staying), {**self.speaks, **other.speaks}, later, max(self.each, other.each))

    def kept(self, spoken: Collection[int]) -> int:
        """How many at most stay out when their own judges and *spoken* have spoken."""
        return min([self.staying, *(most for judge, most in self.later if judge in spoken)])

    def failures(self, spoken: Collection[int]) -> int:
        """How many failures it takes at least that so many stay out when *spoken* have spoken."""
        return -(-self.kept(spoken) // self.each)

    def still_out(self, of: int, event: Event, state: Collection[Event]) -> int:
        """How many *of* so many may have failed at *event*, and be out in *state*."""
        if self.speaks.get(event) not in state:
            return of
        return min(of, self.kept([judge for judge, _ in self.later if 2 * judge + 1 in state]))


class Budgets:
    """How many failures each judge lets pass, and how many of them lives take that are known."""

    def __init__(self, shape: Shape, tolerated: Mapping[int, int]) -> None:
        self._shape, self._tolerated = shape, tolerated
        self._used: dict[int, int] = defaultdict(int)
        self._takers: dict[int, list[dict[int, int]]] = defaultdict(list)
        """Class of a step -> of each life that its failure keeps out: what it takes of each judge."""

    def left(self, rests_on: Collection[int]) -> Callable[[int], int]:
        """Of a judge: how many failures it lets pass beside those that lives take which do not rest on any of these classes."""
        shared = {id(taken): taken for c in rests_on for taken in self._takers.get(c, ())}.values()
        return lambda judge: max(0, self._tolerated[judge] - self._used[judge] + sum(taken.get(judge, 0) for taken in shared))

    def take(self, judge: int, release: Release, rests_on: Collection[int]) -> None:
        """Give a life what it takes of its *judge* and of those that count what that lets pass; nothing if others rest on the same."""
        if release.staying > 0 and not any(c in self._takers for c in rests_on):
            taken = {other: release.failures(counted) for other, counted in self._shape.counted_by.items() if judge in counted}
            for other, failures in taken.items():
                self._used[other] += failures
            for c in rests_on:
                self._takers[c].append(taken)


class Unit(NamedTuple):
    """Lives that end together when a step fails: of one lane in which each change needs the one before, as an old machine's
    and its heir's.
    """

    lives: list[Life]
    events: list[Event]
    """What becomes of them, in the order of the DAG's levels."""
    settles: set[Event]
    """After which it does not matter what failed before, apart from what these need."""
    taken_late: bool
    """Whether the first of it is that somebody is taken at the end of a step: before that a failure changes nothing."""
    comes: bool
    """Whether more of them serve on the way than at first: then what keeps the first of it from happening is a failure of theirs."""


class Failures:
    """What the judges of one section let pass; *forced* are the events that must come before anything counts."""

    def __init__(self, section: Section, forced: Collection[Event]) -> None:
        self.section, self.shape = section, section.shape
        self.forced = forced
        self._known: dict[tuple[int, ...], Unit] = {}
        self._tolerated = {c: _tolerated(judge) for c, judge in self.shape.judges}
        """Of each judge: how many failures it lets pass."""

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
        units = self.units(lives)
        unit_of = {life.name: unit for unit in units for life in unit.lives}
        lack = {life.name: lacks for unit in units for lacks in [_lack(unit, values)] for life in unit.lives}
        known = {life.name: self._speaks(life, unit_of[life.name]) for life in lives}
        judges = {n: {s >> 1 for e, s in speaks.items() if s is not None and s != e} for n, speaks in known.items()}
        each = {life.name: self._each(life, unit_of[life.name]) for life in lives}
        budgets = Budgets(self.shape, self._tolerated)
        found: dict[int, Release] = {}
        for life in sorted(lives, key=lambda life: self._urgency(lack[life.name] * each[life.name], judges[life.name])):
            mine, speaks, many = judges[life.name], known[life.name], each[life.name]
            rests_on = self._steps_of(life, unit_of[life.name])
            left = budgets.left(rests_on)
            staying = min(sum(i not in lost for i in life.like), max(map(left, mine), default=0) * many)
            found[life.name] = Release(staying, speaks, tuple(self._later(mine, staying, left, many)), many)
            if len(mine) == 1 and None not in speaks.values():  # else he may fail where another counts it, or nobody
                budgets.take(mine.pop(), found[life.name], rests_on)
        return found

    def units(self, lives: Collection[Life]) -> list[Unit]:
        """The lives that end together when a step fails; of each lane that is no chain each life by itself."""
        number = self.shape.units(self.section.part)
        lanes: dict[int, list[Life]] = defaultdict(list)
        for life in lives:
            lanes[number[life.name]].append(life)
        found: list[Unit] = []
        for lane in lanes.values():
            unit = self._unit(lane)
            found += [unit] if len(lane) == 1 or self._is_chained(unit) else [self._unit([life]) for life in lane]
        return found

    def _is_chained(self, unit: Unit) -> bool:
        """Whether no change of a unit comes when one before it has failed."""
        classes = [event >> 1 for event in unit.events]
        return all(early == late or early in self.needed([late]) for early, late in itertools.pairwise(classes))

    def _unit(self, lives: list[Life]) -> Unit:
        name = tuple(life.name for life in lives)
        if name not in self._known:
            events = sorted({s.since for life in lives for s in life.spells if s.since is not None}, key=self.shape.rank)
            leaves = any(events and life.spells[0].serves and life.spells[0].until == events[0] for life in lives)
            worth = _course(lives, events, {life.name: [s.serves * s.condition.weight for s in life.spells] for life in lives})
            comes = not leaves or max(worth) > worth[0]
            self._known[name] = Unit(lives, events, self._settles(lives), not comes and events[0] % 2 == 1, comes)
        return self._known[name]

    def _settles(self, lives: Collection[Life]) -> set[Event]:
        """The events that say how somebody stands by themselves, where it is about him alone and his weight stays."""
        touches = [t for life in lives for t in self.shape.touches[life.name]]
        if len(lives) > 1 or any(t.verb == "weight" for t in touches):
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

    def _later(self, judges: set[int], staying: int, left: Callable[[int], int], each: int) -> Iterator[tuple[int, int]]:
        """(judge, how many stay when it has spoken) of those that surely come after all of *judges* and let fewer stay."""
        for j in self.shape.judges_of_all if judges and staying > 0 else ():
            if (most := left(j) * each) < staying and all(self.shape.precedes(2 * k + 1, 2 * j, False) for k in judges):
                yield j, most
                staying = most

    def _urgency(self, lack: float, judges: Collection[int]) -> tuple[float, int]:
        """By which lives are sorted: those that lack most when they fail first, then as they are judged."""
        return lack, min((self.shape.level[self.shape.members[j][0]] for j in judges), default=0)

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

    def proof(self, event: Event) -> Event | None:
        """From which event on it is known that what *event* needs has not failed, nor its own step; None = never."""
        rests_on = (self.needed([event >> 1]) | {event >> 1}) - self._must_succeed
        if all(self.shape.ends_all(c) for c in rests_on):
            return event
        judge = self.shape.judge_of.get(event >> 1)
        if judge is not None and self._tolerated[judge] == 0 and all(self._says_of(judge, c) for c in rests_on):
            return 2 * judge + 1
        return None

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


def _lack(unit: Unit, values: Mapping[int, list[float]] | None) -> float:
    """How much less than in the end those of a unit count at worst on the way; at most 0."""
    course = _course(unit.lives, unit.events, values or {life.name: [s.share for s in life.spells] for life in unit.lives})
    return min(course) - course[-1]


def _course(lives: Collection[Life], events: Iterable[Event], values: Mapping[int, list[float]]) -> list[float]:
    """What these lives count together at first and after each of *events*; *values*: each in each of its spells."""
    changes: dict[Event, float] = defaultdict(float)
    for life in lives:
        for spell, (before, now) in zip(life.spells[1:], itertools.pairwise(values[life.name]), strict=True):
            if spell.since is not None:
                changes[spell.since] += now - before
    return [*itertools.accumulate((changes[event] for event in events), initial=math.fsum(values[life.name][0] for life in lives))]


def _tolerated(judge: Judge) -> int:
    """How many failures a judge lets pass: the most that are not strictly more than its limit."""
    if judge.of == "all_of_batch":
        return judge.size - 1
    if judge.limit is None:
        return 1 << 30
    return math.floor(judge.limit) if judge.unit == "count" else math.floor(judge.limit * judge.size / 100 + 1e-9)
