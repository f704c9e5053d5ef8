"""The reachable state that weighs most: a set of events that holds with each event all that come before it.

The heaviest such set is a minimum cut (Picard 1976), and for absences that begin and end it is the heaviest antichain of
Dilworth's theorem: the worst simultaneous outage, whatever the timing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

LARGEST = 2**31 - 1
"""Capacities are 32-bit integers; what must not be cut has this one."""


def heaviest(before: Sequence[Sequence[int]], weights: Mapping[int, float], forced: Collection[int] = ()) -> set[int]:
    """The events of the heaviest state that contains the *forced* events; the smallest such state.

    *before* are the classes directly before each class; *weights* are of events, and an end comes after its begin.
    Fractions are weighed to about a billionth of the whole.
    """
    needed = _needed(before, {*(e for e, w in weights.items() if w > 0), *forced})
    local = {event: k for k, event in enumerate(sorted(needed))}
    source, sink = len(local), len(local) + 1
    total = sum(abs(w) for e, w in weights.items() if e in local) + 1.0
    scale = (
        1.0
        if all(float(w).is_integer() for w in weights.values()) and total * (len(forced) + 1) < 2**29
        else 2**28 / total / (len(forced) + 1)
    )
    must = int(total * scale) + 1
    rows: list[tuple[int, int, int]] = []
    for event, k in local.items():
        weight = round(weights.get(event, 0.0) * scale) + (must if event in forced else 0)
        if weight > 0:
            rows.append((source, k, weight))
        elif weight < 0:
            rows.append((k, sink, -weight))
        rows += [(k, local[e], LARGEST) for e in _directly_before(before, event)]
    if not any(u == source for u, _, _ in rows):
        return set()
    table = np.array(rows, dtype=np.int64)
    graph = csr_array((table[:, 2].astype(np.int32), (table[:, 0], table[:, 1])), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, source, sink).flow
    left = csr_array(graph - flow)
    left.eliminate_zeros()
    reached = set(breadth_first_order(left, source, return_predecessors=False).tolist())
    return {event for event, k in local.items() if k in reached}


def below(before: Sequence[Sequence[int]], events: Collection[int]) -> set[int]:
    """The smallest state that contains *events*."""
    return _needed(before, events)


def _directly_before(before: Sequence[Sequence[int]], event: int) -> list[int]:
    return [event - 1] if event & 1 else [2 * u + 1 for u in before[event >> 1]]


def _needed(before: Sequence[Sequence[int]], events: Collection[int]) -> set[int]:
    found, todo = set(events), [*events]
    while todo:
        for e in _directly_before(before, todo.pop()):
            if e not in found:
                found.add(e)
                todo.append(e)
    return found
