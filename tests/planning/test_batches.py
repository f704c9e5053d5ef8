"""Batches: the published rows of each convention, Ansible's own code, and the laws of every way to cut."""

from __future__ import annotations

import pathlib
from fractions import Fraction
from types import SimpleNamespace

import pytest
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible.utils.helpers import pct_to_int
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.cli import main
from simdeploy.environment.models import Environment
from simdeploy.errors import FileError, InvalidDocument, PlanError
from simdeploy.planning.batches import ansible, codedeploy, cut, kubernetes, pdb
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.partition import Partition
from simdeploy.planning.scenario import Upgrade
from tests.builders import farm


def percent(number: int) -> Fraction:
    return Fraction(number, 100)


def sizes(n: int, **partition) -> list[int]:
    env = farm(n, 100, 100)
    return [len(batch) for batch in cut(Partition(**partition), env.members("web"), env)]


# Ansible ------------------------------------------------------------------------------------------------------------

FLOATING = {(58, 50), (70, 90), (29, 100), (57, 100), (58, 100)}
"""(percentage, hosts) up to 100 hosts where Ansible's floating point falls one short of a whole number of hosts."""


def ansible_batches(n: int, serial: list[int | str]) -> list[int]:
    """The sizes that ansible-core itself cuts *n* hosts into."""
    inventory = SimpleNamespace(get_hosts=lambda pattern, order: list(range(n)))
    play = SimpleNamespace(hosts="all", order=None, serial=serial)
    return [len(batch) for batch in PlaybookExecutor._get_serialized_batches(SimpleNamespace(_inventory=inventory), play)]


def test_a_percentage_of_hosts_is_ansible_s_but_where_floating_point_falls_short():
    differing = {(p, n) for n in range(101) for p in range(1, 101) if pct_to_int(f"{p}%", n) != ansible(n, percent(p))}

    assert FLOATING == differing
    assert all(p * n % 100 == 0 and pct_to_int(f"{p}%", n) == ansible(n, percent(p)) - 1 for p, n in FLOATING)


def test_every_single_percentage_is_cut_as_ansible_cuts_it():
    env = farm(60, 100, 100)
    members = env.members("web")
    cuts = {(p, n): cut(Partition(batches=f"{p} %"), members[:n], env) for p in range(1, 101) for n in range(61)}

    assert {(58, 50)} == {(p, n) for (p, n), ours in cuts.items() if ansible_batches(n, [f"{p}%"]) != list(map(len, ours))}


@settings(deadline=None)
@given(
    st.integers(1, 60),
    st.lists(st.one_of(st.integers(1, 70), st.integers(1, 100).map("{}%".format)), min_size=1, max_size=5),
)
def test_every_list_of_counts_and_percentages_is_cut_as_ansible_cuts_it(n, serial):
    if not any((int(str(s).removesuffix("%")), n) in FLOATING for s in serial):
        assert ansible_batches(n, serial) == sizes(n, batches=serial)


@pytest.mark.parametrize(
    ("n", "batches", "expected"),
    [
        # docs.ansible.com, "Controlling playbook execution: strategies and more", setting the batch size with serial
        (6, 2, [2, 2, 2]),
        (10, [1, 5, 10], [1, 5, 4]),
        (10, ["10%", "20%", "100%"], [1, 2, 7]),
        (30, [1, 5, "20%"], [1, 5, 6, 6, 6, 6]),
        # "if the number of hosts does not divide equally ..., the final pass contains the remainder"
        (7, 3, [3, 3, 1]),
        # tiny pools and decimals, which Ansible does not have
        (1, "1 %", [1]),
        (3, "12.5 %", [1, 1, 1]),
        (16, "12.5 %", [2] * 8),
        (100, "29 %", [29, 29, 29, 13]),
        (5, "100 %", [5]),
    ],
)
def test_the_batches_of_the_ansible_documentation(n, batches, expected):
    assert expected == sizes(n, batches=batches)


