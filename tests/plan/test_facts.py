"""What a state costs, with pencil numbers: balancing, headroom, single faults, blindness, machines, demand by the clock."""

from __future__ import annotations

from typing import Any

import pytest

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Environment
from simdeploy.errors import PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Crash, Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.scenario import Upgrade
from simdeploy.simulation.outcome import trace
from tests.builders import farm, lane, run


def found(env: Environment, *steps: Step, horizon_s: float = 100.0, **fields: Any) -> dict[str, float]:
    """Every metric of the only run."""
    return {m: v[0] for m, v in run(Plan(environment=env, steps=steps, horizon_s=horizon_s, **fields)).items()}


def wait(name: str, seconds: float, *after: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), after=after, **fields)


def environment(demand: float, machines: list[Any], **services: Any) -> Environment:
    """Enters at web; a machine is a name or its fields."""
    boxes = [{"name": m} if isinstance(m, str) else m for m in machines]
    return Environment.model_validate(
        {"name": "e", "machines": boxes, "entry": "web", "services": services, "demand": {"rate_per_s": demand}}
    )


# capacity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balancing", "factor", "capacity"), [("by_capacity", 0.5, 250), ("even", 0.5, 150), ("by_capacity", 0.0, 200), ("even", 0.0, 0)]
)
def test_a_balancer_that_does_not_know_about_a_slow_box_gives_all_what_it_can_take(balancing, factor, capacity):
    slow = wait("slow", 60.0, slow=(("web@w0", factor),))

    one = found(farm(3, 100.0, 50.0, balancing=balancing), slow)

    assert (capacity, 300) == (one["capacity_min"], one["capacity_end"])
    assert (300 - capacity) * 60 == one["lost_capacity"]


def test_factors_of_steps_that_run_together_multiply():
    steps = (wait("a", 60.0, slow=(("web@w0", 0.5),)), wait("b", 30.0, slow=(("web@w0", 0.5),)))

    one = found(farm(1, 100.0, 0.0), *steps)

    assert (25, 75 * 30 + 50 * 30) == (one["capacity_min"], one["lost_capacity"])


@pytest.mark.parametrize(("boxes", "headroom"), [(3, 1 / 3), (2, -1 / 3), (1, -1)])
def test_headroom_is_what_is_left_above_the_demand_as_a_share_of_it(boxes, headroom):
    assert pytest.approx(headroom) == found(farm(boxes, 100.0, 150.0), *lane("web@w0"))["headroom_min"]


@pytest.mark.parametrize(("serves", "capacity"), [("all", 300), ("leader", 100)])
def test_a_quorum_serves_with_all_or_with_its_leader_while_most_serve(serves, capacity):
    env = farm(3, 100.0, 50.0, role="quorum", serves=serves)

    assert (capacity, capacity) == (found(env)["capacity_min"], found(env)["capacity_end"])
    assert capacity / 3 * (2 if serves == "all" else 3) == pytest.approx(found(env, *lane("web@w2"))["capacity_min"])
    assert 0 == found(env, *lane("web@w2"), *lane("web@w1"))["capacity_min"]


# single faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "demand", "at_risk_s"),
    [
        (4, 150.0, 0),  # 300 left, 200 after a loss
        (3, 150.0, 60),  # 200 left, 100 after a loss that the start would have borne
        (2, 150.0, 60),  # 100 left: short already, though the start would not have borne a loss
        (2, 90.0, 60),
        (1, 90.0, 60),
        (2, 0.0, 0),  # nobody asks
    ],
)
def test_one_more_loss_is_not_survived_when_it_takes_capacity_below_the_demand_or_that_is_so_already(boxes, demand, at_risk_s):
    assert at_risk_s == found(farm(boxes, 100.0, demand), *lane("web@w0", out_s=60.0))["single_fault_s"]


@pytest.mark.parametrize(
    ("role", "failover", "at_risk_s"), [("leader_elected", "manual", 60), ("datastore", "automatic", 60), ("datastore", "manual", 0)]
)
def test_a_loss_counts_after_automatic_failover_has_settled(role, failover, at_risk_s):
    """Without its follower a leader is a single point; a primary that fails over by hand was one from the start."""
    env = farm(2, 100.0, 50.0, role=role, failover=failover)

    assert at_risk_s == found(env, *lane("web@w1", out_s=60.0))["single_fault_s"]


