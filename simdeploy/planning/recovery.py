"""Recovery: what a disruption takes, what survives it, and by which way each store comes back."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from simdeploy.environment.base import Frozen
from simdeploy.environment.durations import Duration
from simdeploy.environment.models import Environment, Service
from simdeploy.environment.models import Recovery as Procedure
from simdeploy.environment.names import Name
from simdeploy.environment.policy import Lose
from simdeploy.environment.stores import Backup, Copy, Standby, Store
from simdeploy.planning.base import Choice, Scenario
from simdeploy.units import BytesPerSecond

Way = Literal["restore", "promote"]


class Disruption(Frozen):
    """What is lost, at a random moment of the copies' schedules."""

    lose: Lose
    """application: something wrong is written to a store and noticed later; machine, zone: it dies with all that is on it;
    everything: every machine that is not hosted by a provider."""
    which: Name | None = None
    """The machine or zone; by default that of the first datastore's primary."""


class RecoveryStrategy(Choice):
    """One way to be protected, and to recover."""

    copies: tuple[Copy, ...] | None = None
    """How the stores are protected in this strategy, instead of what the environment says. A standby that the environment has
    no machine for gets one beside the primary, which is there from the start."""
    restore_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="restore_rate", gt=0)
    """How fast a copy of the stores is read back in this strategy, instead of what the environment says."""
    replay_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="replay_rate", gt=0)
    """How fast their log is replayed in this strategy, instead of what the environment says."""
    standby_zone: Name = "same"
    """Where such a machine stands: same = in the zone of the primary; other = in the first other one; or the name of a zone."""
    by: Way | None = None
    """restore: the newest copy on a new machine; promote: a standby takes over. By default promote where one survives that can
    help, else restore."""
    spares: int = Field(default=0, ge=0)
    """How many machines stand by, so that they need not be allocated; they are paid for."""


class RecoveryScenario(Scenario):
    """What every recovery says of the disruption, and of the people who answer it."""

    disruption: Disruption
    """What is lost."""
    detect: Duration | None = None
    """Until somebody knows; by default as the environment's `recovery` says."""
    decide: Duration | None = None
    """From then until it is decided to recover, and how; by default as the environment's `recovery` says."""
    validation: Duration | None = Field(default=None, alias="validate")
    """How long it takes to look at what was recovered before it counts; by default as the environment's `recovery` says."""
    hands: int | None = Field(default=None, ge=1)
    """How many machines are allocated at once at most; by default as the environment's `recovery` says."""

    @property
    def stores(self) -> tuple[str, ...]:
        """The datastores that the strategies protect."""
        return datastores(self.environment)

    @property
    def notice(self) -> Duration | None:
        """Until somebody knows that a store holds something wrong."""
        return None

    @property
    def procedure(self) -> Procedure:
        """What the scenario says, and of the rest what the environment does."""
        return procedure(self.environment, self.notice or self.detect, self.decide, self.validation, self.hands)

    def case(self, strategy: str) -> Case:
        """What the disruption comes to under *strategy*."""
        return assess(self.environment, self.disruption, self.recoveries[strategy], self.stores, unseen_s(self.procedure))

    def described(self, strategy: str) -> str:
        """How the stores are protected under *strategy*, and how those that lose their primary come back."""
        return self.case(strategy).described

    @property
    def recoveries(self) -> dict[str, RecoveryStrategy]:
        """The strategies, as what they are."""
        return {name: one for name, one in self.strategies.items() if isinstance(one, RecoveryStrategy)}


class StoreCase(NamedTuple):
    """How one store that lost its primary comes back."""

    service: str
    primary: str
    heir: str
    """The instance that takes over: a standby, or the one on a new machine."""
    way: Way
    by_itself: bool
    """The standby takes over without anybody's doing."""
    standbys: tuple[str, ...]
    """Those that survive."""
    delayed: bool
    """The standbys apply what they get late, on purpose."""
    replays: bool
    """Log may have to be replayed before it takes over, or to a standby a backup read back, and it is known how fast that goes."""
    copy: str | None
    """The kind of copies that it comes from: a standby has its own data alone, unless a step brings it the best (None)."""


