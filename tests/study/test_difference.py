"""Two plans side by side: every difference is told, and nothing else."""

from __future__ import annotations

import copy
import json
import random

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simdeploy.cli import main
from simdeploy.environment.durations import Distribution
from simdeploy.errors import SimdeployError
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.study.difference import ORDER, Change, difference
from simdeploy.study.difference_overview import findings, forecasts, goals, steps, tables, verdict
from simdeploy.study.difference_overview import settings as other_settings
from simdeploy.tables import text
from tests.builders import farm, lane, random_plans, rolling

UPGRADE = "scenarios/canonical/upgrade.yaml"
PLAN = Plan(environment=farm(2, 100.0, 150.0), steps=lane("web@w0"), pools={"forks": 5}, goals=("max(makespan_s) <= 70 s",))


def changed(plan: Plan, **fields: object) -> Plan:
    return Plan.model_validate(plan.model_dump(mode="json") | fields)


def with_step(plan: Plan, step_id: str, **fields: object) -> Plan:
    return changed(plan, steps=[s.model_dump(mode="json") | (fields if s.id == step_id else {}) for s in plan.steps])


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["diff", *arguments])


def shuffled(value, luck: random.Random):
    """The same with the keys of every mapping in another order."""
    if isinstance(value, dict):
        return {k: shuffled(value[k], luck) for k in luck.sample(list(value), len(value))}
    return [shuffled(x, luck) for x in value] if isinstance(value, list) else value


@settings(max_examples=20)
@given(plan=random_plans(), luck=st.randoms(use_true_random=False))
def test_a_plan_does_not_differ_from_itself_whatever_the_order_of_its_keys(plan, luck):
    found = difference(plan, Plan.model_validate(shuffled(plan.model_dump(mode="json"), luck)))

    assert found.is_empty and [] == tables(found)
    assert "No difference" in verdict(found)


