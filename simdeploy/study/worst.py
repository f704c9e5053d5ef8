"""The worst replication of a forecast: when each of its steps ran, what it waited for, and what was unusual about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.plan.trace import Record, Trace
from simdeploy.simulation.outcome import Outcome, trace
from simdeploy.study.comparison import finite, known_metric
from simdeploy.study.criticality import Course, Criticality, Links, Release

if TYPE_CHECKING:
    import pandas as pd

UNUSUAL = 0.95
"""Share of the other replications beyond which a step that took longer was unusual."""
ROUNDING_S = 1e-6
"""Within this two lengths are the same."""
TOLD = ("crashed", "repaired", "corrupted", "bad_release", "aborted")
"""Records of a trace that tell of something out of the ordinary; so does a step that failed."""


class ScheduledStep(NamedTuple):
    """One step of one run."""

    step: str
    on: str
    begins_s: float
    lasts_s: float
    result: str
    after: str
    """What let it begin."""
    critical: bool
    longer_than: float
    """Share of the other replications with this step in which it took less time; nan where there is none."""
    excess_s: float
    """How much longer it took than in the mean of all replications; negative where it was quicker."""


class WorstRun(NamedTuple):
    """One replication, and how far it was from the others."""

    plan: Plan
    replication: int
    metric: str
    """The one by which it is the worst."""
    value: float
    trace: Trace
    steps: list[ScheduledStep]
    """Those that ran, by their begin."""

    @property
    def unusual(self) -> list[ScheduledStep]:
        """Steps that took longer than in nearly all other replications, those first that lost most."""
        return sorted((s for s in self.steps if s.longer_than >= UNUSUAL and s.excess_s > 0), key=lambda s: -s.excess_s)

    @property
    def events(self) -> list[Record]:
        """What happened beside steps that went well."""
        return [r for r in self.trace if r.kind in TOLD or (r.kind == "ended" and r.value == "failed")]

    def frame(self) -> pd.DataFrame:
        """One row per step that ran, by its begin: step, on, begins_s, ends_s, lasts_s, result, after (what let it begin), critical,
        longer_than (share of the other replications), excess_s (over its mean)."""
        import pandas as pd

        frame = pd.DataFrame(self.steps, columns=ScheduledStep._fields)
        frame.insert(3, "ends_s", frame["begins_s"] + frame["lasts_s"])
        return frame

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data."""
        return {
            "replication": self.replication,
            "metric": self.metric,
            "value": finite(self.value),
            "outcome": self.trace.outcome,
            "steps": [s._asdict() | {"longer_than": finite(s.longer_than)} for s in self.steps],
            "unusual": [s.step for s in self.unusual],
            "events": [r._asdict() for r in self.events],
        }


def worst_run(outcome: Outcome, metric: str, followed: Criticality) -> WorstRun:
    """The replication of *outcome* that is the worst by *metric*, then by what its plan prefers and by its makespan, told
    beside the replications that *followed* has of the same plan and seed.

    Raises StudyError for what is no metric.
    """
    plan = outcome.plan
    replication = _worst(outcome, known_metric(metric))
    told = trace(plan, outcome.seed, replication)
    course = Course(Links(plan), told)
    critical = course.critical()
    rows = []
    for i in sorted((i for i, ran in enumerate(course.ran) if ran and plan.steps[i].kind != "judge"), key=lambda i: course.begins_s[i]):
        lasts_s = course.ends_s[i] - course.begins_s[i]
        others = np.delete(followed.lasts_s[:, i], replication) if replication < followed.replications else followed.lasts_s[:, i]
        others = others[~np.isnan(others)]
        longer_than = float(np.mean(others < lasts_s - ROUNDING_S)) if len(others) else math.nan
        excess_s = lasts_s - float(np.mean([*others, lasts_s]))
        after = _after(plan, course.release(i))
        step = plan.steps[i]
        rows.append(
            ScheduledStep(step.id, step.on, course.begins_s[i], lasts_s, course.results[i], after, i in critical, longer_than, excess_s)
        )
    return WorstRun(plan, replication, metric, float(outcome.values[metric][replication]), told, rows)


def _worst(outcome: Outcome, metric: str) -> int:
    """The first of the worst replications; one that has no value is worse than any that has one."""
    left = np.arange(outcome.replications)
    for name in dict.fromkeys((metric, *outcome.plan.prefer, "makespan_s")):
        sign = 1 if METRICS[name].better == "lower" else -1
        badness = np.nan_to_num(sign * outcome.values[name][left], nan=math.inf, posinf=math.inf, neginf=-math.inf)
        left = left[badness == badness.max()]
    return int(left[0])


def _after(plan: Plan, release: Release) -> str:
    steps = [plan.steps[i].id for i in release.steps]
    named = f"{steps[0]} and {len(steps) - 1} more" if len(steps) > 1 else "".join(steps)
    return {
        "start": "start",
        "steps": named,
        "pool": f"{release.name}, freed by {named}",
        "machine": f"{release.name} back",
        "abort": f"the end of what {named} aborted",
    }[release.what]
