"""Who leads a service when, as far as steps say so, and what the leader has left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

from simdeploy.vetting.failures import Failures
from simdeploy.vetting.section import Condition, Life, Section, Spell
from simdeploy.vetting.shape import Event
from simdeploy.vetting.slowings import Span, at_once


class Reign(NamedTuple):
    """A time in which a service is led by one instance, or (None) by nobody while a step moves the lead."""

    leader: int | None
    spell: Spell


def reigns(section: Section, service: str) -> list[Reign]:
    """Who leads *service* from event to event, were nothing to happen to a leader but what steps say of the lead."""
    index = section.shape.index
    first = section.start_leader(service)
    now = Condition("", "")
    found = [Reign(None if first is None else index[first], Spell(None, None, now))]
    for event, value in section.service_events("lead", service):
        found[-1] = Reign(found[-1].leader, found[-1].spell._replace(until=event))
        found.append(Reign(None if value is None else index[value], Spell(event, None, now)))
    return found


class Time(NamedTuple):
    """A time that may last longer than planned, where what is to end it fails."""

    since: Event | None
    """None = from the start."""
    over: tuple[Event, ...]
    """What ends it if it succeeds."""
    known: tuple[Event, ...]
    """When any of these has happened, it is over for sure."""


class Leaders:
    """What the leaders of one section have left; *forced* are the events before which there are no users."""

    def __init__(self, section: Section, failures: Failures, forced: Collection[Event], failing: bool, declared: bool) -> None:
        self.section, self.failures, self.forced = section, failures, forced
        self.failing, self.declared = failing, declared

    def reigns(self, service: str) -> Iterator[tuple[Reign, Time]]:
        """The reigns that users see, each with the time that it may last."""
        planned = reigns(self.section, service)
        begins = [r.spell.since for r in planned if r.spell.since is not None]
        for k, reign in enumerate(planned):
            after = begins[k:]
            known = tuple(e for e in map(self.failures.proof, after) if e is not None)
            time = Time(reign.spell.since, tuple(after), known) if self.failing else _planned(reign.spell)
            if not self.is_past(time):
                yield reign, time

    def shares(self, life: Life, reign: Time, kept: Collection[Spell]) -> Iterator[tuple[float, list[Time]]]:
        """(what a leader who lives a *life* has left of his capacity, since when) in his reign, but for the spells that are *kept*."""
        for spell, time in self._spells(life):
            if spell in kept or self.is_past(time) or not self._meet(time, reign):
                continue
            for spans in at_once(life, self.failures, self.failing, self.declared) if spell.serves else [()]:
                times = [time, reign, *(_planned(span) for span in spans)]
                if all(self._meet(one, other) for one, other in itertools.combinations(times, 2)):
                    yield math.prod((spell.share, *(span.left for span in spans))), times

    def _spells(self, life: Life) -> Iterator[tuple[Spell, Time]]:
        if not self.failing:
            yield from ((spell, _planned(spell)) for spell in life.spells)
            return
        release = self.failures.releases([life])[life.name]  # all that is tolerated may be his
        for spell in life.spells:
            if spell.until is None:
                yield spell, _planned(spell)
                continue
            known = [2 * judge + 1 for judge, most in release.later if most <= 0]
            if spell.serves:  # until he is taken; what that needs may have failed as well
                known += [e for e in [self.failures.proof(spell.until)] if e is not None]
            elif release.staying <= 0:
                known += [e for e in [release.speaks.get(spell.until)] if e is not None]
            yield spell, Time(spell.since, (spell.until,), tuple(known))

    def is_past(self, time: Time) -> bool:
        """Whether a time is over before there are users."""
        return any(self._is_over(time, e) for e in self.forced)

    def _meet(self, one: Time, other: Time) -> bool:
        """Whether some reachable state is in both."""
        return not self._is_over(one, other.since) and not self._is_over(other, one.since)

    def _is_over(self, time: Time, event: Event | None) -> bool:
        """Whether a time is over when *event* happens."""
        if event is None:
            return False
        if any(self.section.shape.precedes(e, event, True) for e in time.known):
            return True
        if not self.failing:
            return False
        needed = self.failures.needed([event >> 1])
        return any(e >> 1 in needed or (e >> 1 == event >> 1 and e <= event) for e in time.over)


def _planned(span: Spell | Span) -> Time:
    """The time of something that ends when it is planned to."""
    ends = () if span.until is None else (span.until,)
    return Time(span.since, ends, ends)
