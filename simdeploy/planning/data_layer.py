"""The data layer: how a schema changes while its writers stop, change around it, or go on with the other half, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from simdeploy.environment.models import TAKING
from simdeploy.plan.steps import Step
from simdeploy.planning.builder import Batch, Builder, Lane
from simdeploy.planning.lanes import Move, chained, hand_over, lane
from simdeploy.planning.partition import Partition
from simdeploy.planning.tiers import Barrier, judge, ordered


class Migration(NamedTuple):
    """A schema that changed, and what must be known to change it back."""

    stage: int
    store: str
    kind: str
    restored: bool = False
    """Past a contraction without an undo the store is restored to what it held before."""


def migrate(build: Builder, store: str, kind: str, writers: Mapping[str, Partition], barrier: Barrier) -> Barrier:
    """The steps of one kind of migration, of an expanding one its first half; what comes after them."""
    match kind:
        case "offline":
            return _offline(build, store, writers, barrier)
        case "replica_first":
            return _replica_first(build, store, barrier)
        case "split":
            return _split(build, store, barrier)
    # new columns behind a short lock; old code still runs
    return data_step(build, store, "expand", barrier, fatal=True, end=(("schema", store, f"{build.versions[store]}/expanded"),))


def contract(build: Builder, migration: Migration, barrier: Barrier) -> Barrier:
    """The rest of an expanding migration, when all code is new: backfill, index, contract; in a forward round what is left of it."""
    store = migration.store

    def left(action: str) -> dict[str, Barrier]:
        main, *again = steps_of(build, store, action)[build.env.services[store].actions[action].times - 1 :] or [""]  # type: ignore[index]
        return {"undone": (main,), "unbegun": tuple(again)} if build.section == "forward" else {}

    for action in ("backfill", "index"):
        if action in build.env.services[store].actions:
            barrier = data_step(build, store, action, barrier, guard=left(action))
    undoable = migration.restored or bool(build.env.services[store].actions["contract"].undo)
    end = (("schema", store, build.versions[store]),)
    return data_step(build, store, "contract", barrier, end=end, guard=left("contract"), no_return=not undoable)


def back_up(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """A recovery point of its own, dated at its begin."""
    return data_step(build, store, "back_up", barrier, fatal=True, end=(("point", store),))


def take_back_contraction(build: Builder, migration: Migration, barrier: Barrier) -> Barrier:
    """Undo a contraction before any code goes back, or restore what was there before it; else its begin was a point of no return."""
    store, actions = migration.store, build.env.services[migration.store].actions
    if migration.kind != "expand_contract":
        return barrier
    contractions = steps_of(build, store, "contract")
    expanded = next(e for s in build.steps if s.target == store and s.section == "main" for e in s.end if e[0] == "schema")
    if actions["contract"].undo:
        return undo(build, store, "contract", barrier, contractions, (expanded,))
    if migration.restored:
        primary = build.leader(store)
        for k, contraction in enumerate(contractions):  # to what was there before the first of them that began
            end = (("rewind", store, contraction), expanded, ("serve", primary))
            step_id, machine = f"rollback/{store}/restore-{contraction.replace('/', '-')}", build.env.instances[primary][1]
            fields: dict[str, Any] = {"needs": barrier, "began": (contraction,), "unbegun": contractions[:k]}
            fields |= {"begin": (("out", primary),), "end": end, "fatal": True}
            build.add(build.recipe_step(step_id, actions["restore"], store, machine, slowed=primary, **fields))
            barrier = (build.steps[-1].id,)
    return barrier


def take_back(build: Builder, migration: Migration, barrier: Barrier) -> Barrier:
    """Undo the rest of a migration when all code that came after it is back; what has no undo stays.

    An offline migration is undone while its writers are back out, beside them.
    """
    store, actions = migration.store, build.env.services[migration.store].actions
    old = ("schema", store, build.versions[store])
    match migration.kind:
        case "expand_contract" if actions["expand"].undo:
            return undo(build, store, "expand", barrier, steps_of(build, store, "expand"), (old,))
        case "replica_first" if actions["migrate"].undo:
            return _replica_last(build, store, old, barrier)
        case "split":
            return _unsplit(build, store, old, barrier)
    return barrier


def steps_of(build: Builder, target: str, action: str) -> tuple[str, ...]:
    """The ids of the steps by which earlier sections did an action of the data layer on a store or a member."""
    steps = (s for s in build.steps if s.target == target and s.section != "rollback")
    return tuple(s.id for s in steps if s.action.partition("#")[0] == action and not s.id.startswith("code/"))


def _replica_last(build: Builder, store: str, old: tuple[str, str, str], barrier: Barrier) -> Barrier:
    """The old primary goes back first, takes over again, and then its standbys go back."""
    *standbys, primary = ordered(build, store, Partition(leader="last"))
    barrier = _member_back(build, store, primary, barrier)
    handed = hand_over(build, standbys[0], primary, (), needs=barrier, end=[old])
    build.add(handed.model_copy(update={"done": steps_of(build, primary, "hand_over")}))
    barrier = (handed.id,)
    for standby in reversed(standbys):
        barrier = _member_back(build, store, standby, barrier)
    return barrier


def _unsplit(build: Builder, store: str, old: tuple[str, str, str], barrier: Barrier) -> Barrier:
    """Split again if it was joined; the half that migrated last goes back first; join."""
    actions, split = build.env.services[store].actions, steps_of(build, store, "split")
    if actions["migrate"].undo:
        if actions["reconcile"].undo:
            joined = {"done": steps_of(build, store, "reconcile")}
            barrier = data_step(build, store, "split", barrier, fatal=True, end=(("split", store),), guard=joined)
        for members in reversed(_halves(build, store)):
            barrier = tuple(step for member in members for step in _member_back(build, store, member, barrier))
    return data_step(build, store, "reconcile", barrier, fatal=True, end=(("join", store), old), guard={"began": split})


def _member_back(build: Builder, store: str, member: str, needs: Barrier) -> Barrier:
    """The migration of one member is undone while it is out."""
    recipe, machine = build.env.services[store].actions["migrate"], build.env.instances[member][1]
    fields: dict[str, Any] = {"needs": needs, "began": steps_of(build, member, "migrate")}
    fields |= {"begin": (("out", member),), "end": (("serve", member),)}
    step = build.recipe_step(f"rollback/{member}/migrate", recipe, member, machine, undo=True, fatal=True, **fields)
    build.add(step)
    return (step.id,)


def _offline(build: Builder, store: str, writers: Mapping[str, Partition], barrier: Barrier) -> Barrier:
    """Stop the writers, migrate, install meanwhile, start them."""
    times = build.env.services[store].actions["migrate"].times
    last = f"data/{store}/migrate" + (f"#{times}" if times > 1 else "")
    lanes = [
        Lane(instance, partition, _all_must_stop(lane(build, instance, partition, barrier, start_needs=(last,))))
        for writer, partition in writers.items()
        for instance in build.env.members(writer)
    ]
    stopped = tuple([s for s in one.steps if s.action.partition("#")[0] in TAKING][-1].id for one in lanes)
    first = len(build.steps)
    build.add(*(step for one in lanes for step in one.steps))
    build.batches.append(Batch(build.stage, store, lanes))
    migrated = data_step(build, store, "migrate", (*barrier, *stopped), fatal=True, end=(("schema", store, build.versions[store]),))
    build.one_lane(first)
    barrier = judge(build, f"data/{store}/judge", store, [one.steps for one in lanes], also=migrated)
    return build.validated(("batch", "tier"), store, barrier)


def _all_must_stop(steps: list[Step]) -> list[Step]:
    """*steps* of a writer's lane: if it cannot be stopped there will be no migration, so that aborts at once."""
    return [s.model_copy(update={"fatal": True}) if s.action.partition("#")[0] in TAKING else s for s in steps]


