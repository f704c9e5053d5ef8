"""How long what is held at a random moment is held on: the equilibrium law of a duration, and the longest of many.

A request that is found in service at a random moment has the residual hold R with
P(R <= x) = G(x) = (1 / mean) x integral of 1 - F over [0, x].
"""

from __future__ import annotations

import functools
import math

import numpy as np

from simdeploy.environment.durations import Distribution, Floats

KNOTS = 4096
"""Places of the quantile function at which G is worked out, half of them close to the end of its tail."""
TAIL = 1e-12
"""What lies beyond this share of the holds is taken to fall off exponentially."""


class Residual:
    """The residual hold of one distribution with a mean above 0. Exact for fixed, empirical and exponential holds."""

    def __init__(self, hold: Distribution) -> None:
        self._mean_s = hold.mean_s
        self._endless = hold.kind == "exponential"
        if not self._endless:
            x, over = _steps(hold) if hold.is_fixed or hold.kind == "empirical" else _curve(hold)
            pieces = np.diff(x) * (over[:-1] + over[1:]) / 2
            held_on = np.append(np.cumsum(pieces[::-1])[::-1], 0.0) + _beyond(x, over)
            self._x, self._survival = x[::-1], held_on[::-1] / held_on[0]

    def survival(self, x_s: float) -> float:
        """1 - G(x): the share that is held for longer than *x_s*."""
        if self._endless:
            return math.exp(-x_s / self._mean_s)
        return float(np.interp(-x_s, -self._x, self._survival, left=0.0))

    def longest_s(self, n: float, u: float) -> float:
        """The longest of *n* residual holds (a real number; none: 0 s) at the uniform *u* in [0, 1): G^-1(u^(1/n))."""
        if n <= 0 or u <= 0:
            return 0.0
        survival = -math.expm1(math.log(u) / n)
        if self._endless:
            return -self._mean_s * math.log(survival) if survival < 1 else 0.0
        return float(np.interp(survival, self._survival, self._x))

    def cut(self, n: float, x_s: float) -> float:
        """How many of *n* are still held at *x_s* on average, given that any are: n (1 - G) / (1 - G^n); over all runs n (1 - G)."""
        survival = self.survival(x_s)
        if n <= 0 or survival <= 0:
            return 0.0
        return n if survival >= 1 else n * survival / -math.expm1(n * math.log1p(-survival))


@functools.lru_cache(maxsize=256)
def residual(hold: Distribution) -> Residual:
    """The residual law of *hold*, worked out once."""
    return Residual(hold)


def _steps(hold: Distribution) -> tuple[Floats, Floats]:
    """(x, P(hold > x)) where each value is as likely: twice at each jump."""
    values = np.sort(np.asarray(hold.parameters if hold.kind == "empirical" else (hold.mean_s,)))
    left = 1 - np.arange(len(values) + 1) / len(values)
    return np.append(0.0, np.repeat(values, 2)), np.append(np.repeat(left[:-1], 2), left[-1])


def _curve(hold: Distribution) -> tuple[Floats, Floats]:
    """(x, P(hold > x)) along the quantile function, from 0 on."""
    over = np.append(np.linspace(1, 0.01, KNOTS // 2, endpoint=False), np.geomspace(0.01, TAIL, KNOTS // 2))
    x = hold.inverse(1 - over)
    return np.append(0.0, x), np.append(1.0, over)


def _beyond(x: Floats, over: Floats) -> float:
    """The integral of P(hold > x) beyond the last knot, by the slope of its logarithm there."""
    if over[-1] <= 0:
        return 0.0
    return float(over[-1] * (x[-1] - x[-2]) / math.log(over[-2] / over[-1]))
