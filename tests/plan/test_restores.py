"""Restores: which copy, whose fate it shares, what a corruption spoils, what follows a restore; each rule by hand, then by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.stores import Backup, LogArchive, Standby, Store
from simdeploy.plan.exposure import History, Phases, risk
from simdeploy.plan.layout import Site
from simdeploy.plan.state import StoreEvent

AT_ZERO = Phases(0.0, 0.0)
MANY = 20_000
KEPT_ON = {"backup": 7, "log_archive": 8}
"""Machines: standbys 0, 1, ... are on 0, 1, ...; backups on 7 and archives on 8 where they are not out of reach."""


def backups(every_s=1000.0, takes_s=100.0, **more):
    return Backup(kind="backup", every_s=every_s, takes_s=takes_s, **more)


def archive(closes_every_s=300.0, ships_in_s=10.0):
    return LogArchive(kind="log_archive", closes_every_s=closes_every_s, ships_in_s=ships_in_s)


def standby(lag_s=5.0, delay_s=0.0):
    return Standby(kind="standby", lag_s=lag_s, delay_s=delay_s)


def standbys(at_s, *who):
    return StoreEvent(at_s, "standbys", 0, who=who)


def dead(at_s, *who):
    return StoreEvent(at_s, "machines", 0, who=who)


def point(at_s, dated_s):
    return StoreEvent(at_s, "point", 0, dated_s)


def restored(at_s, stopped_s, copy=None, until_s=math.inf):
    return StoreEvent(at_s, "restored", 0, stopped_s, until_s=until_s, copy=copy)


def site(copies, following=1, kept=()):
    """Where copies are: those of the kinds in *kept* on machines 7 and 8."""
    fates = tuple(((KEPT_ON[c.kind],),) if c.kind in kept else () for c in copies)
    return Site(tuple(range(following)), range(10), fates)


def found(copies, events, end_s=5000.0, phases=AT_ZERO, following=1, kept=(), makespan_s=None):
    return risk(Store(copies=copies), events, site(copies, following, kept), end_s, phases, makespan_s)


def history(copies, *events, phases=AT_ZERO, following=1, kept=()):
    return History(Store(copies=copies), events, site(copies, following, kept), phases)


BOTH = (backups(), standby(5.0))


@pytest.mark.parametrize(("copy", "loss"), [(None, 5), ("standby", 5), ("backup", 500)])
def test_a_restore_may_name_the_kind_of_copy(copy, loss):
    assert loss == found(BOTH, [restored(2600, 1500, copy)]).data_loss_s  # the backup of 1000, or a standby 5 s behind


@pytest.mark.parametrize(("copy", "loss"), [(None, 80), ("backup", 80), ("standby", math.inf)])
def test_recovery_points_go_with_the_backups(copy, loss):
    assert loss == found((backups(),), [point(1450, 1420), restored(2600, 1500, copy)], following=0).data_loss_s


def test_a_restore_from_standbys_that_were_never_there_loses_everything():
    assert math.inf == found((standby(),), [restored(2600, 1500, "standby")], following=0).data_loss_s


@pytest.mark.parametrize(
    ("events", "loss"),
    [
        ([dead(1500, 7)], 100),  # the backup is gone, the segment of 1400 is there
        ([dead(1500, 8)], 500),
        ([dead(1500, 7, 8)], math.inf),
        ([dead(2000, 8)], 500),  # it dies before it is needed
        ([dead(1400, 7, 8), dead(2600)], 100),  # both machines are back when they are
    ],
)
def test_a_copy_is_lost_with_the_machine_on_which_it_is_kept(events, loss):
    copies, kept = (backups(), archive(100.0, 10.0)), ("backup", "log_archive")

    assert loss == found(copies, [*events, restored(2600, 1500)], following=0, kept=kept).data_loss_s


def test_a_copy_in_a_zone_is_lost_when_all_its_machines_are():
    copies, fates = (backups(),), (((2, 3),),)

    def loss(*who):
        return risk(Store(copies=copies), [dead(1500, *who), restored(2600, 1500)], Site((), (), fates), 5000, AT_ZERO).data_loss_s

    assert (500, 500, math.inf) == (loss(2), loss(3), loss(2, 3))


def test_a_standby_that_died_with_the_primary_does_not_count():
    died = [dead(1500, 0, 1), standbys(1500)]

    assert 500 == found(BOTH, [*died, restored(2600, 1500)]).data_loss_s
    assert math.inf == found((standby(),), [*died, restored(2600, 1500)]).data_loss_s


def test_of_two_standbys_the_one_that_is_left_gives_what_it_had_when_it_was_taken():
    events = [standbys(1400, 0), dead(1500, 0), standbys(1500), restored(2600, 1500)]

    assert 105 == found((standby(5.0),), events, following=2).data_loss_s  # the other one left at 1400


@pytest.mark.parametrize(
    ("copies", "loss"),
    [
        ((standby(0.0),), math.inf),  # a live standby has what is wrong too
        ((standby(0.0, delay_s=600.0),), math.inf),  # it has just applied it
        ((standby(0.0, delay_s=600.1),), 600),
        ((standby(700.0, delay_s=3600.0),), 700),  # it had not even received all of what is wanted
        ((archive(300.0, 10.0),), 600),  # closed at 3300, replayed up to 3000
        ((backups(2000.0, 100.0),), 1600),
        ((backups(3000.0, 0.0),), 600),  # one that starts at the moment of the corruption
    ],
)
def test_a_corruption_of_3000_noticed_at_3600_spoils_what_holds_later_writes(copies, loss):
    assert loss == found(copies, [restored(9000, 3600, until_s=3000.0)], end_s=9000.0).data_loss_s


def test_a_standby_that_was_out_when_the_store_was_corrupted_counts_until_it_is_back():
    away = [standbys(2000)]

    assert 1605 == found((standby(5.0),), [*away, restored(9000, 3600, until_s=3000.0)], end_s=9000.0).data_loss_s
    back = [*away, standbys(3100, 0), restored(9000, 3600, until_s=3000.0)]
    assert math.inf == found((standby(5.0),), back, end_s=9000.0).data_loss_s


RESTORED = restored(2350, 1500)
"""From the backup of 1000; the backup of 2000 ran while the store was down, that of 3000 is away at 3100."""


@pytest.mark.parametrize(
    ("stopped_s", "loss"),
    [
        (2360, 10),
        (3099, 749),  # what was restored at 2350 is the newest there is
        (3100, 100),
        (3500, 500),
    ],
)
def test_after_a_restore_what_was_restored_counts_until_the_first_copy_of_the_new_timeline(stopped_s, loss):
    again = found((backups(),), [RESTORED, restored(4900, stopped_s)], following=0)

    assert [(1000, 1500), (stopped_s - loss, stopped_s)] == again.losses
    assert max(500, loss) == again.data_loss_s


def test_a_backup_that_started_before_the_restore_is_of_the_old_timeline():
    at_end = (backups(1000.0, 400.0, consistent_at="end"),)  # one from 2000 to 2400, the next from 3000 to 3400

    assert [2350, 2350, 3400] == [history(at_end, restored(2350, 1500), following=0).recoverable(t, t) for t in (2400, 3399, 3400)]


def test_a_log_segment_that_started_before_the_restore_is_of_the_old_timeline():
    segments = history((archive(300.0, 10.0),), restored(2350, 1500), following=0)  # segments from 2100 and from 2400

    assert [2350, 2350, 2700] == [segments.recoverable(t, t) for t in (2410, 2709, 2710)]


def test_a_standby_follows_again_only_when_it_starts_to_serve_anew():
    copies = (standby(5.0),)
    lost = restored(2350, 1500, "standby")

    assert 2350 == history(copies, lost).recoverable(3000, 3000)
    assert 2350 == history(copies, lost, standbys(2500, 0)).recoverable(3000, 3000)  # it never stopped
    assert 2995 == history(copies, lost, standbys(2500), standbys(2600, 0)).recoverable(3000, 3000)


def test_what_was_restored_from_a_copy_that_is_lost_later_falls_back_to_an_older_one():
    events = (restored(2350, 1500), dead(2600, 0))  # from the standby, whose machine dies later

    after = history((backups(), standby(5.0)), *events)

    assert (2350, 1000) == (after.recoverable(2599, 2599), after.recoverable(2700, 2700))
    assert 3000 == after.recoverable(3100, 3100)


def test_a_restore_s_new_timeline_adds_exposure_where_a_log_segment_is_lost_to_it():
    """Left alone the segment of 2100 to 2400 is away at 2410; after the restore of 2350 the first one is that of 2700, away at 2710."""
    after = found((archive(300.0, 10.0),), [restored(2350, 2340)], end_s=4000.0, following=0)

    assert 50 == after.added_exposure_s  # 2400 - 2350 from 2410 on
    assert 360 == pytest.approx(after.exposure_max_s)  # just before 2710


def replayed(copies, *events, **more):
    return history(copies, *events, **more).replay()[0]


def test_the_log_is_replayed_from_the_newest_backup_to_where_the_archive_ends():
    both = (backups(), archive(300.0, 10.0))

    assert 200 == replayed(both, restored(2000, 1500), following=0)  # from 1000 to 1200; that of 1500 is away at 1510
    assert 500 == replayed(both, restored(2000, 1510), following=0)
    assert 700 == replayed(both, restored(4000, 3600, until_s=2700), following=0)  # from 2000 up to the corruption


def test_nothing_is_replayed_from_a_backup_alone_a_live_standby_or_after_everything_is_lost():
    assert 0 == replayed((backups(),), restored(2000, 1500), following=0)
    assert 0 == replayed(BOTH, restored(2000, 1500))
    assert 0 == replayed((), restored(2000, 1500), following=0)
    assert 0 == replayed((backups(),), following=0)


def test_a_delayed_standby_replays_its_delay_and_after_a_corruption_what_came_before_it():
    late = (standby(0.0, delay_s=600.0),)

    assert 600 == replayed(late, restored(2000, 1500))
    assert 595 == replayed((standby(5.0, delay_s=600.0),), restored(2000, 1500))  # what it lags behind never arrives
    assert 1400 - (1500 - 600) == replayed(late, restored(2000, 1500, until_s=1400))


@pytest.mark.parametrize(
    ("copies", "stopped_s", "until_s", "log_s", "is_read_back"),
    [
        ((archive(300.0, 10.0), standby(400.0)), 1515, math.inf, 385, False),  # from 1115 to 1500
        ((backups(), archive(300.0, 10.0), standby(400.0, delay_s=900.0)), 1515, math.inf, 885, False),  # from 615, where it is
        ((backups(), archive(300.0, 10.0), standby(5.0)), 1515, math.inf, 0, False),  # it holds more than the archive
        ((backups(), standby(600.0)), 1515, math.inf, 0, True),  # the dump of 1000 is newer
        ((backups(), archive(300.0, 10.0), standby(5.0)), 1515, 1400, 400, True),  # it has what is wrong: from 1000 to 1400
        ((standby(5.0),), 1515, 1400, 0, False),  # nothing is left
    ],
)
def test_a_standby_needs_from_others_only_what_it_does_not_hold_itself(copies, stopped_s, until_s, log_s, is_read_back):
    told = history(copies, restored(2000, stopped_s, until_s=until_s))

    assert (pytest.approx(log_s), is_read_back) == told.replay(onto=0)


def test_where_every_backup_is_lost_the_log_of_a_whole_cycle_is_replayed():
    both = (backups(), archive(300.0, 10.0))

    assert 1100 == replayed(both, dead(1500, 7), restored(2000, 1500), following=0, kept=("backup",))


def test_a_second_restore_replays_what_the_first_left_behind_it_too():
    both, first = (backups(5000.0), archive(300.0, 10.0)), restored(1520, 1510)  # to 1500, from 0

    assert 1500 == replayed(both, first, following=0)
    assert 1500 + (2100 - 1520) == replayed(both, first, restored(4000, 2110), following=0)


@pytest.mark.parametrize(("copies", "lowest", "width"), [((backups(),), 100, 1000), ((archive(300.0, 10.0),), 10, 300)])
def test_oracle_5_over_random_phases_a_restore_loses_the_uniform_law(copies, lowest, width):
    luck = np.random.default_rng(11).random((MANY, 2))
    losses = [History(Store(copies=copies), [restored(9000, 7000)], Site(), Phases(*u)).losses[0] for u in luck]
    lost = np.array([stopped - until for until, stopped in losses])

    assert abs(lost.mean() - (lowest + width / 2)) < 4 * width / 12**0.5 / MANY**0.5  # four standard errors
    assert lowest <= lost.min() <= lost.max() <= lowest + width


class Listed:
    """The same store with every copy listed one by one, and what each held of the history that is true at a moment.

    The true history is a list of stretches of the clock: a restore cuts off what came after R and begins another one.
    """

    def __init__(self, copies, events, phases, following, kept):
        self.copies, self.events, self.phases, self.following, self.kept = copies, events, phases, following, kept
        self.stretches = {(): [(-math.inf, math.inf)]}
        self.restores = [e for e in events if e.kind == "restored"]
        self.bases, self.reached = [], []
        for k, event in enumerate(self.restores):
            until, machines = self.best(event.dated_s, event.dated_s, event.at_s, event.until_s, upto=k)
            self.reached.append(until)
            self.bases.append((event.at_s, machines))

    def stretches_at(self, t, upto):
        """(from, up to which moment it is true) of each stretch, after the restores that ended by then."""
        found = [(-math.inf, math.inf)]
        for event, reached in zip(self.restores[:upto], self.reached, strict=False):
            if event.at_s <= t:
                found = [(a, min(b, reached)) for a, b in found if a <= reached] + [(event.at_s, math.inf)]
        return found

    def dead(self, t):
        return next((e.who for e in reversed(self.events) if e.kind == "machines" and e.at_s <= t), ())

    def best(self, seen, at, judged, wanted=math.inf, upto=99):
        """(R, machines of the copies that hold it, None = out of reach) of what was there at *seen*, on machines that live at *judged*."""
        stretches, candidates = self.stretches_at(seen, upto), [(-math.inf, None)]

        def fits(started, content, replayed=False):
            for a, b in stretches:
                start_of_next = min((x for x, _ in stretches if x > a), default=math.inf)
                if a <= started < start_of_next:
                    limit = min(b, wanted)
                    if replayed and limit >= a:
                        return min(content, limit)
                    if not replayed and content <= limit:
                        return content
            return -math.inf

        for copy in self.copies:
            place = KEPT_ON[copy.kind] if copy.kind in self.kept else None
            if isinstance(copy, Backup):
                first = self.phases.backup * copy.every_s
                for k in range(-8, 60):
                    start = first + k * copy.every_s
                    if start + copy.takes_s <= seen:
                        candidates.append((fits(start, start + copy.takes_s * (copy.consistent_at == "end")), place))
            elif isinstance(copy, LogArchive):
                first = self.phases.archive * copy.closes_every_s
                for k in range(-8, 60):
                    closed = first + k * copy.closes_every_s
                    if closed + copy.ships_in_s <= seen:
                        candidates.append((fits(closed - copy.closes_every_s, closed, replayed=True), place))
        made = [e.dated_s for e in self.events if e.kind == "point" and e.at_s <= seen]
        candidates += [(fits(dated, dated), None) for dated in made]
        for (since, places), reached in zip(self.bases[:upto], self.reached, strict=False):
            if since <= seen and reached <= wanted and any(a == since for a, _ in stretches):
                candidates += [(min(since, wanted, next(b for a, b in stretches if a == since)), place) for place in places]
        candidates += [(self.followed(i, seen, at, stretches, wanted, upto), i) for i in range(4)]
        gone = self.dead(judged)
        reached = max(r for r, m in candidates if m not in gone)
        return reached, {m for r, m in candidates if r == reached and m not in gone}

    def followed(self, i, seen, at, stretches, wanted, upto):
        """What standby *i* holds, walked through the events in order."""
        serves = i < self.following
        on, since, left = serves, -math.inf if serves else None, None
        ended = 0
        for event in self.events:
            if event.at_s > seen:
                break
            if event.kind == "standbys":
                if i in event.who and not serves:
                    on, since, left = True, event.at_s if since is None or ended else since, None
                    ended = 0
                elif i not in event.who and on:
                    on, left = False, event.at_s
                serves = i in event.who
            elif event.kind == "restored" and self.restores.index(event) < upto:
                if on:
                    on, left = False, event.at_s
                ended = 1
        if since is None:
            return -math.inf
        stopped = at if left is None else min(at, left)
        limit = min([b for a, b in stretches if a <= since][-1:] or [-math.inf])
        limit = min(limit, wanted)
        best = -math.inf
        for copy in self.copies:
            if isinstance(copy, Standby) and (limit == math.inf or (copy.delay_s > stopped - limit and since <= limit)):
                best = max(best, min(limit, stopped - copy.lag_s))
        return best

    def recoverable(self, t):
        return self.best(t, t, t)[0]


SOME_COPIES = st.lists(
    st.one_of(
        st.builds(backups, st.sampled_from([60.0, 150.0]), st.integers(0, 50).map(float), consistent_at=st.sampled_from(["start", "end"])),
        st.builds(archive, st.sampled_from([30.0, 70.0]), st.integers(0, 20).map(float)),
        st.builds(standby, st.integers(0, 30).map(float), st.sampled_from([0.0, 40.0, 90.0])),
    ),
    max_size=4,
).map(tuple)
PHASES = st.tuples(st.integers(0, 29), st.integers(0, 29)).map(lambda p: Phases(p[0] / 30, p[1] / 30))
KEPT = st.sets(st.sampled_from(["backup", "log_archive"])).map(tuple)


@st.composite
def courses(draw, restores=2):
    """Events of 400 s: standbys come and go, machines die and return, steps make points, at most so many restores."""
    events = []
    for at_s in sorted(draw(st.sets(st.integers(1, 399), max_size=8))):
        kind = draw(st.sampled_from(["standbys", "machines", "point", "restored"]))
        if kind == "standbys":
            events.append(standbys(at_s, *sorted(draw(st.sets(st.integers(0, 2))))))
        elif kind == "machines":
            events.append(dead(at_s, *sorted(draw(st.sets(st.sampled_from([0, 1, 2, 7, 8]))))))
        elif kind == "point":
            events.append(point(at_s, at_s - draw(st.integers(0, 40))))
        elif restores:
            last = max([0, *(e.at_s for e in events if e.kind == "restored")])
            stopped = draw(st.integers(last, at_s))
            until_s = draw(st.sampled_from([math.inf, math.inf, stopped - draw(st.integers(0, 120))]))
            restores -= 1
            events.append(restored(at_s, stopped, None, until_s))
    return events


@st.composite
def ends(draw):
    """How a run of 400 s ends: well, or with data gone since a moment, and what was wanted of them."""
    if draw(st.booleans()):
        return []
    stopped = draw(st.integers(300, 400))
    wanted = draw(st.sampled_from([math.inf, stopped - draw(st.integers(0, 120))]))
    return [StoreEvent(400.0, "lost", 0, stopped, draw(st.sets(st.sampled_from([0, 1, 2, 7, 8]))), wanted)]


@settings(deadline=None, max_examples=150)
@given(SOME_COPIES, courses(), PHASES, st.integers(0, 2), KEPT)
def test_what_could_be_recovered_is_what_a_list_of_all_copies_gives(copies, events, phases, following, kept):
    listed = Listed(copies, events, phases, following, kept)
    told = History(Store(copies=copies), events, site(copies, following, kept), phases)
    grid = np.arange(0.25, 400, 3.5)

    assert [e.dated_s for e in listed.restores] == [stopped for _, stopped in told.losses]
    assert listed.reached == pytest.approx([until for until, _ in told.losses])
    assert [listed.recoverable(t) for t in grid] == pytest.approx([told.recoverable(t, t) for t in grid])


@settings(deadline=None, max_examples=100)
@given(SOME_COPIES, courses(restores=1), ends().filter(bool), PHASES, st.integers(0, 2), KEPT)
def test_what_never_comes_back_has_lost_what_a_restore_at_the_end_would_have(copies, events, end, phases, following, kept):
    restore = [dead(399.9, *end[0].who), restored(400.0, end[0].dated_s, until_s=end[0].until_s)]
    without, answered = (History(Store(copies=copies), events + e, site(copies, following, kept), phases) for e in (end, restore))

    assert answered.losses == without.losses


@settings(deadline=None, max_examples=40)
@given(SOME_COPIES, courses(), PHASES, st.integers(0, 2), KEPT)
def test_the_largest_and_the_added_exposure_are_those_of_a_fine_grid(copies, events, phases, following, kept):
    listed = Listed(copies, events, phases, following, kept)
    alone = Listed(copies, [], phases, following, kept)
    grid = np.arange(0.25, 400, 0.5)
    under_plan, without = ([x.recoverable(t) for t in grid] for x in (listed, alone))

    one = found(copies, events, 400.0, phases, following, kept)

    # exposure rises by at most a second a second, and a moment of the grid lies up to half a second before a jump
    exposed = max(t - r for t, r in zip(grid, under_plan, strict=True))
    assert exposed == one.exposure_max_s or exposed - 1e-9 <= one.exposure_max_s <= exposed + 0.5001
    added = max([0.0, *(a - r for a, r in zip(without, under_plan, strict=True) if a > -math.inf)])
    assert added == one.added_exposure_s or added - 1e-9 <= one.added_exposure_s <= added + 0.5001


@settings(deadline=None, max_examples=200)
@given(SOME_COPIES, SOME_COPIES, courses(restores=1), ends(), PHASES, st.integers(0, 2), KEPT)
def test_more_protection_never_loses_more_with_the_same_luck(copies, more, events, end, phases, following, kept):
    events = [e for e in events if not (end and e.kind == "restored")] + end  # one loss: a second one may meet other copies
    few, many = (found(c, events, 400.0, phases, following, kept) for c in (copies, more + copies))

    assert many.data_loss_s <= few.data_loss_s
    if all(e.kind != "restored" for e in events):
        assert many.exposure_max_s <= few.exposure_max_s + 1e-9
