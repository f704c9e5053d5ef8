"""Laws of every partition: nothing outside a batch is touched, everything ends new, new machines keep to their number."""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simdeploy.environment.files import load_environment
from simdeploy.environment.models import Environment
from simdeploy.errors import FileError, InvalidDocument
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.planning.built_in import BUILT_IN
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.scenario import Upgrade
from simdeploy.report.reports import name_of, scenario_files
from simdeploy.simulation.outcome import simulate, trace

SCENARIOS = pathlib.Path(__file__).parents[2] / "scenarios"
FILES = [path for path in scenario_files(SCENARIOS) if type(load_scenario(path)) is Upgrade]
MODES = {"drain": "away", "out": "away", "kill": "away", "start": "away", "serve": "serving", "remove": "absent"}
CARRIED = {"drain", "undrain", "weigh", "await_idle", "await_healthy", "switch"}
"""What is done to an instance from another machine: its balancer's."""


def environments() -> Iterator[pathlib.Path]:
    for path in sorted(SCENARIOS.rglob("*.yaml")):
        try:
            load_environment(path)
        except FileError:
            continue
        yield path


def action_of(step: Step) -> str:
    """What is done, of a step of a rollback as well."""
    return step.action.split("#")[0].removeprefix("out-").removeprefix("back-")


def batches_of(plan: Plan) -> dict[str, set[str]]:
    """Judge -> the instances whose lanes it watches, with all else on a machine that is patched."""
    steps = {s.id: s for s in plan.steps}
    instances = plan.environment.instances
    found: dict[str, set[str]] = {}
    for judge in (s for s in plan.steps if s.judge is not None):
        watched = [steps[w] for w in judge.judge.watch]
        batch = {s.target for s in watched if s.target in instances}
        patched = {instances[s.target][1] for s in watched if action_of(s) == "patch"}
        found[judge.id] = batch | {i for i, (_, machine) in instances.items() if machine in patched}
    return found


def allowed_on(plan: Plan, step: Step) -> set[str]:
    """Machines that may execute *step*: the operator's desk, the target's own, and a balancer's for what is done there."""
    env = plan.environment
    service = step.target.split("@")[0]
    action = action_of(step)
    own = {env.instances[i][1] for i in env.instances if i == step.target or (step.target == service and i in env.members(service))}
    recipe = env.services[service].actions.get(action)  # type: ignore[call-overload]
    declared = {recipe.on} if recipe is not None and recipe.on and action in CARRIED else set()
    return {"", *own, *declared}


def touched(step: Step) -> set[str]:
    """The instances that *step* slows, or whose mode, version or weight it changes."""
    changed = {str(e[1]) for e in (*step.begin, *step.end) if e[0] in {*MODES, "version", "weight"}}
    return changed | {i for i, _ in step.slow}


def check_batches(plan: Plan) -> None:
    batches, steps = batches_of(plan), {s.id: s for s in plan.steps}
    lanes = {w: j.id for j in plan.steps if j.judge is not None for w in j.judge.watch}
    for step in (s for s in plan.steps if s.kind == "step" and (s.target or touched(s))):  # waiting touches nothing
        service = step.target.split("@")[0]
        assert step.on in allowed_on(plan, step), step.id
        moved = [e for e in (*step.begin, *step.end) if e[0] == "lead"]
        assert all(e[1] == service and (e[2] is None or e[2] in plan.environment.members(service)) for e in moved), step.id
        assert not moved or action_of(step) == "hand_over", step.id
        if step.id in lanes and step.target in plan.environment.instances:
            assert touched(step) <= batches[lanes[step.id]], step.id
        elif action_of(step) == "switch":  # green serves when blue begins to leave
            assert touched(step) <= set(plan.start.absent) & set(plan.environment.members(service)), step.id
        else:  # the data layer; a new member is seeded from the primary, which it slows
            seeding = action_of(step) == "seed"
            assert touched(step) <= {i for i in plan.environment.members(service) if seeding or step.target in (i, service)}, step.id
    assert all(steps[w].kind == "step" for w in lanes)


