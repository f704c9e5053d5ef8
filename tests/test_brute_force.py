"""The metrics told a second time: a fold over the trace on a plain list of instances, written from model.md alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Environment
from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Crash, Plan, Release, Start
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from tests.builders import random_weight

HOLDS = st.sampled_from([None, 12.0, ["exponential", 6.0]])
TAKES = {"drain": "draining", "out": "out", "remove": "absent"}
Told = dict[str, float]


class World:
    """Every instance on its own: how it stands, what it runs, what slows it; and who leads."""

    def __init__(self, plan: Plan) -> None:
        self.env = plan.environment
        self.release = plan.release
        self.is_bad = False
        self.names = list(self.env.instances)
        self.service = {i: self.env.services[s] for i, (s, _) in self.env.instances.items()}
        self.members = {s: self.env.members(s) for s in self.env.services}
        self.mode = {i: "absent" if i in plan.start.absent else "out" if i in plan.start.out else "serving" for i in self.names}
        self.version = {i: self.service[i].version for i in self.names}
        self.old = {(self.env.instances[i][0], self.version[i]) for i in self.names if self.mode[i] != "absent"}
        self.weight = dict.fromkeys(self.names, 1.0)
        self.slowed: dict[str, list[float]] = {i: [] for i in self.names}
        self.leader = {
            s: next(iter(self.serving(s)), None) for s, x in self.env.services.items() if x.role in ("leader_elected", "datastore")
        }
        self.split: set[str] = set()
        self.locked_since: dict[str, float] = {}
        self.demand = self.env.demand.levels(0.0)[0][1]
        self.gone: set[str] = set()
        """Machines that died and never return: they are not paid for."""
        self.returns: set[str] = set()
        self.running: list[Step] = []

    def serving(self, service: str, lost: str = "") -> list[str]:
        return [i for i in self.members[service] if self.mode[i] == "serving" and self.env.instances[i][1] != lost]

    def capacity(self, lost: str = "") -> float:
        """At the front door, without the machine *lost*, its failover settled."""
        return min(self.tier(s, lost) / self.env.visits[s] for s in self.env.critical)

    def tier(self, s: str, lost: str) -> float:
        service, there = self.env.services[s], self.serving(s, lost)
        if service.role == "quorum" and len(there) < sum(self.mode[i] != "absent" for i in self.members[s]) // 2 + 1:
            return 0.0
        if service.role == "leader_elected":
            there = [i for i in there if i == self.leader[s]] or (self.ranked(s, lost)[:1] if self.leader[s] and lost else [])
            through = service.elected_through
            if lost and through and not self.tier(through, lost) and (self.tier(through, "none") or self.leader[s] not in there):
                there = []
        if service.role == "datastore" and s not in self.split:
            settles = lost and service.failover == "automatic"
            there = [i for i in there if i == self.leader[s]] or (self.ranked(s, lost)[:1] if settles else [])
        left = {i: math.prod(self.slowed[i]) for i in there}
        even = service.balancing == "even" and s not in self.split
        shares = {i: self.weight[i] * (1 if even else left[i]) for i in there}
        if not any(shares[i] and left[i] for i in there):
            return 0.0
        each = service.capacity_per_s
        return math.inf if each is None else min(each * left[i] / x * sum(shares.values()) for i, x in shares.items() if x)

    def ranked(self, s: str, lost: str = "") -> list[str]:
        """Those that serve, the next leader first."""
        serving = self.serving(s, lost)
        upgraded_first = self.env.services[s].election.prefer == "upgraded"
        return sorted(serving, key=lambda i: upgraded_first and self.version[i] == self.service[i].version)

    def error_free(self, if_good: bool = False) -> float:
        share = 1.0
        for s in self.env.critical:
            dead = sum(self.weight[i] for i in self.members[s] if self.mode[i] == "dead")
            there = sum(self.weight[i] for i in self.serving(s))
            if dead and self.env.services[s].retry == "none":
                share *= (1 - dead / (dead + there)) ** self.env.visits[s]
            if there and self.is_bad and not if_good:
                knows = self.env.services[s].balancing == "by_capacity" and self.shares(s, even=False)
                new = sum(part for i, part in self.shares(s, even=not knows).items() if self.version[i] == "2")
                share *= (1 - self.release.error_share * new) ** self.env.visits[s]
        return share

    def held(self) -> dict[str, float]:
        """What each instance holds: its share of what is served, times its mean hold."""
        served = min(self.demand * self.error_free(), self.capacity())
        found = {}
        for s, service in self.env.services.items():
            even = service.balancing == "even" and s not in self.split
            for i, share in self.shares(s, even).items() if service.hold else ():
                found[i] = served * self.env.visits[s] * share * service.hold.mean_s
        return found

    def shares(self, s: str, even: bool) -> dict[str, float]:
        """Instance -> share of the requests of its service; none where all that take some are locked."""
        taking = [i for i in self.serving(s) if s not in self.leader or s in self.split or i == self.leader[s]]
        parts = {i: self.weight[i] * (1.0 if even else math.prod(self.slowed[i])) for i in taking}
        return {i: part / sum(parts.values()) for i, part in parts.items()} if any(parts.values()) else {}

    def divergent(self) -> float:
        """Writes per second of the split stores."""
        served = min(self.demand * self.error_free(), self.capacity())
        rate = 0.0
        for s in self.split:
            store = self.env.services[s].store
            if any(math.prod(self.slowed[i]) for i in self.serving(s)):
                rate += store.writes_per_s if store and store.writes_per_s is not None else served
        return rate

    def check_leases(self, now: float, until: float) -> None:
        """A leader outlives the moment at which its store stopped taking writes by no more than its lease."""
        for s, service in self.env.services.items():
            if service.elected_through and self.tier(service.elected_through, ""):
                self.locked_since.pop(s, None)
            elif service.elected_through:
                since = self.locked_since.setdefault(s, now)
                assert self.leader[s] is None or until <= since + service.election.detect_s

    def check_election(self, s: str, at_s: float, ends: bool) -> None:
        service = self.env.services[s]
        if ends:
            assert not service.elected_through or self.tier(service.elected_through, "") > 0
        else:
            assert self.leader[s] and at_s == pytest.approx(self.locked_since[s] + service.election.detect_s)

    def observed(self) -> set[str]:
        monitors = [x for s, x in self.env.services.items() if x.role == "monitoring" and self.serving(s)]
        return {s for m in monitors for s in (self.env.services if m.observes is None else m.observes)}

    def is_monitored(self) -> bool:
        return any(x.role == "monitoring" for x in self.env.services.values())

    def is_blind(self) -> bool:
        carrying = [s for s, x in self.env.services.items() if x.role != "monitoring" and self.serving(s)]
        return self.is_monitored() and not set(carrying) <= self.observed()

    def is_unchecked(self) -> bool:
        """A version that was not there at the start serves, and each monitor that serves looks elsewhere or knows it not."""
        monitors = {m: x for m, x in self.env.services.items() if x.role == "monitoring"}
        watched = {s for x in monitors.values() for s in x.observes or self.env.services} - {*monitors, "db"}
        new = {(s, self.version[i]) for s in watched for i in self.serving(s)} - self.old
        known = set()
        for m, x in monitors.items():
            for i in self.serving(m):
                lists = x.accepts.get(self.version[i], {})
                known |= {(s, v) for s, v in new if s in (x.observes or self.env.services) and v in lists.get(s, [v])}
        return bool(new - known)

    def is_change_unobserved(self) -> bool:
        on = {step.on: [s for s, m in self.env.instances.values() if m == step.on] for step in self.running}
        return self.is_monitored() and any(here and not self.observed() & set(here) for here in on.values())

    def is_skewed(self) -> bool:
        return any(len({self.version[i] for i in self.serving(s)}) > 1 for s in self.members)

    def allocated(self) -> int:
        modes = {m.name: [self.mode[i] for i, (_, on) in self.env.instances.items() if on == m.name] for m in self.env.machines}
        paid = [m.name for m in self.env.machines if not m.hosted and m.name not in self.gone]
        return sum(not modes[name] or set(modes[name]) != {"absent"} for name in paid)

    def stands(self, instance: str, mode: str) -> None:
        self.mode[instance] = mode
        s = self.env.instances[instance][0]
        if mode != "serving" and self.leader.get(s) == instance and self.env.services[s].role == "leader_elected":
            self.leader[s] = None

    def vanish(self, instance: str) -> None:
        in_pool = self.mode[instance] in ("serving", "dead") and self.service[instance].health_check
        self.stands(instance, "dead" if in_pool else "out")

    def start(self, instance: str) -> None:
        self.stands(instance, "starting" if self.service[instance].health_check else "serving")

    def effect(self, verb: str, instance: str, argument: Any = None) -> None:
        if verb in ("split", "join"):
            self.split = self.split | {instance} if verb == "split" else self.split - {instance}
            return
        if verb == "version":
            self.version[instance] = argument
            return
        if verb == "weight":
            self.weight[instance] = argument
            return
        self.returns.discard(instance)
        if verb == "kill":
            self.vanish(instance)
        elif verb == "start":
            self.start(instance)
        else:
            self.stands(instance, TAKES.get(verb, "serving"))

    def began(self, step: Step) -> None:
        self.running.append(step)
        for instance, factor in step.slow:
            self.slowed[instance].append(factor)
        for effect in step.begin:
            self.effect(*effect)

    def ended(self, step: Step, value: str) -> None:
        self.running.remove(step)
        for instance, factor in step.slow:
            self.slowed[instance].remove(factor)
        for effect in step.end if value == "succeeded" else ():
            self.effect(*effect)

    def crashed(self, machine: str) -> None:
        for i in (i for i, (_, on) in self.env.instances.items() if on == machine):
            if self.mode[i] in ("serving", "starting"):
                self.returns.add(i)
            if self.mode[i] in ("serving", "starting", "draining"):
                self.vanish(i)

    def repaired(self, machine: str) -> None:
        for i in [i for i in self.returns if self.env.instances[i][1] == machine]:
            self.returns.remove(i)
            self.start(i)


def told(plan: Plan, trace: Any) -> Told:
    """Metric -> value of one trace."""
    world, start = World(plan), World(plan)
    steps = {s.id: s for s in plan.steps}
    machines = [m.name for m in plan.environment.machines]
    steady = start.capacity()
    summed = ("downtime_s", "brownout_s", "failed_requests", "bad_release_requests", "lost_capacity", "single_fault_s", "skew_s")
    sums = dict.fromkeys((*summed, "divergent_writes", "blind_s", "unchecked_s", "unobserved_change_s"), 0.0)
    machine_s, makespan, now, lowest, cut = 0.0, 0.0, 0.0, math.inf, 0.0
    before, drains, begins, reconciled = start.held(), {}, {}, 0.0

    def last(until: float) -> None:
        nonlocal machine_s, lowest, before
        length, c, demand = until - now, world.capacity(), world.demand
        if length <= 0:
            return
        before = world.held()
        world.check_leases(now, until)
        losses = [world.capacity(m) for m in machines if start.capacity(m) >= demand]
        holds = {
            "divergent_writes": world.divergent(),
            "downtime_s": c == 0 < demand,
            "brownout_s": 0 < c < demand,
            "failed_requests": demand - min(demand * world.error_free(), c),
            "bad_release_requests": min(demand * world.error_free(if_good=True), c) - min(demand * world.error_free(), c),
            "lost_capacity": max(0.0, steady - c),
            "single_fault_s": demand > 0 and min([c, *losses]) < demand,
            "blind_s": world.is_blind(),
            "unchecked_s": world.is_unchecked(),
            "unobserved_change_s": world.is_change_unobserved(),
            "skew_s": world.is_skewed(),
        }
        for metric, rate in holds.items():
            sums[metric] += rate * length
        machine_s += world.allocated() * length
        lowest = min(lowest, c)

    for record in trace:
        last(record.at_s)
        now, subject = record.at_s, record.subject
        if record.kind == "began":
            begins[subject] = now
            drains[subject] = now, before.get(steps[subject].target, 0.0)
            world.began(steps[subject])
        elif record.kind == "again":
            drains[subject] = now, drains[subject][1]
        elif record.kind == "ended":
            makespan = now
            if record.value in ("succeeded", "failed"):
                world.ended(steps[subject], str(record.value))
                reconciled += (now - begins[subject]) * (subject == "join")
            if record.value == "succeeded" and steps[subject].until_idle:
                cut += _cut(world.service[steps[subject].target].hold, *drains[subject], steps[subject].timeout_s, now)
        elif record.kind in ("noticed", "risen"):
            world.stands(subject, "out" if record.kind == "noticed" else "serving")
        elif record.kind == "expired":
            world.check_election(subject, now, ends=False)
            world.leader[subject] = None
        elif record.kind == "elected":
            world.check_election(subject, now, ends=True)
            world.leader[subject] = world.ranked(subject)[0]
        elif record.kind == "bad_release":
            world.is_bad = True
        elif record.kind == "demand":
            world.demand = float(record.value)
        elif record.kind == "crashed":
            world.crashed(subject)
            world.gone |= {subject} if record.value == "gone" else set()
        elif record.kind != "aborted":
            getattr(world, record.kind)(subject)
    last(trace.end_s if trace.outcome == "stuck" else max(makespan, plan.horizon_s or 0.0))
    sums["failed_requests"] += cut
    return sums | {
        "cut_requests": cut,
        "reconcile_s": reconciled,
        "makespan_s": makespan,
        "capacity_min": min(lowest, world.capacity()),
        "capacity_end": world.capacity(),
        "machine_hours": machine_s / 3600,
        "out_at_end": sum(m not in ("absent", "serving") for m in world.mode.values()),
    }


LIVES = st.sampled_from([{}, {}, {"mtbf_s": 100.0, "repair": 20.0}, {"mtbf_s": 400.0}])


def _cut(hold: Any, began: float, n: float, timeout_s: float, ended: float) -> float:
    """What is cut of *n* fixed or exponential holds by a time-out that is reached."""
    over = max(0.0, 1 - timeout_s / hold.mean_s) if hold.kind == "fixed" else math.exp(-timeout_s / hold.mean_s)
    return n * over / (1 - (1 - over) ** n) if ended >= began + timeout_s and n * over else 0.0


@st.composite
def environments(draw: Any) -> Environment:
    """lb (hosted) -> web -> mid, with monitors on machines of their own or of others, and a bare machine."""
    check = draw(st.sampled_from([None, {"interval_s": 3.0, "fall": 2, "rise": 2, "timeout_s": 4.0}]))
    webs = [f"web{i}" for i in range(draw(st.integers(1, 3)))]
    mids = [f"mid{i}" for i in range(draw(st.integers(1, 4)))]
    watching = draw(st.sampled_from([[], ["mon0"], ["mon0", "mon1"], ["mid0", "mon0"], ["web0"]]))
    balancing = st.sampled_from(["even", "by_capacity"])
    services: dict[str, Any] = {
        "lb": {"on": ["lb0"], "calls": {"web": {}}},
        "web": {
            "on": webs, "capacity_per_s": 100.0, "calls": {"mid": {"times": 1.5}}, "health_check": check, "balancing": draw(balancing),
            "retry": draw(st.sampled_from(["none", "redispatch"])), "silent": draw(st.booleans()), "hold": draw(HOLDS),
        },
        "mid": {
            "on": mids, "capacity_per_s": 90.0, "role": draw(st.sampled_from(["stateless", "leader_elected", "quorum"])),
            "health_check": draw(st.sampled_from([None, check])), "balancing": draw(balancing),
            "election": {"detect_s": 7.0, "elect_s": 5.0, "prefer": draw(st.sampled_from(["plan_order", "upgraded"]))},
            "hold": draw(HOLDS),
        },
    }  # fmt: skip
    if draw(st.booleans()):
        services["db"] = {
            "role": "datastore", "on": ["db0", "db1"], "capacity_per_s": 120.0, "election": {"detect_s": 6.0, "elect_s": 3.0},
            "failover": draw(st.sampled_from(["manual", "automatic"])), "balancing": draw(balancing),
            "store": draw(st.sampled_from([None, {"writes_per_s": 7.0}])),
        }  # fmt: skip
        services["mid"]["calls"] = {"db": {"dependency": draw(st.sampled_from(["hard", "soft"]))}}
        services["mid"]["elected_through"] = draw(st.sampled_from([None, "db"])) if services["mid"]["role"] == "leader_elected" else None
    if watching:
        checks = {v: {"web": draw(st.sampled_from([["1"], ["1", "2"]]))} for v in draw(st.sampled_from([[], ["1"], ["1", "2"]]))}
        observes = draw(st.sampled_from([None, ["web"], ["web", "lb", "mid"]]))
        services["mon"] = {"on": watching, "role": "monitoring", "observes": observes, "accepts": checks}
    names = dict.fromkeys(m for s in services.values() for m in s["on"])
    demand = draw(st.sampled_from([{"rate_per_s": 60.0}, {"rate_per_s": 110.0}, {"steps": [(0, 0), (15, 60), (70, 110)]}]))
    if "steps" in demand:
        demand = {"steps": [{"at_s": at, "rate_per_s": rate} for at, rate in demand["steps"]]}
    return Environment.model_validate(
        {
            "name": "plain",
            "machines": [*({"name": n, "hosted": n in ("lb0", "mon1"), **draw(LIVES)} for n in names), {"name": "bare"}],
            "entry": "lb",
            "services": services,
            "demand": demand,
        }
    )


@st.composite
def plans(draw: Any) -> Plan:
    """Lanes side by side or one after the other, on all instances but the balancer's, with crashes."""
    env = draw(environments())
    members = draw(st.permutations([i for i in env.instances if not i.startswith("lb")]))
    absent = tuple(i for i in ("web@web2",) if i in members and draw(st.booleans()))
    steps: list[Step] = []
    for instance in members:
        waits = (draw(st.sampled_from(steps)).id,) if steps and draw(st.booleans()) else ()
        steps += _lane(draw, env, instance, waits, instance in absent)
    if "db" in env.services:
        apart, together = (draw(st.integers(0, 40).map(float)) for _ in range(2))
        steps += [
            Step(id="wait", duration=fixed(draw(st.integers(0, 40).map(float)))),
            Step(id="split", after=("wait",), duration=fixed(apart), begin=(("split", "db"),)),
            Step(id="join", after=("split",), duration=fixed(together), end=(("join", "db"),)),
        ]
    moments = st.integers(0, 80).map(float)
    one = st.builds(
        Crash, machine=st.sampled_from([m.name for m in env.machines]), at_s=moments, for_s=st.sampled_from([None, 5.0, 25.0, 60.0])
    )
    return Plan(
        environment=env, steps=tuple(steps), start=Start(absent=absent), horizon_s=draw(st.sampled_from([None, 150.0])),
        crashes=tuple(draw(st.lists(one, max_size=2))), after_crash=draw(st.sampled_from(["retry", "abort"])),
        release=Release(p_bad=draw(st.sampled_from([0.0, 0.7])), error_share=0.4),
    )  # fmt: skip


