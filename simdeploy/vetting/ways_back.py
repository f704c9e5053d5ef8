"""The ways back: a plan's rollback and its forward rounds, each as a plan of its own from every point at which it may begin.

An abort lets what runs end, and starts nothing more. So what it leaves is a state in which every step that began has ended.
The points looked at are, for each batch and each action of its lanes, the state in which all its lanes have come that far,
and everything that must come before: between them the batch is as much out, or as much new, as it ever is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from simdeploy.plan.steps import ROLLBACK
from simdeploy.vetting.case import Case
from simdeploy.vetting.closure import below
from simdeploy.vetting.floors import Low
from simdeploy.vetting.leads import reigns
from simdeploy.vetting.section import SERVING, Condition, Life, Section
from simdeploy.vetting.shape import END, Event


class Point(NamedTuple):
    """A state in which a section is left."""

    events: frozenset[Event]
    """All that happened, in earlier sections too."""
    about: str


def ways_back(main: Case) -> Iterator[Case]:
    """A case for each section that is not the main one, from each point at which it may begin."""
    plan, shape = main.plan, main.shape
    parts = {s.part for s in plan.steps}
    lives: dict[tuple[object, ...], Life] = {}
    alike: dict[object, Low] = {}
    cases = [(main, frozenset[Event]())]
    while cases:
        case, before = cases.pop(0)
        if ROLLBACK in parts and _rolls_back(main):
            for point in _points(case, before):
                if not any(shape.step_of[e >> 1].no_return for e in point.events):
                    yield _entered(case, ROLLBACK, point, lives, alike)
        forward = max(case.section.part, 0) + 1
        gates = [c for c, s in case.section.steps if s.gate is not None and s.gate.reaction == "forward"]
        if forward in parts and gates:
            events = before | below(shape.just_before, {2 * c for c in gates})
            entered = _entered(case, forward, Point(frozenset(events), f"forward round {forward}"), lives, alike)
            yield entered
            cases.append((entered, frozenset(events)))


def _rolls_back(case: Case) -> bool:
    plan = case.plan
    return plan.on_abort == "rollback" or any(s.gate is not None and s.gate.reaction == "rollback" for s in plan.steps)


def _points(case: Case, before: frozenset[Event]) -> Iterator[Point]:
    """The points at which a section may be left, the same state once."""
    shape = case.shape
    groups: list[list[int]] = [
        sorted({shape.cls[shape.position[w]] for w in step.judge.watch}) for _, step in case.section.steps if step.judge
    ]
    judged = {c for group in groups for c in group}
    groups += [[c] for c, step in case.section.steps if c not in judged and step.kind == "step" and (step.begin or step.end)]
    seen: set[frozenset[Event]] = set()
    for group in groups:
        by_action: dict[str, list[int]] = {}
        for c in group:
            by_action.setdefault(shape.step_of[c].action.partition("#")[0], []).append(c)
        for classes in by_action.values():
            happened = before | below(shape.just_before, {2 * c + END for c in classes})
            if happened not in seen:
                seen.add(happened)
                yield Point(happened, f"rolled back after {case.ids(classes[-1:])[-1]}")


def _entered(case: Case, part: int, point: Point, lives: dict[tuple[object, ...], Life], alike: dict[object, Low]) -> Case:
    """The case of a *part* that begins at *point*."""
    section, shape = case.section, case.shape
    starts: dict[int, Condition] = {}
    for life in section.lives:
        now = [s for s in life.spells if s.since is None or s.since in point.events][-1]
        starts |= dict.fromkeys(life.like, now.condition)
    schemas = dict(section.start_schemas)
    leaders: dict[str, str | None] = {}
    for service, spec in section.env.services.items():
        if spec.role not in ("leader_elected", "datastore", "quorum"):
            continue
        for event, schema in section.service_events("schema", service):
            if event in point.events:
                schemas[service] = str(schema)
        held = [
            r.leader for r in reigns(section, service) if r.leader is not None and (r.spell.since is None or r.spell.since in point.events)
        ]
        serving = [shape.instances[i] for i in shape.members_of[service] if starts[i].mode == SERVING]
        last = shape.instances[held[-1]] if held else None
        keeps = last in serving or (
            section.env.services[service].role == "datastore" and section.env.services[service].failover == "manual"
        )
        leaders[service] = last if keeps else next(iter(serving), None)
    active = {c for c in shape.classes_of[part] if shape.guards[c].holds(point.events)}
    entered = Section(shape, part, starts, active, schemas, leaders, lives)
    last_steps = {e >> 1 for e in point.events if e & 1}
    passed = {u for c in last_steps for u in shape.before[c]}
    after = tuple(case.plan.steps[k].id for k in sorted(k for c in last_steps - passed for k in shape.members[c]))
    return Case(entered, case.wanted, after, point.about, alike)
