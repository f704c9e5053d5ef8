"""Swaps: a new machine for an old one with all that runs on it, batch by batch, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.plan.steps import Step
from simdeploy.planning.builder import Builder
from simdeploy.planning.lanes import hand_over, machine_back, machine_in, machine_out
from simdeploy.planning.tiers import Barrier, judge


class Swapping(NamedTuple):
    """Which machines go together, and how."""

    stages: Sequence[tuple[str, Sequence[tuple[str, ...]]]]
    """(name, machines batch by batch) of each."""
    spares: int
    hand_over: bool
    """Elected leaders hand over; primaries always do."""
    in_place: bool


class Swap(NamedTuple):
    """The steps by which one machine takes the place of another."""

    old: tuple[str, ...]
    """The instances that leave."""
    handed: tuple[str, ...]
    """Those of them that hand over."""
    steps: list[Step]


Stages = list[tuple[str, list[list[Swap]]]]
"""(name, swaps batch by batch) of each stage, in the order in which they go."""


def on_machine(env: Environment, machine: str) -> tuple[str, ...]:
    """The instances on *machine*, in canonical order."""
    return tuple(i for i, (_, m) in env.instances.items() if m == machine)


def handings(
    env: Environment, swapping: Swapping, new: Mapping[str, str], absent: Collection[str] = ()
) -> dict[str, dict[str, str | None]]:
    """Machine -> the instances on it that lead and hand over when its turn comes -> who takes over; None: nobody is there to.

    *new* tells of each old instance the one on its new machine, which is *absent* at the start.
    """
    handing = ["datastore", *["leader_elected"] * swapping.hand_over]
    members = {s: [m for m in env.members(s) if m not in absent] for s, service in env.services.items() if service.role in handing}
    leaders = {s: f"{s}@{stated}" if (stated := env.services[s].leader) else present[0] for s, present in members.items()}
    done: list[str] = []
    found: dict[str, dict[str, str | None]] = {}
    for batch in (batch for _, batches in swapping.stages for batch in batches):
        going = [i for machine in batch for i in on_machine(env, machine)]
        for service, leader in [(s, leader) for s, leader in leaders.items() if leader in going]:
            staying = [*(new[i] for i in done if i in members[service]), *(m for m in members[service] if m not in (*going, *done))]
            heir = next(iter(staying), None) if swapping.in_place else new[leader]
            found.setdefault(env.instances[leader][1], {})[leader] = heir
            leaders[service] = heir or leader
        done += going
    return found


def add_swaps(build: Builder, swapping: Swapping, new: Mapping[str, str]) -> tuple[Stages, Barrier]:
    """Collect the swaps of all machines, each batch with its judge; what was collected, and what comes after it.

    *new* tells of each old instance the one on its new machine.
    """
    handing = handings(build.env, swapping, new, build.absent)
    left = swapping.spares
    stages: Stages = []
    barrier: Barrier = ()
    for label, batches in swapping.stages:
        collected: list[list[Swap]] = []
        for k, batch in enumerate(batches, start=1):
            swaps = []
            for machine in batch:
                heirs = {i: str(heir) for i, heir in handing.get(machine, {}).items()}
                swaps.append(_swap(build, machine, new, heirs, barrier, spare=left > 0, in_place=swapping.in_place))
                left -= 1
            barrier = _judged(build, label, k, swaps)
            collected.append(swaps)
        stages.append((label, collected))
    return stages, barrier


def take_back(build: Builder, stages: Stages, new: Mapping[str, str]) -> None:
    """Add the section that brings old machines back: those that are still there, all at once; then the others, last batches first.

    Only new machines that came beside the old ones can be taken back.
    """
    build.section = "rollback"
    build.versions = {name: build.env.services[name].version for name in build.versions}
    lanes = [_given_up(build, swap, new) for _, batches in stages for batch in batches for swap in batch]
    build.add_lanes(lanes)
    largest = max(len(batch) for _, batches in stages for batch in batches)
    barrier = judge(build, "rollback/out/judge", "out", lanes, size=largest)
    old = {theirs: mine for mine, theirs in new.items()}
    for label, batches in reversed(stages):
        for k, batch in enumerate(reversed(batches), start=1):
            lanes = []
            for swap in batch:
                done = swap.steps[-1].id
                back = _beside(build, [new[i] for i in swap.old], old, {new[i]: i for i in swap.handed}, barrier)
                lanes.append([step.model_copy(update={"done": (done,)}) for step in back])
            build.add_lanes(lanes)
            barrier = judge(build, f"rollback/{label}/judge#{k}", label, lanes)


def _swap(
    build: Builder, machine: str, new: Mapping[str, str], heirs: Mapping[str, str], barrier: Barrier, *, spare: bool, in_place: bool
) -> Swap:
    old = on_machine(build.env, machine)
    if not in_place:
        return Swap(old, tuple(heirs), _beside(build, old, new, heirs, barrier, spare))
    steps = _handed(build, heirs, barrier, ())
    steps += machine_out(build, old, () if steps else barrier, needs=tuple(s.id for s in steps[-1:]))
    steps += machine_in(build, [new[i] for i in old], (), spare=spare, needs=(steps[-1].id,))
    return Swap(old, tuple(heirs), steps)


def _beside(
    build: Builder, old: Sequence[str], new: Mapping[str, str], heirs: Mapping[str, str], barrier: Barrier, spare: bool = False
) -> list[Step]:
    """The new machine serves, what leads hands over, the old machine leaves and is given back."""
    steps = machine_in(build, [new[i] for i in old], barrier, spare=spare)
    steps += _handed(build, heirs, (), (steps[-1].id,))
    return steps + machine_out(build, old, (), needs=(steps[-1].id,))


def _handed(build: Builder, heirs: Mapping[str, str], after: Barrier, needs: Barrier) -> list[Step]:
    """One hand-over after the other, callers and callees as they come."""
    steps: list[Step] = []
    for leader, heir in heirs.items():
        steps.append(hand_over(build, leader, heir, after, needs))
        after, needs = (), (steps[-1].id,)
        build.leaders[build.env.instances[leader][0]] = heir
    return steps


def _judged(build: Builder, label: str, k: int, swaps: Sequence[Swap]) -> Barrier:
    build.add_lanes(swap.steps for swap in swaps)
    return judge(build, f"code/{label}/judge#{k}", label, [swap.steps for swap in swaps])


def _given_up(build: Builder, swap: Swap, new: Mapping[str, str]) -> list[Step]:
    """The way back of a swap that was begun and not done: old instances serve, lead again, and the new machine leaves."""
    steps = swap.steps
    served = {i: next(s.id for s in steps if ("serve", new[i]) in s.end) for i in swap.old}
    back: list[Step] = []
    for step in machine_back(build, swap.old, ()):
        took = tuple(s.id for s in steps if any(e[0] in ("drain", "out", "kill") and e[1] == step.target for e in (*s.begin, *s.end)))
        back.append(step.model_copy(update={"began": took}))
    for leader in swap.handed:
        handed = next(s.id for s in steps if s.target == leader and s.action == "hand_over")
        back.append(hand_over(build, new[leader], leader, (), (back[-1].id,)).model_copy(update={"done": (handed,)}))
    for step in machine_out(build, [new[i] for i in swap.old], (), needs=(back[-1].id,)):
        began = tuple(s.id for s in steps if s.target == step.target and s.action.partition("#")[0] == "start")
        if step.action == "release":
            began = (steps[0].id,)
        elif step.action.partition("#")[0] != "stop":
            began = ()
        guard = {"began": began} if began else {"done": (served[_of(new, step.target)],)}
        back.append(step.model_copy(update=guard))
    name = {s.id: f"{s.id.rpartition('/')[0]}/out-{s.action}" for s in back}
    undone = {"undone": (steps[-1].id,)}
    return [s.model_copy(update={**undone, "id": name[s.id], "needs": tuple(name.get(n, n) for n in s.needs)}) for s in back]


def _of(new: Mapping[str, str], instance: str) -> str:
    """The old instance whose place *instance* takes."""
    return next(mine for mine, theirs in new.items() if theirs == instance)
