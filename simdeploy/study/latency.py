"""Queueing and availability in closed form: what users wait while machines are out, and how often enough machines are up."""

from __future__ import annotations

import math
from typing import NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.errors import StudyError
from simdeploy.study.sizing import Headroom


class Wait(NamedTuple):
    """How long requests of one service wait for a worker, with some of its instances out."""

    service: str
    when: str
    """normal, while the plan runs, or with a machine lost as well."""
    instances: int
    utilisation: float
    wait_s: float
    """Mean wait before service begins; inf where what arrives cannot be served."""
    response_s: float
    """Mean wait and service."""
    p_wait: float
    """Chance to wait at all."""
    wait_p95_s: float
    """What 95 % of the requests wait at the most; 0 where fewer than 5 % wait at all."""


class Enough(NamedTuple):
    """How often enough machines of a service are up."""

    service: str
    machines: int
    needed: int
    up: float
    """Chance that one machine is up: MTBF / (MTBF + mean repair)."""
    enough: float
    """Chance that at least `needed` of them are: binomial."""


def erlang_c(servers: int, offered: float) -> float:
    """Chance that a request waits in M/M/c with *servers* servers and *offered* = arrival rate / service rate of one (Erlang C).

    1 where the servers cannot keep up. By the recursion of Erlang B, B(c) = a B(c-1) / (c + a B(c-1)), and
    C = B / (1 - rho (1 - B)), so that nothing overflows. Raises StudyError for no servers or a negative load.
    """
    if servers < 1 or offered < 0 or not math.isfinite(offered):
        raise StudyError(f"{servers} servers with a load of {offered:g} are no queue; there is one server at least, and a load from 0 on")
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for c in range(1, servers + 1):
        blocked = offered * blocked / (c + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def waits(env: Environment, rooms: list[Headroom]) -> list[Wait]:
    """The mean waits of each balanced service at the peak of the demand: normally, and where the floors of *rooms* leave it.

    Arrivals are Poisson, service times exponential; an instance of capacity c with w workers serves with each at c / w (M/M/c).
    """
    found: list[Wait] = []
    for room in rooms:
        service = env.services.get(room.service)
        if service is None or not service.is_balanced or service.capacity_per_s is None or room.service in env.pinned:
            continue  # each cell is a queue of its own
        visits, workers = env.visits[room.service], service.workers
        arrivals = env.demand.peak_per_s * visits
        for when, kept in (("normal", room.steady_per_s), ("while it runs", room.upgrade_per_s), ("one lost too", room.lost_per_s)):
            if kept is not None and visits > 0:
                instances = math.floor(kept * visits / service.capacity_per_s + 1e-9)
                found.append(wait(room.service, when, instances, arrivals, service.capacity_per_s, workers))
    return found


def wait(service: str, when: str, instances: int, arrivals_per_s: float, capacity_per_s: float, workers: int) -> Wait:
    """M/M/c: W = C / (c mu - lambda) and P(wait > t) = C exp(-(c mu - lambda) t), with c = instances x workers, mu = capacity / workers."""
    servers, rate = instances * workers, capacity_per_s / workers
    if servers == 0 or arrivals_per_s >= servers * rate:
        busy = arrivals_per_s / (servers * rate) if servers else math.inf
        return Wait(service, when, instances, busy, math.inf, math.inf, 1.0, math.inf)
    p_wait = erlang_c(servers, arrivals_per_s / rate)
    spare = servers * rate - arrivals_per_s
    wait_s, p95_s = p_wait / spare, math.log(max(1.0, p_wait / 0.05)) / spare
    return Wait(service, when, instances, arrivals_per_s / (servers * rate), wait_s, wait_s + 1 / rate, p_wait, p95_s)


def at_least(needed: int, machines: int, up: float) -> float:
    """Chance that at least *needed* of *machines* are up, each with chance *up* by itself (binomial)."""
    from scipy.special import bdtrc  # a tenth of a second: only where machines die

    return 0.0 if needed > machines else float(bdtrc(needed - 1, machines, up))


def enough(env: Environment) -> list[Enough]:
    """How often enough machines of each balanced service are up for the peak of the demand, where all have an MTBF and a repair."""
    found = []
    for name, service in env.services.items():
        machines = [m for m in env.machines if m.name in service.on]
        if not service.is_balanced or service.capacity_per_s is None or any(m.mtbf_s is None or m.repair is None for m in machines):
            continue
        needed = math.ceil(env.demand.peak_per_s * env.visits[name] / service.capacity_per_s * (1 - 1e-12))
        ups = {m.mtbf_s / (m.mtbf_s + m.repair.mean_s) for m in machines if m.mtbf_s is not None and m.repair is not None}
        up = min(ups)  # of unlike machines the worst stands for all: a bound
        found.append(Enough(name, len(machines), needed, up, at_least(needed, len(machines), up)))
    return found