# Kubernetes, CodeDeploy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surge", "unavailable", "n", "expected"),
    [
        # kubernetes, pkg/controller/deployment/util/deployment_util_test.go, TestResolveFenceposts: (surge, unavailable)
        (percent(0), percent(0), 0, (0, 1)),
        (percent(39), percent(39), 10, (4, 3)),
        (0, percent(39), 10, (0, 3)),
        (percent(39), 0, 10, (4, 0)),
        (0, 0, 10, (0, 1)),
        # the defaults of a Deployment, 25 % and 25 %
        (percent(25), percent(25), 10, (3, 2)),
        (percent(25), percent(25), 1, (1, 0)),
        (0, percent(100), 5, (0, 5)),
        (0, percent(25), 3, (0, 1)),
    ],
)
def test_a_deployment_rounds_surge_up_and_unavailable_down(surge, unavailable, n, expected):
    assert expected == tuple(reversed(kubernetes(n, unavailable, surge)))


@pytest.mark.parametrize(
    ("n", "budget", "out"),
    [
        # kubernetes.io, "Specifying a Disruption Budget for your Application", rounding logic: 50 % of 7 pods keeps 4
        (7, {"min_available": percent(50)}, 3),
        # ... and a percentage of maxUnavailable rounds up too, so that more may go than it says
        (7, {"max_unavailable": percent(30)}, 3),
        (7, {"max_unavailable": percent(50)}, 4),
        # ... "setting maxUnavailable to 0 or minAvailable to 100 %" lets none go
        (5, {"min_available": percent(100)}, 0),
        (5, {"max_unavailable": 0}, 0),
        (5, {"max_unavailable": percent(100)}, 5),
        (5, {"min_available": 10}, 0),
        (5, {"max_unavailable": 10}, 5),
        (1, {"min_available": percent(1)}, 0),
        (1, {"max_unavailable": percent(1)}, 1),
        (0, {"max_unavailable": percent(50)}, 0),
        (0, {"min_available": percent(50)}, 0),
    ],
)
def test_a_disruption_budget_rounds_up(n, budget, out):
    assert out == pdb(n, **budget)


@pytest.mark.parametrize(
    ("n", "minimum", "out"),
    [
        # AWS CodeDeploy API reference, MinimumHealthyHosts: nine instances, HOST_COUNT 6 and FLEET_PERCENT 40
        (9, 6, 3),
        (9, percent(40), 5),
        # AWS CodeDeploy user guide, deployment configurations: nine instances, HalfAtATime takes up to four
        (9, percent(50), 4),
        # AWS CodeDeploy user guide, instance health: of ten instances with 85 % one may be offline
        (10, percent(85), 1),
        (9, 0, 9),
        (9, percent(100), 0),
        (1, percent(50), 0),
        (0, percent(50), 0),
    ],
)
def test_codedeploy_rounds_the_minimum_of_healthy_hosts_up(n, minimum, out):
    assert out == codedeploy(n, minimum)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ({"max_unavailable": "25 %"}, [2, 2, 2, 2, 2]),
        ({"max_unavailable": "25 %", "rounding": "kubernetes"}, [2, 2, 2, 2, 2]),
        ({"max_unavailable": "25 %", "rounding": "pdb"}, [3, 3, 3, 1]),
        ({"max_unavailable": "1 %"}, [1] * 10),
        ({"min_available": "25 %"}, [7, 3]),
        ({"min_available": 0}, [10]),
        ({"minimum_healthy": "25 %"}, [7, 3]),
        ({"minimum_healthy": "0 %"}, [10]),
        ({"max_unavailable": 4}, [4, 4, 2]),
        ({"batches": "all"}, [10]),
        ({"batches": "canary"}, [1, 9]),
        ({"batches": "halves"}, [5, 5]),
        ({"batches": [1, "25 %"]}, [1, 2, 2, 2, 2, 1]),
    ],
)
def test_each_key_cuts_ten_boxes_by_its_convention(partition, expected):
    assert expected == sizes(10, **partition)


def test_halves_of_an_odd_number_are_two_and_the_second_is_larger():
    assert [[1], [1, 1], [1, 2], [2, 2], [2, 3]] == [sizes(n, batches="halves") for n in range(1, 6)]


# Zones --------------------------------------------------------------------------------------------------------------


