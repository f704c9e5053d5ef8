"""The runbook as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from simdeploy.export.instructions import Instruction
from simdeploy.export.runbook import Chapter, Runbook, Stage
from simdeploy.export.words import markdown_code as code
from simdeploy.export.words import markdown_line as text
from simdeploy.export.words import markdown_text as inline


def markdown(book: Runbook) -> str:
    """*book* as Markdown: boxes to tick, commands in blocks of their own, nothing that the plan names can become markup."""
    blocks = [
        f"# Runbook: {inline(book.title)}",
        _table(("", ""), [(inline(a), inline(b)) for a, b in book.purpose]),
        "## Hosts",
        _table(("machines", "services", "zone"), [tuple(map(inline, h)) for h in book.hosts]),
        *_prerequisites(book),
        "## Preflight",
        _boxes(map(text, book.preflight)),
        "## What this page does not keep",
        "Of what simdeploy's runner promises, were it to run the plan:",
        "\n".join(f"- {text(said)}" for said in book.lost),
        text(book.kept),
        *_verdict(book),
        *_expectation(book),
        *(b for chapter in book.chapters for b in _chapter(chapter)),
        "## Sign-off",
        _table(("what", "who", "when"), [(w, " ", " ") for w in ("preflight", "go", "last step ended", "checked", "handed over")]),
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def _boxes(items: Iterable[str]) -> str:
    return "\n".join(f"- [ ] {item}" for item in items)


def _fence(command: str) -> str:
    """A command in a block of its own, between more backticks than it holds."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return f"{ticks}sh\n{command}\n{ticks}"


def _prerequisites(book: Runbook) -> Iterable[str]:
    yield "## Prerequisites"
    if book.artefacts:
        yield _table(("artefact", "SHA-256"), [(code(path, in_table=True), code(digest)) for path, digest in book.artefacts])
    else:
        yield "The plan names no artefacts."
    if book.secrets:
        yield _table(("variable", "where the secret is"), [(code(v), code(ref)) for v, ref in book.secrets])
    else:
        yield "The plan names no secrets."
    yield "\n".join(f"- {text(p)}" for p in book.people)


def _verdict(book: Runbook) -> Iterable[str]:
    yield "## Vetting"
    yield text(book.verdict.said)
    if book.verdict.findings:
        yield _table(("", "finding", "what is wrong, and what would mend it"), [tuple(map(inline, row)) for row in book.verdict.findings])
    if book.verdict.accepted:
        yield "Risk that is accepted:\n\n" + "\n".join(f"- {text(a)}" for a in book.verdict.accepted)


def _expectation(book: Runbook) -> Iterable[str]:
    yield "## Forecast"
    yield text(book.expectation.said)
    if book.expectation.metrics:
        yield _table(("", "P50 or chance", "P95"), [tuple(map(inline, row)) for row in book.expectation.metrics])
    if book.expectation.goals:
        yield _table(("goal", ""), [tuple(map(inline, row)) for row in book.expectation.goals])


def _chapter(chapter: Chapter) -> Iterable[str]:
    yield f"## {chapter.title}"
    yield from map(text, chapter.intro)
    for stage in chapter.stages:
        yield from _stage(stage)


def _stage(stage: Stage) -> Iterable[str]:
    yield f"### {stage.title}"
    if len(stage.rounds) == 1:
        (only,) = stage.rounds
        yield f"Machines: {inline(only.machines)}. Expected to begin: {inline(only.begins)}."
        yield f"**Go or no-go?** Decided by ________ at ________\n\n{_boxes(map(text, stage.go))}"
    else:
        yield f"**Go or no-go?** Before each batch anew:\n\n{_boxes(map(text, stage.go))}"
        rows = [(f"[ ] {r.number}", inline(r.machines), inline(r.begins), " ") for r in stage.rounds]
        yield _table(("go and done", "machines", "expected to begin", "decided by, at"), rows)
    for step in stage.instructions:
        yield from _instruction(step)


def _instruction(step: Instruction) -> Iterable[str]:
    if step.no_return:
        yield "> **POINT OF NO RETURN. Once the next step has begun nothing is rolled back any more.**"
    yield f"#### {step.number} {inline(step.title)}"
    yield f"{step.kind.capitalize()} {code(step.steps)}"
    for condition in step.condition:
        yield f"**Condition:** {inline(condition)}"
    if step.machines:
        yield f"On each of these, as MACHINE and batch by batch ({len(step.machines)}): {inline(', '.join(step.machines))}"
    if step.expects:
        yield f"Must hold before, on {inline(step.where)}:\n\n{_fence(step.expects)}"
    if step.kind == "judge":
        yield "\n".join(f"- [ ] {text(s)}" for s in step.stop)
        return
    if step.command:
        yield f"Run on {inline(step.where)}:\n\n{_fence(step.command)}"
    elif step.kind == "gate":
        yield "By hand: look, and say whether the release is good."
    else:
        yield f"By hand, from {inline(step.where)}: there is no command; reach what stands below."
    if step.check:
        yield f"It is there when this exits 0; if it does so before, there is nothing to run:\n\n{_fence(step.check)}"
    yield "\n".join(_facts(step))
    yield "- [ ] done at ________"


def _facts(step: Instruction) -> Iterable[str]:
    yield from (f"- to be reached: {inline(r)}" for r in step.reach)
    yield from (f"- {text(u)}" for u in step.uses)
    yield f"- lasts: {inline(step.lasts)}"
    yield f"- capacity left while it runs: {inline(step.capacity)}"
    yield from (f"- watch: {inline(w)}" for w in step.watch)
    yield from (f"- stop: {inline(s)}" for s in step.stop)
    if step.undo:
        yield f"- undo: {inline(step.undo)}"
