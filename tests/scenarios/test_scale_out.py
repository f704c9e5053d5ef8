"""Scale-outs against a pencil, an independent implementation, and the law that nothing which was there is touched."""

from __future__ import annotations

import json
import pathlib
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.scale_out import ScaleOut, alike
from simdeploy.simulation.outcome import simulate, simulate_all, trace
from tests.reference.adapter import PLANS

CANONICAL = pathlib.Path(__file__).parents[2] / "scenarios" / "canonical"
BASE = {"install": 120, "start": 20}


def actions(**seconds: float) -> dict[str, Any]:
    return {name: {"duration": s} for name, s in seconds.items()}


def environment(demand: Any = 160, machines: list[Any] | None = None, **changed: Mapping[str, Any]) -> Environment:
    """lb -> web 2 x 300 -> mid 2 x 200 (1.5 calls) -> sql 5,000 (2 calls), one monitor."""
    every: dict[str, dict[str, Any]] = {
        "lb": {"on": ["lb1"], "calls": {"web": 1}},
        "web": {"on": ["web1", "web2"], "capacity_per_s": 300, "calls": {"mid": 1.5}, "actions": actions(**BASE)},
        "mid": {"on": ["mid1", "mid2"], "capacity_per_s": 200, "calls": {"sql": 2}, "actions": actions(**BASE)},
        "sql": {"on": ["sql1"], "capacity_per_s": 5000, "role": "datastore", "failover": "automatic"},
        "mon": {"on": ["mon1"], "role": "monitoring"},
    }
    every = {name: fields | changed.get(name, {}) for name, fields in every.items()}
    names = machines or list(dict.fromkeys(m for s in every.values() for m in s["on"]))
    rates = {"rate_per_s": demand} if not isinstance(demand, list) else {"steps": [{"at_s": t, "rate_per_s": r} for t, r in demand]}
    return Environment.model_validate(
        {
            "name": "canonical",
            "machines": [{"name": m} if isinstance(m, str) else m for m in names],
            "entry": "lb",
            "services": every,
            "demand": rates,
            "actions": actions(allocate=300, release=10),
        }
    )


def scaling(env: Environment, strategies: Mapping[str, Any], add: Mapping[str, int] | None = None, **fields: Any) -> ScaleOut:
    given = {"add": add or {"web": 1, "mid": 1}, "horizon_s": 3000} | fields
    return ScaleOut.model_validate({"scenario": "scale_out", "name": "x", "environment": env, "strategies": strategies, **given})


def figures(scenario: ScaleOut, *metrics: str) -> dict[str, tuple[float, ...]]:
    found = simulate_all(build_plans(scenario), 1, 1)
    return {name: tuple(float(o.values[m][0]) for m in metrics) for name, o in found.items()}


def test_two_boxes_at_once_give_the_figures_of_an_independent_implementation():
    wanted = json.loads((PLANS / "scale-out.json").read_text())["metrics"]
    names = [m for m, v in wanted.items() if v is not None and m != "outcome"]

    found = figures(scaling(environment(), {"both": {"order": [["web", "mid"]]}}, horizon_s=600), "success", *names)["both"]

    assert (1, *(pytest.approx(wanted[m], abs=1e-6) for m in names)) == found


def test_a_demand_that_rises_before_the_machines_are_there_fails_what_a_pencil_says():
    # C = 266.67 until the third middle box serves, at 440 s, or at 880 s behind the web box; L = 300 from 400 s on
    env = environment([(0, 160), (400, 300)])
    scenario = scaling(env, {"both": {"order": [["web", "mid"]]}, "deep-first": {}, "web-first": {"order": ["web", "mid"]}})
    short = 300 - 800 / 3

    found = figures(scenario, "failed_requests", "makespan_s", "capacity_end")

    assert {
        "both": pytest.approx((40 * short, 440, 400)),
        "deep-first": pytest.approx((40 * short, 880, 400)),
        "web-first": pytest.approx((480 * short, 880, 400)),
    } == found


def test_batches_are_counts_and_percentages_of_what_is_added_for_all_or_for_each():
    scenario = scaling(
        environment(),
        {"ones": {"batches": 1}, "half": {"batches": "50 %"}, "each": {"batches": {"web": [1, 3]}}, "canary": {"batches": "canary"}},
        add={"web": 4, "mid": 2},
    )

    assert {"ones": (440 * 6,), "half": (440 * 4,), "each": (440 * 3,), "canary": (440 * 4,)} == figures(scenario, "makespan_s")
    plan = build_plans(scenario)["each"]
    assert [2, 1, 3] == [s.judge.size for s in plan.steps if s.judge]
    # the k-th batch is paid for from 300 s after its begin to the horizon, with the 7 that were there
    hours = (7 * 3000 + 2 * 2700 + 1 * 2260 + 3 * 1820) / 3600
    assert pytest.approx(hours) == figures(scenario, "machine_hours")["each"][0]


