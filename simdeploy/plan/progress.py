"""What may start now: every decision about order, with no clock and no IO.

Simulator and runner both ask a Progress and tell it what ended; it decides about skipping, guards, judging,
pools, aborts and the change of section. Steps go by their position in the plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import networkx as nx

from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import MAIN, ROLLBACK, Reaction

Result: TypeAlias = Literal["succeeded", "failed", "skipped", "not_needed"]
SUCCEEDED: Result = "succeeded"
FAILED: Result = "failed"
SKIPPED: Result = "skipped"
NOT_NEEDED: Result = "not_needed"


class Order(NamedTuple):
    """What a Progress needs of a plan, derived once for all its runs."""

    plan: Plan
    successors: list[list[tuple[int, bool]]]
    waits: list[int]
    section: list[int]
    """In which part of the plan each step has its turn."""
    judge: list[bool]
    group: list[int]
    """Steps that want the same of the pools share a group; judges have none."""
    wants: list[tuple[tuple[int, int], ...]]
    """Of each group: (pool, units)."""
    room: list[int]
    """Units of each pool."""
    lane: list[int]
    """Steps that name the same lane share one; of those that name none, steps on one target that need each other, directly or not."""
    watched: dict[int, list[int]]
    """Of each judge: the positions it counts."""
    machine: list[str]
    """Where each step is executed."""
    dropped: list[int]
    """The steps that an abort does not wait for."""


def order(plan: Plan) -> Order:
    """The order of *plan*, for any number of Progresses."""
    wiring = plan.wiring
    pools = {name: i for i, name in enumerate(plan.pools)}
    groups: dict[tuple[tuple[int, int], ...], int] = {}
    wanted = [() if s.kind == "judge" else tuple(sorted((pools[p], n) for p, n in s.pools)) for s in plan.steps]
    group = [-1 if s.kind == "judge" else groups.setdefault(w, len(groups)) for s, w in zip(plan.steps, wanted, strict=True)]
    same = nx.utils.UnionFind(range(len(plan.steps)))
    named: dict[str, int] = {}
    for i, step in enumerate(plan.steps):
        if step.lane:
            same.union(i, named.setdefault(step.lane, i))
            continue
        for need in step.needs:
            j = wiring.position[need]
            if step.target and plan.steps[j].target == step.target and not plan.steps[j].lane:
                same.union(i, j)
    return Order(
        plan=plan,
        successors=wiring.successors,
        waits=wiring.waits,
        section=[s.part for s in plan.steps],
        judge=[s.kind == "judge" for s in plan.steps],
        group=group,
        wants=list(groups),
        room=list(plan.pools.values()),
        lane=[same[i] for i in range(len(plan.steps))],
        watched={i: [wiring.position[w] for w in s.judge.watch] for i, s in enumerate(plan.steps) if s.judge},
        machine=[s.on for s in plan.steps],
        dropped=[i for i, s in enumerate(plan.steps) if not s.awaited],
    )


class Progress:
    """One run of a plan, seen from its order.

    Tell it `ended`; then ask `judged`, then `started`, as model.md orders one instant. `passed` collects the steps that
    ended without running since it was last emptied, and what an abort cut short; `aborts` who aborted and what follows.
    """

    def __init__(self, steps: Order) -> None:
        self._order = steps
        self._waiting = steps.waits.copy()
        self._room = steps.room.copy()
        self._ready: list[list[int]] = [[] for _ in steps.wants]
        self._judges: list[int] = []
        self._doomed: set[int] = set()
        self._began = [False] * len(steps.waits)
        self._lanes: set[int] = set()
        """Lanes that had begun when their section was aborted."""
        self._stranded: dict[str, list[int]] = {}
        self.results: list[Result | None] = [None] * len(steps.waits)
        self.passed: list[tuple[int, Result]] = []
        self.aborts: list[tuple[int, Reaction]] = []
        self.section = MAIN
        self.running = 0
        self.failures = 0
        """Of the section that runs."""
        self.aborting: Reaction | None = None
        """What the section that runs is being left for."""
        self.outcome: str | None = None
        """success, partial, rolled_back or halted once nothing is left to do."""
        self._open_section()

    def ended(self, step: int, result: Result) -> None:
        """Note that a step that was started has ended, all its attempts included."""
        self._stopped(step)
        if result == FAILED:
            spec = self._order.plan.steps[step]
            if spec.gate is not None:
                self.abort(spec.gate.reaction, step)
            else:
                self.failures += 1
                if spec.fatal:
                    self.abort(self._order.plan.on_abort, step)
        self._settle(step, result)

    def _stopped(self, step: int) -> None:
        self.running -= 1
        for pool, units in self._order.wants[self._order.group[step]]:
            self._room[pool] += units

    def judged(self) -> list[tuple[int, Result]]:
        """The judges whose turn has come, in plan order, with what each said; failed = it aborts."""
        verdicts: list[tuple[int, Result]] = []
        while self._judges and self.aborting is None:
            judge = heapq.heappop(self._judges)
            verdict = FAILED if self._too_many(judge) else SUCCEEDED
            verdicts.append((judge, verdict))
            if verdict == FAILED:
                self.abort(self._order.plan.on_abort, judge)
            self._settle(judge, verdict)
        return verdicts

    @property
    def gives_up(self) -> bool:
        """Whether a section is being left for another: no further attempt of it begins."""
        return self.aborting is not None and self.aborting != "halt"

    def has_verdicts(self) -> bool:
        """Whether a judge's turn has come."""
        return bool(self._judges)

    def started(self) -> list[int]:
        """The steps that start now, in plan order; each counts as running from here on."""
        if self._stranded:
            self._strand()
        begun: list[int] = []
        if len(self._ready) == 1:
            self._take(0, begun)
        else:
            while (best := self._next()) is not None:
                self._take(best, begun, first_only=True)
        self.running += len(begun)
        return self.started() if not begun and self._moves_on() else begun

    def started_among(self, most: int, only: Callable[[int], bool]) -> list[int]:
        """As `started`, but no more than *most* steps, and of those only what *only* lets through; the others stay ready."""
        held = [[i for i in heap if not only(i)] for heap in self._ready]
        self._ready = [sorted(set(heap).difference(kept)) for heap, kept in zip(self._ready, held, strict=True)]
        begun: list[int] = []
        while len(begun) < most and (best := self._next()) is not None:
            self._take(best, begun, first_only=True)
        self._ready = [sorted(heap + kept) for heap, kept in zip(self._ready, held, strict=True)]
        self.running += len(begun)
        return self.started_among(most, only) if not begun and self._moves_on() else begun

    def ready(self) -> list[int]:
        """The steps that wait for nothing but room, in plan order."""
        return sorted(i for heap in self._ready for i in heap)

    def _moves_on(self) -> bool:
        """Close the section in which nothing is left to do; whether another one has begun then."""
        if self.running > 0 or self.outcome is not None or self._judges or self._has_work():
            return False
        self._close_section()
        return self.outcome is None and not self._judges

    def _has_work(self) -> bool:
        return any(self._ready) or any(self._stranded.values())

    def abort(self, reaction: Reaction, step: int) -> None:
        """Stop the section, since *step* failed: no further attempt begins, or (halt) no further lane.

        A second abort is the first, and from a rollback there is nowhere to go: it halts.
        """
        if self.aborting is not None:
            return
        if self.section == ROLLBACK:
            reaction = "halt"
        began = [i for i, yes in enumerate(self._began) if yes]
        self._lanes = {self._order.lane[i] for i in began}
        undoable = ROLLBACK in self._order.section and not any(self._order.plan.steps[i].no_return for i in began)
        self.aborting = "halt" if reaction == "rollback" and not undoable else reaction
        self.aborts.append((step, self.aborting))
        self._judges.clear()
        for group, heap in enumerate(self._ready):
            self._ready[group] = [i for i in heap if self._may_go_on(i)]
            heapq.heapify(self._ready[group])
        for machine, steps in self._stranded.items():
            self._stranded[machine] = [i for i in steps if self._may_go_on(i)]
        for dropped in self._order.dropped:
            if dropped != step and self._began[dropped] and self.results[dropped] is None:
                self._stopped(dropped)
                self.passed.append((dropped, SKIPPED))
                self._settle(dropped, SKIPPED)

    def machine_down(self, machine: str) -> None:
        """No step begins on this machine until it is up again."""
        self._stranded.setdefault(machine, [])

    def machine_up(self, machine: str) -> None:
        """Steps may begin on this machine again."""
        for step in self._stranded.pop(machine, []):
            heapq.heappush(self._ready[self._order.group[step]], step)

    def awaited(self) -> set[str]:
        """The machines that must be up again before some ready step can begin."""
        return {machine for machine, steps in self._stranded.items() if steps}

    def _strand(self) -> None:
        for group, heap in enumerate(self._ready):
            for step in [i for i in heap if self._order.machine[i] in self._stranded]:
                self._stranded[self._order.machine[step]].append(step)
                heap.remove(step)
            heapq.heapify(self._ready[group])

    def began(self, step: int) -> bool:
        """Whether an attempt of this step ever began."""
        return self._began[step]

    def _take(self, group: int, begun: list[int], first_only: bool = False) -> None:
        """Move the first steps of a group that fit in their pools, or only the very first, to *begun*."""
        heap, wants, room, began = self._ready[group], self._order.wants[group], self._room, self._began
        while heap:
            for pool, units in wants:
                if room[pool] < units:
                    return
            for pool, units in wants:
                room[pool] -= units
            step = heapq.heappop(heap)
            began[step] = True
            begun.append(step)
            if first_only:
                return

    def _next(self) -> int | None:
        """The group whose first ready step comes next in plan order and fits in all its pools."""
        best: int | None = None
        for group, heap in enumerate(self._ready):
            if heap and (best is None or heap[0] < self._ready[best][0]):
                if all(self._room[pool] >= units for pool, units in self._order.wants[group]):
                    best = group
        return best

    def _settle(self, step: int, result: Result) -> None:
        """Write down a result, and let those that waited for it have their turn."""
        todo = [(step, result)]
        while todo:
            step, result = todo.pop()
            self.results[step] = result
            success = result in (SUCCEEDED, NOT_NEEDED)
            for later, needs in self._order.successors[step]:
                self._waiting[later] -= 1
                if needs and not success:
                    self._doomed.add(later)
                if self._waiting[later] == 0:
                    passed = self._turn(later)
                    if passed is not None:
                        todo.append((later, passed))

    def _turn(self, step: int) -> Result | None:
        """Queue a step whose predecessors have all ended, or say how it ends without running."""
        if self.aborting is not None and not self._may_go_on(step):
            return None
        passed: Result | None = SKIPPED if step in self._doomed else None
        if passed is None and self.section != MAIN and not self._is_wanted(step):
            passed = NOT_NEEDED
        if passed is not None:
            self.passed.append((step, passed))
        elif self._order.judge[step]:
            heapq.heappush(self._judges, step)
        else:
            heapq.heappush(self._ready[self._order.group[step]], step)
        return passed

    def _may_go_on(self, step: int) -> bool:
        """While aborting: only a halt lets anything begin, and only the rest of a lane that has begun."""
        ordinary = self._order.plan.steps[step].kind == "step"
        return self.aborting == "halt" and ordinary and self._order.lane[step] in self._lanes

    def _is_wanted(self, step: int) -> bool:
        """Whether the guard of a step holds, by the results of earlier sections."""
        spec, index, results = self._order.plan.steps[step], self._order.plan.wiring.position, self.results
        return (
            (not spec.began or any(self._began[index[i]] for i in spec.began))
            and not any(self._began[index[i]] for i in spec.unbegun)
            and all(results[index[i]] == SUCCEEDED for i in spec.done)
            and (not spec.undone or any(results[index[i]] != SUCCEEDED for i in spec.undone))
        )

    def _too_many(self, step: int) -> bool:
        judge = self._order.plan.steps[step].judge
        if judge is None:
            return False
        of_all = judge.of in ("carried", "plan")
        failures = self.failures if of_all else sum(self.results[i] == FAILED for i in self._order.watched[step])
        if judge.of == "all_of_batch":
            return failures >= judge.size
        if judge.limit is None:
            return False
        return failures > judge.limit if judge.unit == "count" else failures * 100 > judge.limit * judge.size

    def _open_section(self) -> None:
        for step in self._roots():
            passed = self._turn(step)
            if passed is not None:
                self._settle(step, passed)

    def _roots(self) -> Iterator[int]:
        return (i for i, n in enumerate(self._order.waits) if n == 0 and self._order.section[i] == self.section)

    def _close_section(self) -> None:
        if self.section == ROLLBACK:
            undone = any(r == FAILED and self._order.section[i] == ROLLBACK for i, r in enumerate(self.results))
            self.outcome = "halted" if undone else "rolled_back"
        elif self.aborting is None:
            self.outcome = "partial" if self.failures else "success"
        elif self.aborting == "halt":
            self.outcome = "halted"
        else:
            self.section = ROLLBACK if self.aborting == "rollback" else self.section + 1
            self.aborting, self.failures = None, 0
            self._open_section()
