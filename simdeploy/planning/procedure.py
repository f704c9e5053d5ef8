"""The procedure: steps of one's own with their effects, for what no other kind describes: a runbook, a diagnosis, a timeline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from simdeploy.environment.base import Frozen
from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name, did_you_mean
from simdeploy.errors import Path, PlanError, Problem
from simdeploy.plan.effects import VERBS, Effect
from simdeploy.plan.plan import Crash, Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning.base import Choice, Scenario
from simdeploy.planning.builder import Builder, Rules
from simdeploy.units import Fraction, Seconds

_LISTED = {"type": "array", "prefixItems": [{"enum": list(VERBS)}], "minItems": 1, "items": {"type": ["string", "number", "null"]}}
Deed = Annotated[Effect, WithJsonSchema({"anyOf": [{"enum": list(VERBS)}, _LISTED]})]
"""An effect; in a file a verb by itself acts on what its step is about."""


class ProcedureStep(Frozen):
    """One thing that somebody or something does, how long it takes, and what it changes."""

    do: str = Field(min_length=1)
    """What is done, for people."""
    id: Name | None = None
    """What other steps call it; by default `do` with dashes for what is no part of a name."""
    of: str = ""
    """The instance, or the service, that it is about."""
    on: Name | None = None
    """The machine that executes it, and with which it breaks; by default the operator's desk."""
    takes: Duration = ZERO
    """How long one attempt takes."""
    needs: tuple[str, ...] | None = None
    """Steps that must have succeeded; by default the one before it in the list, unless it says `after`. [] = from the start."""
    after: tuple[str, ...] = ()
    """Steps that must have ended, in any way."""
    begin: tuple[Deed, ...] = ()
    """Its effects when it begins: a list such as [kill, web@web1]; a verb by itself acts on what `of` names."""
    end: tuple[Deed, ...] = ()
    """Its effects when it succeeds."""
    slow: dict[str, Fraction] = {}
    """Instance or service -> the share of its capacity that is left while it runs; 0 % = a lock."""
    p_fail: Fraction = 0.0
    """Chance that one attempt fails."""
    retries: int = Field(default=0, ge=0, le=1000)
    """Further attempts after a failed one."""
    retry_delay: Duration = ZERO
    """Pause before each of them."""
    timeout_s: Seconds | None = Field(default=None, alias="timeout")
    """Ends an attempt, which then has failed."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Verbs by themselves act on what the step is about."""
        if not isinstance(data, Mapping):
            return data
        of = [data["of"]] if isinstance(data.get("of"), str) and data["of"] else []
        written = {
            key: [[e, *(of if VERBS[e].arguments else [])] if isinstance(e, str) and e in VERBS else e for e in data[key]]
            for key in ("begin", "end")
            if isinstance(data.get(key), list | tuple)
        }
        return {**data, **written}

    @property
    def name(self) -> str:
        """What other steps call it."""
        return self.id or re.sub(r"[^A-Za-z0-9._-]+", "-", self.do).strip("-._")[:63]

    @property
    def step_id(self) -> str:
        """What the plan calls it."""
        return f"procedure/{self.of or 'desk'}/{self.name}"


class ProcedureStrategy(Choice):
    """One way to go about it: its steps."""

    without: tuple[str, ...] = ()
    """Instances of the environment that are not there in this strategy, until a step lets them start or serve."""
    steps: tuple[ProcedureStep, ...] = Field(min_length=1)
    """What is done; each step after the one before it, unless it says otherwise."""


class KnownCrash(Frozen):
    """A machine that dies at a known moment."""

    machine: Name
    """Which one."""
    at_s: Seconds = Field(alias="at")
    """When, after the start."""
    for_s: Seconds | None = Field(default=None, alias="for")
    """After how long it is back; by default it never returns."""


