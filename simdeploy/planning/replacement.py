"""The machine replacement: which machines new ones take the place of, in what batches, from which pool, and how it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name, did_you_mean, in_short
from simdeploy.errors import Path, PlanError, Problem
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Of
from simdeploy.planning.base import Choice, Scenario
from simdeploy.planning.batches import Batches, Minimum, cut
from simdeploy.planning.builder import Builder, Failures, Rules
from simdeploy.planning.partition import LEADS, Partition, prefixed
from simdeploy.planning.scenario import Stage, bottom_up, canonical
from simdeploy.planning.swaps import Swapping, add_swaps, handings, take_back


class Replacing(Choice):
    """How new machines take the place of old ones, whatever they bring."""

    batches: Batches = (1,)
    """How many machines of a stage go at once: counts, percentages, or a word."""
    order: tuple[Stage, ...] | None = None
    """Stages of services, one after the other; a machine goes with the first stage that names a service on it, and the machines
    of one stage are cut into batches together. By default datastores first, then each service after those it calls."""
    spares: int = Field(default=0, ge=0)
    """So many new machines stand ready and need no `allocate`; the first that are replaced take them. Old ones do not become spares."""
    leader: Literal["last", "first", "any"] = "any"
    """Where in their stage the machines go on which a leader or primary runs at the start."""
    hand_over: bool = False
    """Of leader-elected services: the leader hands over before it goes, instead of leaving an election behind. A primary always does."""
    max_failures: Minimum = 0
    """How many machines may fail; strictly more abort the plan. A count, or a percentage of what `failures_of` says."""
    failures_of: Of = "batch"
    """Whose failures are counted after each batch, as in an upgrade."""
    on_abort: Literal["rollback", "halt"] = "halt"
    """What is done when too many have failed: back to old machines, which are allocated anew where they are gone, or a stop."""


class ReplacementStrategy(Replacing):
    """One named way to replace the machines of a scenario."""

    way: Literal["beside", "in_place"] = "beside"
    """beside: the new machine serves before the old one leaves; in_place: the old one leaves first, as where there is no room."""


class OnMachines(Scenario):
    """A scenario about some of the machines of an environment."""

    machines: tuple[Name, ...] = ()
    """The machines, by name."""
    services: tuple[Name, ...] = ()
    """Instead of machines: services, all of whose machines are meant."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The machines in the order of the environment's list: those named, those of the services named, else all; no hosted ones."""
        env = self.environment
        if self.machines:
            named = set(self.machines)
        else:
            named = {m for s in self.meant or env.services if s in env.services for m in env.services[s].on}
        return tuple(m.name for m in env.machines if m.name in named and not m.hosted)

    @property
    def meant(self) -> tuple[str, ...]:
        """The services all of whose machines are meant where no machines are named; none: every service."""
        return self.services

    @property
    def instances(self) -> tuple[str, ...]:
        """All instances on these machines, in canonical order."""
        chosen = set(self.chosen)
        return tuple(i for i, (_, machine) in self.environment.instances.items() if machine in chosen)

    def problems(self) -> Iterator[Problem]:
        """Every rule about which machines are meant that is broken."""
        env = self.environment
        names = [m.name for m in env.machines]
        if self.machines and self.services:
            yield Problem(("services",), "machines and services both say which machines are meant; keep one of them")
        for i, name in enumerate(self.machines):
            place: Path = ("machines", i)
            if name not in names:
                yield Problem(place, f"{name!r} is no machine; {did_you_mean(name, names)}")
            elif name in self.machines[:i]:
                yield Problem(place, f"{name!r} is named twice; keep one")
            elif env.machines[env.machine_index[name]].hosted:
                yield Problem(place, f"{name!r} is hosted: its provider replaces it; leave it out")
            elif not any(name in s.on for s in env.services.values()):
                yield Problem(place, f"nothing runs on {name!r}; name a machine that does something, or leave it out")
        for i, name in enumerate(self.services):
            if name not in env.services:
                yield Problem(("services", i), f"{name!r} is no service; {did_you_mean(name, list(env.services))}")
            elif all(env.machines[env.machine_index[m]].hosted for m in env.services[name].on):
                yield Problem(("services", i), f"all machines of {name!r} are hosted: their provider replaces them; leave {name!r} out")
        if not self.machines and not self.meant and not self.chosen:
            yield Problem(("environment",), "all machines are hosted, so there is none to replace; name another environment")

    def warnings(self) -> Sequence[str]:
        """A sentence for each service that comes up on a new machine in no time, since nothing says how."""
        bare = dict.fromkeys(self.environment.instances[i][0] for i in self.instances)
        return [
            f"{name!r} has no recipe, so it is there on a new machine in no time; add install and start to its actions if it takes any"
            for name in bare
            if not self.environment.services[name].actions
        ]

    def stages(self, strategy: Replacing) -> list[tuple[str, list[str]]]:
        """(name, machines in the order in which they go) of each stage that has any."""
        env = self.environment
        on = {m: [s for i, (s, x) in env.instances.items() if x == m] for m in self.chosen}
        order = strategy.order or tuple((s,) for s in bottom_up(env, canonical(env, {s for names in on.values() for s in names})))
        leads = {env.instances[i][1] for i in leading(env) if env.instances[i][1] in on}
        left, found = list(self.chosen), []
        for stage in order:
            mine = [m for m in left if set(on[m]) & set(stage)]
            left = [m for m in left if m not in mine]
            if strategy.leader != "any":
                mine.sort(key=lambda m: (m in leads) == (strategy.leader == "last"))
            if mine:
                found.append(("+".join(stage), mine))
        return found

    def batches(self, strategy: Replacing) -> list[tuple[str, list[tuple[str, ...]]]]:
        """(name, machines batch by batch) of each stage; raises PlanError where a machine lacks its zone or update domain."""
        env = self.environment
        first = {m: i for i, (_, m) in reversed(env.instances.items())}
        leads = {env.instances[i][1] for i in leading(env)}
        found = []
        for label, machines in self.stages(strategy):
            partition = Partition(batches=strategy.batches, leader=strategy.leader if leads & set(machines) else "any")
            cuts = cut(partition, [first[m] for m in machines], env)
            found.append((label, [tuple(env.instances[i][1] for i in batch) for batch in cuts]))
        return found

    def swapping(self, strategy: Replacing, in_place: bool = False) -> Swapping:
        """What the maker of the steps must know of *strategy*."""
        return Swapping(self.batches(strategy), strategy.spares, strategy.hand_over, in_place)

    def outlined(self, strategy: Replacing) -> str:
        """The stages with how many machines go at once."""
        return " > ".join(f"{label} {'+'.join(str(len(b)) for b in batches)}" for label, batches in self.batches(strategy))

    def builder(self, strategy: Replacing, to: Mapping[str, str]) -> tuple[Builder, dict[str, str]]:
        """A builder that knows the new machines, which bring the versions *to* or the present ones, and old instance -> its new one."""
        env = self.environment
        versions = {name: s.version for name, s in env.services.items() if s.role != "datastore"} | {**to}
        failures = Failures(strategy.max_failures, strategy.failures_of)
        build = Builder(env, versions, self.forks, Rules(failures, instances=len(self.chosen)))
        return build, build.new_machines(self.instances)