def course(plan: Plan, replication: int = 0) -> Iterator[tuple[float, dict[str, str], dict[str, str]]]:
    """(moment, instance -> mode, instance -> version) after each moment at which steps began or ended, folded from the trace."""
    env, steps = plan.environment, {s.id: s for s in plan.steps}
    modes = {i: "absent" if i in plan.start.absent else "away" if i in plan.start.out else "serving" for i in env.instances}
    versions = {i: env.services[s].version for i, (s, _) in env.instances.items()}
    records = [r for r in trace(plan, 7, replication) if r.subject in steps and r.kind in ("began", "ended")]
    for at_s, group in itertools.groupby(records, key=lambda r: r.at_s):
        for r in group:
            step = steps[r.subject]
            effects = step.begin if r.kind == "began" else step.end if r.value == "succeeded" else ()
            for effect in effects:
                if effect[0] in MODES:
                    modes[str(effect[1])] = MODES[str(effect[0])]
                elif effect[0] == "version":
                    versions[str(effect[1])] = str(effect[2])
        yield at_s, dict(modes), dict(versions)


def check_course(scenario: Upgrade, plan: Plan, replication: int = 0) -> None:
    """Who is away at one time goes in one batch; at the end everything serves, and what was to be new is."""
    batches = batches_of(plan)
    moments = list(course(plan, replication))
    for _, modes, _ in moments:
        for service in scenario.environment.services:
            away = {i for i in plan.environment.members(service) if modes[i] == "away"}
            migrating = scenario.environment.services[service].role == "datastore" and service in scenario.to
            assert len(away) <= 1 or migrating or any(away <= batch for batch in batches.values()), away
    _, modes, versions = moments[-1]
    assert "away" not in modes.values()
    for instance, mode in modes.items():
        service = plan.environment.instances[instance][0]
        if service in scenario.to and scenario.environment.services[service].role != "datastore" and mode == "serving":
            assert scenario.to[service] == versions[instance]
    for service in scenario.environment.services:
        serving = sum(modes[i] == "serving" for i in plan.environment.members(service))
        assert len(scenario.environment.members(service)) == serving


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_shipped_plan_touches_anything_outside_a_batch(path):
    for plan in build_plans(load_scenario(path)).values():
        check_batches(plan)


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "partitions"], ids=name_of)
def test_who_is_away_at_one_time_goes_in_one_batch(path):
    scenario = load_scenario(path)
    for plan in build_plans(scenario).values():
        check_course(scenario, plan)


def upgradable(env: Environment) -> list[str]:
    """The services with a recipe for a new version and for leaving behind a drain, and the stores with one for a new schema."""
    actions = {name: service.actions.keys() for name, service in env.services.items()}
    return [name for name, own in actions.items() if {"drain", "install"} <= own or {"migrate", "expand"} & own]


@pytest.mark.parametrize("path", [p for p in environments() if upgradable(load_environment(p))], ids=name_of)
def test_every_built_in_strategy_that_fits_leaves_every_instance_new_and_serving(path):
    env = load_environment(path)
    to = {
        name: "next"
        for name, s in env.services.items()
        if {"drain", "install"} <= s.actions.keys() or {"migrate", "expand"} & s.actions.keys()
    }
    patch = [name for name, s in env.services.items() if "patch" in env.actions and s.role != "monitoring" and name not in to]
    patch = [name for name in patch if not any(env.machines[env.machine_index[m]].hosted for m in env.services[name].on)]
    if not to and not patch:
        return
    scenario = Upgrade.model_validate({"scenario": "upgrade", "name": "all", "environment": env, "to": to, "patch": patch})

    assert len(scenario.strategies) >= 3
    for plan in map(without_failures, build_plans(scenario).values()):
        check_batches(plan)
        for replication in range(5):
            check_course(scenario, plan, replication)