class Case(NamedTuple):
    """What a disruption comes to: what dies, what takes its place, and how each store comes back."""

    env: Environment
    """With the standbys of the strategy, and with the machines that take the place of lost ones."""
    lost: tuple[str, ...]
    """The machines that die."""
    corrupted: str | None
    """The store that holds something wrong."""
    new: dict[str, str]
    """Lost machine, of a corrupted store that of its primary -> the new one that takes its place."""
    absent: tuple[str, ...]
    """Instances that are not there at the start: on new machines, and members of stores that a strategy does without."""
    stores: dict[str, StoreCase]
    """The stores that lost their primary, or whose primary is not to be trusted."""
    unseen_s: float
    """How long it takes in the mean until somebody has decided what to do."""

    @property
    def described(self) -> str:
        """How the stores come back that lost their primary, and how many machines are new."""
        ways = [
            f"{one.heir} {'takes over' if one.by_itself else 'is promoted' if one.way == 'promote' else 'is restored'}"
            for one in self.stores.values()
        ]
        coming = len({self.env.instances[i][1] for s in self.env.services for i in self.rebuilt(s)})
        return "; ".join([*ways, f"{coming} new machine{'s' * (coming != 1)}"])

    def rebuilt(self, service: str) -> list[str]:
        """The instances of *service* on new machines that are needed before anything is validated, in canonical order."""
        if self.env.services[service].role == "datastore":
            return [one.heir for one in self.stores.values() if one.service == service and one.way == "restore"]
        names = set(self.env.services[service].on)
        return [f"{service}@{new}" for old, new in self.new.items() if old in names and old in self.lost]

    def reseeded(self, store: str) -> list[str]:
        """The instances of *store* on new machines that are filled anew once all is validated, in canonical order."""
        if "seed" not in self.env.services[store].actions:
            return []
        heir = self.stores[store].heir if store in self.stores else None
        members = [self.env.instances[i][1] for i in self.env.members(store) if i not in self.absent]
        return [new for m in members if m in self.lost and (new := f"{store}@{self.new[m]}") != heir]


def procedure(
    env: Environment, detect: Duration | None, decide: Duration | None, validation: Duration | None, hands: int | None
) -> Procedure:
    """What a scenario says of those who answer a loss, and of the rest what *env* does."""
    there = env.recovery
    return Procedure(
        detect=detect or there.detect,
        decide=decide or there.decide,
        validation=validation or there.validation,
        hands=hands or there.hands,
    )


def unseen_s(people: Procedure) -> float:
    """How long it takes in the mean until somebody has decided what to do [s]."""
    return sum(step.mean_s for step in (people.detect, people.decide) if step is not None)


def datastores(env: Environment) -> tuple[str, ...]:
    """The datastores of *env*, by their first machine."""
    found = [name for name, service in env.services.items() if service.role == "datastore"]
    return tuple(sorted(found, key=lambda n: (min((env.machine_index[m] for m in env.services[n].on), default=-1), n)))


def standbys_of(store: Store | None) -> list[Standby]:
    """The copies of *store* that follow its primary."""
    return [copy for copy in (store.copies if store else ()) if isinstance(copy, Standby)]


def lost_machines(env: Environment, disruption: Disruption, store: str | None = None) -> tuple[str, ...]:
    """The machines that die, in order; none where what is to be lost is not there. A hosted one is its provider's and survives.

    *store* is the one whose primary says what is lost where the disruption does not.
    """
    own = [m for m in env.machines if not m.hosted]
    first = next(iter(datastores(env)), None) if store is None else store
    home = env.instances[env.leader_of(first)][1] if first is not None else None
    match disruption.lose:
        case "application":
            return ()
        case "machine":
            return tuple(m.name for m in own if m.name == (disruption.which or home))
        case "zone":
            zone = disruption.which or next((m.zone for m in own if m.name == home), None)
            return tuple(m.name for m in own if m.zone is not None and m.zone == zone)
        case "everything":
            return tuple(m.name for m in own)