def leaves(value, path=()):
    """Every place in a document where something simple stands."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def other_than(value):
    if isinstance(value, bool):
        return not value
    return 2 * value + 1 if isinstance(value, int | float) else f"{value}x" if isinstance(value, str) else 7.5


@settings(max_examples=60)
@given(plan=random_plans(), data=st.data())
def test_a_change_of_anything_is_told_at_its_place(plan, data):
    document = plan.model_dump(mode="json")
    path, value = data.draw(st.sampled_from(sorted(leaves(document), key=str)))
    mutated = copy.deepcopy(document)
    inner = mutated
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = other_than(value)
    try:
        other = Plan.model_validate(mutated)
        found = difference(plan, other, replications=1, jobs=1)
    except (SimdeployError, ValueError):
        assume(False)

    assert plan.digest != other.digest and not found.is_empty
    if path[0] == "steps" and path[2] != "id":
        assert {(plan.steps[path[1]].id, path[2])} == {change.path[:2] for change in found.changed}
    elif path[0] != "steps" and path[-1] != "name":
        assert [path[0]] == [change.path[0] for change in found.settings]


def test_steps_that_only_one_has_and_fields_that_differ_by_hand():
    other = Plan.model_validate(
        PLAN.model_dump(mode="json")
        | {"steps": [with_step(PLAN, "code/web@w0/install", duration=90).steps[0].model_dump(mode="json"), {"id": "look", "duration": 5}]}
    )

    found = difference(PLAN, other, replications=1)

    assert (("look",), ("code/web@w0/start",)) == (found.added, found.removed)
    assert (Change(("code/web@w0/install", "duration"), 60.0, 90.0),) == found.changed
    assert () == found.settings
    assert [
        ("-", "code/web@w0/start", "", "", "", ""),
        ("+", "look", "", "", "", ""),
        ("~", "code/web@w0/install", "", "duration", "60 s", "90 s"),
    ] == steps(found).rows


def test_the_environment_the_start_the_goals_and_the_pools_by_hand():
    bigger = farm(3, 100.0, 150.0)
    other = changed(
        PLAN, environment=bigger.model_dump(mode="json"), start={"out": ["web@w1"]}, pools={}, goals=["max(makespan_s) <= 1 min"]
    )

    rows = {row[0]: row[2:] for row in other_settings(difference(PLAN, other, replications=1)).rows}

    assert {
        "environment.machines.w2": ("-", "name w2, hosted no"),
        "environment.services.web.on": ("-", "w2"),
        "goals": ("max(makespan_s) <= 70 s", "max(makespan_s) <= 1 min"),
        "pools.forks": ("5", "-"),
        "start.out": ("-", "web@w1"),
    } == rows


def test_the_order_of_steps_and_of_machines_is_told_since_luck_and_ties_follow_it():
    swapped = changed(PLAN, steps=[s.model_dump(mode="json") for s in reversed(PLAN.steps)])
    environment = PLAN.environment.model_copy(update={"machines": PLAN.environment.machines[::-1]})

    assert (Change(("steps", ORDER), [s.id for s in PLAN.steps], [s.id for s in swapped.steps]),) == difference(PLAN, swapped, 1).settings
    moved = difference(PLAN, PLAN.model_copy(update={"environment": environment}), 1)
    assert (Change(("environment", "machines", ORDER), ["w0", "w1"], ["w1", "w0"]),) == moved.settings


def test_the_forecasts_differ_by_what_the_step_lasts_longer_and_both_plans_meet_the_same_luck():
    """The lane takes 10 to 30 s by luck; ten more seconds at its end differ by exactly ten in every replication."""
    install = Distribution(kind="uniform", parameters=(10.0, 30.0))
    plan = with_step(PLAN, "code/web@w0/install", duration=["uniform", *install.parameters])
    longer = changed(
        plan, steps=[*(s.model_dump(mode="json") for s in plan.steps), {"id": "look", "needs": ["code/web@w0/start"], "duration": 10}]
    )

    found = difference(plan, longer, replications=50)

    assert (10, (10, 10)) == (pytest.approx(found.metric("makespan_s").mean), pytest.approx(found.metric("makespan_s").ci95))
    assert (0, (0, 0)) == found.metric("failed_requests")
    [row] = [row for row in forecasts(found).rows if row[0] == "makespan_s"]
    assert row[-1].startswith("+10 ± ")
    assert "failed_requests [requests]" not in {row[0] for row in forecasts(found).rows}


def test_goals_of_either_plan_are_judged_in_both():
    other = changed(with_step(PLAN, "code/web@w0/install", duration=90), goals=["max(failed_requests) <= 4000"])

    rows = goals(difference(PLAN, other, replications=1)).rows

    assert [("max(makespan_s) <= 70 s", "met 100 %", "MISSED 0 %"), ("max(failed_requests) <= 4000", "met 100 %", "MISSED 0 %")] == rows


def test_a_finding_that_only_one_plan_has_is_told():
    left_out = changed(PLAN, steps=[PLAN.steps[0].model_dump(mode="json")])

    told = findings(difference(PLAN, left_out, replications=1)).rows

    assert ("-", "error") in {row[:2] for row in told}


def test_hundreds_of_steps_that_change_alike_share_a_row():
    names = [f"web@w{i}" for i in range(100)]
    plan = Plan(environment=farm(100, 100.0, 150.0), steps=rolling(names))
    other = Plan(environment=farm(100, 100.0, 150.0), steps=rolling(names, out_s=90.0, take="kill"))

    found = difference(plan, other, replications=1)

    assert 200 == len(found.changed)
    assert [
        ("~", "code/web@*/install", "100", "duration", "60 s", "90 s"),
        ("~", "code/web@*/install", "100", "begin", "drain web@*", "kill web@*"),
    ] == steps(found).rows


def test_changes_that_differ_in_their_names_alone_are_not_taken_for_alike():
    looks = [Step(id=f"code/web@w{k}/look", target=f"web@w{k}") for k in (0, 1)]
    crossed = [looks[0].model_copy(update={"target": "web@w1"}), looks[1].model_copy(update={"target": "web@w0"})]
    plan, other = (Plan(environment=farm(2, 100.0, 150.0), steps=tuple(s)) for s in (looks, crossed))

    assert [
        ("~", "code/web@w0/look", "", "target", "web@w0", "web@w1"),
        ("~", "code/web@w1/look", "", "target", "web@w1", "web@w0"),
    ] == steps(difference(plan, other, replications=1)).rows


def test_the_command_takes_plans_and_strategies_and_its_tables_fit_80_columns(tmp_path):
    path = tmp_path / "plan.json"
    CliRunner().invoke(main, ["plan", UPGRADE, "--strategy", "stop-expand", "-o", str(path), "--replications", "1"])

    same = invoke(f"{UPGRADE}:stop-expand", str(path))
    differ = invoke(str(path), f"{UPGRADE}:drain-expand", "--replications", "80")

    assert (0, 0) == (same.exit_code, differ.exit_code), differ.output
    assert "No difference" in same.output and "0 removed (-), 8 added (+) and 12 changed (~)" in differ.output
    assert max(map(len, differ.output.splitlines())) <= 80


def test_the_json_of_a_difference_names_both_plans_and_every_change():
    said = json.loads(invoke(f"{UPGRADE}:stop-expand", f"{UPGRADE}:drain-expand", "--replications", "10", "--format", "json").stdout)

    assert 8 == len(said["added"]) and {"path": ["source", "strategy"], "old": "stop-expand", "new": "drain-expand"} in said["settings"]
    assert {"step": "code/web@web1/stop", "field": "begin", "old": [["kill", "web@web1"]], "new": [["out", "web@web1"]]} in said["changed"]
    assert said["metrics"]["makespan_s"]["difference"]["mean"] == pytest.approx(
        said["metrics"]["makespan_s"]["b"]["mean"] - said["metrics"]["makespan_s"]["a"]["mean"]
    )
    assert said["metrics"]["makespan_s"]["a"]["p95"] is None  # takes 72 replications


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        ((UPGRADE, UPGRADE), "name one as FILE:STRATEGY: all-at-once"),
        ((f"{UPGRADE}:rollin", UPGRADE), "'rollin' is no strategy"),
        (("plan.json:rolling", UPGRADE), "'plan.json' is a plan and has its strategy"),
        (("no-such.yaml", UPGRADE), "no-such.yaml:1:1: cannot be read"),
        ((":x", UPGRADE), "cannot be read"),
    ],
)
def test_a_side_that_is_no_plan_exits_2(sides, says):
    said = invoke(*sides)

    assert 2 == said.exit_code and says in said.output and isinstance(said.exception, SystemExit)


def test_a_long_table_of_settings_is_readable_at_80_columns():
    environment = PLAN.environment.model_dump(mode="json")
    for machine in environment["machines"]:
        machine["mtbf_s"] = 3600.0

    table = other_settings(difference(PLAN, changed(PLAN, environment=environment), 1))

    assert [("environment.machines.*.mtbf_s", "2", "-", "60 min")] == table.rows
    assert max(map(len, text(table).splitlines())) <= 80
