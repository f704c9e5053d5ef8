"""Whether a recommendation rests on a guess: each assumed input halved and doubled, one at a time, under the same luck."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from simdeploy.environment.inputs import input_text, scaled_input
from simdeploy.environment.models import Input
from simdeploy.errors import SimdeployError
from simdeploy.plan.goals import DEFAULT_PREFER
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plans
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult, Outcome, simulate_all
from simdeploy.study.comparison import chosen, finite, interval, mean_of, recommend, with_unit, words
from simdeploy.tables import html_table

REPLICATIONS = statistics.replications_needed(0.99)
"""Of each variant: the fewest that support every statistic that a goal may be about."""
FACTORS = {0.5: "halved", 2.0: "doubled"}


class Variant(NamedTuple):
    """What one other value of an input makes of the recommendation."""

    factor: float
    recommended: str | None
    """None where the value is none that the environment may have."""
    goals: list[GoalResult]
    """Of the strategy that is recommended without the change, like the next two."""
    mean: float
    """Of its most preferred metric, nan where a replication has none."""
    difference: statistics.Estimate | None
    """The paired difference of that metric to what it was."""
    problem: str = ""
    """What is wrong with the value."""


class VariedInput(NamedTuple):
    """One assumed input, and what becomes of the recommendation when it is halved and when it is doubled."""

    at: str
    """Its path in the environment's file."""
    source: str
    was: str
    half: Variant
    double: Variant
    changes_recommendation: bool
    changes_goals: bool
    """Whether the strategy that is recommended without the change then meets other goals."""
    swing: float
    """Between the highest and the lowest mean of its most preferred metric: at half, as it was, at double."""

    @property
    def changes_something(self) -> bool:
        """Whether the recommendation, its goals or its most preferred metric depend on this input."""
        return self.changes_recommendation or self.changes_goals or self.swing > 0


class Robustness(NamedTuple):
    """How a recommendation takes other values of the inputs that are assumed."""

    outcome: Outcome
    """Of the recommended strategy, with every input as it is."""
    recommended: str
    goals: list[GoalResult]
    metric: str
    """The most preferred one."""
    inputs: list[VariedInput]
    """What to measure first comes first."""
    not_varied: list[Input]
    """Assumed inputs that have neither a half nor a double: names, rules, zeros."""
    interrupted: bool

    @property
    def measure_first(self) -> VariedInput | None:
        """The input to measure first; None where none changes anything."""
        return self.inputs[0] if self.inputs and self.inputs[0].changes_something else None

    @property
    def sentence(self) -> str:
        """Whether the recommendation holds, which input to measure first, and how many were left out."""
        count, first = len(self.inputs), self.measure_first
        moving = sum(i.changes_recommendation for i in self.inputs)
        left = len(self.not_varied)
        left_out = f" Not varied: {left} assumed input{'s' * (left > 1)} with neither a half nor a double (a zero, a rule)." if left else ""
        if not count:
            return f"No number of the environment is assumed, so none was varied.{left_out}"
        holds = (
            f"{moving} of the {count} assumed numbers decide{'s' * (moving == 1)} whether {self.recommended} is recommended"
            if moving
            else f"{self.recommended} stays recommended whichever of the {count} assumed numbers is halved or doubled"
        )
        if first is None:
            return f"{holds}, and none of them moves its {words(self.metric)}.{left_out}"
        return f"{holds}. Measure first: {first.at} ({first.source}); {self._effect(first)}.{left_out}"

    def _effect(self, first: VariedInput) -> str:
        """What the input to measure first does, by the reason for which it comes first."""
        tried = [v for v in (first.half, first.double) if not v.problem]
        if first.changes_recommendation:
            others = [v for v in tried if v.recommended != self.recommended]
            return " and ".join(f"{FACTORS[v.factor]}, it makes {v.recommended} the recommendation" for v in others)
        if first.changes_goals:
            changed = [(v, g) for v in tried for g, was in zip(v.goals, self.goals, strict=True) if g.met != was.met]
            said = [f"{FACTORS[v.factor]}, it makes {self.recommended} {'meet' if g.met else 'miss'} {g.goal}" for v, g in changed]
            return " and ".join(said)
        means = " and ".join(f"{with_unit(v.mean, self.metric)} when {FACTORS[v.factor]}" for v in tried)
        as_it_is = with_unit(mean_of(self.outcome, self.metric), self.metric)
        return f"{words(self.metric)} of {self.recommended} are {means}, against {as_it_is} in the mean"

    def to_dict(self) -> dict[str, Any]:
        """The inputs as plain data, what to measure first at the head; what the replications cannot support is None."""
        first = self.measure_first
        return {
            "seed": self.outcome.seed,
            "replications": self.outcome.replications,
            "recommended": self.recommended,
            "metric": self.metric,
            "mean": finite(mean_of(self.outcome, self.metric)),
            "measure_first": first.at if first else None,
            "sentence": self.sentence,
            "inputs": [_input(i) for i in self.inputs],
            "not_varied": [{"at": i.at, "source": i.source} for i in self.not_varied],
        }

    def _repr_html_(self) -> str:
        from simdeploy.study.overview import robust

        table = robust(self)
        return f"<p>{html.escape(self.sentence)}</p>{html_table(table) if table.rows else ''}"