def zoned(**web) -> Environment:
    """web on w1 (b), w2 (a), w3 (b), w4 (c); a machine of zone a that is none of its comes first."""
    where = {"other": "a", "w1": "b", "w2": "a", "w3": "b", "w4": "c"}
    actions = {action: {"duration": "1 s"} for action in ("drain", "install", "start")}
    return Environment.model_validate(
        {
            "name": "zoned",
            "machines": [{"name": name, "zone": zone} for name, zone in where.items()],
            "entry": "web",
            "services": {"web": {"on": ["w1", "w2", "w3", "w4"], "capacity_per_s": 100.0, "actions": actions} | web},
            "demand": {"rate_per_s": 10.0},
        }
    )


def lanes(env: Environment, **partition) -> list[list[str]]:
    """The machines of each batch of the plan."""
    plan = build_plan(upgrade(env, **partition), "s")
    judges = [step.judge for step in plan.steps if step.judge]
    return [list(dict.fromkeys(step.split("/")[1].split("@")[1] for step in judge.watch)) for judge in judges]


def upgrade(env: Environment, forks: int | None = None, **partition) -> Upgrade:
    strategies = {"s": {"services": {"web": partition}}}
    return Upgrade.model_validate(
        {"scenario": "upgrade", "name": "u", "environment": env, "to": {"web": "2"}, "forks": forks, "strategies": strategies}
    )


def test_zones_go_in_the_order_in_which_the_list_of_machines_first_has_them():
    assert [["w2"], ["w1", "w3"], ["w4"]] == lanes(zoned(), batches="by_zone")


@pytest.mark.parametrize(
    ("leader", "where", "expected"),
    [
        ("w1", "last", [["w2"], ["w4"], ["w3", "w1"]]),
        ("w3", "first", [["w3", "w1"], ["w2"], ["w4"]]),
        ("w1", "any", [["w2"], ["w1", "w3"], ["w4"]]),
    ],
)
def test_the_zone_of_the_leader_goes_where_the_leader_goes(leader, where, expected):
    env = zoned(role="leader_elected", leader=leader)

    assert expected == lanes(env, batches="by_zone", leader=where)


def test_zones_that_nobody_knows_are_a_fault():
    with pytest.raises(InvalidDocument, match=r"batches: no zone of w0, w1 is known; give each machine its 'zone'"):
        upgrade(farm(2, 100, 100), batches="by_zone")


# Laws ---------------------------------------------------------------------------------------------------------------

PERCENTAGES = st.integers(1, 10_000).map(lambda n: f"{n / 100:.2f} %")
SIZES = st.one_of(st.integers(1, 50), PERCENTAGES)
PARTITIONS = st.one_of(
    st.sampled_from(["all", "canary", "halves", "by_zone"]).map(lambda word: {"batches": word}),
    st.lists(SIZES, min_size=1, max_size=4).map(lambda sizes: {"batches": sizes}),
    st.tuples(SIZES, st.sampled_from(["kubernetes", "pdb"])).map(lambda p: {"max_unavailable": p[0], "rounding": p[1]}),
    st.tuples(st.sampled_from(["min_available", "minimum_healthy"]), SIZES).map(lambda p: {p[0]: p[1]}),
)


@settings(deadline=None)
@given(st.integers(0, 40), PARTITIONS)
def test_batches_have_every_member_once_and_in_order(n, keys):
    env = farm(max(n, 1), 100, 100)
    env = env.model_copy(update={"machines": tuple(m.model_copy(update={"zone": f"z{i // 3}"}) for i, m in enumerate(env.machines))})
    members = env.members("web")[:n]
    try:
        batches = cut(Partition(**keys), members, env)
    except PlanError as error:
        assert "nothing may be taken out" in str(error) and n > 0
        return

    assert list(members) == [m for batch in batches for m in batch]
    assert all(batches)


@given(st.integers(1, 200), st.integers(1, 10_000).map(lambda n: Fraction(n, 10_000)))
def test_no_batch_takes_more_than_its_convention_allows_and_one_more_would_break_it(n, share):
    assert (ansible(n, share) <= n * share < ansible(n, share) + 1) or (1 == ansible(n, share) and n * share < 1)
    assert kubernetes(n, share) == (ansible(n, share), 0)
    assert pdb(n, max_unavailable=share) - 1 < n * share <= pdb(n, max_unavailable=share)
    out = codedeploy(n, share)
    assert n - out >= n * share > n - out - 1
    assert out == pdb(n, min_available=share)