class MachineReplacement(OnMachines):
    """A planned replacement of machines by new ones that run the same.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["machine_replacement"]
    """What is done."""
    strategies: dict[Name, ReplacementStrategy] = Field(min_length=1)
    """The choices that are compared."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of a replacement that is broken."""
        wrong = list(super().problems())
        yield from wrong
        for name, strategy in self.strategies.items() if not wrong else ():
            yield from prefixed(replacing_problems(self, strategy, strategy.way == "in_place"), ("strategies", name))

    @property
    def aim(self) -> str:
        """Which machines are replaced."""
        return f"replaces {in_short(self.chosen)}"

    def outline(self, strategy: str) -> str:
        """The way, and the stages of *strategy*."""
        chosen = self.strategies[strategy]
        return f"{chosen.way.replace('_', ' ')}: {self.outlined(chosen)}"


def plan(scenario: MachineReplacement, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    strategy = scenario.strategies[name]
    build, new = scenario.builder(strategy, {})
    stages, _ = add_swaps(build, scenario.swapping(strategy, strategy.way == "in_place"), new)
    if strategy.on_abort == "rollback":
        take_back(build, stages, new)
    start = Start(absent=tuple(build.absent), spares=build.stand_by(strategy.spares), starts_at_s=scenario.starts_at_s)
    return scenario.finished(name, build, start=start, on_abort=strategy.on_abort)


def leading(env: Environment) -> list[str]:
    """Who leads each service that has a leader or a primary, at the start."""
    return [env.leader_of(name) for name, service in env.services.items() if service.role in LEADS]


def replacing_problems(scenario: OnMachines, strategy: Replacing, in_place: bool) -> list[Problem]:
    """Every rule that *strategy* breaks; paths begin at it."""
    env, found = scenario.environment, list(_order_problems(scenario, strategy))
    found += list(allocation_problems(scenario, strategy))
    services = list(dict.fromkeys(env.instances[i][0] for i in scenario.instances))
    elected = [s for s in services if env.services[s].role == "leader_elected"]
    if strategy.leader != "any" and not set(leading(env)) & set(scenario.instances):
        found.append(Problem(("leader",), "no leader or primary is among what is replaced; drop 'leader'"))
    if strategy.hand_over and not elected:
        found.append(Problem(("hand_over",), "no leader-elected service is among what is replaced; drop 'hand_over'"))
    if strategy.failures_of == "all_of_batch" and "max_failures" in strategy.model_fields_set:
        message = "failures_of: all_of_batch aborts when a whole batch has failed, whatever max_failures says"
        found.append(Problem(("max_failures",), f"{message}; drop one of them"))
    if in_place and strategy.on_abort == "rollback":
        message = "in_place has given the old machine back before the new one is there, so there is no way back"
        found.append(Problem(("on_abort",), f"{message}; write on_abort: halt, or way: beside"))
    if found:
        return found
    try:
        swapping = scenario.swapping(strategy, in_place)
    except PlanError as error:
        return [Problem(("batches",), str(error))]
    return [*_recipe_problems(scenario, strategy), *_nobody_left(env, swapping)]


def allocation_problems(scenario: OnMachines, strategy: Replacing) -> Iterator[Problem]:
    """Whether there is a new machine for each old one."""
    env, machines = scenario.environment, len(scenario.chosen)
    if "allocate" in env.actions:
        return
    way_out = "add it under the environment's 'actions', beside 'services'"
    if strategy.spares < machines:
        message = f"new machines are needed for {machines}, spares are {strategy.spares}, and there is no recipe for 'allocate'"
        yield Problem(("spares",), f"{message}; {way_out}, or write spares: {machines}")
    elif strategy.on_abort == "rollback":
        message = "a rollback allocates machines anew that were given back, and there is no recipe for 'allocate'"
        yield Problem(("on_abort",), f"{message}; {way_out}, or write on_abort: halt")


def _order_problems(scenario: OnMachines, strategy: Replacing) -> Iterator[Problem]:
    env, seen = scenario.environment, set[str]()
    for i, stage in enumerate(strategy.order or ()):
        for name in stage:
            if name not in env.services:
                yield Problem(("order", i), f"{name!r} is no service; {did_you_mean(name, list(env.services))}")
            elif name in seen:
                yield Problem(("order", i), f"{name!r} comes twice in the order; keep one")
            seen.add(name)
    if strategy.order is not None and seen <= set(env.services):
        on = {m for s in seen for m in env.services[s].on}
        missing = [m for m in scenario.chosen if m not in on]
        if missing:
            yield Problem(("order",), f"{in_short(missing)} would never go: no stage names a service that runs there; add one")


def _recipe_problems(scenario: OnMachines, strategy: Replacing) -> Iterator[Problem]:
    """An action that is needed and has no recipe."""
    env = scenario.environment
    leaders = set(leading(env)) & set(scenario.instances)
    for name in dict.fromkeys(env.instances[i][0] for i in scenario.instances):
        service = env.services[name]
        led = any(env.instances[i][0] == name for i in leaders)
        needed = ["seed"] * (service.role == "datastore")
        needed += ["hand_over"] * (led and (service.role == "datastore" or strategy.hand_over))
        yield from recipes_missing(env, name, needed)


def recipes_missing(env: Environment, name: str, needed: Sequence[str]) -> Iterator[Problem]:
    """The actions *needed* of a service, and those by which its code comes to a new machine, that have no recipe."""
    service = env.services[name]
    coming = ["install", "start"] if service.role != "datastore" and service.actions else []
    for action in [*needed, *coming]:
        if action not in service.actions:
            message = f"{name!r} has no recipe for {action!r}, which its new machine needs"
            yield Problem((), f"{message}; add it to the service's actions, or leave its machines out")


def _nobody_left(env: Environment, swapping: Swapping) -> Iterator[Problem]:
    """In place a leader hands over to a member that is there, and a store keeps one with its data."""
    if not swapping.in_place:
        return
    for leader, heir in [pair for pairs in handings(env, swapping, {i: i for i in env.instances}).values() for pair in pairs.items()]:
        if heir is None:
            service, machine = env.instances[leader]
            lost = "its data would go with it" if env.services[service].role == "datastore" else "nobody is left to take over"
            message = f"in place {machine!r} leaves before another member of {service!r} is there, and {lost}"
            yield Problem(("way",), f"{message}; write way: beside, smaller batches, or leave this machine out")
