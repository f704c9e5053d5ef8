"""Files: every fault at once, each at its line and column; and never anything but a FileError."""

from __future__ import annotations

import pathlib
import time
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdeploy.environment.demand import Level
from simdeploy.environment.files import load_environment
from simdeploy.environment.models import Environment
from simdeploy.errors import FileError
from simdeploy.planning.loading import load, load_scenario
from simdeploy.planning.scenario import Upgrade

CANONICAL = pathlib.Path(__file__).parents[2] / "scenarios" / "canonical"
PRODUCTION = (CANONICAL / "production.yaml").read_text()
UPGRADE = (CANONICAL / "upgrade.yaml").read_text()

SMALL = """\
name: small
machines:
  - {name: w1, zone: a}
  - {name: w2, zone: b}
  - {name: db1, zone: a}
entry: web
demand: {rate: 10 req/s}
services:
  web:
    on: [w1, w2]
    capacity: 20 req/s
    calls: {sql: 2}
    health_check: {interval: 2 s, fall: 3}
    actions:
      drain: {duration: 30 s}
      start: {duration: 20 s}
      install:
        duration: {triangular: [60 s, 120 s, 300 s]}
        p_fail: 1 %
  sql:
    role: datastore
    on: [db1]
    capacity: 50 req/s
    store:
      copies:
        - {kind: backup, every: 24 h, takes: 30 min}
"""
MIGRATION = """\
scenario: upgrade
environment: small.yaml
to: {web: "2"}
goals:
  - p95(downtime_s) <= 30 s
prefer: [failed_requests, makespan_s]
strategies:
  one-by-one:
    order: [web]
    services:
      web: {batches: 1}
"""


def changed(text: str, old: str, new: str) -> str:
    assert 1 == text.count(old), f"{old!r} stands {text.count(old)} times in the text"
    return text.replace(old, new)


