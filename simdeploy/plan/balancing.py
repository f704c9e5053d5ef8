"""How a balancer shares requests among the instances of one pool, and what follows: capacity, traffic, dead ends.

Instance i gets a share of the requests in proportion to w_i x f_i, its weight times what is left of its capacity.
A balancer that does not know who is slow (`balancing: even`) goes by w_i alone. Sums do not depend on the order
of their parts, so that equal states have equal bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from simdeploy.environment.models import Service
from simdeploy.plan.layout import DEAD, SERVING, Condition

Traffic = dict[str | int, float]
"""Version -> requests that it gets, as a number to be compared with that of the other versions."""


class Group(NamedTuple):
    """Like instances in one condition."""

    group: int
    mode: int
    version: str | int
    factor: float
    weight: float
    size: int

    @classmethod
    def of(cls, group: int, condition: Condition, size: int) -> Group:
        """*size* instances of the class *group* in *condition*."""
        return cls(group, *condition, size)


def pool_capacity(service: Service, taking: list[Group], even: bool) -> float:
    """Requests per second that the instances *taking* them serve before the first of them has too many.

    With the share x_i an instance bears c x f_i / x_i in all; one with nothing left bears nothing.
    """
    sizes: dict[tuple[float, float], int] = {}
    for g, weight in _weighed(taking):
        sizes[g.factor, weight] = sizes.get((g.factor, weight), 0) + g.size
    most = max((weight for factor, weight in sizes if factor), default=0.0)
    if not most:
        return 0.0
    if service.capacity_per_s is None:
        return math.inf
    if even:
        least = min(factor / weight for factor, weight in sizes)
        return service.capacity_per_s * least * math.fsum(weight * size for (_, weight), size in sizes.items())
    return math.fsum(service.capacity_per_s * factor * size * weight for (factor, weight), size in sizes.items()) / most


def one_share(factor: float, weight: float, taking: list[Group], even: bool) -> float:
    """The share of the requests that goes to one instance of those *taking* them, 0 where it gets none."""
    weighed = _weighed(taking)
    own = weight / max((g.weight for g in taking), default=1.0) if weight else 0.0
    total = math.fsum(g.size * w * (1.0 if even else g.factor) for g, w in weighed)
    return own * (1.0 if even else factor) / total if total else 0.0


def traffic(service: Service, taking: list[Group]) -> Traffic:
    """How the requests divide among the versions of the instances *taking* them; where all are locked, by weight."""
    weighed = _weighed(taking)
    knows = service.balancing == "by_capacity" and any(g.factor for g, _ in weighed)
    parts: dict[str | int, list[float]] = {}
    for g, weight in weighed:
        parts.setdefault(g.version, []).append(g.size * weight * (g.factor if knows else 1.0))
    return {version: math.fsum(part) for version, part in parts.items()}


def dead_share(pool: list[Group]) -> float:
    """Share of the requests that are sent to an instance that is dead in the pool."""
    weighed = _weighed([g for g in pool if g.mode in (DEAD, SERVING)])
    dead = math.fsum(g.size * weight for g, weight in weighed if g.mode == DEAD)
    return dead / math.fsum(g.size * weight for g, weight in weighed) if dead else 0.0


def _weighed(groups: list[Group]) -> list[tuple[Group, float]]:
    """Those that get requests, each with its weight by the heaviest one's: only the ratios of weights matter."""
    most = max((g.weight for g in groups), default=0.0)
    return [(g, g.weight / most) for g in groups if g.weight / most] if most else []