@given(st.integers(1, 200), st.integers(1, 10_000).map(lambda n: Fraction(n, 10_000)))
def test_what_a_deployment_may_miss_and_the_surge_of_the_rest_make_the_pool(n, share):
    _, surge = kubernetes(n, 0, 1 - share)

    assert n == surge + int(n * share)


# Faults and warnings ------------------------------------------------------------------------------------------------

ENVIRONMENT = """\
name: small
machines: [{name: w1}, {name: w2}, {name: w3}, {name: w4}, {name: db1}]
entry: web
demand: {rate: 10 req/s}
services:
  web:
    on: [w1, w2, w3, w4]
    capacity: 20 req/s
    calls: {sql: 1}
    actions: {drain: {duration: 1 s}, install: {duration: 1 s}, start: {duration: 1 s}}
  sql:
    role: datastore
    on: [db1]
    actions: {migrate: {duration: 1 s}, expand: {duration: 1 s}, contract: {duration: 1 s}}
"""
SCENARIO = """\
scenario: upgrade
environment: small.yaml
to: {web: "2"}
strategies:
  one:
    services:
      web:
        KEYS
"""


@pytest.fixture
def write(tmp_path) -> pathlib.Path:
    def to_file(keys: str, head: str = "") -> pathlib.Path:
        (tmp_path / "small.yaml").write_text(ENVIRONMENT)
        (tmp_path / "upgrade.yaml").write_text(head + SCENARIO.replace("KEYS", keys.replace("; ", "\n        ")))
        return tmp_path / "upgrade.yaml"

    return to_file