def test_a_lost_machine_takes_all_its_instances():
    """web 2 x 100 calls mid 2 x 100 on the same two machines: without mid@a, b is a single point for 60 s."""
    both: dict[str, Any] = {"on": ["a", "b"], "capacity_per_s": 100.0}
    env = environment(50.0, ["a", "b"], web=both | {"calls": {"mid": {}}}, mid=both)

    assert 60 == found(env, *lane("mid@a", out_s=60.0))["single_fault_s"]


def test_the_next_leader_after_a_loss_is_an_upgraded_one_where_that_is_preferred():
    """w2 is upgraded and would lead next; that w1 is slow endangers nothing."""
    env = farm(3, 100.0, 80.0, role="leader_elected", election={"prefer": "upgraded"})
    upgraded = Step(id="upgraded", end=(("version", "web@w0", "2"), ("version", "web@w2", "2")))

    assert 0 == found(env, upgraded, wait("slow", 60.0, "upgraded", slow=(("web@w1", 0.5),)))["single_fault_s"]


# pools ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["out", "drain"])
def test_what_the_balancer_sends_nothing_to_fails_nothing_when_it_is_killed(before):
    env = farm(2, 100.0, 50.0, health_check={"interval_s": 10.0, "fall": 3})
    steps = (wait("take", 10.0, begin=((before, "web@w0"),)), wait("kill", 10.0, "take", begin=(("kill", "web@w0"),)))

    assert 0 == found(env, *steps)["failed_requests"]


def test_a_request_meets_a_dead_instance_once_for_each_of_its_calls():
    """Two calls of mid, of which one of two is dead until after the horizon: a quarter of 40 req/s goes well for 50 s."""
    check = {"interval_s": 100.0, "fall": 2}
    web = {"on": ["w"], "capacity_per_s": 100.0, "calls": {"mid": {"times": 2}}}
    env = environment(40.0, ["w", "a", "b"], web=web, mid={"on": ["a", "b"], "capacity_per_s": 200.0, "health_check": check})

    assert 0.75 * 40 * 50 == found(env, Step(id="kill", begin=(("kill", "mid@a"),)), horizon_s=50.0)["failed_requests"]


# versions and monitors -----------------------------------------------------------------------------------------------


def test_a_caller_that_serves_beside_a_version_it_does_not_accept_is_incompatible():
    """mid is new from 60 s, web from 60 + 60 s on: 60 s wait between them."""
    env = environment(
        50.0,
        ["a", "b"],
        web={"on": ["a"], "capacity_per_s": 100.0, "calls": {"mid": {}}, "accepts": {"1": {"mid": ["1"]}, "2": {"mid": ["1", "2"]}}},
        mid={"on": ["b"]},
    )
    middle = lane("mid@b", out_s=60.0)
    between = wait("between", 60.0, middle[1].id)

    assert 60 == found(env, *middle, between, *lane("web@a", ("between",), out_s=20.0), horizon_s=200.0)["incompatible_s"]


def watched(observes: list[str] | None, monitors: int = 1) -> Environment:
    names = [f"m{i}" for i in range(monitors)]
    mon = {"on": names, "role": "monitoring", "observes": observes}
    return environment(50.0, ["w", *names], web={"on": ["w"], "capacity_per_s": 100.0}, mon=mon)


def test_a_monitor_that_nobody_watches_is_not_blind():
    assert 0 == found(watched(["web"]))["blind_s"]
    assert 0 == found(watched(["web"]), *lane("web@w", out_s=60.0))["blind_s"]


def test_what_serves_is_blind_while_no_monitor_that_observes_it_serves():
    assert 60 == found(watched(["web"]), *lane("mon@m0", out_s=60.0))["blind_s"]
    assert 60 == found(watched(None), *lane("mon@m0", out_s=60.0))["blind_s"]
    assert 0 == found(watched(None, 2), *lane("mon@m0", out_s=60.0))["blind_s"]