def zones(env: Environment) -> list[str]:
    """The zones in which machines stand that are not hosted, in the order of the list of machines."""
    return list(dict.fromkeys(m.zone for m in env.machines if m.zone is not None and not m.hosted))


def assess(env: Environment, disruption: Disruption, strategy: RecoveryStrategy, stores: Sequence[str], unseen_s: float = 0.0) -> Case:
    """What *disruption* comes to where *stores* are protected as *strategy* says; sound where no rule of recovery is broken.

    It takes *unseen_s* in the mean until somebody has decided what to do.
    """
    store = stores[0] if len(stores) == 1 else None
    corrupted = stores[0] if disruption.lose == "application" else None
    lost = lost_machines(env, disruption, store)
    taken = _on(env, lost)
    if corrupted is not None:
        taken = {env.instances[env.leader_of(corrupted)][1]: [corrupted]}
    whole, new = beside(env, taken, "new", lost)
    whole, followers, without = _protected(whole, strategy, [s for s in stores if s in env.services], env)
    gone = [
        m for m in followers if disruption.lose == "everything" or (disruption.lose == "zone" and _zone(whole, m) == _zone(env, lost[0]))
    ]
    whole, further = beside(whole, {m: [followers[m]] for m in gone}, "new", [*lost, *gone])
    return _case(env, whole, (*lost, *gone), corrupted, new | further, without, strategy.by, unseen_s)


def after_loss(env: Environment, lost: Sequence[str], unseen_s: float) -> Case:
    """What the loss of these machines comes to as everything is protected now; otherwise like `assess`."""
    whole, new = beside(env, _on(env, lost), "new", lost)
    return _case(env, whole, tuple(lost), None, new, (), None, unseen_s)


def _on(env: Environment, machines: Sequence[str]) -> dict[str, list[str]]:
    """Those of *machines* on which anything runs -> the services."""
    found = {m: [n for n, s in env.services.items() if m in s.on] for m in machines}
    return {m: services for m, services in found.items() if services}


def _case(
    env: Environment,
    whole: Environment,
    lost: tuple[str, ...],
    corrupted: str | None,
    new: dict[str, str],
    without: Sequence[str],
    by: Way | None,
    unseen_s: float,
) -> Case:
    """What it comes to where *env* has become *whole* with its new machines, and the members *without* are done without."""
    absent = [*without, *(i for i, (_, machine) in whole.instances.items() if machine in new.values())]
    cases: dict[str, StoreCase] = {}
    for name in datastores(env):
        if name == corrupted or env.instances[env.leader_of(name)][1] in lost:
            cases[name] = case = _store_case(whole, name, by, lost, new, absent, name == corrupted, unseen_s)
            if case.delayed or name == corrupted:  # who is behind, or may hold what is wrong, is not elected
                services = {**whole.services, name: whole.services[name].model_copy(update={"failover": "manual"})}
                whole = whole.model_copy(update={"services": services})
    return Case(whole, lost, corrupted, new, tuple(absent), cases, unseen_s)


def _zone(env: Environment, machine: str) -> str | None:
    return env.machines[env.machine_index[machine]].zone


def beside(
    env: Environment, taken: Mapping[str, Sequence[str]], suffix: str, lost: Collection[str], zone: str | None = None
) -> tuple[Environment, dict[str, str]]:
    """*env* with a new machine for each of those *taken* -> the services on it, in the same cell; (it, old machine -> new one).

    It stands in *zone*, by default where the old one stands; where all of that zone is *lost* in the other zones in turn, and
    where there is none left in none.
    """
    known = {m.name for m in env.machines}
    left = [z for z in zones(env) if any(m.zone == z and not m.hosted and m.name not in lost for m in env.machines)]
    machines, services, new = list(env.machines), dict(env.services), dict[str, str]()
    for old, names in taken.items():
        name = f"{old[: 62 - len(suffix)]}-{suffix}"
        while name in known:
            name = f"n{name[:62]}"
        known.add(name)
        there = _zone(env, old)
        place = zone or (there if there is None or there in left else left[len(new) % len(left)] if left else None)
        machines.append(env.machines[env.machine_index[old]].model_copy(update={"name": name, "zone": place}))
        for service in names:
            services[service] = services[service].model_copy(update={"on": (*services[service].on, name)})
        new[old] = name
    cells = {n: cell.model_copy(update={"on": (*cell.on, *(new[m] for m in cell.on if m in new))}) for n, cell in env.cells.items()}
    return env.model_copy(update={"machines": tuple(machines), "services": services, "cells": cells}), new


