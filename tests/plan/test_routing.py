"""Capacity and errors told a second time: one request per second is sent through every instance, and what it meets is counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.models import Environment
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan, Release
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws

HORIZON_S = 10.0
ERRORS = 0.3
UNNOTICED = {"interval_s": 1e6, "fall": 2}


class Fluid:
    """Every instance of a plan of one lasting step, and where a stream of requests goes among them."""

    def __init__(self, plan: Plan) -> None:
        self.env, [step] = plan.environment, plan.steps
        self.mode = dict.fromkeys(self.env.instances, "serving")
        self.version = dict.fromkeys(self.env.instances, "1")
        self.weight = dict.fromkeys(self.env.instances, 1.0)
        self.schema = "1"
        self.left = dict.fromkeys(self.env.instances, 1.0) | dict(step.slow)
        for verb, subject, *argument in step.begin:
            if verb == "schema":
                self.schema = argument[0]
            elif verb in ("version", "weight"):
                getattr(self, verb)[subject] = argument[0]
            else:
                self.mode[subject] = verb

    def cells(self) -> list[str | None]:
        return [*self.env.cells] or [None]

    def pool(self, service: str, cell: str | None) -> list[str]:
        """The instances among which calls of *service* from within *cell* are balanced."""
        here = [i for i in self.env.instances if i.startswith(f"{service}@")]
        inside = {f"{service}@{m}" for c in self.env.cells.values() for m in c.on}
        return [i for i in here if i.split("@")[1] in self.env.cells[cell].on] if cell and set(here) & inside else here

    def shares(self, service: str, cell: str | None) -> dict[str, float]:
        """Instance -> part of the service's requests that are sent to it, of those that find one alive."""
        there = {i: self.weight[i] for i in self.pool(service, cell) if self.mode[i] == "serving"}
        if self.env.services[service].role != "stateless":
            there = dict(list(there.items())[:1])
        known = {i: w * self.left[i] for i, w in there.items()}
        if self.env.services[service].balancing == "by_capacity" and any(known.values()):
            there = known
        return {i: w / sum(there.values()) for i, w in there.items() if w}

    def load(self, service: str, cell: str | None, rate: float, found: dict[str, float]) -> dict[str, float]:
        """Instance -> requests per second that it gets when *service* is sent *rate*; what stays unserved under None."""
        shares = self.shares(service, cell)
        for i, share in shares.items():
            found[i] = found.get(i, 0.0) + rate * share
        if not shares:
            found[f"none of {service}"] = rate
        for callee, call in self.env.services[service].calls.items():
            if call.dependency == "hard":
                self.load(callee, cell, rate * call.times, found)
        return found

    def bound(self, load: dict[str, float], pinned: bool) -> float:
        """By how much the load may be multiplied until one of the instances in a cell (or in none) has too much."""
        bounds, unlimited = [math.inf], {i.split("@")[0] for i in load if "@" in i and self.left[i]}
        for i, rate in load.items():
            service, _, machine = i.removeprefix("none of ").partition("@")
            if pinned != (service in PINNED and bool(self.env.cells)) or rate == 0:
                continue
            each = self.env.services[service].capacity_per_s
            if machine and each is None and service in unlimited:
                continue
            bounds.append((each or 0.0) * self.left[i] / rate if machine else 0.0)
        return min(bounds)

    def dead(self, service: str, cell: str | None) -> float:
        pool = [i for i in self.pool(service, cell) if self.mode[i] in ("serving", "kill")]
        gone = sum(self.weight[i] for i in pool if self.mode[i] == "kill")
        return gone / sum(self.weight[i] for i in pool) if gone else 0.0

    def refused(self, u: str, v: str, cell: str | None) -> float:
        """Share of the calls of u to v in which the two do not go together, pair by pair."""
        shares = 0.0
        for i, p in self.shares(u, cell).items():
            for j, q in self.shares(v, cell).items():
                other = self.schema if v == "sql" else self.version[j]
                accepted = self.env.services[u].accepts.get(self.version[i], {}).get(v)
                shares += p * q * (accepted is not None and other not in accepted)
        return shares

    def goes_well(self, service: str, cell: str | None, visits: dict[str, float]) -> float:
        """Share of the requests that meet no error in *service* and in what it needs (which no two need here)."""
        spec = self.env.services[service]
        well = 1.0 if spec.retry == "redispatch" else (1 - self.dead(service, cell)) ** visits[service]
        changed = sum(p for i, p in self.shares(service, cell).items() if self.version[i] != "1" and service in CHANGED)
        well *= (1 - ERRORS * changed) ** visits[service]
        for callee, call in spec.calls.items():
            if call.dependency == "hard":
                well *= self.goes_well(callee, cell, visits)
                if self.env.mixing == "errors":
                    well *= 1 - self.refused(service, callee, cell)
        return well

    def told(self, demand: float) -> tuple[float, dict[str, float]]:
        """(capacity, metrics of a run that stays as it is)."""
        entry, visits = self.env.entry, self.env.visits
        loads = {cell: self.load(entry, cell, 1.0, {}) for cell in self.cells()}
        each = {cell: self.bound(load, pinned=True) for cell, load in loads.items()}
        shared = min(self.bound(load, pinned=False) for load in loads.values())
        capacity = min(shared, sum(each.values()) if self.env.cells else math.inf)
        asked = {c for c, load in loads.items() if not self.is_known_dead(load, c)}
        stated = {c: (self.env.cells[c].share or 1 / len(each)) if c else 1.0 for c in each}
        going = {c: x if not self.env.reroute or c in asked else 0.0 for c, x in stated.items()}
        going = {c: x / sum(going.values()) for c, x in going.items()} if sum(going.values()) else stated
        served = [min(demand * going[c] * self.goes_well(entry, c, visits), each[c]) for c in each]
        meets = [self.refused(u, v, c) for c in each for u in self.env.services for v in self.env.services[u].calls]
        return capacity, {
            "failed_requests": (demand - min(sum(served), shared, capacity)) * HORIZON_S,
            "incompatible_s": HORIZON_S * any(meets),
        }

    def is_known_dead(self, load: dict[str, float], cell: str | None) -> bool:
        """Whether the cell lacks a service of which nobody is dead without the balancer knowing."""
        served = {s: self.bound({i: rate for i, rate in load.items() if s in i}, pinned=True) for s in PINNED}
        return any(served[s] == 0 and not self.dead(s, cell) for s in PINNED)


