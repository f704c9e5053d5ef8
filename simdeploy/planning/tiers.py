"""Tiers: batches of lanes with a judge behind each, new machines that take the place of old ones, blue and green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from simdeploy.environment.durations import Distribution
from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.batches import at_work, cut, surging
from simdeploy.planning.builder import Batch, Builder, Lane
from simdeploy.planning.lanes import hand_over, lane, new_lane, release, way_out
from simdeploy.planning.partition import LEADS, Partition
from simdeploy.planning.validation import places

Barrier = tuple[str, ...]
"""What the next step comes after."""


def tier(build: Builder, name: str, partition: Partition, barrier: Barrier, patched: bool) -> Barrier:
    """The steps of one service, batch by batch; what comes after it."""
    if partition.blue_green:
        return _blue_green(build, name, partition, barrier)
    batches = cut(partition, ordered(build, name, partition), build.env)
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
    """Lanes batch by batch, a judge and what checks there are after each; what comes after the last.

    *label* names the judges. A machine of the services *patched* is patched in the lane of its first instance; the
    others on it have none.
    """
    members = [instance for batch in batches for instance in batch]
    batches = at_work(batches, build.env, patched, build.versions, build.patched)
    for service in partitions:
        if build.env.services[service].role in LEADS:
            build.leaders.setdefault(service, build.leader(service))
    done: list[str] = []
    for k, batch in enumerate(batches, start=1):
        lanes: list[Lane] = []
        for instance in batch:
            service, machine = build.env.instances[instance]
            patch, partition = service in patched and machine not in build.patched, partitions[service]
            build.patched |= {machine} if patch else set()
            heir = None
            if partition.hand_over and build.section == "main" and instance == build.leaders[service]:
                heir = _heir(build, service, members, batch, done)
                build.leaders[service] = heir or instance
            steps = lane(build, instance, partition, barrier, patch=patch, hand_over_to=heir)
            lanes.append(Lane(instance, partition, steps, patch, heir))
        done += batch
        barrier = judged(build, f"code/{label}/judge#{k}", label, lanes)
        barrier = build.validated(places(k, len(batches)), label, barrier)
    return barrier


def judged(build: Builder, judge_id: str, label: str, lanes: list[Lane]) -> Barrier:
    """Add *lanes* as a batch, and the judge that ends it; what comes after it."""
    build.add_lanes(one.steps for one in lanes)
    build.batches.append(Batch(build.stage, label, lanes))
    return judge(build, judge_id, label, [one.steps for one in lanes])


def judge(
    build: Builder, judge_id: str, label: str, lanes: Sequence[Sequence[Step]], also: Barrier = (), size: int | None = None
) -> Barrier:
    """Add the judge of *lanes*, which are there already, and of the steps *also*; what comes after it.

    A percentage refers to *size*, by default the number of lanes.
    """
    failures = build.rules.failures
    spec = Judge(
        watch=(*(step.id for one in lanes for step in one), *also),
        size=build.rules.instances if failures.of == "plan" else size or max(1, len(lanes)),
        limit=float(failures.limit * 100 if isinstance(failures.limit, Fraction) else failures.limit),
        unit="percent" if isinstance(failures.limit, Fraction) else "count",
        of=failures.of,
    )
    ends = tuple(one[-1].id for one in lanes) or also
    phase, _, rest = judge_id.partition("/")
    target = label if label in build.env.services else ""
    step = Step(id=f"{build.phase(phase)}/{rest}", kind="judge", target=target, after=ends, judge=spec)
    build.add(step)
    return (step.id,)


def ordered(build: Builder, name: str, partition: Partition) -> list[str]:
    """The members of a service in the order in which they go."""
    members = [m for m in build.env.members(name) if m not in build.absent]
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
    members = [instance for batch in batches for instance in batch]
    surge, new = surging(partition, len(members)), build.new_machines(members)
    leader = build.leader(name)
    for k, batch in enumerate(batches, start=1):
        lanes: list[Lane] = []
        for j, old in enumerate(sorted(batch, key=lambda i: i != leader or not partition.hand_over)):  # to hand over, it must surge
            heir = new[old] if partition.hand_over and old == leader and j < surge else None
            if j < surge:
                steps = new_lane(build, new[old], barrier)
                if heir is not None:
                    steps.append(hand_over(build, old, heir, (), needs=(steps[-1].id,)))
                steps += way_out(build, old, partition, (), needs=(steps[-1].id,))
                steps.append(release(build, old, (steps[-1].id,)))
            else:
                steps = way_out(build, old, partition, barrier)
                steps.append(release(build, old, (steps[-1].id,)))
                steps += new_lane(build, new[old], (), needs=(steps[-1].id,))
            lanes.append(Lane(old, partition, steps, heir=heir, new=new[old]))
        barrier = judged(build, f"code/{name}/judge#{k}", name, lanes)
        barrier = build.validated(places(k, len(batches)), name, barrier)
    return barrier


def _blue_green(build: Builder, name: str, partition: Partition, barrier: Barrier) -> Barrier:
    """A whole new set that does not serve yet; a switch by which it serves and the old set leaves; the old set is released.

    What checks there are come while the old set is still there.
    """
    old = ordered(build, name, partition)
    new, leader = build.new_machines(old), build.leader(name)
    coming = {i: new_lane(build, new[i], barrier, serves=False) for i in old}
    build.add(*(step for one in coming.values() for step in one))
    ready = judge(build, f"code/{name}/judge#1", name, list(coming.values()))
    recipe, machine = build.env.services[name].actions["switch"], build.env.instances[old[0]][1]
    serve = tuple(("serve", i) for i in new.values())
    build.add(build.recipe_step(f"code/{name}/switch", recipe, name, machine, after=ready, fatal=True, end=serve))
    needs: Barrier = (build.steps[-1].id,)
    handing = [hand_over(build, leader, new[leader], (), needs=needs)] if partition.hand_over else []
    handing = [step.model_copy(update={"fatal": True}) for step in handing]  # like the switch: all lanes rest on it
    build.add(*handing)
    needs = tuple(s.id for s in handing) or needs
    leaving = {i: way_out(build, i, partition, (), needs=needs) for i in old}
    build.add(*(step for one in leaving.values() for step in one))
    barrier = build.validated(places(1, 1), name, judge(build, f"code/{name}/judge#2", name, list(leaving.values())))
    if partition.keep_old_s:
        kept = Distribution(kind="fixed", parameters=(partition.keep_old_s,))
        build.add(Step(id=f"code/{name}/keep_old", target=name, after=barrier, duration=kept, awaited=False))
        barrier = (build.steps[-1].id,)
    gone = {i: release(build, i, (leaving[i][-1].id,)).model_copy(update={"after": barrier}) for i in old}
    gone = {i: step.model_copy(update={"lane": step.id}) for i, step in gone.items()}  # a halt keeps what has not been given back
    build.add(*gone.values())
    lanes = [Lane(i, partition, [*coming[i], *leaving[i], gone[i]], new=new[i]) for i in old]
    if handing:  # from here on it is the leader's own lane
        lanes = [one._replace(steps=[*handing, *one.steps], heir=new[leader]) if one.instance == leader else one for one in lanes]
    build.batches.append(Batch(build.stage, name, lanes))
    return judge(build, f"code/{name}/judge#3", name, [[step] for step in gone.values()])
