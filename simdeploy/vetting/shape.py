"""The order of a plan's steps with like steps merged, so that a proof about ten thousand machines looks at a few hundred classes.

What is alike, and why nothing is lost by merging it, `likeness.py` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import order
from simdeploy.plan.steps import ROLLBACK, Judge
from simdeploy.vetting.likeness import Touch, refined

BEGIN, END = 0, 1
Event = int
"""2 x class (+ 1): the begin (the end) of the steps of a class."""


class Guard(NamedTuple):
    """What must have happened before a section is entered, that a step of it is not passed over."""

    began: frozenset[Event]
    """One of these, where there are any."""
    unbegun: frozenset[Event]
    """None of these."""
    done: frozenset[Event]
    """All of these."""
    undone: frozenset[Event]
    """Not all of these, where there are any."""

    def holds(self, events: frozenset[Event]) -> bool:
        """Whether a step with this guard is run when its section begins after these *events*."""
        return (
            (not self.began or not self.began.isdisjoint(events))
            and self.unbegun.isdisjoint(events)
            and self.done <= events
            and (not self.undone or not self.undone <= events)
        )


class Shape:
    """A plan's steps by class: of each class its members, what comes before it, and what surely does."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.position = plan.wiring.position
        self.instances = list(plan.environment.instances)
        self.touches: list[list[Touch]] = [[] for _ in self.instances]
        """Of each instance: how steps act on it, in the order of the DAG's levels."""
        index = self.index = {name: i for i, name in enumerate(self.instances)}
        """Instance -> its position."""
        self.members_of: dict[str, list[int]] = {name: [] for name in plan.environment.services}
        """Of each service: its instances."""
        self.on_machine: dict[str, list[int]] = {m.name: [] for m in plan.environment.machines}
        """Of each machine: the instances on it."""
        for i, (service, machine) in enumerate(plan.environment.instances.values()):
            self.members_of[service].append(i)
            self.on_machine[machine].append(i)
        self.level = _levels(plan)
        for k, step in enumerate(plan.steps):
            for instance, factor in step.slow:
                self.touches[index[instance]].append(Touch(k, BEGIN, "slow", factor))
            for when, effects in ((BEGIN, step.begin), (END, step.end)):
                for effect in effects:
                    if len(effect) > 1 and effect[1] in index:
                        value = effect[2] if len(effect) > 2 else None
                        self.touches[index[str(effect[1])]].append(Touch(k, when, str(effect[0]), value))
        for touches in self.touches:
            touches.sort(key=lambda t: (2 * self.level[t.step] + t.when, t.step))
        step_colours, instance_colours = refined(plan, self.level, self.touches)
        _, first, cls, sizes = np.unique(step_colours, return_index=True, return_inverse=True, return_counts=True)
        self.cls: list[int] = cls.tolist()
        """Of each step: its class."""
        self.size = sizes.tolist()
        """Of each class: how many steps are in it."""
        self.members: dict[int, list[int]] = defaultdict(list)
        for k, c in enumerate(self.cls):
            self.members[c].append(k)
        self.first: list[int] = first.tolist()
        """Of each class: the position of its first step."""
        self.step_of = [plan.steps[k] for k in self.first]
        """Of each class: its first step."""
        by_colour: dict[int, list[int]] = defaultdict(list)
        for i, colour in enumerate(instance_colours.tolist()):
            by_colour[colour].append(i)
        self.like = list(by_colour.values())
        """Like instances, by position, together."""
        self._units: dict[int, list[int]] = {}
        self._stopped: dict[int, frozenset[int]] = {}
        self._edges()

    def _edges(self) -> None:
        """What each class has directly before it, and in which cases all of one come before all of the other."""
        counts: dict[tuple[int, int], int] = defaultdict(int)
        cls = self.cls
        for u, later in enumerate(self.plan.wiring.successors):
            for v, _ in later:
                counts[cls[u], cls[v]] += 1
        self.before: list[list[int]] = [[] for _ in self.size]
        """Of each class: the classes directly before it."""
        self._surely: list[list[bool]] = [[] for _ in self.size]
        for (u, v), n in counts.items():
            self.before[v].append(u)
            self._surely[v].append(n == self.size[u] * self.size[v] or self.size[u] == 1 or self.size[v] == 1)

    @cached_property
    def order(self) -> list[int]:
        """The classes, each after all that come before it."""
        return sorted(range(len(self.size)), key=lambda c: (self.level[self.first[c]], self.first[c]))

    @cached_property
    def classes_of(self) -> dict[int, list[int]]:
        """Of each part of the plan: its classes."""
        found: dict[int, list[int]] = defaultdict(list)
        for c, step in enumerate(self.step_of):
            found[step.part].append(c)
        return found

    @cached_property
    def guards(self) -> list[Guard]:
        """Of each class: what its guard asks for."""

        def events(names: Iterable[str], when: int) -> frozenset[Event]:
            return frozenset(2 * self.cls[self.position[name]] + when for name in names)

        return [Guard(events(s.began, BEGIN), events(s.unbegun, BEGIN), events(s.done, END), events(s.undone, END)) for s in self.step_of]

    @cached_property
    def ancestors(self) -> list[int]:
        """Of each class, as bits: the classes of which some step comes before some step of it."""
        found = [0] * len(self.size)
        for c in self.order:
            bits = 0
            for u in self.before[c]:
                bits |= found[u] | 1 << u
            found[c] = bits
        return found

    @cached_property
    def sure_ancestors(self) -> list[int]:
        """Of each class, as bits: the classes of which every step comes before every step of it."""
        single = sum(1 << c for c, n in enumerate(self.size) if n == 1)
        found = [0] * len(self.size)
        for c in self.order:
            bits = 0
            for u, surely in zip(self.before[c], self._surely[c], strict=True):
                bits |= (self.ancestors[u] | 1 << u) if surely else found[u]
            found[c] = bits | (self.ancestors[c] if self.size[c] == 1 else self.ancestors[c] & single)
        return found

    @cached_property
    def judge_of(self) -> dict[int, int]:
        """Class of a step -> that of the first judge that waits for it and counts it; judges of a plan count what nobody watches too."""
        found: dict[int, int] = {}
        for c, judge in self.judges:
            for watched in {self.cls[self.position[name]] for name in judge.watch}:
                if self.sure_ancestors[c] >> watched & 1:
                    found.setdefault(watched, c)
        of_all = self.judges_of_all
        for c in self.order if of_all else ():
            if c not in found and (first := next((j for j in of_all if self.ancestors[j] >> c & 1), None)) is not None:
                found[c] = first
        return found

    @cached_property
    def judges_of_all(self) -> list[int]:
        """The classes of judges that count all failures before them, in an order in which none comes before an earlier one."""
        return [c for c, judge in self.judges if judge.of in ("carried", "plan")]

    @cached_property
    def counted_by(self) -> dict[int, set[int]]:
        """Of each judge: itself and, if it counts all failures, the judges before it, of which it counts what they let pass."""
        found = {c: {c} for c, _ in self.judges}
        for c in self.judges_of_all:
            found[c] |= {j for j in found if self.ancestors[c] >> j & 1}
        return found

    @cached_property
    def judges(self) -> list[tuple[int, Judge]]:
        """The judges whose word holds, each after all that come before it; one that needs a step is skipped when that fails."""
        judges = [(c, self.step_of[c].judge) for c in self.order]
        return [(c, judge) for c, judge in judges if judge is not None and not self.step_of[c].needs and self.ends_all(c)]

    def ends_all(self, c: int) -> bool:
        """Whether nothing that does not need a step of this class begins when it fails: no halt lets a lane that has begun go on."""
        step = self.step_of[c]
        if not step.fatal and step.kind == "step":
            return False
        reaction = self.plan.on_abort if step.gate is None else step.gate.reaction
        undone = step.part != ROLLBACK and self._is_undoable
        return reaction == "forward" or (reaction == "rollback" and undone) or not self._crossed >> c & 1

    @cached_property
    def _is_undoable(self) -> bool:
        """Whether there is a rollback, and nothing that it cannot be begun after."""
        return ROLLBACK in self.classes_of and not any(s.no_return for s in self.step_of)

    @cached_property
    def just_before(self) -> list[list[Event]]:
        """Of each event: the events directly before it."""
        return [before for c in range(len(self.size)) for before in ([2 * u + 1 for u in self.before[c]], [2 * c])]

    @cached_property
    def whole(self) -> dict[tuple[str, str], list[tuple[int, Event, Any]]]:
        """(verb, service) -> (class, event, argument) of what steps do to the service as a whole, in the order of the levels."""
        found: dict[tuple[str, str], list[tuple[int, Event, Any]]] = defaultdict(list)
        for c in self.order:
            for when, effects in ((BEGIN, self.step_of[c].begin), (END, self.step_of[c].end)):
                for effect in effects:
                    subject = str(effect[1]) if len(effect) > 1 else ""
                    if subject == "" or subject in self.plan.environment.services:
                        found[str(effect[0]), subject].append((c, 2 * c + when, effect[2] if len(effect) > 2 else None))
        for events in found.values():
            events.sort(key=lambda f: self.rank(f[1]))
        return found

    def stopped_by(self, c: int) -> frozenset[int]:
        """The instances, by position, on which steps act that come to nothing when the first step of a class fails, itself too."""
        if c not in self._stopped:
            todo, found = [self.first[c]], set[int]()
            while todo:
                k = todo.pop()
                if k not in found:
                    found.add(k)
                    todo += [later for later, needs in self.plan.wiring.successors[k] if needs]
            self._stopped[c] = frozenset(i for k in found for i in self._acts_on.get(k, ()))
        return self._stopped[c]

    @cached_property
    def _acts_on(self) -> dict[int, list[int]]:
        """Of each step: the instances that it does more to than slow them, by position."""
        found: dict[int, list[int]] = defaultdict(list)
        for i, touches in enumerate(self.touches):
            for t in touches:
                if t.verb != "slow":
                    found[t.step].append(i)
        return found

    def units(self, part: int) -> list[int]:
        """Of each instance: a number that it shares with those whose lanes in this *part* it shares, as many and as like as it."""
        if part not in self._units:
            kind = {i: k for k, like in enumerate(self.like) for i in like}
            first: dict[int, int] = {}
            same = nx.utils.UnionFind(range(len(self.like)))
            for i, touches in enumerate(self.touches):
                for lane in {self._lanes[t.step] for t in touches if t.verb != "slow" and self.plan.steps[t.step].part == part}:
                    other = kind[first.setdefault(lane, i)]
                    if other != kind[i] and len(self.like[other]) == len(self.like[kind[i]]):
                        same.union(other, kind[i])
            self._units[part] = [same[kind[i]] for i in range(len(self.instances))]
        return self._units[part]

    @cached_property
    def _lanes(self) -> list[int]:
        return order(self.plan).lane

    @cached_property
    def _crossed(self) -> int:
        """As bits: the classes of the steps whose failure a lane outlives that has begun before, where it is no more than a halt.

        Some step of that lane comes after such a step, without needing it and with no judge or gate between, since after an
        abort these say nothing; and another may begin before it has ended.
        """
        sayers = [c for c, step in enumerate(self.step_of) if step.kind != "step"]
        lanes: dict[int, set[int]] = defaultdict(set)
        for c, lane in zip(self.cls, self._lanes, strict=True):
            lanes[lane].add(c)
        found = 0
        for classes in {frozenset(one) for one in lanes.values()}:
            always = -1
            for c in classes:
                always &= self.ancestors[c]
            for c in classes:
                between = 0
                for v in sayers:
                    if self.sure_ancestors[c] >> v & 1:
                        between |= self.sure_ancestors[v]
                found |= self.ancestors[c] & ~always & ~self._needed_by[c] & ~between
        return found

    @cached_property
    def _needed_by(self) -> list[int]:
        """Of each class, as bits: the classes of the steps that must have succeeded before its steps begin."""
        found = [0] * len(self.size)
        for c in self.order:
            for name in self.step_of[c].needs:
                u = self.cls[self.position[name]]
                found[c] |= found[u] | 1 << u
        return found

    def rank(self, event: Event) -> tuple[int, Event]:
        """By which events are sorted in the order of the DAG's levels."""
        return 2 * self.level[self.first[event >> 1]] + event % 2, event

    def precedes(self, early: Event, late: Event, same: bool) -> bool:
        """Whether *early* has always happened when *late* has; *same*: of steps on one instance, else of any two of the classes."""
        u, v = early >> 1, late >> 1
        if u == v:
            return (same or self.size[u] == 1) and early <= late
        return bool((self.ancestors if same else self.sure_ancestors)[v] >> u & 1)

    def event(self, touch: Touch, when: int | None = None) -> Event:
        """The event of a touch."""
        return 2 * self.cls[touch.step] + (touch.when if when is None else when)


def _levels(plan: Plan) -> list[int]:
    """Of each step: how many steps come before it on the longest way."""
    waits, level = plan.wiring.waits.copy(), [0] * len(plan.steps)
    ready = [k for k, n in enumerate(waits) if n == 0]
    while ready:
        k = ready.pop()
        for later, _ in plan.wiring.successors[k]:
            level[later] = max(level[later], level[k] + 1)
            waits[later] -= 1
            if waits[later] == 0:
                ready.append(later)
    return level
