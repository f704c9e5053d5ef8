"""Which steps and instances of a plan are alike.

Steps are alike when nothing that vetting looks at tells them apart: what they do, to like instances, before and after like
steps (an equitable partition of the DAG, found by refining colours as Weisfeiler and Leman do). A linear program over the
order has then a best solution that treats like steps alike (Grohe, Kersting, Mladenov and Selman 2014), and the questions
asked of it are linear programs: so nothing is lost by merging.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdeploy.plan.plan import GUARDS, Plan
from simdeploy.plan.steps import Step

Hashes = NDArray[np.uint64]


class Touch(NamedTuple):
    """One way in which a step acts on an instance."""

    step: int
    when: int
    """BEGIN or END; of what a step slows, BEGIN."""
    verb: str
    """Of an effect; `slow` of what a step slows."""
    value: Any


def refined(plan: Plan, level: Sequence[int], touches_of: Sequence[Sequence[Touch]]) -> tuple[Hashes, Hashes]:
    """A colour of each step and of each instance; what has the same colour is alike.

    *level* says of each step how many come before it on the longest way, *touches_of* of each instance what acts on it.
    """
    env = plan.environment
    names: dict[Any, int] = {}

    def number(thing: Any) -> int:
        return names.setdefault(thing, len(names))

    zones = {m.name: (m.zone, m.hosted) for m in env.machines}
    out, absent, leading = set(plan.start.out), set(plan.start.absent), {*plan.start.leaders.values(), *map(env.leader_of, env.services)}
    crashed = {c.machine for c in plan.crashes}
    things = [
        number((s, zones[m], env.cell_of.get(m), name in out, name in absent, name if name in leading else "", m in crashed))
        for name, (s, m) in env.instances.items()
    ]
    labels = [number(_label(plan, step)) for step in plan.steps]
    pairs = [(t.step, i, number((t.when, t.verb, str(t.value)))) for i, touches in enumerate(touches_of) for t in touches]
    touching = np.array(pairs, dtype=np.int64).reshape(-1, 3)
    beside = _beside(plan)
    forward = _by_level(plan, level, up=True)
    backward = _by_level(plan, level, up=False)
    guards = _guards(plan)
    steps = _mixed(np.array(labels, dtype=np.uint64))
    instances = _mixed(np.array(things, dtype=np.uint64) + np.uint64(1 << 40))
    kinds = 0
    while True:
        steps = _mixed(steps + _gathered(touching[:, 0], _mixed(instances[touching[:, 1]] + touching[:, 2].astype(np.uint64)), len(steps)))
        for later, earlier, salt in guards:
            steps = _mixed(steps + _gathered(later, _mixed(steps[earlier] + salt.astype(np.uint64)), len(steps)))
        steps = _swept(_swept(steps, forward), backward)
        instances = _mixed(
            instances + _gathered(touching[:, 1], _mixed(steps[touching[:, 0]] + touching[:, 2].astype(np.uint64)), len(instances))
        )
        machines = _gathered(beside, _mixed(instances), len(env.machines))
        instances = _mixed(instances + machines[beside])
        found = len(np.unique(steps)) + len(np.unique(instances))
        if found == kinds:
            return steps, instances
        kinds = found


def _label(plan: Plan, step: Step) -> tuple[Any, ...]:
    """What tells a step from others, beside the instances that it acts on and its neighbours."""
    env = plan.environment
    whole = tuple(
        (when, *effect)
        for when, effects in enumerate((step.begin, step.end))
        for effect in effects
        if len(effect) < 2 or effect[1] not in env.instances
    )
    led = tuple((when, str(e[1]), e[2]) for when, es in enumerate((step.begin, step.end)) for e in es if e[0] == "lead" and len(e) > 2)
    judge = step.judge.model_dump(exclude={"watch"}) if step.judge else {}
    known = step.target in env.instances or step.target in env.services
    return (
        step.kind, step.part, whole, led, tuple(sorted(judge.items())), step.gate, step.no_return, step.fatal,
        step.target if not known or step.target in env.services else env.instances[step.target][0],
        bool(step.run), bool(step.check), bool(step.on),
    )  # fmt: skip


def _beside(plan: Plan) -> NDArray[np.int64]:
    """Of each instance: its machine, by position."""
    return np.array([plan.environment.machine_index[m] for _, m in plan.environment.instances.values()], dtype=np.int64)


def _guards(plan: Plan) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """(later step, earlier step that its guard names, which guard), one set for all guards; judges and what they watch beside them."""
    index = plan.wiring.position
    rows = [(k, index[name], 7 + g) for k, step in enumerate(plan.steps) for g, guard in enumerate(GUARDS) for name in getattr(step, guard)]
    rows += [(k, index[name], 3) for k, step in enumerate(plan.steps) if step.judge for name in step.judge.watch]
    rows += [(earlier, later, salt + 20) for later, earlier, salt in rows]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return [(table[:, 0], table[:, 1], table[:, 2])] if len(rows) else []


class _Sweep(NamedTuple):
    """Edges of one level: node, neighbour, and whether the edge is of success."""

    nodes: NDArray[np.int64]
    owner: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    salt: Hashes


def _by_level(plan: Plan, level: Sequence[int], up: bool) -> list[_Sweep]:
    edges: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for u, later in enumerate(plan.wiring.successors):
        for v, needs in later:
            node, neighbour = (v, u) if up else (u, v)
            edges[level[node]].append((node, neighbour, 11 + needs))
    sweeps = []
    for at in sorted(edges, reverse=not up):
        table = np.array(edges[at], dtype=np.int64)
        nodes, owner = np.unique(table[:, 0], return_inverse=True)
        sweeps.append(_Sweep(nodes, owner, table[:, 1], table[:, 2].astype(np.uint64)))
    return sweeps


def _swept(colours: Hashes, sweeps: Sequence[_Sweep]) -> Hashes:
    """The colours when each step, level by level, has taken in those of its neighbours on one side."""
    colours = colours.copy()
    for sweep in sweeps:
        near = _gathered(sweep.owner, _mixed(colours[sweep.neighbour] + sweep.salt), len(sweep.nodes))
        colours[sweep.nodes] = _mixed(colours[sweep.nodes] + near)
    return colours


def _gathered(owner: NDArray[np.int64], values: Hashes, count: int) -> Hashes:
    """The sum of the values of each owner: equal for equal bags of values."""
    found = np.zeros(count, dtype=np.uint64)
    np.add.at(found, owner, values)
    return found


def _mixed(values: Hashes) -> Hashes:
    """Each value sent somewhere else in 64 bits (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
