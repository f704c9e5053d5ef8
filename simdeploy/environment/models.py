"""What is there: machines, services and how they need each other, stores and their copies, demand.

Keys of the YAML carry no unit, their values do (`capacity: 300 req/s`); the Python names carry it (`capacity_per_s`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

import networkx as nx
from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from simdeploy.environment.base import Frozen
from simdeploy.environment.demand import Demand
from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.names import Name, Reference, Version
from simdeploy.environment.policy import Policy
from simdeploy.environment.stores import Store
from simdeploy.errors import InvalidDocument
from simdeploy.tables import mime_bundle
from simdeploy.units import Fraction, PerSecond, Seconds

Role = Literal["stateless", "leader_elected", "quorum", "datastore", "monitoring"]


class Machine(Frozen):
    """A box, virtual or not. Its place in the list of machines names its random streams; its name does not."""

    name: Name
    """What it is called; unique."""
    zone: Name | None = None
    """Where it stands."""
    update_domain: Name | None = None
    """The group of machines that a provider or operator takes down together."""
    hosted: bool = False
    """Run by a provider: nothing is installed on it and its hours are not counted."""
    mtbf_s: Seconds | None = Field(default=None, alias="mtbf", gt=0)
    """Mean time until it dies while a plan runs, exponential, counted anew from each repair; by default it does not die by chance."""
    repair: Duration | None = None
    """From its death until it is back; without it a machine that died never returns."""


class HealthCheck(Frozen):
    """How a balancer notices that an instance is gone or back."""

    interval_s: Seconds = Field(alias="interval", gt=0)
    """Between two checks."""
    fall: int = Field(default=1, ge=1)
    """Failed checks in a row before the instance is taken out."""
    rise: int = Field(default=1, ge=1)
    """Passed checks in a row before it is given back."""
    timeout_s: Seconds = Field(default=0.0, alias="timeout")
    """What a check waits for a host that does not answer at all."""


class Call(Frozen):
    """What one service calls of another to serve one of its own requests."""

    times: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Mean calls for one request of the caller's own."""
    dependency: Literal["hard", "soft"] = "hard"
    """A hard dependency that is down stops the caller; a soft one degrades it."""


