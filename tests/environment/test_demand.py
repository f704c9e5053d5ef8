"""What users want over time: constant, in steps, or a daily curve that repeats."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simdeploy.environment.demand import Demand

HOUR = 3600
DAY = 24 * HOUR
IN_A_FILE = {"units_required": True}


def read(**document):
    """A demand as a file writes it."""
    return Demand.model_validate(document, context=IN_A_FILE, by_alias=True, by_name=False)


def rate_at(levels, t):
    """The rate that holds at *t*: that of the last level that has begun."""
    return [rate for at, rate in levels if at <= t][-1]


OFFICE = read(daily=[{"at": "08:00", "rate": "100 req/s"}, {"at": "18:00", "rate": "20 req/s"}])
"""100 req/s from eight to six, 20 req/s otherwise."""


def test_a_constant_demand_is_one_level():
    demand = read(rate="130 req/s")

    assert [(0, 130)] == demand.levels(1e9)
    assert 130 == demand.peak_per_s


def test_steps_are_given_as_they_are_written_up_to_the_end():
    demand = read(steps=[{"at": "0 s", "rate": "10 req/s"}, {"at": "1 min", "rate": "30 req/s"}, {"at": "2 min", "rate": "0 req/s"}])

    assert [(0, 10), (60, 30), (120, 0)] == demand.levels(1000)
    assert [(0, 10), (60, 30)] == demand.levels(119)
    assert 30 == demand.peak_per_s


def test_steps_count_from_the_plan_s_start_whatever_the_time_of_day():
    demand = read(steps=[{"at": "0 s", "rate": "10 req/s"}, {"at": "1 min", "rate": "30 req/s"}])

    assert demand.levels(1000) == demand.levels(1000, starts_at_s=5 * HOUR)


def test_a_daily_curve_repeats_every_day():
    assert [
        (0, 20),
        (8 * HOUR, 100),
        (18 * HOUR, 20),
        (32 * HOUR, 100),
        (42 * HOUR, 20),
        (56 * HOUR, 100),
    ] == OFFICE.levels(60 * HOUR)


def test_a_daily_curve_begins_at_the_plan_s_time_of_day():
    at_noon = OFFICE.levels(24 * HOUR, starts_at_s=12 * HOUR)

    assert [(0, 100), (6 * HOUR, 20), (20 * HOUR, 100)] == at_noon


def test_before_its_first_level_a_daily_curve_has_yesterday_s_last_rate():
    assert 20 == OFFICE.levels(0, starts_at_s=7 * HOUR)[0][1]


def test_a_plan_that_starts_at_a_change_has_the_new_rate_at_once_and_no_level_twice():
    assert [(0, 100), (10 * HOUR, 20)] == OFFICE.levels(12 * HOUR, starts_at_s=8 * HOUR)


def test_the_peak_of_a_daily_curve_is_its_highest_level():
    assert 100 == OFFICE.peak_per_s


minutes = st.integers(0, 24 * 60 - 1)
curves = st.dictionaries(minutes, st.integers(0, 50), min_size=1, max_size=6)


@settings(deadline=None)
@given(curves, minutes, st.lists(st.integers(0, 5 * 24 * 60), min_size=1, max_size=20))
def test_at_every_minute_the_rate_is_that_of_the_clock_on_the_wall(curve, starts_at_min, asked_min):
    demand = Demand(daily=[{"at_s": m * 60, "rate_per_s": curve[m]} for m in sorted(curve)])
    levels = demand.levels(5 * DAY, starts_at_s=starts_at_min * 60)

    for asked in asked_min:
        clock = (starts_at_min + asked) % (24 * 60)
        begun = [m for m in curve if m <= clock] or list(curve)  # else the last one of yesterday
        assert curve[max(begun)] == rate_at(levels, asked * 60)


@settings(deadline=None)
@given(curves, minutes)
def test_levels_begin_at_zero_rise_and_stop_at_the_end(curve, starts_at_min):
    demand = Demand(daily=[{"at_s": m * 60, "rate_per_s": curve[m]} for m in sorted(curve)])
    times = [at for at, _ in demand.levels(2 * DAY, starts_at_s=starts_at_min * 60)]

    assert 0 == times[0]
    assert sorted(set(times)) == times
    assert times[-1] <= 2 * DAY


def test_excess_may_wait_in_a_queue_with_patience():
    demand = read(rate="10 req/s", excess="queue", patience="8 s")

    assert ("queue", 8) == (demand.excess, demand.patience_s)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "exactly one of rate, steps, daily, csv; here: none"),
        ({"steps": []}, "exactly one of rate, steps, daily, csv; here: none"),
        ({"rate": "1 req/s", "daily": [{"at": "08:00", "rate": "1 req/s"}]}, "here: rate and daily"),
        ({"rate": 1}, "1 has no unit; write for example '1 req/s'"),
        ({"rate": "1 s"}, "unknown unit 's'"),
        ({"rate": "-1 req/s"}, "not negative"),
        ({"rate_per_s": "1 req/s"}, "rate_per_s"),
        ({"steps": [{"at": "1 s", "rate": "1 req/s"}]}, "steps: the times must rise from 0 s"),
        ({"steps": [{"at": "0 s", "rate": "1 req/s"}, {"at": "0 s", "rate": "2 req/s"}]}, "steps: the times must rise"),
        ({"daily": [{"at": "09:00", "rate": "1 req/s"}, {"at": "08:00", "rate": "2 req/s"}]}, "daily: the times must rise"),
        ({"daily": [{"at": "24:00", "rate": "1 req/s"}]}, "'24:00' is no time of day; write for example '22:30'"),
        ({"daily": [{"at": "8 h", "rate": "1 req/s"}]}, "no time of day"),
        ({"rate": "1 req/s", "excess": "queue"}, "excess: queue and patience go together"),
        ({"rate": "1 req/s", "patience": "1 s"}, "excess: queue and patience go together"),
        ({"rate": "1 req/s", "excess": "dropped"}, "'lost' or 'queue'"),
    ],
)
def test_what_is_no_demand_is_refused_with_the_reason(document, says):
    with pytest.raises(ValidationError) as caught:
        read(**document)

    assert says in str(caught.value)


def test_a_time_of_day_in_a_file_is_no_bare_number():
    with pytest.raises(ValidationError):
        read(daily=[{"at": 7200, "rate": "1 req/s"}])
