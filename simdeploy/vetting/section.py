"""One part of a plan as vetting sees it: who stands how when it begins, and how each instance lives through its steps."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from simdeploy.plan.steps import MAIN, Step
from simdeploy.vetting.likeness import Touch
from simdeploy.vetting.shape import BEGIN, END, Event, Shape

ABSENT, OUT, DEAD, STARTING, DRAINING, SERVING = "absent", "out", "dead in the pool", "starting", "draining", "serving"
MODES = {"drain": DRAINING, "out": OUT, "kill": DEAD, "serve": SERVING, "remove": ABSENT}


class Condition(NamedTuple):
    """How an instance stands."""

    mode: str
    version: str
    weight: float = 1.0


class Spell(NamedTuple):
    """A time in an instance's life in which it stands the same way."""

    since: Event | None
    """None = from the beginning."""
    until: Event | None
    """None = to the end."""
    condition: Condition

    @property
    def serves(self) -> bool:
        """Whether it serves, however slowly."""
        return self.condition.mode == SERVING

    @property
    def share(self) -> float:
        """Of an instance's capacity that it serves, where nothing slows it: 0 while it does not, less than 1 with a small weight."""
        return min(1.0, self.condition.weight) if self.serves else 0.0


class Slowing(NamedTuple):
    """A step that slows an instance, however the step ends."""

    since: Event
    until: Event
    left: float
    share: float
    """Of an instance's capacity that it serves at most meanwhile, were it not slowed."""


class Life(NamedTuple):
    """What becomes of like instances."""

    like: tuple[int, ...]
    service: str
    spells: list[Spell]
    slowings: list[Slowing]
    unordered: list[tuple[int, int]]
    """Pairs of steps that write the same of it and are not ordered."""

    @property
    def name(self) -> int:
        """The first of them, by position."""
        return self.like[0]


