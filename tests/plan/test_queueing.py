"""Excess demand that waits, against a queue of cells on a fine grid."""

from __future__ import annotations

import math
import signal
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.plan.queueing import Waiting, flow

GRID_S = 0.05


def on_a_grid(segments, patience_s):
    """(served, left, queued) of a queue of cells: each tick one arrives, the oldest are served, the impatient leave."""
    cells: deque[list[float]] = deque()  # [tick of arrival, requests]
    tick, served, left = 0, 0.0, 0.0
    for duration_s, inflow, capacity in segments:
        for _ in range(round(duration_s / GRID_S)):
            cells.append([tick, inflow * GRID_S])
            tick, room = tick + 1, capacity * GRID_S
            while cells and room > 0:
                taken = min(room, cells[0][1])
                served, room = served + taken, room - taken
                cells[0][1] -= taken
                if cells[0][1] == 0:
                    cells.popleft()
            while cells and (tick - cells[0][0]) * GRID_S >= patience_s:
                left += cells.popleft()[1]
    return served, left, sum(requests for _, requests in cells)


def in_time(segments, patience_s):
    """`flow`, or an AssertionError where it has found no end after half a second."""

    def give_up(*_):
        raise AssertionError(f"flow({segments}, {patience_s}) finds no end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        return flow(segments, patience_s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def offered(segments):
    return sum(duration_s * inflow for duration_s, inflow, _ in segments)


# rates whose quotients have exact halves, so that no rounding hides behind the band
even_rates = st.sampled_from([0.0, 4.0, 8.0])
even_segments = st.lists(st.tuples(st.integers(0, 20), even_rates, even_rates), max_size=8)
rates = st.sampled_from([0.0, 1.0, 3.0, 7.7, 10.0]) | st.floats(0.01, 20)
patiences = st.sampled_from([0.0, 0.1, 1.0, 3.0]) | st.floats(0.01, 30)


def test_nobody_waits_while_capacity_meets_demand():
    assert Waiting(served=300, left=0, queued=0) == flow([(10, 10, 10), (20, 10, 15)], patience_s=60)


def test_what_waited_is_served_when_capacity_returns():
    # 10 s without a server: 20 wait; then 4 - 2 = 2 req/s of spare capacity serve them within 10 s
    assert Waiting(served=60, left=0, queued=0) == flow([(10, 2, 0), (20, 2, 4)], patience_s=60)


def test_what_still_waits_at_the_end_is_counted_as_queued():
    assert Waiting(served=0, left=0, queued=20) == flow([(10, 2, 0)], patience_s=60)


def test_without_a_server_all_but_the_last_patience_s_worth_leaves():
    # after 10 s those of the last 3 s are still there
    assert Waiting(served=0, left=14, queued=6) == flow([(10, 2, 0)], patience_s=3)


def test_at_half_the_capacity_the_wait_reaches_patience_and_then_the_excess_leaves():
    # the head's wait grows by half a second a second: patience 5 s is reached after 10 s, when 10 wait;
    # from then on 1 of 2 req/s is served and 1 leaves
    assert Waiting(served=20, left=10, queued=10) == flow([(20, 2, 1)], patience_s=5)


def test_the_first_to_come_is_the_first_to_be_served():
    # 8 of the first 4 s wait; then 1 req/s comes and 2 are served: first the 8, in 4 s, then the newcomers' 4 in 4 s
    assert Waiting(served=16, left=0, queued=0) == flow([(4, 2, 0), (8, 1, 2)], patience_s=60)


def test_no_segments_leave_nothing():
    assert Waiting(0, 0, 0) == flow([], patience_s=5)


def test_infinite_patience_leaves_nobody():
    assert Waiting(served=30, left=0, queued=70) == flow([(10, 10, 3)], patience_s=math.inf)


@settings(deadline=None)
@given(even_segments)
def test_infinite_patience_leaves_nobody_ever(segments):
    assert 0 == flow(segments, math.inf).left


@settings(deadline=None)
@given(even_segments)
def test_without_patience_excess_is_lost_as_if_there_were_no_queue(segments):
    served = sum(duration_s * min(inflow, capacity) for duration_s, inflow, capacity in segments)

    assert Waiting(served, offered(segments) - served, 0) == pytest.approx(flow(segments, 0))


@settings(deadline=None)
@given(even_segments, st.sampled_from([0.0, 0.5, 2.0, 5.0, 8.0, math.inf]))
def test_a_queue_of_cells_on_a_fine_grid_gives_the_same(segments, patience_s):
    band = 2 * GRID_S * 8 * (1 + len(segments))  # each change of a rate may cost two cells of the largest rate

    assert on_a_grid(segments, patience_s) == pytest.approx(flow(segments, patience_s), abs=band)


@settings(deadline=None)
@given(even_segments, st.sampled_from([0.0, 0.5, 2.0, 5.0, 8.0, math.inf]))
def test_served_left_and_queued_are_what_was_offered(segments, patience_s):
    assert offered(segments) == pytest.approx(sum(flow(segments, patience_s)))


@settings(deadline=None)
@given(even_segments, st.sampled_from([0.5, 2.0, 5.0]))
def test_cutting_a_segment_in_two_changes_nothing(segments, patience_s):
    halves = [(duration_s / 2, inflow, capacity) for duration_s, inflow, capacity in segments for _ in (1, 2)]

    assert flow(segments, patience_s) == pytest.approx(flow(halves, patience_s))


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        # 0.5 wait when the rate falls: 0.3 of them are served in the next 0.1 s, and 0.2 leave like 9.5 before
        ([(5, 5, 3), (25, 2, 3)], Waiting(served=65.3, left=9.7, queued=0)),
        # the last 0.1 of 28 wait and are served; then 2 req/s leave for 2.9 s, and 0.1 s of 3 req/s wait
        ([(28, 1, 0), (3, 3, 1)], Waiting(served=3, left=33.7, queued=0.3)),
        # what came in the last 0.1 s
        ([(22, 7, 0), (30, 7, 0)], Waiting(served=0, left=363.3, queued=0.7)),
    ],
)
def test_a_patience_that_has_no_exact_binary_form_loses_no_request(segments, expected):
    assert expected == pytest.approx(in_time(segments, patience_s=0.1))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 30), rates, rates), max_size=8), patiences)
def test_served_left_and_queued_are_what_was_offered_for_any_numbers(segments, patience_s):
    found = in_time(segments, patience_s)

    assert offered(segments) == pytest.approx(sum(found), rel=1e-6, abs=1e-6)
    assert min(found) >= -1e-6
    assert found.queued <= patience_s * max((inflow for _, inflow, _ in segments), default=0) + 1e-6


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), rates, rates), max_size=8), patiences)
def test_a_queue_of_cells_on_a_fine_grid_gives_the_same_for_any_rates(segments, patience_s):
    band = 2 * GRID_S * 20 * (1 + len(segments))

    assert on_a_grid(segments, patience_s) == pytest.approx(in_time(segments, patience_s), abs=band)


def test_a_server_without_a_limit_empties_the_queue_at_once():
    assert Waiting(served=30, left=0, queued=0) == flow([(10, 2, 0), (10, 1, math.inf)], patience_s=60)
