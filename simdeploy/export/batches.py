"""A plan cut into batches, and steps that are alike but for their machine put together.

A batch ends with its judges and gates; where lanes wait for other lanes without one, a new batch begins too. Everything
in one batch may run side by side as far as its steps do not wait for each other.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import networkx as nx

from simdeploy.plan.plan import GUARDS, Plan
from simdeploy.plan.progress import order
from simdeploy.plan.steps import MAIN, ROLLBACK, Step

MACHINE = "\x00"
"""Stands for the machine's name where steps are alike but for it."""


class Entry(NamedTuple):
    """Steps of one batch that are alike but for their machine."""

    number: str
    """`batch.place`, with F1 or R before the batch in a forward round or the rollback."""
    steps: tuple[Step, ...]
    machines: tuple[str, ...]
    """The machine of each step; "" = it is about none."""
    shape: Hashable
    """What is the same in all of them, whatever they wait for."""

    @property
    def first(self) -> Step:
        """The step that stands for all."""
        return self.steps[0]

    @property
    def is_check(self) -> bool:
        """Whether it closes its batch: a judge or a gate."""
        return self.first.kind != "step"


class Batch(NamedTuple):
    """What may be done between two decisions to go on."""

    number: str
    entries: tuple[Entry, ...]
    steps: tuple[Step, ...]
    """One after the other: in plan order as far as each comes after what it waits for, judges and gates last."""

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines that its steps are about, each once."""
        return tuple(dict.fromkeys(m for e in self.entries if not e.is_check for m in e.machines if m))


class Part(NamedTuple):
    """One section of a plan, of the forward ones one round."""

    part: int
    batches: tuple[Batch, ...]

    @property
    def steps(self) -> list[Step]:
        """Its steps, batch by batch, each after what it waits for."""
        return [s for batch in self.batches for s in batch.steps]


def parts(plan: Plan) -> list[Part]:
    """The sections of *plan* in the order main, forward rounds, rollback, cut into batches."""
    lane = dict(zip((s.id for s in plan.steps), order(plan).lane, strict=True))
    present = {s.part for s in plan.steps}
    return [_part(plan, p, lane) for p in sorted(present, key=lambda p: (p == ROLLBACK, p))]


def machine_of(plan: Plan, step: Step) -> str:
    """The machine that a step is about: its target's, else the one that executes it; "" = none."""
    return plan.environment.instances.get(step.target, ("", step.on))[1]


def _part(plan: Plan, part: int, lane: dict[str, int]) -> Part:
    steps = {s.id: s for s in plan.steps if s.part == part}
    batch: dict[str, int] = {}
    depth: dict[str, int] = {}
    for step in _sorted(list(steps.values())):
        before = [steps[i] for i in (*step.needs, *step.after)]
        batch[step.id] = max((batch[p.id] + _crosses(p, step, lane) for p in before), default=0)
        depth[step.id] = max((depth[p.id] + 1 for p in before if batch[p.id] == batch[step.id]), default=0)
    shapes = {s.id: _shape(plan, s) for s in steps.values()}
    groups: list[dict[Hashable, list[Step]]] = [{} for _ in set(batch.values())]
    for step in sorted(steps.values(), key=lambda s: depth[s.id]):
        key = (depth[step.id], shapes[step.id], _relations(plan, step))
        groups[batch[step.id]].setdefault(key, []).append(step)
    prefix = {MAIN: "", ROLLBACK: "R"}.get(part, f"F{part}.")
    place = {i: k for k, i in enumerate(steps)}
    batches = [_batch(plan, f"{prefix}{n}", group, shapes, place) for n, group in enumerate(_joined(groups), 1)]
    return Part(part, tuple(batches))


def _batch(plan: Plan, number: str, group: dict[Hashable, list[Step]], shapes: dict[str, Hashable], place: dict[str, int]) -> Batch:
    some = sorted(group.values(), key=lambda steps: steps[0].kind != "step")
    entries = [
        Entry(f"{number}.{k}", tuple(steps), tuple(machine_of(plan, s) for s in steps), shapes[steps[0].id])
        for k, steps in enumerate(some, 1)
    ]
    in_turn = _sorted(sorted((s for steps in some for s in steps), key=lambda s: (s.kind != "step", place[s.id])))
    return Batch(number, tuple(entries), tuple(in_turn))


