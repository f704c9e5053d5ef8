"""Who may be slowed by what at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from simdeploy.vetting.failures import Failures
from simdeploy.vetting.section import Life
from simdeploy.vetting.shape import Event

MANY = 6
"""Of more steps that may slow one instance all are taken to do so at once."""


class Span(NamedTuple):
    """A time in which somebody has so much of his capacity left."""

    left: float
    since: Event | None
    """None = from the start."""
    until: Event | None
    """None = to the end."""


def at_once(life: Life, failures: Failures, failing: bool, declared: bool) -> Iterator[tuple[Span, ...]]:
    """All sets of slowings of somebody who lives a *life* that may fall on him while he serves, the empty one first.

    Some of them may be never at once. *failing*: also while he should be out, where what takes him out has failed and nobody
    minds; not *declared*: without locks.
    """
    spans = [
        Span(w.left, w.since, w.until)
        for w in life.slowings
        if (w.left > 0 or declared) and (w.share > 0 or (failing and may_serve(life, w.since, failures)))
    ]
    if len(spans) > MANY:
        yield from ((), (Span(math.prod(s.left for s in spans), None, None),))
        return
    for n in range(len(spans) + 1):
        yield from itertools.combinations(spans, n)


def may_serve(life: Life, since: Event, failures: Failures) -> bool:
    """Whether somebody may serve at an event, although he should be out: where it needs not what takes him out."""
    needed = failures.needed([since >> 1]) | {since >> 1}
    return any(s.serves for s in life.spells) and any(
        s.since is not None and s.since >> 1 not in needed for s in life.spells if not s.serves
    )
