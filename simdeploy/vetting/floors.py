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
from simdeploy.vetting.leads import reigns
from simdeploy.vetting.section import ABSENT, Life, Section, Spell
from simdeploy.vetting.shape import Event

Chain = list[tuple[Event | None, float]]
"""(event, what counts from then on); the first from the start."""
Part = tuple[Life, list[float]]
"""A life and what each that lives it counts in each of its spells."""
MANY_SLOWINGS = 6
"""Of more steps that may slow one instance all are taken to do so at once."""
LEADING = ("leader_elected", "datastore")


class Low(NamedTuple):
    """The least capacity and a state that has it."""

    per_s: float
    state: frozenset[Event]


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
        parts: list[Part] = []
        most = 1.0
        for life in lives:
            shares = [s.share if given.declared or s.share or not s.serves else 1.0 for s in life.spells]
            parts.append((life, shares))
            most = max([most, *(s.condition.weight for s in life.spells if s.serves)])
            count = sum(i not in given.lost for i in life.like)
            for slowing in life.slowings:
                if given.declared or slowing.left > 0:
                    _add(weights, slowing.since, count * (1 - slowing.left))
                    _add(weights, slowing.until, -count * (1 - slowing.left))
        whole = self._sum(parts, given, weights)
        return whole / most, {event: weight / most for event, weight in weights.items()}

    def _sum(self, parts: list[Part], given: Without, weights: dict[Event, float]) -> float:
        """What the instances count at the start in all; *weights* take how much less they do from each event on."""
        whole = 0.0
        if not given.failing:
            for life, values in parts:
                count = sum(i not in given.lost for i in life.like)
                whole += count * values[0]
                self._weigh(weights, _chain(life, values), count, None)
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
            self._weigh(weights, chain, count - staying, release.speaks)
            for judge, most in release.later:
                if most < staying:
                    told = {e: e if e == spoken else 2 * judge + 1 for e, spoken in release.speaks.items()}
                    self._weigh(weights, chain, staying - most, told)
                    staying = most
            self._weigh(weights, chain, staying, {})
        return whole

    def _weigh(self, weights: dict[Event, float], chain: Chain, count: int, speaks: Mapping[Event, Event | None] | None) -> None:
        """Add how much less *count* of the same *chain* count from each event on than at the start.

        With *speaks* each may fail wherever it has come to, and then lacks what it lacked there, until a judge has spoken of it.
        """
        if speaks is None:
            for (_, before), (event, value) in itertools.pairwise(chain):
                assert event is not None
                _add(weights, event, count * (before - value))
            return
        precedes = self.shape.precedes
        lacking = most = 0.0
        judge: Event | None = None
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
        if judge is not None:
            _add(weights, judge, count * (lacking - most))

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
            if left > 0 or given.declared:
                low = self._least(parts, given, since, until)
                found.append(Low(_served(spec, max(0.0, low.per_s) * left), low.state))
        return min(found, key=lambda low: low.per_s)

    def _slowest(self, lives: list[Life], given: Without) -> Iterator[tuple[float, list[Event], list[Event]]]:
        """(what somebody takes by its weight, from these events on, before those), of whatever may slow anyone at once."""
        yield 1.0, [], []
        for life in lives:
            spells = [
                (per_weight, s.since, None if given.failing and s.condition.weight > 1 else s.until)  # who fails keeps his weight
                for s in life.spells
                if (per_weight := _per_weight(s)) < 1
            ]
            slowings: list[tuple[float, Event | None, Event | None]] = [(w.left, w.since, w.until) for w in life.slowings]
            if len(slowings) > MANY_SLOWINGS:
                yield math.prod(left for left, _, _ in (*spells, *slowings)), [], []
                continue
            at_once = [some for n in range(len(slowings) + 1) for some in itertools.combinations(slowings, n)]
            for slow in [(*one, *some) for one in [(), *((s,) for s in spells)] for some in at_once][1:]:
                events = ([e for _, e, _ in slow if e is not None], [e for _, _, e in slow if e is not None])
                yield math.prod(left for left, _, _ in slow), *events

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
        whole = self._sum(parts, given, weights)
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
        for reign in reigns(self.section, service):
            if self._is_past(reign.spell):
                continue
            if reign.leader is None:
                if given.declared or reign.spell.since is None or reign.spell.until is None:
                    return Low(0.0, self._at(reign.spell))
                continue
            if reign.leader in given.lost:
                if spec.role == "datastore" and spec.failover == "manual":
                    return Low(0.0, self._at(reign.spell))
                others = self._standing(members, given)
                if others.per_s < 1:
                    return Low(0.0, others.state)
                continue
            life = self.section.life_of[reign.leader]
            if given.failing and (failed := self._failed_before(life, reign.spell, given)) is not None:
                return Low(0.0, failed)
            for spell in life.spells:
                if not self.section.overlap(spell, reign.spell, same=True) or self._is_past(spell) or self._is_split(service, spell):
                    continue
                share = spell.share if given.declared or not spell.serves or spell.share > 0 else 1.0
                worst = min(worst, Low(_times(capacity, share), self._at(spell, reign.spell)), key=lambda low: low.per_s)
            for slowing in life.slowings:
                if given.declared or slowing.left > 0:
                    worst = min(
                        worst, Low(_times(capacity, slowing.left), self._at(Spell(slowing.since, None, life.spells[0].condition, 0)))
                    )
        return worst

    def _failed_before(self, life: Life, reign: Spell, given: Without) -> frozenset[Event] | None:
        """A state in which the lead is with one whose lane has failed before and who is therefore out; None where there is none."""
        release = self.failures.releases([life], given.lost)[life.name]  # all that is tolerated may be his
        for out, back in itertools.pairwise(life.spells) if reign.since is not None else ():
            if out.serves or not back.serves or out.since is None or back.since is None or reign.since is None:
                continue
            spoken = [2 * judge + 1 for judge, most in release.later if most <= 0]
            if release.staying <= 0:
                spoken += [e for e in [release.speaks.get(back.since)] if e is not None]
            known = any(self.shape.precedes(e, reign.since, True) for e in spoken)
            if known or back.since >> 1 in {reign.since >> 1} | self.failures.needed([reign.since >> 1]):
                continue
            if reign.until is None or not self.shape.precedes(reign.until, out.since, True):
                return self._at(reign, out)
        return None

    def _is_past(self, spell: Spell) -> bool:
        """Whether a spell is over before there are users."""
        return spell.until is not None and any(self.shape.precedes(spell.until, e, True) for e in self.forced)

    def _is_split(self, service: str, spell: Spell) -> bool:
        """Whether the store takes writes on its other side throughout a spell in which one side is away."""
        precedes = self.shape.precedes
        splits, joins = (self.section.service_events(verb, service) for verb in ("split", "join"))
        begun = spell.since is not None and any(precedes(e, spell.since, True) for e, _ in splits)
        return begun and spell.until is not None and all(precedes(spell.until, e, True) for e, _ in joins)

    def _at(self, *spells: Spell) -> frozenset[Event]:
        """The smallest state in which all *spells* have begun."""
        return frozenset(below(self.shape.just_before, [*self.forced, *(s.since for s in spells if s.since is not None)]))

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
                found += [(i, next(t.step for t in self.shape.touches[i] if self.shape.event(t) == given)) for i in failing]
        return found


def _chain(life: Life, values: list[float]) -> Chain:
    """What a life counts from each of its events on."""
    return [(spell.since, value) for spell, value in zip(life.spells, values, strict=True)]


def _per_weight(spell: Spell) -> float:
    """What of its capacity an instance takes for each unit of its weight; 1 where it gets nothing."""
    weight = spell.condition.weight
    return spell.share / min(1.0, weight) / weight if spell.serves and weight > 0 else 1.0


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
