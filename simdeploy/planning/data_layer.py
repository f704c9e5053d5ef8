"""The data layer: how a schema changes while its writers stop, change around it, or go on with the other half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simdeploy.environment.models import TAKING
from simdeploy.planning.builder import Builder
from simdeploy.planning.lanes import Move, chained, hand_over, lane
from simdeploy.planning.partition import Partition
from simdeploy.planning.tiers import Barrier, judge, ordered


def offline(build: Builder, store: str, writers: Mapping[str, Partition], barrier: Barrier) -> Barrier:
    """Stop the writers, migrate, install meanwhile, start them."""
    migrate = f"data/{store}/migrate"
    lanes = [
        lane(build, instance, partition, barrier, start_needs=(migrate,))
        for writer, partition in writers.items()
        for instance in build.env.members(writer)
    ]
    stopped = tuple([s for s in one if s.action.partition("#")[0] in TAKING][-1].id for one in lanes)
    build.add(*(step for one in lanes for step in one))
    data_step(build, store, "migrate", (*barrier, *stopped), fatal=True, end=(("schema", store, build.versions[store]),))
    return judge(build, f"data/{store}/judge", store, lanes, also=(migrate,))


def expand(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """The first half of an expanding migration: new columns behind a short lock; old code still runs."""
    return data_step(build, store, "expand", barrier, fatal=True, end=(("schema", store, f"{build.versions[store]}/expanded"),))


def contract(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """The rest of an expanding migration, when all code is new: backfill, index, contract."""
    for action in ("backfill", "index"):
        if action in build.env.services[store].actions:
            barrier = data_step(build, store, action, barrier)
    return data_step(build, store, "contract", barrier, end=(("schema", store, build.versions[store]),))


def replica_first(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """The standbys migrate one after the other, the last of them takes over, the old primary migrates."""
    *standbys, primary = ordered(build, store, Partition(leader="last"))
    for standby in standbys:
        barrier = _member(build, store, standby, barrier)
    switchover = hand_over(build, primary, standbys[0], (), needs=barrier, end=[("schema", store, build.versions[store])])
    build.add(switchover.model_copy(update={"id": f"data/{primary}/hand_over", "fatal": True}))
    return _member(build, store, primary, (build.steps[-1].id,))


def split(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """Both halves take writes by themselves while one after the other migrates; then what diverged is reconciled."""
    *others, primary = ordered(build, store, Partition(leader="last"))
    half = (len(others) + 1) // 2
    barrier = data_step(build, store, "split", barrier, fatal=True, end=(("split", store),))
    for members in (others[:half], [*others[half:], primary]):
        ends = [_member(build, store, member, barrier) for member in members]
        barrier = tuple(step for end in ends for step in end)
    return data_step(build, store, "reconcile", barrier, fatal=True, end=(("join", store), ("schema", store, build.versions[store])))


def back_up(build: Builder, store: str, barrier: Barrier) -> Barrier:
    """A recovery point of its own, dated at its begin."""
    return data_step(build, store, "back_up", barrier, fatal=True, end=(("point", store),))


def data_step(build: Builder, store: str, action: str, needs: Barrier, fatal: bool = False, end: tuple[Any, ...] = ()) -> Barrier:
    """Add an action on a store's primary, as often as its recipe says; the id of the last."""
    recipe = build.env.services[store].actions[action]  # type: ignore[index]  # an ActionName by construction
    primary = build.leader(store)
    machine = build.env.instances[primary][1]
    for k in range(1, recipe.times + 1):
        step_id = f"data/{store}/{action}" + (f"#{k}" if recipe.times > 1 else "")
        fields: dict[str, Any] = {"needs": needs, "fatal": fatal, "end": end if k == recipe.times else ()}
        fields["no_return"] = action in ("migrate", "contract", "reconcile") and not recipe.undo
        build.add(build.recipe_step(step_id, recipe, store, machine, slowed=primary, **fields))
        needs = (step_id,)
    return needs


def _member(build: Builder, store: str, member: str, needs: Barrier) -> Barrier:
    """One member of a store migrates by itself while it is out."""
    recipe = build.env.services[store].actions["migrate"]
    move = Move(member, "migrate", recipe, [("out", member)], [("serve", member)])
    steps = chained(build, [move], (), [], ())
    steps[0] = steps[0].model_copy(update={"needs": needs})
    build.add(*(step.model_copy(update={"fatal": True, "no_return": not recipe.undo}) for step in steps))
    return (steps[-1].id,)
