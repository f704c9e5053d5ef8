"""Rival strategies of one scenario, compared under the same luck: which to take, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from simdeploy.environment.names import did_you_mean
from simdeploy.errors import StudyError
from simdeploy.plan.metrics import METRICS
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plans
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult, Outcome, simulate_all
from simdeploy.study.causes import Cause, cause_of
from simdeploy.tables import mime_bundle
from simdeploy.units import format_s

if TYPE_CHECKING:
    import pandas as pd


class Comparison(NamedTuple):
    """What each strategy costs, and which one is recommended."""

    scenario: Scenario
    baseline: str
    outcomes: dict[str, Outcome]
    goals: dict[str, list[GoalResult]]
    dominated: dict[str, str | None]
    """Strategy -> one that is no worse in every preferred metric and better in one, or None."""
    recommended: str
    because: str
    causes: dict[str, Cause]
    """Strategy -> which steps and machines cause its downtime or its dip in capacity."""

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.outcomes)}: {self.recommended} recommended, {self.replications} replications>"

    @property
    def seed(self) -> int:
        """The seed of all draws."""
        return next(iter(self.outcomes.values())).seed

    @property
    def replications(self) -> int:
        """How many replications each strategy ran."""
        return next(iter(self.outcomes.values())).replications

    @property
    def interrupted(self) -> bool:
        """Whether fewer replications were done than asked for."""
        return any(o.interrupted for o in self.outcomes.values())

    @property
    def all_goals_met(self) -> bool:
        """Whether some strategy meets every goal."""
        return any(missed(results) == 0 for results in self.goals.values())

    @property
    def ends_differ(self) -> bool:
        """Whether some run of some strategy did not end well, or failed requests because of a bad release."""
        return any((o.values["success"] < 1).any() or o.values["bad_release_requests"].any() for o in self.outcomes.values())

    def difference(self, strategy: str, metric: str) -> statistics.Estimate | None:
        """The paired difference of *strategy* to the baseline, replication by replication."""
        return statistics.mean(statistics.paired(self.outcomes[strategy].values[metric], self.outcomes[self.baseline].values[metric]))

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data (format 1); what the replications cannot support is None."""
        return {
            "format": 1,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "replications": self.replications,
            "baseline": self.baseline,
            "strategies": [self._strategy(name) for name in self.outcomes],
            "recommended": self.recommended,
            "because": self.because,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def frame(self) -> pd.DataFrame:
        """One row per strategy and metric, in the metric's unit: mean, ci95_low, ci95_high, p50, p95, p99, difference (to the
        baseline, paired), difference_ci95_low, difference_ci95_high."""
        import pandas as pd

        parts = []
        for name, outcome in self.outcomes.items():
            part = outcome.summary().reset_index()
            part.insert(0, "strategy", name)
            differences = [self.difference(name, m) for m in part["metric"]]
            part["difference"] = [d.mean if d else None for d in differences]
            part["difference_ci95_low"] = [d.ci95[0] if d and d.ci95 else None for d in differences]
            part["difference_ci95_high"] = [d.ci95[1] if d and d.ci95 else None for d in differences]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _strategy(self, name: str) -> dict[str, Any]:
        metrics = {}
        for metric, values in self.outcomes[name].values.items():
            estimate, difference = self.outcomes[name].estimate(metric), self.difference(name, metric)
            metrics[metric] = {
                "mean": finite(estimate.mean) if estimate else None,
                "ci95": interval(estimate),
                "p50": finite(statistics.quantile(values, 0.5)),
                "p95": finite(statistics.quantile(values, 0.95)),
                "p99": finite(statistics.quantile(values, 0.99)),
                "p95_ci95": _pair(statistics.quantile_ci95(values, 0.95)),
                "difference": {"mean": finite(difference.mean), "ci95": interval(difference)} if difference else None,
            }
        return {
            "strategy": name,
            "dominated": self.dominated[name] is not None,
            "dominated_by": self.dominated[name],
            "metrics": metrics,
            "goals": [{"goal": g.goal.text, "met": g.met, "probability": g.probability} for g in self.goals[name]],
            "cause": self.causes[name].sentence,
        }

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study import overview

        said = overview.verdict(self).splitlines()
        return mime_bundle(*said, overview.compared(self), overview.goals_met(self), overview.differences(self))


def compare(
    scenario: Scenario,
    replications: int = 1000,
    seed: int = 0,
    baseline: str | None = None,
    strategies: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """The strategies of *scenario* (all, or the named ones), forecast under the same luck and ranked.

    Raises StudyError for a strategy or baseline that the scenario does not have.
    """
    wanted = chosen(scenario, strategies)
    against = chosen(scenario, [baseline])[0] if baseline else scenario.baseline or wanted[0]
    if against not in wanted:
        if baseline is None:
            against = wanted[0]
        else:
            wanted = chosen(scenario, [*wanted, against])
    return ranked(scenario, simulate_all(build_plans(scenario, wanted), replications, seed, jobs, progress), against)


def ranked(scenario: Scenario, outcomes: dict[str, Outcome], baseline: str | None = None) -> Comparison:
    """The comparison of *outcomes* of strategies of *scenario*, e.g. of those that `load_results` has read.

    Raises StudyError for a strategy or baseline that is not there.
    """
    wanted = chosen(scenario, list(outcomes))
    against = baseline or (scenario.baseline if scenario.baseline in wanted else wanted[0])
    if against not in wanted:
        raise StudyError(f"{against!r} is none of the outcomes; {did_you_mean(against, wanted)}")
    goals = {name: outcome.goals() for name, outcome in outcomes.items()}
    dominated = {name: _dominator(name, outcomes, scenario.prefer) for name in outcomes}
    recommended, because = recommend(outcomes, goals, scenario.prefer)
    return Comparison(
        scenario, against, outcomes, goals, dominated, recommended, because, {n: cause_of(o.plan) for n, o in outcomes.items()}
    )


def chosen(scenario: Scenario, strategies: Sequence[str] | None) -> list[str]:
    """The named strategies of *scenario*, by default all, in its order. Raises StudyError for one that it does not have."""
    if not isinstance(scenario, Scenario):
        raise StudyError(f"a {type(scenario).__name__} is no Scenario; read one with load_scenario(path)")
    if strategies is not None and (isinstance(strategies, str) or not strategies):
        raise StudyError(f"strategies={strategies!r} is no list of names; give at least one, or leave it out for all")
    known = list(scenario.strategies)
    for name in strategies or ():
        if name not in known:
            raise StudyError(f"{name!r} is no strategy of {scenario.name!r}; {did_you_mean(name, known)}")
    return [n for n in known if strategies is None or n in strategies]


def known_metric(metric: str) -> str:
    """*metric*, which is one. Raises StudyError for what is none."""
    if metric not in METRICS:
        raise StudyError(f"{metric!r} is no metric; {did_you_mean(str(metric), list(METRICS))}")
    return metric


def missed(results: list[GoalResult]) -> int:
    """How many goals are not shown to be met."""
    return sum(not g.met for g in results)


def recommend(outcomes: dict[str, Outcome], goals: dict[str, list[GoalResult]], prefer: Sequence[str]) -> tuple[str, str]:
    """(strategy, why): of those that miss the fewest goals, metric by metric those not told apart from the best mean."""
    fewest = min(missed(g) for g in goals.values())
    left = [name for name in outcomes if missed(goals[name]) == fewest]
    told_apart: list[tuple[str, str, int]] = []
    meeting = len(left)
    for metric in prefer:
        sign = 1 if METRICS[metric].better == "lower" else -1
        best = min(left, key=lambda n: _order(sign * mean_of(outcomes[n], metric)))
        tied = [n for n in left if n == best or not differs(outcomes[n], outcomes[best], metric)]
        if len(tied) < len(left):
            told_apart.append((metric, best, len(tied)))
        left = tied
    reasons = _goals_reason(len(next(iter(goals.values()), [])), fewest, meeting, len(outcomes))
    for metric, best, ties in told_apart:
        reasons.append(f"{'and of those has' if reasons else 'has'} {_best(metric, mean_of(outcomes[best], metric), ties)}")
    if not reasons:
        reasons.append(
            "it is the only strategy" if len(outcomes) == 1 else "no preferred metric tells the strategies apart, and it comes first"
        )
    well = mean_of(outcomes[left[0]], "success")
    if well < 1:
        reasons.append(f"though only {100 * well:.3g} % of its runs end well")
    return left[0], ", ".join(reasons)


def _goals_reason(count: int, fewest: int, meeting: int, of: int) -> list[str]:
    """How the goals chose, as the start of a sentence about the recommended strategy; nothing without goals."""
    if not count:
        return []
    met = f"meets all {count} goals" if fewest == 0 else f"leaves the fewest goals missed or undecided ({fewest} of {count})"
    return [f"it alone {met}" if meeting == 1 < of else f"it {met}, as {meeting} of {of} strategies do" if meeting < of else f"it {met}"]


def _best(metric: str, value: float, ties: int) -> str:
    """'the fewest failed requests (454 in the mean), not told apart from 2 others'."""
    word = "fewest" if METRICS[metric].unit == "requests" else {"lower": "lowest", "higher": "highest"}[METRICS[metric].better]
    mean = "" if math.isnan(value) else f" ({with_unit(value, metric)} in the mean)"
    others = "" if ties == 1 else f", not told apart from {ties - 1} other{'s' * (ties > 2)}"
    return f"the {word} {words(metric)}{mean}{others}"


def words(metric: str) -> str:
    """A metric's name in a sentence."""
    return metric.removesuffix("_s").replace("_", " ")


def with_unit(value: float, metric: str) -> str:
    """*value* of *metric* in a sentence."""
    unit = METRICS[metric].unit
    if math.isinf(value):
        return "no bound"
    if math.isnan(value):
        return "none in some run"
    return format_s(value) if unit == "s" else f"{value:,.4g} {unit}" if unit != "requests" else f"{value:,.0f}"


def mean_of(outcome: Outcome, metric: str) -> float:
    """The mean of a metric, nan where a replication has none."""
    estimate = statistics.mean(outcome.values[metric])
    return estimate.mean if estimate else math.nan


def _order(x: float) -> float:
    return math.inf if math.isnan(x) else x


def differs(one: Outcome, other: Outcome, metric: str) -> bool:
    """Whether the interval of the paired difference excludes 0; a metric that only one of them has tells them apart."""
    difference = statistics.mean(statistics.paired(one.values[metric], other.values[metric]))
    if difference is None:
        return math.isnan(mean_of(one, metric)) != math.isnan(mean_of(other, metric))
    if difference.ci95 is None:
        return difference.mean != 0
    low, high = difference.ci95
    return not low <= 0 <= high


def _dominator(name: str, outcomes: dict[str, Outcome], prefer: Sequence[str]) -> str | None:
    """A strategy that is no worse in the mean of every preferred metric, and better in one by more than its interval."""
    for rival, outcome in outcomes.items():
        if rival == name:
            continue
        better = False
        for metric in prefer:
            sign = 1 if METRICS[metric].better == "lower" else -1
            gap = statistics.mean(sign * statistics.paired(outcome.values[metric], outcomes[name].values[metric]))
            if gap is None or gap.mean > 0:
                break
            better = better or differs(outcome, outcomes[name], metric)
        else:
            if better:
                return rival
    return None


def finite(x: float | None) -> float | None:
    """*x* as JSON may hold it."""
    return x if x is not None and math.isfinite(x) else None


def _pair(interval: statistics.Interval | None) -> list[float] | None:
    return list(interval) if interval is not None and all(math.isfinite(x) for x in interval) else None


def interval(estimate: statistics.Estimate | None) -> list[float] | None:
    """The 95 % interval as JSON may hold it."""
    return _pair(estimate.ci95) if estimate else None