def vary_inputs(
    scenario: Scenario,
    replications: int = REPLICATIONS,
    seed: int = 0,
    strategies: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Whether the strategy recommended for *scenario* stays so when an input marked `assumed` is halved or doubled.

    To be measured first is an input that changes the recommendation, then one that changes which goals the
    recommended strategy meets; among their like, and among the rest, the one with the largest swing of that
    strategy's most preferred metric.

    Raises StudyError for a strategy that the scenario does not have.
    """
    wanted = chosen(scenario, strategies)
    assumed = [(i, _was(scenario, i.at)) for i in scenario.environment.inputs if i.mark == "assumed"]
    trials = {(i.at, factor): _plans(scenario, wanted, i.at, factor) for i, was in assumed if was for factor in FACTORS}
    given = [(i, was) for i, was in assumed if was and any(trials[i.at, factor] for factor in FACTORS)]
    plans = build_plans(scenario, wanted)
    for (at, factor), rivals in trials.items():
        plans |= {_key(n, at, factor): plan for n, plan in rivals.items()} if isinstance(rivals, dict) else {}
    outcomes = simulate_all(plans, replications, seed, jobs, progress, paths=0)
    base = {n: outcomes[n] for n in wanted}
    recommended = _recommended(scenario, base)
    outcome, goals = base[recommended], base[recommended].goals()
    metric = (scenario.prefer or DEFAULT_PREFER)[0]

    def variant(at: str, factor: float) -> Variant:
        rivals = trials[at, factor]
        if isinstance(rivals, str):
            return Variant(factor, None, [], math.nan, None, rivals)
        tried = {n: outcomes.get(_key(n, at, factor), base[n]) for n in wanted}
        values = tried[recommended].values[metric]
        difference = statistics.mean(statistics.paired(values, outcome.values[metric]))
        return Variant(factor, _recommended(scenario, tried), tried[recommended].goals(), mean_of(tried[recommended], metric), difference)

    def varied(one: Input, was: str) -> VariedInput:
        half, double = (variant(one.at, factor) for factor in FACTORS)
        possible = [v for v in (half, double) if not v.problem]
        chooses = any(v.recommended != recommended for v in possible)
        meets = any([g.met for g in v.goals] != [g.met for g in goals] for v in possible)
        swing = _swing([mean_of(outcome, metric), *(v.mean for v in possible)])
        return VariedInput(one.at, one.source, was, half, double, chooses, meets, swing)

    inputs = sorted((varied(i, was) for i, was in given), key=lambda i: (-i.changes_recommendation, -i.changes_goals, -i.swing))
    not_varied = [i for i, was in assumed if (i, was) not in given]
    return Robustness(outcome, recommended, goals, metric, inputs, not_varied, outcome.interrupted)


def _was(scenario: Scenario, at: str) -> str | None:
    """What the number at *at* is; None where the file has no number there, or one that the environment is only made with (a count)."""
    try:
        return input_text(scenario.environment, at)
    except SimdeployError:
        return None


def _plans(scenario: Scenario, strategies: list[str], at: str, factor: float) -> dict[str, Plan] | str:
    """The plans with *factor* times one input, none where that changes nothing; or what is wrong with the value."""
    try:
        environment = scaled_input(scenario.environment, at, factor)
        if environment == scenario.environment:
            return {}
        return build_plans(scenario.model_copy(update={"environment": environment}), strategies)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    except SimdeployError as error:
        return str(error).splitlines()[0]


def _key(strategy: str, at: str, factor: float) -> str:
    return f"{strategy} {at} {factor}"


def _recommended(scenario: Scenario, outcomes: dict[str, Outcome]) -> str:
    return recommend(outcomes, {n: o.goals() for n, o in outcomes.items()}, scenario.prefer)[0]


def _swing(means: list[float]) -> float:
    """From the lowest to the highest; what is missing is as bad as endless, what differs by rounding alone does not differ."""
    highest, lowest = (f(math.inf if math.isnan(x) else x for x in means) for f in (max, min))
    return 0.0 if highest == lowest or math.isclose(highest, lowest, rel_tol=1e-9) else highest - lowest


def _input(given: VariedInput) -> dict[str, Any]:
    return {
        "at": given.at,
        "source": given.source,
        "was": given.was,
        "changes_recommendation": given.changes_recommendation,
        "changes_goals": given.changes_goals,
        "swing": finite(given.swing),
        "half": _variant(given.half),
        "double": _variant(given.double),
    }


def _variant(tried: Variant) -> dict[str, Any]:
    return {
        "recommended": tried.recommended,
        "mean": finite(tried.mean),
        "difference": {"mean": finite(tried.difference.mean), "ci95": interval(tried.difference)} if tried.difference else None,
        "goals": [{"goal": g.goal.text, "met": g.met, "probability": g.probability} for g in tried.goals],
        "problem": tried.problem or None,
    }
