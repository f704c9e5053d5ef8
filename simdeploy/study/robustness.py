"""Whether a recommendation rests on a guess: each assumed input halved and doubled, one at a time, under the same luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from simdeploy.environment.inputs import input_text, scaled_input
from simdeploy.environment.models import Input, Mark, Recovery
from simdeploy.errors import SimdeployError
from simdeploy.plan.goals import DEFAULT_PREFER
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plans
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import GoalResult, Outcome, simulate_all
from simdeploy.study.comparison import chosen, finite, interval, known_metric, mean_of, recommend, with_unit, words
from simdeploy.tables import mime_bundle

if TYPE_CHECKING:
    import pandas as pd

REPLICATIONS = statistics.replications_needed(0.99)
"""Of each variant: the fewest that support every statistic that a goal may be about."""
FACTORS = {0.5: "halved", 2.0: "doubled"}
ASSUMED: tuple[Mark, ...] = ("assumed",)
ALWAYS = ("makespan_s", "downtime_s")
"""Metrics whose differences are kept beside the preferred ones."""


class Variant(NamedTuple):
    """What one other value of an input makes of the recommendation."""

    factor: float
    recommended: str | None
    """None where the value is none that the environment may have."""
    goals: list[GoalResult]
    """Of the strategy that is recommended without the change, like the next two."""
    mean: float
    """Of its most preferred metric, nan where a replication has none."""
    differences: dict[str, statistics.Estimate | None]
    """Metric -> the paired difference to what it was; the most preferred one comes first. Empty where the value is none."""
    problem: str = ""
    """What is wrong with the value."""

    @property
    def difference(self) -> statistics.Estimate | None:
        """That of the most preferred metric."""
        return next(iter(self.differences.values()), None)


class VariedInput(NamedTuple):
    """One input, and what becomes of the recommendation when it is halved and when it is doubled."""

    at: str
    """Its path in the file of the environment or of the scenario."""
    mark: Mark
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
    """How a recommendation takes other values of the inputs, by default of those that are assumed."""

    outcome: Outcome
    """Of the recommended strategy, with every input as it is."""
    recommended: str
    rivals: int
    """How many strategies there were to choose from; of one alone nothing is recommended."""
    goals: list[GoalResult]
    metric: str
    """The most preferred one."""
    inputs: list[VariedInput]
    """What to measure first comes first."""
    not_varied: list[Input]
    """Inputs that have neither a half nor a double: names, rules, zeros."""
    interrupted: bool

    def __repr__(self) -> str:
        return f"<Robustness of {self.recommended}: {len(self.inputs)} inputs varied, {self.outcome.replications} replications>"

    @property
    def assumed(self) -> list[VariedInput]:
        """The inputs that are only assumed."""
        return [i for i in self.inputs if i.mark == "assumed"]

    @property
    def measure_first(self) -> VariedInput | None:
        """The assumed input to measure first; None where none changes anything."""
        return next((i for i in self.assumed if i.changes_something), None)

    @property
    def sentence(self) -> str:
        """Whether the recommendation holds, which input to measure first, and how many were left out."""
        count, first = len(self.assumed), self.measure_first
        left = sum(i.mark == "assumed" for i in self.not_varied)
        left_out = f" Not varied: {left} assumed input{'s' * (left > 1)} with neither a half nor a double (a zero, a rule)." if left else ""
        if not count:
            return f"No number is assumed, so none was varied.{left_out}"
        if first is None:
            still = "none of them moves" if count > 1 else "it does not move"
            return f"{self._holds(count)}, and {still} its {words(self.metric)}.{left_out}"
        return f"{self._holds(count)}. Measure first: {first.at} ({first.source}); {self._effect(first)}.{left_out}"

    def _holds(self, count: int) -> str:
        """Whether the recommendation holds; of a single strategy, whether its goals do."""
        alone = self.rivals == 1
        moving = sum(i.changes_goals if alone else i.changes_recommendation for i in self.assumed)
        numbers = f"the {count} assumed numbers"
        if not moving:
            stays = "keeps to the goals that it meets" if alone else "stays recommended"
            varied = f"whichever of {numbers} is" if count > 1 else "with its one assumed number"
            return f"{self.recommended} {stays} {varied} halved or doubled"
        what = f"which goals {self.recommended} meets" if alone else f"whether {self.recommended} is recommended"
        return f"{moving} of {numbers} decide{'s' * (moving == 1)} {what}" if count > 1 else f"The one assumed number decides {what}"

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
        verb = "are" if words(self.metric).endswith("s") else "is"
        return f"{words(self.metric)} of {self.recommended} {verb} {means}, against {as_it_is} in the mean"

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

    def frame(self) -> pd.DataFrame:
        """One row per input, variant (half, double) and metric, the largest swing first: input, mark, source, was, variant,
        metric, difference (paired, to the input as it is; missing where that cannot be), ci95_low, ci95_high, swing."""
        import pandas as pd

        rows = []
        for one in sorted(self.inputs, key=lambda i: -i.swing):
            for name, variant in (("half", one.half), ("double", one.double)):
                for metric, difference in variant.differences.items():
                    low, high = (difference.ci95 if difference else None) or (None, None)
                    rows.append((one.at, one.mark, one.source, one.was, name, metric, difference and difference.mean, low, high, one.swing))
        numbers = ["difference", "ci95_low", "ci95_high", "swing"]
        return pd.DataFrame(rows, columns=["input", "mark", "source", "was", "variant", "metric", *numbers]).astype(
            dict.fromkeys(numbers, float)
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study.overview import robust

        table = robust(self)
        return mime_bundle(self.sentence, *([table] if table.rows else []))


def vary_inputs(
    scenario: Scenario,
    replications: int = REPLICATIONS,
    seed: int = 0,
    strategies: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    marks: Collection[Mark] = ASSUMED,
    metric: str | None = None,
) -> Robustness:
    """Whether the strategy recommended for *scenario* stays so when an input with one of the *marks* is halved or doubled.

    To be measured first is an input that changes the recommendation, then one that changes which goals the
    recommended strategy meets; among their like, and among the rest, the one with the largest swing of that
    strategy's *metric*, by default the one that the scenario prefers most.

    Raises StudyError for a strategy that the scenario does not have, and for what is no metric.
    """
    wanted = chosen(scenario, strategies)
    metric = known_metric(metric or (scenario.prefer or DEFAULT_PREFER)[0])
    of_interest = dict.fromkeys((metric, *scenario.prefer, *ALWAYS))
    known = (*scenario.environment.inputs, *scenario.inputs)
    marked = [(i, _was(scenario, i)) for i in known if i.mark in marks]
    built = build_plans(scenario, wanted)
    trials = {(i.at, factor): _plans(scenario, built, i, factor) for i, was in marked if was for factor in FACTORS}
    given = [(i, was) for i, was in marked if was and any(trials[i.at, factor] is not None for factor in FACTORS)]
    plans = dict(built)
    for (at, factor), rivals in trials.items():
        plans |= {_key(n, at, factor): plan for n, plan in rivals.items()} if isinstance(rivals, dict) else {}
    outcomes = simulate_all(plans, replications, seed, jobs, progress, paths=0)
    base = {n: outcomes[n] for n in wanted}
    recommended = _recommended(scenario, base)
    outcome, goals = base[recommended], base[recommended].goals()

    def variant(at: str, factor: float) -> Variant:
        rivals = trials[at, factor]
        if isinstance(rivals, str):
            return Variant(factor, None, [], math.nan, {}, rivals)
        tried = {n: outcomes.get(_key(n, at, factor), base[n]) for n in wanted}
        now = tried[recommended]
        differences = {m: statistics.mean(statistics.paired(now.values[m], outcome.values[m])) for m in of_interest}
        return Variant(factor, _recommended(scenario, tried), now.goals(), mean_of(now, metric), differences)

    def varied(one: Input, was: str) -> VariedInput:
        half, double = (variant(one.at, factor) for factor in FACTORS)
        possible = [v for v in (half, double) if not v.problem]
        chooses = any(v.recommended != recommended for v in possible)
        meets = any([g.met for g in v.goals] != [g.met for g in goals] for v in possible)
        swing = _swing([mean_of(outcome, metric), *(v.mean for v in possible)])
        return VariedInput(one.at, one.mark, one.source, was, half, double, chooses, meets, swing)

    inputs = sorted((varied(i, was) for i, was in given), key=lambda i: (-i.changes_recommendation, -i.changes_goals, -i.swing))
    not_varied = [i for i, was in marked if (i, was) not in given]
    return Robustness(outcome, recommended, len(wanted), goals, metric, inputs, not_varied, outcome.interrupted)


def _was(scenario: Scenario, one: Input) -> str | None:
    """What the number is; None where the file has no number there, or one that the environment is only made with (a count)."""
    try:
        return input_text(scenario if one in scenario.inputs else scenario.environment, one.at)
    except SimdeployError:
        return None


def _plans(scenario: Scenario, built: dict[str, Plan], one: Input, factor: float) -> dict[str, Plan] | str | None:
    """Of the plans with *factor* times one input those whose forecast that may change; what is wrong with the value; or None
    where the value stays the same."""
    try:
        changed = _scaled(scenario, one, factor)
        if changed == scenario:
            return None
        scaled = build_plans(changed, list(built))
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    except SimdeployError as error:
        return str(error).splitlines()[0]
    return {name: plan for name, plan in scaled.items() if _forecast_of(plan) != _forecast_of(built[name])}


def _scaled(scenario: Scenario, one: Input, factor: float) -> Scenario:
    if one in scenario.inputs:
        return scaled_input(scenario, one.at, factor)
    return scenario.model_copy(update={"environment": scaled_input(scenario.environment, one.at, factor)})


def _forecast_of(plan: Plan) -> Plan:
    """*plan* without what only its maker reads: recipes (but how a store is read back) and the times of a recovery."""
    env = plan.environment
    services = {
        name: service.model_copy(update={"actions": {k: a for k, a in service.actions.items() if k == "restore"}})
        for name, service in env.services.items()
    }
    bare = env.model_copy(update={"services": services, "actions": {}, "recovery": Recovery(), "inputs": ()})
    return plan.model_copy(update={"environment": bare})


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
        "mark": given.mark,
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
