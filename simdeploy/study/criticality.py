"""What a run waited for: the chain of steps that leads from its start to its end, and how often each step lies on it.

The share of the replications in which a step is critical is its criticality index (R. M. Van Slyke, "Monte Carlo
methods and the PERT problem", Operations Research 11(5), 1963). Here the order of a run, not its plan, says what is
critical: a step that waited for a pool comes after the one that freed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import NOT_NEEDED, SKIPPED
from simdeploy.plan.steps import MAIN, ROLLBACK
from simdeploy.plan.trace import Trace
from simdeploy.simulation import statistics
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from simdeploy.study.causes import action_of, machine_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BLOCK = 256
"""Replications that are drawn together."""


class Release(NamedTuple):
    """What let a step begin."""

    what: Literal["start", "steps", "pool", "machine", "abort"]
    """Nothing; the steps that come before it; one that freed a pool; the repair of a machine; the abort of the section before."""
    steps: tuple[int, ...] = ()
    """Those that ended at the moment in which it began, by position in the plan; several only where they ended at once."""
    name: str = ""
    """Of the pool or machine."""


class Links:
    """What of a plan decides its courses, by position and derived once for all its runs."""

    def __init__(self, plan: Plan) -> None:
        position = plan.wiring.position
        self.plan = plan
        self.before = [sorted({position[s] for s in (*step.needs, *step.after)}) for step in plan.steps]
        self.pools = [dict(step.pools) for step in plan.steps]
        parts = {step.part for step in plan.steps} - {MAIN}
        self.earlier = {
            part: [i for i, s in enumerate(plan.steps) if s.part != ROLLBACK and (part == ROLLBACK or s.part < part)] for part in parts
        }
        """Of each section but the first: the steps of those that may have run before it."""


class Course:
    """One run by the positions of its plan's steps: when each began and ended, and what let it begin.

    What ended without running (skipped, not needed) begins and ends at once, and so does a judge.
    """

    def __init__(self, links: Links, trace: Trace) -> None:
        plan = links.plan
        self._links, self._steps = links, plan.steps
        count, position = len(plan.steps), plan.wiring.position
        never = len(trace.records) + 1
        self.begins_s, self.ends_s = [math.nan] * count, [math.nan] * count
        self.results = [""] * count
        """How each ended; unfinished where it waits for a machine that never returns, and empty where it has not ended."""
        self.ran = [False] * count
        """Whether it did something: steps that were attempted, and judges with a verdict."""
        self._begun_as, self._ended_as = [never] * count, [never] * count
        self._at: dict[float, list[int]] = {}
        self._aborted: dict[float, int] = {}
        for k, record in enumerate(trace.records):
            if record.kind == "began":
                i = position[record.subject]
                self.begins_s[i], self._begun_as[i], self.ran[i] = record.at_s, k, True
            elif record.kind == "ended":
                self._end(position[record.subject], k, record.at_s, str(record.value))
            elif record.kind == "aborted":
                self._aborted[record.at_s] = position[record.subject]
        for i in range(count):
            if self.ran[i] and not self.results[i]:
                self._end(i, len(trace.records), trace.end_s, "unfinished")
        self.end_s = max(self._at, default=0.0)

    def _end(self, i: int, k: int, at_s: float, result: str) -> None:
        if not self.ran[i]:
            self.begins_s[i], self._begun_as[i], self.ran[i] = at_s, k, result not in (SKIPPED, NOT_NEEDED)
        self.ends_s[i], self._ended_as[i], self.results[i] = at_s, k, result
        self._at.setdefault(at_s, []).append(i)

    def last(self) -> tuple[int, ...]:
        """The steps with whose end the run ended."""
        return self._ended_last(self._at.get(self.end_s, []))

    def release(self, i: int) -> Release:
        """What let the step at this position begin, which did."""
        before = self._before(i)
        ready_s = max((self.ends_s[j] for j in before), default=0.0)
        if self.begins_s[i] > ready_s:
            freed = self._freed(i)
            if not freed:
                return Release("machine", (), self._steps[i].on)
            pools = self._links.pools
            return Release("pool", freed, next(p for p in pools[i] if any(p in pools[j] for j in freed)))
        if not before:
            return Release("start")
        followed = self._ended_last([j for j in before if self.ends_s[j] == ready_s])
        return Release("steps" if self._links.before[i] else "abort", followed)

    def chain(self) -> list[int]:
        """One chain of steps from the start to the end of the run, each released by the one before; of those that ended at once
        the first. It begins later than the run where its first step waited for a machine."""
        found: list[int] = []
        follow = self.last()
        while follow:
            found.append(follow[0])
            follow = self.release(follow[0]).steps
        return [i for i in reversed(found) if self.ran[i]]

    def critical(self) -> set[int]:
        """The steps on any such chain."""
        found: set[int] = set()
        todo = [*self.last()]
        while todo:
            i = todo.pop()
            if i not in found:
                found.add(i)
                todo += self.release(i).steps
        return {i for i in found if self.ran[i]}

    def _before(self, i: int) -> list[int]:
        """The steps that must have ended before: those that it names; for the first of a later section, all that ended till then."""
        part = self._steps[i].part
        if self._links.before[i] or part == MAIN:
            return self._links.before[i]
        return [j for j in self._links.earlier[part] if self._ended_as[j] < self._begun_as[i]]

    def _ended_last(self, steps: list[int]) -> tuple[int, ...]:
        """Of steps that ended at once: the one that aborted its section if one did, since that ended the others."""
        aborted = self._aborted.get(self.ends_s[steps[0]]) if steps else None
        return (aborted,) if aborted in steps else tuple(sorted(steps))

    def _freed(self, i: int) -> tuple[int, ...]:
        """The steps that gave back a pool of this one as it began."""
        pools = self._links.pools
        ended = [j for j in self._at.get(self.begins_s[i], []) if self.ran[j] and self._ended_as[j] < self._begun_as[i]]
        return tuple(sorted(j for j in ended if pools[i].keys() & pools[j].keys()))


class Criticality(NamedTuple):
    """How often each step of a plan lay on the critical path, over the replications."""

    plan: Plan
    seed: int
    critical: Bools
    """(replications, steps): whether the step lay on a chain that led to the end of the run."""
    lasts_s: Floats
    """(replications, steps): how long it ran; nan where it did not."""
    path_s: Floats
    """(steps,): what it adds to the makespan in the mean, on one chain of each replication."""
    waited_s: float
    """What that chain waited for a dead machine before its first step, in the mean. With `path_s` it adds up to the mean makespan."""

    def __repr__(self) -> str:
        return f"<Criticality of {self.plan.source.strategy or 'a plan'}: {len(self.plan.steps)} steps, {self.replications} replications>"

    @property
    def replications(self) -> int:
        """How many replications were followed."""
        return len(self.critical)

    def frame(self) -> pd.DataFrame:
        """One row per step, in the plan's order: step, service, action, machine, section; ran (share of the replications),
        index (share in which it was critical) with ci95_low and ci95_high, lasts_s (mean where it ran), path_s (mean)."""
        import pandas as pd

        counts = self.critical.sum(axis=0).tolist()
        intervals = {k: statistics.share_ci95(k, self.replications) for k in set(counts)}
        ran = ~np.isnan(self.lasts_s)
        lasts_s = np.divide(np.nansum(self.lasts_s, axis=0), ran.sum(axis=0), out=np.full(len(counts), math.nan), where=ran.any(axis=0))
        steps = self.plan.steps
        return pd.DataFrame(
            {
                "step": [s.id for s in steps],
                "service": [action_of(s)[0] for s in steps],
                "action": [action_of(s)[1] for s in steps],
                "machine": [machine_of(self.plan, i) for i in range(len(steps))],
                "section": [s.section for s in steps],
                "ran": ran.mean(axis=0),
                "index": self.critical.mean(axis=0),
                "ci95_low": [intervals[k][0] for k in counts],
                "ci95_high": [intervals[k][1] for k in counts],
                "lasts_s": lasts_s,
                "path_s": self.path_s,
            }
        )

    def actions(self) -> pd.DataFrame:
        """One row per action of a service, what adds most to the makespan first: service, action, steps; index (share of the
        replications in which one of its steps was critical) with ci95_low and ci95_high, path_s (mean), share (of the makespan)."""
        import pandas as pd

        whole_s = float(self.path_s.sum()) + self.waited_s
        rows = []
        for (service, action), positions in self.by_action().items():
            count = int(self.critical[:, positions].any(axis=1).sum())
            path_s = float(self.path_s[positions].sum())
            low, high = statistics.share_ci95(count, self.replications)
            share = path_s / whole_s if whole_s else 0.0
            rows.append((service, action, len(positions), count / self.replications, low, high, path_s, share))
        columns = ["service", "action", "steps", "index", "ci95_low", "ci95_high", "path_s", "share"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.sort_values(["path_s", "index"], ascending=False, kind="stable", ignore_index=True)

    def by_action(self) -> dict[tuple[str, str], list[int]]:
        """(service, action) -> the positions of its steps; judges are left out, which take no time."""
        found: dict[tuple[str, str], list[int]] = {}
        for i, step in enumerate(self.plan.steps):
            if step.kind != "judge":
                found.setdefault(action_of(step), []).append(i)
        return found


def criticality(plan: Plan, replications: int = 1000, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Criticality:
    """How often each step of *plan* lies on the critical path; the replications are those of `simulate` with the same seed.

    Critical are the steps on a chain that leads from the start of a run to its end, each of which began at the moment in
    which the one before it ended and let it begin. Where several ended at that moment, all of them are critical.

    Raises StudyError for less than one replication.
    """
    if not isinstance(plan, Plan):
        raise StudyError(f"a {type(plan).__name__} is no Plan; make one with build_plan(scenario, strategy)")
    if replications < 1:
        raise StudyError(f"{replications} replications are none; ask for at least 1")
    engine, links = Engine(plan), Links(plan)
    critical = np.zeros((replications, len(plan.steps)), dtype=bool)
    lasts_s = np.full(critical.shape, math.nan)
    path_s, waited_s = np.zeros(len(plan.steps)), 0.0
    for first in range(0, replications, BLOCK):
        draws = Draws(plan, seed, first, min(BLOCK, replications - first), engine.names)
        for r, trace in enumerate(engine.traces(draws), start=first):
            course = Course(links, trace)
            times_s = np.subtract(course.ends_s, course.begins_s)
            lasts_s[r] = np.where(course.ran, times_s, math.nan)
            critical[r, list(course.critical())] = True
            if chain := course.chain():
                path_s[chain] += times_s[chain]
                waited_s += course.begins_s[chain[0]]
            if progress is not None:
                progress(r + 1, replications)
    return Criticality(plan, seed, critical, lasts_s, path_s / replications, waited_s / replications)