def without_failures(plan: Plan) -> Plan:
    """The plan in which no step fails and no machine dies."""
    machines = tuple(m.model_copy(update={"mtbf_s": None, "repair": None}) for m in plan.environment.machines)
    env = plan.environment.model_copy(update={"machines": machines})
    return plan.model_copy(update={"environment": env, "steps": tuple(s.model_copy(update={"p_fail": 0.0}) for s in plan.steps)})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_built_in_strategy_that_comes_to_the_same_as_another_makes_the_same_plan(path):
    scenario = load_scenario(path)
    whys = {name: why for name, why in scenario.misfits().items() if why is not None and why.startswith("comes to the same as")}
    fitting = [name for name, why in scenario.misfits().items() if why is None]

    strategies = {name: {"use": name} for name in [*fitting, *whys]}
    plans = build_plans(Upgrade.model_validate(dict(scenario) | {"strategies": strategies, "baseline": None}))
    assert all(plans[name].steps == plans[why.split()[5]].steps for name, why in whys.items())


def test_every_built_in_strategy_fits_some_shipped_environment():
    fitting: set[str] = set()
    for scenario in map(load_scenario, FILES):
        fitting |= {name for name, why_not in scenario.misfits().items() if why_not is None}

    assert set(BUILT_IN) == fitting


ACTIONS = {
    "weigh": 5, "drain": 30, "await_idle": 5, "stop": 10, "install": 60, "configure": 5, "start": 20, "undrain": 1, "await_healthy": 7,
    "switch": 3, "hand_over": 2,
}  # fmt: skip
DATA = {"migrate": 90, "expand": 2, "backfill": 60, "contract": 2, "hand_over": 5, "split": 4, "reconcile": 9, "back_up": 50}


def recipes(seconds: dict[str, int]) -> dict[str, Any]:
    return {action: {"duration": s} for action, s in seconds.items()}


def shop(web: int, middle: int, sql: int, role: str = "stateless", zones: int = 2) -> Environment:
    """web -> middle -> sql with every recipe; machines take turns in zones and update domains."""
    names = {"web": web, "middle": middle, "sql": sql}
    machines = [
        {"name": f"{name}{k}", "zone": f"z{k % zones}", "update_domain": f"d{k % 3}"} for name, count in names.items() for k in range(count)
    ]
    on = {name: [f"{name}{k}" for k in range(count)] for name, count in names.items()}
    balanced = {action: {"duration": s, "on": "lb"} if action in CARRIED else {"duration": s} for action, s in ACTIONS.items()}
    services = {
        "balancer": {"on": ["lb"], "calls": {"web": 1}},
        "web": {"on": on["web"], "capacity_per_s": 100, "calls": {"middle": 1}, "actions": balanced},
        "middle": {"role": role, "on": on["middle"], "capacity_per_s": 100, "calls": {"sql": 1}, "actions": recipes(ACTIONS)},
        "sql": {"role": "datastore", "on": on["sql"], "capacity_per_s": 500, "actions": recipes(DATA)},
    }
    actions = recipes({"allocate": 40, "release": 6, "patch": 100, "reboot": 30})
    whole = {"name": "shop", "machines": [{"name": "lb", "hosted": True}, *machines], "entry": "balancer", "services": services}
    return Environment.model_validate(whole | {"demand": {"rate_per_s": 50}, "actions": actions})


SHARES = st.integers(1, 100).map(lambda n: f"{n} %")
SIZES = st.one_of(st.integers(1, 6), SHARES)
CUTS = st.one_of(
    st.sampled_from(["all", "canary", "halves", "by_zone", "by_update_domain"]).map(lambda word: {"batches": word}),
    st.lists(SIZES, min_size=1, max_size=3).map(lambda sizes: {"batches": sizes}),
    st.tuples(SIZES, st.sampled_from(["kubernetes", "pdb"])).map(lambda p: {"max_unavailable": p[0], "rounding": p[1]}),
    SIZES.map(lambda size: {"max_surge": size}),
    st.tuples(SIZES, SIZES).map(lambda p: {"max_surge": p[0], "max_unavailable": p[1]}),
    SHARES.map(lambda share: {"min_available": share}),
    SHARES.map(lambda share: {"minimum_healthy": share}),
    st.sampled_from([0.0, 25.0]).map(lambda kept: {"blue_green": True, "keep_old": kept}),
)