def place(text: str, marker: str) -> tuple[int, int]:
    """Line and column of the only place where *marker* stands, both from 1."""
    assert 1 == text.count(marker), f"{marker!r} stands {text.count(marker)} times in the text"
    before = text[: text.index(marker)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


@pytest.fixture
def faults_of(tmp_path):
    """The faults of a file with this text."""

    def read(text: str | bytes, loader=load):
        path = tmp_path / "small.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(FileError) as caught:
            loader(path)
        assert {str(path)} == {fault.file for fault in caught.value.faults}
        assert str(caught.value).splitlines()[0].startswith(f"{path}:{caught.value.faults[0].line}:{caught.value.faults[0].column}: ")
        return caught.value.faults

    return read


@pytest.fixture
def scenario_faults(tmp_path):
    """The faults of a scenario and its environment with these texts."""

    def read(scenario: str, environment: str = SMALL):
        (tmp_path / "small.yaml").write_text(environment)
        (tmp_path / "upgrade.yaml").write_text(scenario)
        with pytest.raises(FileError) as caught:
            load_scenario(tmp_path / "upgrade.yaml")
        return caught.value.faults

    return read


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(text)
    return path


def test_every_file_of_the_canonical_environment_loads():
    assert isinstance(load(CANONICAL / "production.yaml"), Environment)
    assert isinstance(load(CANONICAL / "upgrade.yaml"), Upgrade)
    assert load_scenario(CANONICAL / "upgrade.yaml").environment == load_environment(CANONICAL / "production.yaml")


def test_the_small_files_that_are_spoilt_below_are_sound(tmp_path):
    write(tmp_path / "small.yaml", SMALL)

    assert ("one-by-one",) == tuple(load_scenario(write(tmp_path / "upgrade.yaml", MIGRATION)).strategies)


def test_numbers_come_in_base_units(tmp_path):
    env = load_environment(write(tmp_path / "small.yaml", SMALL))

    assert 20.0 == env.services["web"].capacity_per_s
    assert 2.0 == env.services["web"].health_check.interval_s
    assert 0.01 == env.services["web"].actions["install"].p_fail
    assert 86400.0 == env.services["sql"].store.copies[0].every_s


def test_a_marked_number_is_the_number_and_its_source_is_kept(tmp_path):
    marked = changed(SMALL, "capacity: 20 req/s", "capacity: {value: 20 req/s, measured: load test of May}")
    env = load_environment(write(tmp_path / "small.yaml", marked))

    assert 20.0 == env.services["web"].capacity_per_s
    assert [("services.web.capacity", "measured", "load test of May")] == [(i.at, i.mark, i.source) for i in env.inputs]


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_the_same_file(tmp_path):
    plain = load_environment(write(tmp_path / "plain.yaml", SMALL))
    (tmp_path / "windows.yaml").write_bytes(("\ufeff" + SMALL.replace("\n", "\r\n")).encode())

    assert plain == load_environment(tmp_path / "windows.yaml")


VALUE_FAULTS = {
    "missing unit": ("20 req/s", "20", "20\n", "20 has no unit; write for example '20 req/s'"),
    "missing unit in a list": ("[60 s, 120 s, 300 s]", "[60 s, 121, 300 s]", "duration: {tri", "121 has no unit"),
    "unknown unit": ("20 req/s", "20 req/sec", "20 req/sec", "did you mean '20 req/s'?"),
    "other dimension": ("interval: 2 s", "interval: 2 GB", "2 GB", "unknown unit 'GB'"),
    "negative": ("interval: 2 s", "interval: -2 s", "-2 s", "not negative"),
    "zero interval": ("interval: 2 s", "interval: 0 s", "0 s, fall", "interval: 0 must be above 0"),
    "percent over 100": ("p_fail: 1 %", "p_fail: 120 %", "120 %", "over 100 %"),
    "word for a count": ("fall: 3", "fall: three", "three", "fall: 'three' must be a whole number"),
    "unknown role": ("role: datastore", "role: datastor", "datastor", "did you mean 'datastore'?"),
    "unknown distribution": ("{triangular:", "{triangle:", "duration: {tri", "no duration"),
    "falling triangle": ("[60 s, 120 s, 300 s]", "[60 s, 120 s, 30 s]", "duration: {tri", "must not fall"),
    "no name": ("name: small", "name: small town", "small town", "no name"),
    "no machine": ("on: [w1, w2]", "on: [w1, w3]", "w3", "no machine; there are w1, w2, db1"),
    "machine twice for a service": ("on: [w1, w2]", "on: [w1, w1]", "w1]", "twice"),
    "machine listed twice": ("zone: a}\nentry", "zone: a}\n  - {name: db1, zone: b}\nentry", "db1, zone: b", "listed twice in two zones"),
    "no entry": ("entry: web", "entry: wep", "wep", "did you mean 'web'?"),
    "no callee": ("calls: {sql: 2}", "calls: {sqk: 2}", "2}\n    health", "did you mean 'sql'?"),
}


@pytest.mark.parametrize(("old", "new", "marker", "says"), VALUE_FAULTS.values(), ids=VALUE_FAULTS)
def test_a_bad_value_is_reported_at_its_line_and_column(faults_of, old, new, marker, says):
    text = changed(SMALL, old, new)
    (fault,) = faults_of(text)

    assert place(text, marker) == (fault.line, fault.column)  # a value by itself, a mapping or list by its key
    assert says in fault.message


def test_an_unknown_key_suggests_the_nearest(faults_of):
    text = changed(SMALL, "health_check:", "healthcheck:")
    (fault,) = faults_of(text)

    assert place(text, "healthcheck") == (fault.line, fault.column)
    assert "unknown key 'healthcheck'; did you mean 'health_check'?" == fault.message


def test_an_unknown_key_far_from_all_lists_those_that_there_are(faults_of):
    (fault,) = faults_of(changed(SMALL, "fall: 3", "colour: 3"))

    assert fault.message.startswith("unknown key 'colour'; known here: ")
    assert {"interval", "fall", "rise", "timeout"} == set(fault.message.partition("here: ")[2].split(", "))


@pytest.mark.parametrize(
    ("old", "new", "suggests"),
    [
        ("zone: b", "zome: b", "zone"),
        ("capacity: 20", "capcity: 20", "capacity"),
        ("duration: {tri", "duratoin: {tri", "duration"),
        ("install:", "instal:", "install"),
        ("every:", "evry:", "every"),
        ("demand:", "demands:", "demand"),
        ("rate: 10", "rat: 10", "rate"),
    ],
)
def test_a_typo_in_a_key_at_any_depth_suggests_the_right_one_on_its_line(faults_of, old, new, suggests):
    text = changed(SMALL, old, new)
    faults = faults_of(text)

    assert any(f.line == place(text, new)[0] and f"{suggests!r}" in f.message for f in faults)


def test_a_python_name_is_no_key_of_a_file(faults_of):
    faults = faults_of(changed(SMALL, "capacity: 20 req/s", "capacity_per_s: 20 req/s"))

    assert any("unknown key 'capacity_per_s'" in fault.message for fault in faults)


def test_a_missing_key_is_reported_at_the_mapping_that_lacks_it(faults_of):
    text = changed(SMALL, "interval: 2 s, fall", "fall")
    (fault,) = faults_of(text)

    assert place(text, "health_check") == (fault.line, fault.column)
    assert "the key 'interval' is missing; add it" == fault.message


def test_a_duplicate_key_is_reported_at_its_second_place(faults_of):
    text = changed(SMALL, "    capacity: 20 req/s\n", "    capacity: 20 req/s\n    capacity: 25 req/s\n")
    (fault,) = faults_of(text)
    line, column = place(text, "25 req/s")

    assert (line, column - len("capacity: ")) == (fault.line, fault.column)
    assert "duplicate key 'capacity'; keep one of them" == fault.message


def test_a_duplicate_service_is_no_silent_choice(faults_of):
    text = SMALL + "  web:\n    on: [w2]\n"

    assert [(text.count("\n") - 1, 3)] == [(f.line, f.column) for f in faults_of(text) if "duplicate key 'web'" in f.message]


def test_a_cycle_of_services_is_named(faults_of):
    text = changed(SMALL, "    role: datastore\n", "    role: datastore\n    calls: {web: 1}\n")
    (fault,) = faults_of(text)

    assert "web -> sql -> web" in fault.message or "sql -> web -> sql" in fault.message
    assert fault.line in (place(text, "calls: {sql: 2}")[0], place(text, "calls: {web: 1}")[0])


def test_a_service_that_calls_itself_is_a_cycle_of_one(faults_of):
    text = changed(SMALL, "calls: {sql: 2}", "calls: {sql: 2, web: 1}")
    (fault,) = faults_of(text)

    assert "web -> web" in fault.message
    assert place(text, "calls: {sql")[0] == fault.line


def test_a_mark_without_a_source_is_no_source(faults_of):
    text = changed(SMALL, "capacity: 20 req/s", "capacity: {value: 20 req/s, assumed: }")
    (fault,) = faults_of(text)

    assert place(text, "assumed")[0] == fault.line
    assert "needs the source as text" in fault.message


def test_a_comma_in_an_unquoted_source_is_told_to_be_one(faults_of):
    text = changed(SMALL, "capacity: 20 req/s", "capacity: {value: 20 req/s, assumed: load test, May}")
    (fault,) = faults_of(text)

    assert place(text, "20 req/s")[0] == fault.line
    assert "put a text that has a comma in quotes" in fault.message


def test_all_faults_of_a_file_come_at_once_in_its_order(faults_of):
    text = changed(SMALL, "zone: b", "zome: b")
    text = changed(text, "20 req/s", "20")
    text = changed(text, "interval: 2 s", "interval: 2 sec")
    text = changed(text, "p_fail: 1 %", "p_fail: 120 %")
    text = changed(text, "takes: 30 min}", "takes: 30 min, takes: 40 min}")
    faults = faults_of(text)

    assert [place(text, m)[0] for m in ("zome", "capacity: 20\n", "2 sec", "120 %", "40 min")] == [f.line for f in faults]


def test_all_broken_references_of_a_file_come_at_once(faults_of):
    text = changed(SMALL, "on: [w1, w2]", "on: [w1, w3]")
    text = changed(text, "on: [db1]", "on: [db2]")
    text = changed(text, "entry: web", "entry: wep")

    assert [place(text, m) for m in ("wep", "w3", "db2")] == [(f.line, f.column) for f in faults_of(text)]


def test_a_bad_value_and_a_broken_reference_come_at_once(faults_of):
    text = changed(changed(SMALL, "on: [w1, w2]", "on: [w1, w3]"), "20 req/s", "20")

    assert 2 == len(faults_of(text))


TWELVE = """\
name: small
machines:
  - {name: w1, zone: a}
  - {name: w2, zome: b}
  - {name: db1, zone: a}
  - {name: db1, zone: b}
entry: wep
demand: {rate: 10}
services:
  web:
    on: [w1, w3]
    capacity: -20 req/s
    calls: {sqk: 2}
    health_check: {interval: 2 sec, fall: 3}
    actions:
      drain: {duration: .inf s}
      start: {duration: 20 s, p_fail: 120 %}
  sql:
    role: datastor
    on: [db1]
    capacity: 50 req/s
    capacity: 60 req/s
  quiet:
    role: leader_elected
    on: []
"""


def test_twelve_faults_of_twelve_kinds_come_at_once_each_in_its_place(faults_of):
    markers = [
        "zome",
        "db1, zone: b",
        "wep",
        "10}",
        "w3",
        "-20 req/s",
        "2}\n    health",
        "2 sec",
        ".inf s",
        "120 %",
        "datastor\n",
        "on: []",
    ]
    says = ["did you mean 'zone'", "listed twice in two zones", "did you mean 'web'", "10 has no unit", "'w3', which is no machine"]
    says += [
        "not negative",
        "did you mean 'sql'",
        "unknown unit 'sec'",
        "not a number with a unit",
        "over 100 %",
        "did you mean 'datastore'",
        "no members",
    ]
    faults = faults_of(TWELVE)
    duplicate = (place(TWELVE, "capacity: 60")[0], 5, "duplicate key 'capacity'; keep one of them")

    assert duplicate in [f[1:] for f in faults]
    rest = [f for f in faults if f[1:] != duplicate]
    assert [place(TWELVE, m) for m in markers] == [(f.line, f.column) for f in rest], "\n".join(map(str, faults))
    assert all(said in fault.message for said, fault in zip(says, rest, strict=True))


def test_a_monitor_that_watches_nothing_is_a_fault(faults_of):
    text = """name: e
machines: [{name: w1}]
entry: web
demand: {rate: 1 req/s}
services:
  web: {on: [w1], capacity: 10 req/s}
  mon: {role: monitoring, on: [w1], observes: []}
"""
    (fault,) = faults_of(text)

    assert place(text, "observes") == (fault.line, fault.column)
    assert "'mon' watches nothing; name what it observes" in fault.message


@pytest.mark.parametrize("depth", [3_000, 100_000])
def test_deep_brackets_are_refused_at_once(faults_of, depth):
    """3,000 took 5 s, since each was looked at again for each below it."""
    began = time.perf_counter()
    (fault,) = faults_of("a: " + "[" * depth)

    assert "deeper than 40 levels" in fault.message and time.perf_counter() - began < 2


def test_a_text_of_many_lines_where_a_list_is_wanted_makes_a_message_of_one_line(scenario_faults):
    faults = scenario_faults(changed(MIGRATION, "goals:\n  - p95", "goals: |\n  - p95"))

    assert ["goals: must be a list"] == [f.message for f in faults]


def test_what_is_not_utf_8_is_refused_at_its_line(faults_of):
    text = changed(SMALL, "name: small", "name: small\n# Caf\xe9").encode("latin-1")
    (fault,) = faults_of(text)

    assert 2 == fault.line
    assert "not UTF-8" in fault.message


def test_what_is_no_yaml_is_refused_at_its_line(faults_of):
    text = changed(SMALL, "on: [w1, w2]", "on: [w1, w2")
    (fault,) = faults_of(text)

    assert fault.line in (place(text, "on: [w1, w2")[0], place(text, "capacity: 20")[0])
    assert "is no YAML" in fault.message


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just a text\n", "---\n"])
def test_a_file_without_a_mapping_is_refused(faults_of, text):
    (fault,) = faults_of(text)

    assert "holds no mapping" in fault.message


@pytest.mark.parametrize("loader", [load, load_environment, load_scenario])
def test_a_missing_file_is_named(tmp_path, loader):
    with pytest.raises(FileError) as caught:
        loader(tmp_path / "nowhere.yaml")

    (fault,) = caught.value.faults
    assert (str(tmp_path / "nowhere.yaml"), 1, 1) == fault[:3]
    assert "cannot be read (No such file or directory)" in fault.message


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        load(tmp_path)


def test_an_alias_bomb_is_refused_before_it_grows(faults_of):
    levels = [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]  # the last would hold 10^12 values
    (fault,) = faults_of("a0: &a0 [x, x]\n" + "\n".join(levels))

    assert "larger than" in fault.message


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n"])
def test_an_alias_of_itself_is_refused(faults_of, text):
    (fault,) = faults_of(text)

    assert "deeper than 40 levels" in fault.message


@pytest.mark.parametrize("depth", [50, 500, 5000])
def test_deep_nesting_is_refused(faults_of, depth):
    (fault,) = faults_of("a: " + "[" * depth + "]" * depth)

    assert "deeper than 40 levels" in fault.message


def test_a_huge_file_is_refused_unread(faults_of):
    (fault,) = faults_of("# " + "x" * 3_000_000)

    assert "a file has at most" in fault.message


def test_demand_may_stand_in_a_csv_file_beside_the_yaml(tmp_path):
    (tmp_path / "load.csv").write_text("time_s,rate_per_s\n0,10\n60,30.5\n")
    env = load_environment(write(tmp_path / "small.yaml", changed(SMALL, "rate: 10 req/s", "csv: load.csv")))

    assert (Level(at_s=0, rate_per_s=10), Level(at_s=60, rate_per_s=30.5)) == env.demand.steps


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "No such file"),
        ("time,rate\n0,10\n", "names no column time_s"),
        ("time_s,rate_per_s\n0,ten\n", "'0,ten' is no pair"),
        ("time_s,rate_per_s\n", "no line below"),
        ("time_s,rate_per_s\n0,10\n0,20\n", "load.csv:3: 0 s does not come after the line before; the first is at 0, times must rise"),
        ("time_s,rate_per_s\n0,-10\n", "-10"),
        ("time_s,rate_per_s\n0,inf\n", "inf"),
        ("time_s,rate_per_s\n0\n", "'0,' is no pair"),
    ],
)
def test_a_bad_csv_file_is_reported_where_it_is_named(faults_of, tmp_path, rows, says):
    if rows is not None:
        (tmp_path / "load.csv").write_text(rows)
    text = changed(SMALL, "rate: 10 req/s", "csv: load.csv")
    faults = faults_of(text)

    assert {place(text, "csv: load.csv")[0]} == {fault.line for fault in faults}
    assert any(says in fault.message for fault in faults)


