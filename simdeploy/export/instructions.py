"""One instruction of a runbook: what to type where, how long it takes, when to stop and how to undo it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from simdeploy.export.batches import MACHINE, Entry, Part, generic
from simdeploy.export.words import effects_words, gate_words, judge_words, most_failures, shell_line, shell_word, takes_words, visible
from simdeploy.plan.findings import Vetting
from simdeploy.plan.forecast import Forecast, StepForecast
from simdeploy.plan.plan import GUARDS, Plan
from simdeploy.plan.steps import ROLLBACK, Step
from simdeploy.tables import listed
from simdeploy.units import format_s

Undoing: TypeAlias = dict[str, tuple[str, ...]]
"""Step -> the numbers of the rollback's entries that look at it."""
CONDITIONS = {"began": "any of these began: ", "unbegun": "none of these began: ", "done": "done are: ", "undone": "not all done are: "}


class Instruction(NamedTuple):
    """What a person does for one entry."""

    number: str
    kind: str
    """step, gate or judge."""
    title: str
    steps: str
    """The ids in the plan; of many the first and how many."""
    machines: tuple[str, ...]
    """Of several: the hosts on which to do it, one by one or side by side."""
    where: str
    command: str
    """A line for a shell; "" = by hand."""
    reach: tuple[str, ...]
    """What is to be reached, in words."""
    expects: str
    """A line for a shell that must succeed before."""
    check: str
    uses: tuple[str, ...]
    """The artefact that it installs and the secrets that it reads."""
    condition: tuple[str, ...]
    """When it is done at all; else it is passed over."""
    lasts: str
    capacity: str
    watch: tuple[str, ...]
    stop: tuple[str, ...]
    undo: str
    no_return: bool


def clock(seconds: float) -> str:
    """*seconds* for a person."""
    return format_s(seconds)


def undoing(sections: Sequence[Part]) -> Undoing:
    """Which entries of the rollback have each step in their guards."""
    found: dict[str, dict[str, None]] = {}
    for entry in (e for p in sections if p.part == ROLLBACK for b in p.batches for e in b.entries):
        for step in entry.steps:
            for named in (*step.began, *step.done, *step.undone):
                found.setdefault(named, {})[entry.number] = None
    return {step: tuple(numbers) for step, numbers in found.items()}


def instruction(plan: Plan, entry: Entry, undo: Undoing, forecast: Forecast | None, vetting: Vetting | None) -> Instruction:
    """What a person does for *entry*."""
    step, machine = entry.first, entry.machines[0] if len(entry.steps) > 1 else ""
    told = _told(entry, forecast)
    return Instruction(
        number=entry.number,
        kind=step.kind,
        title=_said(f"{step.action.split('#')[0]} {step.target}".strip(), machine),
        steps=visible(step.id if len(entry.steps) == 1 else f"{step.id} and {len(entry.steps) - 1} like it"),
        machines=tuple(dict.fromkeys(entry.machines)) if machine else (),
        where=_where(step, machine),
        command=_line(step.run, machine),
        reach=tuple(_said(w, machine) for w in effects_words(step)),
        expects=_line(step.expects, machine),
        check=_line(step.check, machine),
        uses=_uses(step),
        condition=tuple(_conditions(step, machine)),
        lasts="no time" if step.kind == "judge" else _lasts(step, told, forecast),
        capacity=_capacity(plan, told, forecast, vetting),
        watch=tuple(_watch(step, machine, told)),
        stop=tuple(visible(s) for s in _stop(plan, entry)),
        undo=_undo(plan, entry, undo),
        no_return=step.no_return,
    )


def _said(text: str, machine: str) -> str:
    """*text* on one line; of steps alike with $MACHINE for the machine."""
    return "$MACHINE".join(visible(p) for p in generic(text, machine).split(MACHINE)) if machine else visible(text)


def _line(argv: Sequence[str], machine: str) -> str:
    """*argv* for a shell; of steps alike with "$MACHINE" for the machine."""
    if not machine:
        return shell_line(argv)
    words = [generic(a, machine).split(MACHINE) for a in argv]
    return " ".join('"$MACHINE"'.join(shell_word(p) if p or len(w) == 1 else "" for p in w) for w in words)


