"""How much data would be lost: closed forms for the schedule, a timeline walked by hand for the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.stores import Backup, LogArchive, Standby, Store
from simdeploy.plan.exposure import Phases, recoverable_until
from simdeploy.plan.exposure import risk as risk_of
from simdeploy.plan.layout import Site
from simdeploy.plan.state import StoreEvent

HOUR = 3600.0
DAY = 24 * HOUR
AT_ZERO = Phases(0.0, 0.0)
MANY = 20_000


def backups(every_s, takes_s, consistent_at="start"):
    return Backup(kind="backup", every_s=every_s, takes_s=takes_s, consistent_at=consistent_at)


def archive(closes_every_s, ships_in_s):
    return LogArchive(kind="log_archive", closes_every_s=closes_every_s, ships_in_s=ships_in_s)


def standby(lag_s=0.0):
    return Standby(kind="standby", lag_s=lag_s)


def store(*copies):
    return Store(copies=copies)


def risk(copies, events, following, end_s, phases, makespan_s=None):
    """Of a store that the first *following* instances follow at the start, each on a machine of its own."""
    return risk_of(copies, events, Site(tuple(range(following)), range(9)), end_s, phases, makespan_s)


def standbys(at_s, following):
    return StoreEvent(at_s, "standbys", 0, who=range(following))


def point(at_s, dated_s):
    return StoreEvent(at_s, "point", 0, dated_s)


def failover(at_s, lost_at_s):
    return StoreEvent(at_s, "failover", 0, lost_at_s)


def restored(at_s, lost_at_s, copy=None, until_s=math.inf):
    return StoreEvent(at_s, "restored", 0, lost_at_s, until_s=until_s, copy=copy)


def exposures(copies, seed):
    """E at the plan's hour 30, over the luck of where the copies' schedules stand."""
    at_s, luck = 30 * HOUR, np.random.default_rng(seed)
    return np.array([at_s - recoverable_until(store(*copies), at_s, Phases(*phases)) for phases in luck.random((MANY, 2))])


@pytest.mark.parametrize(
    ("copy", "lowest", "width"),
    [
        (backups(DAY, 2 * HOUR), 2 * HOUR, DAY),  # a dump: U(d, d + T)
        (backups(DAY, 2 * HOUR, "end"), 0, DAY),  # a base backup is consistent where it ends: U(0, T)
        (backups(6 * HOUR, 30 * 60), 30 * 60, 6 * HOUR),
        (archive(300, 10), 10, 300),  # U(s, s + a)
        (archive(60, 0), 0, 60),
    ],
)
def test_at_a_random_moment_exposure_is_uniform_over_one_period_after_the_delay(copy, lowest, width):
    found = exposures([copy], seed=7)

    assert abs(found.mean() - (lowest + width / 2)) < 4 * width / 12**0.5 / MANY**0.5  # four standard errors
    assert scipy.stats.kstest(found, scipy.stats.uniform(lowest, width).cdf).pvalue > 1e-4
    assert lowest <= found.min() <= found.max() <= lowest + width * (1 + 1e-12)


def test_of_two_kinds_of_copies_the_fresher_counts():
    dump, segments = backups(1000, 100), archive(300, 10)
    phases = np.random.default_rng(3).random((500, 2))
    together = [recoverable_until(store(dump, segments), 5000, Phases(*p)) for p in phases]
    apart = [max(recoverable_until(store(c), 5000, Phases(*p)) for c in (dump, segments)) for p in phases]

    assert apart == together


def test_a_backup_counts_from_its_end_and_holds_its_start():
    dump = store(backups(1000, 100))

    assert 0 == recoverable_until(dump, 1099, AT_ZERO)
    assert 1000 == recoverable_until(dump, 1100, AT_ZERO)
    assert 1000 == recoverable_until(dump, 2099, AT_ZERO)


def test_a_backup_longer_than_its_period_still_counts():
    assert 3000 == recoverable_until(store(backups(1000, 2500)), 5500, AT_ZERO)  # those of 4000 and 5000 still run


def test_the_phase_shifts_the_schedule_by_its_share_of_the_period():
    assert 250 == recoverable_until(store(backups(1000, 100)), 1000, Phases(backup=0.25, archive=0.9))
    assert 90 == recoverable_until(store(archive(100, 5)), 100, Phases(backup=0.25, archive=0.9))


@pytest.mark.parametrize("copies", [(), (LogArchive(kind="log_archive", ships_in_s=10),), (standby(5),)])
def test_without_a_periodic_copy_nothing_bounds_the_exposure(copies):
    assert -math.inf == recoverable_until(store(*copies), 1e6, AT_ZERO)


class Timeline:
    """A store second by second, every copy listed one by one."""

    def __init__(self, every_s, takes_s, phase_s, lag_s, events, end_s):
        self.copies = [(start + takes_s, start) for start in range(phase_s - 3 * every_s, end_s + every_s, every_s)]
        """(usable from, holds what was there at)."""
        self.lag_s, self.events = lag_s, events

    def recoverable(self, t, under_plan):
        dated = [holds for usable, holds in self.copies if usable <= t]
        out_since = None
        for event in self.events if under_plan else ():
            if event.at_s <= t and event.kind == "point":
                dated.append(event.dated_s)
            elif event.at_s <= t and event.kind == "standbys":
                out_since = None if len(event.who) > 0 else event.at_s if out_since is None else out_since
        return max([*dated, (t if out_since is None else out_since) - self.lag_s])

    def added_exposure(self, end_s):
        grid = np.arange(0, end_s + 0.25, 0.5)
        return max(self.recoverable(t, under_plan=False) - self.recoverable(t, under_plan=True) for t in grid)


outages = st.lists(st.integers(1, 399), min_size=1, max_size=5, unique=True).map(sorted)
points = st.lists(st.tuples(st.integers(1, 399), st.integers(0, 50)), max_size=3)


@settings(deadline=None)
@given(
    every_s=st.integers(20, 300),
    takes_s=st.integers(0, 60),
    phase=st.floats(0, 1, exclude_max=True),
    lag_s=st.integers(0, 30),
    outages=outages,
    points=points,
)
def test_added_exposure_is_that_of_the_store_walked_second_by_second(every_s, takes_s, phase, lag_s, outages, points):
    phase_s = math.floor(phase * every_s)
    changes = [standbys(at_s, k % 2) for k, at_s in enumerate(outages)]  # out, back, out, ...
    events = sorted([*changes, *(point(at_s, max(0, at_s - took_s)) for at_s, took_s in points)], key=lambda e: e.at_s)
    found = risk(store(backups(every_s, takes_s), standby(lag_s)), events, 1, 400, Phases(phase_s / every_s, 0.0))

    # exposure rises by a second a second, and a step of the grid lies up to half a second before the jump
    assert found.added_exposure_s == pytest.approx(Timeline(every_s, takes_s, phase_s, lag_s, events, 400).added_exposure(400), abs=0.501)


def test_a_standby_that_is_out_for_100_s_adds_100_s_of_exposure():
    found = risk(store(backups(DAY, HOUR), standby(5)), [standbys(50, 0), standbys(150, 1)], 1, 1000, Phases(0.5, 0.0))

    assert 100 == found.added_exposure_s
    assert (0, []) == (found.data_loss_s, found.losses)


def test_a_standby_that_stays_out_adds_exposure_up_to_the_horizon():
    assert 950 == risk(store(backups(DAY, HOUR), standby(5)), [standbys(50, 0)], 1, 1000, Phases(0.5, 0.0)).added_exposure_s


def test_while_another_standby_follows_nothing_is_added():
    assert 0 == risk(store(backups(DAY, HOUR), standby(5)), [standbys(50, 1), standbys(150, 2)], 2, 1000, AT_ZERO).added_exposure_s


def test_archived_segments_bound_what_a_missing_standby_adds():
    # segments close every 60 s and are away 10 s later: at worst R is 70 s behind; the standby would be 5 s behind
    found = risk(store(archive(60, 10), standby(5)), [standbys(500, 0)], 1, 10_000, AT_ZERO)

    assert 65 == found.added_exposure_s


def test_a_recovery_point_lowers_the_added_exposure():
    copies = store(backups(DAY, HOUR), standby(5))
    without = risk(copies, [standbys(50, 0), standbys(550, 1)], 1, 1000, Phases(0.5, 0.0))
    halfway = risk(copies, [standbys(50, 0), point(300, 250), standbys(550, 1)], 1, 1000, Phases(0.5, 0.0))

    assert 500 == without.added_exposure_s
    assert 295 == halfway.added_exposure_s  # at the end 545 - 250; just before the point only 295 - 45 = 250


def test_a_point_made_before_the_standby_leaves_does_not_help_after_it():
    copies = store(backups(DAY, HOUR), standby(5))

    assert 500 == risk(copies, [point(40, 20), standbys(50, 0), standbys(550, 1)], 1, 1000, Phases(0.5, 0.0)).added_exposure_s


def test_a_standby_that_was_out_before_the_plan_is_not_the_plan_s_to_answer_for():
    assert 0 == risk(store(backups(1000, 100), standby(5)), [], 0, 5000, AT_ZERO).added_exposure_s


def test_a_store_without_a_standby_loses_none_by_a_plan():
    assert 0 == risk(store(backups(1000, 100)), [], 0, 5000, AT_ZERO).added_exposure_s


@pytest.mark.parametrize(("lag_s", "loss"), [(0, 0), (8, 8)])
def test_an_asynchronous_failover_loses_the_lag_and_a_synchronous_one_nothing(lag_s, loss):
    found = risk(store(standby(lag_s)), [failover(530, 500)], 1, 1000, AT_ZERO)

    assert (loss, [(500 - lag_s, 500)]) == (found.data_loss_s, found.losses)


def test_a_restore_loses_what_was_written_since_the_last_backup():
    found = risk(store(backups(1000, 100)), [restored(2600, 1500)], 0, 5000, AT_ZERO)

    assert (500, [(1000, 1500)]) == (found.data_loss_s, found.losses)  # the backup of 1000, finished at 1100


def test_a_backup_that_runs_when_the_store_is_lost_is_of_no_use():
    assert 1050 == risk(store(backups(1000, 100)), [restored(3000, 1050)], 0, 5000, AT_ZERO).data_loss_s


def test_a_plan_s_own_recovery_point_saves_what_was_written_before_it():
    assert 80 == risk(store(backups(1000, 100)), [point(1450, 1420), restored(2600, 1500)], 0, 5000, AT_ZERO).data_loss_s


def test_a_recovery_point_made_after_the_loss_saves_nothing():
    assert 500 == risk(store(backups(1000, 100)), [point(1550, 1490), restored(2600, 1500)], 0, 5000, AT_ZERO).data_loss_s


def test_a_restore_without_any_copy_loses_everything():
    assert math.inf == risk(store(), [restored(2600, 1500)], 0, 5000, AT_ZERO).data_loss_s


def test_over_a_random_phase_a_restore_loses_on_average_half_a_period_and_one_backup():
    copies, phases = store(backups(1000, 100)), np.random.default_rng(5).random(MANY)
    losses = [risk(copies, [restored(9000, 7000)], 0, 9000, Phases(u, 0)).data_loss_s for u in phases]

    assert abs(np.mean(losses) - 600) < 4 * 1000 / 12**0.5 / MANY**0.5  # four standard errors


def test_a_standby_that_is_back_before_the_restore_saves_what_it_had_when_it_was_taken():
    found = risk(store(backups(1000, 100), standby(5)), [standbys(1400, 0), standbys(1550, 1), restored(1600, 1500)], 1, 2000, AT_ZERO)

    assert 105 == found.data_loss_s  # R = 1400 - 5


def test_a_standby_that_is_still_out_at_the_restore_saves_the_same():
    found = risk(store(backups(1000, 100), standby(5)), [standbys(1400, 0), restored(1600, 1500)], 1, 2000, AT_ZERO)

    assert 105 == found.data_loss_s


@settings(max_examples=60)
@given(
    phase=st.floats(0, 0.999),
    every=st.sampled_from([300.0, 1000.0]),
    out=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    made=st.integers(10, 2900),
    lag=st.sampled_from([None, 5.0]),
)
def test_the_largest_exposure_is_that_of_a_fine_grid(phase, every, out, made, lag):
    copies = store(backups(every, 100), *([standby(lag)] if lag is not None else []))
    gone, back = out[0], out[0] + out[1]
    events = [point(made, made - 10.0)] + ([standbys(gone, 0), standbys(back, 1)] if lag is not None else [])
    found = risk(copies, sorted(events, key=lambda e: e.at_s), int(lag is not None), 3000.0, Phases(phase, 0))

    def exposure(t):
        latest = [recoverable_until(copies, t, Phases(phase, 0))] + [made - 10.0] * int(t > made)
        if lag is not None:
            latest.append((t if t <= gone or t > back else gone) - lag)
        return t - max(latest)

    grid = max(exposure(t) for t in np.linspace(0.01, 3000, 30_000))

    assert grid - 1e-9 <= found.exposure_max_s <= grid + 0.2  # the grid is 0.1 s wide


def test_a_store_without_copies_has_no_bound_on_its_exposure():
    assert math.inf == risk(store(), [], 0, 100.0, AT_ZERO).exposure_max_s


def test_a_standby_that_lags_behind_the_archive_does_not_hide_the_archives_exposure():
    """Segments every 300 s, away 10 s later: 310 s just before one arrives, whatever a standby an hour behind has."""
    copies = Store.model_validate(
        {"copies": [{"kind": "standby", "lag": 3600.0}, {"kind": "log_archive", "closes_every": 300.0, "ships_in": 10.0}]}
    )

    assert 310 == pytest.approx(risk(copies, [], 1, 3600.0, AT_ZERO).exposure_max_s)


def rewound(at_s, began_s, until_s):
    return restored(at_s, began_s, until_s=until_s)


@pytest.mark.parametrize(
    ("copies", "lost_s"),
    [
        # closed at 3,300 and away at 3,310: replayed up to 3,000
        ([archive(300.0, 10.0)], 600.0),
        # the nightly dump of -20,000; that of 3,200 holds what is not wanted
        ([backups(23_200.0, 100.0)], 23_600.0),
        # consistent at its end, 3,300: of no use either
        ([backups(23_200.0, 100.0, "end")], 23_500.0),
        ([backups(23_200.0, 100.0), standby()], 23_600.0),
        ([backups(23_200.0, 100.0), archive(300.0, 10.0)], 600.0),
    ],
)
def test_what_is_rewound_loses_all_since_then_and_more_where_no_copy_reaches_that_far(copies, lost_s):
    """Rewound from 3,600 s to 3,000 s; a dump of 23,200 s starts at 3,200 s, its predecessor at -20,000 s."""
    phases = Phases(3200 / 23_200, 0.0)

    found = risk(store(*copies), [rewound(6000.0, 3600.0, 3000.0)], sum(c.kind == "standby" for c in copies), 7000.0, phases)

    assert found.data_loss_s == pytest.approx(lost_s)
    assert 3600 == found.losses[0][1]


def daily(hour, every_s=DAY, takes_s=0.0):
    """A backup that begins at this hour of the day."""
    return Backup(kind="backup", every=every_s, takes=takes_s, begins_at=hour * HOUR)


@pytest.mark.parametrize(
    ("begins", "starts", "every_s", "age_s"),
    [
        (17 + 1 / 3, 23.5, DAY, 6 * HOUR + 600),  # 17:20 seen from 23:30
        (1, 23.5, DAY, 22.5 * HOUR),
        (23.5, 23.5, DAY, 0),
        (0, 23.5, HOUR, 1800),  # each full hour
        (2, 1, DAY, 23 * HOUR),  # that of yesterday
        (2, 1, 7 * DAY, 7 * DAY - HOUR),  # once a week, today
    ],
)
def test_a_backup_that_says_when_it_begins_is_as_old_as_the_clock_says(begins, starts, every_s, age_s):
    phases = Phases(0.123, 0.9, starts * HOUR)

    assert pytest.approx(-age_s) == recoverable_until(store(daily(begins, every_s)), 0, phases)


def test_backups_that_begin_at_different_times_have_phases_of_their_own():
    nightly, by_hand, by_chance = daily(1), daily(17), backups(DAY, 0)
    phases = Phases(0.5, 0.0, 23 * HOUR)  # at random: noon of the plan's clock, 11:00 of the day

    ages_h = [-recoverable_until(store(*copies), 0, phases) / HOUR for copies in ([nightly], [by_hand], [by_chance])]
    both = -recoverable_until(store(nightly, by_hand, by_chance), 0, phases) / HOUR

    assert pytest.approx([22, 6, 12]) == ages_h
    assert pytest.approx(6) == both


def test_exposure_grows_until_the_backup_of_the_day_is_done():
    phases = Phases(0.5, 0.0, 22 * HOUR)  # the next one begins 3 h after the start, and takes one

    found = risk(store(daily(1, takes_s=HOUR)), [], 0, 10 * HOUR, phases)

    assert pytest.approx(25 * HOUR) == found.exposure_max_s  # just before it is done the one of the day before counts
