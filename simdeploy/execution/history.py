"""A journal, read: where the run stands, and the trace that it is."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from simdeploy.errors import PlanError
from simdeploy.execution.journal import Entry
from simdeploy.execution.sightings import Sightings
from simdeploy.plan.following import Following
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import Progress, Result, order
from simdeploy.plan.state import Timer
from simdeploy.plan.trace import Record, Trace


class Chronicle:
    """The records of a run as they come from its journal, and the state that the plan says they lead to.

    What the world does by itself between the steps (health checks that notice, elections) is not seen by a runner; it is
    inferred, after the mean time that each takes.
    """

    def __init__(self, plan: Plan) -> None:
        self.following = Following(plan)
        self._horizon_s = plan.horizon_s or 0.0
        self.records: list[Record] = []
        self._zero: float | None = None
        self._now = 0.0
        self._wall = 0.0
        self._due: list[tuple[float, int, Timer, str]] = []

    def tell(self, entry: Entry) -> None:
        """The next entry of the journal."""
        if entry.kind == "opened":  # another process, perhaps after a restart: only the wall clock spans that
            self._now += max(0.0, entry.wall_s - self._wall) if self._zero is not None else 0.0
            self._zero = None if self._zero is None else entry.mono_s - self._now
        if self._zero is None and entry.kind == "intent":
            self._zero = entry.mono_s
        self._wall = entry.wall_s
        if self._zero is None:
            return
        self._now = max(self._now, entry.mono_s - self._zero)
        for kind, subject, value in _records(entry):
            self._until(self._now)
            self._add(Record(self._now, kind, subject, value))

    def at_s(self, mono_s: float) -> float:
        """How long after the first step could start a moment of this process is [s]."""
        return 0.0 if self._zero is None else max(self._now, mono_s - self._zero)

    def bins(self, entry: Entry) -> list[tuple[float, float, int, int]]:
        """Of an entry of samples: when each bin began after the first step could start, how long it is, requests and failures."""
        if entry.kind != "sampled" or self._zero is None:
            return []
        return [(mono_s - self._zero, float(entry.body["bin_s"]), asked, failed) for mono_s, asked, failed in entry.body["bins"]]

    def trace(self, outcome: str | None) -> Trace:
        """What has happened, as a simulator tells it: to the plan's horizon, or as far as a plan has come that has not ended (`stuck`)."""
        last_s = max((r.at_s for r in self.records), default=0.0)
        if outcome is not None:
            self._until(max(last_s, self._horizon_s))
        return Trace(self.records, last_s if outcome is None else max(last_s, self._horizon_s), outcome or "stuck", "journal")

    def _until(self, at_s: float) -> None:
        """What the world has done by itself until then."""
        while self._due and self._due[0][0] <= at_s:
            due_s, _, timer, subject = heapq.heappop(self._due)
            if self.following.is_valid(timer):
                self._add(Record(due_s, timer.kind, subject))

    def _add(self, record: Record) -> None:
        self.records.append(record)
        self.following.tell(record)
        for delay_s, timer, subject in self.following.timers():
            heapq.heappush(self._due, (record.at_s + delay_s, len(self.records), timer, subject))


def _records(entry: Entry) -> Iterable[tuple[Any, str, str]]:
    body = entry.body
    if entry.kind == "intent" and body["attempt"] == 1:
        yield "began", body["step"], ""
    elif entry.kind == "again":
        yield "again", body["step"], ""
    elif entry.kind == "ended":
        yield "ended", body["step"], body["result"]
    elif entry.kind == "aborted":
        yield "aborted", body["step"], body["reaction"]


