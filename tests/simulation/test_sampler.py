"""Luck by name: who shares a stream and who does not, and the laws of health checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from simdeploy.environment.durations import Distribution
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws, uniforms
from tests.builders import farm, lane, run

MANY = 2000
SPREAD = Distribution(kind="uniform", parameters=(0.0, 100.0))


def installs(order: list[str], count: int = 3) -> dict[str, np.ndarray]:
    """Instance -> how long its install takes in each replication of a plan that does them in *order*."""
    steps = tuple(Step(id=f"code/{i}/install", target=i, duration=SPREAD) for i in order)
    plan = Plan(environment=farm(count, 100.0, 50.0), steps=steps)
    rows = np.array([durations for durations, _ in Draws(plan, 7, 0, MANY, Engine(plan).names).rows()])
    return dict(zip(order, rows.T, strict=True))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1]))


def test_two_machines_of_one_service_have_luck_of_their_own():
    drawn = installs(["web@w0", "web@w1", "web@w2"])

    assert correlation(drawn["web@w0"], drawn["web@w1"]) < 4 / math.sqrt(MANY)
    assert correlation(drawn["web@w1"], drawn["web@w2"]) < 4 / math.sqrt(MANY)


def test_the_same_machine_has_the_same_luck_in_two_rival_plans():
    here, there = installs(["web@w0", "web@w1", "web@w2"]), installs(["web@w2", "web@w0"])

    assert np.array_equal(here["web@w0"], there["web@w0"])
    assert np.array_equal(here["web@w2"], there["web@w2"])


@pytest.mark.parametrize("other", [(8, "a", 0, 0), (7, "b", 0, 0), (7, "a", 1, 0), (7, "a", 0, 1)])
def test_seed_service_machine_and_attempt_each_name_another_stream(other):
    seed, *stream = other

    assert correlation(uniforms(7, ("a", 0, 0), 0, MANY), uniforms(seed, tuple(stream), 0, MANY)) < 4 / math.sqrt(MANY)


def assert_uniform(drawn: np.ndarray, low: float, high: float) -> None:
    """All within, the mean within four standard errors, and both ends nearly reached."""
    assert low <= drawn.min() and drawn.max() <= high
    assert abs(np.mean(drawn) - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * len(drawn))
    assert drawn.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < drawn.max()


CHECK = {"interval_s": 10.0, "fall": 3, "rise": 5, "timeout_s": 7.0}


def dead(**fields: Any) -> Plan:
    """w0 of two is killed at 0 and never comes back; half of 40 req/s meets it until the check notices."""
    env = farm(2, 100.0, 40.0, health_check=CHECK, **fields)
    return Plan(environment=env, steps=(Step(id="kill", begin=(("kill", "web@w0"),)),), horizon_s=200.0)


def noticed_s(plan: Plan) -> np.ndarray:
    return run(plan, MANY)["failed_requests"] / 20


def test_a_refused_connection_is_noticed_after_fall_checks_and_waits_for_no_time_out():
    assert_uniform(noticed_s(dead()), 2 * 10, 3 * 10)


def test_a_silent_service_is_noticed_a_time_out_later():
    assert_uniform(noticed_s(dead(silent=True)), 2 * 10 + 7, 3 * 10 + 7)


def test_a_crashed_host_is_noticed_a_time_out_later():
    crashed = dead().model_copy(update={"steps": (), "crashes": (Crash(machine="w0", at_s=0.0),)})

    assert_uniform(noticed_s(crashed), 2 * 10 + 7, 3 * 10 + 7)


@pytest.mark.parametrize("silent", [False, True])
def test_a_started_instance_serves_after_rise_checks_however_it_was_stopped(silent):
    env = farm(2, 100.0, 40.0, health_check=CHECK, silent=silent)
    work, back = lane("web@w0", out_s=60.0, take="out")
    plan = Plan(environment=env, steps=(work, back.model_copy(update={"end": (("start", "web@w0"),)})), horizon_s=200.0)

    assert_uniform(run(plan, MANY)["lost_capacity"] / 100 - 60, 4 * 10, 5 * 10)


def test_the_checks_of_two_instances_are_drawn_apart():
    env = farm(2, 100.0, 40.0, health_check=CHECK)
    both = [Step(id=f"kill{i}", target=f"web@w{i}", begin=(("kill", f"web@w{i}"),)) for i in range(2)]
    one, other = (noticed_s(Plan(environment=env, steps=(kill,), horizon_s=200.0)) for kill in both)

    assert correlation(one, other) < 4 / math.sqrt(MANY)
