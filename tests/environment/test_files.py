"""Environment files that stand on others, counted machines and patterns of names."""

from __future__ import annotations

import pathlib
import time

import pytest

from simdeploy.environment.files import load_environment
from simdeploy.errors import FileError
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
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
machines: [{name: "w{n}", count: 5, zone: [a, b], update_domain: ["0", "1", "2"]}, {name: db}]
services: {web: {on: [w*]}}
"""


def test_a_count_stands_for_machines_with_numbers_and_zones_in_turn(tmp_path):
    env = environment(tmp_path, FLEET)

    assert ["w1", "w2", "w3", "w4", "w5", "db"] == [m.name for m in env.machines]
    assert ["a", "b", "a", "b", "a", None] == [m.zone for m in env.machines]
    assert ["0", "1", "2", "0", "1", None] == [m.update_domain for m in env.machines]


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


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_many_machines_load_in_linear_time(tmp_path, count):
    """100,000 take less than a second here; before, each scanned all places, and 10,000 took minutes."""
    began = time.perf_counter()
    env = environment(tmp_path, f"like: base.yaml\nmachines: [{{name: 'w{{n}}', count: {count}, zone: [a, b]}}]\n")

    assert count == len(env.machines) and ["web@w1", "web@w2"] == list(env.instances)
    assert time.perf_counter() - began < 10


def test_all_counts_of_an_environment_make_at_most_100_000_machines(tmp_path):
    counted = "".join(f"\n  - {{name: 'w{i}-{{n}}', count: 40000}}" for i in range(3))

    with pytest.raises(FileError, match=r"40000 more machines are too many; all counts .* at most 100000 machines") as caught:
        environment(tmp_path, f"like: base.yaml\nmachines:{counted}\nservices: {{web: {{on: [w0-1, w1-1, w2-40000]}}}}\n")

    assert [(5, 29)] == [f[1:3] for f in caught.value.faults]


COUNTED = """\
name: base
machines:
  - {name: "w{n}", count: 3}
  - {name: db}
entry: web
demand: {rate: 10 req/s}
services:
  web: {on: ["w*", db], capacity: 20 req/s, leader: w2, actions: {stop: {duration: 1 s, on: w3}}}
  sql: {on: [w1]}
"""


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ("count: 3", "count: three", (3, 27), "'three' is no count of machines"),
        ("count: 3", "count: -1", (3, 27), "-1 is no count"),
        ("count: 3", "count: 0", (3, 27), "0 is no count"),
        ("count: 3", "count: 100000000", (3, 27), "too many"),
        ("w{n}", "w", (3, 12), "put {n} where"),
        ('name: "w{n}", ', "", (3, 5), "the key 'name' is missing"),
        ("count: 3", "count: 3, zoen: a", (3, 30), "did you mean 'zone'"),
        ("count: 3", "count: 3, zone: 5 a", (3, 36), "is no name"),
        ('"w*", db', '"x*"', (8, 14), "no machine is called like 'x*'; there are w1, w2, w3, db"),
        ('"w*", db', 'w1, w2, "x*"', (8, 22), "no machine is called like 'x*'"),
        ('"w*", db', '"w*", dbb', (8, 20), "did you mean 'db'?"),
        ('"w*", db', '"w*", db, w2', (8, 24), "listed twice"),
    ],
)
def test_a_fault_of_a_count_or_pattern_is_reported_alone_where_it_stands(tmp_path, old, new, at, says):
    with pytest.raises(FileError) as caught:
        environment(tmp_path, COUNTED.replace(old, new))

    (fault,) = caught.value.faults
    assert (str(tmp_path / "env.yaml"), *at) == fault[:3]
    assert says in fault.message


def test_patterns_that_would_compare_too_much_are_refused(tmp_path):
    with pytest.raises(FileError, match="30 patterns under 'on' are too many for 100000 machines"):
        many = ", ".join(f"'*{i}'" for i in range(30))
        environment(tmp_path, f"like: base.yaml\nmachines: [{{name: 'w{{n}}', count: 100000}}]\nservices: {{web: {{on: [{many}]}}}}\n")


def test_a_long_chain_of_files_is_refused_as_such(tmp_path):
    for i in range(1000):
        (tmp_path / f"e{i}.yaml").write_text(f"like: e{i + 1}.yaml\n")
    (tmp_path / "e1000.yaml").write_text(BASE)

    with pytest.raises(FileError, match=r"e19.yaml:1:7: more than 20 files stand on each other"):
        load_environment(tmp_path / "e0.yaml")
    assert "base" == load_environment(tmp_path / "e981.yaml").name


@pytest.mark.parametrize("where", ["file", "like", "csv"])
def test_a_link_to_itself_cannot_be_read(tmp_path, where):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "env.yaml").write_text(
        {"like": "like: loop.yaml\n", "csv": BASE.replace("rate: 10 req/s", "csv: loop.yaml")}.get(where, "")
    )

    with pytest.raises(FileError, match=r"[Tt]oo many levels of symbolic links"):
        load_environment(tmp_path / ("loop.yaml" if where == "file" else "env.yaml"))


@pytest.mark.parametrize("where", ["file", "like", "csv"])
def test_a_device_without_an_end_is_refused(tmp_path, where):
    (tmp_path / "env.yaml").write_text(
        {"like": "like: /dev/zero\n", "csv": BASE.replace("rate: 10 req/s", "csv: /dev/zero")}.get(where, "")
    )

    with pytest.raises(FileError, match="bytes"):
        load_environment("/dev/zero" if where == "file" else tmp_path / "env.yaml")


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
