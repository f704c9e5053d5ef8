"""Environment files that stand on others, counted machines and patterns of names."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.environment.files import load_environment
from simdeploy.errors import FileError
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.upgrade import build_plans
from simdeploy.simulation.outcome import simulate

BASE = """\
name: base
machines: [{name: w1, zone: a}, {name: w2, zone: b}]
entry: web
demand: {rate: 10 req/s}
services:
  web:
    on: [w1, w2]
    capacity: {value: 20 req/s, assumed: a guess}
    actions:
      stop: {duration: {uniform: [1 s, 2 s]}, assumed: another guess}
      start: {duration: 5 s}
"""


def environment(folder: pathlib.Path, text: str, base: str = BASE):
    (folder / "base.yaml").write_text(base)
    (folder / "env.yaml").write_text(text)
    return load_environment(folder / "env.yaml")


def test_a_file_says_only_what_differs_from_the_one_it_stands_on(tmp_path):
    env = environment(tmp_path, "like: base.yaml\nname: other\nservices: {web: {capacity: 50 req/s}}\n")

    assert ("other", 50.0, ("w1", "w2")) == (env.name, env.services["web"].capacity_per_s, env.services["web"].on)
    assert 5.0 == env.services["web"].actions["start"].duration.mean_s


def test_a_duration_replaces_the_one_below_whatever_its_kind(tmp_path):
    env = environment(tmp_path, "like: base.yaml\nservices: {web: {actions: {stop: {duration: {exponential: 9 s}}}}}\n")

    assert 9.0 == env.services["web"].actions["stop"].duration.mean_s


def test_the_source_of_a_number_goes_with_the_number(tmp_path):
    env = environment(tmp_path, "like: base.yaml\nservices: {web: {capacity: {value: 50 req/s, measured: load test}}}\n")

    assert {"services.web.capacity": "load test", "services.web.actions.stop": "another guess"} == {i.at: i.source for i in env.inputs}


def test_a_fault_below_is_reported_in_the_file_where_it_stands(tmp_path):
    with pytest.raises(FileError) as caught:
        environment(tmp_path, "like: base.yaml\nentry: wbe\n", BASE.replace("start: {duration: 5 s}", "start: {duration: 5}"))

    assert [(str(tmp_path / "base.yaml"), 11), (str(tmp_path / "env.yaml"), 2)] == [f[:2] for f in caught.value.faults]


@pytest.mark.parametrize(
    ("named", "says"), [("env.yaml", "leads back here"), ("none.yaml", "cannot be read"), ("[a]", "no other environment")]
)
def test_a_file_cannot_stand_on_itself_or_on_nothing(tmp_path, named, says):
    with pytest.raises(FileError, match=says):
        environment(tmp_path, f"like: {named}\n")


FLEET = """\
like: base.yaml
machines: [{name: "w{n}", count: 5, zone: [a, b]}, {name: db}]
services: {web: {on: [w*]}}
"""


def test_a_count_stands_for_machines_with_numbers_and_zones_in_turn(tmp_path):
    env = environment(tmp_path, FLEET)

    assert ["w1", "w2", "w3", "w4", "w5", "db"] == [m.name for m in env.machines]
    assert ["a", "b", "a", "b", "a", None] == [m.zone for m in env.machines]


def test_a_pattern_stands_for_the_machines_it_matches(tmp_path):
    assert ("w1", "w2", "w3", "w4", "w5") == environment(tmp_path, FLEET).services["web"].on


@pytest.mark.parametrize(
    ("old", "new", "says", "line"),
    [
        ("count: 5", "count: 0", "no count of machines", 2),
        ("w{n}", "w", r"put \{n\} where", 2),
        ("w*", "x*", "no machine is called like 'x\\*'", 3),
        ("{name: db}", "{name: db, zoen: c}", "did you mean 'zone'", 2),
    ],
)
def test_what_cannot_be_counted_or_matched_says_why_and_where(tmp_path, old, new, says, line):
    with pytest.raises(FileError, match=says) as caught:
        environment(tmp_path, FLEET.replace(old, new))

    assert line in [f.line for f in caught.value.faults]


@pytest.mark.parametrize("kind", ["onebox", "test", "dogfood", "production"])
def test_the_upgrade_runs_on_every_kind_of_environment(kind):
    """By hand: where a tier has one machine, a rolling upgrade is down while its lane runs, and is forecast so."""
    scenario = load_scenario("scenarios/canonical/upgrade.yaml", environment=f"scenarios/canonical/{kind}.yaml")
    plan = build_plans(scenario, ["drain-expand"])["drain-expand"]
    lanes = {t: sum(s.mean_s for s in plan.steps if s.target == t) for t in plan.environment.instances}
    locks = sum(s.mean_s for s in plan.steps if s.slow and s.slow[0][1] == 0)
    alone = [t for t in lanes if len(plan.environment.members(t.split("@")[0])) == 1]

    downtime = simulate(plan, 400).values["downtime_s"]

    expected = locks + sum(lanes[t] for t in alone)
    assert kind == scenario.environment.kind
    assert expected == pytest.approx(downtime.mean(), abs=4 * downtime.std() / 20 + 0.01 * expected)


@pytest.mark.parametrize("upper", ["demand: {steps: [{at: 0 s, rate: 9 req/s}]}", "services: {web: {actions: {stop: {duration: 3 s}}}}"])
def test_the_mark_of_a_number_goes_where_the_number_is_replaced_with_what_is_around_it(tmp_path, upper):
    base = BASE.replace("{rate: 10 req/s}", "{rate: {value: 10 req/s, assumed: gone}}").replace(
        "{uniform: [1 s, 2 s]}, assumed: another guess", "{uniform: [1 s, 2 s], assumed: gone}"
    )

    before = {i.at for i in environment(tmp_path, "like: base.yaml\n", base).inputs}
    after = {i.at for i in environment(tmp_path, f"like: base.yaml\n{upper}\n", base).inputs}

    assert after < before and 1 == len(before - after)
