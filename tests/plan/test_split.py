"""Stores that are split and joined again: who serves, what diverges, who leads afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Environment
from simdeploy.errors import PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.outcome import trace
from tests.builders import farm, run


def store(count: int = 2, demand: float = 50.0, **fields: Any) -> Environment:
    """One datastore of *count* members of 100 req/s at the front door; a new primary takes 7 s + 3 s."""
    return farm(count, 100.0, demand, **({"role": "datastore", "election": {"detect_s": 7.0, "elect_s": 3.0}} | fields))


def found(env: Environment, *steps: Step, horizon_s: float = 100.0, **fields: Any) -> dict[str, float | None]:
    """The metrics of the only run, which are those of the fold over its trace."""
    plan = Plan(environment=env, steps=steps, horizon_s=horizon_s, **fields)
    online = {m: None if v[0] != v[0] else v[0] for m, v in run(plan).items()}
    assert measure(plan, trace(plan)).values == pytest.approx(online)
    return online


def step(name: str, seconds: float = 0.0, *after: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), after=after, **fields)


SPLIT, JOIN = ("split", "web"), ("join", "web")
SIDES = (step("split", begin=(SPLIT,)), step("apart", 40.0, "split"), step("join", 10.0, "apart", end=(JOIN,)))
"""Split from 0 to 50 s; the step that joins takes the last 10 s of it."""


# who serves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "served_per_s"), [(2, 200), (3, 250)])
def test_while_it_is_split_every_serving_member_serves(members, served_per_s):
    """Of 250 req/s; after the join the primary alone."""
    one = found(store(members, demand=250.0), *SIDES)

    assert pytest.approx((250 - served_per_s) * 50 + 150 * 50) == one["failed_requests"]
    assert 100 == one["capacity_end"]


@pytest.mark.parametrize("failover", ["manual", "automatic"])
def test_a_split_store_that_loses_its_primary_serves_on_and_elects_nobody(failover):
    gone = step("gone", 10.0, "split", begin=(("out", "web@w0"),), end=(("serve", "web@w0"),))

    one = found(store(failover=failover), *SIDES, gone)

    assert (0, 0, 100) == (one["downtime_s"], one["failovers"], one["capacity_min"])


@pytest.mark.parametrize(("failover", "down_s", "failovers"), [("manual", 50, 0), ("automatic", 3, 1)])
def test_after_the_join_the_usual_rules_find_a_primary_without_having_to_miss_the_old_one(failover, down_s, failovers):
    one = found(store(failover=failover), *SIDES, step("gone", 1.0, "split", begin=(("kill", "web@w0"),)))

    assert (down_s, failovers) == (one["downtime_s"], one["failovers"])
    assert 0 == one["data_loss_s"]


def test_after_a_join_of_none_that_serves_the_first_to_come_back_is_elected():
    gone = step("gone", 70.0, "split", begin=(("out", "web@w0"), ("out", "web@w1")), end=(("serve", "web@w1"),))

    one = found(store(failover="automatic"), *SIDES, gone)

    assert (73, 1) == (one["downtime_s"], one["failovers"])


def test_a_split_ends_an_election_and_the_join_begins_a_new_one():
    """w0 is out from 0 s; w1 would lead at 10 s. Split from 5 s to 55 s: down until 5 s, and from 55 s to 58 s."""
    out = step("out", 5.0, begin=(("out", "web@w0"),))
    sides = (SIDES[0].model_copy(update={"after": ("out",)}), *SIDES[1:])

    assert 5 + 3 == found(store(failover="automatic"), out, *sides)["downtime_s"]


def test_a_join_waits_for_a_hand_over_under_way():
    """From 30 s to 60 s the lead moves to w1; the split ends at 50 s."""
    moves = step("move", 30.0, "wait", begin=(("lead", "web", None),), end=(("lead", "web", "web@w1"),))

    one = found(store(failover="automatic"), *SIDES, step("wait", 30.0), moves)

    assert (10, 1) == (one["downtime_s"], one["failovers"])


def test_to_split_a_split_store_or_join_a_joined_one_changes_nothing():
    twice = (*SIDES, step("again", 5.0, "split", begin=(SPLIT,)), step("rejoin", 5.0, "join", begin=(JOIN,)))

    one = found(store(), *twice)

    assert (50 * 50, 10 + 5, 100) == (one["divergent_writes"], one["reconcile_s"], one["capacity_end"])


# one more loss, and copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("demand", "at_risk_s"), [(90.0, 0), (150.0, 50)])
def test_the_loss_of_one_side_leaves_the_other_serving(demand, at_risk_s):
    """Of three sides two carry 150 req/s, of which the primary alone (from 50 s on) is short; 90 req/s any one carries."""
    assert at_risk_s == found(store(3, demand, failover="automatic"), *SIDES)["single_fault_s"]


def test_the_loss_of_the_only_side_left_is_not_survived():
    """w1 is out from 20 s to the end: split or not, only w0 is left, which automatic failover would have replaced at the start."""
    out = (step("wait", 20.0), step("out", 80.0, "wait", begin=(("out", "web@w1"),)))

    assert 80 == found(store(demand=90.0, failover="automatic"), *SIDES, *out)["single_fault_s"]


def test_nobody_follows_a_primary_of_a_split_store():
    """The standby's copy stands still for 50 s."""
    env = store(store={"copies": [{"kind": "standby", "lag": 2.0}]})

    assert pytest.approx(50) == found(env, *SIDES)["added_exposure_s"]


