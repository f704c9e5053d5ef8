"""What a number of replications supports: means, quantiles and shares with their intervals, and nothing more."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]
TAIL = 0.025
"""Probability left out on each side of a 95 % interval."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval; ci95 is None for a single replication."""

    mean: float
    ci95: Interval | None


def replications_needed(p: float) -> int:
    """Replications from which the p-quantile has a two-sided 95 % interval, both of whose ends are order statistics.

    The largest of n values lies above it with probability 1 - p^n, the smallest below it with 1 - (1-p)^n.

    >>> replications_needed(0.5), replications_needed(0.95), replications_needed(0.99)
    (6, 72, 368)
    """
    return math.ceil(math.log(TAIL) / math.log(max(p, 1 - p)))


def mean(values: Floats) -> Estimate | None:
    """The mean with Student's t interval; None where a value is missing (nan), or some are infinite either way."""
    if len(values) == 0 or np.isnan(values).any() or (np.inf in values and -np.inf in values):
        return None
    centre = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(centre):
        return Estimate(centre, None)
    from scipy import stats  # half a second: only where intervals are wanted

    half = float(np.std(values, ddof=1)) / math.sqrt(len(values)) * float(stats.t.ppf(1 - TAIL, len(values) - 1))
    return Estimate(centre, (centre - half, centre + half))


def proportion(values: Floats) -> Estimate:
    """The share of ones among values that are 0 or 1, with the exact interval."""
    count = round(float(np.sum(values)))
    return Estimate(count / len(values), share_ci95(count, len(values)))


def paired(one: Floats, other: Floats) -> Floats:
    """*one* - *other*, replication by replication; what differs by rounding alone differs by 0."""
    with np.errstate(invalid="ignore"):  # two infinities are alike
        difference = np.where(one == other, 0.0, one - other)
    difference[np.isfinite(difference) & (np.abs(difference) <= 1e-9 * np.maximum(np.abs(one), np.abs(other)))] = 0.0
    return difference


def quantile(values: Floats, p: float) -> float | None:
    """The p-quantile; None where a value is missing or the replications cannot support an interval around it."""
    if len(values) < replications_needed(p) or np.isnan(values).any():
        return None
    return float(np.quantile(values, p, method="inverted_cdf"))


def quantile_ci95(values: Floats, p: float) -> Interval | None:
    """The exact (order-statistic) 95 % interval of the p-quantile, or None like `quantile`."""
    if quantile(values, p) is None:
        return None
    from scipy import stats

    test = stats.quantile_test(values, p=p)
    interval: Any = test.confidence_interval(confidence_level=1 - 2 * TAIL)
    return float(interval.low), float(interval.high)


def share_ci95(count: int, of: int) -> Interval:
    """The exact (Clopper-Pearson) 95 % interval of a share.

    No event in n runs still has an upper bound, 1 - 0.025^(1/n), and n of n a lower one, 0.025^(1/n): two-sided.
    """
    from scipy import stats

    interval = stats.binomtest(count, of).proportion_ci(confidence_level=1 - 2 * TAIL, method="exact")
    return float(interval.low), float(interval.high)