@st.composite
def scenarios(draw: Any) -> Upgrade:
    """Upgrades and patches of random shops in random partitions that make sense."""
    role = draw(st.sampled_from(["stateless", "leader_elected", "quorum"]))
    env = shop(draw(st.integers(1, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 3)), role, draw(st.integers(1, 3)))
    patched = draw(st.booleans())
    web = draw(CUTS) | draw(st.sampled_from([{}, {"take_out": "stop"}, {"take_out": "weigh", "weights": [0.5, 0.1]}]))
    middle = draw(CUTS) | draw(st.sampled_from([{}, {"take_out": "stop"}]))
    if role == "leader_elected":
        middle |= draw(
            st.sampled_from([{}, {"leader": "last"}, {"leader": "first"}, {"leader": "last", "hand_over": True}, {"hand_over": True}])
        )
    sql: dict[str, Any] = {"migration": draw(st.sampled_from(["offline", "expand_contract", "replica_first", "split"]))}
    if patched:
        sql = draw(st.sampled_from([{}, {"batches": 1}, {"batches": 1, "leader": "last", "hand_over": True}]))
    strategy: dict[str, Any] = {"services": {"web": web, "middle": middle, "sql": sql}}
    if draw(st.booleans()):
        strategy["order"] = [["sql", "web", "middle"]] if patched else [["sql"], ["web", "middle"]]
    if draw(st.integers(0, 4)) == 0:
        strategy = {"services": {"sql": sql}, "slices": draw(st.sampled_from(["by_zone", "by_update_domain"]))}
    what: dict[str, Any] = {"patch": ["web", "middle", "sql"]} if patched else {"to": {"web": "2", "middle": "2", "sql": "2"}}
    data = {"scenario": "upgrade", "name": "random", "environment": env, "strategies": {"s": strategy}, **what}
    try:
        return Upgrade.model_validate(data)
    except InvalidDocument:
        assume(False)
        raise