def test_a_goal_on_an_unknown_metric_suggests_the_nearest(scenario_faults):
    text = changed(MIGRATION, "p95(downtime_s)", "p95(downtimes)")
    (fault,) = scenario_faults(text)

    assert place(text, "p95(downtimes)") == (fault.line, fault.column)
    assert "'downtimes' is no metric; did you mean 'downtime_s'?" in fault.message


@pytest.mark.parametrize(
    ("old", "new", "marker", "says"),
    [
        ("<= 30 s", "<= 30", "p95(downtime", "has no unit"),
        ("p95(downtime_s)", "p96(downtime_s)", "p96(downtime", "no statistic"),
        ("p95(downtime_s) <= 30 s", "downtime_s <= 30 s", "downtime_s <=", "p95(downtime_s)"),
        ("p95(downtime_s) <= 30 s", "be quick", "be quick", "no goal"),
        ("makespan_s", "makespan", "makespan]", "did you mean 'makespan_s'?"),
        ('to: {web: "2"}', 'to: {wep: "2"}', '"2"', "did you mean 'web'?"),
        ("order: [web]", "order: [web, wep]", "wep]", "did you mean 'web'?"),
        ("order: [web]", "order: [web, web]", "web]", "comes twice"),
        ("batches: 1", "batches: 0", "0}", "no batch size"),
        ("scenario: upgrade", "scenario: upgrad", "upgrad\n", "did you mean 'upgrade'?"),
        ("prefer:", "baseline: nobody\nprefer:", "nobody", "no strategy"),
    ],
)
def test_a_bad_value_of_a_scenario_is_reported_at_its_line(scenario_faults, old, new, marker, says):
    text = changed(MIGRATION, old, new)
    (fault,) = scenario_faults(text)

    assert place(text, marker) == (fault.line, fault.column)
    assert says in fault.message


