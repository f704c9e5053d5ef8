"""The compute restore: machines with new code in the place of others, prepared beside them or after their loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.models import GIVING
from simdeploy.environment.names import Name, Version, did_you_mean, in_short
from simdeploy.errors import Problem
from simdeploy.plan.plan import Crash, Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning.builder import Builder
from simdeploy.planning.lanes import machine_in
from simdeploy.planning.partition import prefixed
from simdeploy.planning.replacement import (
    OnMachines,
    Replacing,
    allocation_problems,
    leading,
    recipes_missing,
    replacing_problems,
)
from simdeploy.planning.swaps import add_swaps, on_machine, take_back
from simdeploy.planning.tiers import Barrier, judge

PLANNED = ("batches", "order", "leader", "hand_over", "on_abort")
"""Keys of a strategy that say how old machines leave, and so nothing where they are lost."""


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
    strategies: dict[Name, RestoreStrategy] = Field(min_length=1)
    """The choices that are compared."""

    @property
    def meant(self) -> tuple[str, ...]:
        """The services named, else those that get a version."""
        return self.services or tuple(self.to)

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
        return f"after the loss of {len(self.chosen)} machine{'s' * (len(self.chosen) > 1)}"


def plan(scenario: ComputeRestore, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    strategy = scenario.strategies[name]
    build, new = scenario.builder(strategy, scenario.to)
    absent = Start(absent=tuple(build.absent), starts_at_s=scenario.starts_at_s)
    if strategy.when == "after_loss":
        _validate(build, scenario, _after_loss(build, scenario, strategy, new))
        crashes = tuple(Crash(machine=machine, at_s=0.0) for machine in scenario.chosen)
        return scenario.finished(name, build, start=absent, crashes=crashes, disaster_at_s=0.0)
    stages, barrier = add_swaps(build, scenario.swapping(strategy), new)
    _validate(build, scenario, barrier)
    if strategy.on_abort == "rollback":
        take_back(build, stages, new)
    return scenario.finished(name, build, start=absent, on_abort=strategy.on_abort)


def _validate(build: Builder, scenario: ComputeRestore, after: Barrier) -> None:
    step_id = f"validate/{scenario.name}/validate"
    duration = scenario.validation or scenario.environment.recovery.validation or ZERO
    build.add(Step(id=step_id, after=after, duration=duration, end=(("validated",),)))


def _after_loss(build: Builder, scenario: ComputeRestore, strategy: RestoreStrategy, new: Mapping[str, str]) -> Barrier:
    """The loss is noticed, a decision is made, all lost machines get new ones at once; what comes after them."""
    label, env = scenario.name, scenario.environment
    detect = Step(id=f"restore/{label}/detect", duration=scenario.detect or env.recovery.detect or ZERO)
    decide = Step(id=f"restore/{label}/decide", duration=scenario.decide or env.recovery.decide or ZERO, needs=(detect.id,))
    build.add(detect, decide)
    restored = {new[i] for i in _restored(scenario)}
    build.leaders |= {env.instances[i][0]: i for i in _heirs(scenario)}
    promoted = {env.instances[i][0]: _promoted(build, i, decide.id) for i in _promotable(scenario)}
    lanes: list[list[Step]] = []
    for k, machine in enumerate(scenario.chosen):
        lost = on_machine(env, machine)
        steps = machine_in(build, [new[i] for i in lost], (), spare=k < strategy.spares, needs=(decide.id,), restored=restored)
        struck_off = tuple(("remove", i) for i in lost)
        lanes.append([steps[0].model_copy(update={"end": (*steps[0].end, *struck_off)}), *steps[1:]])
    moved = {m: new[i].partition("@")[2] for i in scenario.instances for m in [env.instances[i][1]]}
    served = {i: next(s.id for lane in lanes for s in lane if ("serve", i) in s.end) for i in new.values()}
    primary = promoted | {build.env.instances[i][0]: served[i] for i in restored}
    for lane in lanes:
        for j, step in enumerate(lane):
            lane[j] = _in_order(build, scenario, step, served, primary).model_copy(update={"on": moved.get(step.on, step.on)})
            leads = tuple(("lead", build.env.instances[i][0], i) for i in restored if served[i] == step.id)
            lane[j] = lane[j].model_copy(update={"end": (*step.end, *leads)})
        build.add(*lane)
    return judge(build, f"restore/{label}/judge", label, lanes, tuple(promoted.values()))


def _in_order(build: Builder, scenario: ComputeRestore, step: Step, served: Mapping[str, str], primary: Mapping[str, str]) -> Step:
    """*step* after what it depends on: a seed needs a primary; who calls a service of which nothing is left starts after it."""
    service, action = step.target.partition("@")[0], step.action.partition("#")[0]
    if action == "seed" and service in primary:
        return step.model_copy(update={"needs": (*step.needs, primary[service])})
    if action not in GIVING[:1] or step.action not in (action, f"{action}#1"):
        return step
    env, lost = scenario.environment, set(scenario.instances)
    gone = [callee for callee in env.services[service].calls if set(env.members(callee)) <= lost]
    awaited = [primary[callee] for callee in gone if callee in primary]
    awaited += [served[i] for callee in gone if callee not in primary for i in build.env.members(callee) if i in served]
    return step.model_copy(update={"after": tuple(awaited)})


def _promoted(build: Builder, instance: str, decided: str) -> str:
    """Add the step by which a person makes a living member of a store the primary; its id."""
    store, machine = build.env.instances[instance]
    recipe, end = build.env.services[store].actions["hand_over"], (("lead", store, instance),)
    step = build.recipe_step(f"restore/{instance}/hand_over", recipe, instance, machine, needs=(decided,), fatal=True, end=end)
    build.add(step)
    return step.id


def _restored(scenario: ComputeRestore) -> list[str]:
    """The primary of each store of which nothing is left: what takes its place gets its data by `restore`."""
    env, lost = scenario.environment, set(scenario.instances)
    stores = [s for s, service in env.services.items() if service.role == "datastore" and set(env.members(s)) <= lost]
    return [i for i in leading(env) if env.instances[i][0] in stores]


def _heirs(scenario: ComputeRestore) -> list[str]:
    """Of each store that has lost its primary: the first member that lives, if any does."""
    env, lost = scenario.environment, set(scenario.instances)
    headless = [env.instances[i][0] for i in leading(env) if i in lost and env.services[env.instances[i][0]].role == "datastore"]
    return [i for s in headless for i in [m for m in env.members(s) if m not in lost][:1]]


def _promotable(scenario: ComputeRestore) -> list[str]:
    """Those of them whose store does not fail over by itself."""
    env = scenario.environment
    return [i for i in _heirs(scenario) if env.services[env.instances[i][0]].failover == "manual"]


def _after_loss_problems(scenario: ComputeRestore, strategy: RestoreStrategy) -> Iterator[Problem]:
    """Every rule that a strategy for lost machines breaks; paths begin at it."""
    for key in [key for key in PLANNED if key in strategy.model_fields_set]:
        yield Problem(
            (key,), f"lost machines do not leave one after the other, all are restored at once; drop {key!r}, or write when: beside"
        )
    env = scenario.environment
    yield from allocation_problems(scenario, strategy)
    restored, promoted = ({env.instances[i][0] for i in found} for found in (_restored(scenario), _promotable(scenario)))
    for name in dict.fromkeys(env.instances[i][0] for i in scenario.instances):
        needed: Sequence[str] = []
        if env.services[name].role == "datastore":
            alone = name in restored and len(env.members(name)) == 1
            needed = [*["restore"] * (name in restored), *["seed"] * (not alone), *["hand_over"] * (name in promoted)]
        yield from recipes_missing(env, name, needed)
