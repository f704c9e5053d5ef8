"""Guard rails: each step against its forecast, the capacity left, the goals, the whole run; what warns and what pauses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry
from simdeploy.plan.forecast import Expected, Forecast
from simdeploy.plan.goals import GoalParts
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.units import format_s

EVERY_S = 1.0
"""How often goals are looked at while nothing ends."""
_LOWEST = ("capacity_min", "capacity_min_fraction", "headroom_min")
_GROWS = tuple(n for n, m in METRICS.items() if m.better == "lower" and n not in OUTCOMES and n not in ("out_at_end", "rto_s"))
"""Metrics that only get worse while a run goes on: a goal that they miss is missed for good."""


class Alarm(NamedTuple):
    """Something that a person should know of."""

    reason: str
    """The same for the same thing, so that it is said once."""
    text: str
    pauses: bool


class Guards:
    """Watches one run; its plan, its forecast and its history decide."""

    def __init__(self, plan: Plan, forecast: Forecast | None, history: History) -> None:
        self._plan, self._forecast, self._history = plan, forecast, history
        self._began: dict[str, float] = {}
        self._looked_s = -math.inf
        self._goals = [goal for goal in plan.goals if goal.metric in _GROWS + _LOWEST]

    def began(self, step: Step, entry: Entry) -> str:
        """A line about a step that begins."""
        self._began[step.id] = entry.mono_s
        again = f", attempt {entry.body['attempt']}" if entry.body["attempt"] > 1 else ""
        return f"{self._clock(entry)}  {'begins':<10} {step.id}{f' on {step.on}' if step.on else ''}{again}{self._expected(step)}"

    def ended(self, step: Step, result: str, entry: Entry) -> str:
        """A line about a step that has ended."""
        self._looked_s = -math.inf
        lasted_s = entry.mono_s - self._began.get(step.id, entry.mono_s)
        left = number("capacity_min", self._history.chronicle.following.capacity_per_s())
        return f"{self._clock(entry)}  {result.replace('_', ' '):<10} {step.id} after {format_s(round(lasted_s, 2))}; {left} req/s left"

    def line(self, now_s: float, busy: Iterable[str], pause: str) -> str:
        """How it stands now, in one line."""
        running = [f"{step} {format_s(round(now_s - self._began.get(step, now_s)))}" for step in sorted(busy)]
        left = number("capacity_min", self._history.chronicle.following.capacity_per_s())
        clock = format_s(round(self._history.chronicle.at_s(now_s)))
        return f"{clock}  {left} req/s left  {'PAUSING ' * bool(pause)}{', '.join(running)}"

    def look(self, now_s: float, busy: Iterable[str]) -> list[Alarm]:
        """What is wrong now and has not been said in this run."""
        known = self._history.warned | self._history.paused_for
        return [a for a in (*self._late_steps(now_s, busy), *self._missed(now_s)) if a.reason not in known]

    def _late_steps(self, now_s: float, busy: Iterable[str]) -> Iterator[Alarm]:
        for step in busy:
            longest_s = _of(self._forecast.steps[step].lasts_s) if self._forecast and step in self._forecast.steps else None
            took_s = now_s - self._began.get(step, now_s)
            if longest_s is not None and took_s > longest_s:
                yield Alarm(
                    f"late:{step}", f"{step} has taken {format_s(round(took_s, 1))}, over P99 ({format_s(round(longest_s, 1))})", False
                )

    def _missed(self, now_s: float) -> Iterator[Alarm]:
        """Goals that are missed for good, and a run that is later than 99 of 100."""
        if now_s < self._looked_s + EVERY_S:
            return
        self._looked_s = now_s
        at_s = self._history.chronicle.at_s(now_s)
        whole_s = _of(self._forecast.metrics["makespan_s"]) if self._forecast and "makespan_s" in self._forecast.metrics else None
        if whole_s is not None and at_s > whole_s:
            yield Alarm("late", f"the run has taken {format_s(round(at_s))}, longer than 99 of 100 ({format_s(round(whole_s, 1))})", True)
        if self._goals and at_s > 0:
            inferred, seen = self._history.chronicle.following.so_far(at_s), self._history.seen.found(at_s)
            observed = {} if seen is None else seen._asdict()
            for goal in self._goals:
                for values, how in ((inferred, ""), (observed, ", as the prober saw")):
                    value = values.get(goal.metric, math.nan)
                    if _is_missed(goal, value):
                        text = f"the goal {goal} is missed: {goal.metric} is {number(goal.metric, value)} already{how}"
                        yield Alarm(f"goal:{goal}", text, True)
                        break

    def _expected(self, step: Step) -> str:
        if self._forecast is None or step.id not in self._forecast.steps:
            return ""
        lasts = self._forecast.steps[step.id].lasts_s
        if lasts.p50 is None or lasts.p95 is None:
            return ""
        return f" (P50 {format_s(round(lasts.p50, 2))}, P95 {format_s(round(lasts.p95, 2))})"

    def _clock(self, entry: Entry) -> str:
        return f"{self._history.chronicle.at_s(entry.mono_s):9.1f} s"


def _is_missed(goal: GoalParts, value: float) -> bool:
    is_upper = goal.comparison in ("<", "<=")
    return not math.isnan(value) and is_upper == (goal.metric in _GROWS) and not goal.holds(value)


def _of(expected: Expected) -> float | None:
    return expected.p99