class History:
    """Where a run stands, told from its journal; a runner goes on from here, and tells it what it writes."""

    def __init__(self, plan: Plan, entries: Iterable[Entry] = ()) -> None:
        self.plan = plan
        self.progress = Progress(order(plan))
        self.chronicle = Chronicle(plan)
        self.seen = Sightings(plan)
        self.attempts: dict[str, int] = {}
        """Step -> the number of its latest attempt."""
        self.tries: dict[str, int] = {}
        """Step -> how many of them count: what is certain not to have been started does not."""
        self.results: dict[str, dict[str, Any]] = {}
        """Step whose latest attempt has come to an end -> what its result says."""
        self.skips: dict[str, str] = {}
        """Step that a person wants left out -> why."""
        self.paused_for: set[str] = set()
        """Reasons for which the run has paused before: a resume accepts them."""
        self.warned: set[str] = set()
        self.is_closed = False
        self.unwritten: list[dict[str, Any]] = []
        """What `progress` has decided and a process could not write down any more."""
        self._where = plan.wiring.position
        written: set[tuple[str, str]] = set()
        for entry in entries:
            if entry.kind == "intent" and entry.body["attempt"] == 1:
                self._begin(entry)
            self.tell(entry)
            self.unwritten += self.advance()
            if entry.body.get("by") == "progress":
                written.add(_decision(entry.body))
        self.unwritten = [body for body in self.unwritten if _decision(body) not in written]

    @property
    def outcome(self) -> str | None:
        """How the plan ended; None where something is left to do."""
        return self.progress.outcome

    def in_flight(self) -> list[str]:
        """The steps that have begun and not ended, in plan order."""
        begun = [s for s in self.attempts if self.progress.results[self._where[s]] is None]
        return sorted(begun, key=self._where.__getitem__)

    def tell(self, entry: Entry) -> None:
        """The next entry; of a step that `progress` has begun, of what it has not decided itself."""
        kind, body = entry.kind, entry.body
        if kind == "intent":
            self.attempts[body["step"]] = body["attempt"]
            self.tries[body["step"]] = body["try"]
            self.results.pop(body["step"], None)
        elif kind == "result":
            self.results[body["step"]] = body
        elif kind == "ended" and body["by"] != "progress":
            self.progress.ended(self._where[body["step"]], body["result"])
        elif kind == "request" and body["verb"] == "skip":
            self.skips[body["step"]] = body["because"]
        elif kind == "request" and body["verb"] in ("rollback", "abort") and body["step"]:
            self.progress.abort("rollback" if body["verb"] == "rollback" else "halt", self._where[body["step"]])
        elif kind == "pause":
            self.paused_for.add(body["reason"])
        elif kind == "warning":
            self.warned.add(body["reason"])
        elif kind in ("opened", "closed"):
            self.is_closed = kind == "closed"
        self.chronicle.tell(entry)
        for one in self.chronicle.bins(entry):
            self.seen.add(*one)

    def advance(self) -> list[dict[str, Any]]:
        """Let judges speak and sections change; what they decided, as the bodies of entries `ended` and `aborted`, in order."""
        progress, said = self.progress, []
        while True:
            said += self._taken()
            for judge, verdict in progress.judged():
                said.append(self._ended(judge, verdict))
            said += self._taken()
            progress.started_among(0, lambda _: False)
            if not (progress.passed or progress.has_verdicts()):
                return said

    def _taken(self) -> list[dict[str, Any]]:
        progress = self.progress
        said = [{"step": self.plan.steps[i].id, "reaction": r, "by": "progress"} for i, r in progress.aborts]
        said += [self._ended(i, result) for i, result in progress.passed]
        progress.aborts.clear()
        progress.passed.clear()
        return said

    def _ended(self, step: int, result: Result) -> dict[str, Any]:
        return {"step": self.plan.steps[step].id, "result": result, "by": "progress"}

    def _begin(self, entry: Entry) -> None:
        """A step has its turn. Raises PlanError where it has not: then the journal is of another plan."""
        step = entry.body["step"]
        i = self._where.get(step)
        if i is None or self.progress.started_among(1, lambda j: j == i) != [i]:
            raise PlanError(f"the journal's line {entry.seq} begins {step!r} out of turn; name the plan that it is of")


def _decision(body: dict[str, Any]) -> tuple[str, str]:
    return body["step"], body.get("reaction") or body["result"]
