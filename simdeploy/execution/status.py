"""How a run stands, told from its journal alone: what is known, what is unknown, and what to type next."""

from __future__ import annotations

import pathlib
import time
from typing import NamedTuple

from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry, is_written, named_plan, read_journal
from simdeploy.execution.requests import waiting
from simdeploy.plan.overview import number
from simdeploy.plan.plan import Plan
from simdeploy.tables import Table
from simdeploy.units import format_s


class Standing(NamedTuple):
    """How a run stands."""

    run: str
    outcome: str
    """How the plan has ended; else running, or stopped with something left to do."""
    steps: int
    done: dict[str, int]
    """Result -> how many steps have it."""
    in_flight: dict[str, str]
    """Step that has begun and not ended -> what is known of its latest attempt."""
    at_s: float
    """Since the first step could start, of the latest entry."""
    capacity_per_s: float
    """At the front door, as the plan's effects say."""
    requests: list[str]
    """What was asked from other terminals and not yet heeded."""
    next: str
    """What is known and unknown, and what to type next."""


def standing(plan: Plan, journal: pathlib.Path) -> Standing:
    """How the run of *plan* in *journal* stands. Raises PlanError where the journal is of another plan."""
    entries = read_journal(journal)
    history, is_running = History(plan, entries), is_written(journal)
    results = [r for r in history.progress.results if r is not None]
    asked = {e.body["step"] for e in entries if e.kind == "asked"}
    flying = {step: _known(history, step, step in asked, is_running) for step in history.in_flight()}
    outcome = history.outcome or ("running" if is_running else "stopped")
    return Standing(
        entries[0].body["run"],
        outcome,
        len(plan.steps),
        {str(result): results.count(result) for result in sorted(set(results))},
        flying,
        max((r.at_s for r in history.chronicle.records), default=0.0),
        history.chronicle.following.capacity_per_s(),
        [f"{r.verb} {r.step}".rstrip() for _, r in waiting(journal) if r is not None],
        _next(journal, history, flying, is_running, entries),
    )


def standing_table(found: Standing) -> Table:
    """The same as a table."""
    rows = [
        ("run", found.run),
        ("stands", found.outcome.replace("_", " ")),
        ("steps", f"{sum(found.done.values())} of {found.steps} ended: {', '.join(f'{n} {r}' for r, n in found.done.items()) or 'none'}"),
        ("since its start", format_s(round(found.at_s, 1))),
        ("capacity", f"{number('capacity_min', found.capacity_per_s)} req/s by the plan's effects"),
        *((f"in flight: {step}", known) for step, known in found.in_flight.items()),
        *(("asked, not heeded yet", request) for request in found.requests),
    ]
    return Table("", ("", ""), rows, left=(0, 1))


def _known(history: History, step: str, is_asked: bool, is_running: bool) -> str:
    result = history.results.get(step)
    if result is None and is_asked:
        return "waits for a person: simdeploy answer JOURNAL STEP yes|no --because TEXT"
    if result is None and is_running:
        return f"attempt {history.attempts[step]} is under way"
    if result is None:
        return f"attempt {history.attempts[step]} was meant to be sent; what became of it is not known here"
    detail = f" ({result['detail']})" if result["detail"] else ""
    return f"attempt {history.attempts[step]}: {result['word']}{detail}"


def _next(journal: pathlib.Path, history: History, flying: dict[str, str], is_running: bool, entries: list[Entry]) -> str:
    if history.outcome is not None:
        return f"It has ended. Hold it against the forecast: simdeploy measure {named_plan(entries)} {journal}"
    if is_running:
        return f"It runs; its last entry is {format_s(round(time.time() - entries[-1].wall_s))} old. To stop: simdeploy pause {journal}"
    unknown = [s for s, r in history.results.items() if r["word"] == "unknown" and s in flying]
    if unknown:
        says = f"simdeploy answer {journal} {unknown[0]} yes|no --because TEXT"
        return f"Unknown: whether {', '.join(unknown)} took effect. Look on the host, then: {says}; then: simdeploy resume {journal}"
    settled = " What is in flight is settled first, by receipts and checks." if flying else ""
    return f"Nobody runs it.{settled} Go on with: simdeploy resume {journal}"
