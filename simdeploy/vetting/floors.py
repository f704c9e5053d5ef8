"""The least that each service can serve, however long steps take: its worst simultaneous outage.

All capacities here are in requests of the service's own per second; `capacity.py` brings them to the front door.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from simdeploy.environment.models import Service
from simdeploy.vetting.closure import below, heaviest
from simdeploy.vetting.failures import Failures
from simdeploy.vetting.leads import Leaders, Time
from simdeploy.vetting.section import ABSENT, Life, Section, Slowing, Spell
from simdeploy.vetting.shape import Event
from simdeploy.vetting.slowings import Span, at_once, may_serve

Link = tuple[Event | None, float]
"""(event, what counts from then on); None = the start."""
Chain = list[Link]
Part = tuple[Life, list[float]]
"""A life and what each that lives it counts in each of its spells."""
LEADING = ("leader_elected", "datastore")


class Low(NamedTuple):
    """The least capacity and a state that has it."""

    per_s: float
    state: frozenset[Event]


class Held(NamedTuple):
    """A time in which somebody who may have failed is taken to lack something."""

    since: Event
    until: Event | None
    """None = to the end."""
    lacking: float


class Without(NamedTuple):
    """What is lost beside what the plan takes, and whether steps fail as far as the plan tolerates it."""

    lost: frozenset[int] = frozenset()
    failing: bool = False
    declared: bool = True
    """False: short locks and moves of a lead that the plan declares are left out."""


NOTHING = Without()


class Floors:
    """The floors of the services of one section."""

    def __init__(self, section: Section, alike: dict[object, Low] | None = None) -> None:
        self.section = section
        self._alike = {} if alike is None else alike
        """Floors of balanced services by the lives of their instances, which sections of one plan may share."""
        self.shape = section.shape
        opens = section.service_events("open", "") if not section.plan.start.live else []
        self.forced = [event for event, _ in opens[:1]]
        """Before the doors open there is no demand to be carried."""
        self.failures = Failures(section, self.forced)
        self.never_opens = not section.plan.start.live and not opens
        self._known: dict[tuple[str, str | None, Without], Low] = {}

    @cached_property
    def pools(self) -> dict[tuple[str, str | None], list[Life]]:
        """(service, cell or None) -> the lives of who shares its requests."""
        env, found = self.section.env, dict[tuple[str, str | None], list[Life]]()
        for name in env.services:
            for cell in [*env.cells] if name in env.pinned else [None]:
                found[name, cell] = []
        for life in self.section.lives:
            machine = env.instances[self.shape.instances[life.name]][1]
            found[life.service, env.cell_of.get(machine) if life.service in env.pinned else None].append(life)
        return found

    def floor(self, service: str, cell: str | None, given: Without = NOTHING) -> Low:
        """The least that the instances of *service* (in *cell*) serve in any reachable state."""
        key = (service, cell, given)
        if key not in self._known:
            spec = self.section.env.services[service]
            if spec.role in LEADING or (spec.role == "quorum" and spec.serves == "leader"):
                low = self._led(service, spec, given)
            else:
                lives = self.pools[service, cell]
                same = (given, self.section.part, *self.forced, *map(id, lives))
                if same not in self._alike:
                    self._alike[same] = self._shared(spec, lives, given)
                low = self._alike[same]
            if given.failing and (kept := self.floor(service, cell, given._replace(failing=False))).per_s < low.per_s:
                low = kept
            self._known[key] = low
        return self._known[key]

    def _shared(self, spec: Service, lives: list[Life], given: Without) -> Low:
        """Of a service whose serving instances all count."""
        if spec.role == "quorum" and (lost := self._majority(lives, given)).per_s <= 0:
            return Low(0.0, lost.state)
        if spec.balancing == "even":
            return self._even(spec, lives, given)
        whole, weights = self._lacking(lives, given)
        state = heaviest(self.shape.just_before, weights, self.forced)
        serving = max(0.0, whole - sum(w for e, w in weights.items() if e in state))
        return Low(_served(spec, 0.0 if serving < 1e-9 else serving), frozenset(state))

    def together(self, pools: Sequence[tuple[str, str | None]], given: Without = NOTHING) -> Low:
        """The least that these pools of balanced services serve together, each by its visits, in any one reachable state."""
        env, whole, weights = self.section.env, 0.0, dict[Event, float]()
        for service, cell in pools:
            stated = env.services[service].capacity_per_s
            rate = (env.demand.peak_per_s if stated is None else stated) / env.visits[service]
            serving, lacking = self._lacking(self.pools[service, cell], given)
            whole += rate * serving
            for event, weight in lacking.items():
                _add(weights, event, rate * weight)
        state = heaviest(self.shape.just_before, weights, self.forced)
        return Low(max(0.0, whole - sum(w for e, w in weights.items() if e in state)), frozenset(state))

    def _lacking(self, lives: list[Life], given: Without) -> tuple[float, dict[Event, float]]:
        """(instances that serve at the start, how many fewer from each event on), slowed ones by what is left of them."""
        weights: dict[Event, float] = {}
        most = max([1.0, *(s.condition.weight for life in lives for s in life.spells if s.serves)])
        slowings = {life.name: [w for w in life.slowings if given.declared or w.left > 0] for life in lives}
        whole = self._sum([(life, [s.share for s in life.spells]) for life in lives], given, weights, slowings)
        return whole / most, {event: weight / most for event, weight in weights.items()}

    def _sum(self, parts: list[Part], given: Without, weights: dict[Event, float], slowings: Mapping[int, list[Slowing]]) -> float:
        """What the instances count at the start in all; *weights* take how much less they do from each event on.

        *slowings* are those of the lives, by their names.
        """
        whole = 0.0
        if not given.failing:
            for life, values in parts:
                count = sum(i not in given.lost for i in life.like)
                whole += count * values[0]
                for (_, before), (event, value) in itertools.pairwise(_chain(life, values)):
                    assert event is not None
                    _add(weights, event, count * (before - value))
                self._slow(weights, slowings.get(life.name, []), count)
            return whole
        releases = self.failures.releases([life for life, _ in parts], given.lost, {life.name: values for life, values in parts})
        for unit in self._units(parts):
            chain = self._merged(unit)
            life = unit[0][0]
            count = sum(i not in given.lost for i in life.like)
            release = releases[life.name]
            for other, _ in unit[1:]:
                release = release.or_else(releases[other.name])
            whole += count * chain[0][1]
            staying = min(count, release.staying)
            slow = [w if len(unit) == 1 else self._at_worst(life, w) for life, _ in unit for w in slowings.get(life.name, [])]
            held = self._weigh(weights, chain, count - staying, release.speaks)
            self._slow(weights, slow, count - staying, chain, held)
            self._slow(weights, slow, staying)  # where another fails instead, they are slowed
            for judge, most in release.later:
                if most < staying:
                    told = {e: e if e == spoken else 2 * judge + 1 for e, spoken in release.speaks.items()}
                    self._weigh(weights, chain, staying - most, told)
                    staying = most
            self._weigh(weights, chain, staying, {})
        return whole

    def _at_worst(self, life: Life, slowing: Slowing) -> Slowing:
        """A slowing of one who has an heir: he may be all that is left, where what was to take him out has failed and nobody came."""
        may = slowing.share == 0 and may_serve(life, slowing.since, self.failures)
        return slowing._replace(share=max(s.share for s in life.spells)) if may else slowing

    def _weigh(self, weights: dict[Event, float], chain: Chain, count: int, speaks: Mapping[Event, Event | None]) -> list[Held]:
        """Add how much less *count* of the same *chain* count from each event on than at the start, each of whom may fail.

        Wherever he has come to, he then lacks what he lacked there, until a judge has spoken of it; the times of that are returned.
        """
        precedes = self.shape.precedes
        lacking = most = 0.0
        judge: Event | None = None
        held: list[Held] = []
        for event, value in chain[1:]:
            assert event is not None
            known = speaks.get(event)
            if judge is not None and judge not in (known, event):
                if precedes(judge, event, True):
                    _add(weights, judge, count * (lacking - most))
                    most = lacking
                elif known is not None and not precedes(judge, known, True):  # the later of both; if neither is, none
                    known = judge if precedes(known, judge, True) else None
            lacking, judge = chain[0][1] - value, known
            if lacking > most:
                _add(weights, event, count * (lacking - most))
                most = lacking
            held.append(Held(event, judge, most))
        if judge is not None:
            _add(weights, judge, count * (lacking - most))
        return held

    def _slow(
        self, weights: dict[Event, float], slowings: Sequence[Slowing], count: int, chain: Sequence[Link] = (), held: Sequence[Held] = ()
    ) -> None:
        """Add what *count* like instances lack while they are slowed, beyond what they are *held* to lack on their *chain* then."""
        precedes = self.shape.precedes
        for slowing in slowings:
            since, until, lacking = slowing.since, slowing.until, slowing.share * (1 - slowing.left)
            sure = [h.lacking for h in held if precedes(h.since, since, True) and (h.until is None or precedes(until, h.until, True))]
            if sure:
                ends = [event for event, _ in chain[1:]] + [None]
                levels = [
                    chain[0][1] - value
                    for (event, value), end in zip(chain, ends, strict=True)
                    if not (end is not None and precedes(end, since, True)) and not (event is not None and precedes(until, event, True))
                ]
                lacking = min(lacking, max(0.0, max(levels) + lacking - max(sure)))
            _add(weights, since, count * lacking)
            _add(weights, until, -count * lacking)

    def _units(self, parts: list[Part]) -> list[list[Part]]:
        """The parts whose instances fail together."""
        values_of = {life.name: values for life, values in parts}
        return [[(life, values_of[life.name]) for life in unit.lives] for unit in self.failures.units([life for life, _ in parts])]

    def _merged(self, unit: list[Part]) -> Chain:
        """What a unit counts from each event of its lives on."""
        changes = [(e, v - before) for life, values in unit for (_, before), (e, v) in itertools.pairwise(_chain(life, values))]
        now = sum(values[0] for _, values in unit)
        chain: Chain = [(None, now)]
        for event, change in sorted(changes, key=lambda c: self.shape.rank(c[0] or 0)):
            now += change
            if chain[-1][0] == event:
                chain[-1] = (event, now)
            else:
                chain.append((event, now))
        return chain

    def _even(self, spec: Service, lives: list[Life], given: Without) -> Low:
        """Of a balancer that does not know who is slow, so that all get what the slowest can take: those that serve x its share."""
        parts = [(life, [s.serves * s.condition.weight for s in life.spells]) for life in lives]
        found = []
        for left, since, until in self._slowest([life for life in lives if not given.lost.issuperset(life.like)], given):
            low = self._least(parts, given, since, until)
            found.append(Low(_served(spec, max(0.0, low.per_s) * left), low.state))
        return min(found, key=lambda low: low.per_s)

    def _slowest(self, lives: list[Life], given: Without) -> Iterator[tuple[float, list[Event], list[Event]]]:
        """(what somebody takes by its weight, from these events on, before those), of whatever may slow anyone at once."""
        yield 1.0, [], []
        for life in lives:
            fills = [
                Span(1 / s.condition.weight, s.since, None if given.failing else s.until)  # who fails keeps his weight
                for s in life.spells
                if s.serves and s.condition.weight > 1
            ]
            sets = [*at_once(life, self.failures, given.failing, given.declared)]
            for slow in [(*one, *some) for one in [(), *((f,) for f in fills)] for some in sets][1:]:
                since, until = [s.since for s in slow if s.since is not None], [s.until for s in slow if s.until is not None]
                yield math.prod(s.left for s in slow), since, until

    def _standing(self, lives: list[Life], given: Without = NOTHING) -> Low:
        """The least number of instances that serve at any speed."""
        return self._least([(life, [float(s.serves) for s in life.spells]) for life in lives], given)

    def _majority(self, lives: list[Life], given: Without) -> Low:
        """The least that twice those that serve are more than the members that are there: without a majority 0 or less.

        A member that is lost is still one.
        """
        margins = [(life, [2.0 * s.serves - (s.condition.mode != ABSENT) for s in life.spells]) for life in lives]
        least = self._least(margins, given)
        return Low(least.per_s - sum(i in given.lost for life in lives for i in life.like), least.state)

    def _least(self, parts: list[Part], given: Without, within: Sequence[Event] = (), before: Collection[Event] = ()) -> Low:
        """The least sum over (a life, what each that lives it counts in each of its spells), in any reachable state.

        *within*: of the states that contain these events; *before*: and not these.
        """
        weights: dict[Event, float] = {}
        whole = self._sum(parts, given, weights, {})
        never = -2.0 * sum(map(abs, weights.values())) - 1.0
        for event in before:
            _add(weights, event, never)
        state = heaviest(self.shape.just_before, weights, {*self.forced, *within})
        return Low(whole - sum(w for e, w in weights.items() if e in state), frozenset(state))

    def majority(self, service: str) -> Low:
        """The least that twice the members of *service* that serve are more than those that are there."""
        return self._majority([life for life in self.section.lives if life.service == service], NOTHING)

    def standing(self, service: str, lost: frozenset[int] = frozenset()) -> Low:
        """The least number of instances of *service* that serve at any speed, in any reachable state."""
        return self._standing([life for life in self.section.lives if life.service == service], Without(lost))

    def _led(self, service: str, spec: Service, given: Without) -> Low:
        """Of a service of which the leader alone serves: nothing from when it is taken or its lead is moved."""
        members = [life for life in self.section.lives if life.service == service]
        capacity = math.inf if spec.capacity_per_s is None else spec.capacity_per_s
        if spec.role == "quorum" and (lost := self._majority(members, given)).per_s <= 0:
            return Low(0.0, lost.state)
        if spec.elected_through is not None:
            store = self.floor(spec.elected_through, None, given)
            if store.per_s <= 0:
                return Low(0.0, store.state)
        worst = Low(capacity, frozenset())
        leaders = Leaders(self.section, self.failures, self.forced, given.failing, given.declared)
        for reign, time in leaders.reigns(service):
            if reign.leader is None:
                if given.declared or reign.spell.since is None or reign.spell.until is None:  # if the step fails, who is left elects
                    return Low(0.0, self._at([time]))
                continue
            if reign.leader in given.lost:
                if spec.role == "datastore" and spec.failover == "manual":
                    return Low(0.0, self._at([time]))
                others = self._standing(members, given)
                if others.per_s < 1:
                    return Low(0.0, others.state)
                continue
            life = self.section.life_of[reign.leader]
            kept = [spell for spell in life.spells if self._is_split(service, spell)]
            for share, times in leaders.shares(life, time, kept):
                worst = min(worst, Low(_times(capacity, share), self._at(times)), key=lambda low: low.per_s)
        return worst

    def _is_split(self, service: str, spell: Spell) -> bool:
        """Whether the store takes writes on its other side throughout a spell in which one side is away."""
        precedes = self.shape.precedes
        splits, joins = (self.section.service_events(verb, service) for verb in ("split", "join"))
        begun = spell.since is not None and any(precedes(e, spell.since, True) for e, _ in splits)
        return begun and spell.until is not None and all(precedes(spell.until, e, True) for e, _ in joins)

    def _at(self, times: Sequence[Time]) -> frozenset[Event]:
        """The smallest state in which all *times* have begun."""
        return frozenset(below(self.shape.just_before, [*self.forced, *(t.since for t in times if t.since is not None)]))

    def not_handed(self, service: str, state: Collection[Event]) -> list[int]:
        """The steps that were to move the lead of *service* and, with the failures that are tolerated, have failed in *state*."""
        leaders = Leaders(self.section, self.failures, self.forced, failing=True, declared=False)
        found: list[tuple[float, list[int]]] = []
        for reign, time in leaders.reigns(service):
            for share, times in leaders.shares(self.section.life_of[reign.leader], time, ()) if reign.leader is not None else ():
                if self._at(times) == state:
                    found.append((share, [self.shape.first[e >> 1] for e in time.over if e in state]))
        return min(found, default=(0.0, []))[1]

    def failed(self, service: str, state: Collection[Event]) -> list[tuple[int, int]]:
        """(instance, step) for each instance of *service* that, with the failures that are tolerated, stays out in *state*."""
        lives = [life for life in self.section.lives if life.service == service]
        releases = self.failures.releases(lives)
        found: list[tuple[int, int]] = []
        for unit in self._units([(life, []) for life in lives]):
            for life, _ in unit if len(unit) == 1 else ():
                past = [s for s in life.spells if s.since is None or s.since in state]
                given = past[-1].since
                if given is None or not past[-1].serves or past[-2].serves:
                    continue
                failing = life.like[: releases[life.name].still_out(len(life.like), given, state)]
                found += [(i, self._failing(next(t.step for t in self.shape.touches[i] if self.shape.event(t) == given))) for i in failing]
        return found

    def _failing(self, step: int) -> int:
        """The last step that may fail without an end of all, so that *step* does not come: itself, or one that it needs."""
        todo, found = {step}, set[int]()
        while todo:
            k = todo.pop()
            found.add(k)
            todo |= {self.shape.position[name] for name in self.section.plan.steps[k].needs} - found
        kept = [k for k in found if not self.shape.ends_all(self.shape.cls[k])]
        return max(kept, key=lambda k: self.shape.level[k], default=step)


def _chain(life: Life, values: list[float]) -> Chain:
    """What a life counts from each of its events on."""
    return [(spell.since, value) for spell, value in zip(life.spells, values, strict=True)]


def _add(weights: dict[Event, float], event: Event, weight: float) -> None:
    if weight:
        weights[event] = weights.get(event, 0.0) + weight


def _served(spec: Service, instances: float) -> float:
    """What so many instances serve; without a stated capacity they do not limit while there are any."""
    if spec.capacity_per_s is None:
        return math.inf if instances > 0 else 0.0
    return spec.capacity_per_s * instances


def _times(capacity: float, share: float) -> float:
    return capacity * share if share else 0.0
