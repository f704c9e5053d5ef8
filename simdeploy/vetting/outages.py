"""Invariants of capacity: what is left for every timing, and with failures, a machine or a zone lost beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simdeploy.plan.findings import Finding, Severity, Witness
from simdeploy.vetting.capacity import FrontDoor, front_door
from simdeploy.vetting.case import Case, in_state, named
from simdeploy.vetting.floors import NOTHING, Without

SLACK = 1e-6
"""What rounding may take [req/s]."""
UNDECLARED = Without(declared=False)
FAILING = Without(failing=True)


def capacity(case: Case) -> Iterator[Finding]:
    """For every timing each critical service carries what is wanted of the front door; short locks and moved leads are notes."""
    if case.floors.never_opens:
        return
    wanted = case.wanted.capacity_per_s - SLACK
    for service in _limiting(case):
        if (kept := _limit(case, service, UNDECLARED)).least_per_s < wanted:
            yield _short(case, "error", "capacity", kept, "")
        elif (full := _limit(case, service, NOTHING)).least_per_s < wanted:
            severity: Severity = "error" if case.wanted.forbids_outages else "note"
            cause = "while it is locked, slowed down or between two leaders, as the plan declares"
            yield _short(case, severity, "declared-outage", full, cause)


def failures(case: Case) -> Iterator[Finding]:
    """The failures that the judges tolerate, added up over the batches, leave enough."""
    if case.floors.never_opens:
        return
    wanted = case.wanted.capacity_per_s - SLACK
    for service in _limiting(case):
        left = _limit(case, service, Without(failing=True, declared=False))
        if left.least_per_s < wanted <= _limit(case, service, UNDECLARED).least_per_s:
            message = (
                f"with the failures that its judges tolerate added up, {left.service} may leave {left.least_per_s:.4g} req/s "
                f"at the front door; {case.wanted.source} {case.wanted.capacity_per_s:.4g}"
            )
            cure = "lower max_failures, or count them over the whole plan (of: plan or carried) instead of batch by batch"
            yield case.finding("error", "failures", left.service, message, cure, _failing(case, left))


def _failing(case: Case, low: FrontDoor) -> Witness:
    """The state with the steps that failed on the way to it."""
    failed = case.floors.failed(low.service, low.state)
    steps = dict.fromkeys([*case.floors.not_handed(low.service, low.state), *(k for _, k in failed)])
    witness = case.witness(low.state, failed=[case.plan.steps[k].id for k in steps])
    out = {case.shape.instances[i]: "out, since a step failed" for i, _ in failed}
    return witness.model_copy(update={"state": witness.state | out})


def machine_lost(case: Case) -> Iterator[Finding]:
    """With any one machine lost, whose loss the start state would have borne, enough is left."""
    machines = {m.name: [m.name] for m in case.section.env.machines if m.name not in case.section.lost_before}
    alike: dict[tuple[int, ...], str] = {}
    for machine in machines:
        alike.setdefault(_kinds(case, [machine]), machine)
    yield from _lost(case, "machine-lost", {m: [m] for kinds, m in alike.items() if kinds})


def zone_lost(case: Case) -> Iterator[Finding]:
    """With any one zone lost, whose loss the start state would have borne, enough is left."""
    zones: dict[str, list[str]] = {}
    for machine in case.section.env.machines:
        if machine.zone is not None and not machine.hosted:
            zones.setdefault(machine.zone, []).append(machine.name)
    yield from _lost(case, "zone-lost", zones)


def quorum(case: Case) -> Iterator[Finding]:
    """No quorum is lost: more than half of the members that are there serve."""
    for service, spec in case.section.env.services.items():
        if case.wanted.capacity_per_s <= 0:
            return  # a goal says that nothing has to be carried
        if spec.role == "quorum" and (low := case.floors.majority(service)).per_s <= 0 < case.wanted.rest.majority(service).per_s:
            out = in_state(case, low.state, service)
            message = f"{service} may lose its quorum: {named(case, out)} are out at once, of {len(case.shape.members_of[service])} members"
            cure = "take fewer of its members out at once: batches of 1"
            yield case.finding("error", "quorum", service, message, cure, case.witness(low.state))


def _limiting(case: Case) -> list[str]:
    """The services that limit the front door; of those in cells, which limit it together, the first one."""
    env = case.section.env
    found = [s for s in dict.fromkeys(s for s, _ in case.floors.pools) if s in env.critical and env.visits[s]]
    pinned = [s for s in found if s in env.pinned]
    return [s for s in found if s not in env.pinned] + pinned[:1]


def _limit(case: Case, service: str, given: Without) -> FrontDoor:
    """The least that *service* leaves at the front door; of a service in cells, what all that are in cells leave together."""
    if service in case.section.env.pinned:
        return front_door(case.floors, given, pinned=True)
    low = case.floors.floor(service, None, given)
    return FrontDoor(low.per_s / case.section.env.visits[service], service, low.state)


def _short(case: Case, severity: Severity, invariant: str, low: FrontDoor, cause: str) -> Finding:
    service = low.service
    out = in_state(case, low.state, service)
    why = cause or (f"{named(case, out)} may be out at once" if out else "some of it is slowed down")
    least = "nothing" if low.least_per_s <= 0 else f"{low.least_per_s:.4g} req/s"
    message = f"{service} may leave {least} at the front door: {why}; {case.wanted.source} {case.wanted.capacity_per_s:.4g} req/s"
    if cause:
        cure = "none is needed where that is accepted; else choose a data layer or an order without it, or a time of low demand"
    elif len(out) > 1:
        cure = f"take fewer instances of {service} out at once, or add capacity before (surge)"
    else:
        cure = f"add an instance of {service} before one leaves, or hand its lead over first, or deploy at a time of low demand"
    return case.finding(severity, invariant, service, message, cure, case.witness(low.state))


def _kinds(case: Case, machines: Iterable[str]) -> tuple[int, ...]:
    """What runs on these machines, like instances by the same number."""
    return tuple(sorted(case.section.life_of[i].name for machine in machines for i in case.shape.on_machine[machine]))


def _lost(case: Case, invariant: str, groups: dict[str, list[str]]) -> Iterator[Finding]:
    """One finding for what is worst of all *groups* of machines that may be lost."""
    if case.floors.never_opens or not case.is_main:
        return
    worst: tuple[float, str, list[str], FrontDoor] | None = None
    for name, machines in groups.items():
        gone = frozenset(i for machine in machines for i in case.shape.on_machine[machine])
        given = Without(lost=gone, declared=False)
        if not gone or front_door(case.wanted.rest, given).least_per_s < case.wanted.capacity_per_s - SLACK:
            continue
        left = front_door(case.floors, given)
        if worst is None or left.least_per_s < worst[0]:
            worst = (left.least_per_s, name, machines, left)
    if worst is None or worst[0] >= case.wanted.capacity_per_s - SLACK or front_door(case.floors, UNDECLARED).least_per_s <= worst[0]:
        return
    least, name, machines, low = worst
    what = "zone" if invariant == "zone-lost" else "machine"
    message = (
        f"should {what} {name} be lost meanwhile, {low.service} may leave {least:.4g} req/s at the front door "
        f"({case.wanted.source} {case.wanted.capacity_per_s:.4g}); before the plan its loss would have been borne"
    )
    severity: Severity = "error" if case.wanted.forbids("single_fault_s") and what == "machine" else "note"
    cure = f"take fewer of {low.service} out at once, add capacity before, or deploy when less than that is needed"
    yield case.finding(severity, invariant, name, message, cure, case.witness(low.state, lost=machines))
