"""A state machine over send, lose, crash, resume, cancel and unlock: the first four promises hold in every history."""

from __future__ import annotations

import itertools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simdeploy.errors import LockedError
from simdeploy.execution.history import History
from simdeploy.execution.journal import read_journal
from simdeploy.execution.measuring import trace_of
from simdeploy.execution.requests import Request, put
from simdeploy.plan.plan import Plan
from tests.builders import assert_legal, farm, rolling
from tests.execution.fakes import Killed, World, executable, resumed, started
from tests.execution.test_runner import killed_at

FAULTS = st.lists(st.sampled_from(["ok", "ok", "request", "reply", "late"]), max_size=12)


def three_boxes() -> Plan:
    """Three boxes one after the other; the second may be sent twice, the third has no check."""
    steps = list(executable(Plan(environment=farm(3, 100.0, 50.0), steps=rolling(["web@w0", "web@w1", "web@w2"], out_s=0.0))).steps)
    steps[2] = steps[2].model_copy(update={"retry": "safe", "retries": 1})
    steps[4] = steps[4].model_copy(update={"check": ()})
    return Plan(environment=farm(3, 100.0, 50.0), steps=tuple(steps))


class Histories(RuleBasedStateMachine):
    """One run of one plan, by operators that come and go."""

    @initialize()
    def empty(self) -> None:
        """Nothing has begun."""
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "j"
        self.plan = three_boxes()
        self.world = World(self.plan)
        self.outcome: str | None = None
        self.sent: list[tuple[str, int]] = []

    @precondition(lambda self: self.outcome is not None)
    @rule()
    def begin_anew(self) -> None:
        """Another run, of a world as it was."""
        self.folder.cleanup()
        self.empty()

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def operate(self, faults: Iterator[str], boundary: int | None = None, then: Any = None) -> None:
        """An operator runs the plan, or goes on with it, until it ends, stops or is killed."""

        def before(host: str, order: Any) -> None:
            if order["op"] == "send":
                key = order["key"]
                on_disk = [f"{e.body.get('attempt')}" for e in read_journal(self.path) if e.kind == "intent"]
                assert on_disk, "an intent is on the disk before a byte is sent"
                self.sent.append((key, order["fence"]))
                if then is not None:
                    then()

        act = resumed if self.path.exists() else started
        with pytest.MonkeyPatch.context() as patch:
            if boundary is not None:
                killed_at(patch, boundary, self.world)
            try:
                ending = act(self.plan, self.path, self.world, faults=faults, before=before)
            except (Killed, LockedError):
                ended = [e.body["outcome"] for e in read_journal(self.path) if e.kind == "closed" and e.body["is_final"]]
                self.outcome = ended[0] if ended else None
                return
        self.outcome = ending.outcome if ending.outcome in ("success", "partial", "halted") else None

    @precondition(lambda self: self.outcome is None)
    @rule(faults=FAULTS)
    def run(self, faults: list[str]) -> None:
        """Run until the end, on a bad line."""
        self.operate(iter(faults))

    @precondition(lambda self: self.outcome is None)
    @rule(faults=FAULTS, boundary=st.integers(2, 60))
    def run_and_crash(self, faults: list[str], boundary: int) -> None:
        """Run until killed, at a boundary of the journal."""
        self.operate(iter(faults), boundary)

    @precondition(lambda self: self.outcome is None)
    @rule(silent=st.integers(0, 6))
    def run_while_hosts_fall_silent(self, silent: int) -> None:
        """After some orders nobody answers any more."""
        self.operate(itertools.chain(["ok"] * silent, ["reply"], ["request"] * 300))

    @precondition(lambda self: self.outcome is None)
    @rule(after=st.integers(1, 5))
    def run_and_be_unlocked(self, after: int) -> None:
        """Another operator breaks the lock and raises the fence everywhere."""
        count = itertools.count(1)

        def unlock() -> None:
            if next(count) == after:
                with self.world.guard:
                    self.world.lock = None
                    for host in ("w0", "w1", "w2"):
                        self.world.fences[host] += 2

        self.operate(iter(()), then=unlock)

    @precondition(lambda self: self.outcome is None and self.path.exists())
    @rule()
    def cancel(self) -> None:
        """Somebody calls a pause; the next operator hears it first."""
        put(self.path, Request("pause", "ana"))

    @precondition(lambda self: self.outcome is None and self.path.exists() and not self.world.is_orphaned)
    @rule()
    def restart_hosts(self) -> None:
        """A host loses what is in flight: whoever waits for a receipt learns that it was restarted."""
        flying = History(self.plan, read_journal(self.path)).in_flight() if read_journal(self.path) else []
        for step in flying:
            for (run, key), reply in list(self.world.receipts.items()):
                if key.split(".")[0] == str(self.plan.wiring.position[step]) and reply.get("how") != "never":
                    self.world.receipts[(run, key)] = {"state": "lost", "why": "the host was restarted while it ran"}

    @invariant()
    def no_step_is_done_twice(self) -> None:
        """At most once; the step that is declared safe may be done again, and its check sees that it need not."""
        if hasattr(self, "world"):
            assert all(n <= 1 for n in self.world.effects.values()), self.world.effects
            assert len({key for key, _ in self.sent}) == len(self.sent), "an attempt is sent once"

    @invariant()
    def a_success_is_one(self) -> None:
        """What the journal calls succeeded is in the world; a lost connection is never success."""
        if not hasattr(self, "path") or not self.path.exists():
            return
        for entry in read_journal(self.path):
            if entry.kind == "ended" and entry.body["result"] == "succeeded":
                assert self.world.effects[entry.body["step"]] == 1

    @invariant()
    def the_journal_is_a_trace(self) -> None:
        """Whatever has happened, the journal tells a history that `progress` allows."""
        if self.__dict__.get("outcome") is not None:
            told = trace_of(self.plan, read_journal(self.path))
            assert told.outcome == self.outcome
            assert_legal(self.plan, told)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=40, stateful_step_count=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
