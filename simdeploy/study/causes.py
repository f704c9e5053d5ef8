"""Which steps, on which machines, cause a plan's downtime or its dip in capacity.

Found by trying: without luck (every duration at its mean) each action is halved in turn, and the one that saves
most is named. What is named therefore moves what it is named for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from simdeploy.plan.measurement import metrics_of
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Means, Stream
from simdeploy.units import format_s

MOVED = ("downtime_s", "failed_requests", "lost_capacity")
"""What a plan's cost may be: downtime where it fails most of the requests that fail, else failed requests, else lost capacity."""
EXPLAINED = (*MOVED, "rto_s")
"""What may be explained."""
NAMED = 2
"""How many actions are named at most."""


class Culprit(NamedTuple):
    """One action of a service, over all its instances."""

    action: str
    service: str
    machines: tuple[str, ...]
    steps: tuple[str, ...]
    saved: float
    """What halving it saves of the metric."""


class Cause(NamedTuple):
    """What a plan's cost comes from."""

    metric: str | None
    """What was explained; None where the plan costs nothing."""
    cost: float
    culprits: tuple[Culprit, ...]
    """The actions that matter, the one that saves most first."""
    sentence: str


class _Halved(Means):
    """The mean run with some steps at half their duration."""

    def __init__(self, plan: Plan, names: list[Stream], halved: frozenset[int]) -> None:
        super().__init__(plan, names)
        self._halved = halved

    def rows(self) -> Iterator[tuple[list[float], set[int]]]:
        for durations, failing in super().rows():
            yield [d / 2 if i in self._halved else d for i, d in enumerate(durations)], failing


def cause_of(plan: Plan) -> Cause:
    """The actions that *plan*'s downtime (else its failed requests, else its lost capacity) comes from."""
    engine = Engine(plan)
    now = _costs(engine, frozenset())
    in_downtime = now["downtime_s"] * plan.environment.demand.peak_per_s
    chosen = MOVED if in_downtime >= now["failed_requests"] / 2 else MOVED[1:]
    metric = next((m for m in chosen if now[m] > 1e-9), None)
    if metric is None:
        return Cause(None, 0.0, (), "It costs no downtime, no failed request and no capacity.")
    culprits = culprits_of(plan, metric)
    return Cause(metric, now[metric], tuple(culprits), _sentence(metric, now[metric], culprits))


def culprits_of(plan: Plan, metric: str) -> list[Culprit]:
    """The actions whose halving saves something of *metric*, one of EXPLAINED, the one that saves most first.

    None where the run without luck does not have it.
    """
    engine = Engine(plan)
    now = _costs(engine, frozenset())[metric]
    culprits = []
    for (service, action), steps in _actions(plan).items():
        machines = tuple(dict.fromkeys(machine_of(plan, i) for i in steps))
        saved = now - _costs(engine, frozenset(steps))[metric]
        culprits.append(Culprit(action, service, machines, tuple(plan.steps[i].id for i in steps), saved))
    for what, service, quicker in (*_quicker_checks(plan), *_shorter_holds(plan), *_quicker_replays(plan)):
        saved = now - _costs(Engine(quicker), frozenset())[metric]
        culprits.append(Culprit(what, service, plan.environment.services[service].on, (), saved))
    return sorted((c for c in culprits if c.saved > 1e-6 * now), key=lambda c: -c.saved)


def _costs(engine: Engine, halved: frozenset[int]) -> dict[str, float]:
    """What the run without luck costs with some steps at half their duration."""
    draws = _Halved(engine.plan, engine.names, halved)
    values = metrics_of(engine.plan, engine.book, list(engine.runs(draws)), [draws.phases(0)])
    return {m: float(values[m][0]) for m in EXPLAINED}


def half_as_long(plan: Plan, steps: Collection[int]) -> Plan:
    """*plan* with every attempt of the *steps* at these positions in half its time.

    For a drain until idle its service holds a request for half as long, for a replay the log is replayed twice as fast.
    """
    changed = list(plan.steps)
    for i in steps:
        changed[i] = changed[i].model_copy(update={"duration": changed[i].duration.scaled(0.5)})
    quicker = plan.model_copy(update={"steps": tuple(changed)})
    for name in {plan.steps[i].target.split("@")[0] for i in steps if plan.steps[i].until_idle}:
        hold = plan.environment.services[name].hold
        assert hold is not None  # a plan with such a step has one
        quicker = _with(quicker, name, hold=hold.scaled(0.5))
    for name in {plan.steps[i].replays for i in steps if plan.steps[i].replays}:
        quicker = _with_replay_rate(quicker, name, 2.0)
    return quicker


