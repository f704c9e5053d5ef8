"""The same workload as a plan of ours: every metric is computed."""

from __future__ import annotations

from benchmarks import plain
from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Judge, Step


def plan(machines: int) -> Plan:
    """The rolling upgrade of `plain.replicate` for a fleet of *machines*."""
    names = [f"w{i:04}" for i in range(machines)]
    environment = Environment.model_validate(
        {
            "name": "fleet",
            "machines": [{"name": n} for n in names],
            "entry": "web",
            "services": {"web": {"on": names, "capacity": plain.RATE_PER_S}},
            "demand": {"rate": plain.DEMAND_SHARE * machines * plain.RATE_PER_S},
        }
    )
    steps: list[Step] = []
    barrier: tuple[str, ...] = ()
    size = plain.wave_size(machines)
    for k, first in enumerate(range(0, machines, size)):
        lanes = [_lane(n, barrier) for n in names[first : first + size]]
        steps += [s for lane in lanes for s in lane]
        watch = tuple(s.id for lane in lanes for s in lane)
        judge = Step(
            id=f"code/judge{k}",
            kind="judge",
            after=tuple(lane[-1].id for lane in lanes),
            judge=Judge(watch=watch, size=len(lanes), limit=None),
        )
        steps.append(judge)
        barrier = (judge.id,)
    return Plan(environment=environment, steps=tuple(steps), pools={"forks": plain.FORKS})


def _lane(machine: str, barrier: tuple[str, ...]) -> list[Step]:
    web = f"web@{machine}"
    effects = {
        "drain": {"begin": (("drain", web),), "end": (("out", web),)},
        "stop": {"begin": (("out", web),)},
        "install": {"end": (("version", web, "2"),)},
        "start": {"end": (("serve", web),)},
    }
    lane: list[Step] = []
    for name, low, high in plain.STEPS:
        duration = Distribution(kind="uniform", parameters=(low, high))
        step = Step(
            id=f"code/{web}/{name}", target=web, on=machine, duration=duration, pools=(("forks", 1),),
            needs=(lane[-1].id,) if lane else (), after=() if lane else barrier,
            p_fail=plain.P_FAIL if name == "install" else 0.0, retries=plain.RETRIES if name == "install" else 0,
            retry_delay=fixed(plain.RETRY_DELAY_S), **effects[name],
        )  # fmt: skip
        lane.append(step)
    return lane