# divergent writes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "writes"), [({}, 50 * 50), ({"store": {"writes": 8.0}}, 8 * 50)])
def test_what_is_written_while_it_is_split_diverges(held, writes):
    one = found(store(**held), *SIDES)

    assert (writes, 10) == (pytest.approx(one["divergent_writes"]), one["reconcile_s"])


@pytest.mark.parametrize("how", [{"begin": (("out", "web@w0"), ("out", "web@w1"))}, {"slow": (("web@w0", 0.0), ("web@w1", 0.0))}])
def test_a_store_of_which_nobody_takes_writes_diverges_no_further(how):
    """From 30 s on, whatever its stated rate."""
    stop = (step("wait", 30.0), step("stop", 70.0, "wait", **how))

    assert pytest.approx(30 * 8) == found(store(store={"writes": 8.0}), *SIDES, *stop)["divergent_writes"]


def test_a_store_that_was_never_split_diverges_not():
    one = found(store(store={"writes": 8.0}), step("wait", 30.0))

    assert (0, 0) == (one["divergent_writes"], one["reconcile_s"])


def test_joining_takes_from_the_first_attempt_to_the_last_whether_it_succeeds_or_not():
    """Three attempts of 10 s with pauses of 5 s, all in vain: the store stays split to the end."""
    join = step("join", 10.0, "apart", end=(JOIN,), p_fail=1.0, retries=2, retry_delay=fixed(5.0))

    one = found(store(), *SIDES[:2], join)

    assert (40, 50 * 100) == (one["reconcile_s"], one["divergent_writes"])


def test_joins_that_run_at_the_same_time_add_up():
    one = found(store(), *SIDES, step("other", 20.0, begin=(JOIN,)))

    assert 30 == one["reconcile_s"]


def test_a_crash_of_both_sides_stops_what_is_served_and_written():
    one = found(store(), *SIDES, crashes=(Crash(machine="w0", at_s=10.0, for_s=30.0), Crash(machine="w1", at_s=20.0, for_s=30.0)))

    assert (20, 50 * (20 + 10)) == (one["downtime_s"], pytest.approx(one["divergent_writes"]))


@pytest.mark.parametrize("verb", ["split", "join"])
@pytest.mark.parametrize("role", ["stateless", "leader_elected", "quorum"])
def test_only_a_datastore_is_split_and_joined(verb, role):
    with pytest.raises(PlanError, match=f"'{verb}' is on 'web', which is {role}; it takes a datastore"):
        Plan(environment=farm(2, 100.0, 50.0, role=role), steps=(step("s", begin=((verb, "web"),)),))


def test_two_sides_beside_a_locked_primary_bear_the_loss_of_one():
    locked = step("locked", 50.0, "split", slow=(("web@w0", 0.0),))

    assert 0 == found(store(3, 90.0, failover="automatic"), *SIDES, locked)["single_fault_s"]


def test_a_hand_over_that_fails_while_it_is_split_elects_nobody_before_the_join():
    """It fails at 20 s; the join at 50 s lets those who serve elect until 53 s."""
    move = step("move", 20.0, "split", begin=(("lead", "web", None),), end=(("lead", "web", "web@w1"),), p_fail=1.0)

    assert 3 == found(store(failover="automatic"), *SIDES, move)["downtime_s"]
