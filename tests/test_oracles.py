"""The oracles: closed forms, symmetries and conservation laws that hold whatever the code once printed.

Random tests state their band: four standard errors of the theory's own spread unless they say otherwise.
"""

from __future__ import annotations

import math
import random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.plan.facts import FactBook
from simdeploy.plan.following import measure
from simdeploy.plan.layout import Layout
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan
from simdeploy.plan.queueing import flow
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import simulate_all
from simdeploy.simulation.sampler import Draws
from tests.builders import assert_legal, canonical, dying_plans, farm, lane, random_plans, rolling, run, standing, undoable_plans

MANY = 4000


@st.composite
def random_dags(draw) -> Plan:
    """Steps of fixed durations that wait for random earlier ones."""
    durations = draw(st.lists(st.integers(0, 50), min_size=1, max_size=15))
    steps = [
        Step(
            id=f"s{i}",
            duration=fixed(float(d)),
            after=tuple(f"s{j}" for j in draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else (),
        )
        for i, d in enumerate(durations)
    ]
    return Plan(environment=canonical(), steps=tuple(steps))


@given(random_dags())
def test_1_without_chance_and_contention_the_makespan_is_the_longest_path(plan):
    graph = nx.DiGraph()
    for step in plan.steps:  # an edge weighs the step it leads into, from a root of weight 0
        graph.add_edge("root", step.id, weight=step.duration.mean_s)
        for earlier in step.after:
            graph.add_edge(earlier, step.id, weight=step.duration.mean_s)

    expected = nx.dag_longest_path_length(graph)

    assert expected == run(plan)["makespan_s"][0]
    assert expected == plan.critical_path_s()


@pytest.mark.parametrize("n", [1, 3, 10])
def test_2_the_slowest_of_n_exponential_steps_has_the_harmonic_mean(n):
    mean_s = 60.0
    steps = tuple(
        Step(id=f"code/web@web{i}/go", target=f"g{i}", duration=Distribution(kind="exponential", parameters=(mean_s,))) for i in range(n)
    )

    slowest = run(Plan(environment=canonical(), steps=steps), MANY)["makespan_s"]

    expected = mean_s * sum(1 / k for k in range(1, n + 1))
    error = mean_s * math.sqrt(sum(1 / k**2 for k in range(1, n + 1)) / MANY)
    assert abs(np.mean(slowest) - expected) < 4 * error


def test_2_mean_attempts_with_retries_are_those_of_the_truncated_geometric():
    step = Step(id="try", duration=fixed(10.0), p_fail=0.5, retries=2)

    attempts = run(Plan(environment=canonical(), steps=(step,)), MANY)["makespan_s"] / 10

    # 1 attempt with 1/2, 2 with 1/4, 3 with 1/4: mean 1.75, variance 11/16
    assert step.mean_s == 17.5
    assert abs(np.mean(attempts) - 1.75) < 4 * math.sqrt(11 / 16 / MANY)


@given(demand=st.integers(1, 250), capacity=st.integers(50, 150), out_s=st.integers(1, 500))
def test_3_batches_of_one_over_two_boxes_fail_what_exceeds_one_box(demand, capacity, out_s):
    env = farm(2, float(capacity), float(min(demand, 2 * capacity)))
    plan = Plan(environment=env, steps=rolling(["web@w0", "web@w1"], float(out_s)))
    rate = env.demand.peak_per_s

    found = run(plan)

    assert found["failed_requests"][0] == pytest.approx(max(0.0, rate - capacity) * 2 * out_s)
    assert found["brownout_s"][0] == (2 * out_s if rate > capacity else 0)
    assert found["downtime_s"][0] == 0


def test_4_the_front_door_carries_what_its_bottleneck_carries():
    env = canonical()

    assert {"lb": 1, "web": 1, "mid": 1.5, "sql": 3, "mon": 0} == env.visits
    assert FactBook(Layout(Plan(environment=env, steps=()))).steady == pytest.approx(min(600, 400 / 1.5, 500 / 3))


@settings(max_examples=15)
@given(plan=undoable_plans(), seed=st.integers(0, 10_000))
def test_11_a_rollback_from_every_point_restores_every_instance_and_its_old_version(plan, seed):
    untouched = {i: (True, plan.environment.services[s].version) for i, (s, _) in plan.environment.instances.items()}
    forth = [i for i, s in enumerate(plan.steps) if s.section != "rollback" and s.kind == "step"]
    for failing in [None, *forth]:
        steps = [s if i != failing else s.model_copy(update={"p_fail": 1.0}) for i, s in enumerate(plan.steps)]
        told = one_trace(plan.model_copy(update={"steps": tuple(steps)}), seed)

        assert "rolled_back" == told.outcome
        assert untouched == standing(plan, told), failing


@settings(max_examples=30)
@given(plan=random_plans(failing=False, pools=False), which=st.integers(0, 100), longer=st.sampled_from([1.1, 3.0]))
def test_a_slower_step_never_shortens_a_plan_without_contention_or_failures(plan, which, longer):
    which %= len(plan.steps)
    slower = plan.steps[which].model_copy(update={"duration": plan.steps[which].duration.scaled(longer)})
    steps = (*plan.steps[:which], slower, *plan.steps[which + 1 :])

    before, after = run(plan, 5)["makespan_s"], run(plan.model_copy(update={"steps": steps}), 5)["makespan_s"]

    assert (after >= before - 1e-9).all()


@settings(max_examples=30)
@given(plan=random_plans(), more=st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_with_the_same_luck_a_run_that_succeeds_still_does_with_more_retries(plan, more):
    steps = [s.model_copy(update={"retries": s.retries + more[i % len(more)]}) for i, s in enumerate(plan.steps)]

    before, after = run(plan, 20)["success"], run(plan.model_copy(update={"steps": tuple(steps)}), 20)["success"]

    assert (after >= before).all()


def leader_plan(order_of_lanes: list[str], n: int, prefer: str = "plan_order") -> Plan:
    env = farm(n, 100.0, 50.0, role="leader_elected", election={"elect_s": 5.0, "prefer": prefer})
    return Plan(environment=env, steps=rolling(order_of_lanes), horizon_s=100.0 * n)


def test_7_a_leader_elected_pair_fails_over_once_leader_last_and_twice_leader_first():
    assert 1 == run(leader_plan(["web@w1", "web@w0"], 2))["failovers"][0]
    assert 2 == run(leader_plan(["web@w0", "web@w1"], 2))["failovers"][0]


@pytest.mark.parametrize("n", range(2, 8))
def test_7_leader_first_over_n_nodes_fails_over_at_most_n_times(n):
    members = [f"web@w{i}" for i in range(n)]

    assert run(leader_plan(members, n))["failovers"][0] <= n
    assert run(leader_plan(members, n, "upgraded"))["failovers"][0] <= 2


@pytest.mark.parametrize(("n", "fall", "interval_s"), [(2, 3, 2.0), (5, 1, 5.0), (10, 4, 1.0)])
def test_8_a_dead_box_in_the_pool_fails_its_share_until_the_health_check_notices(n, fall, interval_s):
    demand = 40.0 * (n - 1)
    env = farm(n, 50.0, demand, health_check={"interval_s": interval_s, "fall": fall})
    plan = Plan(environment=env, steps=lane("web@w0", take="kill"))

    failed = run(plan, MANY)["failed_requests"]

    share = demand / n
    assert abs(np.mean(failed) - share * (fall - 0.5) * interval_s) < 4 * share * interval_s / math.sqrt(12 * MANY)
    assert share * (fall - 1) * interval_s <= failed.min() and failed.max() <= share * fall * interval_s


def test_8_a_balancer_that_tries_again_fails_nothing():
    env = farm(3, 50.0, 80.0, health_check={"interval_s": 2.0, "fall": 3}, retry="redispatch")

    assert 0 == run(Plan(environment=env, steps=lane("web@w0", take="kill")), 50)["failed_requests"].max()


@settings(max_examples=25)
@given(plan=random_plans(), names=st.randoms(use_true_random=False))
def test_12_renaming_machines_and_reordering_keys_changes_no_number(plan, names):
    machines = [m.name for m in plan.environment.machines]
    new = dict(zip(machines, names.sample([f"x{i}" for i in range(len(machines))], len(machines)), strict=True))
    other = Plan.from_json(_renamed(plan, new, names))

    first, second = run(plan, 8), run(other, 8)

    for metric, values in first.items():
        assert np.array_equal(values, second[metric], equal_nan=True), metric


def _renamed(plan: Plan, new: dict[str, str], luck: random.Random) -> str:
    """The plan's JSON with its machines renamed and the keys of every mapping in another order."""
    import json

    def walk(value):
        if isinstance(value, dict):
            items = list(value.items())
            luck.shuffle(items)
            return {k: walk(v) for k, v in items}
        if isinstance(value, list):
            return [walk(v) for v in value]
        if isinstance(value, str):
            for old, fresh in new.items():
                if value == old:
                    return fresh
                value = value.replace(f"@{old}/", f"@{fresh}/")
                if value.endswith(f"@{old}"):
                    value = value.removesuffix(old) + fresh
        return value

    return json.dumps(walk(plan.model_dump(mode="json", exclude_defaults=True)))


@pytest.mark.slow
def test_12_the_number_of_workers_and_the_hash_seed_change_no_number(tmp_path):
    import os
    import subprocess
    import sys

    scenario = "scenarios/canonical/upgrade.yaml"
    command = [sys.executable, "-m", "simdeploy", "compare", scenario, "--replications", "100", "--format", "json"]
    outputs = set()
    for jobs, hash_seed in (("1", "0"), ("2", "1"), ("1", "123")):
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        outputs.add(subprocess.run([*command, "--jobs", jobs], env=env, capture_output=True, check=True, timeout=120).stdout)

    assert 1 == len(outputs)


@given(st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 20))
def test_12_one_replication_replayed_alone_meets_the_same_luck(seed, first, count):
    from simdeploy.simulation.sampler import uniforms

    stream = ("web", 1, "install", "duration", 0)

    assert np.array_equal(uniforms(seed, stream, 0, first + count)[first:], uniforms(seed, stream, first, count))


def test_12_a_strategy_meets_the_same_luck_alone_and_beside_rivals():
    plans = {
        "one": Plan(environment=farm(2, 50.0, 60.0), steps=rolling(["web@w0", "web@w1"])),
        "two": Plan(environment=canonical(), steps=()),
    }

    together, alone = simulate_all(plans, 20)["one"], simulate_all({"one": plans["one"]}, 20)["one"]

    assert np.array_equal(together.values["failed_requests"], alone.values["failed_requests"])


def one_trace(plan: Plan, seed: int):
    engine = Engine(plan)
    return engine.trace(Draws(plan, seed, 0, 1, engine.names))


@settings(max_examples=60)
@given(plan=random_plans() | undoable_plans() | dying_plans(), seed=st.integers(0, 10_000))
def test_13_every_trace_is_a_legal_history_of_progress(plan, seed):
    assert_legal(plan, one_trace(plan, seed))


@settings(max_examples=60)
@given(plan=random_plans() | undoable_plans() | dying_plans(), seed=st.integers(0, 10_000))
def test_13_the_metrics_of_a_trace_are_those_of_the_run_that_left_it(plan, seed):
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, 1, engine.names)
    online = metrics_of(plan, engine.book, list(engine.runs(draws)), [draws.phases(0)])

    offline = measure(plan, one_trace(plan, seed))

    for metric, values in online.items():
        expected = None if math.isnan(values[0]) else pytest.approx(values[0])
        assert expected == offline.values[metric], metric


