"""Fresh deployments against a pencil, an independent implementation, and the laws of who waits for whom."""

from __future__ import annotations

import json
import math
import pathlib
import random
from collections.abc import Mapping
from typing import Any

import networkx as nx
import pytest

from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument
from simdeploy.planning.fresh import FreshDeployment, deployment_order
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate, simulate_all, trace
from tests.reference.adapter import PLANS

CANONICAL = pathlib.Path(__file__).parents[2] / "scenarios" / "canonical"
BASE = {"prerequisites": 180, "install": 120, "start": 20}
HOSTING = {
    "scripted": {"hosting": "scripted"},
    "one-hoster": {"hosting": "scripted", "hosters": 1},
    "manual": {"hosting": "manual"},
    "built-in": {"hosting": "built_in"},
}


def actions(**seconds: float) -> dict[str, Any]:
    return {name: {"duration": s} for name, s in seconds.items()}


def services(**changed: Mapping[str, Any]) -> dict[str, Any]:
    """lb -> web 2 x 300 -> mid 2 x 200 (1.5 calls) -> sql 500 (2 calls), one monitor, each with its recipes."""
    every: dict[str, dict[str, Any]] = {
        "lb": {"on": ["lb1"], "calls": {"web": 1}},
        "web": {"on": ["web1", "web2"], "capacity_per_s": 300, "calls": {"mid": 1.5}},
        "mid": {"on": ["mid1", "mid2"], "capacity_per_s": 200, "calls": {"sql": 2}},
        "sql": {
            "on": ["sql1"],
            "capacity_per_s": 500,
            "role": "datastore",
            "failover": "automatic",
            "actions": actions(prerequisites=180, install=120, create_schema=240, start=0),
        },
        "mon": {"on": ["mon1"], "role": "monitoring"},
    }
    return {name: {"actions": actions(**BASE)} | fields | changed.get(name, {}) for name, fields in every.items()}


def environment(machines: list[Any] | None = None, allocate: Mapping[str, Any] | None = None, **changed: Mapping[str, Any]) -> Environment:
    every = services(**changed)
    names = machines or list(dict.fromkeys(m for s in every.values() for m in s["on"]))
    return Environment.model_validate(
        {
            "name": "canonical",
            "machines": [{"name": m} if isinstance(m, str) else m for m in names],
            "entry": "lb",
            "services": every,
            "demand": {"rate_per_s": 100},
            "actions": {"allocate": {"duration": 300, **(allocate or {})}},
        }
    )


def deployment(env: Environment, strategies: Mapping[str, Any] = HOSTING, **fields: Any) -> FreshDeployment:
    given = {"certificate": 600, "validate": 300, "open": 60} | fields
    return FreshDeployment.model_validate(
        {"scenario": "fresh_deployment", "name": "x", "environment": env, "strategies": strategies, **given}
    )


def figures(scenario: FreshDeployment, *metrics: str, replications: int = 1) -> dict[str, tuple[float, ...]]:
    """Strategy -> these metrics of its first run, its integrals to its own end."""
    plans = {name: plan.model_copy(update={"horizon_s": None}) for name, plan in build_plans(scenario).items()}
    return {name: tuple(float(o.values[m][0]) for m in metrics) for name, o in simulate_all(plans, replications, 1).items()}


def ends(scenario: FreshDeployment, strategy: str) -> dict[str, float]:
    """Step -> when it ended in its first run."""
    return {r.subject: r.at_s for r in trace(build_plans(scenario)[strategy], 1) if r.kind == "ended"}


def test_one_hoster_gives_the_figures_of_an_independent_implementation():
    wanted = json.loads((PLANS / "fresh-one-hoster.json").read_text())["metrics"]
    names = [m for m, v in wanted.items() if v is not None and m != "outcome"]

    found = figures(deployment(environment()), "success", *names)["one-hoster"]

    assert (1, *(pytest.approx(wanted[m], abs=1e-6) for m in names)) == found


def test_who_waits_for_whom_gives_the_first_service_of_a_pencil():
    # all at once: 300 + 180 + 120, then sql 240, mid, web, lb, mon 20 each, look 300, open 60. One hoster: the monitor is the
    # 7th machine, at 2,100. By hand: handed over at 2,100 + 180. Built in: sql 840, then four tiers of 300 + 180 + 120 + 20
    wanted = {"scripted": 600 + 240 + 80 + 360, "one-hoster": 2100 + 300 + 20 + 360, "manual": 2280 + 120 + 240 + 80 + 360}
    wanted["built-in"] = 840 + 4 * 620 + 360

    assert {name: (rto, rto) for name, rto in wanted.items()} == figures(deployment(environment()), "rto_s", "makespan_s")