def test_a_scenario_without_an_environment_is_told_to_name_one(scenario_faults):
    (fault,) = scenario_faults(changed(MIGRATION, "environment: small.yaml\n", ""))

    assert "the key 'environment' must name the environment's YAML file" in fault.message


def test_an_environment_that_is_not_there_is_reported_where_it_is_named(scenario_faults):
    text = changed(MIGRATION, "small.yaml", "big.yaml")
    (fault,) = scenario_faults(text)

    assert place(text, "big.yaml") == (fault.line, fault.column)
    assert "'big.yaml' cannot be read" in fault.message


def test_a_fault_of_the_environment_is_reported_in_its_own_file(scenario_faults, tmp_path):
    bad = changed(SMALL, "20 req/s", "20")
    (fault,) = scenario_faults(MIGRATION, bad)

    assert (str(tmp_path / "small.yaml"), *place(bad, "20\n")) == fault[:3]


def test_the_faults_of_a_scenario_and_of_its_environment_come_together(scenario_faults, tmp_path):
    faults = scenario_faults(changed(MIGRATION, "batches: 1", "batches: 0"), changed(SMALL, "20 req/s", "20"))

    assert [str(tmp_path / "small.yaml"), str(tmp_path / "upgrade.yaml")] == [f.file for f in faults]