def test_capacity_rises_only_when_the_health_check_has_risen():
    env = environment(mid={"health_check": {"interval_s": 10, "rise": 4}})
    plan = build_plans(scaling(env, {"s": {}}, add={"mid": 1}))["s"]

    [rise] = [s for s in plan.steps if s.action == "await_healthy"]
    assert (("serve", "mid@mid3"),) == rise.end and (30, 40) == rise.duration.parameters
    assert 470 < simulate(plan, 1).values["makespan_s"][0] < 480


def test_new_machines_spread_over_zones_and_go_on_with_the_numbers():
    machines = [{"name": f"web{k:02}", "zone": z} for k, z in enumerate("aabc", 1)] + [{"name": "box"}, "lb1", "sql1", "mon1", "web7"]
    env = environment(machines=machines, web={"on": ["web01", "web02", "web03", "web04"]}, mid={"on": ["box"]})

    assert [("web@web03", "web08"), ("web@web04", "web09"), ("web@web01", "web10"), ("web@web03", "web11")] == alike(env, "web", 4)
    assert [("mid@box", "box-2"), ("mid@box", "box-3")] == alike(env, "mid", 2)
    new = build_plans(scaling(env, {"s": {"batches": {"web": "by_zone"}}}, add={"web": 4, "mid": 1}))["s"].environment
    assert ["web08", "web09", "web10", "web11"] == list(new.services["web"].on[4:])
    assert {"a": 3, "b": 3, "c": 2} == Counter(m.zone for m in new.machines if m.zone)


def test_new_boxes_go_to_the_cell_that_has_fewest():
    machines = ["lb1", "sql1", "mon1", "web1", "web2", "web3", "mid1", "mid2"]
    env = environment(machines=machines, web={"on": ["web1", "web2", "web3"]})
    cells = {"a": {"on": ["web1", "web2", "mid1"]}, "b": {"on": ["web3", "mid2"]}}
    env = Environment.model_validate(env.model_dump(exclude_defaults=True) | {"cells": cells})

    new = build_plans(scaling(env, {"s": {}}, add={"web": 2}))["s"].environment

    assert ("web3", "mid2", "web4") == new.cells["b"].on and ("web1", "web2", "mid1", "web5") == new.cells["a"].on


def test_a_quorum_that_doubles_at_once_stands_still_and_one_by_one_does_not():
    # 3 of 6 are no majority: from 300 s, when three more are there, to 440 s
    env = environment(mid={"role": "quorum", "on": ["mid1", "mid2", "mid3"]})
    scenario = scaling(env, {"at-once": {}, "ones": {"batches": 1}}, add={"mid": 3})

    assert {"at-once": (140, 140 * 160), "ones": (0, 0)} == figures(scenario, "downtime_s", "failed_requests")


def test_a_store_gets_a_standby_by_a_seed():
    sql = {"on": ["sql1", "sql2"], "store": {"copies": [{"kind": "standby"}]}, "actions": actions(**BASE, seed=500)}
    scenario = scaling(environment(sql=sql), {"s": {}}, add={"sql": 1})
    plan = build_plans(scenario)["s"]

    steps = ["allocate/sql3/allocate", "code/sql@sql3/install", "data/sql@sql3/seed", "code/sql@sql3/start"]
    assert steps == [s.id for s in plan.steps if s.kind == "step"]
    assert (940, 0, 0, 1) == figures(scenario, "makespan_s", "downtime_s", "failovers", "success")["s"]


def test_what_was_added_leaves_again_when_too_many_fail():
    # mid3 comes (440 s) and mid4's install fails (860 s). Back: mid4 is released at once, 10 s; then mid3: drain 30, stop 5, release 10
    recipe = {**actions(**BASE, drain=30, stop=5)}
    env = environment(mid={"actions": recipe})
    scenario = scaling(env, {"back": {"batches": 1, "on_abort": "rollback"}, "stay": {"batches": 1}}, add={"mid": 3})
    found = {}
    for name, plan in build_plans(scenario).items():
        steps = [s.model_copy(update={"p_fail": 1.0}) if s.id == "code/mid@mid4/install" else s for s in plan.steps]
        values = simulate(plan.model_copy(update={"steps": tuple(steps)}), 1).values
        found[name] = tuple(values[m][0] for m in ("makespan_s", "rolled_back", "halted", "capacity_end", "out_at_end", "machine_hours"))

    back = (7 * 3000 + (915 - 300) + (870 - 740)) / 3600
    assert (860 + 10 + 45, 1, 0, pytest.approx(800 / 3), 0, pytest.approx(back)) == found["back"]
    stay = (7 * 3000 + 2700 + 3000 - 740) / 3600
    assert (860, 0, 1, pytest.approx(400), 1, pytest.approx(stay)) == found["stay"]


