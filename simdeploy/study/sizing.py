"""How many machines each tier needs, and how much headroom there is."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from simdeploy.environment.models import Environment, Machine
from simdeploy.errors import InvalidDocument, StudyError
from simdeploy.plan.findings import Floor
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.tables import listed
from simdeploy.vetting.vet import vet

MOST_MORE = 64
"""Machines beyond what demand alone needs that are tried for a tier."""
NO_HELP = 6
"""So many machines more that bring nothing say that none will."""


class Tier(NamedTuple):
    """Machines that carry the same services, and that grow and shrink together."""

    services: tuple[str, ...]
    machines: tuple[str, ...]
    scales: bool
    """Whether one more machine carries more: not where one instance of a service leads and the others stand by."""

    @property
    def name(self) -> str:
        """Its services, joined."""
        return "+".join(self.services)


class Need(NamedTuple):
    """How many machines one tier needs at one growth of the demand."""

    tier: str
    growth: float
    has: int
    carries: int | None
    """Machines with which its instances carry the demand while all serve; None where no number does."""
    needs: int | None
    """Machines with which it carries the demand whatever the timing of the plan, with any one of its machines lost as well."""
    why: str
    """Why no number does."""


class Headroom(NamedTuple):
    """What one service (or the front door, "") carries, in requests at the front door [req/s]; None = it does not limit."""

    service: str
    steady_per_s: float | None
    upgrade_per_s: float | None
    """The least whatever the timing, apart from locks and moved leads that the plan declares."""
    lost_per_s: float | None
    """The same with any one machine lost."""
    growth: float | None
    """Times of the demand that it carries while the plan runs with a machine lost; None = it does not limit."""


class Spare(NamedTuple):
    """What one service (or the front door, "") has left at one growth of the demand [req/s]; below 0 lacks, None = it does not limit."""

    service: str
    growth: float
    demand_per_s: float
    steady_per_s: float | None
    upgrade_per_s: float | None
    lost_per_s: float | None
    """While the plan runs, with any one machine lost."""


def tiers(env: Environment) -> list[Tier]:
    """The tiers of *env* that carry requests, in the order of calls; hosted machines and those of several tiers do not grow."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in env.visits:
        service = env.services[name]
        if service.capacity_per_s is not None and service.role != "monitoring":
            found.setdefault(service.on, []).append(name)
    shared = Counter(machine for on in found for machine in on)
    fixed = {m.name for m in env.machines if m.hosted or shared[m.name] > 1}
    return [
        Tier(tuple(names), on, all(env.services[n].is_balanced for n in names) and not fixed.intersection(on))
        for on, names in found.items()
    ]


def resized(env: Environment, sizes: Mapping[str, int]) -> Environment:
    """*env* with so many machines in each named tier. Copies come where its zone has the fewest, the last of the fullest zone goes.

    Raises StudyError for a tier that is not there or does not scale, a size below 1, and what the environment then could not be.
    """
    known = {tier.name: tier for tier in tiers(env)}
    machines, services = list(env.machines), dict(env.services)
    for name, size in sizes.items():
        tier = known.get(name)
        if tier is None or not tier.scales:
            growing = ", ".join(t.name for t in known.values() if t.scales) or "none"
            raise StudyError(f"{name!r} is no tier whose number of machines can change; those of {env.name!r} are: {growing}")
        if size < 1:
            raise StudyError(f"{name!r} would have {size} machines; a tier has one at least")
        gone = _surplus(env, tier, len(tier.machines) - size)
        kept = [m for m in tier.machines if m not in gone]
        fresh = _copies(env, tier, size - len(tier.machines))
        place = 1 + max(i for i, m in enumerate(machines) if m.name in tier.machines)
        machines = [*machines[:place], *fresh, *machines[place:]]
        machines = [m for m in machines if m.name not in gone]
        on = (*kept, *(m.name for m in fresh))
        for service in (n for n, s in env.services.items() if set(s.on) & set(tier.machines)):
            rest = tuple(m for m in services[service].on if m not in tier.machines)
            services[service] = services[service].model_copy(update={"on": (*rest, *on)})
    parts = {field: getattr(env, field) for field in Environment.model_fields} | {"machines": tuple(machines), "services": services}
    try:
        return Environment.model_validate(parts | {"inputs": ()})
    except InvalidDocument as error:
        raise StudyError(f"{env.name!r} cannot have {sizes_text(sizes)}: {_first_line(error)}") from None