def test_machines_are_paid_for_from_their_allocation_on_and_only_those_that_are_not_hosted():
    # one hoster: machine k of 7 is there from 300 k on, until 2,780
    hours = sum(2780 - 300 * k for k in range(1, 8)) / 3600
    hosted = environment(machines=[{"name": "lb1", "hosted": True}, "web1", "web2", "mid1", "mid2", "sql1", "mon1"])

    assert (pytest.approx(hours),) == figures(deployment(environment()), "machine_hours")["one-hoster"]
    # without lb1 the 6 others are there at 1,800, the monitor starts at 1,800 + 300 or, as here, behind the others:
    # sql is the 5th, 1,500 + 300 + 240 = 2,040, mid 2,060, web 2,080, lb at once, so the monitor has long been installed at 2,100
    hours = sum(2120 + 360 - 300 * k for k in range(1, 7)) / 3600
    assert (2120 + 360, pytest.approx(hours)) == figures(deployment(hosted), "rto_s", "machine_hours")["one-hoster"]


def test_the_entry_waits_for_its_certificate_the_network_and_the_load_balancer_and_by_hand_all_code_for_the_last_two():
    hosted = environment(machines=[{"name": "lb1", "hosted": True}, "web1", "web2", "mid1", "mid2", "sql1", "mon1"])
    for env, lb_s in ((environment(), 20), (hosted, 0)):
        for late in ("certificate", "network", "load_balancer"):
            scenario = deployment(env, **{late: 10_000})
            mon_s = {"scripted": 20, "one-hoster": 20, "manual": 20, "built-in": 620}
            wanted = {name: (10_000 + lb_s + s + 360,) for name, s in mon_s.items()}
            if late != "certificate":
                wanted["manual"] = (10_000 + 120 + 240 + 20 + 20 + lb_s + 20 + 360,)
            assert wanted == figures(scenario, "rto_s"), late


def test_one_machine_is_made_once_whatever_runs_on_it():
    box = {name: {"on": ["box"]} for name in services()}
    wanted = {"scripted": 1280, "one-hoster": 1280, "manual": 1280, "built-in": 840 + 4 * (180 + 120 + 20) + 360}

    scenario = deployment(environment(**box))

    assert {name: (s, (s - 300) / 3600) for name, s in wanted.items()} == figures(scenario, "rto_s", "machine_hours")
    for plan in build_plans(scenario).values():
        assert ["allocate/box/allocate"] == [s.id for s in plan.steps if s.action == "allocate"]


def test_a_strategy_has_machines_of_its_own_speed():
    slow = {"slow": {"hosting": "scripted", "allocate": {"uniform": [1000, 1000.000001]}}, "as-said": {"hosting": "scripted"}}

    assert {"slow": (pytest.approx(1980),), "as-said": (1280,)} == figures(deployment(environment(), slow), "rto_s")


def test_without_a_look_users_come_when_all_has_started_and_a_health_check_has_risen():
    check = {"health_check": {"interval_s": 10, "rise": 3}}
    scenario = deployment(environment(web=check), {"s": {"hosting": "scripted"}}, validate=None, open=None, certificate=None)

    [rto_s] = figures(scenario, "rto_s")["s"]

    assert 920 + 20 < rto_s < 920 + 30  # U(20, 30), of two boxes
    assert rto_s == max(ends(scenario, "s").values())


def test_a_primary_is_filled_and_leads_and_its_standbys_are_seeded_after_it():
    fill = actions(prerequisites=180, install=120, create_schema=240, load_data=60, seed=40, start=5)
    sql = {"on": ["sql1", "sql2"], "leader": "sql2", "actions": fill, "store": {"copies": [{"kind": "standby"}]}}
    scenario = deployment(environment(sql=sql), {"s": {"hosting": "scripted"}})
    found = ends(scenario, "s")
    plan = build_plans(scenario)["s"]

    assert 600 + 240 + 60 + 5 == found["code/sql@sql2/start"]
    assert 905 + 40 == found["data/sql@sql1/seed"] and 950 == found["code/sql@sql1/start"] == found["code/sql/judge"]
    assert not {"data/sql@sql1/load_data", "data/sql@sql2/seed"} & set(found)
    by_id = {s.id: s for s in plan.steps}
    assert (("schema", "sql", "1"),) == by_id["data/sql@sql2/create_schema"].end
    assert (("serve", "sql@sql2"), ("lead", "sql", "sql@sql2")) == by_id["code/sql@sql2/start"].end
    assert (950 + 80 + 360, 0, 0) == figures(scenario, "rto_s", "failovers", "out_at_end")["s"]


