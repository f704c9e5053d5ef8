"""Machine replacement against a pencil, and laws that hold for any environment.

A web lane takes allocate 600 + install 120 + start 20 + drain 30 + stop 10 + release 60 = 840 s, that of the store
allocate 600 + seed 1,000 + hand over 8 + release 60 = 1,668 s.
"""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simdeploy.environment.models import Action, Environment
from simdeploy.errors import FileError, InvalidDocument
from simdeploy.plan.following import Following
from simdeploy.plan.layout import ABSENT, SERVING
from simdeploy.plan.plan import Plan
from simdeploy.plan.state import State
from simdeploy.plan.trace import Trace
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.replacement import MachineReplacement, OnMachines
from simdeploy.simulation.outcome import simulate
from tests.planning.test_rollback import environments, told_by

ENVIRONMENT = """
name: pair
machines: [{name: lb, hosted: true}, {name: web1, zone: a}, {name: web2, zone: b}, {name: sql1, zone: a}, {name: sql2}, {name: idle}]
entry: balancer
demand: {rate: 90 req/s}
actions: {allocate: {duration: 600 s}, release: {duration: 60 s}}
services:
  balancer: {on: [lb], calls: {web: 1}}
  web:
    on: [web1, web2]
    capacity: 60 req/s
    calls: {sql: 1}
    actions: {drain: {duration: 30 s}, stop: {duration: 10 s}, install: {duration: 120 s}, start: {duration: 20 s}}
  sql:
    role: datastore
    on: [sql1, sql2]
    capacity: 100 req/s
    store: {writes: 1 req/s, copies: [{kind: standby, lag: 5 s}]}
    actions: {seed: {duration: 1000 s, capacity_left: 80 %}, hand_over: {duration: 8 s}}
"""
SCENARIO = "scenario: machine_replacement\nenvironment: environment.yaml\nhorizon: 2 h\n"


def loaded(folder: pathlib.Path, text: str, environment: str = ENVIRONMENT) -> MachineReplacement:
    (folder / "environment.yaml").write_text(environment)
    (folder / "scenario.yaml").write_text(SCENARIO + text)
    scenario = load_scenario(folder / "scenario.yaml")
    assert isinstance(scenario, MachineReplacement)
    return scenario


def found(scenario: MachineReplacement, **fields: Any) -> dict[str, float]:
    plan = build_plan(scenario, "s").model_copy(update=fields)
    return {name: values[0] for name, values in simulate(plan, replications=1).values.items()}


