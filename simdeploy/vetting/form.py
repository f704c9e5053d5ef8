"""Invariants that can be read off the steps: what they touch, how one sees that they worked, and what stands in their commands."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from simdeploy.environment.names import REFERENCE, did_you_mean
from simdeploy.plan.findings import Finding
from simdeploy.plan.steps import ROLLBACK, Step
from simdeploy.tables import listed
from simdeploy.vetting.case import Case
from simdeploy.vetting.section import ABSENT, Section
from simdeploy.vetting.shape import END

_SECRETS = (
    re.compile(r"(?i)(pass(word|wd|phrase)?|secret|token|api[-_]?key|credentials?)\s*[=:]\s*[^\s\"'{$<]{3,}"),
    re.compile(r"(?i)authorization:\s*(basic|bearer|token)\s+[^\s\"'{$<]{3,}"),
    re.compile(r"(?i)^--?(pass(word|wd)?|secret|token|api-?key)$"),
    re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@{$]+@"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    re.compile(r"\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"),
)
"""What a secret in a command looks like: name=value, a header, an option that wants one, a URL with a password, a key, a known token."""


def targets(case: Case) -> Iterator[Finding]:
    """Every step is about an instance, a service or a machine of the environment."""
    env = case.section.env
    known = {**env.instances, **env.services, **env.machine_index}
    for _, step in case.section.steps:
        if step.target and step.target not in known:
            message = f"{step.id} is about {step.target!r}, which the environment does not have; {did_you_mean(step.target, list(known))}"
            yield case.finding("error", "targets", step.id, message, "name what is there as its target")


def batches(case: Case) -> Iterator[Finding]:
    """A step touches nothing but its own target and what shares its lane or machine.

    Where judges count batches, what is taken out is in one of them.
    """
    env = case.section.env
    if case.plan.disaster_at_s is not None:
        return  # a recovery touches whatever needs what was lost
    together: dict[str, set[str]] = defaultdict(set)
    for step in case.plan.steps:
        if step.lane and step.target:
            together[step.lane].add(step.target)
    judged = {w for step in case.plan.steps if step.judge for w in step.judge.watch}
    for c, step in case.section.steps:
        touched = {str(e[1]): str(e[0]) for e in (*step.begin, *step.end) if len(e) > 1 and e[1] in env.instances}
        own = _own(case, step) | together[step.lane]
        for name in [
            n for n in touched if n not in own and env.instances[n][1] not in {env.instances[o][1] for o in own if o in env.instances}
        ]:
            message = f"{step.id} is about {step.target or 'nothing'} and touches {name} ({touched[name]}), which is in another batch"
            cure = f"give {name} a step of its own, or name both as one lane"
            yield case.finding("error", "batches", step.id, message, cure, case.witness({2 * c + END}))
        takes = [n for n, verb in touched.items() if verb in ("drain", "out", "kill", "remove")]
        if case.is_main and judged and takes and step.kind == "step" and step.id not in judged and not _judged(case, step, judged):
            message = f"{step.id} takes {listed(takes)} out, and no judge counts it: it could fail in every batch and nothing would stop"
            cure = "add its steps to what a judge watches"
            yield case.finding("error", "batches", step.id, message, cure, case.witness({2 * c}))


def _own(case: Case, step: Step) -> set[str]:
    """What a step may touch: its target, of a service or a machine what is of it, and what its machine runs."""
    env = case.section.env
    if step.target in env.services:
        return set(env.members(step.target))
    if step.target in env.machine_index:
        return {name for name, (_, machine) in env.instances.items() if machine == step.target}
    return {step.target}


def _judged(case: Case, step: Step, judged: set[str]) -> bool:
    """Whether a judge counts another step of the same lane: then that one fails or is skipped with it."""
    return any(s.id in judged for s in case.plan.steps if s.target == step.target or (step.lane and s.lane == step.lane))


def checks(case: Case) -> Iterator[Finding]:
    """Every step that has a command has a check, by which a person or a runner sees whether its effect is there."""
    bare: dict[str, list[str]] = defaultdict(list)
    by_hand: list[str] = []
    for c, step in case.section.steps:
        if step.kind != "step" or step.check or not _does(step):
            continue
        if step.run:
            bare[step.action.partition("#")[0]] += case.ids([c])
        else:
            by_hand += case.ids([c])
    for action, steps in bare.items():
        message = f"{listed(steps, most=3)} {'has a command' if len(steps) == 1 else 'have commands'} and no check"
        cure = f"give the action {action!r} a 'check' (of its undo an 'undo_check') that exits 0 when its effect is there"
        yield case.finding("error", "checks", action, message, cure)
    if by_hand:
        count = "1 step has" if len(by_hand) == 1 else f"{len(by_hand)} steps have"
        message = f"{count} neither a command nor a check ({listed(by_hand, most=3)}): a person does them and looks"
        yield case.finding("note", "by-hand", "steps", message, "give their actions a 'command' and a 'check' to have them executed")


def _does(step: Step) -> bool:
    return bool(step.begin or step.end or step.run or step.on)


def secrets(case: Case) -> Iterator[Finding]:
    """Secrets come by reference: none stands in a command, a check or what is expected, and each reference is one."""
    for c, step in case.section.steps:
        found = [field for field in ("run", "check", "expects") if any(p.search(word) for word in getattr(step, field) for p in _SECRETS)]
        if found:
            message = (
                f"something that looks like a secret stands in {listed(found)} of {listed(case.ids([c]), most=3)}; it is not repeated here"
            )
            cure = "name it under the action's 'secrets', read it from the command's surroundings, and change it: it has been written down"
            yield case.finding("error", "secrets", step.id, message, cure)
        wrong = [name for name, reference in step.secrets.items() if not REFERENCE.fullmatch(reference)]
        if wrong:
            message = f"the secrets {listed(wrong)} of {step.id} are no references"
            yield case.finding("error", "secrets", step.id, message, "write where each is, such as 'vault:sql/owner' or 'env:NAME'")


def restored(case: Case) -> Iterator[Finding]:
    """After a rollback every instance that the plan touched serves again, the version that it had before."""
    if case.section.part != ROLLBACK:
        return
    first = Section(case.shape)
    for life in case.section.lives:
        last, was = life.spells[-1], first.start(life.name)
        wrong = last.condition.mode != was.mode or (was.mode != ABSENT and last.condition.version != was.version)
        if wrong:
            name = case.shape.instances[life.name]
            ends = f"{last.condition.mode}, version {last.condition.version}"
            message = f"{name} would end {ends}; before the plan it was {was.mode}, version {was.version}"
            cure = "complete its rollback lane: every step that was begun is taken back, and the old version serves again"
            yield case.finding("error", "restored", name, message, cure, case.witness({2 * c + END for c, _ in case.section.steps}))


def left_out(case: Case) -> Iterator[Finding]:
    """Who is taken out comes back, at the end of a step, when all goes well."""
    if case.section.part == ROLLBACK:
        return
    out: dict[str, list[str]] = defaultdict(list)
    watched: set[str] = set()
    for life in case.section.lives:
        last = life.spells[-1]
        if last.serves or last.condition.mode == "absent" or not any(s.serves for s in life.spells):
            continue
        out[life.service] += [case.shape.instances[i] for i in life.like]
        watched |= {life.service} if last.condition.mode == "starting" else set()
    for service, names in out.items():
        is_, it = ("is", "it") if len(names) == 1 else ("are", "them")
        message = f"{listed(names, most=4)} {is_} taken out and no step gives {it} back"
        cure = "end the lane with a step that serves it"
        if service in watched:
            message += ": started, and when the health check has risen nobody knows"
            cure = "end the lane with a step that waits until it is healthy (await_healthy), and only that gives it back"
        yield case.finding("error", "left-out", service, message, cure, case.witness({2 * c + 1 for c, _ in case.section.steps}))