@settings(max_examples=120, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(scenarios())
def test_no_random_partition_touches_anything_outside_a_batch_and_all_ends_new(scenario):
    plan = build_plans(scenario)["s"]

    check_batches(plan)
    check_course(scenario, plan)


def whole(n: int, size: int | str, up: bool) -> int:
    """Kubernetes' rounding: surge up, unavailable down."""
    exact = Fraction(size) if isinstance(size, int) else Fraction(size.removesuffix(" %")) * n / 100
    return math.ceil(exact) if up else math.floor(exact)


@settings(max_examples=60)
@given(st.integers(1, 12), SIZES, st.one_of(st.none(), SIZES))
def test_surge_and_unavailability_keep_to_the_rule_of_kubernetes(n, surge, unavailable):
    partition = {"max_surge": surge} | ({} if unavailable is None else {"max_unavailable": unavailable})
    strategies = {"s": {"services": {"web": partition}}}
    data = {"scenario": "upgrade", "name": "surge", "environment": shop(n, 1, 1), "to": {"web": "2"}, "strategies": strategies}
    plan = build_plans(Upgrade.model_validate(data))["s"]
    more, less = whole(n, surge, up=True), 0 if unavailable is None else whole(n, unavailable, up=False)
    most = fewest = n
    for _, modes, _ in course(plan):
        here = [modes[i] for i in plan.environment.members("web")]
        most = max(most, len(here) - here.count("absent"))
        fewest = min(fewest, here.count("serving"))

    assert n < most <= n + more
    assert n - less <= fewest
    assert less == 0 or more >= n or fewest < n  # of a batch those that are replaced first come first
    assert n == len(plan.start.absent)


@pytest.mark.parametrize("kind", ["to", "patch"])
@pytest.mark.parametrize("path", list(environments()), ids=name_of)
def test_every_built_in_strategy_that_fits_becomes_a_plan_with_its_way_back(path, kind):
    env = load_environment(path)
    able = [
        name for name, s in env.services.items() if {"drain", "install"} <= s.actions.keys() or {"migrate", "expand"} & s.actions.keys()
    ]
    here = [
        n for n in env.services if "patch" in env.actions and not any(env.machines[env.machine_index[m]].hosted for m in env.services[n].on)
    ]
    changes = {"to": dict.fromkeys(able, "next")} if kind == "to" else {"patch": here}
    if not any(changes.values()):
        return
    base = {"scenario": "upgrade", "name": "all", "environment": env, **changes}
    fitting = Upgrade.model_validate(base).strategies
    plans = build_plans(Upgrade.model_validate(base | {"strategies": {n: {"use": n, "on_abort": "rollback"} for n in fitting}}))

    assert set(fitting) == set(plans)


LED = """
name: led
machines: [{name: "m{n}", count: 4}, {name: x}]
entry: middle
demand: {rate: 10 req/s}
actions: {allocate: {duration: 60 s}}
services:
  middle:
    {role: leader_elected, on: ["m*"], capacity: 100 req/s, election: {elect: 5 s}, actions:
      {drain: {duration: 5 s}, install: {duration: 5 s}, start: {duration: 5 s}, hand_over: {duration: 2 s}}}
  cron: {on: [x], actions: {drain: {duration: 5 s}, install: {duration: 5 s}, start: {duration: 5 s}, switch: {duration: 1 s}}}
  logs: {on: [x]}
"""


@pytest.fixture
def led(tmp_path):
    (tmp_path / "environment.yaml").write_text(LED)

    def scenario(service: str, keys: str) -> Upgrade:
        path = tmp_path / "upgrade.yaml"
        to = f"to: {{{service}: next}}"
        path.write_text(
            f"scenario: upgrade\nenvironment: environment.yaml\n{to}\nstrategies:\n  s: {{services: {{{service}: {{{keys}}}}}}}\n"
        )
        return load_scenario(path)

    return scenario


@pytest.mark.parametrize("keys", ["max_surge: 1, max_unavailable: 1", "max_surge: 1", "batches: 1"])
def test_a_leader_that_shall_hand_over_does_so_wherever_it_falls_in_its_batch(led, keys):
    """One hand-over of 2 s, and no election of 5 s."""
    [plan] = build_plans(led("middle", f"{keys}, leader: last, hand_over: true")).values()

    assert 1 == sum(step.action == "hand_over" for step in plan.steps)
    assert (2.0, 1.0) == tuple(simulate_one(plan)[m] for m in ("downtime_s", "failovers"))


@pytest.mark.parametrize(
    ("service", "keys", "says"),
    [
        ("middle", "batches: 4, hand_over: true", "all of 'middle' goes at once, so nobody is left to take over"),
        ("middle", "max_surge: 0, max_unavailable: 1, hand_over: true", "no new machine of 'middle' comes before an old one goes"),
        ("cron", "blue_green: true", "gives the machines of 'cron' back, and 'logs' runs on 'x' as well"),
        ("cron", "max_surge: 1", "gives the machines of 'cron' back, and 'logs' runs on 'x' as well"),
    ],
)
def test_what_would_be_dropped_or_taken_from_others_is_refused(led, service, keys, says):
    with pytest.raises(FileError) as caught:
        led(service, keys)
    [fault] = caught.value.faults

    assert 5 == fault.line and says in fault.message


def simulate_one(plan: Plan) -> dict[str, float]:
    return {name: float(values[0]) for name, values in simulate(plan, 1).values.items()}
