"""Which failures a plan tolerates, and from when on it is known that somebody has not failed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from simdeploy.plan.steps import Judge
from simdeploy.vetting.section import Life, Section
from simdeploy.vetting.shape import Event


class Release(NamedTuple):
    """When it is known of those who live a life that they have not failed."""

    staying: int
    """How many of them may stay out for good, as far as their own judges go."""
    speaks: Mapping[Event, Event | None]
    """Of each event of the life: from which on it is known of the others; None = never."""
    later: tuple[tuple[int, int], ...]
    """(judge, how many at most stay out when it has spoken): those that come after theirs and count them too."""

    def or_else(self, other: Release) -> Release:
        """That of a lane which has both lives."""
        return Release(max(self.staying, other.staying), {**self.speaks, **other.speaks}, tuple(x for x in self.later if x in other.later))

    def kept(self, spoken: Collection[int]) -> int:
        """How many at most stay out when their own judges and *spoken* have spoken."""
        return min([self.staying, *(most for judge, most in self.later if judge in spoken)])

    def still_out(self, of: int, event: Event, state: Collection[Event]) -> int:
        """How many *of* so many may have failed at *event*, and be out in *state*."""
        if self.speaks.get(event) not in state:
            return of
        return min(of, self.kept([judge for judge, _ in self.later if 2 * judge + 1 in state]))


class Failures:
    """What the judges of one section let pass; *forced* are the events that must come before anything counts."""

    def __init__(self, section: Section, forced: Collection[Event]) -> None:
        self.shape = section.shape
        self.forced = forced

    def releases(self, lives: Collection[Life], lost: frozenset[int] = frozenset()) -> dict[int, Release]:
        """Of each life: how many of it may stay out, and from which event on the others are known not to have failed.

        A batch's judge tolerates so many failures; until it has spoken any of the batch may have failed. What no judge
        watches may fail unnoticed, unless its failure is fatal. A failure that several batches share is given to the one that
        lacks most by it, and of those to the one that is judged first, where one is judged before the other; else to each.
        """
        known = {life.name: self._speaks(life) for life in lives}
        judges = {n: {s >> 1 for e, s in speaks.items() if s is not None and s != e} for n, speaks in known.items()}
        used: dict[int, int] = defaultdict(int)
        found: dict[int, Release] = {}
        for life in sorted(lives, key=lambda life: self._urgency(life, judges[life.name])):
            mine, speaks = judges[life.name], known[life.name]
            count = sum(i not in lost for i in life.like)
            staying = max([0, *(min(self._tolerated[j] - used[j], count) for j in mine)])
            found[life.name] = Release(staying, speaks, tuple(self._later(mine, staying, used)))
            if len(mine) == 1 and None not in speaks.values():  # else he may fail where another counts it, or nobody
                [judge] = mine
                for other, counted in self.shape.counted_by.items() if staying > 0 else ():
                    if judge in counted:
                        used[other] += found[life.name].kept(counted)
        return found

    def _speaks(self, life: Life) -> dict[Event, Event | None]:
        """Of each event of a life: from which on it is known that who lives it has not failed before it; None = never."""
        sure, speaks = self._surely_succeed(life), dict[Event, Event | None]()
        for event in [s.since for s in life.spells if s.since is not None]:
            judge = self.shape.judge_of.get(event >> 1)
            told = judge is not None and all(self._says_of(judge, c) for c in self._rests_on(life, event))
            speaks[event] = event if event in sure else 2 * judge + 1 if judge is not None and told else None
        return speaks

    def _later(self, judges: set[int], staying: int, used: Mapping[int, int]) -> Iterator[tuple[int, int]]:
        """(judge, what it tolerates) of those that surely come after all of *judges* and let fewer stay."""
        for j in self.shape.judges_of_all if judges and staying > 0 else ():
            left = max(0, self._tolerated[j] - used[j])
            if left < staying and all(self.shape.precedes(2 * k + 1, 2 * j, False) for k in judges):
                yield j, left
                staying = left

    @cached_property
    def _tolerated(self) -> dict[int, int]:
        """Of each judge: how many failures it lets pass."""
        return {c: _tolerated(step.judge) for c, step in enumerate(self.shape.step_of) if step.judge is not None}

    def _urgency(self, life: Life, judges: Collection[int]) -> tuple[float, int]:
        """By which lives are sorted: those that lack most when they fail first, then as they are judged."""
        shares = [s.share for s in life.spells]
        return min(shares) - shares[-1], min((self.shape.level[self.shape.members[j][0]] for j in judges), default=0)

    def _surely_succeed(self, life: Life) -> set[Event]:
        """The events of a life at which it is known that none who lives it has failed, since nothing goes on after such a failure.

        So the doors open only after what they need, and a fatal step ends all; but where a step before it, since the first was
        taken, failed without an end, the fatal one is passed over and says nothing.
        """
        events = [s.since for s in life.spells if s.since is not None]
        found = {e for e in events if e >> 1 in self._must_succeed}
        if self._is_taken_late(life):
            found.add(events[0])  # who fails before he is taken is not taken
        fatal = [e for e in events if self.shape.step_of[e >> 1].fatal]
        return found.union(e for e in fatal if all(self._ends_all(c) for c in self._rests_on(life, e)))

    def _rests_on(self, life: Life, event: Event) -> set[int]:
        """The classes of the steps, from the first of a life on, without which *event* does not come: one fails, the rest is left out."""
        first = life.spells[1].since
        if first is None or first == event:
            return {event >> 1}
        before = self.needed([first >> 1]) | ({first >> 1} if self._is_taken_late(life) else set())
        return ({event >> 1} | self.needed([event >> 1])) - before

    def _is_taken_late(self, life: Life) -> bool:
        """Whether the first that becomes of those who live a life is that they are taken at the end of a step."""
        first = life.spells[1].since if len(life.spells) > 1 else None
        return first is not None and first % 2 == 1 and life.spells[0].serves and life.spells[0].since is None

    def _says_of(self, judge: int, c: int) -> bool:
        """Whether a failure of a step of class *c* ends all, or is counted by *judge*."""
        spec = self.shape.step_of[judge].judge
        of_all = spec is not None and spec.of in ("carried", "plan") and bool(self.shape.sure_ancestors[judge] >> c & 1)
        return of_all or self.shape.judge_of.get(c) == judge or self._ends_all(c)

    def _ends_all(self, c: int) -> bool:
        """Whether nothing else begins after a failure of a step of class *c*."""
        return bool(self.shape.step_of[c].fatal) or self.shape.step_of[c].kind != "step"

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