# The horizon is 7,200 s. sql1, sql2 and idle are paid for in all of it, web1 and web2 or what takes their place in the rest
HOURS = 7200 * 3
PENCIL: dict[str, tuple[str, dict[str, float]]] = {
    "one by one": (
        "services: [web]\nstrategies: {s: {}}",
        {"makespan_s": 1680, "failed_requests": 0, "capacity_min": 100, "machine_hours": (HOURS + 2 * 7200 + 2 * 240) / 3600},
    ),
    "both at once": (
        "services: [web]\nstrategies: {s: {batches: all}}",
        {"makespan_s": 840, "failed_requests": 0, "capacity_min": 100, "machine_hours": (HOURS + 2 * 7200 + 2 * 240) / 3600},
    ),
    "a spare for the first": (
        "services: [web]\nstrategies: {s: {spares: 1}}",
        {"makespan_s": 240 + 840, "capacity_min": 100, "machine_hours": (HOURS + 2 * 7200 + 2 * 240) / 3600},
    ),
    # both are paid for from the start, the old boxes until they are released
    "two spares": (
        "services: [web]\nstrategies: {s: {spares: 2}}",
        {"makespan_s": 2 * 240, "machine_hours": (HOURS + 240 + 480 + 2 * 7200) / 3600},
    ),
    # one box carries 60 of 90 req/s for 840 s, twice; nobody pays for it in the 600 s of its allocation
    "in place": (
        "services: [web]\nstrategies: {s: {way: in_place}}",
        {"makespan_s": 1680, "failed_requests": 1680 * 30, "capacity_min": 60, "machine_hours": (HOURS + 2 * 7200 - 2 * 600) / 3600},
    ),
    # all five spares are paid for from the start to the horizon, the old boxes until they are released
    "in place, spares": (
        "services: [web]\nstrategies: {s: {way: in_place, spares: 5, batches: all}}",
        {"makespan_s": 240, "downtime_s": 240, "failed_requests": 240 * 90, "machine_hours": (HOURS + 2 * 100 + 5 * 7200) / 3600},
    ),
    # each seed slows the primary to 80 req/s for 1,000 s; only the primary's lane hands over, for 8 s with nobody
    "the store, its primary last": (
        "services: [sql]\nstrategies: {s: {leader: last}}",
        {
            "makespan_s": 2 * 1660 + 8, "failovers": 1, "downtime_s": 8, "failed_requests": 2 * 1000 * 10 + 8 * 90, "data_loss_s": 0,
            "added_exposure_s": 0, "machine_hours": (7200 * 5 + 60 * 2 + 1000 * 2 + 8) / 3600,
        },
    ),
    # sql1 hands over to sql2, which hands over to the new sql1; a store without a standby for 1,660 s at a time
    "the store in place": (
        "services: [sql]\nstrategies: {s: {way: in_place}}",
        {"makespan_s": 2 * 1668, "failovers": 2, "downtime_s": 16, "data_loss_s": 0, "added_exposure_s": 1660},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PENCIL)
def test_a_replacement_comes_to_what_a_pencil_says(tmp_path, name):
    text, wanted = PENCIL[name]
    figures = found(loaded(tmp_path, text))

    assert {key: pytest.approx(value) for key, value in wanted.items()} == {key: figures[key] for key in wanted}
    assert (1, 0) == (figures["success"], figures["out_at_end"])


def test_all_that_is_on_a_machine_moves_together_callees_first(tmp_path):
    onebox = (
        ENVIRONMENT.replace("[web1, web2]", "[sql1, web1]")
        .replace("[sql1, sql2]", "[sql1]")
        .replace("copies: [{kind: standby, lag: 5 s}]", "")
    )

    plan = build_plan(loaded(tmp_path, "machines: [sql1]\nstrategies: {s: {}}", onebox), "s")

    assert [
        "allocate/sql@sql1-new/allocate", "data/sql@sql1-new/seed", "code/web@sql1-new/install", "code/web@sql1-new/start",
        "code/sql@sql1/hand_over", "code/web@sql1/drain", "code/web@sql1/stop", "allocate/sql@sql1/release", "code/sql/judge#1",
    ] == [s.id for s in plan.steps]  # fmt: skip


def test_the_new_machine_stands_where_the_old_one_stood(tmp_path):
    cells = ENVIRONMENT.replace("services:", "cells: {one: {on: [web1]}, two: {on: [web2]}}\nservices:", 1)

    env = build_plan(loaded(tmp_path, "services: [web]\nstrategies: {s: {}}", cells), "s").environment

    assert {"web1-new": ("a", "one"), "web2-new": ("b", "two")} == {
        m.name: (m.zone, env.cell_of[m.name]) for m in env.machines if m.name.endswith("-new")
    }


NO_SEED = ENVIRONMENT.replace("seed: {duration: 1000 s, capacity_left: 80 %}, ", "")
NO_ALLOCATE = ENVIRONMENT.replace("allocate: {duration: 600 s}, ", "")
WRONG = [
    (ENVIRONMENT, "machines: [web1, wbe2]\nstrategies: {s: {}}", 4, "'wbe2' is no machine; did you mean 'web2'?"),
    (ENVIRONMENT, "machines: [web1, web1]\nstrategies: {s: {}}", 4, "'web1' is named twice; keep one"),
    (ENVIRONMENT, "machines: [lb]\nstrategies: {s: {}}", 4, "'lb' is hosted: its provider replaces it; leave it out"),
    (ENVIRONMENT, "machines: [idle]\nstrategies: {s: {}}", 4, "nothing runs on 'idle'"),
    (ENVIRONMENT, "services: [webs]\nstrategies: {s: {}}", 4, "'webs' is no service; did you mean 'web'?"),
    (ENVIRONMENT, "services: [balancer]\nstrategies: {s: {}}", 4, "all machines of 'balancer' are hosted"),
    (ENVIRONMENT, "machines: [web1]\nservices: [web]\nstrategies: {s: {}}", 5, "machines and services both say"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {leader: last}}", 5, "no leader or primary is among what is replaced"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {hand_over: true}}", 5, "no leader-elected service is among"),
    (ENVIRONMENT, "services: [sql]\nstrategies: {s: {batches: by_zone}}", 5, "no zone of sql2 is known"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {order: [sql]}}", 5, "web1, web2 would never go"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {order: [web, web]}}", 5, "'web' comes twice in the order"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {order: [wbe]}}", 5, "'wbe' is no service"),
    (ENVIRONMENT, "strategies: {s: {way: in_place, on_abort: rollback}}", 4, "there is no way back; write on_abort: halt"),
    (ENVIRONMENT, "services: [sql]\nstrategies: {s: {way: in_place, batches: all}}", 5, "in place 'sql1' leaves before another"),
    (ENVIRONMENT, "strategies: {s: {failures_of: all_of_batch, max_failures: 1}}", 4, "drop one of them"),
    (ENVIRONMENT, "strategies: {s: {batches: 0}}", 4, "0 is no batch size"),
    (NO_SEED, "strategies: {s: {}}", 4, "'sql' has no recipe for 'seed'"),
    (ENVIRONMENT.replace(", hand_over: {duration: 8 s}", ""), "machines: [sql1]\nstrategies: {s: {}}", 5, "no recipe for 'hand_over'"),
    (ENVIRONMENT.replace("install: {duration: 120 s}, ", ""), "strategies: {s: {}}", 4, "'web' has no recipe for 'install'"),
    (NO_ALLOCATE, "services: [web]\nstrategies: {s: {spares: 1}}", 5, "new machines are needed for 2, spares are 1"),
    (NO_ALLOCATE, "services: [web]\nstrategies: {s: {spares: 2, on_abort: rollback}}", 5, "a rollback allocates machines anew"),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "text", "line", "says"), WRONG, ids=[says for *_, says in WRONG])
