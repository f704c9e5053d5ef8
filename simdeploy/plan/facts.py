"""What a state costs: capacity, demand, and what users and operators would notice of it.

Everything here is a function of the counts behind a state's signature, the leaders and the demand, so each
distinct state is worked out once and then looked up.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import NamedTuple

from simdeploy.plan import layout as lay
from simdeploy.plan.layout import DEAD, OUT, SERVING, Layout
from simdeploy.plan.state import State


class Facts(NamedTuple):
    """One state at one demand. Rates are per second, `is_` facts are 0 or 1."""

    capacity: float
    """Front-door capacity C [req/s]."""
    demand: float
    """Offered L [req/s]; 0 before the doors open."""
    error_free: float
    """Share g of requests that meets no error."""
    steady: float
    """C of the steady state [req/s]."""
    is_single_fault: float
    is_skewed: float
    is_incompatible: float
    is_blind: float
    is_unobserved: float
    machines: float
    """Allocated machines."""
    divergent: float
    """Writes per second that split stores take on several sides."""


class Group(NamedTuple):
    """Like instances in one condition."""

    group: int
    mode: int
    version: str | int
    factor: float
    size: int


def _group(group: int, condition: tuple[int, str | int, float], size: int) -> Group:
    return Group(group, *condition, size)


class Before(NamedTuple):
    """The state that held until an instant."""

    facts: int
    """Where its facts stand in the FactBook."""
    signature: int
    codes: list[int]
    leaders: list[int | None]
    split: Set[int]


Losable = tuple[str, int]
"""('machine', position), or ('group', class) for any one of its like machines."""


class FactBook:
    """The facts of every state that any run of a plan has met, by the state's signature.

    `of` gives the position of a state's facts in `facts`.
    """

    def __init__(self, layout: Layout) -> None:
        env = layout.plan.environment
        self.layout = layout
        self.facts: list[Facts] = []
        self._known: dict[tuple[int, bool], int] = {}
        self._shares: dict[tuple[int, int, int], float] = {}
        self._visits = [env.visits[s] for s in layout.service_names]
        self._critical = [layout.service_index[s] for s in env.critical]
        self._monitors = [s for s, service in enumerate(layout.services) if service.role == "monitoring"]
        self._electing = [(s, store) for s, store in enumerate(layout.through) if store is not None]
        self._redispatch = [s.retry == "redispatch" for s in layout.services]
        self._calls = [(layout.service_index[u], layout.service_index[v]) for u, v in env.calls.edges]
        self._changed = {layout.service_of[op[1]] for ops in layout.end for op in ops if op[0] == lay.VERSION}
        self.steady = 0.0
        self._start = self._capacities(self._groups_at_start(), layout.start_leaders)
        self._borne = dict(self._after_losses(self._groups_at_start(), layout.start_leaders, self._start))
        stated = layout.plan.steady_capacity_per_s
        self.steady = stated if stated is not None else self._front_door(self._start)

    def of(self, state: State, bad: bool) -> int:
        """Where the facts of *state* stand in `facts`; *bad* says whether the release is."""
        key = (state.signature, bad)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.facts)
            self.facts.append(self._work_out(state, bad))
        return known

    def _groups_at_start(self) -> list[Group]:
        layout, counts = self.layout, dict.fromkeys(self.layout.group, 0)
        for g in layout.group:
            counts[g] += 1
        return [_group(g, layout.conditions[layout.group_start[g]], counts[g]) for g in counts]

    def _work_out(self, state: State, bad: bool) -> Facts:
        layout = self.layout
        groups = [_group(g, met, n) for g, met, n in layout.signature.counts(state.signature) if isinstance(g, int)]
        demand = state.demand_per_s if state.open else 0.0
        capacities = self._capacities(groups, state.leaders, state.split)
        capacity = self._front_door(capacities) if state.open else 0.0
        error_free = self._error_free(groups, bad)
        at_risk = demand > 0 and (capacity < demand or self._one_loss_too_many(groups, state, capacities, demand))
        versions = self._serving_versions(groups)
        observed = self._observed(groups)
        return Facts(
            capacity=capacity,
            demand=demand,
            error_free=error_free,
            steady=self.steady,
            is_single_fault=float(at_risk),
            is_skewed=float(any(len(v) > 1 for v in versions)),
            is_incompatible=float(self._clashes(versions, state)),
            is_blind=float(
                bool(self._monitors) and any(versions[s] and s not in observed for s in range(len(versions)) if s not in self._monitors)
            ),
            is_unobserved=float(self._changes_unobserved(state, observed)),
            machines=self._allocated(groups),
            divergent=self._divergent(state, min(demand * error_free, capacity)),
        )

    def _front_door(self, capacities: list[float]) -> float:
        """The bottleneck law: min over the critical services of Cap(s) / V(s) (Denning & Buzen 1978)."""
        return min((capacities[s] / self._visits[s] for s in self._critical if self._visits[s] > 0), default=math.inf)

    def _capacities(self, groups: list[Group], leaders: list[int | None], split: Set[int] = frozenset()) -> list[float]:
        """Cap(s) of every service [req/s of its own], in the order of services; of a *split* store all instances serve."""
        by_service: list[list[Group]] = [[] for _ in self.layout.services]
        for group in groups:
            by_service[self.layout.group_service[group.group]].append(group)
        return [self._capacity(s, here, leaders[s], s in split) for s, here in enumerate(by_service)]

    def _capacity(self, s: int, groups: list[Group], leader: int | None, split: bool = False) -> float:
        """Cap of one service, by its role. Summed by factor in rising order, so that equal states have equal bits."""
        service = self.layout.services[s]
        serving = [g for g in groups if g.mode == SERVING]
        if service.role == "quorum":
            members = sum(g.size for g in groups if g.mode != lay.ABSENT)
            if sum(g.size for g in serving) < members // 2 + 1:
                return 0.0
        if self.layout.leading[s] and not split:
            serving = [g for g in serving if leader is not None and g.group == self.layout.group[leader]]
        shares: dict[float, int] = {}
        for g in serving:
            shares[g.factor] = shares.get(g.factor, 0) + g.size
        if not any(shares):
            return 0.0
        if service.capacity_per_s is None:
            return math.inf
        if service.balancing == "even" and not split:
            return service.capacity_per_s * min(shares) * sum(shares.values())
        return math.fsum(service.capacity_per_s * factor * shares[factor] for factor in sorted(shares))

    def _after_losses(
        self, groups: list[Group], leaders: list[int | None], capacities: list[float], split: Set[int] = frozenset()
    ) -> list[tuple[Losable, float]]:
        """C after the loss of one machine, failover settled, for each machine (or one of like ones) with something serving."""
        single: list[tuple[Losable, list[Group]]] = []
        shared: dict[int, list[Group]] = {}
        for g in groups:
            machine = self.layout.group_machine[g.group]
            if g.mode != SERVING:
                continue
            if machine is None:
                single.append((("group", g.group), [g]))
            else:
                shared.setdefault(machine, []).append(g)
        lost = single + [(("machine", machine), here) for machine, here in shared.items()]
        return [(name, self._front_door(self._without(gone, groups, leaders, capacities, split))) for name, gone in lost]

    def _without(
        self, gone: list[Group], groups: list[Group], leaders: list[int | None], capacities: list[float], split: Set[int]
    ) -> list[float]:
        """Cap of every service when one instance of each group in *gone* is out and a new leader has been found."""
        left = [g for g in groups if g not in gone]
        for g in gone:
            left += [g._replace(size=g.size - 1)] * (g.size > 1) + [g._replace(mode=OUT, size=1)]

        def settled(s: int, among: list[Group]) -> tuple[float, int | None]:
            here = [g for g in among if self.layout.group_service[g.group] == s]
            leader = self._next_leader(s, here, leaders[s])
            return self._capacity(s, here, leader, s in split), leader

        after, leaderless = capacities.copy(), set()
        for s in {self.layout.group_service[g.group] for g in gone}:
            after[s], leader = settled(s, left)
            if leader != leaders[s]:
                leaderless.add(s)
        for s, store in self._electing:
            if settled(store, left)[0] == 0 and (s in leaderless or settled(store, groups)[0] > 0):
                after[s] = 0.0  # its lease runs out, or nobody can be elected
        return after

    def _next_leader(self, s: int, groups: list[Group], leader: int | None) -> int | None:
        if not self.layout.leading[s]:
            return None
        serving = {g.group for g in groups if g.mode == SERVING}
        if leader is not None and self.layout.group[leader] in serving:
            return leader
        service = self.layout.services[s]
        if service.role == "datastore" and service.failover == "manual":
            return leader
        able = [i for i in self.layout.members[s] if self.layout.group[i] in serving]
        if service.election.prefer == "upgraded":
            upgraded = {g.group for g in groups if g.mode == SERVING and g.version != self._start_version(g.group)}
            able.sort(key=lambda i: self.layout.group[i] not in upgraded)
        return able[0] if able else None

    def _start_version(self, group: int) -> str | int:
        return self.layout.conditions[self.layout.group_start[group]].version

    def _one_loss_too_many(self, groups: list[Group], state: State, capacities: list[float], demand: float) -> bool:
        """Whether one more loss takes C below the demand, counting only losses that the start state would have borne.

        A machine that served nothing at the start could have been lost there.
        """
        after = self._after_losses(groups, state.leaders, capacities, state.split)
        start = self._front_door(self._start)
        return any(c < demand and self._borne.get(name, start) >= demand for name, c in after)

    def _serving_versions(self, groups: list[Group]) -> list[set[str | int]]:
        versions: list[set[str | int]] = [set() for _ in self.layout.services]
        for g in groups:
            if g.mode == SERVING:
                versions[self.layout.group_service[g.group]].add(g.version)
        return versions

    def _clashes(self, versions: list[set[str | int]], state: State) -> bool:
        """Whether a serving caller meets a serving callee's version, or a schema, that it does not accept."""
        for caller, callee in self._calls:
            accepts = self.layout.services[caller].accepts
            found = {str(state.schemas[callee])} if callee in state.schemas and versions[callee] else {str(v) for v in versions[callee]}
            for version in versions[caller]:
                accepted = accepts.get(str(version), {}).get(self.layout.service_names[callee])
                if accepted is not None and not found <= set(accepted):
                    return True
        return False

    def _observed(self, groups: list[Group]) -> set[int]:
        """The services that some serving monitor observes."""
        observed: set[int] = set()
        for g in groups:
            service = self.layout.services[self.layout.group_service[g.group]]
            if g.mode == SERVING and service.role == "monitoring":
                watched = service.observes if service.observes is not None else self.layout.service_names
                observed.update(self.layout.service_index[w] for w in watched)
        return observed

    def _changes_unobserved(self, state: State, observed: set[int]) -> bool:
        for name, _, _ in self.layout.signature.counts(state.signature):
            if isinstance(name, tuple) and name[0] == "running":
                here = [self.layout.service_of[i] for i in self.layout.on_machine[name[1]]]
                if here and not observed.intersection(here):
                    return True
        return False

    def _allocated(self, groups: list[Group]) -> float:
        """Machines that are paid for: not hosted, and with an instance that is not absent (or without any)."""
        layout = self.layout
        alone = sum(
            g.size for g in groups if layout.group_machine[g.group] is None and g.mode != lay.ABSENT and not layout.group_hosted[g.group]
        )
        shared = {layout.group_machine[g.group] for g in groups if layout.group_machine[g.group] is not None and g.mode != lay.ABSENT}
        machines = layout.plan.environment.machines
        bare = sum(not on for on, m in zip(layout.on_machine, machines, strict=True) if not m.hosted)
        return float(alone + sum(not machines[m].hosted for m in shared if m is not None) + bare)

    def _divergent(self, state: State, served_per_s: float) -> float:
        """Writes per second of the split stores that take writes, by their stated rate or one for each request served."""
        stores = [self.layout.services[s].store for s in state.split if state.takes_writes(s)]
        rates = [None if store is None else store.writes_per_s for store in stores]
        return math.fsum(served_per_s if rate is None else rate for rate in rates)

    def held(self, i: int, before: Before) -> float:
        """How many requests the instance at position *i* holds in the state *before*: its load x its service's mean hold (Little's law)."""
        s = self.layout.service_of[i]
        hold = self.layout.services[s].hold
        facts = self.facts[before.facts]
        name = (before.signature, self.layout.group[i], before.codes[i])
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = self._share(s, i, before)
        served_per_s = min(facts.demand * facts.error_free, facts.capacity) * self._visits[s]
        return served_per_s * share * (hold.mean_s if hold is not None else 0.0)

    def _share(self, s: int, i: int, before: Before) -> float:
        """What share of its service's requests the instance at position *i* takes."""
        alone = self.layout.leading[s] and s not in before.split
        takers = [j for j in self.layout.members[s] if not alone or j == before.leaders[s]]
        conditions = {j: self.layout.conditions[before.codes[j]] for j in takers}
        factors = {j: c.factor for j, c in conditions.items() if c.mode == SERVING}
        if i not in factors or not any(factors.values()):
            return 0.0
        even = self.layout.services[s].balancing == "even" and s not in before.split
        return 1 / len(factors) if even else factors[i] / math.fsum(factors.values())

    def _error_free(self, groups: list[Group], bad: bool) -> float:
        """Share of requests that meet neither a dead instance (d of n in the pool, without retry) nor a bad release.

        Product over the critical services s of (1 - d/n)^V(s), and of (1 - errors x share of changed instances)^V(s).
        """
        share = 1.0
        for s in self._critical:
            here = [g for g in groups if self.layout.group_service[g.group] == s]
            dead = sum(g.size for g in here if g.mode == DEAD)
            serving = sum(g.size for g in here if g.mode == SERVING)
            if dead and not self._redispatch[s]:
                share *= (1 - dead / (dead + serving)) ** self._visits[s]
            if bad and serving and s in self._changed:
                changed = sum(g.size for g in here if g.mode == SERVING and g.version != self._start_version(g.group))
                share *= (1 - self.layout.plan.release.error_share * changed / serving) ** self._visits[s]
        return share
