"""The state of the environment: a fold over what steps do and what the world does by itself.

`State` changes by effects and world records only, and says which timers each change starts. Whoever owns the
clock (the simulator draws their delays, a journal already holds their ends) brings them back as world records;
a timer whose term has passed says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

from simdeploy.plan import layout as lay
from simdeploy.plan.layout import DEAD, DRAINING, KILL, MODE, OUT, SERVING, START, STARTING, WRITTEN_OFF, Layout, Operation


class Timer(NamedTuple):
    """Something that the world will do by itself unless its term passes."""

    kind: Literal["noticed", "risen", "elected", "expired"]
    subject: int
    """Position of the instance, or of the service that elects or whose leader's lease runs out."""
    term: int
    unseen: bool = False
    """noticed: the host does not even refuse connections; elected: the loss must be detected first."""


class StoreEvent(NamedTuple):
    """Something that changes how far back a store could be restored."""

    at_s: float
    kind: Literal["standbys", "machines", "point", "failover", "restored", "lost"]
    """lost: at the end of a run its data are gone, and nothing has brought them back."""
    service: int
    dated_s: float = 0.0
    """point: the moment it dates from; failover, restored, lost: the moment writing stopped."""
    who: Collection[int] = ()
    """standbys: the instances that follow; machines: those that are dead; lost: those that never return."""
    until_s: float = math.inf
    """restored, lost: what was written after this moment was not wanted back."""
    copy: str | None = None
    """restored: from which kind of copy; None = from the best."""


