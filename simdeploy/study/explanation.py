"""Why one strategy's forecast is as it is: what its runs wait for, which inputs move it, and what its worst run was like."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from simdeploy.errors import StudyError
from simdeploy.plan.goals import DEFAULT_PREFER
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Outcome, simulate_all
from simdeploy.study.causes import EXPLAINED, culprits_of, half_as_long
from simdeploy.study.comparison import chosen, finite, interval, known_metric
from simdeploy.study.criticality import Criticality, criticality
from simdeploy.study.robustness import ALWAYS, REPLICATIONS, Robustness, vary_inputs
from simdeploy.study.worst import WorstRun, worst_run
from simdeploy.tables import mime_bundle

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["criticality", "speedups", "sensitivity", "worst"]
PARTS: tuple[Part, ...] = get_args(Part)
HURRIED = 6
"""How many actions are tried at half their time because they add most to the makespan."""
COSTLY = 2
"""How many more because, without luck, they cost most of the metric."""


class Speedup(NamedTuple):
    """What it buys that an action takes half as long, on all its machines."""

    service: str
    action: str
    differences: dict[str, statistics.Estimate | None]
    """Metric -> the paired difference to the plan as it is; the preferred metric comes first."""


class Explanation(NamedTuple):
    """Why the forecast of one strategy is as it is; what was not asked for is None."""

    metric: str
    """What the explanation is about beside the makespan."""
    outcome: Outcome
    criticality: Criticality
    speedups: list[Speedup] | None
    """Of the actions that add most to the makespan, and of those that without luck cost most of the metric."""
    sensitivity: Robustness | None
    """Every marked input halved and doubled, for this strategy alone; `measure_first` is the assumed input to measure first."""
    worst: WorstRun | None
    """The worst replication by the metric."""

    @property
    def plan(self) -> Plan:
        """The plan that is explained."""
        return self.outcome.plan

    def __repr__(self) -> str:
        source = self.plan.source
        return f"<Explanation of {source.strategy} by {self.metric}: {self.outcome.replications} replications, seed {self.outcome.seed}>"

    def speedups_frame(self) -> pd.DataFrame:
        """One row per action tried at half its time and metric: service, action, metric, difference (paired, mean), ci95_low, ci95_high."""
        import pandas as pd

        rows = []
        for one in self.speedups or ():
            for metric, difference in one.differences.items():
                low, high = (difference.ci95 if difference else None) or (None, None)
                rows.append((one.service, one.action, metric, difference.mean if difference else None, low, high))
        numbers = ["difference", "ci95_low", "ci95_high"]
        return pd.DataFrame(rows, columns=["service", "action", "metric", *numbers]).astype(dict.fromkeys(numbers, float))

    def frame(self, part: Part) -> pd.DataFrame:
        """One part as a tidy frame, as its own `frame` says. Raises StudyError for one that was not asked for."""
        frames = {"criticality": self.criticality.frame, "speedups": self.speedups_frame if self.speedups is not None else None}
        frames["sensitivity"] = self.sensitivity.frame if self.sensitivity else None
        frames["worst"] = self.worst.frame if self.worst else None
        if (made := frames.get(part)) is None:
            there = ", ".join(name for name, known in frames.items() if known)
            raise StudyError(f"{part!r} is no part of this explanation; it has {there}; ask explain for more with parts=...")
        return made()

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain data (format 1); what the replications cannot support is None, a part not asked for is left out."""
        source = self.plan.source
        content: dict[str, Any] = {
            "format": 1,
            "scenario": source.scenario,
            "strategy": source.strategy,
            "plan_sha256": self.plan.digest,
            "seed": self.outcome.seed,
            "replications": self.outcome.replications,
            "metric": self.metric,
            "criticality": _records(self.criticality.frame()),
            "actions": _records(self.criticality.actions()),
        }
        if self.speedups is not None:
            content["speedups"] = [
                {"service": s.service, "action": s.action, "differences": {m: _difference(d) for m, d in s.differences.items()}}
                for s in self.speedups
            ]
        if self.sensitivity is not None:
            content["sensitivity"] = self.sensitivity.to_dict()
        if self.worst is not None:
            content["worst"] = self.worst.to_dict()
        return content

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study import explanation_overview as overview

        return mime_bundle(*overview.tables(self), *overview.sentences(self))


def explain(
    scenario: Scenario,
    strategy: str,
    metric: str | None = None,
    replications: int = 1000,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    parts: Collection[Part] = PARTS,
) -> Explanation:
    """Why the forecast of *strategy* is as it is, by *metric* (by default the one that *scenario* prefers most).

    `criticality` is always there; the other *parts* can be left out, of which `sensitivity` takes by far the longest: it
    runs two variants of each marked input, with at most 368 replications. All runs have the luck of `simulate` with this seed.

    Raises StudyError for a strategy, metric or part that there is not. An interrupt leaves no explanation by half.
    """
    [name] = chosen(scenario, [strategy])
    metric = known_metric(metric or (scenario.prefer or DEFAULT_PREFER)[0])
    for part in parts:
        if part not in PARTS:
            raise StudyError(f"{part!r} is no part of an explanation; there are {', '.join(PARTS)}")
    plan = build_plan(scenario, name)
    followed = criticality(plan, replications, seed, progress)
    hurried = _hurried(followed, metric) if "speedups" in parts else {}
    quicker = {" ".join(key): half_as_long(plan, steps) for key, steps in hurried.items()}
    outcomes = _whole(simulate_all({"": plan, **quicker}, replications, seed, jobs, progress, paths=0))
    outcome, metrics = outcomes[""], tuple(dict.fromkeys((metric, *ALWAYS)))
    speedups = [Speedup(*key, _differences(outcomes[" ".join(key)], outcome, metrics)) for key in hurried]
    sensitivity = None
    if "sensitivity" in parts:
        few = min(replications, REPLICATIONS)
        sensitivity = vary_inputs(scenario, few, seed, [name], jobs, progress, ("assumed", "measured"), metric)
        _whole({"": sensitivity.outcome})
    worst = worst_run(outcome, metric, followed) if "worst" in parts else None
    return Explanation(metric, outcome, followed, speedups if "speedups" in parts else None, sensitivity, worst)


def _hurried(followed: Criticality, metric: str) -> dict[tuple[str, str], list[int]]:
    """The actions worth trying at half their time, with the positions of their steps."""
    actions, positions = followed.actions(), followed.by_action()
    critical = actions[actions["path_s"] > 0].head(HURRIED)
    keys = list(zip(critical["service"], critical["action"], strict=True))
    if metric in EXPLAINED:
        culprits = [(c.service, c.action) for c in culprits_of(followed.plan, metric) if c.steps]
        keys += [key for key in culprits if key not in keys][:COSTLY]
    return {key: positions[key] for key in keys}


def _whole(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    if any(outcome.interrupted for outcome in outcomes.values()):
        raise KeyboardInterrupt
    return outcomes


def _differences(one: Outcome, other: Outcome, metrics: Collection[str]) -> dict[str, statistics.Estimate | None]:
    return {m: statistics.mean(statistics.paired(one.values[m], other.values[m])) for m in metrics}


def _difference(estimate: statistics.Estimate | None) -> dict[str, Any] | None:
    return {"mean": finite(estimate.mean), "ci95": interval(estimate)} if estimate else None


def _records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
