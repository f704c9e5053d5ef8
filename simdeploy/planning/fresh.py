"""The fresh deployment: from nothing to the first service, and who waits for whom on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import networkx as nx
from pydantic import Field

from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.models import Action, Environment
from simdeploy.environment.names import Name
from simdeploy.errors import Problem
from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Gate, Step
from simdeploy.planning.base import Choice, Scenario
from simdeploy.planning.batches import Minimum
from simdeploy.planning.builder import HOSTING, Builder, Failures, Rules
from simdeploy.planning.lanes import allocated, first_lane, prepared
from simdeploy.planning.partition import Partition
from simdeploy.planning.tiers import Barrier, judge, ordered

DATA = ("create_schema", "load_data")
"""What a primary is filled by before it serves."""


class FreshStrategy(Choice):
    """One way to come to the machines, and who waits for whom."""

    hosting: Literal["manual", "scripted", "built_in"]
    """manual: people make all machines and hand everything over at once; scripted: each machine goes on as soon as it is
    made; built_in: a machine is made when the deployment comes to the first service on it."""
    allocate: Duration | None = None
    """How long it takes to make one machine in this way; by default as the environment's own action says."""
    hosters: int | None = Field(default=None, ge=1)
    """How many machines are made at once at most: of manual the people, by default 1; of scripted by default no limit."""
    max_failures: Minimum = 0
    """How many instances of a service may fail; strictly more halt the deployment. A count, or a percentage of its instances."""

    @property
    def makers(self) -> int | None:
        """How many machines are made at once at most; None = no limit."""
        return self.hosters or (1 if self.hosting == "manual" else None)


class FreshDeployment(Scenario):
    """A deployment of a whole environment from nothing, with the ways to come to its machines.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["fresh_deployment"]
    """What is done."""
    certificate: Duration | None = None
    """How long it takes until the certificates of the reserved domain are there; the entry service waits for them."""
    network: Duration | None = None
    """How long it takes until what the network must let through is confirmed."""
    load_balancer: Duration | None = None
    """How long it takes until the configuration of the load balancer is confirmed."""
    validation: Duration | None = Field(default=None, alias="validate")
    """How long it takes to look at everything before users come."""
    open: Duration | None = None
    """How long it takes from then until users arrive."""
    strategies: Mapping[Name, FreshStrategy] = Field(min_length=1)
    """The choices that are compared."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of a fresh deployment that is broken."""
        env, where = self.environment, ("environment",)
        made = [m for m in _made(env) if m in {machine for _, machine in env.instances.values()}]
        for name, service in env.services.items():
            needed = ("install", "start") if any(m in made for m in service.on) else ()
            for action in (a for a in needed if a not in service.actions):
                yield Problem(
                    where, f"{name!r} has no recipe for {action!r}, which a fresh deployment needs; add it to the service's actions"
                )
            for action in (a for a in DATA if a in service.actions and service.role != "datastore"):
                yield Problem(where, f"{name!r} is {service.role} and has a recipe for {action!r}; only a datastore is filled: drop it")
        for name, strategy in self.strategies.items():
            if strategy.allocate is None and "allocate" not in env.actions and made:
                message = f"nothing says how long it takes to make a machine such as {made[0]!r}"
                way_out = "add 'allocate' to the environment's 'actions', beside 'services', or to this strategy"
                yield Problem(("strategies", name), f"{message}; {way_out}")
            if strategy.hosting == "built_in" and strategy.hosters is not None:
                message = f"hosting is built into the deployment and waits for nobody, and hosters is {strategy.hosters}"
                yield Problem(("strategies", name, "hosters"), f"{message}; drop it, or write hosting: scripted")

    @property
    def aim(self) -> str:
        """What is deployed."""
        return f"deploys {', '.join(deployment_order(self.environment))} from nothing"

    def outline(self, strategy: str) -> str:
        """How the machines are made, and which service starts after which."""
        chosen = self.strategies[strategy]
        makers = f" by {chosen.makers}" if chosen.makers else ""
        return f"{chosen.hosting}{makers}: {' > '.join(deployment_order(self.environment))}"


