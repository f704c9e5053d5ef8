"""The rules of a recovery: what must be there to lose, to recover from, and to recover with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simdeploy.environment.models import Environment
from simdeploy.environment.names import did_you_mean
from simdeploy.environment.protection import shared_fate
from simdeploy.environment.stores import Backup, Copy, LogArchive, Standby
from simdeploy.errors import Path, Problem
from simdeploy.planning.recovery import (
    Case,
    Disruption,
    RecoveryScenario,
    RecoveryStrategy,
    StoreCase,
    datastores,
    lost_machines,
    standbys_of,
    zones,
)
from simdeploy.tables import listed
from simdeploy.units import format_s

CASES = 400
"""Into so many equally likely parts each distribution is cut where two are added."""


def recovery_problems(scenario: RecoveryScenario) -> Iterator[Problem]:
    """Every rule that a recovery breaks; the disruption's own come alone, since nothing can be said of the rest without it."""
    env = scenario.environment
    for key, said in (("detect", "detect"), ("decide", "decide"), ("validate", "validation")):
        if getattr(scenario.procedure, said) is None:
            message = f"nothing says how long it takes to {key}"
            yield Problem((), f"{message}; write {key!r} here, or under 'recovery' in the environment")
    found = list(disruption_problems(env, scenario.disruption, scenario.stores))
    yield from found
    if found:
        return
    for name, strategy in scenario.recoveries.items():
        where: Path = ("strategies", name)
        wrong = list(_strategy_problems(env, strategy, where))
        yield from wrong
        if not wrong:
            case = scenario.case(name)
            yield from case_problems(case, strategy, _lost(case, scenario.disruption), where)
            yield from _policy_problems(scenario, case, strategy, where)


def late_warnings(scenario: RecoveryScenario) -> Iterator[str]:
    """A sentence for each strategy that promotes a standby whose delay is over in one case of twenty, or more, before it is noticed."""
    steps = (scenario.procedure.detect, scenario.procedure.decide)
    unseen_s = np.zeros(1)
    for step in steps:
        if step is not None:
            unseen_s = np.add.outer(unseen_s, step.inverse((np.arange(CASES) + 0.5) / CASES)).ravel()
    p95_s = float(np.quantile(unseen_s, 0.95, method="hazen"))
    for name in scenario.recoveries:
        case = scenario.case(name)
        store = case.stores.get(case.corrupted or "")
        if store is None or store.way != "promote":
            continue
        delay_s = max(copy.delay_s for copy in standbys_of(case.env.services[store.service].store))
        if delay_s <= p95_s:
            others = any(not isinstance(copy, Standby) for copy in _copies(case, store))
            then = "another copy is taken then, if one is left" if others else "all is lost then, since it has no other copy"
            share = 100 * np.mean(unseen_s >= delay_s)
            late = f"in about {share:.0f} % of the cases the standby of {store.service!r} has applied what is wrong"
            rule = f"its delay is {format_s(delay_s)}, and it takes {format_s(case.unseen_s)} in the mean and {format_s(p95_s)} at p95"
            yield f"{name}: {late}; {rule} to notice and decide; {then}: give it a delay of more than {format_s(p95_s)}"


def _policy_problems(scenario: RecoveryScenario, case: Case, strategy: RecoveryStrategy, where: Path) -> Iterator[Problem]:
    """A standby that the strategy counts on and that shares the fate of its primary, where the policy of the environment needs it not to.

    One that the environment states itself is a fault there.
    """
    for name in scenario.stores if strategy.copies is not None else ():
        machines = [case.env.instances[i][1] for i in case.env.members(name) if i not in case.absent]
        made = any(m not in scenario.environment.machine_index for m in machines)
        found = shared_fate(case.env, name, machines, "let standby_zone put it" if made else "put one")
        if found is not None:
            yield Problem((*where, "copies", found[0]), found[1])


