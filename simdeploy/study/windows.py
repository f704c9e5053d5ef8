"""When in the day or the week to begin: the same plan under the same luck, begun at each hour of a demand that changes."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import NamedTuple

from simdeploy.environment.demand import DAY_S, Level
from simdeploy.environment.models import Environment
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan
from simdeploy.simulation.outcome import Outcome, simulate_all

HOUR_S = 3600.0
WEEK_S = 7 * DAY_S
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Window(NamedTuple):
    """What it costs to begin at one moment of the cycle of the demand."""

    at_s: float
    """Since the cycle began: midnight, of a week Monday's."""
    demand_per_s: float
    """When the plan begins."""
    failed_requests: float
    """Mean."""
    failed_p95: float | None
    """None where the replications do not support it."""
    risk: float
    """Share of the runs that do not keep the bound of every goal; of a plan without goals, in which capacity falls below the demand."""

    @property
    def day(self) -> str:
        """Of the week; of a day's cycle empty."""
        return DAYS[int(self.at_s // DAY_S) % 7]

    @property
    def hour(self) -> int:
        """Of the day."""
        return int(self.at_s % DAY_S // HOUR_S)


class Windows(NamedTuple):
    """Every moment that was tried."""

    cycle_s: float
    """A day or a week."""
    tried: list[Window]

    @property
    def best(self) -> list[Window]:
        """The moments that cost least, those of a tie included, in the order of time."""
        least = min((w.failed_requests, w.risk) for w in self.tried)
        return [w for w in self.tried if (w.failed_requests, w.risk) == least]


def windows(
    plan: Plan, curve: list[tuple[float, float]] | None = None, replications: int = 100, seed: int = 0, jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Windows:  # fmt: skip
    """*plan* begun at each hour of the day, or of the week that *curve* tells, all under the same luck.

    *curve*: (seconds since Monday's midnight, req/s), as `read_curve` reads it; by default the environment's own daily curve. Raises
    StudyError where demand does not change over time.
    """
    daily = plan.environment.demand.daily
    if curve is None:
        if not daily:
            raise StudyError(f"the demand of {plan.environment.name!r} has no daily curve; state one, or name a file with --demand")
        curve = [(x.at_s, x.rate_per_s) for x in daily]
        if curve[0][0] > 0:
            curve = [(0.0, curve[-1][1]), *curve]
    if not curve:
        raise StudyError("a curve of no moments is no demand; give pairs of seconds and req/s, the first at 0")
    cycle_s = WEEK_S if curve[-1][0] >= DAY_S else DAY_S
    starts = [k * HOUR_S for k in range(int(cycle_s / HOUR_S))]
    horizon_s = max(plan.horizon_s or 0.0, 2 * plan.critical_path_s())
    plans = {str(k): begun_at(plan, curve, at_s, cycle_s, horizon_s) for k, at_s in enumerate(starts)}
    outcomes = simulate_all(plans, replications, seed, jobs, progress)
    tried = []
    for k, at_s in enumerate(starts):
        outcome = outcomes[str(k)]
        failed = outcome.values["failed_requests"]
        ordered = sorted(failed.tolist())
        p95 = ordered[math.ceil(0.95 * len(ordered)) - 1] if len(ordered) >= 20 else None
        tried.append(Window(at_s, plans[str(k)].environment.demand.steps[0].rate_per_s, float(failed.mean()), p95, _risk(outcome)))
    return Windows(cycle_s, tried)


def _risk(outcome: Outcome) -> float:
    if not outcome.plan.goals:
        return float((outcome.values["headroom_min"] < 0).mean())
    kept = [[goal.holds(x) for x in outcome.values[goal.metric].tolist()] for goal in outcome.plan.goals]
    return 1 - sum(map(all, zip(*kept, strict=True))) / outcome.replications


def begun_at(plan: Plan, curve: list[tuple[float, float]], at_s: float, cycle_s: float, until_s: float) -> Plan:
    """*plan* whose demand is the *curve* from *at_s* on, repeated every *cycle_s*; from *until_s* after that on its last rate holds."""
    times = [t for t, _ in curve]
    levels = [_level(0.0, curve[bisect.bisect_right(times, at_s) - 1][1])]  # before the first moment the last one still holds
    for turn in range(int((at_s + until_s) // cycle_s) + 1):
        begun_s = turn * cycle_s - at_s
        between = slice(bisect.bisect_right(times, -begun_s), bisect.bisect_right(times, until_s - begun_s))
        levels += [_level(begun_s + t, rate) for t, rate in curve[between]]
    env = plan.environment
    demand = env.demand.model_copy(update={"rate_per_s": None, "daily": (), "steps": tuple(levels)})
    parts = {field: getattr(env, field) for field in Environment.model_fields} | {"demand": demand}
    return plan.model_copy(update={"environment": Environment.model_validate(parts), "horizon_s": plan.horizon_s})


def _level(at_s: float, rate_per_s: float) -> Level:
    return Level.model_validate({"at_s": at_s, "rate_per_s": rate_per_s})
