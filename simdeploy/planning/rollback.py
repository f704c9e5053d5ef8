"""Rollback: the way back from any point of a plan, with the same partition in reverse.

A lane that was begun and not done is brought back first, all such lanes at once: that takes nothing more out. Lanes
that were done go back in the batches of the way forward, the last ones first, so that never more is out at once than
on the way forward. Each step has a guard over what the earlier sections did, so one section serves every abort.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from simdeploy.plan.steps import Judge, Step
from simdeploy.planning import data_layer
from simdeploy.planning.builder import Batch, Builder, Lane
from simdeploy.planning.lanes import hand_over, lane, new_lane, release, way_back, way_out
from simdeploy.planning.tiers import Barrier


class Touched(NamedTuple):
    """A lane of an earlier section, and the rounds in which the same instance was touched again."""

    round: int
    lane: Lane
    later: tuple[str, ...]
    """First steps of its lanes in later rounds: had one begun, that lane would be the one to take back."""


def add_rollback(build: Builder, rounds: Sequence[Sequence[Batch]], migrations: Sequence[data_layer.Migration]) -> None:
    """Add the section that takes back what the main section (the first of *rounds*), forward rounds and *migrations* did."""
    build.section, build.round = "rollback", 0
    build.versions = {name: build.env.services[name].version for name in build.versions}
    first_of = [{one.instance: one.steps[0].id for batch in batches for one in batch.lanes} for batches in rounds]
    batches = [
        (r, batch, [Touched(r, one, tuple(f[one.instance] for f in first_of[r + 1 :] if one.instance in f)) for one in batch.lanes])
        for r, done in enumerate(rounds)
        for batch in done
    ]
    barrier = _half_done(build, [one for _, _, touched in batches for one in touched])
    for migration in reversed(migrations):
        barrier = data_layer.take_back_contraction(build, migration, barrier)
    heirs = {one.heir: one for batch in (rounds[0] if rounds else ()) for one in batch.lanes if one.heir is not None}
    for stage in sorted({batch.stage for _, batch, _ in batches} | {m.stage for m in migrations}, reverse=True):
        ends: list[str] = []
        for r, label in dict.fromkeys((r, batch.label) for r, batch, _ in reversed(batches) if batch.stage == stage):
            end = barrier
            for k, one in enumerate([t for s, b, t in reversed(batches) if (s, b.stage, b.label) == (r, stage, label)], start=1):
                end = _batch_back(build, label, k, one, heirs, end)
            ends += end
        barrier = tuple(dict.fromkeys(ends)) or barrier
        for migration in migrations:
            if migration.stage == stage:
                barrier = data_layer.take_back(build, migration, barrier)


def _half_done(build: Builder, touched: Sequence[Touched]) -> Barrier:
    """Bring back what was begun and not done; what comes after it."""
    ends: list[str] = []
    for one in touched:
        build.round = one.round
        instance, partition, steps, patch, _, new = one.lane
        kept: dict[str, Any] = {"undone": (steps[-1].id,), "unbegun": one.later}
        back = [_guarded(step, steps, instance, kept) for step in way_back(build, instance, partition, patch=patch, changed=new is None)]
        if new is not None:
            away = way_out(build, new, partition, (), needs=(back[-1].id,))
            came = (next(s.id for s in steps if s.target == new),)
            back += [s.model_copy(update={"began": came, **kept}) for s in [*away, release(build, new, (away[-1].id,))]]
        build.add(*_renamed(back, "out-"))
        ends.append(build.steps[-1].id)
    build.round = 0
    return _barrier(build, "rollback/out/judge", tuple(ends))


def _guarded(step: Step, done: Sequence[Step], instance: str, kept: dict[str, Any]) -> Step:
    """A step of the way back with its guard: a change is taken back if it began, the rest follows if anything did."""
    own = [s for s in done if s.target.split("@")[0] == instance.split("@")[0] and s.target == step.target] or list(done)
    same = [s.id for s in own if s.action == step.action]
    changes = any(effect[0] == "version" for effect in step.end) or step.action in ("install", "configure", "patch", "reboot")
    return step.model_copy(update={"began": tuple(same if changes and same else [s.id for s in own]), **kept})


def _batch_back(build: Builder, label: str, k: int, batch: Sequence[Touched], heirs: dict[str, Lane], barrier: Barrier) -> Barrier:
    """Take a batch that was done back; what comes after it."""
    ends: list[str] = []
    for one in batch:
        build.round = one.round
        instance, partition, steps, patch, _, new = one.lane
        if patch and not build.env.actions["patch"].undo and instance.split("@")[0] not in build.versions:
            continue
        undo_patch = patch and bool(build.env.actions["patch"].undo)
        leads = heirs.get(new or instance) if one.round == 0 else None
        back: list[Step] = []
        if new is not None:
            back = new_lane(build, instance, barrier)
        if leads is not None:
            back.append(_lead_back(build, new or instance, leads, one.lane, tuple(s.id for s in back[-1:]), barrier))
        if new is None:
            rest = lane(build, instance, partition, () if back else barrier, patch=undo_patch)
            back += [rest[0].model_copy(update={"needs": tuple(s.id for s in back[-1:])}), *rest[1:]]
        else:
            back += way_out(build, new, partition, (), needs=(back[-1].id,))
            back.append(release(build, new, (back[-1].id,)))
        guard = {"done": (steps[-1].id,), "unbegun": one.later}
        build.add(*(s if s.done else s.model_copy(update=guard) for s in back))
        ends.append(build.steps[-1].id)
    step_id = f"{build.phase('')}/{label}/judge#{k}"
    build.round = 0
    return _barrier(build, step_id, tuple(ends)) if ends else barrier


def _lead_back(build: Builder, leader: str, taken_from: Lane, own: Lane, needs: Barrier, after: Barrier) -> Step:
    """The lead goes back to whom it was taken over from, if it was and has not been given away again."""
    taken = next(s.id for s in taken_from.steps if s.action == "hand_over")
    given = tuple(s.id for s in own.steps if s.action == "hand_over" and s.target == leader)
    to = taken_from.instance
    step = hand_over(build, leader, to, () if needs else after, needs=needs)
    return step.model_copy(update={"done": (taken,), "undone": given})


def _renamed(steps: Sequence[Step], prefix: str) -> list[Step]:
    """*steps* with a *prefix* before each action, and among themselves in what they need."""
    name = {s.id: f"{s.id.rpartition('/')[0]}/{prefix}{s.action}" for s in steps}
    return [s.model_copy(update={"id": name[s.id], "needs": tuple(name.get(n, n) for n in s.needs)}) for s in steps]


def _barrier(build: Builder, step_id: str, after: Barrier) -> Barrier:
    """What comes next waits for *after* in one place, so that edges stay few; nothing is judged."""
    if not after:
        return ()
    build.add(Step(id=step_id, kind="judge", after=after, judge=Judge(watch=(), size=1, limit=None)))
    return (step_id,)