def _call(value: Any) -> Any:
    return {"times": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Election(Frozen):
    """How a service comes to a new leader."""

    detect_s: Seconds = Field(default=0.0, alias="detect")
    """Until the loss of a leader is noticed."""
    elect_s: Seconds = Field(default=0.0, alias="elect")
    """From then until there is a new one."""
    prefer: Literal["plan_order", "upgraded"] = "plan_order"
    """Who leads next: the first that serves, or upgraded ones first."""


class Artefact(Frozen):
    """A file that an action installs."""

    path: str
    """The file."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Its digest: 64 hexadecimal digits, small letters."""


Argv = tuple[str, ...]
Retry = Literal["checked", "safe"]
"""When a command may be sent again: after its check has shown that it took no effect, or whenever it should be."""


class Action(Frozen):
    """How long an action takes and what a person or runner types for it.

    `{machine}`, `{service}`, `{version}` and `{previous}` in the argument lists are filled in when a plan is built.
    The forecast reads duration, failure and slowdown; the runner reads the rest.
    """

    duration: Duration | None = None
    """Of one attempt; an action has this or `until_idle`."""
    until_idle: bool = False
    """Of `drain`: it lasts until the instance's last request has ended, by the service's `hold`; its `timeout` cuts what is left."""
    on: Name | None = None
    """The machine that executes it; by default the instance's own, for a hosted machine the operator's desk."""
    command: Argv = ()
    """The words of the command that does it, without a shell."""
    check: Argv = ()
    """Exits 0 when the action's effect is there already."""
    undo: Argv = ()
    """What takes it back; `migrate` and `contract` without it are points of no return."""
    undo_check: Argv = ()
    """Exits 0 when it is taken back already."""
    retry: Retry = "checked"
    """`safe`: the command may be sent twice without harm, so that a runner need not see first that it took no effect."""
    artefact: Artefact | None = None
    """The file that it installs."""
    secrets: dict[Name, Reference] = {}
    """Name in the command's environment -> reference such as `vault:sql/owner`; never the secret itself."""
    p_fail: Fraction = 0.0
    """Chance that one attempt fails."""
    retries: int = Field(default=0, ge=0, le=1000)
    """Further attempts after a failed one."""
    retry_delay: Duration = ZERO
    """Pause before each of them."""
    timeout_s: Seconds | None = Field(default=None, alias="timeout")
    """Ends an attempt, which then has failed; with `until_idle` it cuts what is left, and the attempt succeeds."""
    times: int = Field(default=1, ge=1, le=1000)
    """How often it is done in a row (a backfill in chunks)."""
    capacity_left: Fraction = 1.0
    """Share of its capacity that the instance keeps while the action runs; 0 = a lock."""


TAKING = ("drain", "await_idle", "stop")
CHANGING = ("install", "configure")
PREPARING = ("prerequisites",)
GIVING = ("start", "undrain", "await_healthy")
ActionName = Literal[
    "weigh", "drain", "await_idle", "stop", "install", "configure", "start", "undrain", "await_healthy", "switch", "hand_over",
    "migrate", "expand", "backfill", "index", "contract", "back_up", "restore", "split", "reconcile",
    "prerequisites", "create_schema", "load_data", "seed", "promote", "repoint",
]  # fmt: skip
MachineAction = Literal["allocate", "patch", "reboot", "release"]


class Service(Frozen):
    """One tier: what it does, where it runs, what it needs, and the recipe of each action on it."""

    role: Role = "stateless"
    """What decides who of it serves."""
    on: tuple[Name, ...]
    """Machines; one instance runs on each."""
    capacity_per_s: PerSecond | None = Field(default=None, alias="capacity")
    """Requests of its own that one instance serves per second; without it the service does not limit while one serves."""
    workers: int = Field(default=1, ge=1, le=1_000_000)
    """Requests that one instance serves side by side; only how long users wait in a queue follows from it."""
    hold: Duration | None = None
    """How long an instance holds one request or connection; a drain with `until_idle` follows from it."""
    calls: dict[Name, Annotated[Call, BeforeValidator(_call, json_schema_input_type=Annotated[float, Field(ge=0)] | Call)]] = {}
    """Service -> mean calls of it for one request of its own."""
    accepts: dict[Version, dict[Name, tuple[Version, ...]]] = {}
    """Own version -> callee -> versions of it (of a datastore: schemas) that it can talk to; what is not named is accepted.
    Of a monitoring service: own version -> service that it observes -> versions that it has checks for."""
    version: Version = "1"
    """The version that runs before the plan; of a datastore, its schema."""
    health_check: HealthCheck | None = None
    """How a balancer notices that an instance is gone or back; by default at once."""
    retry: Literal["none", "redispatch"] = "none"
    """What a caller does when it meets an instance that is gone: fail, or try another one."""
    silent: bool = False
    """A stopped instance does not refuse connections but leaves them unanswered."""
    balancing: Literal["by_capacity", "even"] = "by_capacity"
    """even: the balancer does not know about a slow instance, so all get what the slowest can take."""
    election: Election = Election()
    """Of a service with a leader: how it comes to a new one."""
    elected_through: Name | None = None
    """Of a service with a leader: the datastore through which leaders are elected. While it takes no writes, leases run out
    (after the election's `detect`) and nobody is elected."""
    leader: Name | None = None
    """Of a service with a leader or primary: the machine that leads at the start; by default the first one that serves."""
    serves: Literal["all", "leader"] = "all"
    """Of a quorum: who of it serves."""
    failover: Literal["manual", "automatic"] = "manual"
    """Of a datastore: who moves the lead when the primary is gone, a person or the store itself."""
    observes: tuple[Name, ...] | None = None
    """Of a monitoring service: what it watches; by default every service."""
    store: Store | None = None
    """Of a datastore: what it holds and how it is protected."""
    actions: dict[ActionName, Action] = {}
    """The recipe of each action on it."""

    def observes_service(self, name: str) -> bool:
        """Whether it is monitoring that watches the service *name*."""
        return self.role == "monitoring" and (self.observes is None or name in self.observes)

    def has_checks(self, own: str | int, name: str, version: str | int) -> bool:
        """Whether, in its version *own*, it observes the service *name* and has checks for that one's *version*."""
        checked = self.accepts.get(str(own), {}).get(name)
        return self.observes_service(name) and (checked is None or str(version) in checked)

    @property
    def read_back_s(self) -> float | None:
        """How long a backup of its store is read back [s]: at the store's rate, else in the mean as the recipe `restore` says."""
        if self.store is not None and self.store.restore_bytes_per_s is not None:
            return self.store.size_bytes / self.store.restore_bytes_per_s
        recipe = self.actions.get("restore")
        return None if recipe is None or recipe.duration is None else recipe.times * recipe.duration.mean_s

    @property
    def is_balanced(self) -> bool:
        """Whether a balancer shares requests among its instances, so that they may have weights."""
        return self.role == "stateless" or (self.role == "quorum" and self.serves == "all")


class Cell(Frozen):
    """Machines whose instances call only each other and what is shared."""

    on: tuple[Name, ...]
    """Its machines; no machine is in two cells."""
    share: Fraction | None = None
    """Of the demand at the front door; by default all cells get the same."""


class Recovery(Frozen):
    """How the people who run this answer a disaster; a scenario may say otherwise."""

    detect: Duration | None = None
    """Until somebody knows that it has happened."""
    noticed: Duration | None = None
    """Until somebody knows that an application has written something wrong to a store."""
    decide: Duration | None = None
    """From then until it is decided to recover, and how."""
    validation: Duration | None = Field(default=None, alias="validate")
    """How long it takes to look at what was recovered before it counts as recovered."""
    hands: int | None = Field(default=None, ge=1)
    """How many machines are allocated at once at most; by default no limit."""


Mark = Literal["assumed", "measured"]


class Input(Frozen):
    """Where a number of the environment comes from."""

    at: str
    """Its place in the file."""
    mark: Mark
    """How it is known."""
    source: str
    """What the file says beside the mark."""


class Environment(Frozen):
    """The target of every deployment: what is there, and what users want of it.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    format: Literal[1] = 1
    """Version of this form of file."""
    name: Name
    """What the environment is called."""
    kind: Literal["onebox", "test", "dogfood", "production"] = "production"
    """What it is for; changes no number."""
    machines: tuple[Machine, ...] = Field(min_length=1)
    """The boxes; the place in the list names a machine's luck."""
    entry: Name
    """The service that users reach first."""
    services: dict[Name, Service] = Field(min_length=1)
    """The tiers; their calls form no loop."""
    demand: Demand
    """What users want, over time."""
    actions: dict[MachineAction, Action] = {}
    """The recipe of each action on a machine, whatever runs on it."""
    recovery: Recovery = Recovery()
    """How the people who run it answer a disaster."""
    policy: Policy = Policy()
    """What is promised of each disruption."""
    cells: dict[Name, Cell] = {}
    """Parts of it that serve users side by side, each with instances of its own of the services that run on its machines."""
    reroute: bool = False
    """What becomes of a dead cell's share of the demand: false = lost, true = spread over the living cells."""
    mixing: Literal["none", "errors"] = "none"
    """What becomes of a call between versions that do not accept each other: none = only its time is counted, errors = it fails."""
    inputs: SkipJsonSchema[tuple[Input, ...]] = ()
    """The numbers marked `assumed:` or `measured:` in the file."""

    @model_validator(mode="after")
    def _holds_together(self) -> Environment:
        from simdeploy.environment.rules import problems_of  # they are about this model

        problems = problems_of(self)
        if problems:
            raise InvalidDocument(problems)
        return self

    @cached_property
    def machine_index(self) -> dict[str, int]:
        """Machine -> its place in the list of machines, the ordinal that names random streams."""
        return {m.name: i for i, m in enumerate(self.machines)}

    @cached_property
    def instances(self) -> dict[str, tuple[str, str]]:
        """`service@machine` -> (service, machine), in canonical order: by machine as listed, then by service name."""
        on: dict[str, list[str]] = {}
        for name, service in sorted(self.services.items()):
            for machine in service.on:
                on.setdefault(machine, []).append(name)
        return {f"{name}@{m.name}": (name, m.name) for m in self.machines for name in on.get(m.name, ())}

    def members(self, service: str) -> tuple[str, ...]:
        """The instances of *service* in canonical order."""
        return tuple(i for i, (name, _) in self.instances.items() if name == service)

    def leader_of(self, service: str) -> str:
        """Who leads *service*, of a datastore its primary, at the start: as stated, else its first member."""
        stated = self.services[service].leader
        return f"{service}@{stated}" if stated else self.members(service)[0]

    @cached_property
    def cell_of(self) -> dict[str, str]:
        """Machine -> its cell, for the machines that are in one."""
        return {machine: name for name, cell in self.cells.items() for machine in cell.on}

    @cached_property
    def cell_shares(self) -> dict[str, float]:
        """Cell -> its share of the demand."""
        return {name: 1 / len(self.cells) if cell.share is None else cell.share for name, cell in self.cells.items()}

    @cached_property
    def pinned(self) -> frozenset[str]:
        """The services whose instances are in cells and call only there; monitoring carries no demand and is in none."""
        return frozenset(n for n, s in self.services.items() if s.role != "monitoring" and any(m in self.cell_of for m in s.on))

    @cached_property
    def calls(self) -> nx.DiGraph[str]:
        """Service -> service it calls, with `times` and `dependency` on the edges."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.services)
        graph.add_edges_from(
            (name, callee, {"times": call.times, "dependency": call.dependency})
            for name, service in self.services.items()
            for callee, call in service.calls.items()
        )
        return graph

    def topology(self) -> nx.DiGraph[str]:
        """Who needs whom, derived anew: an edge u -> v says that u needs v; nodes carry `kind`.

        Service -> service it calls and instance -> machine -> zone, joined by service -> instance.
        """
        graph = self.calls.copy()
        graph.add_nodes_from(self.services, kind="service")
        for machine in self.machines:
            graph.add_node(machine.name, kind="machine")
            if machine.zone:
                graph.add_node(f"zone {machine.zone}", kind="zone")
                graph.add_edge(machine.name, f"zone {machine.zone}")
        for instance, (service, machine_name) in self.instances.items():
            graph.add_node(instance, kind="instance")
            graph.add_edge(service, instance)
            graph.add_edge(instance, machine_name)
        return graph

    @cached_property
    def visits(self) -> dict[str, float]:
        """Mean requests that each service sees for one at the front door: V(entry) = 1, V(s) = sum of V(caller) x calls."""
        visits = dict.fromkeys(self.services, 0.0)
        visits[self.entry] = 1.0
        for caller in nx.lexicographical_topological_sort(self.calls):
            for callee, edge in self.calls[caller].items():
                visits[callee] += visits[caller] * edge["times"]
        return visits

    @cached_property
    def critical(self) -> tuple[str, ...]:
        """The services that the entry cannot do without: itself and all it reaches over hard calls, by name."""
        hard: nx.DiGraph[str] = nx.DiGraph()
        hard.add_edges_from((u, v) for u, v, edge in self.calls.edges(data=True) if edge["dependency"] == "hard")
        hard.add_node(self.entry)
        reached = {self.entry} | nx.descendants(hard, self.entry)
        return tuple(sorted(reached))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.environment.overview import tiers

        return mime_bundle(tiers(self))
