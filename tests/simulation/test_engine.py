"""What the engine makes of elections, of one instant, of retries, gates, judges and crashes, with pencil numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Crash, Plan, Release
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.plan.trace import Trace
from simdeploy.simulation.outcome import trace
from tests.builders import farm, lane, rolling, run

DETECT_S, ELECT_S = 10.0, 5.0


def led(count: int, role: str = "leader_elected", prefer: str = "plan_order", **fields: Any) -> Environment:
    election = {"detect_s": DETECT_S, "elect_s": ELECT_S, "prefer": prefer}
    return farm(count, 100.0, 50.0, role=role, election=election, **fields)


def wait(name: str, seconds: float, *after: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), after=after, **fields)


def when(told: Trace, kind: str) -> list[tuple[float, str]]:
    return [(r.at_s, r.subject) for r in told if r.kind == kind]


# elections -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("take", "without_leader_s"), [("drain", 5), ("out", 5), ("remove", 5), ("kill", 15)])
def test_only_a_killed_leader_must_be_detected_before_the_election(take, without_leader_s):
    plan = Plan(environment=led(2), steps=lane("web@w0", out_s=60.0, take=take))

    assert without_leader_s == run(plan)["downtime_s"][0]


def test_a_crashed_leader_must_be_detected_before_the_election():
    plan = Plan(environment=led(2), steps=(wait("wait", 60.0),), crashes=(Crash(machine="w0", at_s=10.0),))

    assert [(25.0, "web")] == when(trace(plan), "elected")
    assert 15 == run(plan)["downtime_s"][0]


@pytest.mark.parametrize("take", ["drain", "kill"])
def test_a_store_that_fails_over_by_itself_detects_first_however_its_primary_went(take):
    plan = Plan(environment=led(2, "datastore", failover="automatic"), steps=lane("web@w0", out_s=60.0, take=take))

    found = run(plan)

    assert (15, 1) == (found["downtime_s"][0], found["failovers"][0])


def test_a_store_with_manual_failover_is_down_until_its_primary_is_back():
    found = run(Plan(environment=led(2, "datastore"), steps=lane("web@w0", out_s=60.0)))

    assert (60, 0) == (found["downtime_s"][0], found["failovers"][0])


@pytest.mark.parametrize(("prefer", "failovers"), [("plan_order", 2), ("upgraded", 1)])
def test_an_upgraded_member_leads_first_where_that_is_preferred(prefer, failovers):
    plan = Plan(environment=led(3, prefer=prefer), steps=rolling(["web@w2", "web@w0", "web@w1"]))

    found = run(plan)

    assert (failovers, failovers * 5) == (found["failovers"][0], found["downtime_s"][0])


def test_a_leader_that_comes_back_as_leader_is_no_failover():
    found = run(Plan(environment=led(1), steps=lane("web@w0", out_s=60.0), horizon_s=100.0))

    assert (0, 65) == (found["failovers"][0], found["downtime_s"][0])


@pytest.mark.parametrize(("p_fail", "down_s", "failovers"), [(0.0, 20, 1), (1.0, 25, 0)])
def test_a_hand_over_is_the_election_and_one_that_fails_costs_an_election_without_detection(p_fail, down_s, failovers):
    hand_over = Step(
        id="hand_over", duration=fixed(20.0), p_fail=p_fail, begin=(("lead", "web"),), end=(("lead", "web", "web@w1"),)
    )  # fmt: skip

    found = run(Plan(environment=led(2), steps=(hand_over,), horizon_s=100.0))

    assert (down_s, failovers) == (found["downtime_s"][0], found["failovers"][0])


def test_nobody_elects_while_a_hand_over_is_under_way():
    hand_over = Step(id="hand_over", duration=fixed(20.0), begin=(("lead", "web"),), end=(("lead", "web", "web@w1"),))
    plan = Plan(environment=led(3), steps=(hand_over, *lane("web@w2", out_s=3.0)), horizon_s=100.0)

    assert 20 == run(plan)["downtime_s"][0]
    assert not when(trace(plan), "elected")


# one instant ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "capacity"), [("serve", "out", 100), ("out", "serve", 200)])
def test_attempts_that_end_at_one_instant_end_in_plan_order_whichever_began_first(first, second, capacity):
    steps = (
        wait("late", 5.0, "head", end=((first, "web@w0"),)),
        wait("early", 10.0, end=((second, "web@w0"),)),
        wait("head", 5.0),
    )

    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps, horizon_s=20.0)

    assert [(5.0, "head"), (10.0, "late"), (10.0, "early")] == when(trace(plan), "ended")
    assert capacity == run(plan)["capacity_end"][0]


def test_what_ends_at_the_instant_of_an_election_has_ended_before_it():
    steps = (
        wait("take", 30.0, begin=(("out", "web@w0"),)),
        wait("head", 2.0),
        wait("also", 3.0, "head", end=(("out", "web@w1"),)),
    )

    found = run(Plan(environment=led(3), steps=steps))

    assert (5, 1) == (found["downtime_s"][0], found["failovers"][0])  # w2 leads from 5 s, w1 never did


def test_a_machine_dies_before_the_steps_of_that_instant_begin():
    steps = (wait("head", 10.0, on="w0"), wait("tail", 5.0, "head", on="w1"))
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps, crashes=(Crash(machine="w1", at_s=10.0, for_s=30.0),), after_crash="abort")

    assert [(0.0, "head"), (40.0, "tail")] == when(trace(plan), "began")
    assert 1 == run(plan)["success"][0]


def test_a_judge_speaks_before_the_steps_of_its_instant_begin():
    steps = (
        wait("head", 10.0),
        wait("tail", 10.0, "head"),
        wait("fails", 10.0, p_fail=1.0),
        Step(id="judge", kind="judge", after=("fails",), judge=Judge(watch=("fails",), size=1)),
    )

    found = run(Plan(environment=farm(1, 100.0, 50.0), steps=steps))

    assert (1, 10) == (found["halted"][0], found["makespan_s"][0])


def test_a_judge_that_aborts_at_the_end_of_an_attempt_leaves_no_room_for_another():
    steps = (
        wait("again", 10.0, p_fail=1.0, retries=1, retry_delay=fixed(5.0)),
        wait("fails", 10.0, p_fail=1.0),
        Step(id="judge", kind="judge", after=("fails",), judge=Judge(watch=("fails",), size=1)),
        Step(id="undo", section="rollback", duration=fixed(7.0)),
    )

    found = run(Plan(environment=farm(1, 100.0, 50.0), steps=steps, on_abort="rollback"))

    assert (1, 17) == (found["rolled_back"][0], found["makespan_s"][0])


# attempts ------------------------------------------------------------------------------------------------------------


def test_each_attempt_is_a_new_draw():
    def lengths(retries: int) -> np.ndarray:
        duration = Distribution(kind="uniform", parameters=(10.0, 20.0))
        step = Step(id="try", duration=duration, p_fail=1.0, retries=retries)
        return run(Plan(environment=farm(1, 100.0, 50.0), steps=(step,)), 200)["makespan_s"]

    once, twice, thrice = (lengths(n) for n in range(3))

    first, second, third = once, twice - once, thrice - twice
    for one, other in ((first, second), (second, third), (first, third)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(200)
    assert all(10 <= x.min() and x.max() <= 20 for x in (first, second, third))


def test_the_pauses_between_attempts_count():
    step = wait("try", 10.0, p_fail=1.0, retries=2, retry_delay=fixed(5.0))

    assert 40 == run(Plan(environment=farm(1, 100.0, 50.0), steps=(step,)))["makespan_s"][0]


def test_a_pool_is_held_from_the_first_attempt_to_the_last():
    steps = (
        wait("try", 10.0, p_fail=1.0, retries=1, retry_delay=fixed(5.0), pools=(("forks", 1),)),
        wait("next", 10.0, pools=(("forks", 1),)),
    )

    assert 35 == run(Plan(environment=farm(1, 100.0, 50.0), steps=steps, pools={"forks": 1}))["makespan_s"][0]


@pytest.mark.parametrize(("timeout_s", "ends_s", "failures"), [(20.0, 40, 1), (30.0, 30, 0)])
def test_a_time_out_fails_each_attempt_when_it_is_reached(timeout_s, ends_s, failures):
    step = wait("try", 30.0, timeout_s=timeout_s, retries=1)

    found = run(Plan(environment=farm(1, 100.0, 50.0), steps=(step,)))

    assert (ends_s, failures) == (found["makespan_s"][0], found["steps_failed"][0])


# gates and judges ----------------------------------------------------------------------------------------------------


def gated(p_bad: float, before: bool = False, **gate: float) -> dict[str, float]:
    """Whether a gate before or after the only lane of two boxes stops the plan, and what failed by 160 s."""
    change = lane("web@w0", ("gate",) if before else ())
    look = Step(id="gate", kind="gate", after=() if before else (change[-1].id,), gate=Gate(reaction="halt", **gate))
    release = Release(p_bad=p_bad, error_share=0.5)
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=(look, *change), release=release, horizon_s=160.0)
    return {name: values[0] for name, values in run(plan).items()}


def test_a_gate_finds_a_bad_release_once_a_changed_instance_serves():
    assert 1 == gated(1.0, sensitivity=1.0)["halted"]
    assert 1 == gated(1.0, sensitivity=1.0, before=True)["success"]


def test_a_blind_gate_lets_a_bad_release_through_whatever_its_false_alarms():
    assert 1 == gated(1.0, sensitivity=0.0, false_alarms=1.0)["success"]


def test_a_gate_raises_false_alarms_on_a_good_release_only_by_its_rate_for_them():
    assert 1 == gated(0.0, sensitivity=0.0, false_alarms=1.0)["halted"]
    assert 1 == gated(0.0, sensitivity=1.0, false_alarms=0.0)["success"]


def test_a_bad_release_spoils_its_share_of_what_changed_instances_serve():
    assert 50 * 0.5 * 0.5 * 100 == gated(1.0, sensitivity=0.0)["failed_requests"]  # half of one box of two from 60 s on
    assert 0 == gated(0.0)["failed_requests"]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        ({"limit": 0}, "halted"),
        ({"limit": 1}, "partial"),
        ({"limit": None}, "partial"),
        ({"limit": 49, "unit": "percent"}, "halted"),
        ({"limit": 50, "unit": "percent"}, "partial"),
    ],
)
def test_a_judge_stops_the_plan_when_strictly_more_failed_than_it_bears(verdict, outcome):
    first = (*lane("web@w0", p_fail=1.0), *lane("web@w1"))
    judge = Step(id="judge", kind="judge", after=(first[1].id, first[3].id), judge=Judge(watch=[s.id for s in first], size=2, **verdict))

    found = run(Plan(environment=farm(3, 100.0, 50.0), steps=(*first, judge, *lane("web@w2", ("judge",)))))

    assert 1 == found[outcome][0]
    assert 1 == found["out_at_end"][0]
    assert (60 if outcome == "halted" else 120) == found["makespan_s"][0]


@pytest.mark.parametrize(("of", "left_out"), [("batch", 4), ("carried", 2), ("plan", 4)])
def test_who_counts_the_failures_decides_when_half_of_each_batch_fails(of, left_out):
    """Batches of 2, one of each fails, 50 % borne: failures carried over stop the plan after the second batch."""
    steps: list[Step] = []
    for k in range(4):
        batch = (
            *lane(f"web@w{2 * k}", tuple(s.id for s in steps[-1:]), p_fail=1.0),
            *lane(f"web@w{2 * k + 1}", tuple(s.id for s in steps[-1:])),
        )
        judge = Judge(watch=[s.id for s in batch], size=8 if of == "plan" else 2, limit=50, unit="percent", of=of)
        steps += [*batch, Step(id=f"judge{k}", kind="judge", after=(batch[1].id, batch[3].id), judge=judge)]

    assert left_out == run(Plan(environment=farm(8, 100.0, 50.0), steps=tuple(steps)))["out_at_end"][0]


# crashes -------------------------------------------------------------------------------------------------------------


def test_a_broken_attempt_costs_no_retry():
    steps = (wait("try", 30.0, on="w0", retries=1, p_fail=1.0),)
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps, crashes=(Crash(machine="w0", at_s=10.0, for_s=50.0),))

    assert 60 + 30 + 30 == run(plan)["makespan_s"][0]


def test_an_instance_that_was_rising_when_its_machine_died_rises_again_after_the_repair():
    env = farm(2, 100.0, 50.0, health_check={"interval_s": 10.0, "rise": 5})
    restart = wait("restart", 10.0, begin=(("out", "web@w0"),), end=(("start", "web@w0"),))
    plan = Plan(environment=env, steps=(restart,), crashes=(Crash(machine="w0", at_s=20.0, for_s=10.0),), horizon_s=200.0)

    ((risen_s, instance),) = when(trace(plan), "risen")
    assert "web@w0" == instance and 30 + 40 <= risen_s <= 30 + 50
    assert 200 == run(plan)["capacity_end"][0]


def test_what_a_step_took_while_its_machine_was_dead_stays_out_after_the_repair():
    steps = (wait("head", 20.0), wait("take", 80.0, "head", begin=(("out", "web@w0"),)))
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps, crashes=(Crash(machine="w0", at_s=10.0, for_s=40.0),))

    assert 100 == run(plan)["capacity_end"][0]


def undone(**fields: Any) -> Plan:
    """Aborted at 10 s; then *undo* on w0 takes 20 s."""
    steps = (wait("fails", 10.0, p_fail=1.0, fatal=True), Step(id="undo", section="rollback", on="w0", duration=fixed(20.0), **fields))
    return Plan(environment=farm(2, 100.0, 50.0), steps=steps, on_abort="rollback", crashes=(Crash(machine="w1", at_s=15.0),))


def test_a_rollback_step_is_attempted_again_as_often_as_it_may_be():
    found = run(undone(p_fail=1.0, retries=2, retry_delay=fixed(5.0)))

    assert (1, 10 + 20 + 5 + 20 + 5 + 20) == (found["halted"][0], found["makespan_s"][0])


def test_a_rollback_step_that_a_crash_broke_is_attempted_again_when_its_machine_is_back():
    plan = undone().model_copy(update={"crashes": (Crash(machine="w0", at_s=15.0, for_s=10.0),)})

    found = run(plan)

    assert (1, 25 + 20) == (found["rolled_back"][0], found["makespan_s"][0])