# Never anything but a FileError ------------------------------------------------------------------------------------


def loads_or_says_why(path: pathlib.Path) -> None:
    """Load; where that fails, every fault has a place and a message."""
    try:
        load(path)
    except FileError as error:
        assert error.faults
        assert all(f.line >= 1 and f.column >= 1 and f.message for f in error.faults)


ODD = ["{", "}", "[", "]", ":", ",", "&a ", "*a", "!", "|", ">", "#", "%", "@", '"', "'", "\t", "-", "9", "~", "\n", "\0", "é", "? "]


@st.composite
def mutations(draw, text):
    """*text* with some of its lines or characters deleted, doubled, swapped or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        pieces = text.splitlines(keepends=True) if draw(st.booleans()) else list(text)
        if not pieces:
            break
        i, j = draw(st.integers(0, len(pieces) - 1)), draw(st.integers(0, len(pieces) - 1))
        change = draw(st.sampled_from(["delete", "double", "swap", "replace"]))
        if change == "delete":
            del pieces[i]
        elif change == "double":
            pieces.insert(i, pieces[j])
        elif change == "swap":
            pieces[i], pieces[j] = pieces[j], pieces[i]
        else:
            pieces[i] = draw(st.sampled_from(ODD))
        text = "".join(pieces)
    return text


@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutations(PRODUCTION))
def test_a_mutilated_environment_loads_or_says_where_and_why(tmp_path, text):
    loads_or_says_why(write(tmp_path / "production.yaml", text))


@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutations(UPGRADE))
def test_a_mutilated_scenario_loads_or_says_where_and_why(tmp_path, text):
    write(tmp_path / "production.yaml", PRODUCTION)
    loads_or_says_why(write(tmp_path / "upgrade.yaml", text))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=40))
def test_any_bytes_load_or_say_where_and_why(tmp_path, raw):
    (tmp_path / "bytes.yaml").write_bytes(raw)

    loads_or_says_why(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    "text",
    [
        changed(SMALL, "fall: 3", "fall: null"),
        changed(SMALL, "fall: 3", "fall: !!int x"),
        changed(SMALL, "fall: 3", "fall: !!python/object:os.system x"),
        changed(SMALL, "fall: 3", "fall: .inf"),
        changed(SMALL, "fall: 3", "? [a] : 3"),
        changed(SMALL, "fall: 3", "<<: {fall: 3}"),
        changed(SMALL, "on: [w1, w2]", "on: !!set {w1, w2}"),
        changed(SMALL, "on: [w1, w2]", "on: []"),
        changed(SMALL, "services:", "services: null\nservice:"),
        changed(SMALL, "  web:", "  3:"),
        changed(SMALL, "calls: {sql: 2}", f"calls: {{sql: 1{'0' * 400}}}"),
        SMALL + "---\n" + SMALL,
        "a: *nobody\n",
        "a:\n\tb: 1\n",
        "a: \0\n",
    ],
)
def test_an_odd_file_loads_or_says_where_and_why(tmp_path, text):
    loads_or_says_why(write(tmp_path / "odd.yaml", text))


ESCAPES = {
    "an integer beyond the floats": changed(SMALL, "20 req/s", "1" + "0" * 400),
    "an integer of 5000 digits in base 16": "format: 0x" + "f" * 5000 + "\n" + SMALL,
    "a marked number instead of a document": "value: 3\nassumed: a guess\n",
    "a marked text instead of a document": "value: text\nmeasured: somewhere\n",
    "a NUL in the environment's name": 'scenario: upgrade\nenvironment: "a\\0b"\n',
}


@pytest.mark.parametrize("text", ESCAPES.values(), ids=ESCAPES)
def test_a_hostile_file_says_where_and_why(tmp_path, text):
    loads_or_says_why(write(tmp_path / "hostile.yaml", text))


def test_a_csv_field_beyond_the_limit_of_python_says_where_and_why(faults_of, tmp_path):
    (tmp_path / "load.csv").write_text("time_s,rate_per_s\n0," + "5" * 200_000 + "\n")

    assert faults_of(changed(SMALL, "rate: 10 req/s", "csv: load.csv"))


def test_demand_comes_from_a_csv_file_or_from_steps_not_from_both(faults_of, tmp_path):
    (tmp_path / "load.csv").write_text("time_s,rate_per_s\n0,10\n")

    assert faults_of(changed(SMALL, "rate: 10 req/s", "csv: load.csv, steps: [{at: 0 s, rate: 99 req/s}]"))


def test_the_inputs_are_gathered_from_the_marks_and_are_no_key_of_a_file(faults_of):
    assert faults_of(SMALL + "inputs: [{at: nowhere, mark: assumed, source: nobody}]\n")


def test_yes_is_not_no(tmp_path):
    text = "%YAML 1.1\n---\n" + changed(SMALL, "{name: w1, zone: a}", "{name: w1, zone: a, hosted: yes}")

    assert load(write(tmp_path / "old.yaml", text)).machines[0].hosted


def test_an_anchor_that_is_used_twice_is_a_fault_or_fine_but_no_warning(tmp_path):
    text = changed(changed(SMALL, "{name: w1, zone: a}", "{name: w1, zone: &z a}"), "zone: b", "zone: &z b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loads_or_says_why(write(tmp_path / "anchors.yaml", text))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  - {name: w1, zone: a}", "  - {name: w1, zone: 5}", 'zone: 5 must be a text; write "5"'),
        ("capacity: 20 req/s", "capacity: []", "capacity: [] is no number with a unit; write for example '90 req/s'"),
        ("role: datastore", "role: null", "role: null is not allowed; write 'stateless'"),
        ("role: datastore", "role: datastore\n    silent: 5", "silent: 5 must be true or false"),
        ("- {kind: backup, every: 24 h, takes: 30 min}", "- 5", "copies[0]: 5 must be a mapping"),
        ("- {kind: backup, every: 24 h, takes: 30 min}", "- {every: 24 h}", "copies[0]: does not say its 'kind'; add it"),
        ("fall: 3", "fall: 0", "fall: 0 must be at least 1"),
        ("    on: [db1]", "    on: [db1]\n    <<: {silent: true}", "merge keys ('<<') are not read; write the keys out"),
    ],
)
def test_a_message_says_the_rule_in_words_of_the_file(faults_of, old, new, says):
    (fault,) = faults_of(changed(SMALL, old, new))

    assert says in fault.message


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    order: [web]", "    max_failures: -1", "-1 is no number of failures"),
        ("    order: [web]", "    slices: []", "slices: [] is empty; write at least 1"),
        ("    order: [web]", "    slices: [[]]", "slices[0]: [] is empty"),
        ("    order: [web]", "    checkpoints: [{after: end, checks: []}]", "checks: [] is empty"),
        ("web: {batches: 1}", "web: {batches: 1, restore_on_abort: true}", "only a datastore that migrates is restored"),
        ("web: {batches: 1}", "web: {batches: 1, back_up_first: true}", "only a datastore is backed up"),
        ("web: {batches: 1}", "web: {batches: 1, hand_over: true}", "only a leader hands over"),
    ],
)
def test_one_slip_in_a_strategy_is_one_fault(scenario_faults, old, new, says):
    (fault,) = scenario_faults(changed(MIGRATION, old, new))

    assert says in fault.message


def test_what_many_machines_of_one_entry_have_wrong_is_said_once(faults_of):
    counted = changed(SMALL, "  - {name: db1, zone: a}", '  - {name: db1, zone: a}\n  - {name: "x{n}", count: 40, repair: 4 h}')
    (fault,) = faults_of(counted)

    assert "'x1' has a repair and never dies" in fault.message and "(and so 39 more that this entry stands for)" in fault.message


def test_a_long_list_of_names_says_how_many_more_there_are(faults_of):
    machines = "".join(f"\n  - {{name: m{i}}}" for i in range(9))
    text = changed(SMALL, "  - {name: db1, zone: a}", f"  - {{name: db1, zone: a}}{machines}")
    (fault,) = faults_of(changed(text, "on: [db1]", "on: [QQ]"))

    assert "there are w1, w2, db1, m0, m1, m2, m3, m4 and 4 more" in fault.message


def test_a_path_is_shown_without_detours(tmp_path):
    (tmp_path / "bad").mkdir()
    write(tmp_path / "env.yaml", changed(SMALL, "fall: 3", "fall: 0"))
    text = changed(MIGRATION, "environment: small.yaml", "environment: bad/../env.yaml")

    with pytest.raises(FileError) as caught:
        load_scenario(write(tmp_path / "up.yaml", text))
    assert {str(tmp_path / "env.yaml")} == {f.file for f in caught.value.faults}


def test_a_key_of_another_kind_of_copy_is_not_proposed_again(faults_of):
    (fault,) = faults_of(changed(SMALL, "{kind: backup, every: 24 h, takes: 30 min}", "{kind: log_archive, every: 1 h, ships_in: 5 s}"))
    assert fault.message == "unknown key 'every': it does not go with this kind; take it away, or give the kind that has it"


def test_a_misspelt_key_below_a_strategy_is_told_what_it_may_be(tmp_path):
    text = pathlib.Path("scenarios/canonical/data-restore.yaml").read_text().replace("closes_every: 5 min", "closes_evry: 5 min", 1)
    (tmp_path / "s.yaml").write_text(text.replace("environment: ", f"environment: {pathlib.Path('scenarios/canonical').resolve()}/", 1))
    with pytest.raises(FileError, match="unknown key 'closes_evry'; did you mean 'closes_every'"):
        load_scenario(tmp_path / "s.yaml")