def test_what_makes_no_sense_is_told_with_its_place(tmp_path, environment, text, line, says):
    with pytest.raises(FileError) as caught:
        loaded(tmp_path, text, environment)

    [fault] = caught.value.faults
    assert says in fault.message
    assert line == fault.line


def test_a_standby_is_replaced_without_a_recipe_to_hand_over(tmp_path):
    env = ENVIRONMENT.replace(", hand_over: {duration: 8 s}", "")

    assert 1 == found(loaded(tmp_path, "machines: [sql2]\nstrategies: {s: {}}", env))["success"]


# The second of two lanes fails. With the first lane done its box has gone: the way back allocates it anew.
@pytest.mark.parametrize(
    ("failing", "makespan_s"),
    [
        # what was ordered is given back in 60 s, whether or not it came; then 840 s backwards
        ("allocate/web@web2-new/allocate", 840 + 600 + 60 + 840),
        ("code/web@web2-new/install", 840 + 720 + 60 + 840),
        # the new box serves: the old one starts again in 20 s, the new one drains and stops in 40 s and is given back in 60 s
        ("code/web@web2/stop", 840 + 780 + 120 + 840),
    ],
)
def test_the_way_back_brings_old_machines_back(tmp_path, failing, makespan_s):
    plan = build_plan(loaded(tmp_path, "services: [web]\nstrategies: {s: {on_abort: rollback}}"), "s")
    steps = tuple(s.model_copy(update={"p_fail": 1.0}) if s.id == failing else s for s in plan.steps)

    figures = {name: values[0] for name, values in simulate(plan.model_copy(update={"steps": steps}), replications=1).values.items()}

    assert (1, 0, 0) == (figures["rolled_back"], figures["out_at_end"], figures["failed_requests"])
    assert makespan_s == figures["makespan_s"]


@st.composite
def equipped(draw: Any) -> Environment:
    """Random environments with the recipes of new machines."""
    env: Environment = draw(environments())
    services = dict(env.services)
    if "sql" in services:
        store = services["sql"]
        actions = {**store.actions, "seed": store.actions["back_up"]}
        services["sql"] = store.model_copy(update={"actions": actions})
    ready = {"prerequisites": next(iter(env.services.values())).actions["start"]} if draw(st.booleans()) else {}
    services = {n: s.model_copy(update={"actions": {**s.actions, **ready}}) for n, s in services.items()}
    return env.model_copy(update={"services": services})


def which(draw: Any, env: Environment) -> dict[str, Any]:
    """Some of its machines, as a file names them."""
    machines = st.lists(st.sampled_from([m.name for m in env.machines]), min_size=1, unique=True).map(lambda some: {"machines": some})
    named: dict[str, Any] = draw(
        st.one_of(st.just({}), machines, st.sampled_from(sorted(env.services)).map(lambda one: {"services": [one]}))
    )
    return named