def _replica_first(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """The standbys migrate one after the other, the last of them takes over, the old primary migrates."""
    *standbys, primary = ordered(build, store, Partition(leader="last"))
    for standby in standbys:
        barrier = _member(build, store, standby, barrier)
    switchover = hand_over(build, primary, standbys[0], (), needs=barrier, end=[("schema", store, build.versions[store])])
    build.add(switchover.model_copy(update={"id": f"data/{primary}/hand_over", "fatal": True}))
    return _member(build, store, primary, (build.steps[-1].id,))


def _split(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """Both halves take writes by themselves while one after the other migrates; then what diverged is reconciled."""
    barrier = data_step(build, store, "split", barrier, fatal=True, end=(("split", store),))
    for members in _halves(build, store):
        ends = [_member(build, store, member, barrier) for member in members]
        barrier = tuple(step for end in ends for step in end)
    return data_step(build, store, "reconcile", barrier, fatal=True, end=(("join", store), ("schema", store, build.versions[store])))


def _halves(build: Builder, store: str) -> tuple[list[str], list[str]]:
    """The members of a store in two halves, the primary in the second."""
    *others, primary = ordered(build, store, Partition(leader="last"))
    half = (len(others) + 1) // 2
    return others[:half], [*others[half:], primary]


def data_step(
    build: Builder,
    store: str,
    action: str,
    needs: Barrier,
    fatal: bool = False,
    end: tuple[Any, ...] = (),
    guard: Mapping[str, Barrier] | None = None,
    no_return: bool = False,
) -> Barrier:
    """Add an action on a store's primary, as often as its recipe says; the id of the last."""
    recipe = build.env.services[store].actions[action]  # type: ignore[index]  # an ActionName by construction
    primary = build.leader(store)
    machine = build.env.instances[primary][1]
    for k in range(1, recipe.times + 1):
        step_id = f"{build.phase('data')}/{store}/{action}" + (f"#{k}" if recipe.times > 1 else "")
        fields: dict[str, Any] = {"needs": needs, "fatal": fatal, "end": end if k == recipe.times else (), **(guard or {})}
        fields["no_return"] = no_return or (build.section == "main" and action in ("migrate", "reconcile") and not recipe.undo)
        build.add(build.recipe_step(step_id, recipe, store, machine, slowed=primary, **fields))
        needs = (step_id,)
    return needs


def undo(build: Builder, store: str, action: str, needs: Barrier, began: Barrier, end: tuple[Any, ...]) -> Barrier:
    """Add the undo of an action on a store, which takes as long as the action did."""
    recipe = build.env.services[store].actions[action]  # type: ignore[index]  # an ActionName by construction
    primary = build.leader(store)
    step_id, machine = f"{build.phase('data')}/{store}/{action}", build.env.instances[primary][1]
    build.add(build.recipe_step(step_id, recipe, store, machine, slowed=primary, undo=True, needs=needs, began=began, end=end, fatal=True))
    return (step_id,)


def _member(build: Builder, store: str, member: str, needs: Barrier) -> Barrier:
    """One member of a store migrates by itself while it is out."""
    recipe = build.env.services[store].actions["migrate"]
    steps = chained(build, [Move(member, "migrate", recipe, [("out", member)], [("serve", member)])], ())
    for step in steps:
        fields = {"id": f"{build.phase('data')}/{member}/{step.action}", "needs": needs, "fatal": True, "no_return": not recipe.undo}
        build.add(step.model_copy(update=fields))
        needs = (build.steps[-1].id,)
    return needs