def waits(env: Environment) -> nx.DiGraph[str]:
    """Service -> service that must have started before it: what it calls and cannot do without, and what a monitor observes."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(env.services)
    graph.add_edges_from((u, v) for u, v, call in env.calls.edges(data=True) if call["dependency"] == "hard")
    others = [n for n, s in env.services.items() if s.role != "monitoring"]
    for monitor in (n for n, s in env.services.items() if s.role == "monitoring"):
        observed = env.services[monitor].observes
        for service in others if observed is None else observed:
            if not nx.has_path(graph, service, monitor):  # one that waits for its monitor cannot be waited for
                graph.add_edge(monitor, service)
    return graph


def deployment_order(env: Environment) -> list[str]:
    """The services, each after those that it waits for; of what could go in either order first the one whose machine is listed first."""
    place = {name: (min(env.machine_index[m] for m in service.on), name) for name, service in env.services.items()}
    return list(nx.lexicographical_topological_sort(waits(env).reverse(), key=place.__getitem__))


def plan(scenario: FreshDeployment, name: str) -> Plan:
    """The plan of the strategy *name*, from an environment of which only what is hosted is there."""
    env, strategy = scenario.environment, scenario.strategies[name]
    versions = {service: known.version for service, known in env.services.items()}
    build = Builder(env, versions, scenario.forks, Rules(Failures(strategy.max_failures)))
    build.pools |= {HOSTING: strategy.makers} if strategy.makers else {}
    tasks = _desk(build, scenario)
    machines = _Machines(build, strategy)
    if strategy.hosting != "built_in":
        machines.make_all()
    confirmed = [step for task, step in tasks.items() if task != "certificate"]
    handed = machines.handed_over(confirmed) if strategy.hosting == "manual" else ()
    order = waits(env)
    judges: dict[str, str] = {}
    for service in deployment_order(env):
        before = tuple(judges[other] for other in env.services if other in order[service])
        gets = tuple(tasks.values()) if service == env.entry else ()
        needs = before if strategy.hosting == "built_in" else ()
        [judges[service]] = _tier(build, machines, service, handed, needs, before, gets)
    _open(build, scenario, tuple(judges.values()))
    made = _made(env)
    return scenario.finished(
        name,
        build,
        start=Start(
            absent=tuple(i for i, (_, machine) in env.instances.items() if machine in made),
            out=tuple(i for i, (_, machine) in env.instances.items() if machine not in made),
            starts_at_s=scenario.starts_at_s,
            live=False,
        ),
        steady_capacity_per_s=FactBook(Layout(Plan(environment=env, steps=()))).steady,
    )


def _made(env: Environment) -> set[str]:
    """The machines that are made: a hosted one is there."""
    return {m.name for m in env.machines if not m.hosted}


def _desk(build: Builder, scenario: FreshDeployment) -> dict[str, str]:
    """Add what the operator's desk must get; task -> its step."""
    given = {"certificate": scenario.certificate, "network": scenario.network, "load_balancer": scenario.load_balancer}
    found = {task: f"allocate/{build.env.entry}/{task}" for task, duration in given.items() if duration is not None}
    build.add(*(Step(id=step, target=build.env.entry, duration=given[task] or ZERO) for task, step in found.items()))
    return found


