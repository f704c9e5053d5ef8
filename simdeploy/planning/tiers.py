"""Tiers: batches of lanes with a judge behind each, new machines that take the place of old ones, blue and green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.batches import cut, surging
from simdeploy.planning.builder import Builder
from simdeploy.planning.lanes import hand_over, lane, last_lane, new_lane
from simdeploy.planning.partition import LEADS, Partition

Barrier = tuple[str, ...]
"""What the next step comes after."""


def tier(build: Builder, name: str, partition: Partition, barrier: Barrier, patched: bool) -> Barrier:
    """The steps of one service, batch by batch; what comes after it."""
    if partition.blue_green:
        return _blue_green(build, name, partition, barrier)
    members = ordered(build, name, partition)
    batches = cut(partition, members, build.env)
    if partition.max_surge is not None:
        return _surge(build, name, partition, batches, barrier)
    return rollout(build, name, batches, {name: partition}, barrier, patched=(name,) if patched else ())


def rollout(
    build: Builder,
    label: str,
    batches: Sequence[tuple[str, ...]],
    partitions: Mapping[str, Partition],
    barrier: Barrier,
    patched: Sequence[str] = (),
) -> Barrier:
    """Lanes batch by batch, a judge after each, named after *label*; what comes after the last.

    A machine of the services *patched* is patched in the lane of its first instance; the others on it have none.
    """
    members = [instance for batch in batches for instance in batch]
    leaders = {s: build.leader(s) for s in partitions if build.env.services[s].role in LEADS}
    done: list[str] = []
    for k, batch in enumerate(batches, start=1):
        lanes: list[list[Step]] = []
        for instance in batch:
            service, machine = build.env.instances[instance]
            if service in patched and machine in build.patched:
                continue
            build.patched |= {machine} if service in patched else set()
            partition = partitions[service]
            heir = None
            if partition.hand_over and instance == leaders[service]:
                heir = _heir(build, service, members, batch, done)
                leaders[service] = heir or instance
            lanes.append(lane(build, instance, partition, barrier, patch=service in patched, hand_over_to=heir))
        done += batch
        if lanes:
            barrier = judged(build, f"code/{label}/judge#{k}", label, lanes)
    return barrier


def judged(build: Builder, judge_id: str, target: str, lanes: Sequence[Sequence[Step]]) -> Barrier:
    """Add *lanes* and the judge that ends their batch; what comes after it."""
    build.add(*(step for one in lanes for step in one))
    return judge(build, judge_id, target, lanes)


def judge(build: Builder, judge_id: str, target: str, lanes: Sequence[Sequence[Step]], also: Barrier = ()) -> Barrier:
    """Add the judge of *lanes*, which are there already, and of the steps *also*; what comes after it."""
    watch = (*(step.id for one in lanes for step in one), *also)
    ends = tuple(one[-1].id for one in lanes) or also
    target = target if target in build.env.services else ""
    build.add(Step(id=judge_id, kind="judge", target=target, after=ends, judge=Judge(watch=watch, size=max(1, len(lanes)))))
    return (judge_id,)


def ordered(build: Builder, name: str, partition: Partition) -> list[str]:
    """The members of a service in the order in which they go."""
    members = list(build.env.members(name))
    if partition.leader == "any":
        return members
    leader = build.leader(name)
    followers = [m for m in members if m != leader]
    return [*followers, leader] if partition.leader == "last" else [leader, *followers]


def _heir(build: Builder, service: str, members: Sequence[str], batch: Sequence[str], done: Sequence[str]) -> str | None:
    """Who takes the lead over: a changed member if there is one, else one that is not in this batch."""
    others = [*done, *(m for m in members if m not in batch and m not in done)]
    return next((m for m in others if build.env.instances[m][0] == service), None)


def _surge(build: Builder, name: str, partition: Partition, batches: Sequence[tuple[str, ...]], barrier: Barrier) -> Barrier:
    """New machines in the place of old ones: some before those go, the others (unavailable meanwhile) when those are gone."""
    surge = surging(partition, sum(map(len, batches)))
    leader = build.leader(name)
    for k, batch in enumerate(batches, start=1):
        lanes: list[list[Step]] = []
        for j, old in enumerate(batch):
            new = build.new_machine(old)
            if j < surge:
                coming = new_lane(build, new, barrier)
                needs: tuple[str, ...] = (coming[-1].id,)
                if partition.hand_over and old == leader:
                    coming.append(hand_over(build, old, new, (), needs=needs))
                    needs = (coming[-1].id,)
                going = last_lane(build, old, partition, (), needs=needs)
                lanes.append([*coming, *going])
            else:
                going = last_lane(build, old, partition, barrier)
                lanes.append([*going, *new_lane(build, new, (), needs=(going[-1].id,))])
        barrier = judged(build, f"code/{name}/judge#{k}", name, lanes)
    return barrier


def _blue_green(build: Builder, name: str, partition: Partition, barrier: Barrier) -> Barrier:
    """A whole new set that does not serve yet; one switch by which it serves and the old set drains; the old set goes."""
    old = ordered(build, name, partition)
    new = [build.new_machine(instance) for instance in old]
    coming = [new_lane(build, instance, barrier, serves=False) for instance in new]
    ready = judged(build, f"code/{name}/judge#1", name, coming)
    leader = build.leader(name)
    recipe = build.env.services[name].actions["switch"]
    led = build.env.services[name].role in LEADS and partition.hand_over
    switch = build.recipe_step(
        f"code/{name}/switch",
        recipe,
        name,
        build.env.instances[old[0]][1],
        after=ready,
        fatal=True,
        end=tuple(("serve", i) for i in new),
    )
    build.add(switch)
    needs: tuple[str, ...] = (switch.id,)
    if led:
        build.add(hand_over(build, leader, new[old.index(leader)], (), needs=needs))
        needs = (build.steps[-1].id,)
    going = [last_lane(build, instance, partition, (), needs=needs) for instance in old]
    return judged(build, f"code/{name}/judge#2", name, going)