def test_a_service_with_a_leader_elects_it_when_its_first_member_serves():
    # mid serves at 860 and elects until 1,860: capacity comes after users have arrived
    env = environment(mid={"role": "leader_elected", "election": {"elect_s": 1000}})
    scenario = deployment(env, {"s": {"hosting": "scripted"}}, horizon_s=3000)

    values = simulate(build_plans(scenario)["s"], 1).values

    assert 1860 == values["rto_s"][0] and 1860 - 1280 == values["downtime_s"][0]


def test_a_soft_call_waits_for_nobody_and_monitoring_waits_for_what_it_observes():
    calls = {"mid": {"times": 1.5, "dependency": "soft"}}
    env = environment(web={"calls": calls}, mon={"observes": ["mid"]})
    found = ends(deployment(env, {"s": {"hosting": "scripted"}}), "s")

    assert ["web", "lb", "sql", "mid", "mon"] == deployment_order(env)
    assert 620 == found["code/web@web1/start"] == found["code/web/judge"]
    assert 840 + 20 + 20 == found["monitoring/mon@mon1/start"]
    assert 880 == next(r.at_s for r in trace(build_plans(deployment(env))["scripted"]) if r.subject == "validate/lb/look")


def test_what_fails_halts_the_deployment_or_is_borne():
    # each of two web installs fails; the middle tier is not touched by that
    env = environment(web={"actions": {**actions(**BASE), "install": {"duration": 120, "p_fail": 1}}})
    rules = {"none": {"hosting": "scripted"}, "both": {"hosting": "scripted", "max_failures": 2}}
    rules["half"] = {"hosting": "scripted", "max_failures": "50 %"}

    found = figures(deployment(env, rules), "halted", "partial", "makespan_s", "out_at_end")

    # mid serves at 860, when web is judged; halted: lb and mon are installed and start nothing. Borne: users find no web at 1,240
    halted = (1, 0, 860, 4)
    assert {"none": halted, "half": halted} == {name: found[name] for name in ("none", "half")}
    assert (0, 1, 860 + 40 + 360, 2) == found["both"]
    assert math.isnan(figures(deployment(env, rules), "rto_s")["both"][0])


def test_what_the_desk_cannot_get_is_judged_with_the_entry_that_lacks_it():
    """Else the entry is left out without a failure, and the doors open on nothing."""
    scenario = load_scenario(pathlib.Path("scenarios/fleet/fresh-deployment.yaml"))
    plan = build_plans(scenario)["built-in"]
    desk = {"allocate/balancer/certificate", "allocate/balancer/network", "allocate/balancer/load_balancer"}
    judge = next(s.judge for s in plan.steps if s.id == "code/balancer/judge")

    assert judge is not None
    assert desk <= {s.id for s in plan.steps}
    assert desk <= set(judge.watch)


def test_a_machine_that_cannot_be_made_counts_for_each_service_on_it():
    box = {name: {"on": ["box"]} for name in services()}
    env = environment(allocate={"p_fail": 1}, **box)
    borne = {"none": {"hosting": "built_in"}, "one": {"hosting": "built_in", "max_failures": 1}}

    assert {"none": (1, 300), "one": (0, 300 + 360)} == figures(deployment(env, borne, certificate=None), "halted", "makespan_s")


