"""Explanations: what a faster step buys, which input moves what, the worst run; and the command that shows them."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import simdeploy
from simdeploy.cli import main
from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.inputs import scaled_input
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate
from simdeploy.study import explanation, robustness
from simdeploy.study.causes import half_as_long
from simdeploy.study.criticality import criticality
from simdeploy.study.explanation import PARTS, Explanation, explain
from simdeploy.study.explanation_overview import actions
from simdeploy.study.robustness import vary_inputs
from simdeploy.study.worst import worst_run
from tests.builders import farm

PATH = "scenarios/canonical/upgrade.yaml"
FULL = load_scenario(PATH)
KEPT = ("demand.rate", "recovery.detect", "services.web.capacity", "services.sql.capacity", "services.web.health_check.interval")
EXPAND = "services.sql.actions.expand.duration"
NAME = "drain-expand"
COUNT = 80


def with_inputs(**marks: str):
    """The canonical scenario with a few of its inputs, some of them marked otherwise."""
    kept = [i for i in FULL.environment.inputs if i.at in (*KEPT, EXPAND)]
    inputs = tuple(i.model_copy(update={"mark": marks.get(i.at.replace(".", "_"), i.mark)}) for i in kept)
    return FULL.model_copy(update={"environment": FULL.environment.model_copy(update={"inputs": inputs})})


SCENARIO = with_inputs()


@pytest.fixture(scope="module")
def whole() -> Explanation:
    return explain(SCENARIO, NAME, replications=COUNT, seed=3)


def two_lanes(**a) -> Plan:
    """One lane of 100 s beside one of 60 s."""
    lanes = [
        Step(id="up/web@w0/install", target="web@w0", on="w0", duration=fixed(100.0), **a),
        Step(id="up/web@w1/stop", target="web@w1", on="w1", duration=fixed(60.0)),
    ]
    return Plan(environment=farm(2, 100.0, 50.0), steps=tuple(lanes))


def test_to_halve_the_longer_of_two_lanes_saves_only_what_the_other_leaves():
    plan = two_lanes()

    assert 100 == simulate(plan, 1).values["makespan_s"][0]
    assert 60 == simulate(half_as_long(plan, [0]), 1).values["makespan_s"][0]
    assert 100 == simulate(half_as_long(plan, [1]), 1).values["makespan_s"][0]


def test_a_drain_until_idle_in_half_its_time_lasts_half_as_long():
    environment = farm(2, 100.0, 50.0, hold=fixed(30.0))
    drain = Step(id="up/web@w0/drain", target="web@w0", on="w0", until_idle=True, timeout_s=600.0, begin=(("drain", "web@w0"),))
    plan = Plan(environment=environment, steps=(drain,))

    as_it_is, halved = (simulate(p, 20).values["makespan_s"] for p in (plan, half_as_long(plan, [0])))

    assert as_it_is.max() > 0
    assert halved == pytest.approx(as_it_is / 2, rel=0.01) and (halved <= as_it_is / 2).all()  # it also holds fewer


def test_in_a_plan_without_branches_half_an_action_saves_half_of_what_it_adds(whole):
    """One step after the other: each of them is critical in every run."""
    actions = whole.criticality.actions().set_index(["service", "action"])
    saved = whole.speedups_frame().query("metric == 'makespan_s'").set_index(["service", "action"])["difference"]

    assert 1 == actions.loc[("sql", "backfill"), "index"] == actions.loc[("web", "drain"), "index"]
    for key in (("sql", "backfill"), ("web", "drain"), ("web", "start")):
        assert saved[key] == pytest.approx(-actions.loc[key, "path_s"] / 2)


def test_what_costs_most_of_the_metric_is_tried_even_where_it_takes_no_time_to_speak_of(whole):
    """The lock of `expand` lasts 2 s of half an hour; half of it saves a second of failed requests, 130 of them a second."""
    saved = whole.speedups_frame().query("action == 'expand'").set_index("metric")["difference"]
    lock_s = whole.criticality.frame().set_index("step")["lasts_s"].filter(like="expand").iloc[0]

    assert "failed_requests" == whole.metric
    assert saved["failed_requests"] == pytest.approx(-130.0 * lock_s / 2)
    assert saved["downtime_s"] == pytest.approx(-lock_s / 2)


def test_the_tornado_has_every_marked_input_twice_and_the_largest_swing_first(whole):
    frame = whole.frame("sensitivity").query("metric == 'failed_requests'")
    marks = {i.at: i.mark for i in SCENARIO.environment.inputs}

    assert {"assumed", "measured"} == set(frame["mark"])
    assert dict(zip(frame["input"], frame["mark"], strict=True)).items() <= marks.items()
    assert (2 == frame["input"].value_counts()).all()
    assert frame["swing"].is_monotonic_decreasing and "demand.rate" == frame["input"].iloc[0]


def test_a_bar_of_the_tornado_is_what_the_changed_plan_costs_more(whole):
    environment = scaled_input(SCENARIO.environment, EXPAND, 2.0)
    changed = simdeploy.build_plan(SCENARIO.model_copy(update={"environment": environment}), NAME)
    by_hand = simulate(changed, COUNT, 3).values["failed_requests"] - whole.outcome.values["failed_requests"]

    bar = whole.frame("sensitivity").query("input == @EXPAND and variant == 'double' and metric == 'failed_requests'").iloc[0]

    assert bar["difference"] == pytest.approx(by_hand.mean())
    assert (bar["ci95_high"] - bar["ci95_low"]) / 2 == pytest.approx(1.99 * by_hand.std(ddof=1) / math.sqrt(COUNT), rel=2e-3)


def test_variants_that_are_not_run_would_change_nothing():
    """Inputs that the plan does not use are told from its steps alone; a run of each of them says the same."""
    [name] = names = ["all-at-once"]
    built = build_plans(FULL, names)
    as_it_is = simulate(built[name], 8).values
    skipped = 0
    for one in FULL.environment.inputs:
        for factor in (0.5, 2.0):
            if robustness._plans(FULL, built, one, factor) != {}:
                continue
            skipped += 1
            changed = FULL.model_copy(update={"environment": scaled_input(FULL.environment, one.at, factor)})
            values = simulate(build_plans(changed, names)[name], 8).values
            assert all(np.array_equal(values[m], as_it_is[m], equal_nan=True) for m in values), one.at

    assert skipped > 40


def test_of_one_strategy_the_sentence_is_about_its_goals_and_names_an_assumed_input(whole):
    assert whole.sensitivity.rivals == 1 and "recommended" not in whole.sensitivity.sentence
    assert "decide which goals drain-expand meets" in whole.sensitivity.sentence
    assert "assumed" == whole.sensitivity.measure_first.mark


def test_a_measured_input_moves_the_tornado_and_is_not_to_be_measured_first():
    varied = vary_inputs(with_inputs(demand_rate="measured"), 20, strategies=[NAME], marks=("assumed", "measured"))

    assert "demand.rate" == varied.frame()["input"].iloc[0]
    assert "demand.rate" != varied.measure_first.at


def test_the_worst_run_is_the_worst_of_the_forecast_and_its_chain_is_as_long_as_it(whole):
    values = simulate(simdeploy.build_plan(SCENARIO, NAME), COUNT, 3).values
    run = whole.worst
    frame = run.frame()

    assert run.replication == values["failed_requests"].argmax() and run.value == values["failed_requests"].max()
    assert frame.loc[frame["critical"], "lasts_s"].sum() == pytest.approx(values["makespan_s"][run.replication])
    assert frame["begins_s"].is_monotonic_increasing and "start" == frame["after"].iloc[0]


def test_where_all_runs_are_as_bad_the_next_preferred_metric_says_which_is_the_worst():
    plan = simdeploy.build_plan(SCENARIO, NAME)
    outcome, followed = simulate(plan, 40), criticality(plan, 40)

    assert (outcome.values["failovers"] == 0).all()
    assert outcome.values["failed_requests"].argmax() == worst_run(outcome, "failovers", followed).replication
    assert outcome.values["availability"].argmin() == worst_run(outcome, "availability", followed).replication


def test_a_step_is_unusual_where_it_took_longer_than_in_nearly_all_other_runs():
    """One step of 0 to 100 s: the worst run has its longest, longer than all others; a fixed one is never unusual."""
    steps = (Step(id="drawn", duration=Distribution(kind="uniform", parameters=(0.0, 100.0))), Step(id="fixed", duration=fixed(5.0)))
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps)
    outcome, followed = simulate(plan, 200), criticality(plan, 200)
    run = worst_run(outcome, "makespan_s", followed)

    drawn, steady = sorted(run.steps, key=lambda s: s.step)
    assert (1, 0) == (drawn.longer_than, steady.longer_than)
    assert drawn.excess_s == pytest.approx(outcome.values["makespan_s"].max() - followed.lasts_s[:, 0].mean())
    assert ["drawn"] == [s.step for s in run.unusual]


def test_a_run_tells_what_died_and_what_failed():
    plan = two_lanes(p_fail=1.0)
    outcome = simulate(plan, 2)

    run = worst_run(outcome, "makespan_s", criticality(plan, 2))

    assert [("ended", "up/web@w0/install", "failed")] == [(r.kind, r.subject, r.value) for r in run.events]


def test_the_same_question_has_the_same_answer_in_any_number_of_processes(whole):
    again = explain(SCENARIO, NAME, replications=COUNT, seed=3, jobs=2)

    assert whole.to_json() == again.to_json()


def test_a_part_that_was_not_asked_for_is_said():
    found = explain(SCENARIO, NAME, replications=8, parts=["worst"])

    assert found.sensitivity is None and found.speedups is None and found.worst is not None
    with pytest.raises(StudyError, match="'sensitivity' is no part of this explanation; it has criticality, worst"):
        found.frame("sensitivity")
    with pytest.raises(StudyError, match="no sensitivity to draw"):
        simdeploy.tornado_figure(found)
    with pytest.raises(StudyError, match="'tornado' is no part"):
        explain(SCENARIO, NAME, parts=["tornado"])  # type: ignore[list-item]
    with pytest.raises(StudyError, match="'downtime' is no metric; did you mean 'downtime_s'"):
        explain(SCENARIO, NAME, metric="downtime")


def test_the_tornado_is_drawn_with_what_moves_the_metric(whole):
    axes = simdeploy.tornado_figure(whole).axes[0]

    labels = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
    moving = whole.frame("sensitivity").query("swing > 0")["input"].unique()
    assert [n.removeprefix("services.").replace(".actions.", ".") for n in moving] == labels


def test_the_steps_that_the_worst_run_waited_for_are_bold():
    """Two lanes: the first fails after 100 s, and what was to follow is skipped and not drawn; the other ends at 60 s."""
    lanes = two_lanes(p_fail=1.0)
    skipped = Step(id="up/web@w0/start", needs=("up/web@w0/install",), duration=fixed(5.0))
    plan = Plan(environment=lanes.environment, steps=(skipped, *lanes.steps))

    labels = simdeploy.worst_figure(worst_run(simulate(plan, 2), "makespan_s", criticality(plan, 2))).axes[0].get_yticklabels()

    assert [("web@w0/install", "bold"), ("web@w1/stop", "normal")] == [(x.get_text(), x.get_fontweight()) for x in labels]


def command(*arguments: str, code: int = 0):
    result = CliRunner().invoke(main, ["explain", PATH, *arguments])
    assert code == result.exit_code, result.output
    return result


def test_the_command_prints_tables_of_80_columns_and_what_to_measure_first():
    shown = command("--strategy", NAME, "--replications", "20").stdout

    assert max(map(len, shown.splitlines())) <= 80
    for said in ("backfill of sql", "twice as fast", "demand.rate", "The worst run by failed requests", "Measure first: demand.rate"):
        assert said in " ".join(shown.split())


def test_actions_that_are_not_shown_are_counted(whole):
    assert "actions not shown: 3 that add less" in actions(whole.criticality).note

    assert actions(criticality(two_lanes(), 1)).note.endswith("actions not shown: 1 that are never critical")


def test_the_command_writes_json_csv_and_figures(tmp_path):
    content = json.loads(command("--strategy", NAME, "--replications", "8", "--format", "json").stdout)
    shown = command("--strategy", NAME, "--replications", "8", "--part", "worst", "--format", "csv", "--plot", str(tmp_path)).stdout

    assert (NAME, "failed_requests", 8) == (content["strategy"], content["metric"], content["replications"])
    assert {"criticality", "actions", "speedups", "sensitivity", "worst"} <= content.keys()
    assert content["worst"]["replication"] in range(8)
    assert "longer_than" in pd.read_csv(io.StringIO(shown)).columns
    assert ["worst-run.png", "worst-run.svg"] == sorted(p.name for p in tmp_path.iterdir())


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_tidy_table(part):
    frame = pd.read_csv(io.StringIO(command("--strategy", NAME, "--replications", "6", "--part", part, "--format", "csv").stdout))

    assert len(frame) and not frame.columns.duplicated().any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "has 7 strategies; name one with --strategy"),
        (["--strategy", "drain"], "'drain' is no strategy"),
        (["--strategy", NAME, "--metric", "downtime"], "'downtime' is no metric"),
        (["--strategy", NAME, "--format", "csv"], "name one with --part"),
    ],
)
def test_what_cannot_be_explained_is_said(arguments, said):
    assert said in command(*arguments, code=2).stderr


def test_a_plan_has_no_inputs_to_vary():
    result = CliRunner().invoke(main, ["explain", "plan.json"])

    assert 2 == result.exit_code and "name the scenario's YAML file" in result.stderr


def test_an_interrupt_leaves_no_explanation_by_half(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(explanation, "vary_inputs", interrupted)

    result = command("--strategy", NAME, "--replications", "8", code=130)

    assert "" == result.stdout and "no explanation by half" in result.stderr
