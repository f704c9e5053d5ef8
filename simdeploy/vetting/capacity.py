"""Capacity at the front door for every timing, and with machines, zones and tolerated failures lost beside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from simdeploy.vetting.floors import NOTHING, Floors, Without

MOST_CHOICES = 256


class FrontDoor(NamedTuple):
    """The least capacity at the front door [req/s], and the service that limits it there."""

    least_per_s: float
    service: str
    state: frozenset[int]


def front_door(floors: Floors, given: Without = NOTHING, pinned: bool = False) -> FrontDoor:
    """The floor of the front door: the least over the critical services, by the bottleneck law.

    The least over states and the least over services may change places, so that this is exact. Of cells every choice of
    the scarcest service of each is tried; of more than MOST_CHOICES the sum of the least of each cell is a bound. With
    *pinned* only what is in cells counts.
    """
    env = floors.section.env
    cells: dict[str, list[FrontDoor]] = {}
    worst = FrontDoor(math.inf, "", frozenset())
    for service, cell in floors.pools:
        if service not in env.critical or not env.visits[service] or (pinned and cell is None):
            continue
        low = floors.floor(service, cell, given)
        one = FrontDoor(low.per_s / env.visits[service], service, low.state)
        if cell is None:
            worst = min(worst, one, key=lambda f: f.least_per_s)
        else:
            cells.setdefault(cell, []).append(one)
    return min(worst, _of_cells(floors, cells, given), key=lambda f: f.least_per_s) if cells else worst


def _of_cells(floors: Floors, cells: dict[str, list[FrontDoor]], given: Without) -> FrontDoor:
    """The least sum over the cells of what each one's scarcest service serves."""
    least = {cell: min(ones, key=lambda f: f.least_per_s) for cell, ones in cells.items()}
    first = min(least.values(), key=lambda f: f.least_per_s)
    bound = FrontDoor(math.fsum(f.least_per_s for f in least.values()), first.service, first.state)
    services = floors.section.env.services
    balanced = all(
        services[f.service].role == "stateless" and services[f.service].balancing == "by_capacity" for fs in cells.values() for f in fs
    )
    if not balanced or math.prod(map(len, cells.values())) > MOST_CHOICES:
        return bound
    found = []
    for scarce in itertools.product(*([f.service for f in ones] for ones in cells.values())):
        low = floors.together([*zip(scarce, cells, strict=True)], given)
        found.append(FrontDoor(low.per_s, scarce[0], low.state))
    return min(found, key=lambda f: f.least_per_s)


def of_service(floors: Floors, service: str, cells: Sequence[str | None], given: Without = NOTHING) -> float:
    """The least that *service* leaves at the front door, in all its *cells* together [req/s]."""
    env = floors.section.env
    spec = env.services[service]
    if len(cells) > 1 and spec.balancing == "by_capacity" and spec.capacity_per_s is not None:
        return floors.together([(service, cell) for cell in cells], given).per_s
    return math.fsum(floors.floor(service, cell, given).per_s for cell in cells) / env.visits[service]
