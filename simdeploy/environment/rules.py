"""The rules of an environment that span several of its fields."""

from __future__ import annotations

from typing import Any

import networkx as nx

from simdeploy.environment.cells import cell_problems
from simdeploy.environment.models import Environment, Service
from simdeploy.environment.names import did_you_mean
from simdeploy.environment.protection import policy_problems
from simdeploy.environment.stores import Standby
from simdeploy.errors import Path, Problem


def problems_of(env: Environment) -> list[Problem]:
    """Every rule that spans several fields and is broken, with its path in the document."""
    found: list[Problem] = []

    def add(path: Path, message: str) -> None:
        found.append(Problem(path, message))

    names = [m.name for m in env.machines]
    firsts: dict[str, int] = {}
    for i, name in enumerate(names):
        first = firsts.setdefault(name, i)
        if first != i:
            zones = {env.machines[first].zone, env.machines[i].zone}
            add(
                ("machines", i, "name"),
                f"machine {name!r} is listed twice{' in two zones' if len(zones) > 1 else ''}; a machine has one entry and one zone",
            )
    for i, box in enumerate(env.machines):
        if box.repair is not None and box.mtbf_s is None:
            add(("machines", i, "repair"), f"machine {box.name!r} has a repair and never dies; give it an mtbf or drop the repair")
    services = list(env.services)
    if env.entry not in services:
        add(("entry",), f"{env.entry!r} is no service; {did_you_mean(env.entry, services)}")
    for name, service in env.services.items():
        where: Path = ("services", name)
        _check_service(env, name, where, add)
        instances: set[str] = set()
        for j, machine in enumerate(service.on):
            if machine not in firsts:
                add((*where, "on", j), f"{name!r} runs on {machine!r}, which is no machine; {did_you_mean(machine, names)}")
            elif machine in instances:
                add((*where, "on", j), f"{name!r} is listed twice on {machine!r}; one instance of a service runs on a machine")
            instances.add(machine)
        for callee in service.calls:
            if callee not in services:
                add((*where, "calls", callee), f"{name!r} calls {callee!r}, which is no service; {did_you_mean(callee, services)}")
        met = [s for s in services if service.observes_service(s)] if service.role == "monitoring" else list(service.calls)
        verb = "observe" if service.role == "monitoring" else "call"
        for version, callees in service.accepts.items():
            for callee in (c for c in callees if c not in met):
                add((*where, "accepts", version, callee), f"{name!r} does not {verb} {callee!r}; {did_you_mean(callee, met)}")
        for action_name, action in service.actions.items():
            if action.on is not None and action.on not in firsts:
                message = f"{action_name!r} of {name!r} is executed on {action.on!r}, which is no machine; {did_you_mean(action.on, names)}"
                add((*where, "actions", action_name, "on"), message)
            _check_length(name, service, action_name, (*where, "actions", action_name), add)
    for machine_action, action in env.actions.items():
        if action.on is not None and action.on not in names:
            message = f"{machine_action!r} is executed on {action.on!r}, which is no machine; {did_you_mean(action.on, names)}"
            add(("actions", machine_action, "on"), message)
    found += cell_problems(env)
    if not found:
        found += policy_problems(env)
        try:
            loop = " -> ".join([u for u, _ in nx.find_cycle(env.calls)] + [nx.find_cycle(env.calls)[0][0]])
            add(
                ("services", nx.find_cycle(env.calls)[0][0], "calls"),
                f"services call each other in a loop: {loop}; drop one of these calls",
            )
        except nx.NetworkXNoCycle:
            if all(env.services[s].capacity_per_s is None for s in env.critical):
                message = f"none of the services that {env.entry!r} needs ({', '.join(env.critical)}) states a capacity; state at least one"
                add(("services", env.entry), message)
    return found


