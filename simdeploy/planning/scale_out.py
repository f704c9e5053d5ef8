"""The scale-out: new machines join what serves, batch by batch, and nothing that was there is touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import networkx as nx
from pydantic import Discriminator, Field, Tag

from simdeploy.environment.models import TAKING, Environment
from simdeploy.environment.names import Name, did_you_mean
from simdeploy.errors import Path, PlanError, Problem
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.base import Choice, Scenario
from simdeploy.planning.batches import Batches, Minimum, cut
from simdeploy.planning.builder import Batch, Builder, Failures, Lane, Rules
from simdeploy.planning.lanes import allocated, first_lane, prepared, release, way_out
from simdeploy.planning.partition import Partition
from simdeploy.planning.scenario import Stage
from simdeploy.planning.tiers import Barrier, judged

NUMBERED = re.compile(r"(.*?)([0-9]+)")
"""A machine's name that ends in a number."""

BatchesOf = Annotated[
    Annotated[Batches, Tag("all")] | Annotated[dict[Name, Batches], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, Mapping) else "all"),
]


class ScaleOutStrategy(Choice):
    """One way to add the machines."""

    order: tuple[Stage, ...] | None = None
    """Stages one after the other; the services of one stage go at the same time. By default one service a stage, each after those
    that it calls, so that a new caller finds what it calls."""
    batches: BatchesOf = "all"
    """How many new machines of a service come at once, for all services or for each by its name; percentages are of those added."""
    max_failures: Minimum = 0
    """How many lanes of a batch may fail; strictly more abort. A count, or a percentage of the batch."""
    on_abort: Literal["rollback", "halt"] = "halt"
    """rollback: what was added leaves again and its machines are released; halt: what has begun runs to its end."""


class ScaleOut(Scenario):
    """More machines for some services of an environment, with the ways to add them.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["scale_out"]
    """What is done."""
    add: dict[Name, Annotated[int, Field(ge=1, le=10_000)]] = Field(min_length=1)
    """Service -> how many machines with an instance of it are added."""
    strategies: Mapping[Name, ScaleOutStrategy] = Field(min_length=1)
    """The choices that are compared."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of a scale-out that is broken."""
        env, wrong = self.environment, False
        for name in self.add:
            for message in _refusals(env, name):
                wrong = True
                yield Problem(("add", name), message)
        if wrong:
            return
        if "allocate" not in env.actions:
            message = "nothing says how long it takes until a new machine is there: 'allocate' is missing"
            yield Problem(("add",), f"{message}; add it under the environment's 'actions', beside 'services'")
        for name, strategy in self.strategies.items():
            yield from _strategy_problems(self, strategy, ("strategies", name))

    @property
    def aim(self) -> str:
        """What is added."""
        return f"adds {', '.join(f'{count} of {name}' for name, count in self.add.items())}"

    def outline(self, strategy: str) -> str:
        """The stages of *strategy*."""
        return " > ".join("+".join(stage) for stage in self.stages(self.strategies[strategy]))

    def stages(self, strategy: ScaleOutStrategy) -> tuple[tuple[str, ...], ...]:
        """The services that get machines, stage by stage."""
        if strategy.order is not None:
            return strategy.order
        calls = self.environment.calls
        depth: dict[str, int] = {}
        for name in reversed(list(nx.topological_sort(calls))):
            depth[name] = 1 + max((depth[c] for c in calls[name]), default=0)
        place = {n: min(self.environment.machine_index[m] for m in self.environment.services[n].on) for n in self.add}
        return tuple((name,) for name in sorted(self.add, key=lambda n: (depth[n], place[n], n)))


def plan(scenario: ScaleOut, name: str) -> Plan:
    """The plan of the strategy *name*."""
    env, strategy = scenario.environment, scenario.strategies[name]
    versions = {service: known.version for service, known in env.services.items()}
    build = Builder(env, versions, scenario.forks, Rules(Failures(strategy.max_failures), instances=sum(scenario.add.values())))
    added = {service: build.add_machines(alike(build.env, service, scenario.add[service])) for service in sorted(scenario.add)}
    barrier: Barrier = ()
    for build.stage, stage in enumerate(scenario.stages(strategy)):
        ends: list[str] = []
        for service in stage:
            ends += _join(build, service, cut(_partition(strategy, service), added[service], build.env), barrier)
        barrier = tuple(ends)
    if strategy.on_abort == "rollback":
        _take_back(build)
    start = Start(absent=tuple(build.absent), starts_at_s=scenario.starts_at_s)
    return scenario.finished(name, build, start=start, on_abort=strategy.on_abort)


def alike(env: Environment, service: str, count: int) -> list[tuple[str, str]]:
    """(instance that the new one is like, name of its machine) for so many new instances of *service*.

    Each goes to the cell, zone and update domain with the fewest instances of the service, the first of the list among equals.
    """
    members = env.members(service)
    places = {i: _place(env, env.instances[i][1]) for i in members}
    met = Counter((k, part) for place in places.values() for k, part in enumerate(place))
    chosen: list[str] = []
    for _ in range(count):
        like = min(members, key=lambda i: tuple(met[k, part] for k, part in enumerate(places[i])))
        met.update(enumerate(places[like]))
        chosen.append(like)
    return list(zip(chosen, _names(env, service, count), strict=True))


def _place(env: Environment, machine: str) -> tuple[str | None, ...]:
    box = env.machines[env.machine_index[machine]]
    return env.cell_of.get(machine), box.zone, box.update_domain


