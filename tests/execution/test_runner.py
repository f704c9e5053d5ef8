"""The runner on hosts in memory: order, failures, unknown outcomes, people, guard rails; kill -9 at every boundary."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import fixed
from simdeploy.errors import DiffersError, JournalError, LockedError, PlanError
from simdeploy.execution import journal as journals
from simdeploy.execution.journal import Journal, read_journal
from simdeploy.execution.measuring import trace_of
from simdeploy.execution.operating import Settings, begin, conduct
from simdeploy.execution.operator import Question, Script
from simdeploy.execution.requests import Request, put
from simdeploy.execution.status import standing
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.forecasting import forecast
from tests.builders import assert_legal, farm, rolling, undoable_plans
from tests.execution.fakes import SETTINGS, Killed, Wires, World, executable, kinds, resumed, started


def small(**fields: Any) -> Plan:
    """Two boxes upgraded one after the other, four steps."""
    return executable(Plan(environment=farm(2, 100.0, 50.0), steps=rolling(["web@w0", "web@w1"], out_s=0.01), **fields))


def shipped() -> Plan:
    """The canary of the local service: 55 steps with gates, judges and a way back."""
    plan = executable(build_plan(load_scenario("scenarios/local/upgrade.yaml"), "canary"))
    return plan.model_copy(update={"goals": ()})


def test_a_run_does_every_step_once_in_an_order_that_progress_allows(tmp_path):
    plan, world = shipped(), World(shipped())
    ending = started(plan, tmp_path / "j", world)

    assert ending.outcome == "success" and world.lock is None
    main = [s.id for s in plan.steps if s.section == "main" and s.kind == "step"]
    assert all(world.effects[s] == 1 for s in main) and set(world.effects) == set(main)
    assert_legal(plan, trace_of(plan, read_journal(tmp_path / "j")))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(plan=undoable_plans(), data=st.data())
def test_whatever_fails_the_journal_is_a_trace_that_progress_allows(tmp_path_factory, plan, data):
    plan = executable(plan.model_copy(update={"steps": tuple(s.model_copy(update={"duration": fixed(0.0)}) for s in plan.steps)}))
    world = World(plan)
    ids = [s.id for s in plan.steps if s.kind != "judge"]
    world.codes = {s: [1] * 9 for s in data.draw(st.sets(st.sampled_from(ids), max_size=3))}
    path = tmp_path_factory.mktemp("runs") / "j"
    ending = started(plan, path, world)

    assert ending.outcome in ("success", "partial", "rolled_back", "halted")
    assert_legal(plan, trace_of(plan, read_journal(path)))
    assert all(n <= 1 for n in world.effects.values())


def killed_at(monkeypatch: pytest.MonkeyPatch, boundary: int, world: World) -> None:
    """The controller is killed before or after its k-th journal entry: boundary 2k and 2k + 1."""
    count = itertools.count()
    whole = Journal.write

    def write(self: Journal, *arguments: Any, **body: Any) -> Any:
        if next(count) == boundary:
            world.is_orphaned = True
            raise Killed
        entry = whole(self, *arguments, **body)
        if next(count) == boundary:
            world.is_orphaned = True
            raise Killed
        return entry

    monkeypatch.setattr(Journal, "write", write)


@pytest.mark.parametrize("failing", [False, True], ids=["all succeeds", "a check says no, so it goes back"])
def test_killed_at_every_boundary_of_the_journal_and_resumed_each_effect_is_there_at_most_once(tmp_path, failing):
    plan = shipped()
    canary_gate = next(s.id for s in plan.steps if s.kind == "gate")
    boundary, boundaries = 0, 0
    expected = "rolled_back" if failing else "success"
    reference = World(plan)
    if failing:
        reference.codes[canary_gate] = [1]
    started(plan, tmp_path / "whole", reference)
    boundaries = 2 * len(read_journal(tmp_path / "whole"))
    for boundary in range(boundaries):
        path, world = tmp_path / f"j{boundary}", World(plan)
        if failing:
            world.codes[canary_gate] = [1, 1, 1]
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, boundary, world)
            with contextlib.suppress(Killed):
                started(plan, path, world)
        entries = read_journal(path) if path.exists() else []
        if not entries:
            assert not world.effects
            continue
        if not any(e.kind == "closed" and e.body["is_final"] for e in entries):
            ending = resumed(plan, path, world)
            assert ending.outcome == expected, boundary
        assert world.effects == reference.effects, boundary
        assert world.state == reference.state and world.lock is None
        trace = trace_of(plan, read_journal(path))
        assert trace.outcome == expected
        assert_legal(plan, trace)


def test_killed_twice_it_is_resumed_twice(tmp_path):
    plan, world, path = small(), World(small()), tmp_path / "j"
    for boundary in (11, 9):
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, boundary, world)
            with pytest.raises(Killed):
                (resumed if path.exists() else started)(plan, path, world)

    assert resumed(plan, path, world).outcome == "success" and set(world.effects.values()) == {1}


@pytest.mark.parametrize("fault", ["request", "reply", "late"])
def test_a_lost_order_is_settled_by_its_receipt_and_done_once(tmp_path, fault):
    plan, world = small(), World(small())
    ending = started(plan, tmp_path / "j", world, faults=iter([fault, "ok", "ok", fault, "ok", fault, "request"]))

    assert ending.outcome == "success" and world.effects == {s.id: 1 for s in plan.steps}


def test_a_host_that_falls_silent_leaves_the_step_unknown_and_its_lane_where_it_is(tmp_path):
    plan, world, path = small(), World(small()), tmp_path / "j"
    ending = started(plan, path, world, faults=iter(["reply"] + ["request"] * 400))

    first = plan.steps[0].id
    assert ending.outcome == "unknown" and first in ending.why and "simdeploy answer" in ending.why
    assert world.effects == {first: 1} and world.lock is None
    found = standing(plan, path)
    assert found.in_flight[first].startswith("attempt 1: unknown") and "simdeploy answer" in found.next

    assert resumed(plan, path, world).outcome == "success" and set(world.effects.values()) == {1}


@pytest.mark.parametrize(("word", "outcome", "times"), [("yes", "success", 1), ("no", "halted", 1)])
def test_what_nobody_can_tell_a_person_says_and_it_is_written_down_with_name_and_reason(tmp_path, word, outcome, times):
    plan, path = small(), tmp_path / "j"
    plan = plan.model_copy(update={"steps": tuple(s.model_copy(update={"fatal": True}) for s in plan.steps)})
    world = World(plan)
    first = plan.steps[0].id
    assert started(plan, path, world, faults=iter(["reply"] + ["request"] * 400)).outcome == "unknown"
    world.receipts.clear()  # the host has forgotten
    world.receipts[(read_journal(path)[0].body["run"], "0.1")] = {"state": "lost", "why": "the host was restarted while it ran"}
    world.blind.add(first)
    assert resumed(plan, path, world).outcome == "unknown"
    put(path, Request("answer", "ana", first, "I looked", word))

    assert resumed(plan, path, world).outcome == outcome and world.effects[first] == times
    answered = next(e for e in read_journal(path) if e.kind == "answered")
    assert answered.body == {"step": first, "answer": word, "who": "ana", "because": "I looked"}


def test_after_a_restart_of_the_host_the_check_decides(tmp_path):
    plan, path = small(), tmp_path / "j"
    world = World(plan)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 7, world)  # after the first intent
        with pytest.raises(Killed):
            started(plan, path, world)
    run = read_journal(path)[0].body["run"]
    world.effects.clear()
    world.state["web@w0.pool"] = "in"
    world.receipts[(run, "0.1")] = {"state": "lost", "why": "the host was restarted while it ran"}

    assert resumed(plan, path, world).outcome == "partial"  # it had no effect, and no retries
    result = next(e for e in read_journal(path) if e.kind == "result")
    assert result.body["word"] == "failed" and "finds no effect" in result.body["detail"]


@pytest.mark.parametrize(
    ("retry", "has_check", "attempts"),
    [("checked", True, 3), ("safe", False, 3), ("checked", False, 1)],
    ids=["checked", "safe", "neither"],
)
def test_a_failed_step_is_sent_again_only_where_that_can_do_no_harm(tmp_path, retry, has_check, attempts):
    plan = small()
    first = plan.steps[0].model_copy(update={"retries": 2, "retry": retry, **({} if has_check else {"check": ()})})
    plan = plan.model_copy(update={"steps": (first, *plan.steps[1:])})
    world = World(plan)
    world.codes[first.id] = [1] * 9
    started(plan, tmp_path / "j", world)

    assert len([e for e in read_journal(tmp_path / "j") if e.kind == "intent" and e.body["step"] == first.id]) == attempts


def test_a_step_whose_check_finds_its_effect_after_a_failure_is_done(tmp_path):
    plan = small()
    plan = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"retries": 1}), *plan.steps[1:])})
    world = World(plan)
    first = plan.steps[0].id
    world.codes[first] = [1]

    def before(host: str, order: Any) -> None:
        if order["op"] == "look" and world.codes[first] == []:
            world.state["web@w0.pool"] = "out"  # it took effect and said otherwise

    assert started(plan, tmp_path / "j", world, before=before).outcome == "success"
    assert world.effects[first] == 0  # and was not done again


def test_failures_are_judged_before_the_next_batch_is_touched(tmp_path):
    one, two = rolling(["web@w0"], 0.0), rolling(["web@w1"], 0.0)
    judge = Step(id="judge", kind="judge", after=tuple(s.id for s in one), judge=Judge(watch=tuple(s.id for s in one), size=1))
    gated = two[0].model_copy(update={"needs": ("judge",)})
    plan = executable(Plan(environment=farm(2, 100.0, 50.0), steps=(*one, judge, gated, two[1])))
    world = World(plan)
    world.codes[one[0].id] = [1]

    assert started(plan, tmp_path / "j", world).outcome == "halted" and not world.effects
    aborted = [e.body for e in read_journal(tmp_path / "j") if e.kind == "aborted"]
    assert aborted == [{"step": "judge", "reaction": "halt", "by": "progress"}]


def test_an_unreachable_host_counts_as_a_failure_and_nothing_is_sent(tmp_path):
    plan = small()
    world = World(plan)
    wires = Wires(world)

    def carry(host: str, order: Any, patience_s: float, whole: Any = wires.carry) -> Any:
        if host == "w0" and order["op"] in ("look", "send"):
            from simdeploy.execution.transports import Lost

            raise Lost("no route to host")
        return whole(host, order, patience_s)

    wires.carry = carry  # type: ignore[method-assign]
    with pytest.raises(DiffersError, match=r"w0.*neither|w0: .*no route"):
        conduct(plan, begin(plan, tmp_path / "j", SETTINGS), SETTINGS, Script(), lambda _: True, transport=wires)
    assert not world.effects and world.lock is None


def test_a_world_that_is_not_as_planned_refuses_the_run_and_says_the_difference(tmp_path):
    plan, world = shipped(), World(shipped())
    world.state["app@box2.version"] = "1.1"
    with pytest.raises(DiffersError, match=r"app@box2 has version 1.1 already") as refused:
        started(plan, tmp_path / "j", world)

    assert "app@box2 does not have version 1.0" in str(refused.value) and not world.effects and world.lock is None


def test_a_pause_lets_lanes_run_to_their_end_and_a_resume_goes_on(tmp_path):
    plan, path = shipped(), tmp_path / "j"
    world = World(plan)

    def before(host: str, order: Any) -> None:
        if order["op"] == "send" and order["argv"][1] == "code/app@box1/stop":
            put(path, Request("pause", "ana"))

    ending = started(plan, path, world, before=before)
    assert ending.outcome == "paused" and "simdeploy resume" in ending.why and world.lock is None
    assert world.state["app@box1.pool"] == "in" and world.state["app@box1.version"] == "1.1"  # its lane has run to its end
    assert world.state["app@box2.version"] == "1.0"

    assert resumed(plan, path, world).outcome == "success" and max(world.effects.values()) == 1


@pytest.mark.parametrize(("verb", "outcome", "version"), [("rollback", "rolled_back", "1.0"), ("abort", "halted", "1.1")])
def test_a_person_calls_it_off_from_another_terminal(tmp_path, verb, outcome, version):
    plan, path = shipped(), tmp_path / "j"
    world = World(plan)

    def before(host: str, order: Any) -> None:
        if order["op"] == "send" and order["argv"][1] == "code/app@box1/install" and not world.effects["asked"]:
            world.effects["asked"] += 1
            put(path, Request(verb, "ana", because="the page is wrong"))

    assert started(plan, path, world, before=before).outcome == outcome
    assert world.state["app@box1.version"] == version and world.state["app@box1.pool"] == "in"
    assert_legal_but_for_people(plan, path)


def assert_legal_but_for_people(plan: Plan, path: pathlib.Path) -> None:
    """Its journal can be read again, to the same end."""
    told = trace_of(plan, read_journal(path))
    assert told.outcome == read_journal(path)[-1].body["outcome"]


def test_a_step_that_a_person_skips_is_not_sent_and_what_needs_it_goes_on(tmp_path):
    plan, path = small(), tmp_path / "j"
    world = World(plan)
    begin(plan, path, SETTINGS).close()
    put(path, Request("skip", "ana", plan.steps[0].id, "done by hand"))

    assert resumed(plan, path, world).outcome == "success"
    assert world.effects == {s.id: 1 for s in plan.steps[1:]}


def with_gate(**fields: Any) -> Plan:
    """A manual gate between two boxes."""
    one, two = rolling(["web@w0"], 0.0), rolling(["web@w1"], 0.0)
    gate = Step(id="approve", kind="gate", after=(one[-1].id,), gate=Gate(reaction="halt"), **fields)
    plan = executable(Plan(environment=farm(2, 100.0, 50.0), steps=(*one, gate, two[0].model_copy(update={"needs": ("approve",)}), two[1])))
    return plan.model_copy(update={"steps": tuple(s if s.id != "approve" else gate for s in plan.steps)})


@pytest.mark.parametrize(("word", "outcome"), [("yes", "success"), ("no", "halted")])
def test_a_manual_gate_is_answered_by_a_person(tmp_path, word, outcome):
    asked: list[Question] = []

    def answer(question: Question) -> str:
        asked.append(question)
        return word

    plan = with_gate()
    assert started(plan, tmp_path / "j", World(plan), Script(answer)).outcome == outcome
    assert [q.key for q in asked] == ["approve"]


def test_a_gate_without_an_answer_says_no_after_its_time_out(tmp_path):
    plan = with_gate(timeout_s=0.2)
    world = World(plan)
    assert started(plan, tmp_path / "j", world).outcome == "halted"
    assert next(e for e in read_journal(tmp_path / "j") if e.kind == "answered").body["who"] == "nobody"
    assert "code/web@w1/install" not in world.effects


def test_a_step_at_its_time_out_pauses_the_plan(tmp_path):
    plan, path = shipped(), tmp_path / "j"
    world = World(plan)
    world.codes["code/app@box1/stop"] = [124]
    assert started(plan, path, world).outcome == "paused"
    pause = next(e for e in read_journal(path) if e.kind == "pause")
    assert pause.body["reason"] == "time-out:code/app@box1/stop"

    assert resumed(plan, path, world).outcome == "rolled_back"  # it has failed, and the plan rolls back


def test_a_run_that_is_later_than_99_of_100_pauses_once(tmp_path):
    plan, path = small(), tmp_path / "j"
    known = forecast(plan, 1000)
    early = Forecast.model_validate({**known.model_dump(), "metrics": {"makespan_s": {"mean": 0, "p50": 0, "p95": 0, "p99": 0.0}}})
    opened = begin(plan, path, SETTINGS)
    ending = conduct(plan, opened, SETTINGS, Script(), lambda _: True, early, Wires(World(plan)))

    assert ending.outcome == "paused" and "longer than 99 of 100" in ending.why
    assert resumed(plan, path, World(plan)).outcome == "success"


def test_a_goal_that_is_missed_already_pauses(tmp_path):
    plan = Plan.model_validate({**small().model_dump(mode="json"), "goals": ["min(capacity_min) >= 150 req/s"]})
    ending = started(plan, tmp_path / "j", World(plan))

    assert ending.outcome == "paused" and "capacity_min is 100 already" in ending.why


def test_a_full_disk_under_the_journal_stops_the_plan_and_names_what_is_in_flight(tmp_path, monkeypatch):
    plan, world, path = small(), World(small()), tmp_path / "j"
    whole, count = journals.os.write, itertools.count()

    def write(fd: int, data: bytes) -> int:
        if next(count) == 6:
            raise OSError(28, "No space left on device")
        return whole(fd, data)

    monkeypatch.setattr(journals.os, "write", write)
    with pytest.raises(JournalError, match=r"No space left.*In flight: .*simdeploy resume"):
        started(plan, path, world)
    monkeypatch.undo()
    assert world.lock is not None  # nobody else may begin before somebody has looked

    assert resumed(plan, path, world).outcome == "success" and set(world.effects.values()) == {1}


def test_a_failing_fsync_is_not_tried_again(tmp_path, monkeypatch):
    plan, world, path = small(), World(small()), tmp_path / "j"
    calls = itertools.count()

    def fsync(fd: int) -> None:
        if next(calls) >= 6:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(journals.os, "fsync", fsync)
    with pytest.raises(JournalError, match="Input/output error"):
        started(plan, path, world)
    assert next(calls) == 7  # one call failed, and none came after


def test_an_operator_that_was_shut_out_stops_at_once_and_says_by_whom(tmp_path):
    plan, world, path = small(), World(small()), tmp_path / "j"

    def before(host: str, order: Any) -> None:
        if order["op"] == "send" and order["argv"][1] == plan.steps[2].id:
            world.fences[host] += 5

    with pytest.raises(LockedError, match=r"somebody has taken over.*simdeploy status"):
        started(plan, path, world, before=before)
    assert plan.steps[2].id not in world.effects

    assert resumed(plan, path, world).outcome == "success" and set(world.effects.values()) == {1}


def test_a_declined_run_has_begun_nothing(tmp_path):
    plan, world = small(), World(small())
    ending = conduct(plan, begin(plan, tmp_path / "j", SETTINGS), SETTINGS, Script(), lambda _: False, transport=Wires(world))

    assert ending.outcome == "declined" and not world.effects and world.lock is None


def test_a_journal_of_another_plan_is_refused(tmp_path):
    plan, world = small(), World(small())
    started(plan, tmp_path / "j", world)
    other = plan.model_copy(update={"on_abort": "rollback"})
    with pytest.raises(DiffersError, match="is of the plan"):
        resumed(other, tmp_path / "j", world)
    with pytest.raises(PlanError, match="has ended"):
        resumed(plan, tmp_path / "j", world)


def test_no_more_than_forks_run_at_once(tmp_path):
    plan = executable(Plan(environment=farm(6, 100.0, 50.0), steps=tuple(s for i in range(6) for s in rolling([f"web@w{i}"], 0.0))))
    world, most = World(plan), 0
    import threading
    import time

    running = 0
    guard = threading.Lock()
    wires = Wires(world)

    def carry(host: str, order: Any, patience_s: float, whole: Any = wires.carry) -> Any:
        nonlocal running, most
        if order["op"] != "send":
            return whole(host, order, patience_s)
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with guard:
            running -= 1
        return whole(host, order, patience_s)

    wires.carry = carry  # type: ignore[method-assign]
    forked = Settings(transport="local", forks=2, limits=SETTINGS.limits)
    assert conduct(plan, begin(plan, tmp_path / "j", forked), forked, Script(), lambda _: True, transport=wires).outcome == "success"
    assert most == 2


def test_the_intent_is_on_disk_before_a_byte_is_sent_and_the_result_before_what_needs_it(tmp_path):
    plan, path = small(), tmp_path / "j"
    world = World(plan)
    seen: list[tuple[str, list[str]]] = []

    def before(host: str, order: Any) -> None:
        if order["op"] == "send":
            seen.append((order["argv"][1], [f"{e.kind} {e.body.get('step')}" for e in read_journal(path)]))

    started(plan, path, world, before=before)
    for k, (step, on_disk) in enumerate(seen):
        assert f"intent {step}" in on_disk
        assert all(f"result {s.id}" in on_disk and f"ended {s.id}" in on_disk for s in plan.steps[:k])


def test_samples_and_answers_are_in_the_journal_and_the_rest_is_a_closed_set(tmp_path):
    plan = with_gate()
    started(plan, tmp_path / "j", World(plan), Script(lambda _: "yes"))

    assert kinds(read_journal(tmp_path / "j"))[:3] == ["opened", "locked", "preflight"]
    assert kinds(read_journal(tmp_path / "j"))[-1] == "closed"