def _lane(draw: Any, env: Environment, instance: str, waits: tuple[str, ...], absent: bool) -> list[Step]:
    service, machine = instance.split("@")
    take = "out" if absent else draw(st.sampled_from(["drain", "out", "kill"]))
    give = draw(st.sampled_from(["serve", "start", "remove"] if service == "web" else ["serve", "start"]))
    lengths = st.integers(0, 25).map(lambda n: fixed(float(n)))
    neighbour = st.tuples(st.sampled_from(list(env.instances)), st.sampled_from([0.0, 0.5, 0.8]))
    common: dict[str, Any] = {"target": instance, "on": machine}
    idle: dict[str, Any] = {"duration": draw(lengths)}
    if take == "drain" and env.services[service].hold and draw(st.booleans()):
        idle = {
            "until_idle": True,
            "timeout_s": draw(st.integers(0, 20).map(float)),
            "p_fail": draw(st.sampled_from([0.0, 0.4])),
            "retries": 2,
        }
    first, second, third = (f"code/{instance}/{action}" for action in ("take", "install", "give"))
    return [
        Step(
            id=first, after=waits, **idle, begin=((take, instance), *random_weight(draw, env, instance)),
            slow=tuple(draw(st.lists(neighbour, max_size=1))), **common,
        ),
        Step(
            id=second, needs=(first,), duration=draw(lengths), begin=(("out", instance),), end=(("version", instance, "2"),),
            p_fail=draw(st.sampled_from([0.0, 0.3])), retries=1, retry_delay=fixed(5.0), **common,
        ),
        Step(
            id=third, needs=(second,), duration=draw(lengths), end=((give, instance), *random_weight(draw, env, instance)),
            slow=tuple(draw(st.lists(neighbour, max_size=2))), **common,
        ),
    ]  # fmt: skip


@settings(max_examples=60)
@given(plan=plans(), seed=st.integers(0, 10_000))
def test_the_metrics_are_those_of_a_fold_over_the_trace_on_a_plain_list_of_instances(plan, seed):
    engine = Engine(plan)
    draws = Draws(plan, seed, 0, 1, engine.names)
    found = metrics_of(plan, engine.book, list(engine.runs(draws)), [draws.phases(0)])

    for metric, expected in told(plan, engine.trace(draws)).items():
        assert pytest.approx(expected) == found[metric][0], metric