def random_scaling(luck: random.Random) -> ScaleOut:
    """Random tiers with random recipes that fail at times, in random places, and strategies with random batches that go back."""
    count = luck.randint(1, 4)
    machines = [{"name": f"m{k}", **({"zone": z} if (z := luck.choice("ab?")) != "?" else {})} for k in range(6)]
    every: dict[str, Any] = {}
    for k in range(count):
        names = ["install", "start", *luck.sample(["drain", "stop", "undrain", "prerequisites", "configure"], luck.randint(0, 5))]
        recipes = {a: {"duration": luck.randint(0, 60), "p_fail": luck.choice([0, 0, 0.3])} for a in names}
        role = luck.choice(["stateless", "stateless", "quorum", "leader_elected", "monitoring"]) if k else "stateless"
        every[f"s{k}"] = {
            "on": luck.sample([m["name"] for m in machines], luck.randint(1, 4)),
            "role": role,
            "calls": {f"s{j}": 1 for j in range(k + 1, count) if luck.random() < 0.6},
            "actions": recipes,
            **({"capacity_per_s": luck.randint(50, 99)} if role != "monitoring" else {}),
            **({"health_check": {"interval_s": 2, "rise": 2}} if luck.random() < 0.4 else {}),
        }
    document = {"name": "random", "machines": machines, "entry": "s0", "services": every, "demand": {"rate_per_s": 5}}
    env = Environment.model_validate(document | {"actions": actions(allocate=luck.randint(1, 99))})
    add = {name: luck.randint(1, 5) for name in luck.sample(list(every), luck.randint(1, count))}
    ways = {f"{b}-{on_abort}": {"batches": b, "on_abort": on_abort} for b in ("all", 1, "halves") for on_abort in ("halt", "rollback")}
    return scaling(env, ways | {"tolerant": {"max_failures": 99, "order": [list(add)]}}, add=add)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_that_was_there_is_touched_and_what_was_added_serves_or_is_gone(seed):
    scenario = random_scaling(random.Random(seed))
    there = set(scenario.environment.instances)
    before = {m.name for m in scenario.environment.machines}
    for name, plan in build_plans(scenario).items():
        assert sum(scenario.add.values()) == len(plan.start.absent) == len(plan.environment.instances) - len(there)
        for step in plan.steps:
            assert step.target not in there and step.on not in before, (name, step.id)
            assert not {e[1] for e in (*step.begin, *step.end)} & there and not {i for i, _ in step.slow} & there, (name, step.id)
        values = simulate(plan, 5, 1).values
        balanced = all(s.role in ("stateless", "monitoring") for s in scenario.environment.services.values())
        assert not balanced or ((values["capacity_min_fraction"] >= 1 - 1e-9).all() and (values["failed_requests"] == 0).all())
        assert (values["out_at_end"][values["success"] == 1] == 0).all()
        back = values["rolled_back"] == 1
        assert (values["out_at_end"][back] == 0).all() and (abs(values["capacity_end_fraction"][back] - 1) < 1e-9).all()
        assert name.endswith("rollback") or not back.any()
        last = {r.subject for r in trace(plan, 1) if r.kind == "ended" and r.value == "succeeded"}
        assert values["success"][0] == 0 or {s.id for s in plan.steps if s.section == "main" and s.kind == "step"} <= last


HOSTED = ["lb1", {"name": "web1", "hosted": True}, "web2", "mid1", "mid2", "sql1", "mon1"]
WRONG = {
    "no service": (environment(), {"s": {}}, {"wep": 1}, ("add", "wep"), "did you mean 'web'?"),
    "a store": (environment(sql={"actions": actions(**BASE)}), {"s": {}}, {"sql": 1}, ("add", "sql"), "add the action 'seed'"),
    "hosted": (environment(machines=HOSTED), {"s": {}}, {"web": 1}, ("add", "web"), "its provider scales it; leave 'web' out"),
    "no recipe": (environment(web={"actions": actions(start=1)}), {"s": {}}, {"web": 1}, ("add", "web"), "no recipe for 'install'"),
    "order": (environment(), {"s": {"order": ["web"]}}, None, ("strategies", "s", "order"), "'mid' gets machines and is missing"),
    "twice": (environment(), {"s": {"order": ["web", ["mid", "web"]]}}, None, ("strategies", "s", "order", 1), "keep one"),
    "batches": (environment(), {"s": {"batches": {"sql": 1}}}, None, ("strategies", "s", "batches", "sql"), "gets no machines here"),
    "zones": (environment(), {"s": {"batches": "by_zone"}}, {"web": 1}, ("strategies", "s", "batches"), "give each machine its 'zone'"),
    "allocate": (environment().model_copy(update={"actions": {}}), {"s": {}}, None, ("add",), "'allocate' is missing; add it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_with_its_place_and_a_way_out(case):
    env, strategies, add, path, says = WRONG[case]

    with pytest.raises(InvalidDocument) as refused:
        scaling(env, strategies, add)

    [problem] = refused.value.problems
    assert path == problem.path and says in problem.message


@pytest.mark.parametrize("place", ["onebox", "test", "dogfood", "production", "growing"])
def test_the_shipped_scenario_joins_every_canonical_environment(place):
    scenario = load_scenario(CANONICAL / "scale-out.yaml", environment=CANONICAL / f"{place}.yaml")

    for name, outcome in simulate_all(build_plans(scenario), 10, 1).items():
        assert (outcome.values["success"] == 1).all() and (outcome.values["downtime_s"] == 0).all(), name