@settings(max_examples=60)
@given(plan=random_plans(weights=False), seed=st.integers(0, 10_000))
def test_13_no_instance_is_both_in_and_out_and_each_take_is_of_one_that_was_there(plan, seed):
    """Re-told from the trace by hand: who is in service after each instant, against the capacity that was integrated."""
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, 1, engine.names)
    path = next(iter(engine.runs(draws)))
    steps = {s.id: s for s in plan.steps}
    inside = set(plan.environment.instances)
    check = {s: plan.environment.services[s].health_check for s in plan.environment.services}
    for record in one_trace(plan, seed):
        effects = []
        if record.kind == "began":
            effects = steps[record.subject].begin
        elif record.kind == "ended" and record.value == "succeeded":
            effects = steps[record.subject].end
        elif record.kind == "risen":
            effects = [("serve", record.subject)]
        for effect in effects:
            waits = effect[0] == "start" and check[effect[1].split("@")[0]] is not None
            if effect[0] in ("drain", "out", "kill"):
                inside.discard(effect[1])
            elif effect[0] in ("serve", "start") and not waits:
                inside.add(effect[1])
    end = engine.book.facts[path.states[-1]].capacity
    webs, mids = sum(i.startswith("web") for i in inside), sum(i.startswith("mid") for i in inside)
    members = len(plan.environment.members("mid"))
    role = plan.environment.services["mid"].role
    able = {"stateless": mids, "quorum": mids if mids >= members // 2 + 1 else 0, "leader_elected": min(1, mids)}[role]
    assert end == pytest.approx(min(300 * webs, 200 * able / 1.5, 500 / 3)) or (role == "leader_elected" and end == 0)


@settings(max_examples=40)
@given(plan=random_plans() | undoable_plans() | dying_plans(), seed=st.integers(0, 10_000))
def test_13_what_is_offered_is_served_or_failed_or_still_waits(plan, seed):
    """Served and still waiting are counted here on their own, state by state; the queue has a brute-force twin in test_queueing."""
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, 1, engine.names)
    path = next(iter(engine.runs(draws)))
    lengths = np.diff([*path.times, path.end_s])
    facts = [engine.book.facts[where] for where in path.states]
    offered = sum(f.demand * length for f, length in zip(facts, lengths, strict=True))
    if plan.environment.demand.excess == "queue":
        asked = [(length, f.demand * f.error_free, f.capacity) for f, length in zip(facts, lengths, strict=True)]
        kept = flow(asked, plan.environment.demand.patience_s or 0.0)
        served, queued = kept.served, kept.queued
    else:
        served, queued = sum(min(f.demand * f.error_free, f.capacity) * length for f, length in zip(facts, lengths, strict=True)), 0.0

    found = metrics_of(plan, engine.book, [path], [draws.phases(0)])

    assert found["failed_requests"][0] + served + queued == pytest.approx(offered)
    assert offered == pytest.approx(plan.environment.demand.peak_per_s * max(path.end_s, plan.horizon_s))


