"""Halving and doubling what is assumed: it finds the guess that decides, and leaves alone what was measured."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.environment.inputs import scaled_input
from simdeploy.environment.models import Input
from simdeploy.planning.loading import load_scenario
from simdeploy.study.comparison import compare
from simdeploy.study.overview import robust
from simdeploy.study.robustness import Robustness, vary_inputs
from simdeploy.tables import text

SCENARIO = load_scenario("scenarios/canonical/upgrade.yaml")
MIGRATE, EXPAND = "services.sql.actions.migrate.duration", "services.sql.actions.expand.duration"
SIZE, DEMAND = "services.sql.store.size", "demand.rate"
RIVALS = ["all-at-once", "drain-expand-parallel"]


def with_inputs(scenario=SCENARIO, **marks: list[str]):
    """*scenario* with these paths, and no others, marked as `assumed` or `measured`."""
    inputs = tuple(Input(at=at, mark=mark, source="the test") for mark, paths in marks.items() for at in paths)
    return scenario.model_copy(update={"environment": scenario.environment.model_copy(update={"inputs": inputs})})


def on_a_knife_edge(**marks: list[str]):
    """The lock of expand costs a little less than the offline migration: 1.5 times it would cost more."""
    scenario = with_inputs(**marks)
    offline = compare(scenario, 72, strategies=RIVALS).outcomes["all-at-once"].values["failed_requests"].mean()
    lock_s = scenario.environment.services["sql"].actions["expand"].duration.mean_s
    longer = 0.7 * offline / 130.0 / lock_s
    return scenario.model_copy(update={"environment": scaled_input(scenario.environment, EXPAND, longer)})


def test_the_guess_that_decides_is_found_and_is_to_be_measured_first():
    found = vary_inputs(on_a_knife_edge(assumed=[SIZE, MIGRATE, EXPAND]), 72, strategies=RIVALS)

    by_path = {i.at: i for i in found.inputs}
    assert "drain-expand-parallel" == found.recommended
    assert ("drain-expand-parallel", "all-at-once") == (by_path[EXPAND].half.recommended, by_path[EXPAND].double.recommended)
    assert ("all-at-once", "drain-expand-parallel") == (by_path[MIGRATE].half.recommended, by_path[MIGRATE].double.recommended)
    assert EXPAND == found.measure_first.at  # it also moves the failed requests of what is recommended, the migration does not
    assert "doubled, it makes all-at-once the recommendation" in found.sentence


def test_measured_inputs_are_never_varied():
    found = vary_inputs(on_a_knife_edge(assumed=[SIZE], measured=[MIGRATE, EXPAND]), 72, strategies=RIVALS)

    assert [SIZE] == [i.at for i in found.inputs]
    assert found.measure_first is None
    assert found.sentence.startswith("drain-expand-parallel stays recommended")


def test_an_input_that_cannot_matter_shows_no_change():
    found = vary_inputs(with_inputs(assumed=[SIZE]), 20, strategies=RIVALS)

    (size,) = found.inputs
    assert not size.changes_something and 0 == size.swing
    assert 0 == size.half.difference.mean == size.double.difference.mean
    assert size.half.goals == size.double.goals == found.goals


def test_each_variant_is_what_a_comparison_of_the_changed_environment_says():
    found = vary_inputs(with_inputs(assumed=[DEMAND]), 80, seed=5)
    changed = with_inputs(assumed=[DEMAND]).model_copy(update={"environment": scaled_input(SCENARIO.environment, DEMAND, 2.0)})
    by_hand = compare(changed, 80, seed=5)

    (demand,) = found.inputs
    outcome = by_hand.outcomes[found.recommended]
    assert by_hand.recommended == demand.double.recommended
    assert outcome.values["failed_requests"].mean() == demand.double.mean
    assert by_hand.goals[found.recommended] == demand.double.goals
    assert demand.double.difference.mean == pytest.approx(demand.double.mean - found.outcome.values["failed_requests"].mean())


def test_what_changes_the_recommendation_goes_before_goals_and_goals_before_the_swing():
    order = [(i.changes_recommendation, i.changes_goals, i.swing) for i in whole().inputs]

    assert order == sorted(order, reverse=True)
    assert any(g and not r for r, g, _ in order) and any(s > 0 and not g for _, g, s in order)


def test_a_value_that_cannot_be_is_said_and_not_fatal():
    huge = SCENARIO.environment.services["sql"].store.model_copy(update={"size_bytes": 1e308})
    services = dict(SCENARIO.environment.services)
    services["sql"] = services["sql"].model_copy(update={"store": huge})
    environment = SCENARIO.environment.model_copy(update={"services": services})

    found = vary_inputs(with_inputs(SCENARIO.model_copy(update={"environment": environment}), assumed=[SIZE]), 8, strategies=RIVALS)

    (size,) = found.inputs
    assert not size.half.problem and "must be finite" in size.double.problem and size.double.recommended is None
    assert "not possible" in text(robust(found))


def test_a_zero_and_a_rule_have_neither_half_nor_double():
    zero, rule = "services.sql.actions.expand.capacity_left", "services.sql.role"

    found = vary_inputs(with_inputs(assumed=[zero, rule]), 8, strategies=RIVALS)

    assert [] == found.inputs and [zero, rule] == [i.at for i in found.not_varied]
    assert "No number is assumed" in found.sentence and "Not varied: 2" in found.sentence


def test_a_mark_of_what_the_environment_is_only_made_with_is_not_varied(tmp_path):
    """A counted machine is gone when the environment is there, and so is the place of its mark."""
    text = pathlib.Path("simdeploy/templates/environment.yaml").read_text()
    text = text.replace("{name: sql1}", '{name: sql1}, {name: "x{n}", count: {value: 2, assumed: a guess}}')
    (tmp_path / "environment.yaml").write_text(text)
    (tmp_path / "upgrade.yaml").write_text(pathlib.Path("simdeploy/templates/upgrade.yaml").read_text())

    found = vary_inputs(load_scenario(tmp_path / "upgrade.yaml"), 8)

    assert ["machines.5-6.count"] == [i.at for i in found.not_varied] and ["demand.rate"] == [i.at for i in found.inputs]


def test_the_luck_is_the_same_in_any_number_of_processes_and_progress_is_told():
    told: list[tuple[int, int]] = []
    scenario = with_inputs(assumed=[EXPAND])

    one = vary_inputs(scenario, 40, strategies=RIVALS, jobs=1, progress=lambda done, total: told.append((done, total)))
    two = vary_inputs(scenario, 40, strategies=RIVALS, jobs=2)

    assert json.dumps(one.to_dict()) == json.dumps(two.to_dict())
    assert (40 * 2 * 2, 40 * 2 * 2) == told[-1]  # as they are; then the one that expands, at half and at double


def whole() -> Robustness:
    """Some inputs of the canonical scenario, varied."""
    paths = [DEMAND, SIZE, EXPAND, "services.sql.capacity", "services.middle.capacity", "services.web.calls.middle"]
    return vary_inputs(with_inputs(assumed=paths), 72, strategies=["drain-expand-parallel", "stop-expand"])


def test_the_table_has_80_columns_and_counts_what_changes_nothing():
    said = text(robust(whole()))

    assert max(map(len, said.splitlines())) <= 80
    assert "sql.expand.duration" in said and "store.size" not in said
    assert "assumed numbers that change none of this: 1" in said


def test_of_one_assumed_number_the_sentence_speaks_of_one():
    one = vary_inputs(with_inputs(assumed=[DEMAND]), 72, strategies=["drain-expand-parallel"])
    still = vary_inputs(with_inputs(assumed=[SIZE]), 72, strategies=["drain-expand-parallel"])

    assert one.sentence.startswith("The one assumed number decides which goals drain-expand-parallel meets. Measure first: ")
    assert still.sentence.startswith(
        "drain-expand-parallel keeps to the goals that it meets with its one assumed number halved or doubled, and it does not move"
    )


def test_the_command_line_has_it_in_its_json_and_refuses_csv():
    arguments = ["compare", "scenarios/lab/upgrade.yaml", "--replications", "8", "--robust", "--format"]
    as_json = CliRunner().invoke(main, [*arguments, "json"])
    as_csv = CliRunner().invoke(main, [*arguments, "csv"])

    varied = json.loads(as_json.stdout)["robustness"]
    assert {"replications", "recommended", "measure_first", "sentence", "inputs"} <= set(varied) and 8 == varied["replications"]
    assert "services.middle.capacity" in {i["at"] for i in varied["inputs"]}
    assert 2 == as_csv.exit_code and "CSV" in as_csv.output


def test_the_numbers_of_the_scenario_s_own_file_are_varied_too():
    """A bad release fails a share of the requests while it serves: half the share fails about half as many."""
    scenario = load_scenario("scenarios/canonical/upgrade-with-validation.yaml")
    by_path = {i.at: i for i in scenario.inputs}
    only = scenario.model_copy(
        update={
            "environment": scenario.environment.model_copy(update={"inputs": ()}),
            "inputs": (by_path["release.error_share"], by_path["checks.smoke.sensitivity"]),
        }
    )

    found = vary_inputs(only, 200, strategies=["unchecked"], metric="bad_release_requests")

    share, smoke = found.inputs
    as_it_is = found.outcome.values["bad_release_requests"].mean()
    assert ("release.error_share", "20 %") == (share.at, share.was) and as_it_is > 0
    assert share.half.mean == pytest.approx(as_it_is / 2, rel=0.2) and share.double.mean == pytest.approx(2 * as_it_is, rel=0.2)
    assert 0 == smoke.swing  # unchecked: nobody looks
