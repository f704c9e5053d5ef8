"""What every kind of scenario says, whatever is done: where, against which goals, and the strategies that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from simdeploy.environment.base import Frozen
from simdeploy.environment.demand import TimeOfDay
from simdeploy.environment.models import Environment, Input
from simdeploy.environment.names import Name, did_you_mean
from simdeploy.environment.policy import Policy
from simdeploy.errors import InvalidDocument, Problem
from simdeploy.plan.goals import DEFAULT_PREFER, Goal
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan, Source
from simdeploy.planning.builder import Builder
from simdeploy.tables import mime_bundle
from simdeploy.units import Seconds


class Choice(Frozen):
    """One named way to do what a scenario is about."""

    about: str = ""
    """One line for people."""


class Scenario(Frozen):
    """What is to be done to an environment, what must be kept meanwhile, and the strategies for it.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    format: Literal[1] = 1
    """Version of this form of file."""
    scenario: str
    """What is done."""
    name: Name
    """What the scenario is called; by default as its file."""
    title: str = ""
    """Heading of its tables."""
    environment: Annotated[Environment, WithJsonSchema({"type": "string", "examples": ["environment.yaml"]})]
    """The environment's file, seen from this one."""
    after_crash: Literal["retry", "abort"] = "retry"
    """What becomes of a step whose machine dies: it is done again when the machine is back, or the plan aborts."""
    forks: int | None = Field(default=None, ge=1)
    """How many steps run at once at most. It does not bound how many machines are out: batches do."""
    starts_at_s: TimeOfDay = Field(default=0.0, alias="starts_at")
    """When the plan starts, for a daily demand."""
    horizon_s: Seconds | None = Field(default=None, alias="horizon")
    """Integrals run over [0, horizon]; by default 1.5 times the longest critical path over all strategies."""
    goals: tuple[Goal, ...] = ()
    """What a plan must keep."""
    prefer: tuple[Annotated[str, WithJsonSchema({"enum": list(METRICS)})], ...] = DEFAULT_PREFER
    """Metrics by which the recommendation is found, most important first."""
    baseline: str | None = None
    """The strategy with which the others are compared; by default the first."""
    strategies: Mapping[Name, Choice] = Field(min_length=1)
    """The choices that are compared."""
    inputs: SkipJsonSchema[tuple[Input, ...]] = ()
    """Where the numbers of its own file come from, gathered from the marks `assumed` and `measured` there."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Scenario:
        problems = [*_common_problems(self), *self.problems()]
        if problems:
            raise InvalidDocument(problems)
        return self

    def problems(self) -> Iterator[Problem]:
        """Every rule of its own kind that spans several fields and is broken, with its path in the document."""
        raise NotImplementedError

    @property
    def aim(self) -> str:
        """What is done, in a few words for the foot of a table."""
        raise NotImplementedError

    def outline(self, strategy: str) -> str:
        """What comes after what under *strategy*, in one line."""
        raise NotImplementedError

    def warnings(self) -> Sequence[str]:
        """Sentences on what is allowed and may not be meant."""
        return ()

    def finished(self, strategy: str, build: Builder, **fields: Any) -> Plan:
        """The plan of *strategy* with the steps that *build* has collected, and *fields* that only its kind knows."""
        return Plan(
            environment=build.env.model_copy(update={"policy": Policy()}),  # a plan is held against its goals
            steps=tuple(build.steps),
            pools=build.pools,
            goals=self.goals,
            prefer=self.prefer,
            after_crash=self.after_crash,
            source=Source(scenario=self.name, strategy=strategy),
            **fields,
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.planning.overview import strategies

        return mime_bundle(strategies(self))


def _common_problems(scenario: Scenario) -> Iterator[Problem]:
    for i, metric in enumerate(scenario.prefer):
        if metric not in METRICS:
            yield Problem(("prefer", i), f"{metric!r} is no metric; {did_you_mean(metric, list(METRICS))}")
    if scenario.baseline is not None and scenario.baseline not in scenario.strategies:
        hint = did_you_mean(scenario.baseline, list(scenario.strategies))
        yield Problem(("baseline",), f"{scenario.baseline!r} is no strategy; {hint}")
