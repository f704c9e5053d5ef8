"""The way back: from every point of random plans to the start, never below the way forward, without a trace where it is not needed."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import networkx as nx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument
from simdeploy.plan.following import Following, measure
from simdeploy.plan.layout import ABSENT, SERVING
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan
from simdeploy.plan.state import State
from simdeploy.plan.steps import Step
from simdeploy.plan.trace import Trace
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.scenario import Upgrade
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from simdeploy.vetting.capacity import front_door
from simdeploy.vetting.case import Case, Wanted
from simdeploy.vetting.section import Section
from simdeploy.vetting.shape import Shape
from simdeploy.vetting.ways_back import ways_back
from tests.builders import assert_legal
from tests.reference.adapter import PLANS

SECONDS = {
    "weigh": 5, "drain": 30, "await_idle": 5, "stop": 10, "install": 60, "configure": 5, "start": 20, "undrain": 1, "await_healthy": 7,
    "switch": 3, "hand_over": 2, "migrate": 90, "expand": 2, "backfill": 60, "index": 8, "contract": 4, "split": 4, "reconcile": 9,
    "back_up": 50, "restore": 70,
}  # fmt: skip
TIER_ACTIONS = ("weigh", "drain", "install", "start", "switch", "hand_over")
STORE_ACTIONS = ("migrate", "expand", "contract", "hand_over", "split", "reconcile", "back_up", "restore")
UNDONE_BY = {"undo": ["undo"]}


@st.composite
def environments(draw: Any) -> Environment:
    """Up to three tiers, each calling the next, some on the machines of the tier above; at times a store below them."""
    spread = draw(st.booleans())
    duration = (lambda s: {"uniform": [s * 0.5, s * 1.5]}) if spread else (lambda s: s)
    machines: dict[str, dict[str, Any]] = {}
    services: dict[str, dict[str, Any]] = {}
    tiers = [f"tier{k}" for k in range(draw(st.integers(1, 3)))]
    store = draw(st.booleans())
    before: list[str] = []
    for k, name in enumerate(tiers):
        count = draw(st.integers(1, 5))
        hosts = before[:count] if before and draw(st.integers(0, 3)) == 0 else []
        on = [*hosts, *(f"{name}m{j}" for j in range(count - len(hosts)))]
        before = on
        for j, machine in enumerate(on):
            machines.setdefault(machine, {"name": machine, "zone": f"z{j % 2}"})
        role = draw(st.sampled_from(["stateless", "stateless", "leader_elected", "quorum"]))
        optional = [a for a in ("await_idle", "stop", "configure", "undrain", "await_healthy") if draw(st.booleans())]
        check = draw(st.sampled_from([None, {"interval": 2.0, "fall": 3, "rise": 2}]))
        if check is None:
            optional = [a for a in optional if a != "await_healthy"]
        below = tiers[k + 1 : k + 2] or (["sql"] if store else [])
        calls = dict.fromkeys(below, 1) | ({"sql": 1} if store and draw(st.booleans()) else {})
        services[name] = {
            "role": role, "on": on, "capacity": 100, "calls": calls, "health_check": check,
            "election": {"detect": 6.0, "elect": 3.0, "prefer": draw(st.sampled_from(["plan_order", "upgraded"]))},
            "actions": {a: {"duration": duration(SECONDS[a])} for a in (*TIER_ACTIONS, "stop", *optional)},
        }  # fmt: skip
        if "stop" not in optional and draw(st.booleans()):
            del services[name]["actions"]["stop"]
    if store:
        on = [f"sqlm{j}" for j in range(draw(st.integers(1, 3)))]
        machines |= {m: {"name": m, "zone": f"z{j % 2}"} for j, m in enumerate(on)}
        optional = [a for a in ("backfill", "index") if draw(st.booleans())]
        actions: dict[str, dict[str, Any]] = {a: {"duration": duration(SECONDS[a])} for a in (*STORE_ACTIONS, *optional)}
        for action in ("migrate", "expand", "contract", "reconcile"):
            if draw(st.booleans()):
                actions[action]["undo"] = ["undo"]
            if action != "reconcile" and draw(st.integers(0, 4)) == 0:
                actions[action]["times"] = 2
        for action in ("expand", "backfill", "contract"):
            if action in actions:
                actions[action]["capacity_left"] = draw(st.sampled_from([0.0, 0.5, 1.0]))
        services["sql"] = {
            "role": "datastore", "on": on, "capacity": 1000,
            "failover": draw(st.sampled_from(["manual", "automatic"])),
            "election": {"detect": 6.0, "elect": 3.0}, "actions": actions,
            "store": {"copies": [{"kind": "standby"}] if len(on) > 1 else []},
        }  # fmt: skip
    patch = {"duration": 100} | draw(st.sampled_from([{}, {"undo": ["unpatch"]}]))
    whole = {"name": "shop", "machines": list(machines.values()), "entry": "tier0", "services": services}
    actions = {"allocate": {"duration": duration(40)}, "release": {"duration": duration(6)}, "patch": patch, "reboot": {"duration": 30}}
    return Environment.model_validate(whole | {"demand": {"rate_per_s": 50}, "actions": actions})


SIZES = st.one_of(st.integers(1, 4), st.sampled_from(["25 %", "50 %"]))
CUTS = st.one_of(
    st.sampled_from(["all", "canary", "halves", "by_zone"]).map(lambda word: {"batches": word}),
    st.lists(SIZES, min_size=1, max_size=3).map(lambda sizes: {"batches": sizes}),
    SIZES.map(lambda size: {"max_unavailable": size}),
)
NEW_MACHINES = st.one_of(
    SIZES.map(lambda size: {"max_surge": size}),
    st.tuples(SIZES, SIZES).map(lambda p: {"max_surge": p[0], "max_unavailable": p[1]}),
    st.sampled_from([0.0, 25.0]).map(lambda kept: {"blue_green": True, "keep_old": kept}),
)
PLACES = ("canary", "batch", "tier", "code", "end")


@st.composite
def scenarios(draw: Any) -> Upgrade:
    """Upgrades and patches in a random strategy that rolls back, with checks that never say no by themselves."""
    env = draw(environments())
    patched = [s for s in env.services if draw(st.integers(0, 3)) == 0]
    to = {s: "2" for s in env.services if s not in patched or (s != "sql" and draw(st.booleans()))}
    to = {s: v for s, v in to.items() if draw(st.integers(0, 5)) or not patched}
    forward = draw(st.integers(0, 2))
    services: dict[str, dict[str, Any]] = {}
    slices = draw(st.integers(0, 5)) == 0
    for s in {*to, *patched}:
        if s == "sql":
            if s in to:
                kind = draw(st.sampled_from(["offline", "expand_contract", "replica_first", "split"]))
                part = {"migration": kind, "back_up_first": draw(st.booleans())}
                if kind == "expand_contract":
                    part["restore_on_abort"] = draw(st.booleans())
            else:
                part = draw(st.sampled_from([{}, {"batches": 1}, {"batches": 1, "leader": "last", "hand_over": True}]))
        else:
            part = {} if slices else dict(draw(CUTS if forward or s in patched else st.one_of(CUTS, NEW_MACHINES)))
            role = env.services[s].role
            ways = [{}, {"take_out": "stop"}] + [{"take_out": "weigh", "weights": [0.5, 0.1]}] * (role == "stateless")
            part |= draw(st.sampled_from(ways))
            if role == "leader_elected":
                part |= draw(st.sampled_from([{}, {"leader": "last"}, {"leader": "first"}]))
                part |= draw(st.sampled_from([{}, {"hand_over": True}]))
        services[s] = part
    points = []
    for _ in range(draw(st.integers(1 if forward else 0, 2))):
        point = {"after": draw(st.sampled_from(PLACES)), "checks": ["look"], "bake": draw(st.sampled_from([0.0, 15.0]))}
        points.append(point | ({"on_bad": "forward", "rounds": forward} if forward else {}))
    strategy: dict[str, Any] = {"services": services, "on_abort": "rollback", "checkpoints": points}
    if slices:
        strategy["slices"] = draw(st.sampled_from(["by_zone"]))
    elif draw(st.integers(0, 2)) == 0:
        order = draw(st.permutations(sorted({*to, *patched})))
        strategy["order"] = draw(st.sampled_from([[order], [[s] for s in order], [order[:1], order[1:]] if order[1:] else [order]]))
    data = {
        "scenario": "upgrade", "name": "random", "environment": env, "to": to, "patch": patched, "fix": 30.0, "horizon": 20000.0,
        "checks": {"look": {"duration": 12}}, "strategies": {"s": strategy},
    }  # fmt: skip
    try:
        return Upgrade.model_validate(data)
    except InvalidDocument:
        assume(False)
        raise


def told_by(plan: Plan, replication: int = 0) -> Trace:
    """The trace of one run."""
    engine = Engine(plan)
    return engine.trace(Draws(plan, 3, replication, 1, engine.names))


def course(plan: Plan, told: Trace) -> tuple[State, list[tuple[float, float]]]:
    """The state at the end, and (moment, capacity from then on) while the plan ran."""
    following = Following(plan)
    points: list[tuple[float, float]] = []
    for at_s, records in itertools.groupby(told, key=lambda r: r.at_s):
        for record in records:
            following.tell(record)
        points.append((at_s, following.capacity_per_s()))
    return following.state, points


def assert_at_rest(plan: Plan, told: Trace, versions: Mapping[str, str], absent: Collection[str], exempt: Collection[str] = ()) -> None:
    """Everything serves these versions at its normal weight, or is *absent*; no store is split, each leader serves."""
    state, _ = course(plan, told)
    layout = state.layout
    for i, name in enumerate(layout.instances):
        condition, service = layout.conditions[state.codes[i]], plan.environment.instances[name][0]
        if name in absent:
            assert condition.mode == ABSENT, name
            continue
        assert condition.mode == SERVING, (name, condition)
        if layout.services[layout.service_of[i]].role != "datastore":
            assert condition.version == versions[service], (name, condition)
        assert condition.weight == condition.factor == 1.0, (name, condition)
    assert not state.split
    for s, name in enumerate(layout.service_names):
        leader = state.leaders[s] if layout.leading[s] else None
        assert not layout.leading[s] or (leader is not None and state.mode(leader) == SERVING), name
        if layout.services[s].role == "datastore" and name not in exempt:
            assert state.schemas[s] == versions[name], name


def failing(plan: Plan, step: Step) -> Plan:
    """*plan* in which this step fails for certain; a gate says no."""
    if step.gate is not None:
        changed = step.model_copy(update={"gate": step.gate.model_copy(update={"sensitivity": 1.0, "false_alarms": 1.0})})
    else:
        changed = step.model_copy(update={"p_fail": 1.0, "retries": 0})
    return plan.model_copy(update={"steps": tuple(changed if s.id == step.id else s for s in plan.steps)})


def may_fail(step: Step) -> bool:
    """Whether a recipe or a check stands behind this step: what only waits does not fail."""
    return step.kind != "judge" and step.action.partition("#")[0] not in ("bake", "keep_old", "fix")


def aborts(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """*plan* with each of its steps failing in turn; those of round k after a gate of each earlier part has gone forward."""
    yield from ((s.id, failing(plan, s)) for s in plan.steps if s.section == "main" and may_fail(s))
    gates = [s for s in plan.steps if s.gate is not None and s.gate.reaction == "forward"]
    for r in range(1, max((s.part for s in plan.steps), default=0) + 1):
        for gate in (g for g in gates if g.part == r - 1):
            base = plan
            for earlier in range(r - 1):
                base = failing(base, next(g for g in gates if g.part == earlier))
            base = failing(base, gate)
            yield f"{gate.id}, nothing else", base
            yield from ((f"{gate.id}, {s.id}", failing(base, s)) for s in plan.steps if s.part == r and may_fail(s))


def assert_undone(plan: Plan, told: Trace) -> None:
    """What the state does not show is taken back too: patches that have an undo, and migrations of single members."""
    steps, env = {s.id: s for s in plan.steps}, plan.environment
    did = [steps[r.subject] for r in told if r.kind == "ended" and r.value == "succeeded"]
    patches = [(s.section, s.target) for s in did if s.action.endswith("patch") and s.target in env.instances]
    if env.actions["patch"].undo:
        machines = [{env.instances[i][1] for section, i in patches if (section == "rollback") == back} for back in (False, True)]
        assert machines[0] <= machines[1]
    members = [(s.section, s.target) for s in did if s.action.startswith("migrate") and s.target in env.instances]
    assert {i for section, i in members if section != "rollback"} <= {i for section, i in members if section == "rollback"}


def cases_of(plan: Plan, limit: int) -> list[tuple[str, Plan]]:
    """At most so many of the plan's aborts, spread over all of them."""
    cases = list(aborts(plan))
    return random.Random(len(cases)).sample(cases, min(limit, len(cases)))