def _quicker_checks(plan: Plan) -> Iterator[tuple[str, str, Plan]]:
    """The plan with a service's health check at half its interval, for services whose instances may die in the pool."""
    env = plan.environment
    killed = {str(effect[1]).split("@")[0] for step in plan.steps for effect in (*step.begin, *step.end) if effect[0] == "kill"}
    for name in sorted(killed):
        check = env.services[name].health_check
        if check is not None:
            half = check.model_copy(update={"interval_s": check.interval_s / 2})
            yield "health check", name, _with(plan, name, health_check=half)


def _shorter_holds(plan: Plan) -> Iterator[tuple[str, str, Plan]]:
    """The plan with a service's requests held for half as long, for services that are drained until idle."""
    for name in sorted({step.target.split("@")[0] for step in plan.steps if step.until_idle}):
        hold = plan.environment.services[name].hold
        if hold is not None:
            yield "hold", name, _with(plan, name, hold=hold.scaled(0.5))


def _quicker_replays(plan: Plan) -> Iterator[tuple[str, str, Plan]]:
    """The plan with the log of a store replayed twice as fast, for stores whose log is replayed."""
    for name in sorted({step.replays for step in plan.steps if step.replays}):
        store = plan.environment.services[name].store
        if store is not None and store.replay_bytes_per_s is not None:
            yield "replay", name, _with_replay_rate(plan, name, 2.0)


def _with_replay_rate(plan: Plan, service: str, factor: float) -> Plan:
    """*plan* with the log of a store replayed so much faster; the same plan where it has no rate."""
    store = plan.environment.services[service].store
    if store is None or store.replay_bytes_per_s is None:
        return plan
    return _with(plan, service, store=store.model_copy(update={"replay_bytes_per_s": factor * store.replay_bytes_per_s}))


def _with(plan: Plan, service: str, **changed: Any) -> Plan:
    env = plan.environment
    services = {**env.services, service: env.services[service].model_copy(update=changed)}
    return plan.model_copy(update={"environment": env.model_copy(update={"services": services})})


def _actions(plan: Plan) -> dict[tuple[str, str], list[int]]:
    """(service, action) -> positions of its steps, all instances and repetitions together."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, step in enumerate(plan.steps):
        if step.duration.mean_s > 0 and step.section == "main":  # without luck nothing is rolled back or mended
            found.setdefault(action_of(step), []).append(i)
    return found


def action_of(step: Step) -> tuple[str, str]:
    """(service, action) of a step, the same for all instances and repetitions."""
    return step.target.split("@")[0], step.action.split("#")[0]


def machine_of(plan: Plan, step: int) -> str:
    """Where a step takes effect: its target's machine, for a store its first."""
    env, target = plan.environment, plan.steps[step].target
    if target in env.instances:
        return env.instances[target][1]
    return (
        env.services[target].on[0] if target in env.services and env.services[target].on else plan.steps[step].on or "the operator's desk"
    )


def _amount(metric: str, value: float) -> str:
    if metric == "downtime_s":
        return format_s(value)
    return f"{value:,.0f} requests" if metric == "failed_requests" else f"{value:,.0f} requests' worth of capacity"


def _sentence(metric: str, cost: float, culprits: list[Culprit]) -> str:
    what = {"downtime_s": "downtime", "failed_requests": "failed requests", "lost_capacity": "dip in capacity"}[metric]
    if not culprits:
        return f"Its {what} ({_amount(metric, cost)} in the mean run) would stay with any one action done in half the time."
    parts = [f"{c.action} of {c.service} on {_and(c.machines)} (halving it saves {_amount(metric, c.saved)})" for c in culprits[:NAMED]]
    verb = "come" if metric == "failed_requests" else "comes"
    more = len(culprits) - NAMED
    others = f" and {more} smaller one{'s' * (more > 1)}" if more > 0 else ""
    return f"Its {what} ({_amount(metric, cost)} in the mean run) {verb} from {', then '.join(parts)}{others}."


def _and(names: tuple[str, ...]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more machines"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
