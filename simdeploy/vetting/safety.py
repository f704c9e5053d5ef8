"""Invariants of what protects a plan: monitoring, recovery points, and the way back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from simdeploy.environment.stores import LogArchive
from simdeploy.plan.findings import Finding, Severity
from simdeploy.plan.steps import MAIN, ROLLBACK, Step
from simdeploy.tables import listed
from simdeploy.vetting.case import Case, in_state, named


def monitoring(case: Case) -> Iterator[Finding]:
    """Monitoring is never dark: of each service that is observed at the start some monitor that observes it always serves."""
    env = case.section.env
    monitors = [name for name, s in env.services.items() if s.role == "monitoring"]
    for own in monitors:
        watched = [n for n, s in env.services.items() if s.role != "monitoring" and env.services[own].observes_service(n)]
        eyes = sorted({m for n in watched for m in monitors if env.services[m].observes_service(n)})
        if not watched or not case.plan.start.live or min(eyes) != own:
            continue
        lows = [case.floors.standing(m) for m in eyes]
        if all(low.per_s < 1 for low in lows) and any(case.wanted.rest.standing(m).per_s >= 1 for m in eyes):
            severity: Severity = "note" if case.wanted.allows("blind_s") else "error"
            out = in_state(case, lows[0].state, own)
            if not out:
                continue
            message = f"nobody may watch {listed(watched)}: {named(case, out)} may be out at once, and nothing else observes them"
            cure = "put a second monitor beside it and take them one at a time; or accept it with a goal such as 'max(blind_s) <= 5 min'"
            yield case.finding(severity, "monitoring", own, message, cure, case.witness(lows[0].state))


def observed(case: Case) -> Iterator[Finding]:
    """Something that is observed runs on every machine that a step works on, where the environment has monitoring at all."""
    env = case.section.env
    monitors = [s for s in env.services.values() if s.role == "monitoring"]
    on: dict[str, list[str]] = defaultdict(list)
    for service, machine in env.instances.values():
        on[machine].append(service)
    seen: set[tuple[str, ...]] = set()
    for c, step in case.section.steps if monitors else ():
        services = tuple(on.get(step.on, ()))
        if step.on and services and services not in seen and not any(m.observes_service(s) for m in monitors for s in services):
            seen.add(services)
            message = f"{step.id} works on {step.on}, and no monitor observes {listed(services, 'or')}"
            cure = f"name {listed(services, 'or')} under the 'observes' of a monitoring service"
            yield case.finding("error", "observed", step.on, message, cure, case.witness({2 * c}))


def recovery_point(case: Case) -> Iterator[Finding]:
    """Before a step that cannot be undone there is a fresh recovery point of the stores that it changes.

    A log archive is always fresh: a backup and its log lead to any moment before.
    """
    env = case.section.env
    for c, step in case.section.steps:
        service = step.target.partition("@")[0]
        spec = env.services.get(service)
        if not step.no_return or spec is None or spec.role != "datastore":
            continue
        archived = spec.store is not None and any(isinstance(copy, LogArchive) for copy in spec.store.copies)
        points = [e for e, _ in case.section.service_events("point", service)]
        if not archived and not any(case.shape.precedes(e, 2 * c, True) for e in points):
            message = f"{step.id} cannot be undone, and no recovery point of {service} is surely taken before it"
            cure = "take a backup in the plan before it (back_up: true), or archive the log of the store"
            yield case.finding("error", "recovery-point", service, message, cure, case.witness({2 * c}))


def undo(case: Case) -> Iterator[Finding]:
    """Up to the point of no return whatever was begun is taken back by some step of the rollback, where the plan rolls back at all."""
    plan, shape = case.plan, case.shape
    if not case.is_main:
        return
    wants_back = plan.on_abort == "rollback" or any(s.gate is not None and s.gate.reaction == "rollback" for s in plan.steps)
    rollback = [s for s in plan.steps if s.part == ROLLBACK]
    if not wants_back:
        return
    guarded = {name for s in rollback for guard in ("began", "done", "undone") for name in getattr(s, guard)}
    lanes: dict[tuple[str, str], bool] = defaultdict(bool)
    for step in plan.steps:
        lanes[step.lane, step.target] |= step.id in guarded
    over = [c for c, step in case.section.steps if step.no_return]
    for c, step in case.section.steps:
        if not _touches(step) or lanes[step.lane, step.target] or step.no_return:
            continue
        if any(shape.precedes(2 * final, 2 * c, False) for final in over):
            continue
        message = f"{step.id} changes {step.target or 'the service'}, and no step of the rollback takes it back"
        cure = "give the plan a rollback step whose guard names it (began, done or undone), or let aborts halt"
        yield case.finding("error", "undo", step.id, message, cure, case.witness({2 * c}))


def _touches(step: Step) -> bool:
    """Whether a main step does what a rollback has to take back."""
    verbs = {str(e[0]) for e in (*step.begin, *step.end)}
    return step.part == MAIN and bool(verbs - {"point", "open", "validated"})
