"""Excess demand that waits: one first-in-first-out fluid queue whose requests leave after their patience."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


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
        while now < end:
            while chunks and chunks[0][1] - chunks[0][0] <= 1e-12 * max(1.0, now):
                chunks.popleft()
            if not chunks:
                if inflow <= capacity:
                    served += inflow * (end - now)
                    now = end
                    continue
                chunks.append([now, now, inflow])
            head = chunks[0]
            growing = len(chunks) == 1 and head[1] == now and head[2] == inflow  # the head chunk is still arriving
            age = now - head[0]
            speed = capacity / head[2] if head[2] > 0 else float("inf")
            if age >= patience_s and speed < 1:  # the oldest leave as fast as time passes
                step = min(end - now, head[1] - head[0] if not growing else end - now)
                served += capacity * step
                left += (head[2] - capacity) * step
                head[0] += step
            else:
                room = (head[1] - head[0]) / speed if speed > 0 else float("inf")
                if growing:
                    room = (now - head[0]) / (speed - 1) if speed > 1 else float("inf")
                until_old = (patience_s - age) / (1 - speed) if speed < 1 else float("inf")
                step = min(end - now, room, max(until_old, 0.0))
                served += capacity * step
                head[0] += speed * step
            now += step
            _arrive(chunks, now - step, now, inflow)
    return Waiting(served, left, sum((until - since) * rate for since, until, rate in chunks))


def _arrive(chunks: deque[list[float]], since: float, until: float, rate: float) -> None:
    if rate <= 0:
        return
    if chunks and chunks[-1][2] == rate and chunks[-1][1] == since:
        chunks[-1][1] = until
    else:
        chunks.append([since, until, rate])