def disruption_problems(env: Environment, disruption: Disruption, stores: Sequence[str]) -> Iterator[Problem]:
    """What is to be lost and is not there."""
    here: Path = ("disruption",)
    lose, which = disruption.lose, disruption.which
    own = [m.name for m in env.machines if not m.hosted]
    if lose in ("application", "everything"):
        if which is not None:
            yield Problem((*here, "which"), f"{which!r} says which machine or zone is lost, and lost is the {lose}; drop it")
    elif which is None and not stores:
        yield Problem(here, f"which {lose} is lost follows from a datastore, and there is none; name it under 'which'")
    elif lose == "machine" and which is not None and which not in own:
        hosted = any(m.name == which for m in env.machines)
        what = f"{which!r} is hosted, so that its provider replaces it" if hosted else f"{which!r} is no machine"
        yield Problem((*here, "which"), f"{what}; {did_you_mean(which, own)}")
    elif lose == "zone" and not zones(env):
        yield Problem(here, "no machine has a zone, so none can be lost; give machines their zone, or lose: everything")
    elif lose == "zone" and which is not None and which not in zones(env):
        yield Problem((*here, "which"), f"{which!r} is no zone of a machine that is not hosted; {did_you_mean(which, zones(env))}")
    elif not lost_machines(env, disruption, stores[0] if len(stores) == 1 else None):
        way_out = "name a machine under 'which'" if lose == "machine" else "name a zone under 'which'"
        yield Problem(here, f"the primary of {stores[0]!r} is on a machine that is hosted or has no zone; {way_out}")


def _strategy_problems(env: Environment, strategy: RecoveryStrategy, where: Path) -> Iterator[Problem]:
    """What a strategy says by itself and cannot mean here."""
    machines = [m.name for m in env.machines]
    for j, copy in enumerate(strategy.copies or ()):
        for key, known in (("on", machines), ("zone", zones(env))):
            kept = getattr(copy, key, None)
            if kept is not None and kept not in known:
                what = "machine" if key == "on" else "zone of a machine"
                yield Problem(
                    (*where, "copies", j, key), f"a {copy.kind} is kept in {kept!r}, which is no {what}; {did_you_mean(kept, known)}"
                )
    if strategy.copies is not None and not any(s.role == "datastore" for s in env.services.values()):
        yield Problem((*where, "copies"), "nothing is a datastore here, so there is nothing to copy; drop the copies")
    if strategy.replay_bytes_per_s is not None and not any(
        s.store is not None and s.store.log_bytes_per_s is not None for s in env.services.values()
    ):
        message = "this says how fast the log is replayed, and no store says how much it writes"
        yield Problem((*where, "replay_rate"), f"{message}; state the store's log_rate, or drop replay_rate")
    if strategy.standby_zone not in ("same", "other", *zones(env)):
        known = ["same", "other", *zones(env)]
        message = f"{strategy.standby_zone!r} is no zone of a machine that is not hosted; {did_you_mean(strategy.standby_zone, known)}"
        yield Problem((*where, "standby_zone"), message)
    elif strategy.standby_zone != "same" and not any(isinstance(copy, Standby) for copy in strategy.copies or ()):
        yield Problem((*where, "standby_zone"), "this strategy makes no standby; add one to its copies, or drop standby_zone")


def case_problems(case: Case, strategy: RecoveryStrategy, lost: str, where: Path) -> Iterator[Problem]:
    """What the loss of what is *lost* leaves that cannot be recovered from, or with."""
    for store in case.stores.values():
        if store.way == "promote":
            yield from _promotion_problems(case, store, where)
        else:
            yield from _restore_problems(case, store, strategy, lost, where)
    yield from _missing_recipes(case, where)
    coming = [i for s in case.env.services for i in (*case.rebuilt(s), *(case.reseeded(s) if s in datastores(case.env) else ()))]
    needed = list(dict.fromkeys(case.env.instances[i][1] for i in coming))
    if "allocate" not in case.env.actions and len(needed) > strategy.spares:
        message = f"{listed(needed)} must be new, and spares are {strategy.spares}"
        way_out = "add 'allocate' to the environment's 'actions', beside 'services', or more spares"
        yield Problem((*where, "spares") if strategy.spares else where, f"{message}; no recipe says how one is allocated: {way_out}")


def _copies(case: Case, store: StoreCase) -> tuple[Copy, ...]:
    spec = case.env.services[store.service].store
    return spec.copies if spec else ()


