"""Weights at the balancer, with pencil numbers: who gets which share, and what that leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simdeploy.environment.models import Environment
from simdeploy.errors import PlanError
from simdeploy.plan.layout import Layout
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan, Release
from simdeploy.plan.state import State
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from tests.builders import canonical, farm, random_plans, run

HORIZON_S = 50.0
CHECK = {"interval_s": 1000.0, "fall": 2}


def lasting(env: Environment, *effects: tuple[Any, ...], slow: tuple[Any, ...] = (), **fields: Any) -> dict[str, float]:
    """Every metric of a plan in which *effects* and slowness last from the beginning to the horizon."""
    step = Step(id="all along", duration={"fixed": HORIZON_S}, begin=effects, slow=slow)
    return {m: v[0] for m, v in run(Plan(environment=env, steps=(step,), horizon_s=HORIZON_S, **fields)).items()}


def weights(*values: float) -> tuple[Any, ...]:
    return tuple(("weight", f"web@w{i}", w) for i, w in enumerate(values))


@pytest.mark.parametrize(
    ("given_weights", "factor", "by_capacity", "even"),
    [
        ((1, 1, 1), 1.0, 300, 300),
        ((5, 5, 5), 1.0, 300, 300),  # only their ratios matter
        ((0.5, 1, 1), 1.0, 250, 250),  # w0 gets 1/5 and bears 100: the whole 500; the others 2/5 each: 250
        ((2, 1, 1), 1.0, 200, 200),  # w0 gets a half
        ((0.5, 1, 1), 0.5, 225, 250),  # by capacity w0 gets 0.25 of 2.25; evenly 0.5 of 2.5, which it just bears
        ((1, 1, 1), 0.5, 250, 150),
        ((0, 1, 1), 1.0, 200, 200),
        ((0, 1, 1), 0.0, 200, 200),  # a lock where nothing goes
        ((2, 1, 1), 0.0, 200, 0),  # by capacity nothing goes to the locked one, however heavy
        ((0, 1, 3), 1.0, 100 * 4 / 3, 100 * 4 / 3),
        ((0, 0, 0), 1.0, 0, 0),
        ((1, 0, 0), 0.0, 0, 0),
        ((5e-324, 1e308, 1e308), 0.5, 200, 200),  # no sum overflows, nothing is divided by nothing
    ],
)
def test_capacity_is_what_can_be_served_before_one_instance_gets_too_much(given_weights, factor, by_capacity, even):
    for balancing, expected in (("by_capacity", by_capacity), ("even", even)):
        env = farm(3, 100.0, 50.0, balancing=balancing)

        one = lasting(env, *weights(*given_weights), slow=(("web@w0", factor),))

        assert pytest.approx(expected) == one["capacity_min"], balancing
        assert (HORIZON_S if expected == 0 else 0) == one["downtime_s"]


@pytest.mark.parametrize(("given_weights", "down"), [((0, 1), False), ((0, 0), True)])
def test_a_service_without_a_capacity_does_not_limit_while_one_with_a_weight_serves(given_weights, down):
    """The store carries 500 / 3 req/s of the front door."""
    env = canonical(50.0, web={"capacity_per_s": None, "on": ["w0", "w1"]})

    assert (0 if down else 500 / 3) == lasting(env, *weights(*given_weights))["capacity_min"]


def test_a_quorum_counts_its_members_and_weighs_their_requests():
    """Of three members two must serve, whatever their weights; then 100 x (1 + 0.5) with one out."""
    env = farm(3, 100.0, 50.0, role="quorum")

    assert 150 == lasting(env, *weights(1, 0.5, 1), ("out", "web@w2"))["capacity_min"]
    assert 100 == lasting(env, *weights(1, 0, 0), ("out", "web@w2"))["capacity_min"]
    assert 0 == lasting(env, ("out", "web@w1"), ("out", "web@w2"))["capacity_min"]


@pytest.mark.parametrize(("given_weights", "dead"), [((1, 1), 1 / 2), ((1, 3), 1 / 4), ((0, 1), 0), ((4, 1), 4 / 5), ((1, 0), 1)])
def test_requests_meet_a_dead_instance_by_its_weight(given_weights, dead):
    env = farm(2, 100.0, 40.0, health_check=CHECK)

    one = lasting(env, *weights(*given_weights), ("kill", "web@w0"))

    assert pytest.approx(40 * HORIZON_S * dead) == one["failed_requests"]


@pytest.mark.parametrize(
    ("balancing", "given_weights", "factor", "changed"),
    [("by_capacity", (1, 3), 1.0, 1 / 4), ("by_capacity", (1, 3), 0.5, 1 / 7), ("even", (1, 3), 0.5, 1 / 4), ("even", (1, 1), 1.0, 1 / 2)],
)
def test_a_bad_release_spoils_the_share_of_the_requests_that_changed_instances_get(balancing, given_weights, factor, changed):
    """w0 is changed and fails half of what it gets: its weight, by capacity times what is left of it."""
    env = farm(2, 100.0, 20.0, balancing=balancing)
    install = Step(id="install", end=(("version", "web@w0", "2"), *weights(*given_weights)))
    slowed = Step(id="slowed", duration={"fixed": HORIZON_S}, slow=(("web@w0", factor),))
    plan = Plan(environment=env, steps=(install, slowed), horizon_s=HORIZON_S, release=Release(p_bad=1.0, error_share=0.5))

    assert pytest.approx(20 * 0.5 * changed * HORIZON_S) == run(plan)["failed_requests"][0]


def test_of_a_led_service_a_bad_release_spoils_what_its_leader_serves():
    env = farm(3, 100.0, 20.0, role="leader_elected")

    def failed(instance: str) -> float:
        install = Step(id="install", end=(("version", instance, "2"),))
        return run(Plan(environment=env, steps=(install,), horizon_s=HORIZON_S, release=Release(p_bad=1.0, error_share=0.5)))[
            "failed_requests"
        ][0]

    assert (20 * 0.5 * HORIZON_S, 0) == (failed("web@w0"), failed("web@w1"))


def test_a_weight_stays_until_another_one_and_costs_nothing_while_its_instance_is_out():
    """w0 is out until 10 s, then has half of its weight until 30 s: 200, 250 and 300 req/s."""
    steps = (
        Step(id="out", duration={"fixed": 10.0}, begin=(("out", "web@w0"), ("weight", "web@w0", 0.5)), end=(("serve", "web@w0"),)),
        Step(id="half", needs=("out",), duration={"fixed": 20.0}, end=(("weight", "web@w0", 1),)),
    )

    one = run(Plan(environment=farm(3, 100.0, 0.0), steps=steps, horizon_s=HORIZON_S))

    assert (200, 300) == (one["capacity_min"][0], one["capacity_end"][0])
    assert 100 * 10 + 50 * 20 == one["lost_capacity"][0]


def test_only_the_weight_of_what_gets_requests_tells_states_apart():
    env = farm(3, 100.0, 50.0, health_check=CHECK)
    effects = (
        ("out", "web@w0"),
        ("weight", "web@w0", 2),
        ("kill", "web@w0"),
        ("serve", "web@w0"),
        ("kill", "web@w0"),
        ("weight", "web@w0", 1),
    )
    layout = Layout(Plan(environment=env, steps=(Step(id="s", begin=effects),)))
    state, met = State(layout, 50.0), []
    for operation in layout.begin[0]:
        state.apply((operation,), 0.0, 0.0)
        met.append(state.signature)

    start = State(layout, 50.0).signature
    out, out_and_heavy, killed, serving, dead, dead_and_light = met
    assert out == out_and_heavy == killed
    assert 5 == len({start, out, serving, dead, dead_and_light})


@settings(max_examples=25)
@given(plan=random_plans(weights=False), weight=st.sampled_from([0.3, 1, 7]), seed=st.integers(0, 1000))
def test_equal_weights_change_nothing(plan, weight, seed):
    """Not a bit, in any metric."""
    env = plan.environment
    balanced = [i for i, (s, _) in env.instances.items() if env.services[s].is_balanced]
    weigh = Step(id="weigh", end=tuple(("weight", i, weight) for i in balanced))

    def values(one: Plan) -> dict[str, list[float]]:
        engine = Engine(one)
        draws = Draws(one, seed, 0, 3, engine.names)
        found = metrics_of(one, engine.book, list(engine.runs(draws)), [draws.phases(r) for r in range(3)])
        return {m: [repr(x) for x in v] for m, v in found.items()}

    assert values(plan) == values(plan.model_copy(update={"steps": (weigh, *plan.steps)}))


@pytest.mark.parametrize(
    ("fields", "is_what"),
    [
        ({"role": "leader_elected"}, "leader_elected"),
        ({"role": "datastore"}, "datastore"),
        ({"role": "quorum", "serves": "leader"}, "a quorum that serves through its leader"),
    ],
)
def test_a_weight_needs_a_balancer(fields, is_what):
    with pytest.raises(PlanError, match=f"'s'.*'web@w0', which is {is_what}; it takes a stateless service"):
        Plan(environment=farm(2, 100.0, 50.0, **fields), steps=(Step(id="s", end=(("weight", "web@w0", 1),)),))


def test_a_weight_names_an_instance():
    with pytest.raises(PlanError, match="'web@w9', which is no instance; did you mean"):
        Plan(environment=farm(2, 100.0, 50.0), steps=(Step(id="s", end=(("weight", "web@w9", 1),)),))


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), 10**400, True, "2", None])
def test_a_weight_is_a_finite_number_that_is_not_negative(weight):
    with pytest.raises(ValidationError, match="a weight is a finite number that is not negative"):
        Step(id="s", end=(("weight", "web@w0", weight),))


def test_a_list_is_no_verb():
    with pytest.raises(ValidationError, match="is no effect; the verbs are"):
        Step(id="s", end=((["weight"], "web@w0", 1),))


def test_a_version_is_no_broken_number():
    with pytest.raises(ValidationError, match=r"1\.1, not a version; write it in quotes"):
        Step(id="s", end=(("version", "web@w0", 1.10),))


def test_a_weight_survives_the_plan_as_json():
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=(Step(id="s", end=(("weight", "web@w0", 0.25), ("weight", "web@w1", 2))),))

    assert plan == Plan.from_json(plan.to_json())