def _copies(env: Environment, tier: Tier, count: int) -> list[Machine]:
    like = [m for m in env.machines if m.name in tier.machines]
    taken, number = {m.name for m in env.machines}, len(like)
    crowd, fresh = _Crowd(like), list[Machine]()
    for _ in range(count):
        number += 1
        while f"{tier.services[0]}-{number}" in taken:
            number += 1
        fresh.append(min(like, key=crowd.around).model_copy(update={"name": f"{tier.services[0]}-{number}"}))
        crowd.count(fresh[-1], 1)
    return fresh


def _surplus(env: Environment, tier: Tier, count: int) -> set[str]:
    """The names of the machines that go."""
    left = [m for m in env.machines if m.name in tier.machines]
    crowd, gone = _Crowd(left), set[str]()
    for _ in range(count):
        last = max(reversed(left), key=crowd.around)
        left.remove(last)
        crowd.count(last, -1)
        gone.add(last.name)
    return gone


class _Crowd:
    """How many machines of a tier share the zone of one, and its update domain there."""

    def __init__(self, machines: list[Machine]) -> None:
        self._zones, self._domains = Counter[str | None](), Counter[tuple[str | None, str | None]]()
        for machine in machines:
            self.count(machine, 1)

    def count(self, machine: Machine, by: int) -> None:
        self._zones[machine.zone] += by
        self._domains[machine.zone, machine.update_domain] += by

    def around(self, machine: Machine) -> tuple[int, int]:
        return self._zones[machine.zone], self._domains[machine.zone, machine.update_domain]


def with_sizes(scenario: Scenario, sizes: Mapping[str, int], demand: float = 1.0) -> Scenario:
    """*scenario* in an environment with these sizes and *demand* times the demand. Raises StudyError as `resized` does."""
    env = grown(resized(scenario.environment, sizes) if sizes else scenario.environment, demand)
    parts = {field: getattr(scenario, field) for field in type(scenario).model_fields} | {"environment": env}
    try:
        return type(scenario).model_validate(parts)
    except InvalidDocument as error:
        said = _first_line(error)
        raise StudyError(f"{scenario.name!r} cannot run with {sizes_text(sizes)}: {said}; its strategies name machines or counts") from None


def sizes_text(sizes: Mapping[str, int]) -> str:
    """'web 2 and middle 3'."""
    return listed([f"{tier} {n}" for tier, n in sizes.items()])


def _first_line(error: Exception) -> str:
    first, *more = str(error).splitlines()
    return f"{first} (and {len(more)} more of that kind)" if more else first


def grown(env: Environment, factor: float) -> Environment:
    """*env* whose users want *factor* times as much."""
    if factor == 1.0:
        return env
    demand = env.demand
    update = {
        "rate_per_s": None if demand.rate_per_s is None else demand.rate_per_s * factor,
        "steps": tuple(x.model_copy(update={"rate_per_s": x.rate_per_s * factor}) for x in demand.steps),
        "daily": tuple(x.model_copy(update={"rate_per_s": x.rate_per_s * factor}) for x in demand.daily),
    }
    return env.model_copy(update={"demand": demand.model_copy(update=update)})


def headroom(scenario: Scenario, strategy: str) -> list[Headroom]:
    """What the front door and each service carry: steadily, whatever the timing of the *strategy*'s plan, and with a machine lost.

    The figures are the floors that vetting proves. Steadily is before the plan, and before the disaster that it answers.
    """
    plan = build_plan(scenario, strategy)
    peak = plan.environment.demand.peak_per_s
    steady = {f.service: f.start_per_s for f in vet(Plan(environment=plan.environment, start=plan.start, steps=())).floors}

    def room(floor: Floor) -> Headroom:
        lost = floor.machine_lost_per_s
        return Headroom(
            floor.service, steady[floor.service], floor.kept_per_s, lost, None if lost is None or peak == 0 else lost / peak
        )  # fmt: skip

    return [room(floor) for floor in vet(plan).floors]