@st.composite
def replacements(draw: Any) -> MachineReplacement:
    """Random machines of random environments, replaced in a random strategy."""
    env = draw(equipped())
    strategy: dict[str, Any] = {
        "batches": draw(st.sampled_from([1, 2, [1, 3], "50 %", "all", "canary", "halves", "by_zone"])),
        "spares": draw(st.integers(0, 3)), "leader": draw(st.sampled_from(["any", "last", "first"])), "hand_over": draw(st.booleans()),
    }  # fmt: skip
    if draw(st.booleans()):
        order = draw(st.permutations(sorted(env.services)))
        strategy["order"] = draw(st.sampled_from([[order], [[s] for s in order]]))
    strategy |= draw(st.sampled_from([{}, {"on_abort": "rollback"}, {"way": "in_place"}]))
    data = {"scenario": "machine_replacement", "name": "random", "environment": env, "horizon": 20000.0, "strategies": {"s": strategy}}
    try:
        return MachineReplacement.model_validate(data | which(draw, env))
    except InvalidDocument:
        assume(False)
        raise


def states(plan: Plan, told: Trace) -> tuple[State, list[dict[str, int]]]:
    """The state at the end, and after each instant how many of each service serve."""
    following = Following(plan)
    state, layout = following.state, following.state.layout
    counts = []
    for _, records in itertools.groupby(told, key=lambda r: r.at_s):
        for record in records:
            following.tell(record)
        counts.append(
            {
                name: sum(state.mode(i) == SERVING for i in members)
                for name, members in zip(layout.service_names, layout.members, strict=True)
            }
        )
    return state, counts


LAWS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def never_fewer(scenario: OnMachines, counts: list[dict[str, int]]) -> bool:
    return all(count[name] >= len(s.on) for count in counts for name, s in scenario.environment.services.items())


@LAWS
@given(replacements())
def test_a_replacement_replaces_what_it_names_and_touches_nothing_else(scenario):
    plan = build_plan(scenario, "s")
    told = told_by(plan)
    state, counts = states(plan, told)

    assert "success" == told.outcome
    old, index = set(scenario.instances), state.layout.index
    new = set(plan.start.absent)
    assert {ABSENT} == {state.mode(index[i]) for i in old}
    assert {SERVING} == {state.mode(index[i]) for i in plan.environment.instances if i not in old}
    idle = max(0, scenario.strategies["s"].spares - len(scenario.chosen))
    assert len(new) == len(old) and len(scenario.chosen) + idle == len(plan.environment.machines) - len(scenario.environment.machines)
    for step in plan.steps:
        touched = {str(e[1]) for e in (*step.begin, *step.end) if e[0] != "lead"} | ({step.target} & set(plan.environment.instances))
        assert touched <= old | new or step.action == "hand_over", step.id
    if scenario.strategies["s"].way == "beside":
        assert never_fewer(scenario, counts)


@LAWS
@given(replacements(), st.data())
def test_wherever_a_replacement_fails_the_way_back_restores_the_old_machines_without_fewer_serving(scenario, data):
    assume(scenario.strategies["s"].on_abort == "rollback")
    plan = build_plan(scenario, "s")
    fails = data.draw(st.sampled_from([s.id for s in plan.steps if s.part == 0 and s.kind == "step"]))
    steps = tuple(s.model_copy(update={"p_fail": 1.0}) if s.id == fails else s for s in plan.steps)
    plan = plan.model_copy(update={"steps": steps})
    told = told_by(plan)
    state, counts = states(plan, told)

    assert "rolled_back" == told.outcome
    assert {ABSENT} == {state.mode(state.layout.index[i]) for i in plan.start.absent}
    assert {SERVING} == {state.mode(state.layout.index[i]) for i in scenario.environment.instances}
    assert never_fewer(scenario, counts)
    led = [s for s, leads in enumerate(state.layout.leading) if leads]
    assert None not in [state.leaders[s] for s in led]


def test_a_recipe_may_be_missing_where_a_machine_only_moves(tmp_path):
    bare = ENVIRONMENT.replace("  balancer: {on: [lb]", "  balancer: {on: [idle]")
    scenario = loaded(tmp_path, "machines: [idle]\nstrategies: {s: {}}", bare)

    assert ["'balancer' has no recipe,"] == [w[:25] for w in scenario.warnings()]
    figures = found(scenario)
    assert (660, 0, 1) == (figures["makespan_s"], figures["failed_requests"], figures["success"])


def test_nothing_is_allocated_that_stands_ready(tmp_path):
    plan = build_plan(loaded(tmp_path, "services: [web]\nstrategies: {s: {spares: 2}}", NO_ALLOCATE), "s")

    assert {Action(duration={"fixed": 0.0}).duration} == {s.duration for s in plan.steps if s.action == "take"}
    assert not [s for s in plan.steps if s.action == "allocate"]