def _promotion_problems(case: Case, store: StoreCase, where: Path) -> Iterator[Problem]:
    name, here = store.service, (*where, "by")
    delays_s = [c.delay_s for c in standbys_of(case.env.services[name].store)]
    if not store.standbys:
        members = [i for i in case.env.members(name) if i != store.primary and i not in case.absent]
        gone = f"{listed(members)} is lost with the primary" if members else "it has none"
        yield Problem(here, f"no standby of {name!r} is left to be promoted: {gone}; put one where it survives, or write by: restore")
    elif case.corrupted == name and max(delays_s, default=0.0) <= case.unseen_s:
        message = f"the standby of {name!r} has applied what is wrong: its delay is {format_s(max(delays_s, default=0.0))}"
        rule = f"and it takes {format_s(case.unseen_s)} in the mean to notice and decide"
        yield Problem(here, f"{message}, {rule}; give it a longer delay, or write by: restore")
    elif not store.by_itself and "promote" not in case.env.services[name].actions:
        message = f"{name!r} has no recipe for 'promote', and its standby does not take over by itself"
        yield Problem(where, f"{message}; add it to the service's actions")
    elif store.replays and store.delayed and {"log_archive"} == {c.kind for c in _copies(case, store)} - {"standby"}:
        message = f"the log of {name!r} is replayed and archived, and no backup is there from which that log goes on"
        yield Problem((*where, "copies"), f"{message}; add a backup, or drop the log_archive")


def _restore_problems(case: Case, store: StoreCase, strategy: RecoveryStrategy, lost: str, where: Path) -> Iterator[Problem]:
    name, service = store.service, case.env.services[store.service]
    copies, here = _copies(case, store), (*where, "copies") if strategy.copies is not None else where
    left = [c for c in copies if isinstance(c, Backup) and not shares_fate(case, c)]
    if service.failover == "automatic" and store.standbys and case.corrupted != name:
        message = f"the standby {store.standbys[0]} takes over by itself, since the failover of {name!r} is automatic"
        yield Problem((*where, "by"), f"{message}; write by: promote, or leave standbys out of the copies")
    elif not left:
        fates = [f"{c.kind} ({fate})" for c in copies if (fate := _why_useless(case, store, c)) is not None]
        what = f"its copies are of no use: {', '.join(fates)}" if fates else "it has no copies"
        way_out = "add a backup to its copies"
        if case.corrupted is None:
            way_out = f"keep a backup where the loss of {lost} does not reach it"
        yield Problem(here, f"nothing is left from which {name!r} could be restored; {what}; {way_out}")
    elif service.store is not None and service.store.restore_bytes_per_s is not None and not service.store.size_bytes:
        message = f"the store of {name!r} states how fast it is read back and not how much it holds"
        yield Problem(where, f"{message}; state its size, or drop restore_rate and write a recipe 'restore'")
    elif service.store is None or (service.store.restore_bytes_per_s is None and "restore" not in service.actions):
        message = f"nothing says how long it takes to restore {name!r}"
        yield Problem(where, f"{message}; state the store's size and restore_rate, or add 'restore' to the service's actions")


def shares_fate(case: Case, copy: Copy) -> bool:
    """Whether *copy* is lost with the machines that die."""
    if isinstance(copy, Standby):
        return False
    in_zone = [m.name for m in case.env.machines if m.zone == copy.zone and not m.hosted] if copy.zone is not None else []
    return copy.on in case.lost or (bool(in_zone) and set(in_zone) <= set(case.lost))


def _why_useless(case: Case, store: StoreCase, copy: Copy) -> str | None:
    if isinstance(copy, Standby):
        return "holds what is wrong too" if case.corrupted == store.service else "lost with the primary"
    if shares_fate(case, copy):
        return f"lost with {copy.on if copy.on in case.lost else f'zone {copy.zone}'}"
    return "goes on from a backup, and none is left" if isinstance(copy, LogArchive) else None


def _lost(case: Case, disruption: Disruption) -> str:
    if disruption.lose == "zone":
        return f"zone {next(m.zone for m in case.env.machines if m.name == case.lost[0])}"
    return disruption.lose if disruption.lose in ("everything", "application") else case.lost[0]


def _missing_recipes(case: Case, where: Path) -> Iterator[Problem]:
    for name, service in case.env.services.items():
        if case.rebuilt(name) and "install" not in service.actions:
            message = f"{name!r} has no recipe for 'install', and is to run on the new {case.rebuilt(name)[0].partition('@')[2]}"
            yield Problem(where, f"{message}; add it to the service's actions")
