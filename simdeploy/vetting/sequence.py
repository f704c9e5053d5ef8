"""Invariants of order: who must come before whom."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from simdeploy.plan.findings import Finding, Severity
from simdeploy.tables import listed
from simdeploy.vetting.case import Case, named
from simdeploy.vetting.leads import Reign, reigns
from simdeploy.vetting.section import ABSENT, Condition, Life, Spell
from simdeploy.vetting.shape import Event


def writers(case: Case) -> Iterator[Finding]:
    """Two steps that write the same attribute are ordered; else nobody knows what holds when both have ended."""
    for life in case.section.lives:
        for early, late in life.unordered[:1]:
            names = [case.plan.steps[k].id for k in (early, late)]
            message = f"{names[0]} and {names[1]} both change {case.shape.instances[life.name]}, in no order"
            yield _unordered(case, case.shape.instances[life.name], message, names)
    for service in case.section.env.services:
        for verb in ("schema", "lead", "split", "join"):
            events = case.section.service_events(verb, service)
            shared = [e for e, _ in events if case.shape.size[e >> 1] > 1]
            pairs = [(a, b) for (a, _), (b, _) in itertools.pairwise(events) if not case.shape.precedes(a, b, True)]
            for a, b in [*pairs, *((e, e) for e in shared)][:1]:
                names = [case.ids([a >> 1])[0], case.ids([b >> 1])[-1]]
                if names[0] != names[1]:
                    yield _unordered(case, service, f"{names[0]} and {names[1]} both change the {verb} of {service}, in no order", names)


def _unordered(case: Case, subject: str, message: str, steps: list[str]) -> Finding:
    classes = {2 * case.shape.cls[case.shape.position[s]] for s in steps}
    cure = f"let {steps[1]} come after {steps[0]}, or the other way round"
    return case.finding("error", "writers", subject, message, cure, case.witness(classes))


def dependencies(case: Case) -> Iterator[Finding]:
    """What starts to serve comes after something of each service that it needs serves."""
    env = case.section.env
    hard = {u: [v for v, call in s.calls.items() if call.dependency == "hard"] for u, s in env.services.items()}
    seen: set[tuple[str, str]] = set()
    for life in case.section.lives:
        first = next((s for s in life.spells[1:] if s.serves), None)
        if life.spells[0].serves or first is None or first.since is None:
            continue
        for callee in hard[life.service]:
            if (life.service, callee) not in seen and not _serves_before(case, callee, first.since):
                seen.add((life.service, callee))
                message = f"{named(case, [life.name])} may serve before anything of {callee}, which it needs, does"
                cure = f"let it come after a step at whose end {callee} serves"
                yield case.finding("error", "dependencies", f"{life.service}-{callee}", message, cure, case.witness({first.since}))


def _serves_before(case: Case, service: str, event: Event) -> bool:
    """Whether some instance of *service* surely serves or has served when *event* happens."""
    spells = [s for life in case.section.lives if life.service == service for s in life.spells if s.serves]
    return any(s.since is None or case.shape.precedes(s.since, event, s.since >> 1 == event >> 1) for s in spells)


def prerequisites(case: Case) -> Iterator[Finding]:
    """Nothing is done on a machine that is not there yet: its allocation comes first, and what a service needs of it before its code."""
    env = case.section.env
    for life in case.section.lives:
        if life.spells[0].condition.mode != ABSENT:
            continue
        there = next((s.since for s in life.spells if s.condition.mode != ABSENT), None)
        name = case.shape.instances[life.name]
        machine = env.instances[name][1]
        for c, step in case.section.steps:
            if step.target != name or step.on != machine or (there is not None and there >> 1 == c):
                continue
            if there is None or not case.shape.precedes(there, 2 * c, True):
                message = f"{step.id} works on {machine}, which may not be there yet"
                cure = f"let it come after the step that allocates {machine}"
                yield case.finding("error", "prerequisites", name, message, cure, case.witness({2 * c}))
                break
        yield from _prepared(case, name)


def _prepared(case: Case, name: str) -> Iterator[Finding]:
    """The prerequisites of an instance come before its code."""
    own = {step.action.partition("#")[0]: c for c, step in case.section.steps if step.target == name}
    for code in ("install", "configure", "start"):
        if "prerequisites" in own and code in own and not case.shape.precedes(2 * own["prerequisites"] + 1, 2 * own[code], True):
            message = f"the {code} of {name} may come before its prerequisites"
            cure = f"let its {code} come after its prerequisites"
            yield case.finding("error", "prerequisites", name, message, cure, case.witness({2 * own[code]}))
            return


def versions(case: Case) -> Iterator[Finding]:
    """In every reachable state each serving caller accepts the version (of a store, the schema) of each serving callee."""
    env = case.section.env
    for caller, spec in env.services.items():
        if spec.role == "monitoring":
            continue
        for callee in env.calls.successors(caller):
            refused = _refused(case, caller, callee)
            if refused is not None:
                one, own, other, theirs = refused
                severity: Severity = "note" if case.wanted.allows("incompatible_s") else "error"
                message = (
                    f"{caller} {own} and {callee} {theirs} may serve at the same time, and {caller} {own} accepts of {callee} "
                    f"{listed(sorted(spec.accepts[own][callee]), 'or') or 'nothing'}"
                )
                cure = "bring first the side that accepts both, or expand the schema before the code and contract it after"
                state = {e for e in (one.since, other.since) if e is not None}
                yield case.finding(severity, "versions", f"{caller}-{callee}", message, cure, case.witness(state))


def _refused(case: Case, caller: str, callee: str) -> tuple[Spell, str, Spell, str] | None:
    """The first pair of spells, caller's and callee's with their versions, that may be at once and do not go together."""
    accepts = case.section.env.services[caller].accepts
    callees = _by_version(case, callee)
    for own, ours in _by_version(case, caller).items():
        accepted = accepts.get(own, {}).get(callee)
        for theirs, others in callees.items() if accepted is not None else ():
            if theirs in (accepted or ()) or (own, theirs) in _at_start(case, caller, callee):
                continue
            for life, one in ours:
                for peer, other in others:
                    if _cells_apart(case, life, peer):
                        continue
                    if case.section.overlap(one, other, same=life is not None and peer is not None and life.like == peer.like):
                        return one, own, other, theirs
    return None


def _by_version(case: Case, service: str) -> dict[str, list[tuple[Life | None, Spell]]]:
    """Version -> the spells in which an instance of *service* serves it; of a datastore, schema -> the spells of that schema."""
    found: dict[str, list[tuple[Life | None, Spell]]] = defaultdict(list)
    if case.section.env.services[service].role == "datastore":
        now = Spell(None, None, Condition("", str(case.section.start_schemas[service])))
        for event, schema in case.section.service_events("schema", service):
            found[now.condition.version].append((None, now._replace(until=event)))
            now = Spell(event, None, Condition("", str(schema)))
        found[now.condition.version].append((None, now))
        return found
    for life in case.section.lives:
        if life.service == service:
            for spell in life.spells:
                if spell.serves:
                    found[spell.condition.version].append((life, spell))
    return found


def _at_start(case: Case, caller: str, callee: str) -> set[tuple[str, str]]:
    """Pairs of versions that serve at once before the plan begins: they were there before."""
    env = case.section.env
    if not case.plan.start.live:
        return set()
    return {(str(env.services[caller].version), str(env.services[callee].version))}


def _cells_apart(case: Case, one: Life | None, other: Life | None) -> bool:
    """Whether two instances are in different cells, where one does not call the other."""
    if one is None or other is None or not {one.service, other.service} <= case.section.env.pinned:
        return False
    cell = [case.section.env.cell_of.get(case.section.env.instances[case.shape.instances[life.name]][1]) for life in (one, other)]
    return cell[0] != cell[1]


def leaders(case: Case) -> Iterator[Finding]:
    """A leader leaves last: nobody takes the lead over who is still to leave."""
    for service, spec in case.section.env.services.items():
        if spec.role not in ("leader_elected", "datastore", "quorum") or (spec.role == "quorum" and spec.serves != "leader"):
            continue
        lives = [life for life in case.section.lives if life.service == service]
        for reign in reigns(case.section, service):
            late = _left_too_early(case, reign, lives)
            if late is not None and reign.leader is not None:
                event, heir = late
                worst = len(lives) if spec.role != "datastore" else 2
                message = (
                    f"{named(case, [reign.leader])} may give its lead to {named(case, [heir])}, which is still to leave: "
                    f"up to {worst} failovers instead of 1"
                )
                cure = f"take {named(case, [reign.leader])} last (order: leader_last), or hand its lead to one that has been upgraded"
                yield case.finding("error", "leaders", service, message, cure, case.witness({event}))
                break


def _left_too_early(case: Case, reign: Reign, lives: list[Life]) -> tuple[Event, int] | None:
    """The event at which the leader of *reign* leaves, and a possible heir that is taken later; None where there is none."""
    if reign.leader is None:
        return None
    own = case.section.life_of[reign.leader]
    leaves = [s.since for s in own.spells[1:] if not s.serves and s.since is not None and case.section.overlap(s, reign.spell, True)]
    ends = leaves or ([reign.spell.until] if reign.spell.until is not None else [])
    if not ends:
        return None
    service = case.section.env.services[own.service]
    if service.role == "datastore" and service.failover == "manual" and leaves:
        return None  # nobody takes over
    led = reigns(case.section, own.service) if reign.spell.until is not None else []
    heirs: list[Any] = [r.leader for r in led if r.spell.since == reign.spell.until and r.leader is not None]
    handed = next((r.leader for r in reigns(case.section, own.service) if r.leader is not None and _after(case, r, ends[0])), None)
    for life in lives:
        if life is own or (handed is not None and handed not in life.like) or (heirs and not set(heirs) & set(life.like)):
            continue
        taken = next((s.since for s in life.spells[1:] if not s.serves), None)
        if life.spells[0].serves and taken is not None and not case.shape.precedes(taken, ends[0], True):
            if service.election.prefer == "upgraded" and not handed and _has_upgraded(case, lives, ends[0]):
                continue
            return ends[0], next(i for i in life.like if handed in (None, i))
    return None


def _after(case: Case, reign: Reign, event: Event) -> bool:
    return reign.spell.since is not None and reign.spell.since != event and case.shape.precedes(event, reign.spell.since, True)


def _has_upgraded(case: Case, lives: list[Life], event: Event) -> bool:
    """Whether, when *event* happens, some member serves that the plan has changed already."""
    for life in lives:
        back = [s.since for s in life.spells[1:] if s.serves and s.condition.version != life.spells[0].condition.version]
        if any(e is not None and case.shape.precedes(e, event, True) for e in back):
            return True
    return False


def failovers(case: Case) -> Iterator[Finding]:
    """No more changes of leaders than a goal allows."""
    bound = case.wanted.fewest("failovers")
    if bound is None or not case.is_main:
        return
    count = 0
    for service, spec in case.section.env.services.items():
        if spec.role in ("leader_elected", "datastore") or (spec.role == "quorum" and spec.serves == "leader"):
            led = reigns(case.section, service)
            count += sum(r.leader is not None for r in led[1:])
            for reign in led:
                own = case.section.life_of[reign.leader] if reign.leader is not None else None
                left = own is not None and any(not s.serves and case.section.overlap(s, reign.spell, True) for s in own.spells[1:])
                count += left and (spec.role != "datastore" or spec.failover == "automatic")
    if count > bound:
        message = f"leads change hands at least {count} times; the goal allows {bound:g}"
        yield case.finding("error", "failovers", "leads", message, "take leaders last, and only once, or allow it in the goal")
