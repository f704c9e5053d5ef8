"""The workload of the comparison as anybody would write it with SimPy alone: it tracks one number.

A fleet of web machines is upgraded in waves, four steps a machine (drain, stop, install, start), at most `forks`
machines at a time, a failing install is tried again; the capacity that is left is integrated into failed requests.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import simpy

WAVE_SHARE, FORKS = 10, 20
DEMAND_SHARE = 0.95
RATE_PER_S = 10.0
P_FAIL, RETRIES, RETRY_DELAY_S = 0.05, 2, 15.0
STEPS = (("drain", 20.0, 40.0), ("stop", 5.0, 15.0), ("install", 60.0, 180.0), ("start", 10.0, 30.0))


def wave_size(machines: int) -> int:
    """Machines of one wave: a tenth of the fleet, at least one."""
    return max(1, machines // WAVE_SHARE)


def replicate(machines: int, seed: int) -> float:
    """Failed requests of one replication."""
    env = simpy.Environment()
    forks = simpy.Resource(env, capacity=FORKS)
    luck = random.Random(seed)
    demand = DEMAND_SHARE * machines * RATE_PER_S
    capacity, since, failed = machines * RATE_PER_S, 0.0, 0.0

    def change(by: float) -> None:
        nonlocal capacity, since, failed
        failed += max(0.0, demand - capacity) * (env.now - since)
        capacity, since = capacity + by, env.now

    def upgrade() -> Generator[Any, Any, None]:
        with forks.request() as slot:
            yield slot
            change(-RATE_PER_S)
            for name, low, high in STEPS:
                for _ in range(1 + (RETRIES if name == "install" else 0)):
                    yield env.timeout(luck.uniform(low, high))
                    if name != "install" or luck.random() >= P_FAIL:
                        break
                    yield env.timeout(RETRY_DELAY_S)
                else:
                    return  # it stays out
        change(RATE_PER_S)

    def roll() -> Generator[Any, Any, None]:
        size = wave_size(machines)
        for first in range(0, machines, size):
            yield env.all_of([env.process(upgrade()) for _ in range(min(size, machines - first))])

    env.run(until=env.process(roll()))
    change(0.0)
    return failed