def test_what_does_not_serve_is_not_blind():
    web_out = lane("web@w", out_s=50.0)

    assert 10 == found(watched(None), *web_out, *lane("mon@m0", out_s=60.0))["blind_s"]


def unchecked_s(mon: dict[str, Any], *steps: Step, web: dict[str, Any] | None = None, **fields: Any) -> float:
    """Of web on w and v, a store on s and a monitor on m, 100 s long."""
    services = {
        "web": {"on": ["w", "v"], "capacity_per_s": 100.0} | (web or {}),
        "sql": {"on": ["s"], "role": "datastore", "version": "7"},
        "mon": {"on": ["m"], "role": "monitoring"} | mon,
    }
    return found(environment(50.0, ["w", "v", "s", "m"], **services), *steps, **fields)["unchecked_s"]


OLD = {"1": {"web": ["1"], "sql": ["7"]}}
NEW_WEB = lane("web@w", out_s=60.0)


@pytest.mark.parametrize(
    ("mon", "seconds"),
    [
        ({}, 0),
        ({"accepts": OLD}, 40),
        ({"accepts": {"1": {"web": ["1", "2"]}}}, 0),
        ({"accepts": {"2": {"web": ["1"]}}}, 0),  # of version 1, which runs, nothing is said
        ({"accepts": {"1": {"sql": ["7"]}}}, 0),
        ({"accepts": {"1": {"sql": ["7"]}}, "observes": ["sql"]}, 0),  # nobody ever watches web
        ({"accepts": OLD, "calls": {"web": {}}}, 40),
    ],
)
def test_a_new_version_runs_unchecked_while_those_who_watch_it_do_not_know_it(mon, seconds):
    assert seconds == unchecked_s(mon, *NEW_WEB)


def test_what_monitoring_has_checks_for_makes_no_forbidden_pair():
    mon = {"on": ["m"], "role": "monitoring", "calls": {"web": {}}, "accepts": OLD}
    env = environment(50.0, ["w", "m"], web={"on": ["w"], "capacity_per_s": 100.0}, sql={"on": ["m"], "role": "datastore"}, mon=mon)

    assert 0 == found(env, *NEW_WEB)["incompatible_s"]


def test_new_is_what_was_not_there_at_the_start():
    """Nobody knows any version. What is out comes back as it was; where all is absent, all that comes is new."""
    nothing = {"accepts": {"1": {"web": []}}}
    back = wait("back", 60.0, end=(("serve", "web@w"), ("serve", "web@v")))

    assert 0 == unchecked_s(nothing, back)
    assert 0 == unchecked_s(nothing, back, start=Start(out=("web@w", "web@v")))
    assert 0 == unchecked_s(nothing, back, start=Start(out=("web@w",), absent=("web@v",)))
    assert 40 == unchecked_s(nothing, back, start=Start(absent=("web@w", "web@v")))


def test_blind_time_of_a_new_version_is_unchecked_and_that_of_an_old_one_is_not():
    dark = Step(id="dark", begin=(("out", "mon@m"),))

    assert 0 == unchecked_s({}, dark)
    assert 40 == unchecked_s({}, dark, *NEW_WEB)


def test_of_a_store_the_schema_is_what_monitoring_has_checks_for():
    new = wait("expand", 70.0, end=(("schema", "sql", "8/expanded"),))
    away = wait("away", 10.0, "expand", begin=(("out", "sql@s"),), end=(("serve", "sql@s"),))

    assert 30 == unchecked_s({"accepts": OLD}, new)
    assert 20 == unchecked_s({"accepts": OLD}, new, away)
    assert 0 == unchecked_s({"accepts": {"1": {"sql": ["7", "8/expanded"]}}}, new)


def test_a_step_is_unobserved_on_a_machine_none_of_whose_services_is_observed():
    assert 60 == found(watched(["web"]), wait("on the monitor", 60.0, on="m0"))["unobserved_change_s"]
    assert 0 == found(watched(["web"]), wait("on the web", 60.0, on="w"))["unobserved_change_s"]
    assert 0 == found(watched(None), wait("on the monitor", 60.0, on="m0"))["unobserved_change_s"]


