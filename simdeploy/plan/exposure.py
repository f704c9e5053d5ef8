"""How much data would be lost: E(t) = t - R(t), R(t) the latest instant up to which every write could be recovered.

A store left alone has only its schedule: backups, archived log segments, a standby. A plan changes that where a
standby stops following, or where a step makes a recovery point of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from simdeploy.environment.models import Backup, LogArchive, Standby, Store
from simdeploy.plan.state import StoreEvent

JUST_BEFORE_S = 1e-6
"""What counts as just before a jump: wide enough that rounding does not reach past it."""
LOOKED_AT = 32
"""Of very many jumps of a periodic copy, so many first and last ones are looked at: those between are like them."""


class Phases(NamedTuple):
    """Where the periodic copies of a store stand when a plan starts: fractions of their periods in [0, 1)."""

    backup: float
    archive: float


def recoverable_until(store: Store, at_s: float, phases: Phases, wanted_until_s: float = math.inf) -> float:
    """R(t) from the periodic copies alone [s, on the plan's clock]; -inf where there is none.

    Of use is only what they hold of the time up to *wanted_until_s*: a dump of a later moment is not, an archive is replayed that far.

    A backup that starts at phase + k * every and takes d is of use from its end on and holds what was there at
    its start (or end); a log segment that closes at phase + k * a is away s later. So at a random moment the
    exposure is U(d, d + T), or U(s, s + a).
    """
    latest = -math.inf
    for copy in store.copies:
        if isinstance(copy, Backup):
            after_s = copy.takes_s if copy.consistent_at == "end" else 0.0
            start = _latest(copy.every_s, phases.backup, min(at_s - copy.takes_s, wanted_until_s - after_s))
            latest = max(latest, start + after_s)
        elif isinstance(copy, LogArchive) and copy.closes_every_s is not None:
            latest = max(latest, min(_latest(copy.closes_every_s, phases.archive, at_s - copy.ships_in_s), wanted_until_s))
    return latest


def _latest(period_s: float, phase: float, at_s: float) -> float:
    """The last moment phase + k * period that is not after *at_s*."""
    first = phase * period_s
    return first + math.floor((at_s - first) / period_s) * period_s


def lag_s(store: Store) -> float | None:
    """How far standbys are behind [s], None where the store has none."""
    return next((c.lag_s for c in store.copies if isinstance(c, Standby)), None)


class Risk(NamedTuple):
    """What a run did to the data of one store."""

    data_loss_s: float
    lost_s: float | None
    """The moment writing stopped before the loss; None without one."""
    added_exposure_s: float
    exposure_max_s: float
    """The largest E(t) while the plan ran; inf where nothing bounds it."""


def risk(store: Store, events: list[StoreEvent], standbys: int, end_s: float, phases: Phases, makespan_s: float | None = None) -> Risk:
    """What *events* did to a store that *standbys* other instances followed at the start, up to *end_s*.

    The largest exposure is that of [0, *makespan_s*] (by default to *end_s* too).
    """
    loss, lost_at_s = 0.0, None
    lag = lag_s(store)
    followed: list[tuple[float, float, bool]] = []
    since, following = 0.0, standbys > 0
    points: list[tuple[float, float]] = []
    for event in events:
        if event.kind == "standbys":
            if (event.value > 0) != following:
                followed.append((since, event.at_s, following))
                since, following = event.at_s, event.value > 0
        elif event.kind == "point":
            points.append((event.at_s, event.value))
        elif event.kind == "failover":
            loss, lost_at_s = max(loss, lag or 0.0), event.value
        else:
            until_s = math.inf if event.until_s is None else event.until_s
            made = [dated for at, dated in points if at <= event.value and dated <= until_s]
            if lag is not None and standbys and event.until_s is None:  # a standby has followed whatever was not wanted
                start, _, on = [x for x in (*followed, (since, math.inf, following)) if x[0] <= event.value][-1]
                made.append((event.value if on else start) - lag)
            best = max([recoverable_until(store, event.value, phases, until_s), *made])
            loss, lost_at_s = max(loss, event.value - best), event.value
            points.append((event.at_s, event.at_s))
    followed.append((since, end_s, following))
    added = (
        max((_added(store, a, b, lag, points, phases) for a, b, on in followed if not on), default=0.0)
        if lag is not None and standbys
        else 0.0
    )
    return Risk(loss, lost_at_s, added, _largest(store, followed, lag, points, phases, end_s if makespan_s is None else makespan_s))


def _largest(
    store: Store,
    followed: list[tuple[float, float, bool]],
    lag: float | None,
    points: list[tuple[float, float]],
    phases: Phases,
    end_s: float,
) -> float:
    """The largest t - R(t) in [0, *end_s*]: just before some R jumps, or at the end."""

    def exposure(t: float) -> float:
        latest = [recoverable_until(store, t - JUST_BEFORE_S, phases), *(dated for at, dated in points if at < t)]
        if lag is not None:
            latest += [min(t, b) - lag for a, b, on in followed if on and (a < t or a == 0)]  # a standby keeps what it had when it stopped
        return t - max(latest)

    jumps = [b for _, b, _ in followed if b < end_s] + [at for at, _ in points if at < end_s]
    jumps += _schedule(store, phases, 0.0, end_s)
    return max(exposure(t) for t in [*jumps, end_s] if t > 0 or t == end_s)


def _schedule(store: Store, phases: Phases, a: float, b: float) -> list[float]:
    """The moments in (a, b) at which a periodic copy becomes of use."""
    moments: list[float] = []
    for copy in store.copies:
        if isinstance(copy, Backup):
            moments += _moments(copy.every_s, phases.backup, copy.takes_s, a, b)
        elif isinstance(copy, LogArchive) and copy.closes_every_s is not None:
            moments += _moments(copy.closes_every_s, phases.archive, copy.ships_in_s, a, b)
    return moments


def _added(store: Store, a: float, b: float, lag: float, points: list[tuple[float, float]], phases: Phases) -> float:
    """The largest R of the store left alone minus R under the plan while no standby follows, in [a, b].

    Left alone R = t - lag rises; under the plan R is what the standby had at *a*, or a newer copy or point. Their
    distance is largest just before the plan's R jumps, or at *b*.
    """

    def under_plan(t: float, before: bool) -> float:
        made: Callable[[float], bool] = (lambda at: at < t) if before else (lambda at: at <= t)
        return max([a - lag, recoverable_until(store, t - JUST_BEFORE_S if before else t, phases)] + [d for at, d in points if made(at)])

    jumps = [at for at, _ in points if a < at < b] + _schedule(store, phases, a, b)
    return max(0.0, max(t - lag - under_plan(t, before=True) for t in [*jumps, b]))


def _moments(period_s: float, phase: float, after_s: float, a: float, b: float) -> list[float]:
    """The moments in (a, b) at which one periodic copy becomes of use."""
    first = _latest(period_s, phase, a - after_s) + after_s + period_s
    count = max(0, math.ceil((b - first) / period_s))
    looked_at = range(count) if count <= 2 * LOOKED_AT else (*range(LOOKED_AT), *range(count - LOOKED_AT, count))
    return [first + k * period_s for k in looked_at]
