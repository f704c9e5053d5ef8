"""Compute restore against a pencil, against plans of an independent implementation, and laws for any environment."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simdeploy.environment.models import Environment
from simdeploy.environment.stores import Backup, Store
from simdeploy.errors import FileError, InvalidDocument
from simdeploy.plan.layout import ABSENT, SERVING
from simdeploy.planning.compute_restore import ComputeRestore
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate
from tests.planning.test_rollback import told_by
from tests.reference.adapter import PLANS
from tests.scenarios.test_machine_replacement import LAWS, equipped, never_fewer, states, which

ENVIRONMENT = """
name: canonical
machines: [{name: lb1, zone: c}, {name: web1}, {name: web2}, {name: mid1}, {name: mid2}, {name: sql1}, {name: sql2}, {name: mon1}]
entry: lb
demand: {rate: 100 req/s}
actions: {allocate: {duration: 600 s}, release: {duration: 60 s}}
services:
  lb: {on: [lb1], calls: {web: 1}, actions: {install: {duration: 0 s}}}
  web:
    on: [web1, web2]
    capacity: 300 req/s
    calls: {mid: 1.5}
    actions: &actions {drain: {duration: 30 s}, stop: {duration: 10 s}, install: {duration: 120 s}, start: {duration: 20 s}}
  mid: {on: [mid1, mid2], capacity: 200 req/s, calls: {sql: 2}, actions: *actions}
  sql:
    role: datastore
    on: [sql1, sql2]
    capacity: 500 req/s
    failover: automatic
    election: {detect: 10 s, elect: 5 s}
    store: {writes: 2 req/s, copies: [{kind: standby, lag: 3 s}, {kind: backup, every: 1 d, takes: 1 h}]}
    actions:
      install: {duration: 0 s}
      restore: {duration: 2000 s}
      seed: {duration: 100 s}
      start: {duration: 60 s}
      promote: {duration: 8 s}
  mon: {role: monitoring, on: [mon1], actions: {install: {duration: 0 s}}}
