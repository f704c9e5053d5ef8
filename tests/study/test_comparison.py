"""The recommendation follows its stated rule, and is alive: it changes when the environment does."""

from __future__ import annotations

import json
import pathlib
import random

import numpy as np
import pytest
from ruamel.yaml import YAML

from simdeploy.errors import StudyError
from simdeploy.plan.goals import GoalParts
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import GoalResult, Outcome, simulate
from simdeploy.study.causes import cause_of
from simdeploy.study.comparison import compare, recommend
from tests.builders import canonical, farm, rolling

SCENARIO = "scenarios/canonical/upgrade.yaml"


def outcome(**values: list[float]) -> Outcome:
    """An Outcome with these values and zeros elsewhere."""
    n = len(next(iter(values.values())))
    filled = {m: np.array(values.get(m, [0.0] * n), dtype=float) for m in METRICS}
    return Outcome(Plan(environment=canonical(), steps=()), 0, filled, [])


def results(*met: bool) -> list[GoalResult]:
    return [GoalResult(GoalParts("g", "downtime_s", "<=", 0.0, "mean", None), m, 1.0) for m in met]


def test_what_meets_all_goals_goes_before_what_is_cheaper():
    outcomes = {"cheap": outcome(failed_requests=[1, 2]), "good": outcome(failed_requests=[100, 200])}

    assert "good" == recommend(outcomes, {"cheap": results(False), "good": results(True)}, ["failed_requests"])[0]


def test_where_nothing_meets_all_goals_the_fewest_missed_win():
    outcomes = {"two": outcome(failed_requests=[1, 2]), "one": outcome(failed_requests=[100, 200])}

    assert "one" == recommend(outcomes, {"two": results(False, False), "one": results(True, False)}, ["failed_requests"])[0]


def test_a_tie_in_the_first_metric_is_broken_by_the_second():
    outcomes = {
        "slow": outcome(failed_requests=[5, 9, 1], makespan_s=[60, 61, 62]),
        "fast": outcome(failed_requests=[5, 9, 1], makespan_s=[30, 31, 32]),
    }

    chosen, because = recommend(outcomes, {n: [] for n in outcomes}, ["failed_requests", "makespan_s"])

    assert "fast" == chosen
    assert "makespan" in because and "failed" not in because


def test_a_difference_within_its_interval_is_a_tie():
    """Differences +3 and -1, +3 and -1 ...: mean 1, interval about +-2; the dearer one wins by the next metric."""
    noisy = outcome(failed_requests=[13, 9, 13, 9], makespan_s=[1, 1, 1, 1])
    calm = outcome(failed_requests=[10, 10, 10, 10], makespan_s=[2, 2, 2, 2])

    assert "noisy" == recommend({"noisy": noisy, "calm": calm}, {"noisy": [], "calm": []}, ["failed_requests", "makespan_s"])[0]


def test_rounding_alone_tells_nothing_apart():
    outcomes = {
        "a": outcome(failed_requests=[0.1 + 0.2, 0.3], makespan_s=[2, 2.5]),
        "b": outcome(failed_requests=[0.3, 0.1 + 0.2], makespan_s=[1, 1.5]),
    }

    assert "b" == recommend(outcomes, {"a": [], "b": []}, ["failed_requests", "makespan_s"])[0]


@pytest.fixture(scope="module")
def comparison():
    return compare(load_scenario(SCENARIO), replications=400, seed=3)


def test_the_canonical_recommendation_meets_every_goal_and_is_dominated_by_none(comparison):
    assert comparison.all_goals_met
    assert all(g.met for g in comparison.goals[comparison.recommended])
    assert comparison.dominated[comparison.recommended] is None


def test_a_dominated_strategy_is_no_better_in_any_preferred_metric(comparison):
    for name, rival in comparison.dominated.items():
        for metric in comparison.scenario.prefer if rival else ():
            mean, other = (float(np.mean(comparison.outcomes[n].values[metric])) for n in (name, rival))
            assert other <= mean * (1 + 1e-9), (name, rival, metric)


def test_differences_are_paired_and_zero_for_the_baseline(comparison):
    baseline = comparison.outcomes[comparison.baseline].values["downtime_s"]
    other = comparison.outcomes["stop-expand"].values["downtime_s"]

    assert comparison.difference(comparison.baseline, "downtime_s").mean == 0
    assert comparison.difference("stop-expand", "downtime_s").mean == pytest.approx(np.mean(other - baseline))


def test_a_lock_that_lasts_makes_the_offline_migration_win():
    """Expanding for an hour under a lock costs more than stopping for the offline migration."""
    changed = _with_action("expand", duration="1 h")

    assert "expand" in compare(load_scenario(SCENARIO), replications=100).recommended
    assert "expand" not in compare(changed, replications=100).recommended


def test_tiers_in_parallel_win_only_while_time_counts():
    scenario = load_scenario(SCENARIO)
    indifferent = scenario.model_copy(update={"prefer": ("skew_s", "failed_requests")})

    assert "drain-expand-parallel" == compare(scenario, replications=100).recommended
    assert "drain-expand" == compare(indifferent, replications=100, strategies=["drain-expand", "drain-expand-parallel"]).recommended


