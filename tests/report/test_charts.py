"""Where things stand on a chart, by hand and by the laws of axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeploy.report.charts import ZERO, area, histogram, line, linear_axis, time_axis, value_axis


def test_an_axis_of_time_has_round_marks_in_one_unit():
    assert [(0.0, "0"), (0.4, "10 min"), (0.8, "20 min")] == [(t.share, t.label) for t in time_axis(1500, 4).ticks]
    assert ["0", "6 h", "12 h", "18 h", "24 h"] == [t.label for t in time_axis(86400).ticks]
    assert ["0", "20 s", "40 s", "60 s", "80 s", "100 s"] == [t.label for t in time_axis(100, 6).ticks]


def test_a_logarithmic_axis_gives_each_decade_the_same_room_and_zero_a_place_of_its_own():
    axis = value_axis(np.array([0.0, 10.0, 100_000.0]), "failed_requests")
    decades = np.diff(axis.shares([10, 100, 1000, 10_000, 100_000]))

    assert axis.is_log and 0.0 == axis.share(0)
    assert np.allclose(decades, decades[0]) and ZERO < axis.share(10) < axis.share(100_000) < 1.0
    assert ["0", "100", "1,000", "10,000", "100,000"] == [t.label for t in axis.ticks if t.label != "10"]


def test_values_below_two_decades_stand_on_a_linear_axis_from_zero():
    axis = value_axis(np.array([20.0, 80.0, np.nan, np.inf]), "failed_requests")

    assert not axis.is_log and pytest.approx(axis.share(80)) == 4 * axis.share(20)


@given(
    st.lists(st.just(0.0) | st.floats(1e-6, 1e9), min_size=1, max_size=20),
    st.sampled_from(["failed_requests", "makespan_s", "availability"]),
)
def test_whatever_the_values_all_of_them_and_all_marks_are_on_the_axis_in_order(values, metric):
    axis = value_axis(np.array(values), metric)
    shares = axis.shares(sorted(values))
    ticks = [t.share for t in axis.ticks]

    assert ((shares >= 0) & (shares <= 1)).all() and (np.diff(shares) >= -1e-12).all()
    assert 1 <= len(ticks) <= 7 and ticks == sorted(ticks) and 0 <= ticks[0] and ticks[-1] <= 1 + 1e-9
    assert len({t.label for t in axis.ticks}) == len(ticks)


def test_a_staircase_goes_along_and_then_up_or_down_and_to_the_right_edge():
    x, y = np.array([0.0, 0.2, 0.5, 0.7]), np.array([1.0, 0.5, 0.5, 0.75])

    assert "M0 0H200V500H700V250H1000" == line(x, y)


def test_an_area_goes_along_its_upper_edge_and_back_along_its_lower_one():
    x = np.array([0.0, 0.5])

    assert "M0 0H1000V1000H500V500H0Z" == area(x, np.array([0.5, 0.0]), np.array([1.0, 1.0]))


def test_the_bars_of_a_histogram_are_the_counts_over_the_largest_one():
    values = np.array([1.0, 1.5, 1.5, 3.5, np.nan, np.inf])

    assert "M0 1000H250V0H500V1000H750V667H1000V1000H0Z" == histogram(values, linear_axis(4.0, "failed_requests"), bins=4)