"""
MANUAL = ENVIRONMENT.replace("failover: automatic", "failover: manual")
ALONE = (
    ENVIRONMENT.replace("on: [sql1, sql2]", "on: [sql1]")
    .replace("{kind: standby, lag: 3 s}", "{kind: log_archive, closes_every: 60 s, ships_in: 40 s}")
    .replace("store: {writes: 2 req/s", "version: '7'\n    store: {writes: 2 req/s")
)
KEYS = "scenario: compute_restore\nenvironment: environment.yaml\ndetect: 120 s\ndecide: 600 s\nvalidate: 180 s\nhorizon: 2 h\n"


def loaded(folder: pathlib.Path, text: str, environment: str = ENVIRONMENT, keys: str = KEYS) -> ComputeRestore:
    (folder / "environment.yaml").write_text(environment)
    (folder / "scenario.yaml").write_text(keys + text)
    scenario = load_scenario(folder / "scenario.yaml")
    assert isinstance(scenario, ComputeRestore)
    return scenario


def found(scenario: ComputeRestore, **fields: Any) -> dict[str, float]:
    plan = build_plan(scenario, "s").model_copy(update=fields)
    return {name: values[0] for name, values in simulate(plan, replications=1).values.items()}


# Detected and decided at 720 s, a machine is there at 1,320 s, its code runs at 1,460 s; steady is 500 / 3 = 166.67 req/s
LOST = "strategies: {s: {when: after_loss}}"
PENCIL: dict[str, tuple[str, str, dict[str, float]]] = {
    # one web box and one middle box carry 133.33 req/s, more than the demand
    "a half of two tiers": (
        ENVIRONMENT, "machines: [web1, mid1]\n" + LOST,
        {"rto_s": 1640, "makespan_s": 1640, "failed_requests": 0, "lost_capacity": 1460 * 100 / 3, "failovers": 0},
    ),
    # the middle tier serves at 1,460 s, web starts then
    "two tiers": (ENVIRONMENT, "services: [web, mid]\n" + LOST, {"rto_s": 1660, "downtime_s": 1480, "failed_requests": 148000}),
    "two tiers, spares": (
        ENVIRONMENT, "services: [web, mid]\nstrategies: {s: {when: after_loss, spares: 4}}", {"rto_s": 1060, "downtime_s": 880},
    ),
    # all at once, but one step at a time: both machines, then the first box, then the second: 2 x (600 + 120 + 20)
    "one step at a time": (
        ENVIRONMENT, "services: [web]\nforks: 1\n" + LOST, {"rto_s": 720 + 1480 + 180, "downtime_s": 720 + 2 * 600 + 140},
    ),
    # the standby leads after 15 s and loses its lag, which nobody decides; sql1's new machine takes 600 + 100 + 60 s after the look
    "a primary": (
        ENVIRONMENT, "machines: [sql1]\n" + LOST,
        {"rto_s": 120 + 180, "makespan_s": 300 + 760, "downtime_s": 15, "failovers": 1, "data_loss_s": 3, "lost_writes": 6},
    ),
    "a primary, by hand": (
        MANUAL, "machines: [sql1]\n" + LOST, {"rto_s": 728 + 180, "downtime_s": 728, "failovers": 1, "data_loss_s": 3, "lost_writes": 6},
    ),
    "a standby": (MANUAL, "machines: [sql2]\n" + LOST, {"rto_s": 300, "downtime_s": 0, "failovers": 0, "data_loss_s": 0}),
    # restored at 3,320 s, it leads at 3,380 s; the standby's machine is ordered and seeded after the look
    "a whole store": (
        ENVIRONMENT, "services: [sql]\n" + LOST, {"rto_s": 3380 + 180, "makespan_s": 3560 + 760, "downtime_s": 3380, "failovers": 1},
    ),
    # web and middle tier wait for the store with what is left of them: start at 3,380 s
    "everything": (ALONE, "services: [web, mid, sql]\n" + LOST, {"downtime_s": 3380 + 20 + 20, "rto_s": 3420 + 180}),
    # four lanes of 840 s; two tiers of two, each mixed from the first new box (740 s) to the end of the second's drain start (1,580 s)
    "new code beside": (
        ENVIRONMENT, 'services: [web, mid]\nto: {web: "2"}\nstrategies: {s: {}}',
        {"makespan_s": 4 * 840 + 180, "downtime_s": 0, "lost_capacity": 0, "skew_s": 840, "failed_requests": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PENCIL)
def test_a_restore_comes_to_what_a_pencil_says(tmp_path, name):
    environment, text, wanted = PENCIL[name]
    figures = found(loaded(tmp_path, text, environment))

    assert {key: pytest.approx(value) for key, value in wanted.items()} == {key: figures[key] for key in wanted}
    assert (1, 0, 500 / 3) == (figures["success"], figures["out_at_end"], pytest.approx(figures["capacity_end"]))


def test_what_an_archive_held_comes_back(tmp_path):
    # shipped 40 s after a segment of 60 s closes: the loss is U(40 s, 100 s), in 400 runs 70 s with a standard error of 0.87 s
    scenario = loaded(tmp_path, "services: [sql]\n" + LOST, ALONE)

    loss_s = simulate(build_plan(scenario, "s"), replications=400).values["data_loss_s"]

    assert 40 <= loss_s.min() and loss_s.max() <= 100
    assert pytest.approx(70, abs=4 * 0.87) == loss_s.mean()


DUMPED = (
    ENVIRONMENT.replace("on: [sql1, sql2]", "on: [sql1]")
    .replace("{kind: standby, lag: 3 s}", "{kind: backup, every: 1 d, takes: 60 s, begins_at: 01:00}")
)  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "old", "text", "loss_s"),
    [
        (DUMPED, "restore: {duration: 2000 s", "services: [sql]\n", 12 * 3600),
        (DUMPED, "allocate: {duration: 600 s", "services: [sql]\n", 12 * 3600),
        (MANUAL, "promote: {duration: 8 s", "machines: [sql1]\n", 3),
    ],
)
def test_a_store_that_does_not_come_back_has_lost_what_is_in_no_copy(tmp_path, environment, old, text, loss_s):
    keys = KEYS + "starts_at: 13:00\n"
    back, away = (
        found(loaded(tmp_path, text + LOST, env, keys)) for env in (environment, environment.replace(old, f"{old}, p_fail: 100 %"))
    )

    assert (loss_s, 2 * loss_s) == (away["data_loss_s"], away["lost_writes"]) == (back["data_loss_s"], back["lost_writes"])
    assert (1, 0) == (back["success"], away["success"])


def test_a_machine_that_dies_with_no_primary_on_it_takes_no_data(tmp_path):
    failing = MANUAL.replace("seed: {duration: 100 s", "seed: {duration: 100 s, p_fail: 100 %")

    assert 0 == found(loaded(tmp_path, "machines: [sql2]\n" + LOST, failing))["data_loss_s"]


def reference(name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((PLANS / f"{name}.json").read_text())["metrics"]
    return {key: value for key, value in metrics.items() if key != "outcome"}


def test_a_backup_that_is_all_there_is_gives_the_reference_numbers(tmp_path):
    keys = KEYS.replace("decide: 600 s", "decide: 300 s")
    alone = ENVIRONMENT.replace("on: [sql1, sql2]", "on: [sql1]").replace("{kind: standby, lag: 3 s}, ", "")
    figures = found(loaded(tmp_path, "machines: [sql1]\n" + LOST, alone, keys), horizon_s=None)

    # there the lost instance counts to the end; here a new one has taken its place
    wanted = reference("restore-backup-only") | {"out_at_end": 0}
    assert {key: pytest.approx(value, abs=1e-5) for key, value in wanted.items()} == {key: figures[key] for key in wanted}


def test_a_lost_zone_with_a_standby_gives_the_reference_numbers(tmp_path):
    seeded = ENVIRONMENT.replace("start: {duration: 60 s}", "start: {duration: 0 s}")
    figures = found(loaded(tmp_path, "machines: [web1, mid1, sql1]\n" + LOST, seeded), horizon_s=None)

    # there no machine takes the lost standby's place; here one does, 600 + 100 s after the look, and until then one more loss is not borne
    wanted = reference("zone-lost-standby") | {"out_at_end": 0, "makespan_s": 1640 + 700, "single_fault_s": 1640 + 700}
    assert {key: pytest.approx(value, abs=1e-5) for key, value in wanted.items()} == {key: figures[key] for key in wanted}


def test_a_quorum_of_which_all_are_lost_counts_the_new_members_alone(tmp_path):
    env = ENVIRONMENT.replace("mid: {on: [mid1, mid2],", "mid: {role: quorum, on: [mid1, mid2, mon1],")

    figures = found(loaded(tmp_path, "services: [mid]\n" + LOST, env))

    assert (1460, 1) == (figures["downtime_s"], figures["success"])


def test_what_is_executed_on_a_lost_machine_is_executed_on_its_new_one(tmp_path):
    env = ENVIRONMENT.replace("start: {duration: 20 s}}", "start: {duration: 20 s}, undrain: {on: lb1, duration: 1 s}}")
    scenario = loaded(tmp_path, "machines: [lb1, web1]\n" + LOST, env)

    assert {"lb1-new"} == {s.on for s in build_plan(scenario, "s").steps if s.action == "undrain"}
    assert 1 == found(scenario)["success"]


def test_a_seed_slows_the_member_that_lives(tmp_path):
    env = ENVIRONMENT.replace("seed: {duration: 100 s}", "seed: {duration: 100 s, capacity_left: 50 %}")

    # 250 / 3 = 83.33 of 100 req/s for 100 s
    assert 15 * 100 + 100 * 100 / 6 == pytest.approx(found(loaded(tmp_path, "machines: [sql1]\n" + LOST, env))["failed_requests"])


HOSTED = ENVIRONMENT.replace("name: lb1,", "name: lb1, hosted: true,")
WRONG = [
    (ENVIRONMENT, 'to: {wbe: "2"}\nstrategies: {s: {}}', 7, "'wbe' is no service; did you mean 'web'?"),
    (ENVIRONMENT, 'to: {sql: "2"}\nstrategies: {s: {}}', 7, "'sql' is a datastore, whose schema comes with its data"),
    (ENVIRONMENT, 'services: [mid]\nto: {web: "2"}\nstrategies: {s: {}}', 8, "no machine that is restored runs 'web'; there are mid"),
    (HOSTED, 'to: {lb: "2"}\nstrategies: {s: {}}', 7, "no machine that is restored runs 'lb'"),
    (ENVIRONMENT, "machines: [web9]\nstrategies: {s: {}}", 7, "'web9' is no machine"),
    (ENVIRONMENT, "strategies: {s: {when: after_loss, batches: 1}}", 7, "lost machines do not leave one after the other"),
    (ENVIRONMENT, "strategies: {s: {when: after_loss, on_abort: rollback}}", 7, "drop 'on_abort', or write when: beside"),
    (ENVIRONMENT, "strategies: {s: {when: later}}", 7, "'beside' or 'after_loss'"),
    (ENVIRONMENT, "strategies: {s: {way: in_place}}", 7, "way"),
    (ENVIRONMENT, "services: [web]\nstrategies: {s: {leader: last}}", 8, "no leader or primary is among what is replaced"),
    (ENVIRONMENT, "strategies: {s: {when: after_loss, max_failures: 1}}", 7, "drop 'max_failures', or write when: beside"),
    (ENVIRONMENT.replace("restore: {duration: 2000 s}", ""), "services: [sql]\n" + LOST, 8, "nothing says how long it takes to restore"),
    (ENVIRONMENT.replace(", {kind: backup, every: 1 d, takes: 1 h}", ""), "services: [sql]\n" + LOST, 8, "does not reach it"),
    (MANUAL.replace("promote: {duration: 8 s}", ""), "machines: [sql1]\n" + LOST, 8, "no recipe for 'promote'"),
    (ENVIRONMENT.replace("install: {duration: 120 s}, ", ""), "machines: [mid1]\n" + LOST, 8, "no recipe for 'install'"),
    (ENVIRONMENT.replace("allocate: {duration: 600 s}, ", ""), "machines: [web1]\n" + LOST, 8, "web1-new must be new, and spares are 0"),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "text", "line", "says"), WRONG, ids=[says for *_, says in WRONG])
def test_what_makes_no_sense_is_told_with_its_place(tmp_path, environment, text, line, says):
    with pytest.raises(FileError) as caught:
        loaded(tmp_path, text, environment)

    [fault] = caught.value.faults
    assert says in fault.message
    assert line == fault.line


def recoverable(env: Environment) -> Environment:
    """*env* with a backup of its store and the recipes by which that comes back."""
    if "sql" not in env.services:
        return env
    store = env.services["sql"]
    actions = dict.fromkeys(["install", "restore", "promote"], store.actions["seed"]) | store.actions
    copies = (*(store.store or Store()).copies, Backup(kind="backup", every=3600.0, takes=60.0))
    kept = store.model_copy(update={"actions": actions, "store": Store(copies=copies)})
    return env.model_copy(update={"services": {**env.services, "sql": kept}})


@st.composite
def restores(draw: Any) -> ComputeRestore:
    """Random machines of random environments, restored beside or after their loss."""
    env = recoverable(draw(equipped()))
    to = {name: "2" for name, service in env.services.items() if service.role != "datastore" and draw(st.booleans())}
    strategy = draw(st.sampled_from([{"when": "after_loss"}, {"batches": "halves"}, {"batches": "all", "on_abort": "rollback"}]))
    strategy = strategy | {"spares": draw(st.integers(0, 3))}
    data = {"scenario": "compute_restore", "name": "random", "environment": env, "horizon": 20000.0, "strategies": {"s": strategy}}
    data |= {"to": to, "detect": 10.0, "decide": {"uniform": [20.0, 40.0]}, "validate": 15.0}
    try:
        return ComputeRestore.model_validate(data | which(draw, env))
    except InvalidDocument:
        assume(False)
        raise


@LAWS
@given(restores())
def test_a_restore_leaves_every_new_machine_serving_what_it_should(scenario):
    plan = build_plan(scenario, "s")
    told = told_by(plan)
    state, counts = states(plan, told)

    assert "success" == told.outcome
    index, old = state.layout.index, set(scenario.instances)
    assert {ABSENT} == {state.mode(index[i]) for i in old}
    assert {SERVING} == {state.mode(index[i]) for i in plan.environment.instances if i not in old}
    assert state.validated_at_s == max(r.at_s for r in told if r.subject.endswith("/validate"))
    for instance in plan.start.absent:
        service = plan.environment.instances[instance][0]
        if scenario.environment.services[service].role != "datastore":
            wanted = scenario.to.get(service, scenario.environment.services[service].version)
            assert wanted == state.layout.conditions[state.codes[index[instance]]].version
    for s, leads in enumerate(state.layout.leading):
        assert not leads or SERVING == state.mode(state.leaders[s])
    if scenario.strategies["s"].when == "beside":
        assert never_fewer(scenario, counts)
