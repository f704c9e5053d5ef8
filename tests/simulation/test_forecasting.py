"""Forecasts of steps: when each begins, how long it lasts, what is left meanwhile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import fixed
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.steps import Judge, Step
from simdeploy.simulation import statistics
from simdeploy.simulation.forecasting import expected, forecast
from simdeploy.simulation.outcome import simulate, simulate_all, trace
from simdeploy.simulation.steptimes import _lowest
from tests.builders import farm, lane, random_plans

TWO_BOXES = Plan(
    environment=farm(2, 100.0, 150.0),
    steps=(
        *lane("web@w0", out_s=60.0),
        Step(id="code/judge", kind="judge", after=("code/web@w0/start",), judge=Judge(watch=("code/web@w0/start",), size=1)),
        *lane("web@w1", out_s=40.0, after=("code/judge",)),
        Step(id="back", section="rollback", duration=fixed(5.0)),
    ),
    goals=("max(makespan_s) <= 100 s", "p99(makespan_s) <= 100 s"),
)


def test_a_chain_of_two_lanes_by_hand():
    found = forecast(TWO_BOXES, replications=72)

    first, give_back, judge, second, back = (
        found.steps[s] for s in ("code/web@w0/install", "code/web@w0/start", "code/judge", "code/web@w1/install", "back")
    )
    assert (1, 0, 60, 100) == (first.began, first.begins_s.p95, first.lasts_s.p95, first.capacity_per_s)
    assert first.lasts_s.p99 is None  # takes 368 replications
    assert (60, 0, None) == (give_back.begins_s.mean, give_back.lasts_s.mean, give_back.capacity_per_s)
    assert (1, 60, 0, None) == (judge.began, judge.begins_s.mean, judge.lasts_s.mean, judge.capacity_per_s)
    assert (60, 40, 100) == (second.begins_s.p50, second.lasts_s.p50, second.capacity_per_s)
    assert (0, None, None, None) == (back.began, back.begins_s.mean, back.lasts_s.p50, back.capacity_per_s)
    assert (100, 100 * 50) == (found.metrics["makespan_s"].mean, found.metrics["failed_requests"].p95)
    assert {"max(makespan_s) <= 100 s": True, "p99(makespan_s) <= 100 s": None} == found.goals
    assert (TWO_BOXES.digest, 72, 0) == (found.plan_sha256, found.replications, found.seed)


def test_a_step_that_never_ends_has_no_mean_and_waits_for_ever():
    plan = TWO_BOXES.model_copy(update={"crashes": (Crash(machine="w0", at_s=30.0),)})
    found = forecast(plan, replications=72).steps["code/web@w0/install"]

    assert (1, 0, None, None) == (found.began, found.begins_s.mean, found.lasts_s.mean, found.lasts_s.p95)


@settings(max_examples=30)
@given(plan=random_plans())
def test_the_times_are_those_of_the_traces_and_the_capacity_is_the_lowest_of_the_course(plan):
    outcome = simulate_all({"": plan}, 6, jobs=1, follow_steps=True)[""]
    lowest = [math.nan] * len(plan.steps)
    for r, path in enumerate(outcome.paths):
        begins, ends = {}, {}
        for record in trace(plan, 0, r):
            if record.kind == "began":
                begins[record.subject] = record.at_s
            elif record.kind == "ended":
                ends[record.subject] = record.at_s
                if record.subject not in begins and record.value in ("succeeded", "failed"):
                    begins[record.subject] = record.at_s
        for i, step in enumerate(plan.steps):
            begun, ended = begins.get(step.id, math.nan), ends.get(step.id, math.inf)
            assert (begun,) == pytest.approx((outcome.steps.begins_s[r, i],), abs=0, nan_ok=True)
            assert (ended - begun,) == pytest.approx((outcome.steps.lasts_s[r, i],), abs=0, nan_ok=True)
            for start, stop, capacity in zip(path.times, [*path.times[1:], math.inf], path.capacity, strict=True):
                if step.id in begins and max(start, begun) < min(stop, ended):
                    lowest[i] = np.fmin(lowest[i], capacity)
    assert np.array_equal(lowest, outcome.steps.capacity_per_s, equal_nan=True)


@given(st.lists(st.lists(st.sampled_from([math.nan, 1.0, 2.0, 5.0, math.inf]), min_size=3, max_size=3), min_size=1, max_size=90))
def test_the_quantiles_of_columns_are_those_of_what_each_holds(rows):
    values = np.array(rows)
    for column, found in zip(values.T, expected(values), strict=True):
        held = column[~np.isnan(column)]
        quantiles = [statistics.quantile(held, p) if len(held) else None for p in (0.5, 0.95, 0.99)]
        assert [None if q is None or math.isinf(q) else q for q in quantiles] == [found.p50, found.p95, found.p99]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_the_lowest_of_a_range_is_the_least_of_its_slice(values, data):
    pairs = data.draw(st.lists(st.tuples(*2 * [st.integers(0, len(values) - 1)]).map(sorted), min_size=1, max_size=8))
    first, last = np.array(pairs).T

    assert [min(values[a : b + 1]) for a, b in pairs] == list(_lowest(np.array(values, dtype=float), first, last))


def test_the_metrics_are_those_of_the_outcome_and_no_number_depends_on_being_followed():
    one, other = simulate(TWO_BOXES, 10, jobs=1), simulate_all({"": TWO_BOXES}, 10, jobs=1, follow_steps=True)[""]

    assert one.steps is None
    assert all(np.array_equal(one.values[name], other.values[name], equal_nan=True) for name in one.values)


@pytest.mark.slow
def test_the_number_of_workers_changes_no_forecast():
    assert forecast(TWO_BOXES, 100, jobs=1) == forecast(TWO_BOXES, 100, jobs=2)