def _check_service(env: Environment, name: str, where: Path, add: Any) -> None:
    service = env.services[name]
    if not service.on:
        add((*where, "on"), f"{name!r} is {service.role} and has no members; name at least one machine")
    if service.role != "datastore" and service.store is not None:
        add((*where, "store"), f"{name!r} is {service.role} and has a store; only a datastore has one: set role: datastore or drop store")
    if service.elected_through is not None:
        _check_elections(env, name, (*where, "elected_through"), add)
    if service.role != "monitoring" and service.observes is not None:
        add((*where, "observes"), f"{name!r} is {service.role} and observes; only monitoring does: set role: monitoring or drop observes")
    if service.role == "monitoring" and service.observes is not None and not set(service.observes) - {name}:
        add((*where, "observes"), f"{name!r} watches nothing; name what it observes, or drop 'observes', and it observes every service")
    for j, watched in enumerate(service.observes or ()):
        if watched not in env.services:
            add((*where, "observes", j), f"{name!r} observes {watched!r}, which is no service; {did_you_mean(watched, list(env.services))}")
    if service.leader is not None and service.leader not in service.on:
        add(
            (*where, "leader"),
            f"{name!r} is led by {service.leader!r}, on which it does not run; {did_you_mean(service.leader, list(service.on))}",
        )
    copies = service.store.copies if service.store else ()
    machines, zones = [m.name for m in env.machines], sorted({m.zone for m in env.machines if m.zone is not None})
    for j, copy in enumerate(copies):
        if isinstance(copy, Standby):
            continue
        for key, kept, known, what in (("on", copy.on, machines, "machine"), ("zone", copy.zone, zones, "zone of a machine")):
            if kept is not None and kept not in known:
                message = f"a {copy.kind} of {name!r} is kept {'on' if key == 'on' else 'in'} {kept!r}, which is no {what}"
                add((*where, "store", "copies", j, key), f"{message}; {did_you_mean(kept, known)}")
    standbys = [c for c in copies if isinstance(c, Standby)]
    if standbys and len(service.on) < 2:
        add((*where, "store", "copies"), f"{name!r} has a standby and runs on one machine; name a second machine or drop the standby")


def _check_elections(env: Environment, name: str, place: Path, add: Any) -> None:
    """Leaders are elected through another service, a datastore, and only where there are leaders to elect."""
    service, store = env.services[name], env.services[name].elected_through
    stores = [n for n, s in env.services.items() if s.role == "datastore" and n != name]
    if service.role != "leader_elected" and not (service.role == "quorum" and service.serves == "leader"):
        what = f"{service.role} that serves with all" if service.role == "quorum" else service.role
        add(
            place,
            f"{name!r} is {what} and elects no leader; only leader_elected, or quorum with serves: leader, does: drop elected_through",
        )
    elif store == name:
        add(place, f"{name!r} is elected through itself; name a datastore: {did_you_mean('', stores)}")
    elif store not in env.services:
        add(place, f"{name!r} is elected through {store!r}, which is no service; {did_you_mean(str(store), stores)}")
    elif store not in stores:
        add(
            place,
            f"{name!r} is elected through {store!r}, which is {env.services[store].role}; it takes a datastore: {did_you_mean('', stores)}",
        )


def _check_length(name: str, service: Service, action_name: str, place: Path, add: Any) -> None:
    """An action states its duration, or, as a drain of a service with `hold`, lasts until idle up to a time-out."""
    action = service.actions[action_name]  # type: ignore[index]  # an ActionName by construction
    if not action.until_idle:
        if action.duration is None:
            add(place, f"{action_name!r} of {name!r} has no duration; state it{', or until_idle: true' * (action_name == 'drain')}")
        return
    if action_name != "drain":
        add((*place, "until_idle"), f"{action_name!r} of {name!r} lasts until idle; only 'drain' does: state its duration instead")
        return
    if action.duration is not None:
        add((*place, "duration"), f"the drain of {name!r} has a duration and lasts until idle; keep one of the two")
    if action.timeout_s is None:
        add((*place, "until_idle"), f"the drain of {name!r} lasts until idle and has no timeout; state after how long it cuts what is left")
    if service.hold is None:
        add(
            ("services", name, "hold"),
            f"the drain of {name!r} lasts until idle, and {name!r} does not say how long it holds a request; state 'hold'",
        )
    if action.times > 1:
        add(
            (*place, "times"),
            f"the drain of {name!r} lasts until idle and comes {action.times} times; once it is idle, it is: drop 'times'",
        )
