"""What a run waited for: closed forms of two lanes, pencil cases of pools, machines and aborts, and each step delayed in turn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.steps import Judge, Step
from simdeploy.simulation.outcome import simulate, trace
from simdeploy.study.criticality import Course, Links, Release, criticality
from tests.builders import farm, random_plans, run, undoable_plans

EPSILON_S = 1e-6


def plan(*steps: Step, **fields) -> Plan:
    return Plan(environment=farm(2, 100.0, 50.0), steps=steps, **fields)


def course(made: Plan, replication: int = 0) -> Course:
    return Course(Links(made), trace(made, 0, replication))


def names(made: Plan, steps) -> list[str]:
    return [made.steps[i].id for i in sorted(steps)]


def with_duration(made: Plan, i: int, seconds: float) -> Plan:
    steps = list(made.steps)
    steps[i] = steps[i].model_copy(update={"duration": fixed(seconds)})
    return made.model_copy(update={"steps": tuple(steps)})


def frozen(made: Plan, distinct: bool = False) -> Plan:
    """*made* with each duration fixed at what its first replication drew; *distinct* keeps two from ending at once."""
    told = course(made)
    steps = [
        s.model_copy(update={"duration": fixed(told.ends_s[i] - told.begins_s[i] + (0.1 * math.sqrt(i + 2) if distinct else 0.0))})
        if s.kind != "judge" and told.ran[i]
        else s
        for i, s in enumerate(made.steps)
    ]
    return made.model_copy(update={"steps": tuple(steps)})


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Distribution(kind="exponential", parameters=(60.0,)), Distribution(kind="exponential", parameters=(30.0,)), 60 / 90),
        (Distribution(kind="uniform", parameters=(0.0, 10.0)), Distribution(kind="uniform", parameters=(0.0, 20.0)), 1 / 4),
    ],
    ids=["exponential", "uniform"],
)
def test_of_two_lanes_each_is_critical_as_often_as_it_is_the_longer_one(a, b, expected):
    """P(A > B) is a / (a + b) for exponential lanes of these means, and E(A) / 20 for A in 0..10 and B in 0..20."""
    count = 4000
    found = criticality(plan(Step(id="a", duration=a), Step(id="b", duration=b)), count)

    frame = found.frame().set_index("step")
    band = 4 * math.sqrt(expected * (1 - expected) / count)  # four standard errors
    assert abs(frame.loc["a", "index"] - expected) < band
    assert 1 == frame.loc["a", "index"] + frame.loc["b", "index"]
    assert frame.loc["a", "ci95_low"] < expected < frame.loc["a", "ci95_high"]
    assert frame["path_s"].sum() == pytest.approx(simulate(found.plan, count).values["makespan_s"].mean())


def test_a_step_that_waited_for_a_pool_comes_after_the_one_that_freed_it():
    """Two hands: a 0-10, b 0-20, c waits for a hand until 10 and ends at 40; b could last until 40."""
    hand = {"pools": (("hands", 1),)}
    made = plan(*(Step(id=n, duration=fixed(t), **hand) for n, t in (("a", 10.0), ("b", 20.0), ("c", 30.0))), pools={"hands": 2})
    told = course(made)

    assert ["a", "c"] == names(made, told.critical())
    assert Release("pool", (0,), "hands") == told.release(2)
    assert [0, 2] == told.chain()


def test_all_that_end_at_once_are_critical_and_the_first_of_them_counts_for_the_time():
    made = plan(Step(id="a", duration=fixed(10.0)), Step(id="b", duration=fixed(10.0)), Step(id="c", after=("a", "b"), duration=fixed(5.0)))
    found = criticality(made, 3)

    assert [1, 1, 1] == found.frame()["index"].tolist()
    assert [10, 0, 5] == found.path_s.tolist()


def test_a_chain_begins_where_a_dead_machine_came_back():
    """w0 is dead from 5 s to 50 s: its lane of 10 s ends at 60 s, whatever came before it."""
    made = plan(
        Step(id="first", duration=fixed(20.0)),
        Step(id="on w0", after=("first",), on="w0", duration=fixed(10.0)),
        crashes=(Crash(machine="w0", at_s=5.0, for_s=45.0),),
    )
    told, found = course(made), criticality(made, 1)

    assert Release("machine", (), "w0") == told.release(1)
    assert ["on w0"] == names(made, told.critical())
    assert 50 == found.waited_s and 60 == found.waited_s + found.path_s.sum()


def test_a_step_that_never_ends_is_what_a_stuck_run_waits_for():
    made = plan(
        Step(id="short", duration=fixed(1.0)),
        Step(id="stuck", on="w0", duration=fixed(10.0)),
        crashes=(Crash(machine="w0", at_s=5.0),),
        horizon_s=100.0,
    )

    assert ["stuck"] == names(made, course(made).critical()) and "unfinished" == course(made).results[1]


def test_a_rollback_comes_after_the_step_that_aborted():
    """The judge says no at 20 s, when the long lane has failed and its rest is skipped; the way back of 7 s follows."""
    never = Step(id="never", after=("judge",), duration=fixed(9.0))
    failing = Step(id="fails", duration=fixed(20.0), p_fail=1.0)
    skipped = Step(id="skipped", needs=("fails",), duration=fixed(9.0))
    judge = Step(id="judge", kind="judge", after=("skipped", "short"), judge=Judge(watch=("fails",), size=1, limit=0.0))
    back = Step(id="back", section="rollback", began=("fails",), duration=fixed(7.0))
    made = plan(never, failing, skipped, Step(id="short", duration=fixed(3.0)), judge, back, on_abort="rollback")
    told = course(made)

    assert ["fails", "judge", "back"] == names(made, told.critical())
    assert Release("abort", (4,)) == told.release(5)
    assert 27 == told.end_s


@settings(deadline=None, max_examples=60)
@given(random_plans(), st.integers(0, 20))
def test_a_chain_has_no_gap_and_is_as_long_as_the_run(made, replication):
    told = course(made, replication)
    chain = told.chain()

    assert 0 == told.begins_s[chain[0]]
    assert all(told.ends_s[i] == told.begins_s[j] for i, j in itertools.pairwise(chain))
    assert told.ends_s[chain[-1]] == simulate(made, replication + 1).values["makespan_s"][replication]
    assert set(chain) <= told.critical()


@settings(deadline=None, max_examples=25)
@given(random_plans(failing=False, pools=False))
def test_a_step_is_critical_if_and_only_if_the_run_ends_later_when_it_takes_longer(made):
    assert_delays(frozen(made))


@settings(deadline=None, max_examples=25)
@given(random_plans(failing=False))
def test_so_it_is_where_steps_wait_for_a_pool(made):
    assert_delays(frozen(made, distinct=True))


@settings(deadline=None, max_examples=15)
@given(undoable_plans())
def test_so_it_is_across_aborts_forward_rounds_and_ways_back(made):
    assert_delays(frozen(made, distinct=True))


def assert_delays(made: Plan) -> None:
    """Brute force: each step that ran takes a little longer, and the end of the run moves by as much or not at all."""
    told = course(made)
    critical = told.critical()
    for i, step in enumerate(made.steps):
        if step.kind == "judge" or not told.ran[i]:
            continue
        longer = with_duration(made, i, step.duration.mean_s + EPSILON_S)
        moved = course(longer).end_s - told.end_s
        assert (moved == pytest.approx(EPSILON_S, rel=1e-2)) == (i in critical), step.id


@settings(deadline=None, max_examples=25)
@given(random_plans(failing=False, pools=False))
def test_a_step_that_is_never_critical_may_take_no_time_at_all_and_changes_nothing(made):
    found = criticality(made, 12)
    makespan_s = run(made, 12)["makespan_s"]

    for i in np.flatnonzero(~found.critical.any(axis=0)):
        if made.steps[i].kind != "judge":
            assert run(with_duration(made, int(i), 0.0), 12)["makespan_s"] == pytest.approx(makespan_s)


def test_actions_add_up_over_instances_to_the_makespan():
    lanes = [
        Step(id=f"code/web@{m}/install", target=f"web@{m}", on=m, duration=Distribution(kind="exponential", parameters=(60.0,)))
        for m in ("w0", "w1")
    ]
    found = criticality(plan(*lanes, Step(id="end", after=tuple(s.id for s in lanes), duration=fixed(5.0))), 500)

    actions = found.actions().set_index("action")
    assert (1, 1) == (actions.loc["install", "index"], actions.loc["end", "index"]) and 2 == actions.loc["install", "steps"]
    assert 1 == pytest.approx(actions["share"].sum())
    assert actions.loc["install", "path_s"] == pytest.approx(90.0, abs=4 * 67.1 / math.sqrt(500))
    """The larger of two exponential times of 60 s: 60 x 3/2, with a variance of 60^2 x (1 + 1/4)."""


def test_what_is_no_plan_and_no_replication_is_said():
    with pytest.raises(StudyError, match="no Plan"):
        criticality("plan.json")  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="at least 1"):
        criticality(plan(Step(id="a")), 0)