def _with_action(action: str, **fields):
    """The canonical scenario with other fields for one action of its store."""
    from simdeploy.environment.models import Action

    scenario = load_scenario(SCENARIO)
    env = scenario.environment
    sql = env.services["sql"]
    old = sql.actions[action].model_dump(mode="json")
    actions = dict(sql.actions) | {action: Action.model_validate(old | fields)}
    services = dict(env.services) | {"sql": sql.model_copy(update={"actions": actions})}
    return scenario.model_copy(update={"environment": env.model_copy(update={"services": services})})


@pytest.mark.parametrize("strategy", ["all-at-once", "drain-expand", "tier-at-once-expand"])
def test_halving_the_step_that_is_named_moves_the_metric_it_is_named_for(strategy):
    plan = build_plan(load_scenario(SCENARIO), strategy)
    cause = cause_of(plan)
    named = set(cause.culprits[0].steps)
    quicker = plan.model_copy(
        update={"steps": tuple(s.model_copy(update={"duration": s.duration.scaled(0.5)}) if s.id in named else s for s in plan.steps)}
    )

    before, after = (float(np.mean(simulate(p, 200).values[cause.metric])) for p in (plan, quicker))

    assert after < before
    assert abs((before - after) - cause.culprits[0].saved) < 0.25 * cause.culprits[0].saved  # the mean run is not the mean of all runs
    assert cause.culprits[0].action in cause.sentence and all(m in cause.sentence for m in cause.culprits[0].machines)


def test_a_plan_without_cost_has_no_culprit():
    env = farm(4, 100.0, 50.0)
    still = Plan(environment=env, steps=())

    assert cause_of(still).metric is None and cause_of(still).culprits == ()


def test_what_long_connections_cost_comes_from_how_long_they_are_held():
    """Half of what a box holds is cut: with holds of 30 s, no longer than the time-out, nothing is."""
    plan = build_plan(load_scenario("scenarios/partitions/upgrade-connections.yaml"), "drained")

    found = cause_of(plan)

    assert ("failed_requests", "hold", "web") == (found.metric, found.culprits[0].action, found.culprits[0].service)
    assert pytest.approx(9375.0) == found.cost == found.culprits[0].saved


def test_a_dip_without_failed_requests_is_explained_too():
    plan = Plan(environment=farm(4, 100.0, 50.0), steps=rolling(["web@w0"], 60.0))

    cause = cause_of(plan)

    assert ("lost_capacity", "install") == (cause.metric, cause.culprits[0].action)
    assert cause.culprits[0].saved == pytest.approx(100 * 30)


def test_the_json_says_what_the_frame_says_and_null_where_too_few_replications_support_it():
    few = compare(load_scenario(SCENARIO), replications=20, strategies=["all-at-once", "drain-expand"])
    said = json.loads(few.to_json())
    frame = few.frame().set_index(["strategy", "metric"])

    assert {"format", "scenario", "seed", "replications", "strategies", "recommended", "because"} <= set(said)
    for entry in said["strategies"]:
        assert {"strategy", "dominated", "metrics", "goals"} <= set(entry)
        makespan = entry["metrics"]["makespan_s"]
        assert {"mean", "ci95", "p50", "p95", "p99", "p95_ci95", "difference"} == set(makespan)
        assert makespan["mean"] == frame.loc[(entry["strategy"], "makespan_s"), "mean"]
        assert makespan["p50"] is not None and makespan["p95"] is None and makespan["p99"] is None
        assert [None] == [g["met"] for g in entry["goals"] if g["goal"].startswith("p95(downtime")]


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'drain-expand'"):
        compare(load_scenario(SCENARIO), strategies=["drain-expnd"])


def test_a_strategy_whose_runs_do_not_end_well_is_not_recommended_in_silence():
    outcomes = {"halts": outcome(failed_requests=[1, 1], success=[0, 1])}

    assert "only 50 % of its runs end well" in recommend(outcomes, {"halts": []}, ["failed_requests"])[1]


def test_what_is_no_scenario_or_no_list_of_names_is_refused_with_the_way_out():
    scenario = load_scenario(SCENARIO)
    with pytest.raises(StudyError, match="read one with load_scenario"):
        compare(scenario.environment)
    with pytest.raises(StudyError, match="no list of names"):
        compare(scenario, strategies="drain-expand")
    with pytest.raises(StudyError, match="make one with build_plan"):
        simulate(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_keys_in_the_files_changes_no_number(tmp_path, seed):
    """Oracle 12, from the files on, where one fork makes services wait for each other."""
    luck = random.Random(seed)

    def shuffled(value):
        if isinstance(value, dict):
            return {k: shuffled(value[k]) for k in luck.sample(list(value), len(value))}
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    for name in ("production.yaml", "upgrade.yaml"):
        data = YAML(typ="safe").load(pathlib.Path("scenarios/canonical", name))
        data |= {"forks": 1} if "strategies" in data else {}
        for folder, content in (("as-it-is", data), ("shuffled", shuffled(data))):
            (tmp_path / folder).mkdir(exist_ok=True)
            YAML(typ="safe").dump(content, tmp_path / folder / name)

    one, other = (compare(load_scenario(tmp_path / folder / "upgrade.yaml"), replications=20) for folder in ("as-it-is", "shuffled"))

    for strategy, outcome_ in one.outcomes.items():
        for metric, values in outcome_.values.items():
            assert np.array_equal(values, other.outcomes[strategy].values[metric], equal_nan=True), (strategy, metric)
