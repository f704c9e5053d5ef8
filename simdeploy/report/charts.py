"""Axes and lines of a page's charts, in SVG that is stretched to its place: where on a square of SIDE by SIDE everything stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.plan.metrics import METRICS
from simdeploy.plan.overview import number
from simdeploy.report.figures import time_scale
from simdeploy.units import TIME

Floats = NDArray[np.float64]
SIDE = 1000
"""A chart's width and height in its own units, y downwards."""
MOST_TICKS = 6
TIMES_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000),
)
"""Distances between the marks of an axis of time."""
DECADES = 2
"""Powers of ten from which on values are drawn on a logarithmic axis."""
MOST_DECADES = 9
"""That an axis shows; what is nearer to 0 stands where it begins."""
ZERO = 0.08
"""Share of a logarithmic axis that is left to the value 0."""


class Tick(NamedTuple):
    """A mark of an axis."""

    share: float
    """Where it stands, from 0 at the axis' begin to 1 at its end."""
    label: str


class Axis(NamedTuple):
    """A range of values, from 0 or, where it is logarithmic, from *low* with a place of its own for 0."""

    low: float
    high: float
    is_log: bool
    ticks: tuple[Tick, ...]

    def shares(self, values: Floats | Sequence[float]) -> Floats:
        """Where *values* stand, from 0 to 1; what is beyond the axis stands at its end."""
        x = np.asarray(values, dtype=np.float64)
        if not self.is_log:
            return np.clip(x / self.high, 0.0, 1.0)
        place = ZERO + (1 - ZERO) * np.log(np.maximum(x, self.low) / self.low) / math.log(self.high / self.low)
        return np.where(x <= 0, 0.0, np.minimum(place, 1.0))

    def share(self, value: float) -> float:
        """Where one value stands."""
        return float(self.shares([value])[0])


def time_axis(end_s: float, most: int = MOST_TICKS) -> Axis:
    """An axis from 0 to *end_s* seconds."""
    step_s = next((t for t in TIMES_S if end_s / t < most), end_s)
    scale, unit = time_scale(end_s)
    marks = np.arange(0, end_s * (1 + 1e-9), step_s).tolist()
    return Axis(0.0, end_s, False, tuple(Tick(t / end_s, f"{t / scale:g} {unit}" if t else "0") for t in marks))


def linear_axis(high: float, metric: str, most: int = MOST_TICKS) -> Axis:
    """An axis from 0 to *high*, in the unit of *metric*."""
    if METRICS[metric].unit == "s":
        return time_axis(high, most)
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(s for s in (power, 2 * power, 5 * power, 10 * power, 20 * power) if high / s < most)
    marks = np.arange(0, high * (1 + 1e-9), step).tolist()
    return Axis(0.0, high, False, tuple(Tick(x / high, number(metric, x) if x else "0") for x in marks))


def value_axis(values: Floats, metric: str, most: int = MOST_TICKS) -> Axis:
    """An axis for *values* of *metric*, logarithmic where they span decades; what is not finite is left out."""
    finite = values[np.isfinite(values)]
    high = float(finite.max(initial=0.0)) or 1.0
    low = max(float(finite[finite > 0].min(initial=high)), high / 10**MOST_DECADES)
    return _log_axis(low, high, metric, most) if high >= 10**DECADES * low else linear_axis(1.04 * high, metric, most)


def _log_axis(low: float, high: float, metric: str, most: int) -> Axis:
    axis = Axis(low / 1.05, high * 1.05, True, ())
    if METRICS[metric].unit == "s":
        marks = [t for t in TIMES_S if axis.low <= t <= axis.high]
        labels = {t: _mark(t) for t in marks}
    else:
        marks = [10.0**k for k in range(math.ceil(math.log10(axis.low)), math.floor(math.log10(axis.high)) + 1)]
        labels = {x: f"{x:,g}" for x in marks}
    shown = marks[:: max(1, -(-len(marks) // (most - 1)))]
    return axis._replace(ticks=(Tick(0.0, "0"), *(Tick(axis.share(x), labels[x]) for x in shown)))


def _mark(at_s: float) -> str:
    """A mark of an axis of time in its own unit: '60 s' is '1 min'."""
    unit, scale = next(((u, TIME[u]) for u in ("d", "h", "min", "s") if at_s >= TIME[u]), ("ms", TIME["ms"]))
    return f"{at_s / scale:g} {unit}"


def line(x: Floats, y: Floats) -> str:
    """The path of a staircase: y[i] holds from x[i] to x[i + 1], the last to the right edge. Both are shares from 0 to 1."""
    steps = _steps(x, y)
    return f"M{steps[0][0]} {steps[0][1]}" + "".join(_to(a, b) for a, b in pairwise(steps)) + f"H{SIDE}"


def area(x: Floats, low: Floats, high: Floats) -> str:
    """The path around what lies between two staircases."""
    upper = _steps(x, high)
    there = "".join(_to(a, b) for a, b in pairwise(upper))
    back = "".join(f"V{y}H{at}" for at, y in reversed(_steps(x, low)))
    return f"M{upper[0][0]} {upper[0][1]}{there}H{SIDE}{back}Z"


def histogram(values: Floats, axis: Axis, bins: int = 60) -> str:
    """The path around the bars of a histogram on *axis*, the highest bar as high as the chart."""
    counts, edges = np.histogram(axis.shares(values[np.isfinite(values)]), bins=bins, range=(0.0, 1.0))
    return area(edges[:-1], np.zeros(bins), counts / max(1, counts.max()))


def _steps(x: Floats, y: Floats) -> list[tuple[int, int]]:
    """The corners of a staircase at which it changes, on the square."""
    corners = zip(np.rint(SIDE * x).astype(int).tolist(), np.rint(SIDE * (1 - y)).astype(int).tolist(), strict=True)
    kept: list[tuple[int, int]] = []
    for at, height in corners:
        if kept and kept[-1][0] == at:
            kept[-1] = (at, height)
        elif not kept or kept[-1][1] != height:
            kept.append((at, height))
    return kept


def _to(a: tuple[int, int], b: tuple[int, int]) -> str:
    return f"H{b[0]}" + (f"V{b[1]}" if a[1] != b[1] else "")