def check_back(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """An abort ends at the start, or halts past a step that cannot be undone; what goes forward to the end is all new."""
    env = scenario.environment
    old = {name: service.version for name, service in env.services.items()}
    past = {s.id for s in plan.steps if s.no_return}
    expanded = [n for n, s in env.services.items() if s.role == "datastore" and n in scenario.to and not s.actions["expand"].undo]
    expanded = [n for n in expanded if scenario.partition(scenario.strategies["s"], n).migration == "expand_contract"]
    for name, bad in cases_of(plan, limit):
        told = told_by(bad)
        began = {r.subject for r in told if r.kind == "began"}
        reactions = [str(r.value) for r in told if r.kind == "aborted"]
        try:
            if not reactions:  # what only follows a migration does not abort
                assert told.outcome == "partial"
                assert name.split("/")[-1].partition("#")[0] in ("backfill", "index", "contract")
            elif told.outcome in ("success", "partial"):
                assert set(reactions) == {"forward"}
                new = {n: v if env.services[n].role == "datastore" else f"{v}+fix{len(reactions)}" for n, v in scenario.to.items()}
                if told.outcome == "success":
                    assert_at_rest(bad, told, old | new, plan.start.absent)
            elif began & past:
                assert told.outcome == "halted"
            else:
                assert told.outcome == "rolled_back"
                assert_at_rest(bad, told, old, plan.start.absent, expanded)
                assert_undone(bad, told)
        except AssertionError as error:
            raise AssertionError(f"when {name} fails: {error}") from error


def lowest(points: list[tuple[float, float]], since_s: float) -> float:
    """The lowest capacity of those that lasted for any time from *since_s* on, and of the last one."""
    return min(c for (at, c), (end, _) in zip(points, [*points[1:], (math.inf, 0.0)], strict=True) if end > since_s and end > at)


def check_floor(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """The way back never goes below the way forward, nor below where it began.

    It may begin lower: a forward round goes on beside what the round before left half done. Two things are left out by
    the model. Elections and hand-overs leave no leader for a while, on the way forward too, so the floor is 0 there; a
    restore takes the primary out, which nothing on the way forward did.
    """
    floors = {r: lowest(course(plan, told_by(plan, r))[1], 0.0) for r in range(3)}
    for k, (name, bad) in enumerate(cases_of(plan, limit)):
        told = told_by(bad, k % 3)
        back = [r.at_s for r in told if r.kind == "aborted" and r.value == "rollback"]
        restored = any(r.kind == "began" and "/restore-" in r.subject for r in told)
        if back and not restored:
            points = course(bad, told)[1]
            floor = min(floors[k % 3], *(c for at, c in points if at == back[0]))
            assert lowest(points, back[0]) >= floor - 1e-9, f"when {name} fails: {lowest(points, back[0])} below {floor}"


def check_vetted_floor(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """No way back goes below what vetting finds for the ways back from all points, nor below where it began.

    It may begin lower: a hand-over that has failed leaves an election behind, which lasts for a while.
    """
    shape = Shape(plan)
    cases = ways_back(Case(Section(shape), Wanted(shape)))
    floor = min((front_door(case.floors).least_per_s for case in cases), default=math.inf)  # without one nothing may go back
    for k, (name, bad) in enumerate(cases_of(plan, limit)):
        told = told_by(bad, k % 3)
        back = [r.at_s for r in told if r.kind == "aborted" and r.value == "rollback"]
        if back:
            points = course(bad, told)[1]
            least = min(floor, *(c for at, c in points if at == back[0]))
            assert lowest(points, back[0]) >= least - 1e-9, f"when {name} fails: {lowest(points, back[0])} below the vetted {floor}"


def check_halting_floor(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """The same where three in ten steps of the way back fail: the first failure halts it, and what has begun ends."""
    unsure = tuple(s.model_copy(update={"p_fail": 0.3}) if s.section == "rollback" and may_fail(s) else s for s in plan.steps)
    check_floor(scenario, plan.model_copy(update={"steps": unsure}), limit)


def check_halt(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """A halt leaves no lane half done: of what is bound by `needs` all steps end if any has begun. Blue and green are left out."""
    bound = nx.Graph((n, s.id) for s in plan.steps for n in (s.id, *s.needs) if {s.id[:5], n[:5]} <= {"code/", "patch"})
    lanes = {step: k for k, together in enumerate(nx.connected_components(bound)) for step in together}
    if any(s.action == "switch" for s in plan.steps):
        return
    for name, bad in cases_of(plan, limit):
        halting = tuple(s.model_copy(update={"gate": s.gate.model_copy(update={"reaction": "halt"})}) if s.gate else s for s in bad.steps)
        told = told_by(bad.model_copy(update={"on_abort": "halt", "steps": halting}))
        if told.outcome != "halted":
            continue
        began, ended = ({r.subject for r in told if r.kind == kind} for kind in ("began", "ended"))
        begun = {lanes[step] for step in began if step in lanes}
        left = [step for step, k in lanes.items() if k in begun and step not in ended]
        assert not left, f"when {name} fails: {left} never end"


def check_free(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """Without a fault there is no trace of the way back: the same metrics as without one."""
    strategy = scenario.strategies["s"]
    points = tuple(p.model_copy(update={"on_bad": "halt"}) for p in strategy.checkpoints)
    halting = strategy.model_copy(update={"on_abort": "halt", "checkpoints": points})
    bare = build_plans(scenario.model_copy(update={"strategies": {"s": halting}}))["s"]

    assert {"main"} == {s.section for s in bare.steps} or not bare.steps
    told = told_by(plan)
    sections = {s.id: s.section for s in plan.steps}
    assert told.outcome == "success"
    assert {"main"} >= {sections[r.subject] for r in told if r.kind in ("began", "ended")}
    assert measure(bare, told_by(bare)).values == measure(plan, told).values


def check_history(scenario: Upgrade, plan: Plan, limit: int) -> None:
    """Every trace is a legal history, and its metrics are those of the run."""
    for _, bad in cases_of(plan, limit):
        told = told_by(bad, 1)
        assert_legal(bad, told)
        engine = Engine(bad)
        draws = Draws(bad, 3, 1, 1, engine.names)
        online = metrics_of(bad, engine.book, list(engine.runs(draws)), [draws.phases(0)])
        offline = measure(bad, told, draws.phases(0)).values
        for metric, values in online.items():
            assert offline[metric] == (None if math.isnan(values[0]) else pytest.approx(values[0])), metric


MANY = settings(max_examples=30, suppress_health_check=list(HealthCheck))


@MANY
@given(scenarios())
def test_from_every_point_everything_comes_back(scenario):
    check_back(scenario, build_plans(scenario)["s"], 12)


@MANY
@given(scenarios())
def test_the_way_back_never_goes_below_the_way_forward(scenario):
    check_floor(scenario, build_plans(scenario)["s"], 10)


@MANY
@given(scenarios())
def test_11_no_way_back_goes_below_the_vetted_floor(scenario):
    check_vetted_floor(scenario, build_plans(scenario)["s"], 10)


@MANY
@given(scenarios())
def test_a_way_back_that_fails_itself_never_goes_below_the_way_forward(scenario):
    check_halting_floor(scenario, build_plans(scenario)["s"], 10)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))  # lanes of several instances in stages side by side are rare
@given(scenarios())
def test_a_halt_leaves_no_lane_half_done(scenario):
    check_halt(scenario, build_plans(scenario)["s"], 20)


@MANY
@given(scenarios())
def test_a_run_without_a_fault_has_the_metrics_of_a_plan_without_a_way_back(scenario):
    check_free(scenario, build_plans(scenario)["s"], 0)


@MANY
@given(scenarios())
def test_every_rollback_is_a_legal_history_with_the_metrics_of_its_run(scenario):
    check_history(scenario, build_plans(scenario)["s"], 4)


def test_a_halt_by_a_check_keeps_the_old_set_of_blue_and_green():
    actions = {a: {"duration": 10} for a in ("drain", "install", "start", "switch")}
    env = {
        "name": "two", "machines": [{"name": "m0"}, {"name": "m1"}], "entry": "web", "demand": {"rate_per_s": 50},
        "services": {"web": {"on": ["m0", "m1"], "capacity": 40, "actions": actions}}, "actions": {"allocate": {"duration": 5}},
    }  # fmt: skip
    point = {"after": "tier", "checks": ["no"], "on_bad": "halt"}
    data = {
        "scenario": "upgrade", "name": "two", "environment": Environment.model_validate(env), "to": {"web": "2"},
        "checks": {"no": {"false_alarms": 1}}, "strategies": {"s": {"checkpoints": [point], "services": {"web": {"blue_green": True}}}},
    }  # fmt: skip
    told = told_by(build_plans(Upgrade.model_validate(data))["s"])

    assert "halted" == told.outcome
    assert not [r.subject for r in told if r.kind == "began" and r.subject.endswith("/release")]


def test_a_writer_that_cannot_be_stopped_aborts_an_offline_migration_at_once():
    """Two boxes drain for 10 s, and one cannot be stopped at 20 s: nobody waits for what the other one installs, though one may fail."""
    actions = {a: {"duration": 10} for a in ("drain", "stop", "install", "start")}
    env = {
        "name": "shop", "machines": [{"name": m} for m in ("m0", "m1", "db")], "entry": "web", "demand": {"rate_per_s": 50},
        "services": {
            "web": {"on": ["m0", "m1"], "capacity": 40, "calls": {"sql": 1}, "actions": actions},
            "sql": {"role": "datastore", "on": ["db"], "actions": {"migrate": {"duration": 60, "undo": ["undo"]}}},
        },
    }  # fmt: skip
    data = {
        "scenario": "upgrade", "name": "shop", "environment": Environment.model_validate(env), "to": {"web": "2", "sql": "2"},
        "strategies": {"s": {"max_failures": 1, "on_abort": "rollback", "services": {"sql": {"migration": "offline"}}}},
    }  # fmt: skip
    plan = build_plans(Upgrade.model_validate(data))["s"]
    told = told_by(failing(plan, next(s for s in plan.steps if s.id == "code/web@m0/stop")))

    assert [(20, "code/web@m0/stop", "rollback")] == [(r.at_s, r.subject, r.value) for r in told if r.kind == "aborted"]
    assert "rolled_back" == told.outcome


REFERENCE = {
 "drain": {"duration": "30 s"}, "stop": {"duration": "10 s"}, "install": {"duration": "120 s"}, "start": {"duration": "20 s"},
}  # fmt: skip


def reference_plan(tmp_path: pathlib.Path) -> Plan:
    """The scenario of the reference plans, from YAML: web and then the middle tier one by one, a gate of 300 s at the end."""
    services = {
        "lb": {"on": ["lb1"], "calls": {"web": 1}},
        "web": {"on": ["web1", "web2"], "capacity": "300 req/s", "calls": {"mid": 1.5}, "actions": REFERENCE},
        "mid": {"on": ["mid1", "mid2"], "capacity": "200 req/s", "calls": {"sql": 2}, "actions": REFERENCE},
        "sql": {"role": "datastore", "on": ["sql1"], "capacity": "500 req/s"},
        "mon": {"role": "monitoring", "on": ["mon1"]},
    }
    machines = [{"name": m} for m in ("lb1", "web1", "web2", "mid1", "mid2", "sql1", "mon1")]
    env = {"format": 1, "name": "e", "machines": machines, "entry": "lb", "services": services, "demand": {"rate": "120 req/s"}}
    point = {"after": "end", "checks": ["look"]}
    one = {"batches": 1}
    strategy = {"order": ["web", "mid"], "on_abort": "rollback", "checkpoints": [point], "services": {"web": one, "mid": one}}
    scenario = {
        "format": 1, "scenario": "upgrade", "environment": "e.yaml", "to": {"web": "2", "mid": "2"}, "horizon": "1 s",
        "checks": {"look": {"duration": "300 s"}}, "strategies": {"s": strategy},
    }  # fmt: skip
    (tmp_path / "e.yaml").write_text(json.dumps(env))
    (tmp_path / "s.yaml").write_text(json.dumps(scenario))
    return build_plans(load_scenario(tmp_path / "s.yaml"))["s"]


@pytest.mark.parametrize(
    ("reference", "fails"),
    [
        ("abort-at-a-drain", "code/web@web2/drain"),
        ("abort-at-last-start", "code/mid@mid2/start"),
        ("bad-release-rollback", "validate/s/look#1"),
    ],
)
def test_the_way_back_has_the_numbers_of_one_that_was_written_by_another_hand(tmp_path, reference, fails):
    """Web and middle boxes take 180 s each, back the same, a failed start 20 s more: 180 + 30 + 20 + 180, and so on."""
    document = json.loads((PLANS / f"{reference}.json").read_text())["metrics"]
    plan = reference_plan(tmp_path)

    found = measure(plan, told := told_by(failing(plan, next(s for s in plan.steps if s.id == fails)))).values

    assert document.pop("outcome") == told.outcome
    assert {m: None if v is None else pytest.approx(v, abs=1e-6) for m, v in document.items()} == {m: found[m] for m in document}


def four_boxes(**strategy: Any) -> Plan:
    """Four boxes of 40 req/s one by one, the third of which fails on the way forward, and the first and second on the way back."""
    actions = {a: {"duration": 10} for a in ("drain", "install", "start")}
    env = {
        "name": "four", "machines": [{"name": f"m{k}"} for k in range(4)], "entry": "web", "demand": {"rate_per_s": 50},
        "services": {"web": {"on": [f"m{k}" for k in range(4)], "capacity": 40, "actions": actions}},
    }  # fmt: skip
    strategy = {"on_abort": "rollback", "services": {"web": {"batches": [1]}}} | strategy
    data = {"scenario": "upgrade", "name": "four", "environment": Environment.model_validate(env), "to": {"web": "2"}, "horizon": 1000}
    data["checks"] = {"no": {"sensitivity": 1, "false_alarms": 1}}
    plan = build_plans(Upgrade.model_validate(data | {"strategies": {"s": strategy}}))["s"]
    bad = ("code/web@m2/install", "rollback/web@m1/install", "rollback/web@m0/install")
    steps = tuple(s.model_copy(update={"p_fail": 1.0}) if s.id in bad else s for s in plan.steps)
    return plan.model_copy(update={"steps": steps})


@pytest.mark.parametrize(
    ("strategy", "out", "makespan_s", "capacity_per_s"),
    [
        # forward 30, 30, 20 until the third fails; the third back in 20, the second out and failed in 20, and no further
        ({}, 1, 30 + 30 + 20 + 20 + 20, 120),
        # a failure of the plan's four is put up with: forward the third, and the fourth in 30; back the fourth as well, and the
        # third, the second fails in 20 and is put up with, the first fails in 20 and is too many
        ({"max_failures": "25 %", "failures_of": "plan", "checkpoints": [{"after": "end", "checks": ["no"]}]}, 2, 110 + 20 + 30 + 40, 80),
    ],
)
def test_a_way_back_that_fails_halts_where_the_way_forward_would(strategy, out, makespan_s, capacity_per_s):
    plan = four_boxes(**strategy)
    found = measure(plan, told := told_by(plan)).values

    assert "halted" == told.outcome
    assert (out, makespan_s, capacity_per_s) == (found["out_at_end"], found["makespan_s"], found["capacity_min"])


@pytest.mark.parametrize("partition", [{"batches": "10 %"}, {"max_surge": "10 %"}, {"blue_green": True}])
def test_a_plan_stays_linear_in_the_number_of_its_machines(partition):
    for count in (10, 200):
        machines = [f"m{k}" for k in range(count)]
        actions = {a: {"duration": 5} for a in ("drain", "stop", "install", "start", "switch")}
        env = {
            "name": "farm", "machines": [{"name": m} for m in machines], "entry": "web", "demand": {"rate_per_s": 1},
            "services": {"web": {"on": machines, "capacity": 10, "actions": actions}},
            "actions": {"allocate": {"duration": 5}, "patch": {"duration": 5}},
        }  # fmt: skip
        forward = [] if {"max_surge", "blue_green"} & set(partition) else [{"after": "batch", "checks": ["look"], "on_bad": "forward"}]
        strategy = {"on_abort": "rollback", "checkpoints": forward, "services": {"web": partition}}
        data = {
            "scenario": "upgrade", "name": "farm", "environment": Environment.model_validate(env), "to": {"web": "2"}, "fix": 5,
            "checks": {"look": {}}, "strategies": {"s": strategy},
        }  # fmt: skip
        plan = build_plans(Upgrade.model_validate(data))["s"]
        words = sum(len(s.needs) + len(s.after) + len(s.began) + len(s.done) + len(s.undone) + len(s.unbegun) for s in plan.steps)
        words += sum(len(s.judge.watch) for s in plan.steps if s.judge)

        assert len(plan.steps) <= 45 * count
        assert words <= 4 * len(plan.steps)