def spares(rooms: list[Headroom], peak_per_s: float, growths: tuple[float, ...]) -> list[Spare]:
    """What each of *rooms* has left over *growths* times the peak of the demand, in that order."""

    def left(carried_per_s: float | None, demand_per_s: float) -> float | None:
        return None if carried_per_s is None else carried_per_s - demand_per_s

    return [
        Spare(
            room.service, growth, wanted, left(room.steady_per_s, wanted), left(room.upgrade_per_s, wanted), left(room.lost_per_s, wanted)
        )
        for room in rooms
        for growth, wanted in ((growth, growth * peak_per_s) for growth in growths)
    ]


def needs(scenario: Scenario, strategy: str, growths: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0)) -> list[Need]:
    """How many machines each tier needs for each growth of the demand, by tier and growth.

    `carries` is the closed form ceil(growth x peak x visits / capacity). `needs` is the least number, from there on, whose
    plan keeps that capacity of the tier's services for every timing with any one of the tier's machines lost (proved by vetting).
    """
    env = scenario.environment
    peak = env.demand.peak_per_s
    found: list[Need] = []
    for tier in tiers(env):
        kept = functools.cache(functools.partial(_kept, scenario, strategy, tier))
        for growth in growths:
            wanted = growth * peak
            least = max(carrying(env, name, wanted) for name in tier.services)
            if not tier.scales:
                alone = min((env.services[n].capacity_per_s or math.inf) / env.visits[n] for n in tier.services if env.visits[n])
                why = f"its number stays: one instance leads, or its machines are hosted or shared; one carries {alone:.4g} req/s"
                found.append(Need(tier.name, growth, len(tier.machines), None, None, why))
                continue
            enough, why = _enough(kept, wanted, least, len(tier.machines))
            found.append(Need(tier.name, growth, len(tier.machines), least, enough, why))
    return found


def _enough(kept: Callable[[int], float | str], wanted_per_s: float, least: int, has: int) -> tuple[int | None, str]:
    """The least number of machines from *least* on that keeps so much, and what is to be said of it; None where there is none."""
    why, before = f"none up to {least + MOST_MORE} does", [math.nan] * NO_HELP
    for size in range(least, least + MOST_MORE + 1):
        value = kept(size)
        if isinstance(value, str):
            why = value
            break
        if value >= wanted_per_s * (1 - 1e-9):
            return size, ""
        if before[-NO_HELP] == value:
            why = f"more machines do not help: the strategy always leaves {value:.4g} req/s of it"
            break
        before.append(value)
    today = kept(has)
    if has >= least and isinstance(today, float) and today >= wanted_per_s * (1 - 1e-9):
        return has, f"it has enough; of fewer nothing can be said: {why}"
    return None, why


def carrying(env: Environment, service: str, wanted_per_s: float) -> int:
    """How many instances carry so much at the front door while all serve."""
    capacity = env.services[service].capacity_per_s or math.inf
    return max(1, math.ceil(wanted_per_s * env.visits[service] / capacity * (1 - 1e-12)))


def _kept(scenario: Scenario, strategy: str, tier: Tier, size: int) -> float | str:
    """What the tier keeps at the front door for every timing with one of its own machines lost; or why there is no such plan.

    Losing one of the tier's machines is losing one instance of each of its services, so the floor with any machine lost is asked
    of these services alone.
    """
    try:
        plan = build_plan(with_sizes(alone(scenario, strategy), {tier.name: size}), strategy)
    except StudyError as error:
        return str(error)
    floors = [f.machine_lost_per_s for f in vet(plan).floors if f.service in tier.services]
    return min((f for f in floors if f is not None), default=math.inf)


def alone(scenario: Scenario, strategy: str) -> Scenario:
    """*scenario* with one strategy, so that no other one forbids a size."""
    return scenario.model_copy(update={"strategies": {strategy: scenario.strategies[strategy]}, "baseline": None})
