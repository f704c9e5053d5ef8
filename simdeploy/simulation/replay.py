"""Replay: a run that reaches the state which a witness of vetting describes."""

from __future__ import annotations

from typing import NamedTuple

from simdeploy.environment.durations import ZERO, fixed
from simdeploy.plan.findings import Finding
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Crash, Plan, Release
from simdeploy.plan.steps import MAIN, Step
from simdeploy.plan.trace import Trace
from simdeploy.simulation.outcome import trace

SHORT_S = 1.0
"""How long each step of a replay lasts that has to be over."""


class Replay(NamedTuple):
    """A run that passes through the state of a witness."""

    trace: Trace
    at_s: float
    """When the state is reached."""
    capacity_per_s: float
    """The lowest capacity of the run until the state has passed."""


def replay(plan: Plan, finding: Finding) -> Replay:
    """A run of *plan* that reaches the state in which *finding* shows.

    Its steps last what leads there: those that have ended a second, those that run until all the others have come to where
    they stand. Pools are as large as it takes, as in the proof. Raises ValueError for a finding without a witness.
    """
    witness = finding.witness
    if witness is None:
        raise ValueError(f"{finding.id} has no witness: it can be read off the plan")
    back = _before(plan, witness.rolled_back_after)
    ended = _before(plan, (*witness.ended, *witness.failed)) | back
    running = set(witness.running)
    ended |= {n for name in running for n in _before(plan, (name,)) if n != name} - running
    longest_s = SHORT_S * (len(plan.steps) + 2)
    steps = [
        Step(id=f"witness/hold{part}", section=section, round=max(1, part), duration=fixed(3 * longest_s))
        for part, section in sorted({(s.part, s.section) for s in plan.steps})
    ]
    if witness.rolled_back_after:
        steps.append(Step(id="witness/abort", after=witness.rolled_back_after, duration=fixed(SHORT_S), p_fail=1.0, fatal=True))
    for step in plan.steps:
        length = longest_s if step.id in running else SHORT_S
        after = step.after
        if step.id not in ended | running:
            over = witness.rolled_back_after and step.part == MAIN
            after = (*after, "witness/abort" if over else f"witness/hold{step.part}")
        steps.append(_timed(step, length, after, step.id in witness.failed))
    if witness.rolled_back_after:
        steps = [s for s in steps if s.id != f"witness/hold{MAIN}"]
    crashes = tuple(Crash(machine=m, at_s=2 * longest_s) for m in witness.lost)
    guided = plan.model_copy(
        update={
            "steps": tuple(steps), "pools": {}, "release": Release(), "crashes": (*plan.crashes, *crashes),
            "on_abort": "rollback" if witness.rolled_back_after else plan.on_abort, "horizon_s": None,
        }
    )  # fmt: skip
    guided = Plan.model_validate(guided.model_dump())
    run = trace(guided)
    reached = max((r.at_s for r in run if r.kind == "began" and r.subject in running | ended), default=0.0)
    until = [r for r in run.records if r.at_s <= 2 * longest_s]
    values = measure(guided, Trace(until, 2 * longest_s + SHORT_S, run.outcome)).values
    return Replay(run, max(reached, 2 * longest_s if witness.lost else 0.0), float(values["capacity_min"] or 0.0))


def _timed(step: Step, length_s: float, after: tuple[str, ...], fails: bool) -> Step:
    """The step with a length of its own, no luck, and no pool to wait for."""
    instant = step.kind == "judge"
    gate = None if step.gate is None else step.gate.model_copy(update={"false_alarms": 0.0})
    return step.model_copy(
        update={
            "duration": ZERO if instant else fixed(length_s), "until_idle": False, "replays": "", "pools": (), "after": after, "gate": gate,
            "p_fail": 1.0 if fails else 0.0, "retries": 0, "retry_delay": ZERO, "timeout_s": None,
        }
    )  # fmt: skip


def _before(plan: Plan, names: tuple[str, ...]) -> set[str]:
    """These steps and all that come before them."""
    position, found, todo = plan.wiring.position, set(names), [*names]
    while todo:
        step = plan.steps[position[todo.pop()]]
        for name in (*step.needs, *step.after):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found