def test_a_monitor_that_restarts_afterwards_changes_nothing_before():
    """Web 3 x 100 under 150: w0 out for 60 s, w1 with it for 100 s; 3,000 fail while one box serves, whoever watches."""
    env = farm(3, 100.0, 150.0)
    services = env.services | {"mon": env.services["web"].model_copy(update={"role": "monitoring", "on": ("m",), "capacity_per_s": None})}
    watched = env.model_copy(update={"services": services, "machines": (*env.machines, env.machines[0].model_copy(update={"name": "m"}))})
    both = (*lane("web@w0", out_s=60.0), *lane("web@w1", out_s=100.0))
    restart = Step(
        id="mon/out",
        target="mon@m",
        on="m",
        duration=fixed(20.0),
        after=(both[-1].id,),
        begin=(("out", "mon@m"),),
        end=(("serve", "mon@m"),),
    )

    alone = run(Plan(environment=env, steps=both))
    followed = run(Plan(environment=watched, steps=(*both, restart)))

    assert 3000 == alone["failed_requests"][0] == followed["failed_requests"][0]
    assert 20 == followed["blind_s"][0] == followed["unobserved_change_s"][0]


def test_demand_that_changes_is_measured_from_a_trace_as_in_the_run():
    env = farm(1, 100.0, 50.0)
    demand = type(env.demand).model_validate({"steps": [{"at_s": 0, "rate_per_s": 50}, {"at_s": 100, "rate_per_s": 150}]})
    plan = Plan(environment=env.model_copy(update={"demand": demand}), steps=(Step(id="wait", duration=fixed(120.0)),), horizon_s=120.0)

    assert 1000 == run(plan)["failed_requests"][0] == measure(plan, one_trace(plan, 0)).values["failed_requests"]


def crashing(*crashes, steps, **fields) -> Plan:
    env = farm(2, 100.0, 50.0)
    dying = [{"machine": m, "at_s": at, "for_s": length} for m, at, length in crashes]
    return Plan.model_validate({"environment": env, "steps": steps, "crashes": dying, **fields})


def test_a_machine_that_dies_twice_at_once_is_back_when_both_are_over():
    plan = crashing(("w0", 10, 50), ("w0", 20, 10), steps=(Step(id="a", on="w0", duration=fixed(30.0)),))

    found = run(plan)

    assert (1, 90) == (found["success"][0], found["makespan_s"][0])  # broken at 10, again from 60


def test_an_abort_does_not_wait_for_a_machine_that_is_dead():
    steps = (
        Step(id="waits", on="w0", duration=fixed(30.0)),
        Step(id="fails", duration=fixed(40.0), p_fail=1.0, fatal=True),
        Step(id="undo", section="rollback", duration=fixed(10.0)),
    )

    found = run(crashing(("w0", 10, None), steps=steps, on_abort="rollback"))

    assert (1, 50) == (found["rolled_back"][0], found["makespan_s"][0])
