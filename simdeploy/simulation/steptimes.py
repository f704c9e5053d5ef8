"""When each step of a plan ran in each replication, and how little the front door could serve meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.plan.facts import FactBook
from simdeploy.plan.measurement import Run

Floats = NDArray[np.float64]


class StepTimes(NamedTuple):
    """Two arrays of (replications, steps), the steps in the plan's order, and one of (steps,)."""

    begins_s: Floats
    """When the first attempt began; nan where none did. A judge begins and ends with its verdict."""
    lasts_s: Floats
    """Until it ended, in whatever way; inf where it never did, nan where it did not begin."""
    capacity_per_s: Floats
    """The lowest capacity at the front door while it ran, over the replications; nan where it never took any time."""

    @classmethod
    def empty(cls, steps: int, replications: int) -> StepTimes:
        """Nothing has begun."""
        begins_s, lasts_s = (np.full((replications, steps), math.nan) for _ in range(2))
        return cls(begins_s, lasts_s, np.full(steps, math.nan))

    @classmethod
    def joined(cls, parts: Sequence[StepTimes]) -> StepTimes | None:
        """The replications of all *parts* in their order; None where there are none."""
        if not parts:
            return None
        begins_s, lasts_s = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        return cls(begins_s, lasts_s, np.fmin.reduce([part.capacity_per_s for part in parts]))

    def fill_in(self, r: int, book: FactBook, run: Run, begins_s: list[float], ends_s: list[float]) -> Run:
        """Fill in the *r*-th replication as `Engine.timed_runs` gives it; returns its *run*."""
        begins, ends = np.array(begins_s), np.array(ends_s)
        self.begins_s[r], self.lasts_s[r] = begins, ends - begins
        ran = np.flatnonzero(self.lasts_s[r] > 0)
        if len(ran):
            times = np.array(run.times)
            capacity = np.array([book.facts[s].capacity for s in run.states])
            first = np.searchsorted(times, begins[ran], "right") - 1
            last = np.searchsorted(times, ends[ran], "left") - 1
            self.capacity_per_s[ran] = np.fmin(self.capacity_per_s[ran], _lowest(capacity, first, last))
        return run


def _lowest(values: Floats, first: NDArray[np.intp], last: NDArray[np.intp]) -> Floats:
    """min(values[a : b + 1]) for each pair a <= b of *first* and *last*.

    The k-th row of a table holds the minimum of the 2^k values from each place on; two overlapping rows cover any range.
    """
    table = [values]
    while 2 ** len(table) <= len(values):
        half = 2 ** (len(table) - 1)
        table.append(np.minimum(table[-1][:-half], table[-1][half:]))
    level = np.frexp(last - first + 1)[1] - 1
    lowest = np.empty(len(first))
    for k in np.unique(level):
        of = level == k
        lowest[of] = np.minimum(table[k][first[of]], table[k][last[of] - 2**k + 1])
    return lowest
