"""What is to be done to an environment, and the strategies for it that are to be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import networkx as nx
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simdeploy.environment.base import Frozen
from simdeploy.environment.demand import TimeOfDay
from simdeploy.environment.models import Environment, Name, Service, Version, did_you_mean
from simdeploy.errors import InvalidDocument, Path, Problem
from simdeploy.plan.goals import DEFAULT_PREFER, Goal
from simdeploy.plan.metrics import METRICS
from simdeploy.planning.batches import Batches, Minimum, Rounding, Size, cutting_keys, problems_of
from simdeploy.tables import html_table
from simdeploy.units import Seconds


class Partition(Frozen):
    """How the instances of one service go out together, in what order, and how they are taken out and brought back."""

    batches: Batches = "all"
    """'all' at once, sizes consumed in order of the machines with the last one repeating, or another way by its name."""
    max_unavailable: Size | None = None
    """Instead of batches: at most so many at once."""
    min_available: Minimum | None = None
    """Instead of batches: as many at once as leave so many."""
    minimum_healthy: Minimum | None = None
    """The same as CodeDeploy has it."""
    rounding: Rounding | None = None
    """Whose rounding percentages follow; by default ansible for batches, kubernetes for max_unavailable."""
    take_out: Literal["drain", "stop"] = "drain"
    """drain: off the balancer, finishing what it has; stop: dead in the pool until the health check notices."""
    leader: Literal["last", "first", "any"] = "any"
    """Of a leader-elected service: where in the order the leader of the start state goes."""
    hand_over: bool = False
    """Of a leader-elected service: the leader hands over before it goes, instead of leaving an election behind."""
    migration: Literal["offline", "expand_contract"] | None = None
    """Of a datastore. offline: its writers are stopped, the schema migrates, the new writers start.
    expand_contract: a short lock, new code, a backfill while slower, a short lock."""
    back_up_first: bool = False
    """Of a datastore: a backup, and so a fresh recovery point, before the schema is touched."""


Stage = Annotated[
    tuple[Name, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v, json_schema_input_type=Name | tuple[Name, ...])
]


class Strategy(Frozen):
    """One named choice of partitions for all services of a scenario."""

    about: str = ""
    """One line for people."""
    order: tuple[Stage, ...] | None = None
    """Stages one after the other; the services of one stage go at the same time.
    By default datastores first, then each service after those it calls."""
    services: dict[Name, Partition] = {}
    """How each upgraded service is partitioned; one that is not named goes all at once behind a drain."""


class Scenario(Frozen):
    """An upgrade of an environment, with the strategies for it, what they must keep and what is preferred.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    format: Literal[1] = 1
    """Version of this form of file."""
    scenario: Literal["upgrade"]
    """What is done."""
    name: Name
    """What the scenario is called; by default as its file."""
    title: str = ""
    """Heading of its tables."""
    environment: Annotated[Environment, WithJsonSchema({"type": "string", "examples": ["environment.yaml"]})]
    """The environment's file, seen from this one."""
    to: dict[Name, Version] = Field(min_length=1)
    """Service -> new version; of a datastore, the new schema."""
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
    strategies: dict[Name, Strategy] = Field(min_length=1)
    """The choices that are compared."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Scenario:
        problems = _problems(self)
        if problems:
            raise InvalidDocument(problems)
        return self

    def stages(self, strategy: Strategy) -> tuple[tuple[str, ...], ...]:
        """The services to change, stage by stage; writers that an offline migration stops go with their store."""
        if strategy.order is not None:
            return strategy.order
        services, calls = self.environment.services, self.environment.calls
        stopped = self.writers_stopped(strategy)
        depth: dict[str, int] = {}
        for name in reversed(list(nx.topological_sort(calls))):
            depth[name] = 1 + max((depth[c] for c in calls[name]), default=0)
        wanted = [s for s in self.changed if s not in stopped]
        return tuple((s,) for s in sorted(wanted, key=lambda s: (services[s].role != "datastore", depth[s])))

    @property
    def changed(self) -> tuple[str, ...]:
        """The services under `to` in canonical order: by their first machine, then by name."""
        return self._canonical(self.to)

    def _canonical(self, names: Iterable[str]) -> tuple[str, ...]:
        env = self.environment
        return tuple(sorted(names, key=lambda n: (min((env.machine_index[m] for m in env.services[n].on), default=-1), n)))

    def partition(self, strategy: Strategy, service: str) -> Partition:
        """How *strategy* partitions *service*, defaults filled in."""
        given = strategy.services.get(service, Partition())
        if self.environment.services[service].role == "datastore" and given.migration is None:
            return given.model_copy(update={"migration": "offline"})
        return given

    def writers(self, store: str) -> tuple[str, ...]:
        """The services that call *store*, in canonical order."""
        return self._canonical(n for n, s in self.environment.services.items() if store in s.calls)

    def writers_stopped(self, strategy: Strategy) -> dict[str, str]:
        """Service -> the store whose offline migration stops it."""
        services = self.environment.services
        stores = [s for s in self.changed if services[s].role == "datastore"]
        return {w: s for s in stores if self.partition(strategy, s).migration == "offline" for w in self.writers(s)}

    def _repr_html_(self) -> str:
        from simdeploy.planning.overview import strategies

        return html_table(strategies(self))


def _problems(scenario: Scenario) -> list[Problem]:
    """Every rule that spans several fields and is broken, with its path in the document."""
    found: list[Problem] = []
    services = scenario.environment.services
    unknown = [name for name in scenario.to if name not in services]
    found += [Problem(("to", name), f"{name!r} is no service; {did_you_mean(name, list(services))}") for name in unknown]
    odd = [(i, metric) for i, metric in enumerate(scenario.prefer) if metric not in METRICS]
    found += [Problem(("prefer", i), f"{metric!r} is no metric; {did_you_mean(metric, list(METRICS))}") for i, metric in odd]
    if scenario.baseline is not None and scenario.baseline not in scenario.strategies:
        hint = did_you_mean(scenario.baseline, list(scenario.strategies))
        found.append(Problem(("baseline",), f"{scenario.baseline!r} is no strategy; {hint}"))
    if unknown:
        return found
    for name, strategy in scenario.strategies.items():
        found += _strategy_problems(scenario, strategy, ("strategies", name))
    return found


def _strategy_problems(scenario: Scenario, strategy: Strategy, where: Path) -> list[Problem]:
    found: list[Problem] = []
    services = scenario.environment.services
    stopped = scenario.writers_stopped(strategy)
    for name, partition in strategy.services.items():
        here: Path = (*where, "services", name)
        if name not in scenario.to:
            found.append(Problem(here, f"{name!r} is not upgraded here; {did_you_mean(name, list(scenario.to))}, or add it under 'to'"))
        else:
            found += _partition_problems(name, services[name], partition, here)
            cutting = [] if services[name].role == "datastore" else cutting_keys(partition)
            if name in stopped and cutting:
                message = f"{name!r} writes to {stopped[name]!r}, whose offline migration stops all of it"
                found.append(Problem((*here, cutting[0]), f"{message}; drop {cutting[0]!r} or use migration: expand_contract"))
            elif services[name].role != "datastore":
                found += [Problem((*here, *p.path), p.message) for p in problems_of(partition, name, scenario.environment)]
    listed: list[str] = []
    for i, stage in enumerate(strategy.order or ()):
        for name in stage:
            place: Path = (*where, "order", i)
            if name not in scenario.to:
                found.append(Problem(place, f"{name!r} is not upgraded here; {did_you_mean(name, list(scenario.to))}"))
            elif name in listed:
                found.append(Problem(place, f"{name!r} comes twice in the order; keep one"))
            elif name in stopped:
                found.append(Problem(place, f"{name!r} goes with the offline migration of {stopped[name]!r}; leave it out of the order"))
            listed.append(name)
    if strategy.order is not None:
        for name in scenario.to:
            if name not in listed and name not in stopped:
                found.append(Problem((*where, "order"), f"{name!r} is to be upgraded and is missing in the order; add it"))
    for name in [*scenario.to, *(w for w in stopped if w not in scenario.to)]:
        partition = scenario.partition(strategy, name)
        for action in _needed(services[name], partition, name in scenario.to):
            if action not in services[name].actions:
                message = f"{name!r} has no recipe for {action!r}, which this strategy needs"
                found.append(Problem((*where, "services", name), f"{message}; add it to the service's actions or choose another way"))
    return found


def _partition_problems(name: str, service: Service, partition: Partition, here: Path) -> list[Problem]:
    found: list[Problem] = []
    store = service.role == "datastore"
    for key, given, fits, rule in (
        ("migration", partition.migration is not None, store, "only a datastore migrates"),
        ("back_up_first", partition.back_up_first, store, "only a datastore is backed up"),
        *((key, True, not store, "a datastore's schema changes as a whole") for key in cutting_keys(partition)),
        ("rounding", partition.rounding is not None, not store, "nothing of a datastore is rounded"),
        ("leader", partition.leader != "any", service.role == "leader_elected", "only a leader-elected service has one"),
        ("hand_over", partition.hand_over, service.role == "leader_elected", "only a leader hands over"),
    ):
        if given and not fits:
            found.append(Problem((*here, key), f"{name!r} is {service.role}; {rule}: drop {key!r}"))
    if partition.hand_over and not cutting_keys(partition):
        found.append(
            Problem((*here, "hand_over"), f"all of {name!r} goes at once, so nobody is left to take over; set batches, or drop hand_over")
        )
    return found


def _needed(service: Service, partition: Partition, upgraded: bool) -> list[str]:
    if service.role == "datastore":
        steps = ["migrate"] if partition.migration == "offline" else ["expand", "contract"]
        return ["back_up"] * partition.back_up_first + steps
    needed = ["drain"] if partition.take_out == "drain" else ["stop"]
    return needed + ["install"] * upgraded + ["start"] + ["hand_over"] * partition.hand_over