class State:
    """One run's state. `signature` tells it apart from every state that costs differently."""

    def __init__(self, layout: Layout, demand_per_s: float = 0.0) -> None:
        self.layout = layout
        plan = layout.plan
        self.codes = layout.start_codes.copy()
        self.leaders = layout.start_leaders.copy()
        self.open = plan.start.live
        self.validated_at_s: float | None = None
        self.demand_per_s = demand_per_s
        self.failovers = 0
        self.dated: dict[int, float] = {}
        """When the steps began that matter for as long as they run."""
        self.timers: list[Timer] = []
        """Started by the changes since this list was last emptied."""
        self.store_events: list[StoreEvent] = []
        self._terms = [0] * len(layout.instances)
        self._votes = [0] * len(layout.services)
        self._electing = [False] * len(layout.services)
        self._handing = [False] * len(layout.services)
        self._leases = [0] * len(layout.services)
        self.split: set[int] = set()
        """Stores of which every serving instance takes writes."""
        self._last_leaders = layout.start_leaders.copy()
        self._lost_at_s: dict[int, float] = {}
        self._corrupted_at_s: dict[int, float] = {}
        self._takes: dict[int, bool] = {s: self._is_led(s, self._serving(s)) for s in layout.sites}
        """Of each store: whether its primary serves, or while it is split anybody."""
        self._stopped_at_s: dict[int, float] = {}
        """Since when that is over, of the stores to which nothing was restored since."""
        self._dead: set[int] = set()
        """Machines."""
        self._gone: set[int] = set()
        """Those of them that never return."""
        self._written_off = 0
        """How many machines of these would be paid for, were they not gone."""
        self._returns: set[int] = set()
        """Instances that served when their machine died, and that no step has taken since."""
        self._factors: dict[int, list[float]] = {}
        self.schemas = {s: layout.services[s].version for s in range(len(layout.services)) if layout.services[s].role == "datastore"}
        self.signature = sum(layout.weights[i][code] for i, code in enumerate(self.codes))
        for name, value in (("demand", demand_per_s), ("open", self.open)):
            self.signature += layout.signature.weight(name, value)
        for s, leads in enumerate(layout.leading):
            if leads:
                self.signature += layout.signature.weight(("leader", s), self.leaders[s])
        for s, schema in self.schemas.items():
            self.signature += layout.signature.weight(("schema", s), schema)
        self._writable = {store: True for store, services in enumerate(layout.electing) if services}
        """Whether a store through which leaders are elected takes writes."""
        for store in self._writable:
            self._heed(store)

    def apply(self, operations: tuple[Operation, ...], at_s: float, dated_s: float) -> None:
        """Do what a step does at *at_s*; *dated_s* is when that step began (a recovery point dates from then)."""
        codes, layout = self.codes, self.layout
        for what, i, argument in operations:
            if self._returns and what in (MODE, KILL, START):
                self._returns.discard(i)
            if what == MODE:
                old = codes[i]
                new = layout.modes[argument].get(old)
                if new is None:
                    new = layout.in_mode(old, argument)
                if new != old:
                    weights = layout.weights[i]
                    self.signature += weights[new] - weights[old]
                    codes[i] = new
                    self._terms[i] += 1
                    if layout.leading[layout.service_of[i]]:
                        self._follow(i, at_s)
                    if self._gone:
                        self._write_off()
            elif what == lay.VERSION:
                self._recode(i, layout.changed(codes[i], version=argument))
            elif what == KILL:
                self._vanish(i, at_s)
            elif what == START:
                self._rise(i, at_s)
            elif what == lay.LEAD:
                self._lead(i, argument, at_s)
            elif what == lay.SCHEMA:
                self._attribute(("schema", i), self.schemas.get(i), argument)
                self.schemas[i] = argument
            elif what == lay.SPLIT:
                self._divide(i, argument, at_s)
            elif what == lay.OPEN:
                self._attribute("open", self.open, True)
                self.open = True
            elif what == lay.VALIDATED:
                self.validated_at_s = at_s if self.validated_at_s is None else self.validated_at_s
            elif what == lay.WEIGHT:
                self._recode(i, layout.changed(codes[i], weight=float(argument)))
            elif what == lay.POINT:
                self.store_events.append(StoreEvent(at_s, "point", i, dated_s))
            elif what == lay.REWIND:
                self._lost_at_s.pop(i, None)
                self._restored(i, at_s, dated_s, self.dated.get(argument, dated_s))
            else:
                self._lost_at_s.pop(i, None)
                self._restored(i, at_s, self._stopped_at_s.get(i, at_s), copy=argument)

    def _restored(self, s: int, at_s: float, stopped_s: float, until_s: float = math.inf, copy: str | None = None) -> None:
        """A store holds what a copy of it held; what was written after a corruption is not wanted."""
        until_s = min(until_s, self._corrupted_at_s.pop(s, math.inf))
        self._stopped_at_s.pop(s, None)
        self.store_events.append(StoreEvent(at_s, "restored", s, stopped_s, until_s=until_s, copy=copy))

    def corrupted(self, s: int, at_s: float) -> None:
        """Something wrong is written to a store; it stays until a restore."""
        self._corrupted_at_s.setdefault(s, at_s)

    def close(self, end_s: float) -> None:
        """The run is over: a store whose data are gone, and that nothing has brought back, has lost what no copy holds."""
        for s in self.layout.sites:
            stopped_s, wrong_s = self._stopped_at_s.get(s), self._corrupted_at_s.get(s, math.inf)
            if wrong_s < math.inf or (stopped_s is not None and self._is_gone(s)):
                dated_s = end_s if stopped_s is None else stopped_s
                self.store_events.append(StoreEvent(end_s, "lost", s, dated_s, frozenset(self._gone), wrong_s))

    def _is_gone(self, s: int) -> bool:
        """Whether what the primary held is gone, or while the store is split what anybody held: machine or instance is not there."""
        leader = self._last_leaders[s] if self.leaders[s] is None else self.leaders[s]
        holders = self.layout.members[s] if s in self.split or leader is None else [leader]
        return all(self.layout.machine_of[i] in self._gone or self.mode(i) == lay.ABSENT for i in holders)

    def slow(self, i: int, factor: float, begins: bool) -> None:
        """A step that leaves an instance *factor* of its capacity begins or ends; factors multiply."""
        active = self._factors.setdefault(i, [])
        active.append(factor) if begins else active.remove(factor)
        left = 1.0
        for one in sorted(active):
            left *= one
        self._recode(i, self.layout.changed(self.codes[i], factor=left))

    def hand_over_failed(self, service: int, at_s: float) -> None:
        """A step that was to move the lead ended without doing so: who is left elects."""
        if self.leaders[service] is None:
            self._handing[service] = False
            if service not in self.split:
                self._elect(service, unseen=False)

    def noticed(self, i: int, term: int) -> bool:
        """The balancer takes a dead instance out of its pool. False: the timer's term has passed."""
        if term != self._terms[i]:
            return False
        self._set_mode(i, OUT)
        return True

    def risen(self, i: int, term: int, at_s: float) -> bool:
        """The health check of a started instance has risen: it serves."""
        if term != self._terms[i]:
            return False
        self._set_mode(i, SERVING)
        self._follow(i, at_s)
        return True

    def elected(self, service: int, term: int, at_s: float) -> bool:
        """An election ends and the first serving member leads.

        False: nobody serves, the store through which it is held takes no writes, or the timer's term has passed.
        """
        if term != self._votes[service]:
            return False
        self._electing[service] = False
        if not self._may_elect(service):
            return False
        serving = self._serving(service)
        if self.layout.services[service].election.prefer == "upgraded":
            serving.sort(key=lambda i: not self._is_upgraded(i))
        if serving:
            self._lead(service, serving[0], at_s)
        return bool(serving)

    def expired(self, service: int, term: int) -> bool:
        """A lease has run out and the leader gives up. False: it was renewed, or nobody leads."""
        if term != self._leases[service] or self.leaders[service] is None:
            return False
        self._set_leader(service, None)
        return True

    def crashed(self, machine: int, at_s: float, returns: bool = True) -> None:
        """A machine dies; what served on it will return with it, if it *returns*."""
        self._dead.add(machine)
        if not returns:
            self._gone.add(machine)
        self._tell_stores(at_s)
        for i in self.layout.on_machine[machine]:
            mode = self.mode(i)
            if mode in (SERVING, STARTING):
                self._returns.add(i)
            if mode == SERVING:
                self._vanish(i, at_s, silent=True)
            elif mode in (STARTING, DRAINING):  # the balancer sends nothing to it, so nobody must notice
                self._set_mode(i, OUT)
        if not returns:
            self._write_off()

    def _write_off(self) -> None:
        """Count the machines that would be paid for if they were not gone."""
        layout, before = self.layout, self._written_off
        used = [m for m in self._gone if layout.paid_by_use[m] and any(self.mode(i) != lay.ABSENT for i in layout.on_machine[m])]
        bare = [m for m in self._gone if not layout.on_machine[m] and layout.paid_always[m]]
        self._written_off = len(used) + len(bare)
        self.mark(WRITTEN_OFF, before, self._written_off)

    def repaired(self, machine: int, at_s: float) -> None:
        """A machine is back: what served returns through its health check unless a step has taken it meanwhile."""
        self._dead.discard(machine)
        self._tell_stores(at_s)
        for i in self.layout.on_machine[machine]:
            if i in self._returns:
                self._returns.discard(i)
                self._rise(i, at_s)

    def _tell_stores(self, at_s: float) -> None:
        dead = frozenset(self._dead)
        self.store_events += [StoreEvent(at_s, "machines", s, who=dead) for s in self.layout.sites]

    def demanded(self, rate_per_s: float) -> None:
        """Users want another rate from now on."""
        self._attribute("demand", self.demand_per_s, rate_per_s)
        self.demand_per_s = rate_per_s

    def mark(self, name: tuple[str, int], old: int, new: int) -> None:
        """Count something beside the instances (running steps on unobserved machines) into the signature; none adds nothing."""
        weight = self.layout.signature.weight
        self.signature += (weight(name, new) if new else 0) - (weight(name, old) if old else 0)

    def mode(self, i: int) -> int:
        """How the instance at position *i* stands."""
        return self.layout.conditions[self.codes[i]].mode

    def term(self, i: int) -> int:
        """The term in which the instance at position *i* stands: a timer of an earlier one is void."""
        return self._terms[i]

    def vote(self, service: int) -> int:
        """The number of the service's latest election: a timer of an earlier one is void."""
        return self._votes[service]

    def lease(self, service: int) -> int:
        """The number of the latest lease of the service's leader that cannot be renewed: a timer of an earlier one is void."""
        return self._leases[service]

    def serves(self, versions: frozenset[tuple[int, str | int]], observed: bool = False) -> bool:
        """Whether any instance serves one of these (service, version).

        *observed*: and a serving monitor has checks for it, not counting its own service, of which it is no judge.
        """
        conditions, layout = self.layout.conditions, self.layout
        serving = {(s, conditions[c].version) for c, s in zip(self.codes, layout.service_of, strict=True) if conditions[c].mode == SERVING}
        found = serving & versions
        if not observed or not found:
            return bool(found)
        names = layout.service_names
        return any(m != s and layout.services[m].has_checks(own, names[s], version) for m, own in serving for s, version in found)

    def out_at_end(self) -> int:
        """How many instances are neither serving nor absent."""
        return sum(self.layout.conditions[c].mode not in (lay.ABSENT, SERVING) for c in self.codes)

    def _is_upgraded(self, i: int) -> bool:
        return self.layout.conditions[self.codes[i]].version != self.layout.start_versions[i]

    def _attribute(self, name: object, old: object, new: object) -> None:
        weight = self.layout.signature.weight
        self.signature += weight(name, new) - weight(name, old)

    def _recode(self, i: int, code: int) -> None:
        weights = self.layout.weights[i]
        self.signature += weights[code] - weights[self.codes[i]]
        self.codes[i] = code
        if self._writable:
            self._heed(self.layout.service_of[i])

    def _set_mode(self, i: int, mode: int) -> None:
        self._recode(i, self.layout.in_mode(self.codes[i], mode))
        self._terms[i] += 1

    def _vanish(self, i: int, at_s: float, silent: bool = False) -> None:
        service = self.layout.services[self.layout.service_of[i]]
        in_the_pool = service.health_check is not None and self.mode(i) in (SERVING, DEAD)
        self._set_mode(i, DEAD if in_the_pool else OUT)
        if in_the_pool:
            self.timers.append(Timer("noticed", i, self._terms[i], silent or service.silent))
        if self.layout.leading[self.layout.service_of[i]]:
            self._follow(i, at_s, vanished=True)

    def _rise(self, i: int, at_s: float) -> None:
        if self.layout.services[self.layout.service_of[i]].health_check:
            self._set_mode(i, STARTING)
            self.timers.append(Timer("risen", i, self._terms[i]))
        else:
            self._set_mode(i, SERVING)
            self._follow(i, at_s)

    def _follow(self, i: int, at_s: float, vanished: bool = False) -> None:
        """What a change of an instance means for the lead of its service, and for who follows the primary."""
        s = self.layout.service_of[i]
        if not self.layout.leading[s]:
            return
        service, leader, serves = self.layout.services[s], self.leaders[s], self.mode(i) == SERVING
        automatic = service.role != "datastore" or service.failover == "automatic"
        if s in self.split:
            if vanished and not self._serving(s):
                self._lost_at_s.setdefault(s, at_s)
            elif serves and i == leader:
                self._lost_at_s.pop(s, None)
        elif i == leader and not serves:
            if service.role != "datastore":
                self._set_leader(s, None)
            elif vanished:
                self._lost_at_s.setdefault(s, at_s)
            if automatic:
                self._elect(s, unseen=vanished or service.role == "datastore")
        elif serves and i == leader:
            self._votes[s] += 1
            self._electing[s] = False
            self._lost_at_s.pop(s, None)
        elif serves and automatic and not self._electing[s] and not self._handing[s] and (leader is None or self.mode(leader) != SERVING):
            self._elect(s, unseen=False)
        if service.store is not None:
            self._count_standbys(s, at_s)
        if self._writable:
            self._heed(s)

    def _serving(self, s: int) -> list[int]:
        return [i for i in self.layout.members[s] if self.mode(i) == SERVING]

    def _divide(self, s: int, split: bool, at_s: float) -> None:
        """Each serving instance of a store takes writes from now on, or (join) its primary alone again."""
        if split == (s in self.split):
            return
        self.mark(("split", s), not split, split)
        self.split ^= {s}
        leader = self.leaders[s]
        if split:
            self._votes[s] += 1
            self._electing[s] = False
        elif self.layout.services[s].failover == "automatic" and not self._handing[s] and (leader is None or self.mode(leader) != SERVING):
            if self._serving(s):
                self._elect(s, unseen=False)
        if self.layout.services[s].store is not None:
            self._count_standbys(s, at_s)
        if self._writable:
            self._heed(s)

    def takes_writes(self, s: int) -> bool:
        """Whether a store takes writes: its primary, or while it is split any instance, serves with any of its speed left."""
        conditions = (self.layout.conditions[self.codes[i]] for i in self.layout.members[s] if s in self.split or i == self.leaders[s])
        return any(c.mode == SERVING and c.factor > 0 for c in conditions)

    def _heed(self, store: int) -> None:
        """A store that stops taking writes lets the leases run out that are held through it; one that begins to lets elections begin."""
        before = self._writable.get(store)
        if before is None or before == (now := self.takes_writes(store)):
            return
        self._writable[store] = now
        for s in self.layout.electing[store]:
            self._leases[s] += 1
            if not now:
                self._run_out(s)
            elif self.leaders[s] is None and not self._handing[s] and not self._electing[s] and self._serving(s):
                self._elect(s, unseen=False)

    def _may_elect(self, s: int) -> bool:
        store = self.layout.through[s]
        return store is None or self._writable[store]

    def _run_out(self, s: int) -> None:
        """The lease of the leader, if there is one, cannot be renewed from now on."""
        if self.leaders[s] is not None:
            self._leases[s] += 1
            self.timers.append(Timer("expired", s, self._leases[s]))

    def _elect(self, s: int, unseen: bool) -> None:
        self._votes[s] += 1
        self._electing[s] = True
        self.timers.append(Timer("elected", s, self._votes[s], unseen))

    def _lead(self, s: int, leader: int | None, at_s: float) -> None:
        self._votes[s] += 1
        self._electing[s] = False
        self._handing[s] = leader is None
        self._set_leader(s, leader)
        if leader is None:
            self._heed_writes(s, at_s, self._serving(s))
            return
        if self._last_leaders[s] is not None and self._last_leaders[s] != leader:
            self.failovers += 1
            if s in self._lost_at_s:
                self.store_events.append(StoreEvent(at_s, "failover", s, self._lost_at_s.pop(s)))
        self._last_leaders[s] = leader
        if not self._may_elect(s):
            self._run_out(s)
        if self.layout.services[s].store is not None:
            self._count_standbys(s, at_s)

    def _set_leader(self, s: int, leader: int | None) -> None:
        self._attribute(("leader", s), self.leaders[s], leader)
        self.leaders[s] = leader
        if self._writable:
            self._heed(s)

    def _count_standbys(self, s: int, at_s: float) -> None:
        serving = self._serving(s)
        following = () if s in self.split else [i for i in serving if i != self.leaders[s]]
        self.store_events.append(StoreEvent(at_s, "standbys", s, who=following))
        self._heed_writes(s, at_s, serving)

    def _is_led(self, s: int, serving: Collection[int]) -> bool:
        return bool(serving) if s in self.split else self.leaders[s] in serving

    def _heed_writes(self, s: int, at_s: float, serving: Collection[int]) -> None:
        """Note since when nobody serves to whom a store writes."""
        takes = self._is_led(s, serving)
        if s in self._takes and takes != self._takes[s]:
            self._takes[s] = takes
            self._stopped_at_s.pop(s, None)
            if not takes:
                self._stopped_at_s[s] = at_s
