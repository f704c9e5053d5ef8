"""Courses over time against a pencil, a law of uniform exposure, and the metrics of the same runs."""

from __future__ import annotations

import numpy as np
import pytest

from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.starter import write_starter
from simdeploy.simulation.outcome import Outcome, simulate
from simdeploy.study.courses import KEPT_PATHS, band, courses, held_at, moments


def outcome_of(scenario: str, strategy: str, replications: int) -> Outcome:
    return simulate(build_plan(load_scenario(scenario), strategy), replications, seed=3)


def test_what_holds_from_a_time_on_holds_at_that_time():
    assert [5, 5, 7, 7] == held_at(np.array([0.0, 2.0]), np.array([5.0, 7.0]), np.array([0.0, 1.9, 2.0, 9.0])).tolist()


def test_a_band_is_made_of_order_statistics():
    values = np.random.default_rng(1).permutation(np.arange(1.0, 21.0))[:, np.newaxis]

    assert [1, 10, 19] == [float(b[0]) for b in band(values)]


def test_without_luck_the_course_is_the_one_that_a_pencil_gives(tmp_path):
    # stop 10 s + install 120 s + start 20 s without any middle box, of 130 req/s; then 2 x 200 / 1.5 = 266.7, and the store's 500 / 3
    *_, path = write_starter(tmp_path)
    outcome = outcome_of(str(path), "all-at-once", 4)
    at_s = moments([outcome])
    told = courses(outcome, at_s)

    assert 150.0 in at_s
    assert np.allclose(told.capacity.middle, np.where(at_s < 150, 0.0, 500 / 3))
    assert all(np.array_equal(b, told.capacity.middle) for b in told.capacity)
    assert (told.demand.middle == 130).all() and told.exposure_s is None


def test_the_exposure_of_an_archive_is_uniform_between_its_shipping_and_one_segment_more():
    # closes every 5 min and ships within 10 s: U(10 s, 310 s) at any moment. 4 sd of a quantile of 200 runs: 0.5 needs 42 s, 0.05 18 s
    outcome = outcome_of("scenarios/canonical/upgrade.yaml", "drain-expand-parallel", KEPT_PATHS)
    exposure = courses(outcome, np.linspace(0, 600, 7)).exposure_s

    assert exposure is not None
    assert np.abs(exposure.middle - 160).max() < 43
    assert np.abs(exposure.low - 25).max() < 19 and np.abs(exposure.high - 295).max() < 19
    assert exposure.high.max() <= outcome.values["exposure_max_s"].max() < 310.001


@pytest.mark.parametrize("strategy", ["all-at-once", "drain-expand", "stop-expand"])
def test_the_areas_below_the_courses_are_the_metrics_of_the_same_runs(strategy):
    outcome = outcome_of("scenarios/canonical/upgrade.yaml", strategy, 40)
    end_s = float(outcome.values["makespan_s"].max())
    at_s = np.linspace(0, end_s, 4001)
    told = courses(outcome, at_s)

    area_s = float(told.at_risk.mean() * end_s)
    tolerance_s = 10 * end_s / 4000  # each change of a run is seen one step too late at the most
    assert pytest.approx(outcome.values["single_fault_s"].mean(), abs=tolerance_s) == area_s
    assert told.capacity.low.min() >= outcome.values["capacity_min"].min()


def test_the_moments_begin_at_0_and_show_nearly_all_runs_to_their_end():
    outcomes = [outcome_of("scenarios/canonical/upgrade.yaml", s, 40) for s in ("all-at-once", "drain-expand")]
    at_s = moments(outcomes)

    assert at_s[0] == 0 and (np.diff(at_s) > 0).all()
    assert all(np.mean(o.values["makespan_s"] < at_s[-1]) >= 0.95 for o in outcomes)
