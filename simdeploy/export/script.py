"""The plan as a script for a POSIX shell: one step after the other, for a day on which there is nothing else."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Sequence

from simdeploy.errors import PlanError
from simdeploy.export.batches import Batch, Part, parts
from simdeploy.export.secrets import shell_variables
from simdeploy.export.words import effects_words, most_failures, shell_line, shell_word, takes_words, visible
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import order
from simdeploy.plan.steps import MAIN, ROLLBACK, Step
from simdeploy.tables import listed

LOST = """\
What this script does not keep of what simdeploy's runner promises:
- Steps run one after the other, never side by side: it takes longer than the forecast says.
- It knows neither forecast nor goals and measures nothing: nothing pauses when a goal is missed or the whole is late.
- A time-out fails an attempt where the runner would pause, and ends the command here only (timeout from GNU coreutils is
  needed); what ssh has begun on the host may go on. Nothing else is bounded: a step without a time-out may run for ever.
- A lost connection counts as a failed attempt, and an attempt may be repeated: at-most-once is not kept without a check.
- What an interrupted run left unknown is settled by the step's check; without one the script stops with 6.
- Records are files that are not synced to the disk; the lock is for this state directory, not for the environment.
- Pools do not matter (one at a time), the preflight is yours, and a machine that dies is a step that fails.
- Secrets come from variables of this shell, travel over the command's input, may hold one line, and are not masked in what
  a command prints.
What it keeps: the order, checks before steps, retries, judges after each batch, gates, guards, rollback, forward rounds."""


def script(plan: Plan) -> str:
    """*plan* as a script that `sh` runs. Raises PlanError for what a shell cannot carry: a NUL, odd names of secrets."""
    number = {s.id: i for i, s in enumerate(plan.steps, 1)}
    sections = parts(plan)
    variables = shell_variables(plan)
    prelude = importlib.resources.files("simdeploy.export").joinpath("templates/script.sh").read_text(encoding="utf-8")
    taken = {"PLAN", "STATE", "UNDOABLE", "FINAL", "ON_ABORT", *re.findall(r"(?:\bfor |read -r |\b(?=\w+=))(\w+)", prelude)}
    for (name, _), variable in variables.items():
        if variable in taken:
            raise PlanError(f"the secret {name!r} has the name of one of the script's own variables; call it {name + '_SECRET'!r}")
    title = visible(f"{plan.source.scenario or plan.environment.name}, {plan.source.strategy or 'no strategy named'}")
    final = " ".join(str(number[s.id]) for s in plan.steps if s.no_return)
    undoable = "yes" if any(s.part == ROLLBACK for s in plan.steps) else "no"
    return "\n".join(
        [
            "#!/bin/sh",
            f"# {title}",
            f"# Plan {plan.digest}",
            "#",
            *(f"# {line}" for line in LOST.splitlines()),
            "#",
            "# shellcheck disable=SC2317,SC2329 # functions are called by the number of their step",
            "set -u",
            f"PLAN={plan.digest}",
            f"STATE=./simdeploy-{plan.digest[:12]}",
            f"UNDOABLE={undoable}",
            f"FINAL='{final}'",
            f"ON_ABORT={plan.on_abort}",
            "",
            prelude,
            *(f"offered {variable} {shell_word(ref)}" for (_, ref), variable in variables.items()),
            "",
            *(line for step in plan.steps for line in _functions(step, number, variables)),
            *(line for section in sections for line in _section(plan, section, number)),
            *([] if any(p.part == MAIN for p in sections) else ["section_0() { :; }"]),
            *([] if undoable == "yes" else ["section_rollback() { :; }"]),
            "",
            "main",
            "",
        ]
    )


def _functions(step: Step, number: dict[str, int], variables: dict[tuple[str, str], str]) -> Iterable[str]:
    """What a step runs, checks and expects, and its guard, as functions that bear its number."""
    n = number[step.id]
    if step.kind != "judge":
        yield f"# {n}: {visible(step.id)}"
        yield from (f"#   {visible(w)}" for w in effects_words(step))
        yield f"#   lasts {visible(takes_words(step))}"
    run = step.run or (step.check if step.kind == "gate" else ())
    for name, argv in (("step", run), ("check", step.check if step.kind == "step" else ()), ("expects", step.expects)):
        if argv:
            yield f"{name}_{n}() {{ on {_on(step, argv, variables)}; }}"
    if _is_guarded(step):
        yield f"guard_{n}() {{ {_guard(step, number)}; }}"


def _on(step: Step, argv: Sequence[str], variables: dict[tuple[str, str], str]) -> str:
    """The words behind `on`: host, line for its shell, variables of the secrets."""
    read = "".join(f"IFS= read -r {name}; export {name}; " for name in step.secrets)
    line = f"{read}exec {'-- ' if argv[0].startswith('-') else ''}{shell_line(argv)}{' </dev/null' if read else ''}"
    return " ".join([step.on or "''", shell_word(line), *(variables[pair] for pair in step.secrets.items())])


def _is_guarded(step: Step) -> bool:
    return step.part != MAIN and bool(step.began or step.unbegun or step.done or step.undone)


def _guard(step: Step, number: dict[str, int]) -> str:
    tests = (
        ("any began", step.began), ("! any began", step.unbegun), ("all succeeded", step.done), ("! all succeeded", step.undone),
    )  # fmt: skip
    return " && ".join(f"{test} {' '.join(str(number[i]) for i in ids)}" for test, ids in tests if ids)


def _section(plan: Plan, section: Part, number: dict[str, int]) -> Iterable[str]:
    lane = dict(zip((s.id for s in plan.steps), order(plan).lane, strict=True))
    yield ""
    yield f"section_{'rollback' if section.part == ROLLBACK else section.part}() {{"
    for batch in section.batches:
        yield f"  batch {shell_word(_title(batch))}"
        yield from (f"  {_call(step, number, lane)}" for step in batch.steps)
    yield "}"


def _title(batch: Batch) -> str:
    steps = sum(len(e.steps) for e in batch.entries if not e.is_check)
    on = f" on {listed(batch.machines, most=10)}" if batch.machines else ""
    final = "; it holds the POINT OF NO RETURN" if any(e.first.no_return for e in batch.entries) else ""
    return f"batch {batch.number}: {steps} steps{on}{final}"


def _call(step: Step, number: dict[str, int], lane: dict[str, int]) -> str:
    n, needs = number[step.id], " ".join(str(number[i]) for i in step.needs)
    guarded = "g" * _is_guarded(step)
    name = shell_word(visible(step.id))
    if step.judge is not None:
        most = most_failures(step.judge)
        whose = "section" if step.judge.of in ("carried", "plan") else "batch"
        watched = " ".join(str(number[i]) for i in step.judge.watch)
        return f"judge {n} {name} '{guarded}' '{needs}' {999999999 if most is None else most} {whose} {watched}".rstrip()
    attempts, limit = step.retries + 1, "" if step.timeout_s is None else f"{max(step.timeout_s, 0.001):.6g}"
    times = f"{attempts} {step.retry_delay.mean_s:.6g} '{limit}'"
    by_hand = "h" * (not step.run and not (step.kind == "gate" and step.check))
    if step.gate is not None:
        return f"gate {n} {name} '{guarded}{by_hand}' '{needs}' {times} {step.gate.reaction}"
    flags = guarded + by_hand + "c" * bool(step.check) + "e" * bool(step.expects) + "f" * step.fatal + "u" * step.until_idle
    return f"step {n} {lane[step.id]} {name} '{flags}' '{needs}' {times}"
