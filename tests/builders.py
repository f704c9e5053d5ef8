"""Small environments and plans for tests, and random ones for laws that hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.models import Environment
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Judge, Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws


def canonical(demand: float = 150.0, **services: dict[str, Any]) -> Environment:
    """lb -> web 2 x 300 -> mid 2 x 200 (1.5 calls) -> sql 500 (2 calls), one monitor; *services* overrides fields."""
    base: dict[str, dict[str, Any]] = {
        "lb": {"on": ["lb1"], "calls": {"web": {}}},
        "web": {"on": ["web1", "web2"], "capacity_per_s": 300.0, "calls": {"mid": {"times": 1.5}}},
        "mid": {"on": ["mid1", "mid2"], "capacity_per_s": 200.0, "calls": {"sql": {"times": 2}}},
        "sql": {"on": ["sql1"], "capacity_per_s": 500.0, "role": "datastore"},
        "mon": {"on": ["mon1"], "role": "monitoring"},
    }
    merged = {name: fields | services.get(name, {}) for name, fields in base.items()}
    machines = [{"name": m} for m in dict.fromkeys(m for s in merged.values() for m in s["on"])]
    return Environment.model_validate(
        {"name": "canonical", "machines": machines, "entry": "lb", "services": merged, "demand": {"rate_per_s": demand}}
    )


def farm(count: int, capacity: float, demand: float, **fields: Any) -> Environment:
    """One tier of *count* equal boxes."""
    names = [f"w{i}" for i in range(count)]
    return Environment.model_validate(
        {
            "name": "farm",
            "machines": [{"name": n} for n in names],
            "entry": "web",
            "services": {"web": {"on": names, "capacity_per_s": capacity} | fields},
            "demand": {"rate_per_s": demand},
        }
    )


def lane(instance: str, after: tuple[str, ...] = (), out_s: float = 60.0, take: str = "drain", **first: Any) -> tuple[Step, ...]:
    """Take an instance out, change it for *out_s* in all, give it back."""
    machine = instance.split("@")[1]
    work = Step(
        id=f"code/{instance}/install", target=instance, on=machine, duration=fixed(out_s), after=after, begin=((take, instance),), **first
    )
    back = Step(
        id=f"code/{instance}/start", target=instance, on=machine, needs=(work.id,), end=(("version", instance, "2"), ("serve", instance))
    )
    return work, back


def rolling(members: list[str], out_s: float = 60.0, take: str = "drain") -> tuple[Step, ...]:
    """Lanes one after the other."""
    steps: list[Step] = []
    for member in members:
        steps += lane(member, (steps[-1].id,) if steps else (), out_s, take)
    return tuple(steps)


def run(plan: Plan, replications: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Every metric of every replication."""
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, replications, engine.names)
    return metrics_of(plan, engine.book, list(engine.runs(draws)), [draws.phases(r) for r in range(replications)])


DURATIONS = st.one_of(
    st.integers(0, 30).map(lambda n: fixed(float(n))),
    st.tuples(st.integers(0, 10), st.integers(11, 30)).map(lambda p: Distribution(kind="uniform", parameters=(float(p[0]), float(p[1])))),
)


@st.composite
def random_plans(draw: Any, failing: bool = True, pools: bool = True, weights: bool = True) -> Plan:
    """Rolling plans of a canonical environment in random batches, with random roles, failures, pools and health checks."""
    role = draw(st.sampled_from(["stateless", "leader_elected", "quorum"]))
    check = draw(st.sampled_from([None, {"interval_s": 2.0, "fall": 3, "rise": 2}]))
    mids = [f"mid{i}" for i in range(1, draw(st.integers(1, 4)) + 1)]
    queue = draw(st.sampled_from([None, 20.0]))
    env = canonical(
        draw(st.sampled_from([50.0, 130.0, 200.0])),
        mid={"role": role, "on": mids, "election": {"detect_s": 10.0, "elect_s": 5.0}, "health_check": check},
        web={"health_check": check, "retry": draw(st.sampled_from(["none", "redispatch"]))},
    )
    if queue is not None:
        demand = env.demand.model_copy(update={"excess": "queue", "patience_s": queue})
        env = env.model_copy(update={"demand": demand})
    members = draw(st.permutations([*env.members("web"), *env.members("mid")]))
    steps: list[Step] = []
    barrier: tuple[str, ...] = ()
    k = 0
    left = list(members)
    while left:
        size = draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        lanes = [_random_lane(draw, instance, barrier, failing, pools, env if weights else None) for instance in batch]
        steps += [s for one in lanes for s in one]
        limit = draw(st.sampled_from([None, 0.0, 1.0]))
        watch = tuple(s.id for one in lanes for s in one)
        steps.append(
            Step(id=f"judge{k}", kind="judge", after=tuple(one[-1].id for one in lanes), judge=Judge(watch=watch, size=size, limit=limit))
        )
        barrier, k = (f"judge{k}",), k + 1
    return Plan(environment=env, steps=tuple(steps), pools={"forks": 2}, horizon_s=400.0)


def random_weight(draw: Any, env: Environment, instance: str) -> tuple[Any, ...]:
    """Sometimes another weight at the balancer, where there is one."""
    if not env.services[env.instances[instance][0]].is_balanced:
        return ()
    return draw(st.sampled_from([(), (), *((("weight", instance, w),) for w in (0, 0.5, 2))]))


def _random_lane(draw: Any, instance: str, barrier: tuple[str, ...], failing: bool, pools: bool, env: Environment | None) -> list[Step]:
    take = draw(st.sampled_from(["drain", "out", "kill"]))
    give = draw(st.sampled_from(["serve", "start"]))
    p_fail = draw(st.sampled_from([0.0, 0.3])) if failing else 0.0
    held = (("forks", 1),) if pools and draw(st.booleans()) else ()
    machine = instance.split("@")[1]
    common: dict[str, Any] = {"target": instance, "on": machine, "pools": held}
    first, last = (random_weight(draw, env, instance) if env else () for _ in range(2))
    return [
        Step(id=f"code/{instance}/drain", after=barrier, duration=draw(DURATIONS), begin=((take, instance), *first), **common),
        Step(
            id=f"code/{instance}/install", needs=(f"code/{instance}/drain",), duration=draw(DURATIONS), begin=(("out", instance),),
            end=(("version", instance, "2"),), p_fail=p_fail, retries=draw(st.integers(0, 2)), retry_delay=fixed(5.0), **common,
        ),
        Step(
            id=f"code/{instance}/start", needs=(f"code/{instance}/install",), duration=draw(DURATIONS),
            end=((give, instance), *last), **common,
        ),
    ]  # fmt: skip