class _Machines:
    """The machines of one plan as they are made, each once, whatever runs on it."""

    def __init__(self, build: Builder, strategy: FreshStrategy) -> None:
        self._build = build
        recipe = build.env.actions.get("allocate", Action(duration=ZERO))
        self._recipe = recipe if strategy.allocate is None else recipe.model_copy(update={"duration": strategy.allocate})
        self._made: dict[str, Step] = {}
        self._ready: dict[str, list[Step]] = {}
        self._on: dict[str, list[str]] = {}
        for instance, (_, machine) in build.env.instances.items():
            self._on.setdefault(machine, []).append(instance)

    def make_all(self) -> None:
        """Make every machine, in the order of the list, and what its instances need of it."""
        for instance in self._build.env.instances:
            self.ready(instance)

    def ready(self, instance: str, needs: Barrier = ()) -> list[Step]:
        """The steps by which the machine of *instance* is made and gets what that needs; none of a hosted one.

        Those that are not there yet are added; *needs* must have succeeded before the first of them.
        """
        machine = self._build.env.instances[instance][1]
        if self._build.env.machines[self._build.env.machine_index[machine]].hosted:
            return []
        if machine not in self._made:
            self._made[machine] = self._allocated(machine, needs)
        if instance not in self._ready:
            further = prepared(self._build, instance, (self._made[machine].id, *needs))
            self._build.add(*further)
            self._ready[instance] = [self._made[machine], *further]
        return self._ready[instance]

    def handed_over(self, confirmed: list[str]) -> Barrier:
        """Add the moment at which all machines are handed over, with what else is *confirmed*."""
        ends = dict.fromkeys(steps[-1].id for steps in self._ready.values())
        step = Step(id=f"allocate/{self._build.env.entry}/handed_over", after=(*ends, *confirmed))
        self._build.add(step)
        return (step.id,)

    def _allocated(self, machine: str, needs: Barrier) -> Step:
        """Add the step that makes a machine, which takes one of those who make them."""
        step = allocated(self._build, machine, self._on[machine], self._recipe, needs)
        self._build.add(step)
        return step


def _tier(
    build: Builder, machines: _Machines, service: str, after: Barrier, needs: Barrier, start_needs: Barrier, gets: Barrier
) -> Barrier:
    """Add the lanes of a service, which need and come after these steps, and the judge behind them; that judge.

    The service also starts after what it *gets*, and that is judged with it: who lacks it would be left out without a failure.
    """
    start_needs = (*start_needs, *gets)
    role = build.env.services[service].role
    phase, primary = "monitoring" if role == "monitoring" else "code", build.leader(service) if role == "datastore" else ""
    lanes: list[list[Step]] = []
    for instance in ordered(build, service, Partition(leader="first" if primary else "any")):
        ready = machines.ready(instance, needs)
        filling = DATA if instance == primary else ("seed",) if primary else ()
        begin = (*(s.id for s in ready[-1:]), *needs)
        steps = first_lane(build, instance, after, needs=begin, start_needs=start_needs, filling=filling, phase=phase)
        if instance == primary:
            steps = _leading(build, service, steps)
            start_needs = (*start_needs, steps[-1].id)  # the others follow it
        build.add(*steps)
        lanes.append([*ready, *steps])
    return judge(build, f"{phase}/{service}/judge", service, lanes, also=gets)


def _leading(build: Builder, store: str, steps: list[Step]) -> list[Step]:
    """The lane of a store's primary, with its schema once that is made; it leads when it serves."""
    lead, schema = ("lead", store, steps[0].target), ("schema", store, build.versions[store])
    steps = [s.model_copy(update={"end": (*s.end, schema)}) if s.action.startswith("create_schema") else s for s in steps]
    return [*steps[:-1], steps[-1].model_copy(update={"end": (*steps[-1].end, lead)})]


def _open(build: Builder, scenario: FreshDeployment, needs: Barrier) -> None:
    """Add the look at everything, if there is one, and the moment from which users come."""
    end: tuple[tuple[str], ...] = (("validated",), ("open",))
    entry = build.env.entry
    if scenario.validation is not None:
        gate = Gate(reaction="halt")
        look = Step(
            id=f"validate/{entry}/look", kind="gate", target=entry, needs=needs, duration=scenario.validation, gate=gate, end=end[:1]
        )
        build.add(look)
        needs, end = (look.id,), end[1:]
    build.add(Step(id=f"validate/{entry}/open", target=entry, needs=needs, duration=scenario.open or ZERO, end=end))
