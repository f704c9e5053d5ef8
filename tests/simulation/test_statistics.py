"""Quantiles are order statistics with exact intervals, means carry Student's, and each figure stands under its own name."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from simdeploy.plan.goals import GoalParts
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Outcome
from simdeploy.study.comparison import Comparison, compare
from tests.builders import canonical

RANKS = np.random.default_rng(1).permutation(np.arange(1.0, 401.0))
"""1 .. 400 in disorder: each value is its own rank."""


def outcome(**values: np.ndarray | list[float]) -> Outcome:
    """An Outcome with these values and zeros elsewhere."""
    count = len(next(iter(values.values())))
    filled = {m: np.array(values.get(m, np.zeros(count)), dtype=float) for m in METRICS}
    return Outcome(Plan(environment=canonical(), steps=()), 0, filled, [])


def binomial(k: int, n: int, p: float) -> float:
    """P(k of n values lie below the p-quantile)."""
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("p", "rank"), [(0.5, 200), (0.95, 380), (0.99, 396)])
def test_a_quantile_is_the_first_value_that_so_many_do_not_exceed(p, rank):
    assert rank == statistics.quantile(RANKS, p)


def test_between_two_values_the_quantile_is_the_upper_one():
    assert 70 == statistics.quantile(np.arange(1.0, 74.0), 0.95)  # 0.95 x 73 = 69.35


@pytest.mark.parametrize(("n", "p"), [(6, 0.5), (41, 0.5), (72, 0.95), (400, 0.95), (1000, 0.95), (368, 0.99), (1000, 0.99)])
def test_the_interval_of_a_quantile_covers_it_and_no_narrower_one_does_so_on_either_side(n, p):
    low, high = map(int, statistics.quantile_ci95(np.arange(1.0, n + 1), p))

    def at_most(k: int) -> float:
        return math.fsum(binomial(i, n, p) for i in range(k + 1))

    below, above = at_most(low - 1), 1 - at_most(high - 1)
    assert below <= 0.025 < at_most(low)
    assert above <= 0.025 < 1 - at_most(high - 2)
    assert below + above <= 0.05


@pytest.mark.parametrize(("p", "needed"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_a_quantile_is_known_from_the_first_number_of_replications_that_bounds_it_and_not_before(p, needed):
    enough = np.arange(1.0, needed + 1)

    assert max(p, 1 - p) ** needed <= 0.025 < max(p, 1 - p) ** (needed - 1)
    assert statistics.quantile(enough[1:], p) is None and statistics.quantile_ci95(enough[1:], p) is None
    assert statistics.quantile(enough, p) is not None and needed == statistics.quantile_ci95(enough, p)[1]


def test_a_mean_carries_student_s_interval():
    """Mean 5, standard deviation sqrt(32 / 7), t with 7 degrees of freedom 2.364624."""
    values = np.array([2.0, 4, 4, 4, 5, 5, 7, 9])
    half = 2.364624 * math.sqrt(32 / 7 / 8)

    estimate = statistics.mean(values)

    assert 5 == estimate.mean
    assert pytest.approx((5 - half, 5 + half), rel=1e-6) == estimate.ci95


def test_a_mean_of_what_is_infinite_either_way_is_none():
    assert statistics.mean(np.array([math.inf, -math.inf, 1.0])) is None
    assert (math.inf, None) == statistics.mean(np.array([math.inf, 1.0]))


def test_student_s_interval_is_scipy_s():
    from scipy import stats

    values = np.random.default_rng(2).normal(10, 3, 30)

    assert pytest.approx(stats.t.interval(0.95, 29, np.mean(values), stats.sem(values))) == statistics.mean(values).ci95


def test_no_event_in_n_runs_is_an_upper_bound():
    assert pytest.approx((0.0, 1 - 0.025 ** (1 / 50))) == statistics.share_ci95(0, 50)
    assert pytest.approx((0.025 ** (1 / 50), 1.0)) == statistics.share_ci95(50, 50)


def test_the_forecast_s_quantiles_stand_under_their_names():
    ranked = outcome(makespan_s=RANKS)
    row = ranked.summary().loc["makespan_s"]
    said = json.loads(ranked.to_json())["metrics"]["makespan_s"]

    assert (200.5, 200, 380, 396) == (row["mean"], row["p50"], row["p95"], row["p99"])
    assert row["ci95_low"] < 200.5 < row["ci95_high"]
    assert row.to_dict() == said


@pytest.mark.parametrize(("statistic", "value"), [("mean", 200.5), ("min", 1), ("max", 400), ("p50", 200), ("p95", 380), ("p99", 396)])
def test_a_goal_is_held_against_its_own_statistic(statistic, value):
    ranked = outcome(makespan_s=RANKS)

    def met(limit: float) -> bool | None:
        return ranked.judge(GoalParts("goal", "makespan_s", "<=", limit, statistic, None)).met

    assert met(value) and not met(value - 0.25)


@pytest.fixture(scope="module")
def ranked() -> Comparison:
    """Two real strategies whose makespans are replaced: the baseline's by 1 .. 400, the rival's by the same plus 1000."""
    scenario = load_scenario("scenarios/canonical/upgrade.yaml")
    real = compare(scenario, replications=4, strategies=["all-at-once", "drain-expand"])
    return real._replace(outcomes={"all-at-once": outcome(makespan_s=RANKS), "drain-expand": outcome(makespan_s=RANKS + 1000)})


def test_the_comparison_s_quantiles_stand_under_their_names_and_the_interval_is_that_of_p95(ranked):
    baseline, rival = (s["metrics"]["makespan_s"] for s in ranked.to_dict()["strategies"])

    assert (200.5, 200, 380, 396) == (baseline["mean"], baseline["p50"], baseline["p95"], baseline["p99"])
    assert [371, 389] == baseline["p95_ci95"]
    assert {"mean": 1000, "ci95": [1000, 1000]} == rival["difference"]
    assert [1371, 1389] == rival["p95_ci95"]


def test_the_comparison_s_table_has_the_same_quantiles(ranked):
    row = ranked.frame().set_index(["strategy", "metric"]).loc[("drain-expand", "makespan_s")]

    assert (1200, 1380, 1396, 1000) == (row["p50"], row["p95"], row["p99"], row["difference"])


def dominator(prefer: tuple[str, ...], one: dict[str, list[float]], other: dict[str, list[float]]) -> str | None:
    """Who dominates *one*."""
    from simdeploy.study.comparison import _dominator

    return _dominator("one", {"one": outcome(**one), "other": outcome(**other)}, prefer)


def test_a_rival_that_is_better_in_one_metric_and_ties_in_the_rest_dominates():
    prefer = ("failed_requests", "makespan_s")

    assert "other" == dominator(prefer, {"makespan_s": [5, 6, 7]}, {"makespan_s": [4, 5, 6]})


def test_a_rival_that_ties_everywhere_does_not_dominate():
    assert dominator(("failed_requests", "makespan_s"), {"makespan_s": [5, 6, 7]}, {"makespan_s": [5, 6, 7]}) is None


def test_a_rival_that_is_better_by_less_than_the_interval_does_not_dominate():
    assert dominator(("makespan_s",), {"makespan_s": [5, 9, 1]}, {"makespan_s": [9, 0, 5]}) is None


def test_a_rival_that_is_worse_in_one_metric_does_not_dominate():
    one = {"makespan_s": [5, 6, 7], "failed_requests": [1, 1, 1]}

    assert dominator(("makespan_s", "failed_requests"), one, {"makespan_s": [1, 2, 3], "failed_requests": [2, 2, 2]}) is None


def test_what_is_better_higher_dominates_by_being_higher():
    high, low = {"availability": [0.9, 0.9]}, {"availability": [0.8, 0.8]}

    assert "other" == dominator(("availability",), low, high)
    assert dominator(("availability",), high, low) is None


@pytest.mark.parametrize(("events", "of"), [(0, 1), (0, 50), (50, 50), (1, 1), (3, 40), (39, 40), (200, 1000)])
def test_the_interval_of_a_probability_is_the_exact_one_of_the_binomial_sum(events, of):
    """At its low end as many events or more have a chance of 2.5 %, at its high end as many or fewer have."""
    ended = np.array([1.0] * events + [0.0] * (of - events))
    row = outcome(halted=ended).summary().loc["halted"]

    def at_most(k: int, p: float) -> float:
        return math.fsum(binomial(i, of, p) for i in range(k + 1))

    assert events / of == row["mean"]
    assert (0 if events == 0 else pytest.approx(0.025)) == (row["ci95_low"] if events == 0 else 1 - at_most(events - 1, row["ci95_low"]))
    assert (1 if events == of else pytest.approx(0.025)) == (row["ci95_high"] if events == of else at_most(events, row["ci95_high"]))


def test_a_probability_that_never_happened_stands_as_a_bound_in_both_forecasts(ranked):
    """None in 400 runs: 1 - 0.025^(1/400), and all of 400: 0.025^(1/400)."""
    never, always = 1 - 0.025 ** (1 / 400), 0.025 ** (1 / 400)
    said = json.loads(outcome(makespan_s=RANKS, success=np.ones(400)).to_json())["metrics"]
    compared = ranked.to_dict()["strategies"][0]["metrics"]
    framed = ranked.frame().set_index(["strategy", "metric"]).loc[("all-at-once", "stuck")]

    assert (0, pytest.approx(never)) == (said["stuck"]["ci95_low"], said["stuck"]["ci95_high"])
    assert (pytest.approx(always), 1) == (said["success"]["ci95_low"], said["success"]["ci95_high"])
    assert [0, pytest.approx(never)] == compared["stuck"]["ci95"]
    assert (0, pytest.approx(never)) == (framed["ci95_low"], framed["ci95_high"])


def test_a_difference_to_what_has_no_bound_has_none_either():
    """Rounding is forgiven between finite values alone; two infinities are alike."""
    one, other = np.array([np.inf, 5.0, np.inf, 1.0]), np.array([3.0, 4.0, np.inf, 1.0 + 1e-12])

    assert [np.inf, 1.0, 0.0, 0.0] == statistics.paired(one, other).tolist()
    assert [-np.inf, -1.0, 0.0, 0.0] == statistics.paired(other, one).tolist()