class Section:
    """The steps of one part of a plan, from a given state on.

    *starts* says how instances stand that do not stand as at the plan's start, *active* the classes that are not passed over,
    *schemas* and *leaders* what of these is not as at the plan's start; *known* are lives that sections of one plan share.
    """

    def __init__(
        self,
        shape: Shape,
        part: int = MAIN,
        starts: Mapping[int, Condition] | None = None,
        active: Collection[int] | None = None,
        schemas: Mapping[str, str] | None = None,
        leaders: Mapping[str, str | None] | None = None,
        known: dict[tuple[object, ...], Life] | None = None,
    ) -> None:
        self.shape, self.part, self.plan = shape, part, shape.plan
        self.env = shape.plan.environment
        self._starts, self._active = starts or {}, active
        self.start_schemas = {n: s.version for n, s in self.env.services.items() if s.role == "datastore"} | dict(schemas or {})
        self._leaders = leaders or {}
        self._known = {} if known is None else known

    def is_in(self, k: int) -> bool:
        """Whether the step at position *k* is of this part and is not passed over."""
        return self._in[self.shape.cls[k]]

    @cached_property
    def _in(self) -> list[bool]:
        """Of each class: whether its steps are of this part and are not passed over."""
        found = [False] * len(self.shape.step_of)
        for c in self.shape.classes_of[self.part] if self._active is None else self._active:
            found[c] = True
        return found

    @cached_property
    def steps(self) -> list[tuple[int, Step]]:
        """Its steps, one of each class, with the class."""
        return [(c, self.shape.step_of[c]) for c in self.shape.order if self._in[c]]

    def start(self, i: int) -> Condition:
        """How the instance at position *i* stands when the part begins."""
        if i in self._starts:
            return self._starts[i]
        name = self.shape.instances[i]
        service, machine = self.env.instances[name]
        start = self.plan.start
        mode = ABSENT if name in start.absent else OUT if name in start.out or machine in self.lost_before else SERVING
        role = self.env.services[service].role
        return Condition(mode, "1" if role == "datastore" else str(self.env.services[service].version))

    @cached_property
    def lost_before(self) -> frozenset[str]:
        """Machines that are dead when the plan begins: the disaster that it answers."""
        since = self.plan.disaster_at_s or 0.0
        return frozenset(c.machine for c in self.plan.crashes if c.at_s <= since and c.for_s is None)

    def start_leader(self, service: str) -> str | None:
        """Who leads *service* when the part begins, if somebody does."""
        if service in self._leaders:
            return self._leaders[service]
        named = self.plan.start.leaders.get(service)
        if named is None and self.env.services[service].leader is not None:
            named = self.env.leader_of(service)
        members = [self.shape.instances[i] for i in self.shape.members_of[service]]
        serving = {m for m in members if self.start(self.shape.index[m]).mode == SERVING}
        if named is None:
            named = next((m for m in members if m in serving or self.env.instances[m][1] in self.lost_before), None)
        spec = self.env.services[service]
        if named in serving or (spec.role == "datastore" and spec.failover == "manual"):
            return named
        return next((m for m in members if m in serving), None)  # elected when the one before it was lost

    @cached_property
    def lives(self) -> list[Life]:
        """The lives of all instances, like ones together."""
        return [self._life(tuple(like)) for like in self.shape.like]

    @cached_property
    def life_of(self) -> dict[int, Life]:
        """Instance, by position -> its life."""
        return {i: life for life in self.lives for i in life.like}

    def _life(self, like: tuple[int, ...]) -> Life:
        i = like[0]
        service = self.env.instances[self.shape.instances[i]][0]
        touches = [t for t in self.shape.touches[i] if self.is_in(t.step)]
        key = (i, self.start(i), *(t.step for t in touches))
        if key not in self._known:
            self._known[key] = self._lived(like, service, touches)
        return self._known[key]

    def _lived(self, like: tuple[int, ...], service: str, touches: list[Touch]) -> Life:
        changes = [t for t in touches if t.verb not in ("slow", "lead")]
        spells = self._spells(like[0], service, changes)
        slowings: list[Slowing] = []
        for t in touches:
            if t.verb == "slow":
                whole = Spell(self.shape.event(t, BEGIN), self.shape.event(t, END), spells[0].condition)
                share = max(s.share for s in spells if self.overlap(s, whole, same=True))
                slowings.append(Slowing(self.shape.event(t, BEGIN), self.shape.event(t, END), t.value, share))
        return Life(like, service, spells, slowings, self._unordered(changes))

    def _unordered(self, changes: list[Touch]) -> list[tuple[int, int]]:
        """Pairs of steps that change the same of an instance with neither before the other."""
        event, found = self.shape.event, []
        attributes: dict[str, list[Touch]] = defaultdict(list)
        for t in changes:
            attributes[t.verb if t.verb in ("version", "weight") else "mode"].append(t)
        for touches in attributes.values():
            for early, late in itertools.pairwise(touches):
                if early.step != late.step and not self.shape.precedes(event(early), event(late), same=True):
                    found.append((early.step, late.step))
        return found

    def _spells(self, i: int, service: str, changes: list[Touch]) -> list[Spell]:
        watched = self.env.services[service].health_check is not None
        now = self.start(i)
        spells = [Spell(None, None, now)]
        for touch in changes:
            if touch.verb in MODES:
                now = now._replace(mode=MODES[touch.verb])
            elif touch.verb == "start":
                now = now._replace(mode=STARTING if watched else SERVING)
            elif touch.verb == "version":
                now = now._replace(version=str(touch.value))
            elif touch.verb == "weight":
                now = now._replace(weight=float(touch.value))
            event = self.shape.event(touch)
            if spells[-1].since == event:
                spells[-1] = Spell(event, None, now)
            elif now != spells[-1].condition:
                spells[-1] = spells[-1]._replace(until=event)
                spells.append(Spell(event, None, now))
        return spells

    def overlap(self, one: Spell, other: Spell, same: bool = False) -> bool:
        """Whether there is a reachable state in both spells; *same*: of one instance."""

        def over(end: Event | None, begin: Event | None) -> bool:
            return end is not None and begin is not None and self.shape.precedes(end, begin, same)

        return not over(one.until, other.since) and not over(other.until, one.since)

    def service_events(self, verb: str, service: str) -> list[tuple[Event, Any]]:
        """What the steps do to a service as a whole by *verb*, in the order of the DAG's levels, with the argument."""
        return [(event, value) for c, event, value in self.shape.whole.get((verb, service), ()) if self._in[c]]
