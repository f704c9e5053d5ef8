"""Connections that break, hosts that fall silent, crash or come back: over a real sshd, through the real transport and runner."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from simdeploy.errors import DiffersError
from simdeploy.execution.hands import Hands
from simdeploy.execution.outcomes import Outcome
from simdeploy.execution.transports import Lost, Order, Reply, Ssh
from tests.execution.boxes import Box, deaf, until
from tests.execution.desk import QUICK, SHORT, Desk

pytestmark = pytest.mark.slow


def heard_again(box: Any) -> None:
    box.relay.swallow(True)
    time.sleep(1.5)
    box.relay.swallow(False)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda box: box.relay.cut("fin"), id="FIN"),
        pytest.param(lambda box: box.relay.cut("rst"), id="RST"),
        pytest.param(lambda box: box.relay.freeze(), id="freeze"),
        pytest.param(heard_again, id="black hole"),
        pytest.param(lambda box: (box.kill_sshd(), time.sleep(0.5), box.start()), id="sshd killed"),
    ],
)
def test_a_connection_that_is_lost_in_mid_step_is_settled_by_the_receipt(far_desk, box, fault):
    plan = far_desk.plan(far_desk.wait, "true", has_check=False)  # nothing but the receipt can say
    run = far_desk.start(plan)
    far_desk.until_began()
    fault(box)
    far_desk.go()

    assert run.result(30).outcome == "success" and far_desk.done() == ["s0", "s1"]
    assert far_desk.words() == [("succeeded", "receipt")] * 2
    assert len(far_desk.bodies("intent")) == 2 and len(box.relay.connects) > 1


@pytest.mark.parametrize("way", ["fin", "rst"])
def test_an_exit_code_that_the_cut_connection_hid_is_no_success(far_desk, box, way):
    run = far_desk.start(far_desk.plan(f"{far_desk.wait}; exit 9", has_check=False))
    far_desk.until_began()
    box.relay.cut(way)
    far_desk.go()

    assert run.result(30).outcome == "partial" and far_desk.done() == []
    assert [(r["word"], r["detail"]) for r in far_desk.bodies("result")] == [("failed", "exit code 9")]


class Armed(Ssh):
    """Cuts the connection when *count* bytes have left the desk, login and all."""

    def __init__(self, box: Box, config: pathlib.Path, count: int) -> None:
        super().__init__(config, connect_s=1, alive_s=1)
        self._box, self._count = box, count

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        if order["op"] == "send":
            self._box.relay.cut_after(self._count, "fin" if self._count % 2 else "rst")
        return super().carry(host, order, patience_s)


def test_a_connection_may_be_lost_at_any_byte_of_an_order(far_desk, boxes, box):
    """Where the order is cut short nothing is begun, and that is certain; where only its answer is lost the receipt has it."""
    plan = far_desk.plan("true", has_check=False)

    def sent(count: int) -> Outcome:
        (far_desk.folder / "effects").write_text("")
        box.relay.reset()
        transport = Armed(box, boxes.config, count)
        outcome = Hands(plan, transport, f"r{count}", QUICK._replace(reach_s=2)).carry_out(plan.steps[0], 1, must_know=False)
        transport.close()
        return outcome

    assert sent(10**9).word == "succeeded" and far_desk.done() == ["s0"]
    whole, words = box.relay.sent_bytes, []
    for count in (1, 2_000, whole // 4, whole // 2, *range(whole - 240, whole, 40)):
        outcome = sent(count)
        words.append(outcome.word)
        assert outcome.by == "receipt", (count, outcome)
        assert (far_desk.done(), outcome.no_effect) == (([], True) if outcome.word == "cancelled" else (["s0"], False))
    assert words[:4] == ["cancelled"] * 4 and words[-1] == "succeeded"


def test_a_host_that_falls_silent_in_mid_step_leaves_it_unknown_until_it_can_be_asked(far_desk, box):
    plan = far_desk.plan(far_desk.wait, "true", has_check=False)
    run = far_desk.start(plan, SHORT)
    far_desk.until_began()
    began = time.monotonic()
    box.relay.swallow(True)
    far_desk.go()
    ending = run.result(30)

    assert ending.outcome == "unknown" and far_desk.words() == [("unknown", "runner")] and time.monotonic() - began < 15
    assert "its receipt was not read" in ending.why and f"simdeploy resume {far_desk.journal}" in ending.why
    until(lambda: far_desk.done() == ["s0"])  # meanwhile it has ended there
    box.relay.swallow(False)
    assert far_desk.resume(plan).outcome == "success" and far_desk.done() == ["s0", "s1"]
    assert far_desk.words()[1:] == [("succeeded", "receipt")] * 2


def test_resumed_while_the_host_is_still_silent_it_begins_nothing(far_desk, box):
    plan = far_desk.plan(far_desk.wait, "true", has_check=False)
    run = far_desk.start(plan, SHORT)
    far_desk.until_began()
    box.kill_sshd()
    assert run.result(30).outcome == "unknown"
    with pytest.raises(DiffersError, match="the lock cannot be taken"):
        far_desk.resume(plan)
    far_desk.go()
    box.start()
    assert far_desk.resume(plan).outcome == "success" and far_desk.done() == ["s0", "s1"]


@pytest.mark.parametrize(
    ("done", "has_check", "fields", "outcome", "words"),
    [
        pytest.param("", True, {"retries": 1}, "success", [("failed", "check"), ("succeeded", "receipt")], id="its check finds nothing"),
        pytest.param("echo s0 >> {}; ", True, {}, "success", [("succeeded", "check")], id="its check finds its effect"),
        pytest.param("", False, {"retries": 5}, "unknown", [("unknown", "check")], id="nobody can say"),
    ],
)
def test_a_host_that_is_restarted_in_mid_step(far_desk, box, done, has_check, fields, outcome, words):
    plan = far_desk.plan(done.format(far_desk.folder / "effects") + far_desk.wait, has_check=has_check, **fields)
    run = far_desk.start(plan)
    far_desk.until_began()
    until(lambda: not done or far_desk.done())
    box.crash()
    far_desk.go()
    box.boot()
    ending = run.result(30)

    assert ending.outcome == outcome and far_desk.words() == words
    assert "the host was restarted while it ran" in far_desk.bodies("result")[0]["detail"]
    assert far_desk.done() == (["s0"] if outcome == "success" else [])
    if outcome == "unknown":
        assert f"simdeploy answer {far_desk.journal} work/w0/s0 yes|no" in ending.why


@contextlib.contextmanager
def silenced(far_desk: Desk, way: str) -> Iterator[None]:
    box = far_desk.boxes[0]
    if way == "swallows":
        box.relay.swallow(True)
        yield
    elif way == "refuses":
        box.kill_sshd()
        yield
    else:
        with deaf(box.address) as port:
            far_desk.config = far_desk.boxes.configure(far_desk.folder / "config", far_desk.boxes.known_hosts, f"Host w0\n  Port {port}\n")
            yield


@pytest.mark.parametrize("way", ["swallows", "drops", "refuses"])
def test_a_host_that_never_answers_is_given_up_in_time_and_nothing_is_begun(far_desk, way):
    plan = far_desk.plan("true")
    began = time.monotonic()
    with silenced(far_desk, way):
        with pytest.raises(DiffersError, match=r"w0: the lock cannot be taken: .*; nothing was begun; try: ssh w0 true"):
            far_desk.start(plan, SHORT).result(30)
        assert far_desk.bodies("intent") == []
        far_desk.journal = far_desk.folder / "another"
        with pytest.raises(DiffersError, match=r"nothing was begun:\n  w0: .*; try: ssh w0 true"):
            far_desk.start(plan, SHORT, lock_host="w1").result(30)

    assert time.monotonic() - began < 15 and not far_desk.done() and far_desk.bodies("intent") == []
    assert not any(far_desk.boxes[1].state.glob("*/lock"))


def test_many_who_wait_for_a_silent_host_wait_together(boxes, box):
    """One login takes a second to fail; five steps, and eleven that wait for a session, do not take sixteen."""
    box.relay.swallow(True)
    transport = Ssh(boxes.config, connect_s=1)
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        tries = [pool.submit(transport.carry, "w0", {"op": "facts"}, 20.0) for _ in range(16)]
        assert {type(t.exception()) for t in tries} == {Lost}
    transport.close()
    assert time.monotonic() - began < 10  # one after the other: sixteen and more
