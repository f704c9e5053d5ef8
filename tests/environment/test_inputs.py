"""A number of an environment is found by its path, and altered as a person would alter the file."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from simdeploy.environment.durations import fixed
from simdeploy.environment.files import load_environment
from simdeploy.environment.inputs import input_text, scaled_input
from simdeploy.environment.models import Environment
from simdeploy.errors import StudyError


def environment(**changed) -> Environment:
    """One tier in front of a store; *changed* holds what differs from 130 req/s, 300 req/s and so on."""
    given = {"rate": 130.0, "calls": 2.0, "p_fail": 0.1, "share": 0.8, "low": 10.0, "every": 3600.0, "takes": 60.0, "fall": 3} | changed
    check = {"interval": 2.0, "fall": given["fall"]}
    install = {"duration": ["uniform", given["low"], 3 * given["low"]], "p_fail": given["p_fail"], "capacity_left": given["share"]}
    store = {"copies": [{"kind": "backup", "every": given["every"], "takes": given["takes"], "consistent_at": "end"}]}
    return Environment.model_validate(
        {
            "name": "two-tiers",
            "machines": [{"name": "m1"}, {"name": "m.2"}],
            "entry": "web.front",
            "demand": given.get("demand", {"rate": given["rate"]}),
            "services": {
                "web": {"on": ["m.2"]},
                "web.front": {
                    "on": ["m1"],
                    "capacity": 300.0,
                    "calls": {"sql": given["calls"]},
                    "health_check": check,
                    "actions": {"install": install},
                },
                "sql": {"on": ["m.2"], "role": "datastore", "capacity": 900.0, "store": store},
            },
        }
    )


FRONT = "services.web.front"
SCALED = {
    "a rate": ("demand.rate", 2.0, {"rate": 260.0}),
    "a call that is written as a bare number": (f"{FRONT}.calls.sql", 0.5, {"calls": 1.0}),
    "a duration": (f"{FRONT}.actions.install.duration", 2.0, {"low": 20.0}),
    "one parameter of a duration": (f"{FRONT}.actions.install.duration.uniform.0", 2.0, {"low": 20.0}),
    "a share": (f"{FRONT}.actions.install.p_fail", 2.0, {"p_fail": 0.2}),
    "a share that would exceed 100 %": (f"{FRONT}.actions.install.capacity_left", 2.0, {"share": 1.0}),
    "each time of a backup": ("services.sql.store.copies.0", 0.5, {"every": 1800.0, "takes": 30.0}),
    "a count": (f"{FRONT}.health_check.fall", 0.5, {"fall": 2}),
    "a recipe: its times, not its shares": (f"{FRONT}.actions.install", 2.0, {"low": 20.0}),
    "a rule, which has no double": (f"{FRONT}.retry", 2.0, {}),
}


@pytest.mark.parametrize("name", SCALED)
def test_scaling_by_path_gives_the_environment_that_a_hand_would_write(name):
    at, factor, changed = SCALED[name]

    assert environment(**changed) == scaled_input(environment(), at, factor)


def test_a_curve_of_demand_is_scaled_in_its_rates_and_not_in_its_moments():
    curve = [{"at": 0.0, "rate": 10.0}, {"at": 60.0, "rate": 40.0}]
    twice = [{"at": 0.0, "rate": 20.0}, {"at": 60.0, "rate": 80.0}]
    with_curve, by_hand = environment(demand={"steps": curve}), environment(demand={"steps": twice})

    assert all(by_hand == scaled_input(with_curve, at, 2.0) for at in ("demand", "demand.steps", "demand.csv"))


def test_what_stands_at_a_path_is_said_as_a_person_writes_it():
    env = environment()

    texts = {
        "demand.rate": "130 req/s",
        f"{FRONT}.actions.install.duration": "20 s in the mean",
        f"{FRONT}.actions.install.p_fail": "10 %",
        f"{FRONT}.health_check.fall": "3",
        "services.sql.store.copies.0": "every 60 min, takes 60 s",
        f"{FRONT}.retry": None,
        "services.web.capacity": None,
    }
    assert texts == {at: input_text(env, at) for at in texts}


def test_a_value_that_breaks_a_rule_is_refused():
    env = environment()
    base = env.services["web.front"].model_copy(update={"capacity_per_s": 1e308})
    huge = env.model_copy(update={"services": dict(env.services) | {"web.front": base}})

    with pytest.raises(ValidationError):
        scaled_input(huge, f"{FRONT}.capacity", 2.0)


def test_a_path_that_is_not_there_names_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'demand'"):
        scaled_input(environment(), "demnd.rate", 2.0)


def test_nothing_else_is_altered():
    env = environment()

    altered = scaled_input(env, f"{FRONT}.actions.install.duration", 2.0)

    assert fixed(0.0) == altered.services["web.front"].actions["install"].retry_delay
    assert env == environment()


COUNTED = """
name: shop
machines:
  - {name: "web{n}", count: 3, mtbf: {value: 90 d, assumed: a guess}, repair: {fixed: 4 h, measured: tickets}}
  - {name: sql1, mtbf: {value: 1000 h, assumed: data sheet}}
entry: web
demand: {rate: 10 req/s}
services:
  web: {on: ["web*"], capacity: 100 req/s, calls: {sql: 1}}
  sql: {role: datastore, on: [sql1]}
"""


def test_a_mark_on_counted_machines_is_one_input_of_them_all_and_later_machines_keep_theirs(tmp_path):
    (tmp_path / "shop.yaml").write_text(COUNTED)
    env = load_environment(tmp_path / "shop.yaml")

    assert ["machines.0-2.mtbf", "machines.0-2.repair", "machines.3.mtbf"] == sorted(i.at for i in env.inputs)
    assert ["90 d", "4 h", "41.7 d"] == [input_text(env, f"machines.{at}") for at in ("0-2.mtbf", "0-2.repair", "3.mtbf")]
    doubled = scaled_input(env, "machines.0-2.mtbf", 2.0)
    assert [180 * 86400.0] * 3 + [3.6e6] == [m.mtbf_s for m in doubled.machines]
    assert [8 * 3600.0] * 3 == [m.repair.mean_s for m in scaled_input(env, "machines.0-2.repair", 2.0).machines[:3]]
    assert [90 * 86400.0] * 3 + [1.8e6] == [m.mtbf_s for m in scaled_input(env, "machines.3.mtbf", 0.5).machines]
    with pytest.raises(StudyError, match="nothing at"):
        scaled_input(env, "machines.0-4.mtbf", 2.0)