def _sorted(steps: Sequence[Step]) -> list[Step]:
    """*steps* so that each comes after what it waits for among them, else in their order."""
    place = {s.id: i for i, s in enumerate(steps)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(place)
    graph.add_edges_from((u, s.id) for s in steps for u in (*s.needs, *s.after) if u in place)
    return [steps[place[i]] for i in nx.lexicographical_topological_sort(graph, key=place.__getitem__)]


def _crosses(before: Step, step: Step, lane: dict[str, int]) -> bool:
    """Whether a new batch begins between two steps of which one waits for the other."""
    return step.kind == "step" and (before.kind != "step" or lane[before.id] != lane[step.id])


def _joined(groups: list[dict[Hashable, list[Step]]]) -> Iterable[dict[Hashable, list[Step]]]:
    """The batches; those of one entry and no check become one list with what follows them in single file."""
    joined: list[dict[Hashable, list[Step]]] = []
    for group in groups:
        single = len(group) == 1
        if joined and single and all(s.kind == "step" and len(x) == 1 for x in joined[-1].values() for s in x) and _is_file(joined[-1]):
            joined[-1] |= {(len(joined[-1]), key): steps for key, steps in group.items()}
        else:
            joined.append(dict(group))
    return joined


def _is_file(group: dict[Hashable, list[Step]]) -> bool:
    steps = [s for x in group.values() for s in x]
    return all(a.id in (*b.needs, *b.after) for a, b in itertools.pairwise(steps))


@functools.lru_cache(maxsize=4096)
def _pattern(machine: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9._-]){re.escape(machine)}(?![A-Za-z0-9_-])")


def generic(text: str, machine: str) -> str:
    """*text* with MACHINE where it names the machine as a word of its own."""
    return _pattern(machine).sub(MACHINE, text.replace(MACHINE, "")) if machine else text


def _shape(plan: Plan, step: Step) -> Hashable:
    """What steps that are alike but for their machine have in common, without what they wait for."""
    machine = machine_of(plan, step)

    def told(*texts: str) -> tuple[str, ...]:
        return tuple(generic(t, machine) for t in texts)

    effects = tuple(told(*map(str, e)) for e in (*step.begin, ("end",), *step.end))
    judge = step.judge.model_copy(update={"watch": ()}) if step.judge else None
    name = re.sub(r"#\d+$", "", step.id) if judge else step.id
    return (
        told(name, step.target, step.on, step.lane), told(*step.run), told(*step.check), told(*step.expects), effects,
        step.kind, step.section, step.duration, step.until_idle, step.replays, step.pools, step.p_fail, step.retries, step.retry_delay,
        step.timeout_s, tuple((*told(i), f) for i, f in step.slow), step.gate, judge, step.no_return, step.fatal,
        step.artefact, tuple(sorted(step.secrets.items())),
    )  # fmt: skip


def own(plan: Plan, step: Step, names: Sequence[str]) -> list[bool]:
    """Of each step that *step* names: whether it stands there as the one of its own machine."""
    machine = machine_of(plan, step)
    others = [plan.steps[plan.wiring.position[n]] for n in names]
    named = [generic(o.id, machine_of(plan, o)) for o in others]
    times = Counter(named)
    return [machine != "" and machine_of(plan, o) == machine and times[n] == 1 for o, n in zip(others, named, strict=True)]


def _relations(plan: Plan, step: Step) -> Hashable:
    """What a step waits for and its guards: each as one of its own machine, or by its id."""
    machine = machine_of(plan, step)
    named: list[tuple[str, ...]] = [getattr(step, field) for field in ("needs", "after", *GUARDS)]
    return tuple(
        frozenset((yes, generic(n, machine) if yes else n) for n, yes in zip(names, own(plan, step, names), strict=True)) for names in named
    )
