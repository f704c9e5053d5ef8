"""Excess demand that waits: one first-in-first-out fluid queue whose requests leave after their patience."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

INSTANT_S = 1e-9
"""What takes less than this takes no time: rounding must not keep a queue from emptying."""


class Waiting(NamedTuple):
    """What became of the requests that entered a queue."""

    served: float
    left: float
    """Requests whose patience ended; they failed."""
    queued: float
    """Still waiting at the end."""


def flow(segments: list[tuple[float, float, float]], patience_s: float) -> Waiting:
    """Push piecewise constant inflow through a server of piecewise constant capacity.

    *segments* are (duration [s], inflow [req/s], capacity [req/s]). Exact: within a segment the head of the
    queue moves through its arrival times at the speed capacity / arrival rate, and never falls further behind
    than *patience_s*. Nothing in the queue: served = min(inflow, capacity).
    """
    now = served = left = 0.0
    chunks: deque[list[float]] = deque()  # [arrived from, until, rate] of what still waits, oldest first
    for duration, inflow, capacity in segments:
        end = now + duration
        while end - now > 0:
            while chunks and (chunks[0][1] - chunks[0][0] <= INSTANT_S or math.isinf(capacity)):
                since, until, rate = chunks.popleft()
                served += (until - since) * rate
            if not chunks:
                if inflow <= capacity:
                    served += inflow * (end - now)
                    break
                chunks.append([now, now, inflow])
            head = chunks[0]
            growing = len(chunks) == 1 and head[1] == now and head[2] == inflow  # the head chunk is still arriving
            age, speed = now - head[0], capacity / head[2]
            waits = end - now
            if age >= patience_s - INSTANT_S and speed < 1:  # the oldest leave as fast as time passes
                step = waits if growing else min(waits, head[1] - head[0])
                served += capacity * step
                left += (head[2] - capacity) * step
                head[0] += step
            else:
                if speed < 1:
                    waits = min(waits, (patience_s - age) / (1 - speed))
                if growing and speed > 1:
                    waits = min(waits, age / (speed - 1))
                elif not growing and speed > 0:
                    waits = min(waits, (head[1] - head[0]) / speed)
                step = waits
                served += capacity * step
                head[0] += speed * step
            then = end if step == end - now else now + step
            _arrive(chunks, now, then, inflow)
            now = then
        now = end
    return Waiting(served, left, sum((until - since) * rate for since, until, rate in chunks))


def _arrive(chunks: deque[list[float]], since: float, until: float, rate: float) -> None:
    """Requests arrive at the end of the queue during [since, until]."""
    if rate <= 0:
        return
    if chunks[-1][2] == rate and chunks[-1][1] == since:
        chunks[-1][1] = until
    else:
        chunks.append([since, until, rate])