# machines ------------------------------------------------------------------------------------------------------------


def test_machines_are_paid_for_unless_hosted_or_released():
    """a: web; b: web and mid; h: the same, hosted; bare and hb: nothing, hb hosted."""
    env = environment(
        50.0,
        ["a", "b", {"name": "h", "hosted": True}, "bare", {"name": "hb", "hosted": True}],
        web={"on": ["a", "b", "h"], "capacity_per_s": 100.0},
        mid={"on": ["b", "h"]},
    )

    def machines(*removed: str) -> float:
        return found(env, start=Start(absent=removed), horizon_s=3600.0)["machine_hours"]

    assert 3 == machines()
    assert 2 == machines("web@a")
    assert 3 == machines("web@b") == machines("mid@b") == machines("mid@h")
    assert 2 == machines("web@b", "mid@b")


def test_a_machine_is_paid_for_until_its_instance_is_removed():
    removal = wait("last", 1800.0, end=(("remove", "web@w0"),))

    assert 1.5 == found(farm(2, 100.0, 50.0), removal, horizon_s=3600.0)["machine_hours"]


def test_a_machine_that_died_for_good_costs_nothing_and_one_that_comes_back_does():
    env = environment(50.0, ["a", "b", "shared", "bare"], web={"on": ["a", "b", "shared"], "capacity_per_s": 100.0}, mid={"on": ["shared"]})

    def hours(machine: str, for_s: float | None, *steps: Step) -> float:
        """Over an hour, dead from 900 s on."""
        plan = Plan(environment=env, steps=steps, horizon_s=3600.0, crashes=(Crash(machine=machine, at_s=900.0, for_s=for_s),))
        simulated = found(env, *steps, horizon_s=3600.0, crashes=plan.crashes)["machine_hours"]
        assert simulated == measure(plan, trace(plan)).values["machine_hours"]  # from the trace alone too
        return simulated

    assert [3.25] * 3 == [hours(machine, None) for machine in ("a", "shared", "bare")]
    assert [4.0] * 3 == [hours(machine, 60.0) for machine in ("a", "shared", "bare")]
    # given back at 1,800 s: there is nothing left to save
    assert 3.25 == hours("a", None, wait("last", 1800.0, end=(("remove", "web@a"),)))
    assert 3.5 == hours("a", 60.0, wait("last", 1800.0, end=(("remove", "web@a"),)))


def test_a_spare_is_paid_for_whatever_is_on_it():
    env = farm(3, 100.0, 50.0)
    begun = wait("first", 900.0, end=(("out", "web@w2"),))

    def hours(**start: Any) -> float:
        return found(env, begun, horizon_s=3600.0, start=Start(absent=("web@w2",), **start))["machine_hours"]

    assert (2.75, 3.0) == (hours(), hours(spares=("w2",)))
    with pytest.raises(PlanError, match="the start state has the spare 'w9', which is no machine; there are w0"):
        hours(spares=("w9",))


# demand --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts_at", "failed"), [("00:00", 10 * 120), ("07:59", 10 * 60 + 90 * 60), ("08:00", 90 * 120), ("23:59", 90 * 60 + 10 * 60)]
)
def test_a_daily_demand_is_that_of_the_hour_at_which_the_scenario_starts(starts_at, failed):
    """One box of 100 req/s is out for 120 s; users want 10 req/s, from 8 o'clock on 90."""
    env = farm(1, 100.0, 0.0, actions={a: {"duration": fixed(s)} for a, s in {"drain": 0.0, "install": 120.0, "start": 0.0}.items()})
    demand = type(env.demand).model_validate({"daily": [{"at": "00:00", "rate": "10 req/s"}, {"at": "08:00", "rate": "90 req/s"}]})
    scenario = Upgrade.model_validate(
        {
            "scenario": "upgrade",
            "name": "u",
            "environment": env.model_copy(update={"demand": demand}),
            "to": {"web": "2"},
            "starts_at": starts_at,
            "strategies": {"s": {}},
        }
    )

    plan = build_plan(scenario, "s")

    assert failed == run(plan)["failed_requests"][0] == measure(plan, trace(plan)).values["failed_requests"]
