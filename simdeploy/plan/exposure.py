"""How much data would be lost: E(t) = t - R(t), R(t) the latest instant up to which every write could be recovered.

A store left alone has only its schedule: backups, archived log segments, standbys. A run changes that where a standby
stops following, a step makes a recovery point of its own, a machine dies with what is kept on it, or a restore begins
a new timeline.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from simdeploy.environment.stores import Backup, Copy, LogArchive, Standby, Store
from simdeploy.plan.layout import Fate, Site
from simdeploy.plan.state import StoreEvent

JUST_BEFORE_S = 1e-6
"""What counts as just before a jump: wide enough that rounding does not reach past it."""
LOOKED_AT = 32
"""Of very many jumps of a periodic copy, so many first and last ones are looked at: those between are like them."""
KINDS = {None: ("backup", "archive", "standby"), "backup": ("backup", "archive"), "standby": ("standby",)}
"""What a restore may name -> the kinds of copies that it takes."""
NOBODY: frozenset[int] = frozenset()


class Phases(NamedTuple):
    """Where the periodic copies of a store stand when a plan starts: fractions of their periods in [0, 1)."""

    backup: float
    """Of the backups that do not say when they begin."""
    archive: float
    starts_at_s: float = 0.0
    """Seconds after midnight at which the plan starts, for the backups that say when they begin."""


def recoverable_until(store: Store, at_s: float, phases: Phases, wanted_until_s: float = math.inf) -> float:
    """R(t) from the periodic copies alone [s, on the plan's clock]; -inf where there is none.

    Of use is only what they hold of the time up to *wanted_until_s*: a dump of a later moment is not, an archive is replayed that far.

    A backup that starts at phase + k * every and takes d is of use from its end on and holds what was there at
    its start (or end); a log segment that closes at phase + k * a is away s later. So at a random moment the
    exposure is U(d, d + T), or U(s, s + a).
    """
    return max([-math.inf, *(_periodic(copy, phases, at_s, wanted_until_s) for copy in store.copies)])


def _periodic(copy: Copy, phases: Phases, seen_s: float, wanted_s: float, since_s: float = -math.inf, next_s: float = math.inf) -> float:
    """Up to when one periodic copy held at *seen_s* what was wanted, by what started on the timeline [since, next); -inf: nothing."""
    if isinstance(copy, Backup):
        after_s = copy.takes_s if copy.consistent_at == "end" else 0.0
        start = _latest(copy.every_s, _first_s(copy, phases), min(seen_s - copy.takes_s, wanted_s - after_s))
        return start + after_s if start >= since_s else -math.inf
    if isinstance(copy, LogArchive) and copy.closes_every_s is not None:
        closed = _latest(
            copy.closes_every_s, phases.archive * copy.closes_every_s, min(seen_s - copy.ships_in_s, next_s + copy.closes_every_s)
        )
        held = min(closed, wanted_s)
        return held if closed - copy.closes_every_s >= since_s and held >= since_s else -math.inf
    return -math.inf


def _first_s(backup: Backup, phases: Phases) -> float:
    """When one of the backups begins, by chance or at its time of day [s, on the plan's clock]; in [0, every)."""
    if backup.begins_at_s is None:
        return phases.backup * backup.every_s
    return (backup.begins_at_s - phases.starts_at_s) % backup.every_s


def _latest(period_s: float, first_s: float, at_s: float) -> float:
    """The last moment first + k * period that is not after *at_s*."""
    return first_s + math.floor((at_s - first_s) / period_s) * period_s


def lag_s(store: Store) -> float | None:
    """How far standbys are behind [s], None where the store has none."""
    return min((c.lag_s for c in store.copies if isinstance(c, Standby)), default=None)


class Held(NamedTuple):
    """What could be restored from one copy: every write up to a moment. The larger one is the better one."""

    until_s: float
    applied_s: float
    """The log from here to `until_s` has to be replayed."""
    kind: str
    fate: Fate


NOTHING = Held(-math.inf, -math.inf, "backup", ())


class _Timeline(NamedTuple):
    since_s: float
    came_to_s: float
    """Up to when the timeline before was restored; what was written on it later is no part of this one."""
    bases: tuple[Held, ...]
    """With what it began, as long as a copy is there from which that came: one for each that was as good."""


class _Span(NamedTuple):
    """How long one standby followed."""

    line: int
    """The position of the timeline."""
    joined_s: float
    """Since when it held this timeline."""
    since_s: float
    until_s: float = math.inf


class History:
    """What could be recovered of one store at any moment of a run: a fold over its events, in order."""

    def __init__(self, store: Store, events: Sequence[StoreEvent], site: Site, phases: Phases) -> None:
        self._store, self._site, self._phases = store, site, phases
        self._fates = site.fates or ((),) * len(store.copies)
        self._standbys = [c for c in store.copies if isinstance(c, Standby)]
        self._lag_s = lag_s(store)
        self._timelines = [_Timeline(-math.inf, -math.inf, ())]
        self._spans = {i: [_Span(0, -math.inf, -math.inf)] for i in site.standbys}
        self._following: Collection[int] = site.standbys
        self._points: list[tuple[float, float]] = []
        self._deaths: list[tuple[float, Collection[int]]] = []
        self.losses: list[tuple[float, float]] = []
        """Of each loss (R that it came to, the moment writing stopped)."""
        self.unfollowed: list[tuple[float, float]] = []
        """From when to when no standby served, after one did."""
        self._restored = NOTHING
        """What the latest restore took, with the moment from which its log is replayed."""
        self._own: dict[int, float] = {}
        """Machine of a standby -> from where the log goes on there, as far as that restore wanted what it holds."""
        for event in events:
            if event.kind == "standbys":
                self._follow(event.at_s, event.who)
            elif event.kind == "machines":
                self._deaths.append((event.at_s, event.who))
            elif event.kind == "point":
                self._points.append((event.at_s, event.dated_s))
            elif event.kind == "failover":
                self.losses.append((event.dated_s - (self._lag_s or 0.0), event.dated_s))
            elif event.kind == "lost":
                left = self._surviving(event.dated_s, event.dated_s, event.who, event.until_s)
                self.losses.append((max([NOTHING, *left]).until_s, event.dated_s))
            else:
                self._restore(event)

    def _follow(self, at_s: float, who: Collection[int]) -> None:
        if self._following and not who:
            self.unfollowed.append((at_s, math.inf))
        elif who and not self._following and self.unfollowed:
            self.unfollowed[-1] = (self.unfollowed[-1][0], at_s)
        for i in self._following:
            if i not in who:
                self._leave(i, at_s)
        for i in who:
            if i not in self._following:  # one that served all along does not follow a new timeline
                spans, line = self._spans.setdefault(i, []), len(self._timelines) - 1
                joined_s = spans[-1].joined_s if spans and spans[-1].line == line else at_s
                spans.append(_Span(line, joined_s, at_s))
        self._following = who

    def _leave(self, i: int, at_s: float) -> None:
        last = self._spans[i][-1]
        if last.until_s == math.inf:
            self._spans[i][-1] = last._replace(until_s=at_s)

    def _restore(self, event: StoreEvent) -> None:
        stopped_s, dead = event.dated_s, self._deaths[-1][1] if self._deaths else NOBODY
        there = [NOTHING, *self._surviving(stopped_s, stopped_s, dead, event.until_s, KINDS[event.copy])]
        held = max(there)
        if held.kind == "archive":
            start_s = max([NOTHING, *self._surviving(stopped_s, stopped_s, dead, held.until_s, ("backup",))]).applied_s
            cycle_s = max((c.every_s + c.takes_s for c in self._store.copies if isinstance(c, Backup)), default=0.0)
            held = held._replace(applied_s=start_s if start_s > -math.inf else held.until_s - cycle_s)  # without a backup to start from
        self.losses.append((held.until_s, stopped_s))
        self._restored = held
        followed = self._surviving(stopped_s, stopped_s, dead, event.until_s, KINDS["standby"])
        self._own = {x.fate[0][0]: x.applied_s for x in sorted(followed) if x.kind == "standby"} if event.copy is None else {}
        log_s = self.replay()[0]
        for i in self._following:
            self._leave(i, event.at_s)
        fates = {(x.kind if x.kind == "standby" else "backup", x.fate) for x in there if x.until_s == held.until_s}
        bases = tuple(Held(event.at_s, event.at_s - log_s, kind, fate) for kind, fate in sorted(fates))
        self._timelines.append(_Timeline(event.at_s, held.until_s, bases))

    def replay(self, onto: int | None = None) -> tuple[float, bool]:
        """(Seconds of log that the latest restore leaves to be replayed, whether a backup has to be read back first).

        *onto* is the standby that was restored, by position: what it holds itself it needs from nobody else. None is a machine
        that held nothing, to which the restore itself has read the backup back.
        """
        held = self._restored
        if held.until_s == -math.inf:
            return 0.0, False
        if onto is None or held.kind == "standby":
            return held.until_s - held.applied_s, False
        own_s = self._own.get(self._site.machine_of[onto], -math.inf)
        if held.kind == "archive" and own_s > -math.inf:
            return max(0.0, held.until_s - own_s), False
        return held.until_s - held.applied_s, True

    def _surviving(
        self, seen_s: float, at_s: float, dead: Collection[int], wanted_s: float = math.inf, kinds: tuple[str, ...] = KINDS[None]
    ) -> Iterator[Held]:
        """What could be restored of a store that is lost at *at_s*, from what there was at *seen_s* and is not *dead*.

        What was written after *wanted_s* is not wanted.
        """
        next_s = math.inf
        for line in range(len(self._timelines) - 1, -1, -1):
            since_s, came_to_s, _ = self._timelines[line]
            if since_s > seen_s:
                continue
            for held in self._held(line, next_s, seen_s, at_s, wanted_s, kinds):
                if not (dead and _is_lost(held.fate, dead)):
                    yield held
            next_s, wanted_s = since_s, min(wanted_s, came_to_s)
            if wanted_s == -math.inf:
                break

    def _held(self, line: int, next_s: float, seen_s: float, at_s: float, wanted_s: float, kinds: tuple[str, ...]) -> Iterator[Held]:
        """What each copy holds of one timeline, which another followed at *next_s*."""
        since_s, came_to_s, bases = self._timelines[line]
        if "backup" in kinds:
            for made_s, dated_s in self._points:
                if made_s <= seen_s and dated_s <= wanted_s and since_s <= dated_s < next_s:
                    yield Held(dated_s, dated_s, "backup", ())
        if came_to_s <= wanted_s:
            yield from (base._replace(until_s=min(since_s, wanted_s)) for base in bases if base.kind in kinds)
        for copy, fate in zip(self._store.copies, self._fates, strict=True):
            kind = copy.kind if copy.kind != "log_archive" else "archive"
            if kind in kinds and kind != "standby":
                until_s = _periodic(copy, self._phases, seen_s, wanted_s, since_s, next_s)
                yield Held(until_s, until_s if kind == "backup" else -math.inf, kind, fate)
        if "standby" in kinds and self._standbys:
            yield from self._followed(line, seen_s, at_s, wanted_s)

    def _followed(self, line: int, seen_s: float, at_s: float, wanted_s: float) -> Iterator[Held]:
        """What each standby holds: all up to its lag, or, where the last was not wanted, what it had not applied yet."""
        for i, spans in self._spans.items():
            span = next((x for x in reversed(spans) if x.since_s <= seen_s), None)
            if span is None or span.line != line:
                continue
            until_s, fate = min(at_s, span.until_s), ((self._site.machine_of[i],),)
            for copy in self._standbys:
                if wanted_s == math.inf or (copy.delay_s > until_s - wanted_s and span.joined_s <= wanted_s):
                    held_s = min(wanted_s, until_s - copy.lag_s)
                    yield Held(held_s, min(held_s, until_s - copy.delay_s), "standby", fate)

    def recoverable(self, seen_s: float, at_s: float) -> float:
        """R(t) at *at_s*, by what there was at *seen_s*."""
        if len(self._timelines) == 1 and not self._deaths:  # most runs: much quicker
            made = [dated_s for made_s, dated_s in self._points if made_s <= seen_s]
            had = [min(at_s, x.until_s) for spans in self._spans.values() for x in spans if x.since_s <= seen_s] if self._standbys else []
            behind_s = self._lag_s or 0.0
            return max([recoverable_until(self._store, seen_s, self._phases), *made, max(had, default=-math.inf) - behind_s])
        dead = next((who for moment, who in reversed(self._deaths) if moment <= seen_s), NOBODY)
        return max([NOTHING, *self._surviving(seen_s, at_s, dead)]).until_s


def _is_lost(fate: Fate, dead: Collection[int]) -> bool:
    return any(all(machine in dead for machine in group) for group in fate)


class Risk(NamedTuple):
    """What a run did to the data of one store."""

    data_loss_s: float
    """The largest loss."""
    losses: list[tuple[float, float]]
    """Of each loss (R that it came to, the moment writing stopped)."""
    added_exposure_s: float
    exposure_max_s: float
    """The largest E(t) while the plan ran; inf where nothing bounds it."""


def risk(store: Store, events: Sequence[StoreEvent], site: Site, end_s: float, phases: Phases, makespan_s: float | None = None) -> Risk:
    """What *events* did to a store up to *end_s*.

    The largest exposure is that of [0, *makespan_s*] (by default to *end_s* too).
    """
    history = History(store, events, site, phases)
    loss_s = max((stopped_s - until_s for until_s, stopped_s in history.losses), default=0.0)
    last_s = end_s if makespan_s is None else makespan_s
    largest = max(t - history.recoverable(t - JUST_BEFORE_S, t) for t in _moments(store, events, phases, last_s) if t > 0 or t == last_s)
    return Risk(loss_s, history.losses, _added(store, events, site, end_s, phases, history), largest)


def _added(store: Store, events: Sequence[StoreEvent], site: Site, end_s: float, phases: Phases, history: History) -> float:
    """The largest R of the store left alone minus R of the run, in [0, end]: just before one of them jumps, or just then.

    While nothing is lost that is just before a jump at which nobody follows, since the store left alone goes on.
    """
    lag = lag_s(store) if site.standbys else None
    lost = any(e.kind in ("restored", "machines") for e in events)
    if not lost and (lag is None or not history.unfollowed):
        return 0.0  # somebody followed all the time

    def added(seen_s: float, at_s: float) -> float:
        alone = max(recoverable_until(store, seen_s, phases), -math.inf if lag is None else at_s - lag)
        return alone - history.recoverable(seen_s, at_s) if alone > -math.inf else 0.0

    moments = _moments(store, events, phases, end_s)
    if lost:
        return max([0.0, *(added(t - JUST_BEFORE_S, t) for t in moments), *(added(t, t) for t in moments[:-1])])
    return max([0.0, *(added(t - JUST_BEFORE_S, t) for a, b in history.unfollowed for t in moments if a < t <= b)])


def _moments(store: Store, events: Sequence[StoreEvent], phases: Phases, end_s: float) -> list[float]:
    """The moments in [0, end) at which some R may jump, in order; then the end."""
    changes = sorted({0.0, *(e.at_s for e in events if e.at_s < end_s)})
    found = set(changes)
    for copy in store.copies:
        if isinstance(copy, Backup):
            found.update(_jumps(copy.every_s, _first_s(copy, phases), copy.takes_s, [*changes, end_s]))
        elif isinstance(copy, LogArchive) and copy.closes_every_s is not None:
            first_s = phases.archive * copy.closes_every_s
            found.update(_jumps(copy.closes_every_s, first_s, copy.ships_in_s, [*changes, end_s]))
    return [*sorted(t for t in found if t < end_s), end_s]


def _jumps(period_s: float, first_s: float, after_s: float, changes: list[float]) -> list[float]:
    """The moments from the first to the last of *changes* at which one periodic copy becomes of use; of very many between two
    changes the first and the last ones."""
    few = changes[-1] - changes[0] <= 2 * LOOKED_AT * period_s
    moments: list[float] = []
    for a, b in [(changes[0], changes[-1])] if few else pairwise(changes):
        first = _latest(period_s, first_s, a - after_s) + after_s + period_s
        count = max(0, math.ceil((b - first) / period_s))
        looked_at = range(count) if count <= 2 * LOOKED_AT + 1 else (*range(LOOKED_AT), *range(count - LOOKED_AT, count))
        moments += [first + k * period_s for k in looked_at]
    return moments
