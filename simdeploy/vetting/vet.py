"""Vet a plan: every invariant, for the main section and for every way back, each finding with a witness and a cure."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import NamedTuple

from simdeploy.plan.findings import Finding, Floor, Vetting
from simdeploy.plan.plan import Plan
from simdeploy.plan.standing import standing_sentence
from simdeploy.plan.steps import MAIN, ROLLBACK
from simdeploy.vetting import form, outages, safety, sequence
from simdeploy.vetting.capacity import front_door, of_service
from simdeploy.vetting.case import Case, Wanted
from simdeploy.vetting.floors import NOTHING, Without
from simdeploy.vetting.section import Section
from simdeploy.vetting.shape import Shape
from simdeploy.vetting.ways_back import ways_back


class Invariant(NamedTuple):
    """One thing that must hold."""

    name: str
    asks: Callable[[Case], Iterator[Finding]]


INVARIANTS = tuple(
    Invariant(function.__name__, function)
    for function in (
        outages.capacity, outages.failures, outages.machine_lost, outages.zone_lost, outages.quorum,
        sequence.writers, sequence.dependencies, sequence.prerequisites, sequence.versions, sequence.leaders, sequence.failovers,
        safety.monitoring, safety.observed, safety.recovery_point, safety.undo,
        form.targets, form.batches, form.checks, form.secrets, form.left_out, form.restored,
    )
)  # fmt: skip
"""All of them, in the order in which findings are listed; the docstring of each says what must hold."""

EVERYWHERE = (
    outages.capacity, outages.failures, outages.quorum, sequence.versions, safety.monitoring, sequence.writers, form.restored,
)  # fmt: skip
"""Those that are asked of every way back from every point; what can be read off its steps is asked once."""
_READ = (form.targets, form.batches, form.checks, form.secrets)

_ORDER = {"error": 0, "warning": 1, "note": 2}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: it would spend a quarter of the time on walks over the whole plan, and find little."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_uncollected()
def vet(plan: Plan) -> Vetting:
    """What is wrong with *plan* whatever the timing, and what is worth knowing of it."""
    shape = Shape(plan)
    wanted = Wanted(shape)
    main = Case(Section(shape), wanted)
    found: dict[str, Finding] = {}
    for invariant in INVARIANTS:
        for finding in invariant.asks(main):
            _keep(found, finding)
    for part in sorted({s.part for s in plan.steps} - {MAIN}):
        whole = Case(Section(shape, part), wanted, about="the rollback" if part == ROLLBACK else f"forward round {part}")
        for asks in _READ:
            for finding in asks(whole):
                _keep(found, finding)
    for case in ways_back(main):
        for asks in EVERYWHERE:
            for finding in asks(case):
                if f"{finding.invariant}/{finding.subject}" not in found:  # as bad on the way forward: said there
                    found.setdefault(finding.id, finding)
    findings = sorted(found.values(), key=lambda f: _ORDER[f.severity])
    return Vetting(
        plan_sha256=plan.digest, tool=version("simdeploy"), findings=tuple(findings),
        accepted=(standing_sentence(plan.environment),), floors=tuple(_floors(main)),
    )  # fmt: skip


def _keep(found: dict[str, Finding], finding: Finding) -> None:
    """Take a finding in under a name of its own."""
    if finding.id in found:
        count = 2 + sum(name.startswith(f"{finding.id}#") for name in found)
        finding = finding.model_copy(update={"id": f"{finding.id}#{count}"})
    found[finding.id] = finding


def _floors(case: Case) -> Iterator[Floor]:
    """The floors of the front door and of each service that limits it."""
    env = case.section.env
    kept, failing = Without(declared=False), Without(failing=True, declared=False)
    own = [m.name for m in env.machines if not m.hosted]
    lost = [frozenset(case.shape.on_machine[m]) for m in own]
    lost = list({_alike(case, gone): gone for gone in lost if gone}.values())
    zones = {m.zone for m in env.machines if m.zone is not None and not m.hosted}
    away = [
        frozenset(i for m in env.machines if m.zone == z and not m.hosted for i in case.shape.on_machine[m.name]) for z in sorted(zones)
    ]

    def least(door: Callable[[Without], float], groups: list[frozenset[int]]) -> float | None:
        return _finite(min((door(Without(lost=gone, declared=False)) for gone in groups), default=math.inf))

    def of_all(given: Without) -> float:
        return front_door(case.floors, given).least_per_s

    start = front_door(case.wanted.rest).least_per_s
    yield Floor(
        service="", start_per_s=_finite(start), least_per_s=_finite(of_all(NOTHING)), kept_per_s=_finite(of_all(kept)),
        failures_per_s=_finite(of_all(failing)),
        machine_lost_per_s=least(of_all, lost), zone_lost_per_s=least(of_all, away),
    )  # fmt: skip
    for service in dict.fromkeys(s for s, _ in case.floors.pools):
        if service not in env.critical or not env.visits[service]:
            continue
        cells = [cell for name, cell in case.floors.pools if name == service]

        def of_one(given: Without, service: str = service, cells: list[str | None] = cells) -> float:
            return of_service(case.floors, service, cells, given)

        rest = of_service(case.wanted.rest, service, cells)
        yield Floor(
            service=service, start_per_s=_finite(rest), least_per_s=_finite(of_one(NOTHING)), kept_per_s=_finite(of_one(kept)),
            failures_per_s=_finite(of_one(failing)),
            machine_lost_per_s=least(of_one, lost), zone_lost_per_s=least(of_one, away),
        )  # fmt: skip


def _alike(case: Case, gone: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(case.section.life_of[i].name for i in gone))


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
