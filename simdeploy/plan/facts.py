"""What a state costs: capacity, demand, and what users and operators would notice of it.

Everything here is a function of the counts behind a state's signature, the leaders and the demand, so each
distinct state is worked out once and then looked up.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any, NamedTuple

from simdeploy.plan import layout as lay
from simdeploy.plan.balancing import Group, Traffic, dead_share, one_share, pool_capacity, traffic
from simdeploy.plan.layout import OUT, SERVING, WRITTEN_OFF, Layout
from simdeploy.plan.state import State
from simdeploy.plan.watching import Watching


class Facts(NamedTuple):
    """One state at one demand. Rates are per second, `is_` facts are 0 or 1."""

    capacity: float
    """Front-door capacity C [req/s]."""
    demand: float
    """Offered L [req/s]; 0 before the doors open."""
    error_free: float
    """Share g of requests that meets no error."""
    error_free_if_good: float
    """The same, were no release bad."""
    steady: float
    """C of the steady state [req/s]."""
    is_single_fault: float
    is_skewed: float
    is_incompatible: float
    is_blind: float
    is_unchecked: float
    is_unobserved: float
    machines: float
    """Allocated machines."""
    divergent: float
    """Writes per second that split stores take on several sides."""


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
        self._known: dict[tuple[int, frozenset[int]], int] = {}
        self._shared_facts: dict[tuple[tuple[Any, ...], frozenset[int]], tuple[Facts, set[int]]] = {}
        self._bad_versions: dict[frozenset[int], frozenset[tuple[int, str | int]]] = {}
        self._shares: dict[tuple[int, int, int], float] = {}
        self._visits = [env.visits[layout.service_names[s]] for s in layout.pool_service]
        """Of each pool: those of its service."""
        self._critical = [layout.service_index[s] for s in env.critical]
        limiting = [s for s in self._critical if env.visits[layout.service_names[s]] > 0]
        pinned = [s for s in limiting if layout.service_names[s] in env.pinned]
        self._shared = [layout.regions[0][1][s] for s in limiting if s not in pinned]
        """The pools that limit the front door and are in no cell."""
        self._cells = [[pool_of[s] for s in pinned] for _, pool_of in layout.regions] if env.cells else []
        """Of each cell: the pools that limit it."""
        self._watching = Watching(layout)
        self._electing = [(s, store) for s, store in enumerate(layout.through) if store is not None]
        self._redispatch = [s.retry == "redispatch" for s in layout.services]
        callers = [u for u, service in env.services.items() if service.role != "monitoring"]  # it accepts what it has checks for
        picky = [(u, v) for u, v in env.calls.edges(callers) if any(v in callees for callees in env.services[u].accepts.values())]
        self._picky = [(layout.service_index[u], layout.service_index[v]) for u, v in picky]
        """(caller, callee) where some version of the caller does not accept all of the callee's."""
        self._spoiling = [
            (layout.service_index[u], layout.service_index[v])
            for u, v in picky
            if env.mixing == "errors"
            and u in env.critical
            and env.visits[u] * env.calls[u][v]["times"] > 0
            and env.calls[u][v]["dependency"] == "hard"
        ]
        """Those whose forbidden pairs fail the requests."""
        self.steady = 0.0
        self._start_versions = [layout.conditions[layout.start_codes[m[0]]].version for m in layout.members]
        pools = self._by_pool(self._groups_at_start())
        self._start = self._capacities(pools, layout.start_leaders)
        self._borne = dict(self._after_losses(pools, layout.start_leaders, self._start))
        stated = layout.plan.steady_capacity_per_s
        self.steady = stated if stated is not None else self._front_door(self._start)

    def borne_losses(self) -> dict[str, float]:
        """Machine that serves at the start -> the capacity that is left when it alone is lost, failover settled [req/s]."""
        layout, machines = self.layout, self.layout.plan.environment.machines
        found: dict[str, float] = {}
        for (kind, number), left in self._borne.items():
            if kind == "machine":
                found[machines[number].name] = left
            else:
                found |= {machines[layout.machine_of[i]].name: left for i, group in enumerate(layout.group) if group == number}
        return found

    def bad_versions(self, bad: frozenset[int]) -> frozenset[tuple[int, str | int]]:
        """The (service, version) that the parts of the plan in *bad* bring: 0 the main section, k the k-th forward round."""
        versions = self._bad_versions.get(bad)
        if versions is None:
            versions = self._bad_versions[bad] = frozenset(name for name, part in self.layout.brought.items() if part in bad)
        return versions

    def of(self, state: State, bad: frozenset[int]) -> int:
        """Where the facts of *state* stand in `facts`; *bad* are the parts of the plan that bring a bad release."""
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
        return [Group.of(g, layout.conditions[layout.group_start[g]], counts[g]) for g in counts]

    def _work_out(self, state: State, bad: frozenset[int]) -> Facts:
        """The facts of *state*; states that differ in what runs where alone share all but one of them."""
        counts = self.layout.signature.counts(state.signature)
        running = {subject[1] for subject, _, _ in counts if isinstance(subject, tuple) and subject[0] == "running"}
        others = tuple(c for c in counts if not (isinstance(c[0], tuple) and c[0][0] == "running"))
        known = self._shared_facts.get((others, bad))
        if known is None:
            known = self._shared_facts[others, bad] = self._work_out_shared(state, others, bad)
        facts, observed = known
        return facts._replace(is_unobserved=float(self._watching.changes_unobserved(running, observed)))

    def _work_out_shared(self, state: State, counts: tuple[Any, ...], bad: frozenset[int]) -> tuple[Facts, set[int]]:
        layout = self.layout
        groups = [Group.of(g, met, n) for g, met, n in counts if isinstance(g, int)]
        demand = state.demand_per_s if state.open else 0.0
        pools = self._by_pool(groups)
        capacities = self._capacities(pools, state.leaders, state.split)
        capacity = self._front_door(capacities) if state.open else 0.0
        at_risk = demand > 0 and (capacity < demand or self._one_loss_too_many(pools, state, capacities, demand))
        traffics = self._traffics(pools, state.leaders, state.split) if bad or self._picky else []
        if_good = self._error_free(pools, traffics, state, capacities, demand, frozenset())
        error_free = self._error_free(pools, traffics, state, capacities, demand, self.bad_versions(bad)) if bad else if_good
        versions = self._serving_versions(groups)
        observed = self._watching.observed(versions)
        facts = Facts(
            capacity=capacity,
            demand=demand,
            error_free=error_free,
            error_free_if_good=if_good,
            steady=self.steady,
            is_single_fault=float(at_risk),
            is_skewed=float(any(len(v) > 1 for v in versions)),
            is_incompatible=float(
                any(self._mixed(u, v, pool_of, traffics, state) for u, v in self._picky for _, pool_of in layout.regions)
            ),
            is_blind=float(self._watching.is_blind(versions, observed)),
            is_unchecked=float(self._watching.is_unchecked(versions, state.schemas)),
            is_unobserved=0.0,
            machines=self._allocated(groups) - sum(n for subject, n, _ in counts if subject == WRITTEN_OFF),
            divergent=self._divergent(state, min(demand * error_free, capacity)),
        )
        return facts, observed

    def _front_door(self, capacities: list[float]) -> float:
        """The bottleneck law: min over the critical services of Cap(s) / V(s) (Denning & Buzen 1978), summed over the cells."""
        shared = min((capacities[p] / self._visits[p] for p in self._shared), default=math.inf)
        return min(shared, math.fsum(self._cell_capacities(capacities))) if self._cells else shared

    def _cell_capacities(self, capacities: list[float]) -> list[float]:
        """C of each cell [req/s], by what is pinned to it."""
        return [min((capacities[p] / self._visits[p] for p in cell), default=math.inf) for cell in self._cells]

    def _by_pool(self, groups: list[Group]) -> list[list[Group]]:
        pools: list[list[Group]] = [[] for _ in self.layout.pool_service]
        for group in groups:
            pools[self.layout.group_pool[group.group]].append(group)
        return pools

    def _capacities(self, pools: list[list[Group]], leaders: list[int | None], split: Set[int] = frozenset()) -> list[float]:
        """Cap of every pool [req/s of its own service]; of a *split* store all members serve."""
        return [self._capacity(s, pool, leaders[s], s in split) for s, pool in zip(self.layout.pool_service, pools, strict=True)]

    def _capacity(self, s: int, pool: list[Group], leader: int | None, split: bool) -> float:
        """Cap of one pool of the service; nobody shares the requests of a split store out among its sides."""
        even = self.layout.services[s].balancing == "even" and not split
        return pool_capacity(self.layout.services[s], self._taking(s, pool, leader, split), even)

    def _taking(self, s: int, pool: list[Group], leader: int | None, split: bool) -> list[Group]:
        """Who of a pool of the service takes requests, by its role."""
        serving = [g for g in pool if g.mode == SERVING]
        if self.layout.services[s].role == "quorum":
            members = sum(g.size for g in pool if g.mode != lay.ABSENT)
            if sum(g.size for g in serving) < members // 2 + 1:
                return []
        if self.layout.leading[s] and not split:
            serving = [g for g in serving if leader is not None and g.group == self.layout.group[leader]]
        return serving

    def _traffics(self, pools: list[list[Group]], leaders: list[int | None], split: Set[int]) -> list[Traffic]:
        """How the requests of every pool divide among versions."""
        services = self.layout.pool_service
        return [
            traffic(self.layout.services[s], self._taking(s, pool, leaders[s], s in split)) for s, pool in zip(services, pools, strict=True)
        ]

    def _after_losses(
        self, pools: list[list[Group]], leaders: list[int | None], capacities: list[float], split: Set[int] = frozenset()
    ) -> list[tuple[Losable, float]]:
        """C after the loss of one machine, failover settled, for each machine (or one of like ones) with something serving."""
        single: list[tuple[Losable, list[Group]]] = []
        shared: dict[int, list[Group]] = {}
        for g in (g for pool in pools for g in pool):
            machine = self.layout.group_machine[g.group]
            if g.mode != SERVING:
                continue
            if machine is None:
                single.append((("group", g.group), [g]))
            else:
                shared.setdefault(machine, []).append(g)
        lost = single + [(("machine", machine), here) for machine, here in shared.items()]
        return [(name, self._front_door(self._without(gone, pools, leaders, capacities, split))) for name, gone in lost]

    def _without(
        self, gone: list[Group], pools: list[list[Group]], leaders: list[int | None], capacities: list[float], split: Set[int]
    ) -> list[float]:
        """Cap of every pool when one instance of each group in *gone* is out and a new leader has been found."""

        def without(p: int) -> list[Group]:
            left = [g for g in pools[p] if g not in gone]
            for g in (g for g in gone if self.layout.group_pool[g.group] == p):
                left += [g._replace(size=g.size - 1)] * (g.size > 1) + [g._replace(mode=OUT, size=1)]
            return left

        def settled(p: int, pool: list[Group]) -> tuple[float, int | None]:
            s = self.layout.pool_service[p]
            leader = self._next_leader(s, pool, leaders[s])
            return self._capacity(s, pool, leader, s in split), leader

        after, leaderless = capacities.copy(), set()
        for p in {self.layout.group_pool[g.group] for g in gone}:
            after[p], leader = settled(p, without(p))
            if leader != leaders[self.layout.pool_service[p]]:
                leaderless.add(p)
        pool_of = self.layout.regions[0][1]  # what has a leader is in no cell, so it has one pool
        for s, store in ((pool_of[s], pool_of[store]) for s, store in self._electing):
            if settled(store, without(store))[0] == 0 and (s in leaderless or settled(store, pools[store])[0] > 0):
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
            upgraded = {g.group for g in groups if g.mode == SERVING and g.version != self._start_versions[s]}
            able.sort(key=lambda i: self.layout.group[i] not in upgraded)
        return able[0] if able else None

    def _one_loss_too_many(self, pools: list[list[Group]], state: State, capacities: list[float], demand: float) -> bool:
        """Whether one more loss takes C below the demand, counting only losses that the start state would have borne.

        A machine that served nothing at the start could have been lost there.
        """
        after = self._after_losses(pools, state.leaders, capacities, state.split)
        start = self._front_door(self._start)
        return any(c < demand and self._borne.get(name, start) >= demand for name, c in after)

    def _serving_versions(self, groups: list[Group]) -> list[set[str | int]]:
        versions: list[set[str | int]] = [set() for _ in self.layout.services]
        for g in groups:
            if g.mode == SERVING:
                versions[self.layout.group_service[g.group]].add(g.version)
        return versions

    def _mixed(self, u: int, v: int, pool_of: list[int], traffics: list[Traffic], state: State) -> float:
        """Share of the calls of service *u* to *v* between versions that do not go together, among the pools of one cell.

        The share p_u x p_v of them is between a version of u and one of v; a store that serves has one schema.
        """
        callers, callees = traffics[pool_of[u]], traffics[pool_of[v]]
        calling, called = math.fsum(callers.values()), math.fsum(callees.values())
        if not calling or not called:
            return 0.0
        if v in state.schemas:
            callees = {state.schemas[v]: called}
        accepts, name = self.layout.services[u].accepts, self.layout.service_names[v]
        refused = [
            n / calling * (m / called)
            for version, n in callers.items()
            if (accepted := accepts.get(str(version), {}).get(name)) is not None
            for other, m in callees.items()
            if str(other) not in accepted
        ]
        return math.fsum(refused)

    def _allocated(self, groups: list[Group]) -> float:
        """Machines that are paid for, dead or alive: those with an instance that is not absent, and those that are whatever is on them."""
        layout = self.layout
        used = [g for g in groups if g.mode != lay.ABSENT and layout.group_paid[g.group]]
        alone = sum(g.size for g in used if layout.group_machine[g.group] is None)
        shared = {layout.group_machine[g.group] for g in used} - {None}
        return float(alone + len(shared) + sum(layout.paid_always))

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
        served_per_s = min(facts.demand * facts.error_free, facts.capacity) * self._visits[self.layout.group_pool[self.layout.group[i]]]
        return served_per_s * share * (hold.mean_s if hold is not None else 0.0)

    def _share(self, s: int, i: int, before: Before) -> float:
        """What share of its service's requests the instance at position *i* takes."""
        groups = [Group.of(g, met, n) for g, met, n in self.layout.signature.counts(before.signature) if isinstance(g, int)]
        pools, p = self._by_pool(groups), self.layout.group_pool[self.layout.group[i]]
        condition = self.layout.conditions[before.codes[i]]
        taking = self._taking(s, pools[p], before.leaders[s], s in before.split)
        if condition.mode != SERVING or (self.layout.leading[s] and s not in before.split and i != before.leaders[s]):
            return 0.0
        cells = [k for k, (_, pool_of) in enumerate(self.layout.regions) if pool_of[s] == p] if self._cells else []
        part = 1.0
        if len(cells) == 1:
            capacities = self._capacities(pools, before.leaders, before.split)
            shares, limits = self._cell_shares(pools, capacities), self._cell_capacities(capacities)
            demand = self.facts[before.facts].demand
            served = [min(demand * share, limit) for share, limit in zip(shares, limits, strict=True)]
            part = served[cells[0]] / math.fsum(served) if any(served) else 0.0
        even = self.layout.services[s].balancing == "even" and s not in before.split
        return part * one_share(condition.factor, condition.weight, taking, even)

    def _error_free(
        self,
        pools: list[list[Group]],
        traffics: list[Traffic],
        state: State,
        capacities: list[float],
        demand: float,
        bad: frozenset[tuple[int, str | int]],
    ) -> float:
        """Share of requests that meet no error while the versions *bad* are bad.

        Product over the critical services s of (1 - d/n)^V(s) for the share d/n that meets a dead instance (without retry), of
        (1 - errors x share of bad versions)^V(s) and, with `mixing: errors`, of 1 - the share of each call that mixing spoils.
        """
        layout = self.layout
        shares = []
        for _, pool_of in layout.regions:
            share = 1.0
            for s in self._critical:
                p = pool_of[s]
                if not self._redispatch[s] and (dead := dead_share(pools[p])):
                    share *= (1 - dead) ** self._visits[p]
                if bad and (spoilt := math.fsum(n for version, n in traffics[p].items() if (s, version) in bad)):
                    share *= (1 - layout.plan.release.error_share * spoilt / math.fsum(traffics[p].values())) ** self._visits[p]
            for u, v in self._spoiling:
                share *= max(0.0, 1 - self._mixed(u, v, pool_of, traffics, state))
            shares.append(share)
        return self._through_cells(shares, pools, capacities, demand) if self._cells else shares[0]

    def _through_cells(self, error_free: list[float], pools: list[list[Group]], capacities: list[float], demand: float) -> float:
        """Share of the demand that meets no error and no cell that is dead or full.

        Counted from what is lost, so that nothing is lost where nothing is.
        """
        cells = zip(self._cell_shares(pools, capacities), error_free, self._cell_capacities(capacities), strict=True)
        return 1 - math.fsum(share - (share * g if demand * share * g <= limit else limit / demand) for share, g, limit in cells)

    def _cell_shares(self, pools: list[list[Group]], capacities: list[float]) -> list[float]:
        """Of each cell: its share of the demand. With `reroute` none goes to a cell that is known to be dead."""
        shares = [share for share, _ in self.layout.regions]
        if not self.layout.plan.environment.reroute:
            return shares
        living = [0.0 if self._is_known_dead(k, pools, capacities) else share for k, share in enumerate(shares)]
        total = math.fsum(living)
        return [share / total for share in living] if total else shares

    def _is_known_dead(self, cell: int, pools: list[list[Group]], capacities: list[float]) -> bool:
        """Whether the cell lacks a service of which no instance is dead in the pool, where it would still get requests."""
        return any(capacities[p] <= 0 and not dead_share(pools[p]) for p in self._cells[cell])