def _protected(
    env: Environment, strategy: RecoveryStrategy, stores: Sequence[str], before: Environment
) -> tuple[Environment, dict[str, str], list[str]]:
    """*env* with the copies and rates of *strategy*: (it, machine of a standby that is new -> its store, members that are done without)."""
    followers: dict[str, str] = {}
    without: list[str] = []
    said = {key: value for key in ("copies", "restore_bytes_per_s", "replay_bytes_per_s") if (value := getattr(strategy, key)) is not None}
    for name in stores if said else ():
        store = (env.services[name].store or Store()).model_copy(update=said)
        others = [i for i in before.members(name) if i != before.leader_of(name)]
        env = env.model_copy(update={"services": {**env.services, name: env.services[name].model_copy(update={"store": store})}})
        if strategy.copies is None:
            continue
        if not standbys_of(store):
            without += others
        elif not others:
            home = before.instances[before.leader_of(name)][1]
            env, made = beside(env, {home: [name]}, "standby", (), _standby_zone(before, strategy.standby_zone, home))
            followers[made[home]] = name
    return env, followers, without


def _standby_zone(env: Environment, wanted: str, home: str) -> str | None:
    """The zone in which a standby of a primary on *home* stands; None = beside it."""
    if wanted == "other":
        return next((z for z in zones(env) if z != _zone(env, home)), None)
    return None if wanted == "same" else wanted


def _store_case(
    env: Environment,
    name: str,
    by: Way | None,
    lost: Collection[str],
    new: Mapping[str, str],
    absent: Collection[str],
    corrupted: bool,
    unseen_s: float,
) -> StoreCase:
    """How the store *name* comes back, which has lost its primary or (corrupted) cannot trust it."""
    service, primary = env.services[name], env.leader_of(name)
    standbys = tuple(i for i in env.members(name) if i != primary and i not in absent and env.instances[i][1] not in lost)
    delay_s = max((copy.delay_s for copy in standbys_of(service.store)), default=0.0)
    helps = bool(standbys) and (not corrupted or delay_s > unseen_s)
    way: Way = by or ("promote" if helps else "restore")
    heir = standbys[0] if way == "promote" and standbys else f"{name}@{new[env.instances[primary][1]]}"
    by_itself = way == "promote" and service.failover == "automatic" and not delay_s and not corrupted
    store = service.store or Store()
    rates = store.log_bytes_per_s is not None and store.replay_bytes_per_s is not None
    brought = way == "promote" and _is_brought(service, store, rates, corrupted)
    copy = "backup" if way == "restore" else None if brought or corrupted else "standby"
    return StoreCase(
        name, primary, heir, way, by_itself, standbys, delay_s > 0, brought or (rates and (way == "restore" or delay_s > 0)), copy
    )


def _is_brought(service: Service, store: Store, rates: bool, corrupted: bool) -> bool:
    """Whether other copies may hold what a standby lacks, and it is known of all of them how long it takes to bring that to it.

    A backup is read back, the log of an archive is replayed at its *rates*.
    """
    behind_s = math.inf if corrupted else min((copy.lag_s for copy in standbys_of(store)), default=0.0)
    newer = [copy for copy in store.copies if not isinstance(copy, Standby) and copy.newest_s < behind_s]
    read_back = service.read_back_s is not None
    return bool(newer) and all(read_back if isinstance(copy, Backup) else rates for copy in newer)