PINNED = ("web", "mid")
CHANGED = ("web", "mid", "cache")


@st.composite
def plans(draw: Any) -> Plan:
    """lb -> web -> mid -> sql, mid -> cache (soft); web and mid may be in two or three cells. One step sets the state."""
    cells = draw(st.sampled_from([[], ["a", "b"], ["a", "b", "c"]]))
    on = {s: [f"{s}{c}{k}" for c in cells or [""] for k in range(draw(st.integers(1, 2 if cells else 3)))] for s in PINNED}
    accepts = st.sampled_from([[], ["1"], ["2"], ["1", "2"]])
    check = {"health_check": UNNOTICED}
    services: dict[str, Any] = {
        "lb": {"on": ["lb0"], "calls": {"web": {}}},
        "web": {"capacity_per_s": 100.0, "calls": {"mid": {"times": 1.5}}, "accepts": {v: {"mid": draw(accepts)} for v in draw(accepts)}},
        "mid": {
            "capacity_per_s": draw(st.sampled_from([None, 90.0])),
            "calls": {"sql": {"times": 2}, "cache": {"dependency": "soft"}},
            "accepts": {v: {"sql": draw(accepts), "cache": draw(accepts)} for v in draw(accepts)},
        },
        "cache": {"on": ["cache0", "cache1"], "capacity_per_s": 10.0},
        "sql": {"on": ["sql0"], "capacity_per_s": draw(st.sampled_from([150.0, 900.0])), "role": "datastore"},
    }
    for s in PINNED:
        services[s] |= {"on": on[s], "retry": draw(st.sampled_from(["none", "redispatch"])), **check}
        services[s] |= {"balancing": draw(st.sampled_from(["even", "by_capacity"]))}
    entry = draw(st.sampled_from(["lb", "web"]))
    if entry == "web":
        del services["lb"]
    demand = draw(st.sampled_from([20.0, 110.0, 250.0]))
    stated = draw(st.sampled_from([None, [0.5, 0.25, 0.25] if len(cells) == 3 else [0.2, 0.8]]))
    env = Environment.model_validate(
        {
            "name": "routes", "entry": entry, "services": services, "demand": {"rate_per_s": demand},
            "machines": [{"name": m} for s in services.values() for m in s["on"]],
            "cells": {
                c: {"on": [m for s in PINNED for m in on[s] if m.startswith(f"{s}{c}")], "share": stated and stated[k]}
                for k, c in enumerate(cells)
            },
            "reroute": bool(cells) and draw(st.booleans()),
            "mixing": draw(st.sampled_from(["none", "errors"])),
        }
    )  # fmt: skip
    effects: list[tuple[Any, ...]] = [("schema", "sql", draw(st.sampled_from(["1", "2"])))]
    slow = []
    for i in (i for i in env.instances if i.startswith(CHANGED)):
        effects.append(("version", i, draw(st.sampled_from(["1", "2"]))))
        effects.append(("weight", i, draw(st.sampled_from([0, 0.5, 1, 1, 3]))))
        effects += draw(st.sampled_from([[], [], [], [("out", i)], [("kill", i)] if not i.startswith("cache") else []]))
        slow += draw(st.sampled_from([[], [], [(i, 0.5)], [(i, 0.0)]]))
    step = Step(
        id="s", duration={"fixed": HORIZON_S}, begin=tuple(effects), end=tuple(("version", i, "2") for i in env.instances), slow=tuple(slow)
    )
    return Plan(environment=env, steps=(step,), horizon_s=HORIZON_S, release=Release(p_bad=1.0, error_share=ERRORS))


@settings(max_examples=300)
@given(plan=plans())
def test_a_stream_sent_through_every_instance_meets_the_capacity_and_the_errors_of_the_facts(plan):
    engine = Engine(plan)
    draws = Draws(plan, 0, 0, 1, engine.names)
    [path] = engine.runs(draws)
    found = metrics_of(plan, engine.book, [path], [draws.phases(0)])

    capacity, told = Fluid(plan).told(plan.environment.demand.rate_per_s or 0.0)

    assert pytest.approx(capacity, abs=1e-9) == engine.book.facts[path.states[0]].capacity
    for metric, expected in told.items():
        assert pytest.approx(expected, abs=1e-9) == found[metric][0], metric