def _where(step: Step, machine: str) -> str:
    if machine and step.on == machine:
        return "each of the machines"
    return step.on or "the operator's desk"


def _uses(step: Step) -> tuple[str, ...]:
    installs = (f"installs {visible(step.artefact.path)}",) if step.artefact else ()
    return (*installs, *(f"reads the secret at {reference}, as {name}" for name, reference in step.secrets.items()))


def _conditions(step: Step, machine: str) -> Iterable[str]:
    for field in GUARDS:
        names: tuple[str, ...] = getattr(step, field)
        if names:
            word = "and" if field in ("done", "unbegun") else "or"
            yield f"only if {CONDITIONS[field]}{listed([_said(n, machine) for n in names], word)}"


def _told(entry: Entry, forecast: Forecast | None) -> list[StepForecast]:
    return [forecast.steps[s.id] for s in entry.steps if s.id in forecast.steps] if forecast else []


def _lasts(step: Step, told: list[StepForecast], forecast: Forecast | None) -> str:
    if forecast is None:
        return f"{takes_words(step)} (its recipe; no forecast)"
    p50, p95 = ([v for t in told if (v := getattr(t.lasts_s, q)) is not None] for q in ("p50", "p95"))
    if not p50:
        return f"{takes_words(step)} (its recipe; the forecast has too few runs in which it began)"
    often = max(t.began for t in told)
    rarely = f"; it begins in {often:.1%} of the runs" if often < 1 else ""
    return f"P50 {clock(max(p50))}, P95 {clock(max(p95)) if p95 else 'not known'}{rarely}"


def _capacity(plan: Plan, told: list[StepForecast], forecast: Forecast | None, vetting: Vetting | None) -> str:
    if forecast is None:
        return "not known (no forecast)"
    lowest = [t.capacity_per_s for t in told if t.capacity_per_s is not None]
    if not lowest:
        return "not met in the forecast"
    steady = plan.steady_capacity_per_s
    if steady is None and vetting is not None:
        steady = next((f.start_per_s for f in vetting.floors if f.service == ""), None)
    share = f", {min(lowest) / steady:.0%} of {steady:.4g} req/s" if steady else ""
    return f"at least {min(lowest):.4g} req/s{share}; users want up to {plan.environment.demand.peak_per_s:.4g} req/s"


def _watch(step: Step, machine: str, told: list[StepForecast]) -> Iterable[str]:
    for instance, left in step.slow:
        yield _said(f"{instance} is {'locked' if left == 0 else f'left {left:.0%} of its capacity'} while this runs", machine)
    if step.until_idle:
        yield _said(f"requests still held by {step.target}; what is left when its time is up is cut", machine)
    if step.gate is not None:
        yield from gate_words(step.gate)
    late = [t.lasts_s.p95 for t in told if t.lasts_s.p95 is not None]
    if late and step.kind != "judge":
        yield f"the clock: after {clock(max(late))} it is late, tell whoever decides"


def _stop(plan: Plan, entry: Entry) -> Iterable[str]:
    step = entry.first
    if step.judge is not None:
        words = [judge_words(s.judge) for s in entry.steps if s.judge]
        follows = "then roll back" if plan.on_abort == "rollback" else "then halt"
        yield f"{listed(list(dict.fromkeys(words)))}{'' if most_failures(step.judge) is None else f'; {follows}'}"
        return
    if step.timeout_s is not None and not step.until_idle:
        yield f"an attempt that takes longer than {clock(step.timeout_s)} has failed"
    if step.retries:
        yield f"after {step.retries + 1} attempts it has failed; wait {step.retry_delay} between them"
    if step.fatal:
        yield f"if it fails, stop at once: {'roll back' if plan.on_abort == 'rollback' else 'halt'}"


def _undo(plan: Plan, entry: Entry, undo: Undoing) -> str:
    step = entry.first
    if step.section == "rollback" or step.kind != "step":
        return ""
    if step.no_return:
        return "no way back from here: an abort halts"
    numbers = list(dict.fromkeys(n for s in entry.steps for n in undo.get(s.id, ())))
    if numbers:
        return f"rollback steps {listed(numbers, most=12)}"
    return "no rollback step looks at it" if any(s.part == ROLLBACK for s in plan.steps) else "this plan has no rollback"
