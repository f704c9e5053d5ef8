"""Small environments and plans for tests, and random ones for laws that hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.models import Environment
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Crash, Plan, Release
from simdeploy.plan.progress import Progress, order
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.plan.trace import Trace
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


@st.composite
def undoable_plans(draw: Any) -> Plan:
    """Lanes in batches, up to two forward rounds of the same lanes, and the way back of each instance from wherever it is.

    Every gate says no, so each round is entered and the last one is rolled back; the first failure of a step aborts too.
    """
    check = draw(st.sampled_from([None, {"interval_s": 2.0, "fall": 3, "rise": 2}]))
    mid = {
        "role": draw(st.sampled_from(["stateless", "leader_elected", "quorum"])),
        "on": ["mid1", "mid2", "mid3"][: draw(st.integers(1, 3))],
    }
    env = canonical(draw(st.sampled_from([50.0, 200.0])), mid={**mid, "health_check": check}, web={"health_check": check})
    left = draw(st.permutations([*env.members("web"), *env.members("mid")]))
    batches: list[list[str]] = []
    while left:
        size = draw(st.integers(1, len(left)))
        batches, left = [*batches, left[:size]], left[size:]
    rounds = draw(st.integers(0, 2))
    steps = [s for part in range(rounds + 1) for s in _part(draw, batches, part, rounds)]
    return Plan(
        environment=env, steps=(*steps, *_way_back(draw, batches, rounds)), on_abort="rollback", horizon_s=3000.0,
        release=Release(p_bad=0.5, p_bad_fix=0.5, error_share=0.3),
    )  # fmt: skip


def _lane_ids(part: int, instance: str) -> tuple[str, str, str]:
    return (f"part{part}/{instance}/drain", f"part{part}/{instance}/install", f"part{part}/{instance}/start")


def _part(draw: Any, batches: list[list[str]], part: int, rounds: int) -> list[Step]:
    """The main section (0) or a forward round, its gate after any of its batches."""
    place: dict[str, Any] = {"section": "forward", "round": part} if part else {}
    gate_after, barrier, steps = draw(st.integers(0, len(batches) - 1)), (), []
    fatal = draw(st.booleans())
    for k, batch in enumerate(batches):
        for instance in batch:
            first, second, third = _lane_ids(part, instance)
            common: dict[str, Any] = {"target": instance, "on": instance.split("@")[1], "fatal": fatal, **place}
            take, give = draw(st.sampled_from(["drain", "kill"])), draw(st.sampled_from(["serve", "start"]))
            version = ("version", instance, f"2.{part}")
            steps += [
                Step(id=first, after=barrier, duration=draw(DURATIONS), begin=((take, instance),), **common),
                Step(id=second, needs=(first,), duration=draw(DURATIONS), begin=(("out", instance),), end=(version,), **common),
                Step(id=third, needs=(second,), duration=draw(DURATIONS), end=((give, instance),), **common),
            ]
        watch = tuple(i for instance in batch for i in _lane_ids(part, instance))
        steps.append(Step(id=f"part{part}/judge{k}", kind="judge", after=watch, judge=Judge(watch=watch, size=len(batch)), **place))
        barrier = (f"part{part}/judge{k}",)
        if k == gate_after:
            reaction = "forward" if part < rounds else "rollback"
            gate = Gate(sensitivity=1.0, false_alarms=1.0, reaction=reaction)
            steps.append(Step(id=f"part{part}/gate", kind="gate", after=barrier, duration=draw(DURATIONS), gate=gate, **place))
            barrier = (f"part{part}/gate",)
    return steps


def _way_back(draw: Any, batches: list[list[str]], rounds: int) -> list[Step]:
    """Out lanes of what the last part left half done, all at once; then back lanes of what it had done, the last batch first."""
    out: list[Step] = []
    back: list[Step] = []
    for instance in (i for batch in batches for i in batch):
        for part in range(rounds + 1):
            out += _undoing(draw, instance, part, rounds, "out")
    barrier = tuple(s.id for s in out)
    for batch in reversed(batches):
        lanes = [s for i in batch for part in range(rounds + 1) for s in _undoing(draw, i, part, rounds, "back", barrier)]
        back, barrier = [*back, *lanes], tuple(s.id for s in lanes)
    return [*out, *back]


def _undoing(draw: Any, instance: str, part: int, rounds: int, kind: str, waits: tuple[str, ...] = ()) -> list[Step]:
    """The lane that brings an instance back that *part* was the last to touch: half done (out) or done (back)."""
    first, _, last = _lane_ids(part, instance)
    guard = {"began": (first,), "unbegun": tuple(_lane_ids(k, instance)[0] for k in range(part + 1, rounds + 1))}
    guard["undone" if kind == "out" else "done"] = (last,)
    common: dict[str, Any] = {"section": "rollback", "target": instance, "on": instance.split("@")[1], **guard}
    taken, installed = f"undo/part{part}/{instance}/{kind}", f"undo/part{part}/{instance}/{kind}-install"
    give = draw(st.sampled_from(["serve", "start"]))
    return [
        Step(id=taken, after=waits, duration=draw(DURATIONS), begin=(("drain" if kind == "back" else "out", instance),), **common),
        Step(id=installed, needs=(taken,), duration=draw(DURATIONS), end=(("version", instance, "1"),), **common),
        Step(id=f"{installed}-start", needs=(installed,), duration=draw(DURATIONS), end=((give, instance),), **common),
    ]


@st.composite
def dying_plans(draw: Any) -> Plan:
    """The same with machines that die, some for good."""
    plan = draw(random_plans() | undoable_plans())
    machine, at_s = st.sampled_from([m.name for m in plan.environment.machines]), st.integers(0, 150).map(float)
    one = st.builds(Crash, machine=machine, at_s=at_s, for_s=st.sampled_from([None, 5.0, 40.0, 200.0]))
    dying = {"crashes": tuple(draw(st.lists(one, min_size=1, max_size=3))), "after_crash": draw(st.sampled_from(["retry", "abort"]))}
    return plan.model_copy(update=dying)


def assert_legal(plan: Plan, trace: Trace) -> None:
    """Replayed through a Progress every step of *trace* begins in its turn, none on a dead machine, and the run ends as it did."""
    progress, where = Progress(order(plan)), plan.wiring.position
    now, may_begin, dead = 0.0, set(progress.started()), set[str]()
    for record in trace:
        if record.kind == "crashed":
            dead.add(record.subject)
            progress.machine_down(record.subject)
        elif record.kind == "repaired":
            dead.remove(record.subject)
            progress.machine_up(record.subject)
        elif record.kind == "aborted" and plan.after_crash == "abort" and plan.steps[where[record.subject]].on in dead:
            progress.abort(plan.on_abort, where[record.subject])  # the death did, unless the step itself did before
        if record.kind not in ("began", "ended"):
            continue
        assert record.at_s >= now
        now, step = record.at_s, where[record.subject]
        if record.kind == "began":
            assert plan.steps[step].on not in dead, f"{record.subject} began on a dead machine"
            while step not in may_begin:
                verdicts, fresh = progress.judged(), progress.started()
                assert verdicts or fresh or progress.has_verdicts(), f"{record.subject} began before its turn"
                may_begin |= set(fresh)
            may_begin.remove(step)
        elif plan.steps[step].kind != "judge" and record.value in ("succeeded", "failed"):
            progress.ended(step, record.value)
    verdicts = progress.judged()
    assert not progress.started()
    while verdicts or progress.has_verdicts():
        verdicts = progress.judged()
        assert not progress.started()
    assert not may_begin and (progress.outcome or "stuck") == trace.outcome


def standing(plan: Plan, told: Trace) -> dict[str, tuple[bool, str]]:
    """Instance -> (whether it serves, its version) at the end of a trace, told from its records alone."""
    checked = {i for i, (s, _) in plan.environment.instances.items() if plan.environment.services[s].health_check}
    found = {i: (True, plan.environment.services[s].version) for i, (s, _) in plan.environment.instances.items()}
    steps = {s.id: s for s in plan.steps}
    for record in told:
        effects: tuple[Any, ...] = ()
        if record.kind == "began":
            effects = steps[record.subject].begin
        elif record.kind == "ended" and record.value == "succeeded":
            effects = steps[record.subject].end
        elif record.kind == "risen":
            effects = (("serve", record.subject),)
        for verb, instance, *argument in effects:
            serves, version = found[instance]
            if verb == "version":
                version = argument[0]
            elif verb != "start" or instance not in checked:
                serves = verb in ("serve", "start")
            found[instance] = serves, version
    return found
