"""The plan as a Mermaid flowchart: batches with their entries, in the order in which they follow each other."""

from __future__ import annotations

from collections.abc import Iterable

from simdeploy.export.batches import Batch, Entry, parts
from simdeploy.export.words import visible
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import MAIN, ROLLBACK
from simdeploy.tables import listed

MOST_ENTRIES = 120
"""Of a section; one with more shows its batches only."""
LOST = """\
What this drawing does not keep of what simdeploy's runner promises: all that is done. It has the order of the
{shown}, the point of no return, and whether an arrow asks for success (a full
line) or only for an end (a dotted one). What else decides whether a step is done, commands, checks, limits, times and
ways to undo are in the runbook."""
_SAFE = frozenset(" ,.:/@+=-_")


def flowchart(plan: Plan) -> str:
    """*plan* as a Mermaid flowchart; steps alike but for their machine are one box, of a large section each batch is one."""
    sections = parts(plan)
    coarse = {p.part: sum(len(b.entries) for b in p.batches) > MOST_ENTRIES for p in sections}
    words = {False: "steps, judges and gates", True: "batches of large sections"}
    shown = listed([said for is_coarse, said in words.items() if is_coarse in coarse.values()])
    lines = ["flowchart TB", f"  %% plan {plan.digest}", *(f"  %% {line}" for line in LOST.format(shown=shown).splitlines())]
    place = {s.id: "" for s in plan.steps}
    for section in sections:
        name = {MAIN: "main", ROLLBACK: "rollback"}.get(section.part, f"forward {section.part}")
        lines.append(f'  subgraph {_key(name)}["{_label(name)}"]')
        for batch in section.batches:
            is_coarse = coarse[section.part]
            place |= {s.id: _key(batch.number) if is_coarse else _key(e.number) for e in batch.entries for s in e.steps}
            lines += _coarse(batch) if is_coarse else _fine(batch)
        lines.append("  end")
    edges = dict.fromkeys((place[u], place[s.id]) for s in plan.steps for u in (*s.needs, *s.after))
    needed = {(place[u], place[s.id]) for s in plan.steps for u in s.needs}
    lines += [f"  {u} {'-->' if (u, v) in needed else '-.->'} {v}" for u, v in edges if u != v]
    final = dict.fromkeys(place[s.id] for s in plan.steps if s.no_return)
    lines += ["  classDef final stroke:#b42318,stroke-width:4px", f"  class {','.join(final)} final"] if final else []
    return "\n".join(lines) + "\n"


def _key(number: str) -> str:
    return "n" + "".join(c if c.isalnum() else "_" for c in number)


def _label(text: str) -> str:
    """*text* for a label in double quotes: whatever could end it or be markup goes as a character's number."""
    shown = visible(text)
    shown = shown if len(shown) <= 120 else shown[:119] + "…"
    return "".join(c if c.isalnum() or c in _SAFE else f"#{ord(c)};" for c in shown)


def _coarse(batch: Batch) -> Iterable[str]:
    count = sum(len(e.steps) for e in batch.entries)
    final = " with the point of no return" if any(e.first.no_return for e in batch.entries) else ""
    on = f" on {_some(len(batch.machines), 'machine')}" if batch.machines else ""
    label = f"batch {batch.number}: {_some(count, 'step')}{on}{final}"
    yield f'    {_key(batch.number)}["{_label(label)}"]'


def _fine(batch: Batch) -> Iterable[str]:
    yield f'    subgraph {_key("batch " + batch.number)}["{_label("batch " + batch.number)}"]'
    for entry in batch.entries:
        shape = {"judge": ('{"', '"}'), "gate": ('{{"', '"}}')}.get(entry.first.kind, ('["', '"]'))
        yield f"      {_key(entry.number)}{shape[0]}{_label(_words(entry))}{shape[1]}"
    yield "    end"


def _words(entry: Entry) -> str:
    step = entry.first
    final = " (no way back)" if step.no_return else ""
    if len(entry.steps) == 1:
        return f"{entry.number} {step.id}{final}"
    return f"{entry.number} {step.action} {step.target.split('@')[0]} on {len(entry.steps)} machines{final}"


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
