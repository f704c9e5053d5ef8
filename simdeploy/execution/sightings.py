"""What a prober saw of a run, added up as it comes."""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

from simdeploy.plan.plan import Plan


class Sampled(NamedTuple):
    """What a prober saw while the plan ran."""

    asked: int
    failed: int
    downtime_s: float
    """Time in bins in which it asked and nothing was served."""
    failed_requests: float
    """Of the demand, the share that failed of the probes in the same bin."""
    availability: float
    """Share of the demand that did not fail; nan where there was none."""
    share: float
    """Of the time, that in bins in which it asked."""


class Sightings:
    """The sums over a prober's bins."""

    def __init__(self, plan: Plan) -> None:
        self._demand, self._starts_at_s = plan.environment.demand, plan.start.starts_at_s
        self._known_s = 0.0
        self._levels = self._demand.levels(0.0, self._starts_at_s)
        self._asked = self._failed = 0
        self._seen_s = self._down_s = self._offered = self._lost = 0.0

    def add(self, at_s: float, width_s: float, asked: int, failed: int) -> None:
        """A bin that began *at_s* after the first step could start; what was asked before that does not count."""
        if not at_s > -width_s:
            return
        offered = self._rate_per_s(at_s) * width_s
        self._asked, self._failed, self._seen_s = self._asked + asked, self._failed + failed, self._seen_s + width_s
        self._down_s += width_s if failed == asked else 0.0
        self._offered += offered
        self._lost += offered * failed / asked

    def found(self, whole_s: float) -> Sampled | None:
        """What was seen, of a run that has taken *whole_s* so far; None where nobody asked."""
        if not self._asked:
            return None
        availability = 1 - self._lost / self._offered if self._offered else math.nan
        share = min(1.0, self._seen_s / whole_s) if whole_s else 1.0
        return Sampled(self._asked, self._failed, self._down_s, self._lost, availability, share)

    def _rate_per_s(self, at_s: float) -> float:
        if at_s > self._known_s:
            self._known_s = 2 * at_s + 3600
            self._levels = self._demand.levels(self._known_s, self._starts_at_s)
        return self._levels[max(0, bisect.bisect_right(self._levels, at_s, key=lambda level: level[0]) - 1)][1]
