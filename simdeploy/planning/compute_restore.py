"""The compute restore: machines with new code in the place of others, prepared beside them or after their loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.models import Recovery
from simdeploy.environment.names import Name, Version, did_you_mean, in_short
from simdeploy.errors import Problem
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning.builder import Builder
from simdeploy.planning.partition import prefixed
from simdeploy.planning.recovery import Case, RecoveryStrategy, after_loss, procedure, unseen_s
from simdeploy.planning.recovery_rules import case_problems
from simdeploy.planning.recovery_steps import recovery_plan
from simdeploy.planning.replacement import OnMachines, Replacing, replacing_problems
from simdeploy.planning.swaps import add_swaps, take_back
from simdeploy.planning.tiers import Barrier

PLANNED = ("batches", "order", "leader", "hand_over", "max_failures", "failures_of", "on_abort")
"""Keys of a strategy that say how old machines leave and what their failures stop, and so nothing where they are lost."""


class RestoreStrategy(Replacing):
    """One named way to come to machines with new code."""

    when: Literal["beside", "after_loss"] = "beside"
    """beside: prepared while the old machines serve, which then leave; after_loss: the old machines die at the start of the plan."""


class ComputeRestore(OnMachines):
    """Front-end, middle-tier or data machines that new ones with new code take the place of.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["compute_restore"]
    """What is done."""
    to: dict[Name, Version] = {}
    """Service -> the version that its new machines bring; by default the present one. Without machines and services, all
    machines of these services are meant."""
    detect: Duration | None = None
    """Of after_loss: from the loss until it is known; by default as the environment's `recovery` says, else no time."""
    decide: Duration | None = None
    """Of after_loss: from then until it is decided to restore; by default likewise."""
    validation: Duration | None = Field(default=None, alias="validate")
    """How long it takes to see that all is well, when all new machines serve; by default likewise."""
    hands: int | None = Field(default=None, ge=1)
    """Of after_loss: how many machines are allocated at once at most; by default as the environment's `recovery` says."""
    strategies: dict[Name, RestoreStrategy] = Field(min_length=1)
    """The choices that are compared."""

    @property
    def meant(self) -> tuple[str, ...]:
        """The services named, else those that get a version."""
        return self.services or tuple(self.to)

    @property
    def people(self) -> Recovery:
        """What the scenario says of those who answer a loss, and of the rest what the environment does."""
        return procedure(self.environment, self.detect, self.decide, self.validation, self.hands)

    @property
    def case(self) -> Case:
        """What the loss of the machines comes to."""
        return after_loss(self.environment, self.chosen, unseen_s(self.people))

    def problems(self) -> Iterator[Problem]:
        """Every rule of a compute restore that is broken."""
        wrong = [*super().problems(), *self._versions_problems()]
        yield from wrong
        for name, strategy in self.strategies.items() if not wrong else ():
            found = (
                replacing_problems(self, strategy, in_place=False) if strategy.when == "beside" else _after_loss_problems(self, strategy)
            )
            yield from prefixed(found, ("strategies", name))

    def _versions_problems(self) -> Iterator[Problem]:
        services = self.environment.services
        here = {self.environment.instances[i][0] for i in self.instances}
        for name in self.to:
            if name not in services:
                yield Problem(("to", name), f"{name!r} is no service; {did_you_mean(name, list(services))}")
            elif services[name].role == "datastore":
                yield Problem(("to", name), f"{name!r} is a datastore, whose schema comes with its data; leave it out, or upgrade it")
            elif name not in here:
                yield Problem(("to", name), f"no machine that is restored runs {name!r}; {did_you_mean(name, sorted(here))}")

    @property
    def aim(self) -> str:
        """Which machines, with which versions."""
        versions = ", ".join(f"{name} {version}" for name, version in self.to.items())
        return f"restores {in_short(self.chosen)}{' with ' + versions if versions else ''}"

    def outline(self, strategy: str) -> str:
        """The stages of *strategy*, or what is lost."""
        chosen = self.strategies[strategy]
        if chosen.when == "beside":
            return f"beside: {self.outlined(chosen)}"
        return f"after the loss of {len(self.chosen)} machine{'s' * (len(self.chosen) > 1)}: {self.case.described}"


def plan(scenario: ComputeRestore, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    strategy = scenario.strategies[name]
    if strategy.when == "after_loss":
        return recovery_plan(scenario, name, scenario.case, scenario.people, strategy.spares, to=scenario.to)
    build, new = scenario.builder(strategy, scenario.to)
    stages, barrier = add_swaps(build, scenario.swapping(strategy), new)
    _validate(build, scenario, barrier)
    if strategy.on_abort == "rollback":
        take_back(build, stages, new)
    start = Start(absent=tuple(build.absent), spares=build.stand_by(strategy.spares), starts_at_s=scenario.starts_at_s)
    return scenario.finished(name, build, start=start, on_abort=strategy.on_abort)


def _validate(build: Builder, scenario: ComputeRestore, after: Barrier) -> None:
    step_id = f"validate/{scenario.name}/validate"
    build.add(Step(id=step_id, after=after, duration=scenario.people.validation or ZERO, end=(("validated",),)))


def _after_loss_problems(scenario: ComputeRestore, strategy: RestoreStrategy) -> Iterator[Problem]:
    """Every rule that a strategy for lost machines breaks; paths begin at it."""
    for key in [key for key in PLANNED if key in strategy.model_fields_set]:
        yield Problem(
            (key,), f"lost machines do not leave one after the other, all are restored at once; drop {key!r}, or write when: beside"
        )
    yield from case_problems(scenario.case, RecoveryStrategy(spares=strategy.spares), in_short(scenario.chosen), ())
