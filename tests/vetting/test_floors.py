"""The proofs of capacity against brute force: every reachable state of small plans in which nothing fails."""

from __future__ import annotations

import itertools
import random

import pytest

from simdeploy.environment.models import Environment
from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.vetting.capacity import front_door
from simdeploy.vetting.floors import Floors, Without
from simdeploy.vetting.section import Section
from simdeploy.vetting.shape import Shape
from tests.vetting.states import brute_floor, capacity_in, states


def environment(rng: random.Random) -> Environment:
    """Web on three or four machines, calls mid on two or three, sharing machines sometimes; with or without stated capacities."""
    web = [f"w{i}" for i in range(rng.randint(2, 4))]
    mid = [f"m{i}" for i in range(rng.randint(1, 3))] if rng.random() < 0.7 else web[:2]
    role = rng.choice([{}, {}, {"role": "quorum"}, {"balancing": "even"}])
    services = {
        "web": {"on": web, "capacity": f"{rng.choice([60, 100])} req/s", "calls": {"mid": rng.choice([0.5, 1, 2])}, **role},
        "mid": {"on": mid} | ({"capacity": f"{rng.choice([50, 90])} req/s"} if rng.random() < 0.8 else {}),
    }
    machines = [{"name": m} for m in dict.fromkeys([*web, *mid])]
    return Environment.model_validate(
        {"name": "e", "machines": machines, "entry": "web", "demand": {"rate": "50 req/s"}, "services": services}
    )


def small_plan(rng: random.Random) -> Plan:
    """Lanes of two or three steps for some instances, ordered here and there, with a step that slows somebody."""
    env = environment(rng)
    steps: list[Step] = []
    chosen = rng.sample(list(env.instances), rng.randint(1, min(4, len(env.instances))))
    for i in chosen:
        earlier = tuple(rng.sample([s.id for s in steps], min(len(steps), rng.choice([0, 0, 1, 2]))))
        take = rng.choice([{"begin": [["drain", i]], "end": [["out", i]]}, {"end": [["out", i]]}, {"begin": [["out", i]]}])
        lane = [Step.model_validate({"id": f"a/{i}/out", "target": i, "after": earlier, **take})]
        if rng.random() < 0.4:
            other = rng.choice([i, *env.instances])
            lane.append(
                Step.model_validate({"id": f"a/{i}/work", "target": i, "needs": [lane[-1].id], "slow": [[other, rng.choice([0, 0.5])]]})
            )
        if rng.random() < 0.85:
            lane.append(Step.model_validate({"id": f"a/{i}/back", "target": i, "needs": [lane[-1].id], "end": [["serve", i]]}))
        steps += lane
    return Plan(environment=env, steps=tuple(steps))


def overlaps(plan: Plan) -> bool:
    """Whether a slowing may fall on an instance that is leaving or coming back, where the proof adds up what does not add."""
    slowed = {i for s in plan.steps for i, _ in s.slow}
    return bool(slowed & {str(e[1]) for s in plan.steps for e in (*s.begin, *s.end)}) or sum(len(s.slow) for s in plan.steps) > 1


def test_the_floor_is_the_least_capacity_of_all_reachable_states():
    rng, exact = random.Random(5), 0
    for _ in range(1500):
        plan = small_plan(rng)
        if sum(s.begin != () or s.end != () for s in plan.steps) > 9:
            continue
        found, wanted = front_door(Floors(Section(Shape(plan)))).least_per_s, brute_floor(plan)
        assert found <= wanted + 1e-6, plan.to_json()
        if not overlaps(plan):
            assert found == pytest.approx(wanted, abs=1e-6), plan.to_json()
            exact += 1
    assert exact > 700


def brute_floor_without(plan: Plan, machine: str) -> float:
    """The least capacity of all reachable states with *machine* dead in each."""
    layout = Layout(plan)
    book = FactBook(layout)
    dead = layout.plan.environment.machine_index[machine]
    return min(capacity_in(plan, layout, book, events, [dead]) for events in states(plan))


def test_with_any_one_machine_lost_too():
    rng, tried = random.Random(6), 0
    for _ in range(400):
        plan = small_plan(rng)
        if sum(s.begin != () or s.end != () for s in plan.steps) > 8 or overlaps(plan):
            continue
        for machine in plan.environment.machine_index:
            gone = frozenset(i for i, (_, m) in enumerate(plan.environment.instances.values()) if m == machine)
            found = front_door(Floors(Section(Shape(plan))), Without(lost=gone)).least_per_s

            assert found == pytest.approx(brute_floor_without(plan, machine), abs=1e-6), (machine, plan.to_json())
            tried += 1
    assert tried > 800


def test_every_state_is_met_once():
    steps = [Step(id="a"), Step(id="b"), Step(id="c", after=("a", "b"))]
    env = environment(random.Random(1))

    found = [frozenset(s) for s in states(Plan(environment=env, steps=tuple(steps)))]

    pairs = list(itertools.product(range(3), range(3)))  # a and b: not begun, begun, ended
    assert len(pairs) + 2 == len(found) == len(set(found))