class Procedure(Scenario):
    """Steps of one's own: what people and machines do, in which order, and what that changes.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["procedure"]
    """What is done."""
    crashes: tuple[KnownCrash, ...] = ()
    """Machines that die at known moments, whatever the strategy."""
    disaster_s: Seconds | None = Field(default=None, alias="disaster")
    """The moment from which the recovery time counts; by default this recovers from nothing."""
    strategies: Mapping[Name, ProcedureStrategy] = Field(min_length=1)
    """The ways to go about it that are compared."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of a procedure that is broken; what its plans would refuse has the place of the step that it is about."""
        for name, strategy in self.strategies.items():
            found = list(_step_problems(self.environment, strategy, ("strategies", name, "steps")))
            yield from found
            if found:
                continue
            try:
                plan(self, name)
            except PlanError as error:
                yield from (Problem(self._place(name, problem.path), problem.message) for problem in error.problems)

    def _place(self, name: str, path: Path) -> Path:
        """Where in the scenario stands what is at *path* in the plan of the strategy *name*."""
        match path:
            case ("crashes", *_):
                return path
            case ("start", "absent", i):
                return ("strategies", name, "without", i)
            case ("steps", k, *_):
                return ("strategies", name, "steps", k)
        return ("strategies", name)

    @property
    def aim(self) -> str:
        """What is done."""
        return "goes through steps of its own"

    def outline(self, strategy: str) -> str:
        """The steps of *strategy*."""
        return " > ".join(step.do for step in self.strategies[strategy].steps)


def _step_problems(env: Environment, strategy: ProcedureStrategy, where: Path) -> Iterator[Problem]:
    """What the steps say of each other and of the environment before they are a plan."""
    names = [step.name for step in strategy.steps]
    for k, step in enumerate(strategy.steps):
        if not step.name:
            yield Problem((*where, k, "do"), f"{step.do!r} has no letter or digit that could name the step; add an id")
        elif step.name in names[:k]:
            yield Problem((*where, k), f"two steps are called {step.name!r}; give this one an id of its own")
        for key in ("needs", "after"):
            for j, other in enumerate(getattr(step, key) or ()):
                if other not in names:
                    yield Problem((*where, k, key, j), f"{other!r} is no step of this strategy; {did_you_mean(other, names)}")
        for path, what in [(("of",), step.of), *((("slow", s), s) for s in step.slow)]:
            if what and what not in env.services and what not in env.instances:
                known = [*env.services, *env.instances]
                yield Problem((*where, k, *path), f"{what!r} is neither a service nor an instance; {did_you_mean(what, known)}")


def plan(scenario: Procedure, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end. Raises PlanError for steps that form none."""
    build, strategy = Builder(scenario.environment, {}, scenario.forks, Rules()), scenario.strategies[name]
    ids = {step.name: step.step_id for step in strategy.steps}
    before: tuple[str, ...] = ()
    for step in strategy.steps:
        needs = tuple(ids[other] for other in step.needs) if step.needs is not None else () if step.after else before
        build.add(
            Step(
                id=step.step_id,
                target=step.of,
                on=step.on or "",
                needs=needs,
                after=tuple(ids[other] for other in step.after),
                duration=step.takes,
                pools=(("forks", 1),) if build.pools else (),
                p_fail=step.p_fail,
                retries=step.retries,
                retry_delay=step.retry_delay,
                timeout_s=step.timeout_s,
                begin=tuple(e for effect in step.begin for e in _effects(build.env, effect, ids)),
                end=tuple(e for effect in step.end for e in _effects(build.env, effect, ids)),
                slow=tuple((i, left) for what, left in step.slow.items() for i in _instances(build.env, what)),
            )
        )
        before = (step.step_id,)
    return scenario.finished(
        name,
        build,
        start=Start(absent=strategy.without, starts_at_s=scenario.starts_at_s),
        crashes=tuple(Crash(machine=c.machine, at_s=c.at_s, for_s=c.for_s) for c in scenario.crashes),
        disaster_at_s=scenario.disaster_s,
    )


def _instances(env: Environment, what: str) -> tuple[str, ...]:
    """An instance, or all of a service."""
    return env.members(what) if what in env.services else (what,)


def _effects(env: Environment, effect: tuple[Any, ...], ids: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """*effect* as a plan has it: on each instance where it names a service, and with the plan's name of a step."""
    kinds = VERBS[str(effect[0])].arguments
    rest = [ids.get(str(value), value) if kind == "step" else value for kind, value in zip(kinds, effect[1:], strict=False)]
    if kinds[:1] == ("instance",):
        return [(effect[0], instance, *rest[1:]) for instance in _instances(env, str(rest[0]))]
    return [(effect[0], *rest)]
