"""What holds at each moment of a plan, over the replications: capacity, demand, data at risk, and the next loss that would hurt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.plan.exposure import History, Phases
from simdeploy.plan.facts import FactBook
from simdeploy.plan.measurement import Run
from simdeploy.plan.plan import Plan
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import KEPT_PATHS, Outcome, Path
from simdeploy.simulation.sampler import Draws

Floats = NDArray[np.float64]
MOMENTS = 160
"""At which a course is taken, those of the first replication's changes not counted."""
LATE = 1.08
"""Times the 95th percentile of the makespan: so far a course is followed."""


class Band(NamedTuple):
    """One value per moment: the 5th, 50th and 95th percentile over the replications."""

    low: Floats
    middle: Floats
    high: Floats


class Courses(NamedTuple):
    """What holds at each moment of one plan, over its first replications."""

    at_s: Floats
    """Moments, rising from 0 [s]."""
    capacity: Band
    """At the front door [req/s]."""
    demand: Band
    """Offered [req/s]."""
    exposure_s: Band | None
    """E(t) of the worst store: what would be gone if it were lost just then [s]; None where no service says how its data are kept."""
    at_risk: Floats
    """Share of the replications in which one more loss would not be survived, of those that the start state bore."""
    replications: int


def moments(outcomes: Sequence[Outcome]) -> Floats:
    """The moments that show all *outcomes*: evenly from 0 until nearly all runs are over, and the changes of each first run [s]."""
    end_s = LATE * max(float(np.quantile(o.values["makespan_s"], 0.95, method="inverted_cdf")) for o in outcomes)
    changes = np.concatenate([np.linspace(0.0, end_s or 1.0, MOMENTS), *(o.paths[0].times for o in outcomes)])
    return np.unique(changes[changes <= (end_s or 1.0)])


def held_at(times: Floats, values: Floats, at_s: Floats) -> Floats:
    """What of *values*, each of which holds from its time on, holds at the moments *at_s*."""
    return values[np.searchsorted(times, at_s, side="right") - 1]


def band(values: Floats | Sequence[Floats]) -> Band:
    """The percentiles of each column of *values*, shape (replications, moments)."""
    return Band(*np.quantile(np.asarray(values), (0.05, 0.5, 0.95), axis=0, method="inverted_cdf"))


def capacity_course(paths: Sequence[Path], at_s: Floats) -> tuple[Band, Band]:
    """(capacity, demand) at the moments *at_s* [req/s]."""
    return band([held_at(p.times, p.capacity, at_s) for p in paths]), band([held_at(p.times, p.demand, at_s) for p in paths])


def courses(outcome: Outcome, at_s: Floats) -> Courses:
    """The courses of the plan of *outcome*: its first replications once more, with the same luck."""
    plan, count = outcome.plan, min(outcome.replications, KEPT_PATHS)
    engine = Engine(plan)
    draws = Draws(plan, outcome.seed, 0, count, engine.names)
    runs = list(engine.runs(draws))
    risky = np.array([f.is_single_fault for f in engine.book.facts])
    at_risk = np.mean([held_at(np.array(r.times), risky[r.states], at_s) for r in runs], axis=0)
    capacity, demand = capacity_course(outcome.paths[:count], at_s)
    exposures = [_exposure_s(plan, engine.book, run, draws.phases(r), at_s) for r, run in enumerate(runs)]
    exposure_s = band(exposures) if any(s.store for s in plan.environment.services.values()) else None
    return Courses(at_s, capacity, demand, exposure_s, at_risk, count)


def _exposure_s(plan: Plan, book: FactBook, run: Run, phases: Mapping[str, Phases], at_s: Floats) -> Floats:
    """E(t) = t - R(t) of the worst store at the moments *at_s* [s]; inf where nothing bounds it."""
    layout = book.layout
    worst = np.full(len(at_s), -math.inf)
    for s, service in enumerate(layout.services):
        if service.store is not None:
            events = [e for e in run.store_events if e.service == s]
            history = History(service.store, events, layout.sites[s], phases[layout.service_names[s]])
            worst = np.maximum(worst, [t - history.recoverable(t, t) for t in at_s.tolist()])
    return worst