@pytest.mark.parametrize(
    ("keys", "line", "column", "says"),
    [
        ("batches: 0", 8, 18, "0 is no batch size; write a count from 1 up, or a percentage above 0 % up to 100 %"),
        ("batches: -1", 8, 18, "-1 is no batch size"),
        ("batches: 0 %", 8, 18, "'0 %' is no batch size"),
        ("batches: 101 %", 8, 18, "'101 %' is no batch size"),
        ("batches: -5 %", 8, 18, "'-5 %' is no batch size"),
        ("batches: 0.5", 8, 18, "0.5 is no batch size"),
        ("batches: true", 8, 18, "True is no batch size"),
        ("batches: [1, 2, 0]", 8, 25, "0 is no batch size"),
        ("batches: [1, all]", 8, 22, "'all' is no batch size"),
        ("batches: []", 8, 9, "[] is no batch size"),
        ("batches: {a: 1}", 8, 9, "is no batch size"),
        ("batches: zone", 8, 18, "one of all, by_zone, by_update_domain, canary, halves"),
        ("max_unavailable: 0; rounding: pdb", 8, 26, "max_unavailable lets none of them go"),
        ("max_unavailable: -1", 8, 26, "write a count from 0 up"),
        ("min_available: -1", 8, 24, "write a count from 0 up, or a percentage from 0 % up to 100 %"),
        ("min_available: 100 %", 8, 24, "min_available keeps all 4 in service: nothing may be taken out; write a count of at most 3"),
        ("minimum_healthy: 4", 8, 26, "minimum_healthy keeps all 4 in service"),
        ("min_available: 80 %", 8, 24, "min_available keeps all 4 in service"),
        ("batches: 1; max_unavailable: 1", 9, 26, "batches and max_unavailable say how many of 'web' go at once; keep one"),
        ("batches: all; min_available: 1", 9, 24, "batches and min_available say how many"),
        ("batches: 25 %; rounding: pdb", 9, 19, "max_unavailable or min_available, not 'batches'; write that, or rounding: ansible"),
        ("rounding: codedeploy", 8, 19, "'codedeploy' rounds minimum_healthy, not 'batches'"),
        ("max_unavailable: 1; rounding: ansible", 9, 19, "or rounding: kubernetes or pdb"),
        ("batches: 1; rounding: up", 9, 19, "'up' is not allowed"),
        ("batches: by_zone", 8, 18, "no zone of w1, w2, w3, w4 is known"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_a_fault_at_its_place(write, keys, line, column, says):
    with pytest.raises(FileError) as caught:
        load_scenario(write(keys))
    (fault,) = caught.value.faults

    assert (line, column) == (fault.line, fault.column)
    assert says in fault.message


def test_one_box_that_must_stay_is_told_that_a_second_would_help():
    with pytest.raises(InvalidDocument, match=r"keeps all 1 in service: .* at most 0, or add a machine"):
        upgrade(farm(1, 100, 100), min_available="1 %")


@pytest.mark.parametrize("keys", [{"batches": 1}, {"max_unavailable": 1}, {"min_available": "50 %"}, {"rounding": "ansible"}])
def test_a_datastore_is_not_cut(keys):
    with pytest.raises(InvalidDocument) as caught:
        upgrade(farm(2, 100, 100, role="datastore"), **keys)

    assert any("'web' is datastore" in p.message and next(iter(keys)) == p.path[-1] for p in caught.value.problems)


def test_writers_that_an_offline_migration_stops_are_not_cut(write):
    path = write("max_unavailable: 1")
    path.write_text(path.read_text().replace('{web: "2"}', '{web: "2", sql: "2"}'))
    with pytest.raises(FileError) as caught:
        load_scenario(path)
    (fault,) = caught.value.faults

    assert "stops all of it; drop 'max_unavailable' or use migration: expand_contract" in fault.message


@pytest.mark.parametrize(("forks", "batches", "warned"), [(2, 3, True), (3, 3, False), (None, "all", False), (3, "all", True)])
def test_forks_that_are_fewer_than_a_batch_are_warned_of(forks, batches, warned):
    said = upgrade(zoned(), forks, batches=batches).warnings()

    assert warned == bool(said)
    if warned:
        assert f"strategy 's' takes out up to {3 if batches == 3 else 4} of 'web' at once, more than its {forks} forks" in said[0]


def test_check_prints_the_warning_and_compare_says_it_on_stderr(write):
    path = write("batches: halves", head="forks: 1\n")

    checked = CliRunner().invoke(main, ["check", str(path)])
    compared = CliRunner().invoke(main, ["compare", str(path), "--replications", "8", "--format", "json"])

    assert 0 == checked.exit_code and "warning: strategy 'one' takes out up to 2 of 'web'" in checked.stdout
    assert 0 == compared.exit_code and "simdeploy: warning: strategy 'one'" in compared.stderr
    assert "warning" not in compared.stdout


@given(st.one_of(st.integers(1, 99), st.integers(1, 10**11).map(lambda n: Fraction(n, 10**11))))
def test_a_size_is_written_as_it_is_read(size):
    given_size = size if isinstance(size, int) else f"{float(100 * size):.9f} %"
    partition = Partition.model_validate({"batches": [given_size], "min_available": given_size})

    assert partition == Partition.model_validate_json(partition.model_dump_json(exclude_defaults=True))
    assert (size,) == partition.batches


SHARED = """
name: shared
machines: [{name: a}, {name: b}]
entry: web
demand: {rate: 10 req/s}
actions: {patch: {duration: 60 s}}
services:
  web: {on: [a, b], capacity: 100 req/s, calls: {middle: 1}, actions: &actions
    {drain: {duration: 5 s}, install: {duration: 5 s}, start: {duration: 5 s}}}
  middle: {on: [a, b], capacity: 100 req/s, actions: *actions}
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [("order: [[web, middle]]", 6), ("slices: [[a], [b]]", 6), ("order: [web, middle]", None)],
    ids=["stage", "slices", "apart"],
)
def test_a_machine_is_not_patched_while_something_else_on_it_is_upgraded(tmp_path, keys, line):
    (tmp_path / "environment.yaml").write_text(SHARED)
    path = tmp_path / "upgrade.yaml"
    path.write_text(f"scenario: upgrade\nenvironment: environment.yaml\nto: {{web: '2'}}\npatch: [middle]\nstrategies:\n  s: {{{keys}}}\n")

    if line is None:
        assert load_scenario(path).strategies
        return
    with pytest.raises(FileError) as caught:
        load_scenario(path)
    [fault] = caught.value.faults
    assert line == fault.line and "'middle' is patched and 'web' upgraded at the same time, and both run on 'a'" in fault.message