def _names(env: Environment, service: str, count: int) -> list[str]:
    """Names for new machines: the next numbers where the service's machines are numbered, else the first one's with a number."""
    own = [m for m in (NUMBERED.fullmatch(machine) for machine in env.services[service].on) if m]
    stem, width = (own[0][1], len(own[0][2])) if own else (f"{env.services[service].on[0][:56]}-", 1)
    numbers = [int(m[2]) for m in (NUMBERED.fullmatch(box.name) for box in env.machines) if m and m[1] == stem]
    first = max(numbers, default=1) + 1
    return [f"{stem}{number:0{width}}" for number in range(first, first + count)]


def _partition(strategy: ScaleOutStrategy, service: str) -> Partition:
    batches = strategy.batches
    return Partition(batches=batches.get(service, "all") if isinstance(batches, Mapping) else batches)


def _join(build: Builder, service: str, batches: Sequence[tuple[str, ...]], barrier: Barrier) -> Barrier:
    """Add the batches of one service, each with its judge; what comes after the last."""
    phase = "monitoring" if build.env.services[service].role == "monitoring" else "code"
    for k, batch in enumerate(batches, start=1):
        lanes: list[Lane] = []
        for instance in batch:
            there = allocated(build, build.env.instances[instance][1], [instance], build.env.actions["allocate"])
            ready = [there.model_copy(update={"after": barrier}), *prepared(build, instance, (there.id,))]
            steps = first_lane(build, instance, (), needs=(ready[-1].id,), filling=("seed",), joins=True, phase=phase)
            lanes.append(Lane(instance, Partition(), [*ready, *steps]))
        barrier = judged(build, f"{phase}/{service}/judge#{k}", service, lanes)
    return barrier


def _take_back(build: Builder) -> None:
    """Add the section in which what was added leaves again, the last batches first, and its machines are released."""
    build.section = "rollback"
    barrier: Barrier = ()
    for stage in sorted({batch.stage for batch in build.batches}, reverse=True):
        ends: list[str] = []
        for label in dict.fromkeys(batch.label for batch in build.batches if batch.stage == stage):
            end = barrier
            for batch in reversed([b for b in build.batches if b.stage == stage and b.label == label]):
                end = _gone(build, batch, end)
            ends += end
        barrier = tuple(ends)


def _gone(build: Builder, batch: Batch, barrier: Barrier) -> Barrier:
    """Add the way out of one batch; what comes after it. Who serves is drained, who was started is stopped."""
    ends = []
    for one in batch.lanes:
        allocation, last = one.steps[0].id, one.steps[-1].id
        started = next((s.id for s in one.steps if s.action.startswith("start")), last)
        actions = build.env.services[batch.label].actions
        leaving = way_out(build, one.instance, one.partition, barrier) if any(a in actions for a in TAKING) else []
        leaving = [s.model_copy(update={"began": (started,)} if s.action == "stop" else {"done": (last,)}) for s in leaving]
        free = release(build, one.instance, tuple(s.id for s in leaving[-1:]))
        fields = {"began": (allocation,), "begin": () if leaving else (("out", one.instance),), "after": () if leaving else barrier}
        build.add(*leaving, free.model_copy(update=fields))
        ends.append(free.id)
    label = batch.label
    number = sum(s.section == "rollback" and s.kind == "judge" and s.target == label for s in build.steps) + 1
    judge = Judge(watch=(), size=1, limit=None)
    build.add(Step(id=f"rollback/{label}/judge#{number}", kind="judge", target=label, after=tuple(ends), judge=judge))
    return (build.steps[-1].id,)


def _refusals(env: Environment, name: str) -> Iterator[str]:
    """Why no machines can be added to a service."""
    if name not in env.services:
        yield f"{name!r} is no service; {did_you_mean(name, list(env.services))}"
        return
    service = env.services[name]
    hosted = [m for m in service.on if env.machines[env.machine_index[m]].hosted]
    if hosted:
        yield f"{name!r} runs on {hosted[0]!r}, which is hosted: its provider scales it; leave {name!r} out"
    if service.role == "datastore" and "seed" not in service.actions:
        yield f"{name!r} is a datastore: a new machine has none of its data; add the action 'seed' that brings it there, or leave it out"
    for action in (a for a in ("install", "start") if a not in service.actions):
        yield f"{name!r} has no recipe for {action!r}, which a new machine needs; add it to the service's actions"


def _strategy_problems(scenario: ScaleOut, strategy: ScaleOutStrategy, where: Path) -> Iterator[Problem]:
    added = list(scenario.add)
    listed: list[str] = []
    for i, stage in enumerate(strategy.order or ()):
        for name in stage:
            if name not in added:
                yield Problem((*where, "order", i), f"{name!r} gets no machines here; {did_you_mean(name, added)}, or add it under 'add'")
            elif name in listed:
                yield Problem((*where, "order", i), f"{name!r} comes twice in the order; keep one")
            listed.append(name)
    if strategy.order is not None:
        missing = [name for name in added if name not in listed]
        yield from (Problem((*where, "order"), f"{name!r} gets machines and is missing in the order; add it") for name in missing)
    for name in strategy.batches if isinstance(strategy.batches, Mapping) else ():
        if name not in added:
            message = f"{name!r} gets no machines here; {did_you_mean(name, added)}, or add it under 'add'"
            yield Problem((*where, "batches", name), message)
    for name in added:
        place = ("batches", name) if isinstance(strategy.batches, Mapping) else ("batches",)
        try:
            cut(_partition(strategy, name), scenario.environment.members(name), scenario.environment)
        except PlanError as error:  # new machines are in the zones and update domains of those that are there
            yield Problem((*where, *place), str(error))
