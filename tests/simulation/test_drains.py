"""Drains that last until the last request has ended: Little's law at their begin, residual holds, what the time-out cuts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.models import Environment
from simdeploy.errors import PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Crash, Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws, Means
from tests.builders import canonical, farm, run

MANY = 2000
NOTHING_LASTS_S = 0.0
"""With this time-out a drain cuts all that its instance holds: its cut is N."""


def drain(instance: str, timeout_s: float = 1e6, after: tuple[str, ...] = (), **fields: Any) -> Step:
    return Step(
        id=f"code/{instance}/drain", target=instance, on=instance.split("@")[1], until_idle=True, timeout_s=timeout_s, after=after,
        begin=(("drain", instance),), end=(("out", instance),), **fields,
    )  # fmt: skip


def holding(hold: Any, demand: float, count: int = 2, capacity: float = 1000.0, **fields: Any) -> Environment:
    return farm(count, capacity, demand, hold=hold, **fields)


def one(env: Environment, *steps: Step, **fields: Any) -> dict[str, float]:
    return {m: v[0] for m, v in run(Plan(environment=env, steps=steps, **fields)).items()}


def wait(name: str, seconds: float, *after: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), after=after, **fields)


# how long ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0.5, 3, 300])
def test_with_fixed_holds_the_longest_of_n_lasts_n_of_n_plus_one_of_a_hold(n):
    """Half of the demand is on w0, which holds each request for 10 s."""
    lengths = run(Plan(environment=holding(10.0, n / 5), steps=(drain("web@w0"),)), MANY)["makespan_s"]

    spread = 10 * math.sqrt(n / (n + 2)) / (n + 1)
    assert abs(np.mean(lengths) - 10 * n / (n + 1)) < 4 * spread / math.sqrt(MANY)
    assert lengths.max() <= 10


@pytest.mark.parametrize("n", [1, 5, 100])
def test_with_exponential_holds_the_longest_of_n_has_the_harmonic_mean(n):
    env = holding(["exponential", 20.0], n / 10)

    lengths = run(Plan(environment=env, steps=(drain("web@w0"),)), MANY)["makespan_s"]

    harmonic, spread = sum(1 / k for k in range(1, n + 1)), math.sqrt(sum(1 / k**2 for k in range(1, n + 1)))
    assert abs(np.mean(lengths) - 20 * harmonic) < 4 * 20 * spread / math.sqrt(MANY)


def test_an_instance_that_holds_nothing_is_idle_at_once():
    env = holding(10.0, 50.0)

    assert 0 == one(env, drain("web@w0"), start=Start(out=("web@w0",)))["makespan_s"]
    assert 0 == one(holding(10.0, 0.0), drain("web@w0"))["makespan_s"]


def test_the_mean_run_takes_the_median_and_the_critical_path_the_time_out():
    plan = Plan(environment=holding(10.0, 0.6), steps=(drain("web@w0", 30.0),))
    engine = Engine(plan)

    path = next(iter(engine.runs(Means(plan, engine.names))))

    assert pytest.approx(10 * 0.5 ** (1 / 3)) == path.makespan_s
    assert 30 == plan.critical_path_s()


def test_rival_plans_drain_with_the_same_luck():
    """Three requests on w0 in one plan, six in the other: u^(1/3) and u^(1/6) of a hold."""
    few, many = (run(Plan(environment=holding(10.0, 0.6 * k), steps=(drain("web@w0"),)), 50)["makespan_s"] for k in (1, 2))

    assert np.allclose((few / 10) ** 3, (many / 10) ** 6)


# how many ------------------------------------------------------------------------------------------------------------


def held(env: Environment, *steps: Step, **fields: Any) -> float:
    """What all drains of the only run cut, where their time-out is 0 s: what their instances held."""
    return one(env, *steps, horizon_s=100.0, **fields)["cut_requests"]


@pytest.mark.parametrize(
    ("fields", "instance", "n"),
    [
        ({}, "web@w0", 100 / 3 * 5),
        ({"role": "leader_elected"}, "web@w0", 100 * 5),
        ({"role": "leader_elected"}, "web@w1", 0),
        ({"role": "datastore"}, "web@w0", 100 * 5),
        ({"role": "quorum"}, "web@w1", 100 / 3 * 5),
        ({"capacity_per_s": 20.0}, "web@w1", 20 * 5),  # 60 of 100 req/s are served
    ],
)
def test_an_instance_holds_its_load_times_the_mean_hold(fields, instance, n):
    env = holding(["uniform", 0.0, 10.0], 100.0, 3, **fields)

    assert pytest.approx(n) == held(env, drain(instance, NOTHING_LASTS_S))


@pytest.mark.parametrize(("balancing", "n"), [("by_capacity", 90 / 3 * 5), ("even", 90 / 2 * 5)])
def test_a_slow_instance_holds_its_share(balancing, n):
    env = holding(5.0, 90.0, 2, balancing=balancing)
    steps = (wait("slow", 20.0, slow=(("web@w0", 0.5),)), wait("wait", 10.0), drain("web@w0", NOTHING_LASTS_S, ("wait",)))

    assert pytest.approx(n) == held(env, *steps)


def test_a_called_service_holds_as_often_as_it_is_called():
    """100 req/s with 1.5 calls each over two boxes."""
    env = canonical(100.0, mid={"hold": 4.0})

    assert pytest.approx(100 * 1.5 / 2 * 4) == held(env, drain("mid@mid1", NOTHING_LASTS_S))


def test_drains_that_begin_together_each_see_the_load_before_and_a_later_one_what_they_left():
    first, second, third = (drain(f"web@w{i}", NOTHING_LASTS_S) for i in range(3))
    env = holding(5.0, 120.0, 3)

    assert pytest.approx(2 * 40 * 5) == held(env, first, second)
    assert pytest.approx((40 + 60) * 5) == held(env, first, wait("wait", 10.0), second.model_copy(update={"after": ("wait",)}))
    assert pytest.approx(3 * 40 * 5) == held(env, first, second, third.model_copy(update={"after": (second.id,)}))


def test_what_came_back_at_this_instant_has_taken_nothing_off_yet():
    """w0 is back at 10 s, when w1 is drained: until then w1 carried all."""
    back = wait("back", 10.0, begin=(("out", "web@w0"),), end=(("serve", "web@w0"),))
    env = holding(5.0, 120.0)

    assert pytest.approx(120 * 5) == held(env, back, drain("web@w1", NOTHING_LASTS_S, ("back",)))


def test_a_plan_that_opens_at_this_instant_holds_nothing_yet():
    start = Start(live=False)
    opened = Step(id="open", end=(("open",),))

    assert 0 == held(holding(5.0, 120.0), opened, drain("web@w0", NOTHING_LASTS_S, ("open",)), start=start)


# what is cut ---------------------------------------------------------------------------------------------------------


def test_what_is_still_held_at_the_time_out_is_cut_and_the_drain_has_succeeded():
    """300 requests, residuals U(0, 10 s): half of them last longer than 5 s, and at least one surely does."""
    found = one(holding(10.0, 60.0), drain("web@w0", 5.0), wait("then", 2.0, "code/web@w0/drain"), horizon_s=100.0)

    assert (150, 150, 7, 1) == tuple(pytest.approx(found[m]) for m in ("cut_requests", "failed_requests", "makespan_s", "success"))
    assert pytest.approx(1 - 150 / 6000) == found["availability"]


@pytest.mark.parametrize(("hold", "timeout_s", "n", "over"), [
    (10.0, 8.0, 3, 0.2), (["exponential", 10.0], 20.0, 12, math.exp(-2)), (["uniform", 0.0, 12.0], 6.0, 0.7, 0.25),
])  # fmt: skip
def test_over_all_runs_the_time_out_cuts_those_who_hold_longer(hold, timeout_s, n, over):
    env = holding(hold, 1.0)
    mean_s = env.services["web"].hold.mean_s
    env = env.model_copy(update={"demand": env.demand.model_copy(update={"rate_per_s": 2 * n / mean_s})})

    found = run(Plan(environment=env, steps=(drain("web@w0", timeout_s),)), MANY)
    cut = found["cut_requests"]

    reached = found["makespan_s"] == timeout_s
    assert np.array_equal(reached, cut > 0) and np.array_equal(cut, found["failed_requests"])
    chance = 1 - (1 - over) ** n
    assert abs(np.mean(cut) - n * over) < 4 * (n * over / chance) * math.sqrt(chance * (1 - chance) / MANY)


def test_more_is_cut_than_was_asked_since_and_the_availability_stays_a_share():
    """Connections of an hour, drained within 1 s of a run of 1 s."""
    found = one(holding(3600.0, 60.0), drain("web@w0", 1.0))

    assert pytest.approx(30 * 3600 - 30) == found["cut_requests"] and 0 == found["availability"]


# attempts ------------------------------------------------------------------------------------------------------------


def both(plan: Plan, seed: int) -> tuple[dict[str, Any], dict[str, Any], list[tuple[float, str]]]:
    """The metrics of a run, those of the fold over its trace, and when attempts of drains began again."""
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, 1, engine.names)
    online = metrics_of(plan, engine.book, list(engine.runs(draws)), [draws.phases(0)])
    trace = engine.trace(draws)
    again = [(r.at_s, r.subject) for r in trace if r.kind == "again"]
    return {m: None if math.isnan(v[0]) else float(v[0]) for m, v in online.items()}, measure(plan, trace).values, again


@pytest.mark.parametrize("seed", range(12))
def test_the_fold_over_the_trace_cuts_what_the_run_cut_also_after_failed_attempts(seed):
    """Two drains, tried again after failures and a crash; the time-out is near the median length."""
    env = holding(["lognormal", 6.0, 20.0], 3.0, 3)
    steps = (
        drain("web@w0", 20.0, p_fail=0.5, retries=3, retry_delay=fixed(4.0)), drain("web@w1", 20.0, ("code/web@w0/drain",)),
        drain("web@w2", 15.0),
    )  # fmt: skip
    plan = Plan(environment=env, steps=steps, crashes=(Crash(machine="w2", at_s=8.0, for_s=11.0),), horizon_s=200.0)

    online, offline, again = both(plan, seed)

    assert online == pytest.approx(offline)
    assert again or online["steps_failed"] == 0


def test_an_attempt_that_a_crash_broke_is_drawn_anew_with_what_was_held_at_first():
    """w0 held 3 before; it begins again at 25 s, when it holds nothing new."""
    plan = Plan(environment=holding(10.0, 0.6), steps=(drain("web@w0"),), crashes=(Crash(machine="w0", at_s=1.0, for_s=24.0),))
    firsts = np.array([durations[0] for durations, _ in Draws(plan, 0, 0, MANY, Engine(plan).names).rows()])

    lengths = run(plan, MANY)["makespan_s"]

    broken = 10 * firsts ** (1 / 3) > 1
    assert np.allclose(10 * firsts[~broken] ** (1 / 3), lengths[~broken])
    again = lengths[broken] - 25
    assert abs(np.mean(again) - 7.5) < 4 * 10 * math.sqrt(3 / 5) / 4 / math.sqrt(len(again))


def test_a_drain_that_fails_has_cut_nothing():
    found = one(holding(10.0, 60.0), drain("web@w0", 5.0, p_fail=1.0))

    assert (0, 5, 1) == (found["cut_requests"], found["makespan_s"], found["steps_failed"])


# what is no such drain -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "hold", "says"),
    [
        ({"target": "web"}, 5.0, "name that instance as its target"),
        ({}, None, "state its `hold`"),
        ({"timeout_s": None}, 5.0, "has no `timeout_s`"),
        ({"begin": ()}, 5.0, 'add \\["drain", "web@w0"\\] under begin'),
        ({"begin": (("drain", "web@w1"),)}, 5.0, 'add \\["drain", "web@w0"\\] under begin'),
        ({"duration": fixed(3.0)}, 5.0, "has the duration 3 s"),
    ],
)
def test_what_cannot_last_until_idle_says_what_is_missing(change, hold, says):
    step = drain("web@w0", 5.0).model_copy(update=change)

    with pytest.raises(PlanError, match=says):
        Plan(environment=holding(hold, 10.0), steps=(step,))


def test_a_plan_with_such_a_drain_survives_its_own_json():
    plan = Plan(environment=holding(["lognormal", 5.0, 20.0], 10.0), steps=(drain("web@w0", 5.0),))

    assert plan == Plan.from_json(plan.to_json())
    assert Distribution(kind="lognormal", parameters=(5.0, 20.0)) == plan.environment.services["web"].hold
