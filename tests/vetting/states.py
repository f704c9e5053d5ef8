"""Every reachable state of small plans, folded as the simulator folds it: what the proofs are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import Progress, Result, order
from simdeploy.plan.state import State


def states(plan: Plan, part: int = 0) -> Iterator[list[tuple[int, int]]]:
    """Every reachable state of a part of *plan*: the events (step, begin or end) that have happened, in a possible order."""
    waits = {k: {plan.wiring.position[n] for n in (*s.needs, *s.after)} for k, s in enumerate(plan.steps) if s.part == part}
    seen: set[frozenset[tuple[int, int]]] = set()
    todo: list[list[tuple[int, int]]] = [[]]
    while todo:
        done = todo.pop()
        key = frozenset(done)
        if key in seen:
            continue
        seen.add(key)
        yield done
        for k, before in waits.items():
            if (k, 0) not in key and all((b, 1) in key for b in before):
                todo.append([*done, (k, 0)])
            elif (k, 0) in key and (k, 1) not in key:
                todo.append([*done, (k, 1)])


def capacity_in(plan: Plan, layout: Layout, book: FactBook, events: list[tuple[int, int]], dead: Sequence[int] = ()) -> float:
    """The capacity at the front door after *events*, as the simulator folds them, when these machines have died since."""
    state = State(layout, 50.0)
    for k, when in events:
        if when == 0:
            state.apply(layout.begin[k], 0.0, 0.0)
        for i, factor in layout.slow[k]:
            state.slow(i, factor, begins=when == 0)  # what fails slows nobody any more
        if when == 1:
            state.apply(layout.end[k], 0.0, 0.0)
    for machine in dead:
        state.crashed(machine, 0.0)
    return book.facts[book.of(state, frozenset())].capacity


def brute_floor(plan: Plan) -> float:
    layout = Layout(plan)
    book = FactBook(layout)
    return min(capacity_in(plan, layout, book, events) for events in states(plan))


def runs(plan: Plan, spared: str = "") -> Iterator[tuple[Progress, list[tuple[int, int]]]]:
    """Every state that *plan* may come to when any step may fail but those of the section that is *spared*.

    Found by the program that decides what may start. The events: (step, 0 = begin, 1 = success, 2 = failure).
    """
    ordered, seen = order(plan), set[tuple[object, ...]]()
    todo: list[tuple[tuple[int, Result], ...]] = [()]
    while todo:
        path = todo.pop()
        progress, running, events = Progress(ordered), list[int](), list[tuple[int, int]]()

        def settle(progress: Progress = progress, running: list[int] = running, events: list[tuple[int, int]] = events) -> None:
            while True:
                verdicts = progress.judged()
                begun = progress.started()
                running.extend(begun)
                events.extend((k, 0) for k in begun)
                if not verdicts and not begun:
                    return

        settle()
        for step, result in path:
            running.remove(step)
            events.append((step, 1 if result == "succeeded" else 2))
            progress.ended(step, result)
            settle()
        key = (frozenset(events), tuple(progress.results), progress.aborting, progress.section)
        if key in seen:
            continue
        seen.add(key)
        yield progress, events
        for step in running:
            todo.append((*path, (step, "succeeded")))
            if plan.steps[step].section != spared:
                todo.append((*path, (step, "failed")))


def brute_floor_with_failures(plan: Plan) -> float:
    """The least capacity of all states with users in them that *plan* may come to when any step may fail."""
    layout = Layout(plan)
    book = FactBook(layout)
    opened = [(k, 1) for k, step in enumerate(plan.steps) if ("open",) in step.end]
    return min((capacity_in(plan, layout, book, events) for _, events in runs(plan) if set(opened) <= set(events)), default=math.inf)
