"""The reachable state that weighs most: a set of events that holds with each event all that come before it.

The heaviest such set is a minimum cut (Picard 1976), and for absences that begin and end it is the heaviest antichain of
Dilworth's theorem: the worst simultaneous outage, whatever the timing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from simdeploy.vetting.shape import Event

LARGEST = 2**31 - 1
"""Capacities are 32-bit integers; what must not be cut has this one."""


def heaviest(before: Sequence[Sequence[Event]], weights: Mapping[Event, float], forced: Collection[Event] = ()) -> set[Event]:
    """The events of the heaviest state that contains the *forced* events; the smallest such state.

    *before* are the events directly before each event.
    Fractions are weighed to about a billionth of the whole.
    """
    needed = below(before, {*(e for e, w in weights.items() if w > 0), *forced})
    if not needed:
        return needed
    local = {event: k for k, event in enumerate(needed)}
    source, sink = len(local), len(local) + 1
    total = (sum(abs(w) for w in weights.values()) + 1.0) * (len(forced) + 1)
    scale = 1.0 if total < 2**29 and all(float(w).is_integer() for w in weights.values()) else 2**28 / total
    must = int(total * scale / (len(forced) + 1)) + 1
    rows: list[tuple[int, int, int]] = [(k, local[e], LARGEST) for event, k in local.items() for e in before[event]]
    for event in {*weights, *forced} & needed:
        weight = round(weights.get(event, 0.0) * scale) + (must if event in forced else 0)
        rows.append((source, local[event], weight) if weight > 0 else (local[event], sink, -weight))
    table = np.array(rows, dtype=np.int64)
    graph = csr_array((table[:, 2].astype(np.int32), (table[:, 0], table[:, 1])), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, source, sink).flow
    left = csr_array(graph - flow)
    left.eliminate_zeros()
    reached = set(breadth_first_order(left, source, return_predecessors=False).tolist())
    return {event for event, k in local.items() if k in reached}


def below(before: Sequence[Sequence[Event]], events: Collection[Event]) -> set[Event]:
    """The smallest state that contains *events*."""
    found, todo = set(events), [*events]
    while todo:
        for e in before[todo.pop()]:
            if e not in found:
                found.add(e)
                todo.append(e)
    return found
