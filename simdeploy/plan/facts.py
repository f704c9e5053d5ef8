"""What a state costs: capacity, demand, and what users and operators would notice of it.

Everything here is a function of the counts behind a state's signature, the leaders and the demand, so each
distinct state is worked out once and then looked up.
"""

from __future__ import annotations

import math
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
    error_free_if_good: float
    """The same, were no release bad."""
    steady: float
    """C of the steady state [req/s]."""
    is_single_fault: float
    is_skewed: float
    is_incompatible: float
    is_blind: float
    is_unobserved: float
    machines: float
    """Allocated machines."""


class Group(NamedTuple):
    """Like instances in one condition."""

    group: int
    mode: int
    version: str | int
    factor: float
    size: int


def _group(group: int, condition: tuple[int, str | int, float], size: int) -> Group:
    return Group(group, *condition, size)


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
        self._bad_versions: dict[frozenset[int], frozenset[tuple[int, str | int]]] = {}
        self._visits = [env.visits[s] for s in layout.service_names]
        self._critical = [layout.service_index[s] for s in env.critical]
        self._monitors = [s for s, service in enumerate(layout.services) if service.role == "monitoring"]
        self._redispatch = [s.retry == "redispatch" for s in layout.services]
        self._calls = [(layout.service_index[u], layout.service_index[v]) for u, v in env.calls.edges]
        self.steady = 0.0
        self._start = self._capacities(self._groups_at_start(), layout.start_leaders)
        self._borne = dict(self._after_losses(self._groups_at_start(), layout.start_leaders, self._start))
        stated = layout.plan.steady_capacity_per_s
        self.steady = stated if stated is not None else self._front_door(self._start)

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
        return [_group(g, layout.conditions[layout.group_start[g]], counts[g]) for g in counts]

    def _work_out(self, state: State, bad: frozenset[int]) -> Facts:
        layout = self.layout
        groups = [_group(g, met, n) for g, met, n in layout.signature.counts(state.signature) if isinstance(g, int)]
        demand = state.demand_per_s if state.open else 0.0
        capacities = self._capacities(groups, state.leaders)
        capacity = self._front_door(capacities) if state.open else 0.0
        at_risk = demand > 0 and (capacity < demand or self._one_loss_too_many(groups, state, capacities, demand))
        versions = self._serving_versions(groups)
        observed = self._observed(groups)
        error_free = self._error_free(groups)
        return Facts(
            capacity=capacity,
            demand=demand,
            error_free=error_free * self._unspoilt(groups, self.bad_versions(bad)) if bad else error_free,
            error_free_if_good=error_free,
            steady=self.steady,
            is_single_fault=float(at_risk),
            is_skewed=float(any(len(v) > 1 for v in versions)),
            is_incompatible=float(self._clashes(versions, state)),
            is_blind=float(
                bool(self._monitors) and any(versions[s] and s not in observed for s in range(len(versions)) if s not in self._monitors)
            ),
            is_unobserved=float(self._changes_unobserved(state, observed)),
            machines=self._allocated(groups),
        )

    def _front_door(self, capacities: list[float]) -> float:
        """The bottleneck law: min over the critical services of Cap(s) / V(s) (Denning & Buzen 1978)."""
        return min((capacities[s] / self._visits[s] for s in self._critical if self._visits[s] > 0), default=math.inf)

    def _capacities(self, groups: list[Group], leaders: list[int | None]) -> list[float]:
        """Cap(s) of every service [req/s of its own], in the order of services."""
        by_service: list[list[Group]] = [[] for _ in self.layout.services]
        for group in groups:
            by_service[self.layout.group_service[group.group]].append(group)
        return [self._capacity(s, here, leaders[s]) for s, here in enumerate(by_service)]

    def _capacity(self, s: int, groups: list[Group], leader: int | None) -> float:
        """Cap of one service, by its role. Summed by factor in rising order, so that equal states have equal bits."""
        service = self.layout.services[s]
        serving = [g for g in groups if g.mode == SERVING]
        if service.role == "quorum":
            members = sum(g.size for g in groups if g.mode != lay.ABSENT)
            if sum(g.size for g in serving) < members // 2 + 1:
                return 0.0
        if self.layout.leading[s]:
            serving = [g for g in serving if leader is not None and g.group == self.layout.group[leader]]
        shares: dict[float, int] = {}
        for g in serving:
            shares[g.factor] = shares.get(g.factor, 0) + g.size
        if not any(shares):
            return 0.0
        if service.capacity_per_s is None:
            return math.inf
        if service.balancing == "even":
            return service.capacity_per_s * min(shares) * sum(shares.values())
        return math.fsum(service.capacity_per_s * factor * shares[factor] for factor in sorted(shares))

    def _after_losses(self, groups: list[Group], leaders: list[int | None], capacities: list[float]) -> list[tuple[Losable, float]]:
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
        return [(name, self._front_door(self._without(gone, groups, leaders, capacities))) for name, gone in lost]

    def _without(self, gone: list[Group], groups: list[Group], leaders: list[int | None], capacities: list[float]) -> list[float]:
        """Cap of every service when one instance of each group in *gone* is out and a new leader has been found."""
        left = [g for g in groups if g not in gone]
        for g in gone:
            left += [g._replace(size=g.size - 1)] * (g.size > 1) + [g._replace(mode=OUT, size=1)]
        after = capacities.copy()
        for s in {self.layout.group_service[g.group] for g in gone}:
            here = [g for g in left if self.layout.group_service[g.group] == s]
            after[s] = self._capacity(s, here, self._next_leader(s, here, leaders[s]))
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
        after = self._after_losses(groups, state.leaders, capacities)
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

    def _error_free(self, groups: list[Group]) -> float:
        """Share of requests that meet no dead instance: the product over the critical services s of (1 - d/n)^V(s).

        d of n are dead in the pool; with retry the factor is 1.
        """
        share = 1.0
        for s in self._critical:
            here = [g for g in groups if self.layout.group_service[g.group] == s]
            dead = sum(g.size for g in here if g.mode == DEAD)
            serving = sum(g.size for g in here if g.mode == SERVING)
            if dead and not self._redispatch[s]:
                share *= (1 - dead / (dead + serving)) ** self._visits[s]
        return share

    def _unspoilt(self, groups: list[Group], bad: frozenset[tuple[int, str | int]]) -> float:
        """Share of requests that meet no error of a bad release: the product of (1 - errors x share of bad instances)^V(s)."""
        share = 1.0
        for s in self._critical:
            here = [g for g in groups if g.mode == SERVING and self.layout.group_service[g.group] == s]
            spoilt = sum(g.size for g in here if (s, g.version) in bad)
            if spoilt:
                share *= (1 - self.layout.plan.release.error_share * spoilt / sum(g.size for g in here)) ** self._visits[s]
        return share