def random_environment(luck: random.Random) -> Environment:
    """Tiers in random calls, hard and soft, on machines of their own or shared, some hosted, with random recipes of fixed length."""
    count = luck.randint(1, 5)
    machines = [{"name": f"m{k}", "hosted": luck.random() < 0.15} for k in range(luck.randint(1, 8))]
    every: dict[str, Any] = {}
    for k in range(count):
        on = [m["name"] for m in luck.sample(machines, luck.randint(1, min(3, len(machines))))]
        role = luck.choice(["stateless", "stateless", "quorum", "leader_elected", "datastore"])
        wanted = ["install", "start", *luck.sample(["prerequisites", "configure", "await_healthy"], luck.randint(0, 3))]
        wanted += luck.sample(["create_schema", "load_data", "seed"], luck.randint(0, 3)) if role == "datastore" else []
        calls = {f"s{j}": {"dependency": luck.choice(["hard", "hard", "soft"])} for j in range(k + 1, count) if luck.random() < 0.6}
        recipes = actions(**{a: luck.randint(0, 99) for a in wanted})
        every[f"s{k}"] = {"on": on, "role": role, "capacity_per_s": luck.randint(50, 99), "calls": calls, "actions": recipes}
    if luck.random() < 0.7:
        every["mon"] = {
            "on": [luck.choice(machines)["name"]],
            "role": "monitoring",
            "actions": actions(install=luck.randint(0, 99), start=9),
        }
    names = list(every)
    luck.shuffle(names)
    document = {"name": "random", "machines": machines, "entry": "s0", "services": {n: every[n] for n in names}}
    return Environment.model_validate(document | {"demand": {"rate_per_s": 10}, "actions": actions(allocate=luck.randint(1, 99))})


@pytest.mark.parametrize("seed", range(40))
def test_in_random_environments_everything_comes_up_in_order_and_no_way_is_quicker_than_scripts_without_limit(seed):
    luck = random.Random(seed)
    env = random_environment(luck)
    limit = luck.randint(1, 9)
    ways = {**HOSTING, "some": {"hosting": "scripted", "hosters": limit}, "people": {"hosting": "manual", "hosters": limit}}
    scenario = deployment(env, ways, network=luck.randint(0, 200), horizon_s=1e5)
    plans = build_plans(scenario)
    hard = [(u, v) for u, v, call in env.calls.edges(data=True) if call["dependency"] == "hard"]
    used = {m for _, m in env.instances.values()}

    rto_s = {}
    for name, plan in plans.items():
        records = trace(plan)
        began, ended = ({r.subject: r.at_s for r in records if r.kind == kind} for kind in ("began", "ended"))
        values = simulate(plan, 1).values
        rto_s[name] = values["rto_s"][0]
        assert (1, 0, 1, 0) == tuple(values[m][0] for m in ("success", "out_at_end", "capacity_end_fraction", "failed_requests")), name
        assert {m.name for m in env.machines if not m.hosted} & used == {s.id.split("/")[1] for s in plan.steps if s.action == "allocate"}
        started = {i: began[f"{'monitoring' if i.startswith('mon@') else 'code'}/{i}/start"] for i in env.instances}
        for u, v in hard:
            last = max(t for s, t in ended.items() if f"/{v}@" in s)
            assert last <= min(started[i] for i in env.members(u)), (name, u, v)
        if ways[name]["hosting"] == "manual":
            allocated = max(t for s, t in ended.items() if s.startswith("allocate/") and not s.endswith("certificate"))
            assert allocated <= min((t for s, t in began.items() if not s.startswith("allocate/")), default=math.inf), name
    assert all(rto_s["scripted"] <= s for s in rto_s.values()), rto_s
    assert rto_s["some"] <= rto_s["people"] and rto_s["one-hoster"] <= rto_s["manual"]
    assert nx.is_directed_acyclic_graph(plans["manual"].graph())


WRONG = {
    "no recipe": (environment(web={"actions": actions(install=1)}), {}, ("environment",), "'web' has no recipe for 'start'"),
    "filled web": (environment(web={"actions": actions(**BASE, load_data=5)}), {}, ("environment",), "'web' is stateless and has a recipe"),
    "hosters": (environment(), {"s": {"hosting": "built_in", "hosters": 2}}, ("strategies", "s", "hosters"), "waits for nobody"),
    "no machines": (
        environment().model_copy(update={"actions": {}}), {"s": {"hosting": "manual"}}, ("strategies", "s"), "how long it takes to make",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_with_its_place_and_a_way_out(case):
    env, strategies, path, says = WRONG[case]

    with pytest.raises(InvalidDocument) as refused:
        deployment(env, strategies or HOSTING)

    [problem] = refused.value.problems
    assert path == problem.path and says in problem.message and ("add" in problem.message or "drop" in problem.message)


@pytest.mark.parametrize("place", ["onebox", "test", "dogfood", "production"])
def test_the_shipped_scenario_comes_up_in_every_canonical_environment(place):
    scenario = load_scenario(CANONICAL / "fresh-deployment.yaml", environment=CANONICAL / f"{place}.yaml")

    for name, outcome in simulate_all(build_plans(scenario), 20, 1).items():
        assert (outcome.values["success"] == 1).all() and (outcome.values["rto_s"] > 0).all(), name
