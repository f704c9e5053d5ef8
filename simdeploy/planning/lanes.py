"""Lanes: the steps that take one instance out, change it, and bring it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx

from simdeploy.environment.durations import ZERO, Distribution
from simdeploy.environment.models import CHANGING, GIVING, PREPARING, TAKING, Action, HealthCheck
from simdeploy.plan.steps import Step
from simdeploy.planning.builder import HOSTING, TAKE, Builder
from simdeploy.planning.partition import Partition

Effects = list[tuple[Any, ...]]
PATCHING = ("patch", "reboot", "return")
"""What is done to a machine while everything on it is out; return: nothing, where there is neither an undo nor a reboot."""
PHASES = {"prerequisites": "allocate", "create_schema": "data", "load_data": "data", "seed": "data"}
"""Actions that belong to another phase than the rest of their lane."""


class Move(NamedTuple):
    """One step of a lane before it has its neighbours; effects may still be added."""

    target: str
    action: str
    recipe: Action | None
    """None: the wait for the health check."""
    begin: Effects
    end: Effects
    phase: str = ""
    """The first part of its step's id; by default that of its lane."""
    slowed: str | None = None
    """The instance that it slows instead of its target."""


def lane(
    build: Builder,
    instance: str,
    partition: Partition,
    after: Sequence[str],
    *,
    patch: bool = False,
    upgraded: bool = True,
    hand_over_to: str | None = None,
    start_needs: tuple[str, ...] = (),
) -> list[Step]:
    """One instance's way out and back; `needs` binds the lane, *after* comes before its first step.

    Its version changes if its service is *upgraded* at all; with *patch* its machine is patched and rebooted while everything
    on it is out. *start_needs* are steps that must have succeeded before the instance starts.
    """
    out, change, back = _moves(build, instance, partition, patch, upgraded)
    first = [] if hand_over_to is None else [hand_over(build, instance, hand_over_to, after)]
    return chained(build, [*out, *change, *back], after, first, start_needs)


def way_back(
    build: Builder, instance: str, partition: Partition, *, patch: bool = False, changed: bool = True, start_needs: tuple[str, ...] = ()
) -> list[Step]:
    """The second half of a lane, for an instance that is out or was on its way out: the change, if any, and the way back."""
    if not changed:
        return chained(build, _ways_back(build, instance, partition, []), ())
    _, change, back = _moves(build, instance, partition, patch)
    return chained(build, [*change, *back], (), start_needs=start_needs)


def new_lane(build: Builder, instance: str, after: Sequence[str], *, needs: tuple[str, ...] = (), serves: bool = True) -> list[Step]:
    """An instance on a new machine: allocated, installed, started and, if it *serves*, given to the balancer when healthy."""
    allocate = Move(instance, "allocate", build.env.actions["allocate"], [], [("out", instance)])
    changing = _changes(build, instance, upgraded=True, patch=False)
    back = _ways_back(build, instance, Partition(take_out="drain" if serves else "stop"), changing)
    if not serves:
        (back or changing)[-1].end.remove(("serve", instance))
    return _needing(needs, chained(build, [allocate, *changing, *back], after))


def first_lane(
    build: Builder,
    instance: str,
    after: Sequence[str],
    *,
    needs: tuple[str, ...] = (),
    start_needs: tuple[str, ...] = (),
    filling: Sequence[str] = (),
    joins: bool = False,
    phase: str = "code",
) -> list[Step]:
    """An instance on a machine that has nothing of it yet: installed, configured, filled by these actions, started; in the end it serves.

    *joins*: a balancer that serves already is told of it (`undrain`). What is hosted is there already: it is filled and serves.
    Actions without a recipe are left out; *start_needs* must have succeeded before it is seeded and started.
    """
    service, machine = build.env.instances[instance]
    recipes = {str(action): recipe for action, recipe in build.env.services[service].actions.items()}
    if build.env.machines[build.env.machine_index[machine]].hosted:
        recipes = {action: recipe for action, recipe in recipes.items() if action in filling} | {"start": Action(duration=ZERO)}
    wanted = (*CHANGING, *filling, *(action for action in GIVING if joins or action != "undrain"))
    moves = [Move(instance, action, recipes[action], [], []) for action in wanted if action in recipes]
    if build.env.services[service].health_check is not None and "await_healthy" not in recipes:
        moves.append(Move(instance, "await_healthy", None, [], []))
    moves[-1].end.append(("serve", instance))
    return _needing(needs, chained(build, moves, after, start_needs=start_needs, phase=phase))


def allocated(
    build: Builder, machine: str, instances: Sequence[str], recipe: Action, needs: tuple[str, ...] = (), end: Sequence[Any] = ()
) -> Step:
    """The step by which a machine is there for *instances*: from the operator's desk, since before it there is no machine.

    It holds one of those who make machines, where they are limited.
    """
    end = (*(("out", i) for i in instances), *end)
    step = build.recipe_step(f"{build.phase('allocate')}/{machine}/allocate", recipe, instances[0], machine, needs=needs, end=end)
    held = ((HOSTING, 1),) if HOSTING in build.pools else ()
    return step.model_copy(update={"on": recipe.on or "", "slow": (), "pools": (*step.pools, *held)})


def prepared(build: Builder, instance: str, needs: tuple[str, ...]) -> list[Step]:
    """What an instance needs of its machine, once that is there; nothing without a recipe."""
    recipe = build.env.services[build.env.instances[instance][0]].actions.get("prerequisites")
    if recipe is None:
        return []
    return _needing(needs, chained(build, [Move(instance, "prerequisites", recipe, [], [])], ()))


def way_out(build: Builder, instance: str, partition: Partition, after: Sequence[str], *, needs: tuple[str, ...] = ()) -> list[Step]:
    """The first half of a lane: the instance leaves and stays out."""
    return _needing(needs, chained(build, _ways_out(build, instance, partition, []), after))


def release(build: Builder, instance: str, needs: tuple[str, ...]) -> Step:
    """The machine of an instance that is out is given back."""
    recipe = build.env.actions.get("release", Action(duration=ZERO))
    [step] = chained(build, [Move(instance, "release", recipe, [], [("remove", instance)])], ())
    return step.model_copy(update={"needs": needs})


def hand_over(build: Builder, leaving: str, to: str, after: Sequence[str], needs: tuple[str, ...] = (), end: Effects | None = None) -> Step:
    """The step by which the instance *leaving* gives its lead away: nobody leads while it runs."""
    service, machine = build.env.instances[leaving]
    recipe = build.env.services[service].actions["hand_over"]
    effects = (("lead", service, to), *(end or ()))
    fields: dict[str, Any] = {"needs": needs, "after": tuple(after), "begin": (("lead", service, None),), "end": effects}
    return build.recipe_step(f"{build.phase('code')}/{leaving}/hand_over", recipe, leaving, machine, **fields)


def machine_in(
    build: Builder,
    instances: Sequence[str],
    after: Sequence[str],
    *,
    spare: bool = False,
    needs: tuple[str, ...] = (),
) -> list[Step]:
    """A new machine: allocated, or taken from the *spare* ones, then all *instances* on it made and started, callees first.

    An instance of a datastore gets its data after its code, by `seed`.
    What has no recipe serves when all that comes before it is done.
    """
    take = (TAKE, Action(duration=ZERO)) if spare else ("allocate", build.env.actions["allocate"])
    moves = [Move(instances[0], *take, [], [("out", i) for i in instances], "allocate")]
    for instance in reversed(_callers_first(build, list(instances))):
        moves += _made(build, instance)
        back = [move._replace(phase=_phase(build, instance)) for move in _ways_back(build, instance, Partition(), moves)]
        moves += back
    return _needing(needs, chained(build, moves, after))


def machine_out(build: Builder, instances: Sequence[str], after: Sequence[str], *, needs: tuple[str, ...] = ()) -> list[Step]:
    """All *instances* on a machine leave, callers first, and it is given back; what has no recipe to leave goes with it."""
    recipe = build.env.actions.get("release", Action(duration=ZERO))
    given_back = Move(instances[0], "release", recipe, [], [("remove", i) for i in instances], "allocate")
    moves: list[Move] = []
    for instance in _callers_first(build, list(instances)):
        out = _ways_out(build, instance, _gentle(build, instance), [given_back])
        moves += [move._replace(phase=_phase(build, instance)) for move in out]
    return _needing(needs, chained(build, [*moves, given_back], after))


def machine_back(build: Builder, instances: Sequence[str], after: Sequence[str]) -> list[Step]:
    """All *instances* on a machine that was not given back start again, callees first."""
    moves: list[Move] = []
    for instance in reversed(_callers_first(build, list(instances))):
        bare = Move(instance, "return", Action(duration=ZERO), [], [])
        back = _ways_back(build, instance, Partition(), [bare]) or [bare]
        moves += [move._replace(phase=_phase(build, instance)) for move in back]
    return chained(build, moves, after)


def _made(build: Builder, instance: str) -> list[Move]:
    """What is done on a new machine before *instance* starts there."""
    service = build.env.instances[instance][0]
    spec, phase = build.env.services[service], _phase(build, instance)
    moves = [Move(instance, a, spec.actions[a], [], [], phase) for a in (*PREPARING, *CHANGING) if a in spec.actions]
    if spec.role != "datastore":
        for move in (m for m in moves if m.action == "install"):
            move.end.append(("version", instance, build.versions[service]))
        return moves
    return [*moves, Move(instance, "seed", spec.actions["seed"], [], [], "data", build.leaders.get(service, build.leader(service)))]


def _phase(build: Builder, instance: str) -> str:
    return {"monitoring": "monitoring", "datastore": "data"}.get(build.env.services[build.env.instances[instance][0]].role, "code")


def chained(
    build: Builder,
    moves: Sequence[Move],
    after: Sequence[str],
    before: Sequence[Step] = (),
    start_needs: tuple[str, ...] = (),
    phase: str | None = None,
) -> list[Step]:
    """*moves* as steps, each needing the one before it; what stands *before* comes first."""
    lane = list(before)
    own = next((m.target for m in moves if m.action in (*CHANGING, *PATCHING)), None)
    upgraded = any(m.action in CHANGING for m in moves)
    phase = build.phase(phase or ("patch" if own is not None and not upgraded else "code"))
    beside = "patch" if build.section == "main" else f"{phase}-patch"
    counts: dict[tuple[str, str], int] = {}
    for move in moves:
        name = (move.target, move.action)
        times = sum((m.recipe.times if m.recipe else 1) for m in moves if (m.target, m.action) == name)
        for k in range(1, (move.recipe.times if move.recipe else 1) + 1):
            counts[name] = counts.get(name, 0) + 1
            named = move.phase or PHASES.get(move.action, "")
            first = build.phase(named) if named else phase if own in (None, move.target) else beside
            step_id = f"{first}/{move.target}/{move.action}" + (f"#{counts[name]}" if times > 1 else "")
            needs = (*(start_needs if move.action in ("seed", "start") else ()), *([lane[-1].id] if lane else []))
            fields: dict[str, Any] = {"needs": needs, "after": () if lane else tuple(after)}
            fields["begin"] = tuple(move.begin) if k == 1 else ()
            fields["end"] = tuple(move.end) if move.recipe is None or k == move.recipe.times else ()
            machine = build.env.instances[move.target][1]
            if move.recipe is not None:
                undo = build.section == "rollback" and move.action == "patch"
                lane.append(build.recipe_step(step_id, move.recipe, move.target, machine, move.slowed, undo=undo, **fields))
            else:
                check = build.env.services[move.target.split("@")[0]].health_check
                lane.append(Step(id=step_id, target=move.target, duration=rise(check), **fields))
    return lane


def _moves(
    build: Builder, instance: str, partition: Partition, patch: bool, upgraded: bool = True
) -> tuple[list[Move], list[Move], list[Move]]:
    """The moves out, of the change, and back; a patch takes all that is on the machine along, callers first."""
    service, machine = build.env.instances[instance]
    beside = [i for s in build.env.services if s != service and (i := f"{s}@{machine}") in build.env.instances] if patch else []
    together = _callers_first(build, [instance, *beside])
    change = _changes(build, instance, upgraded and service in build.versions, patch)
    ways = {one: partition if one == instance else _gentle(build, one) for one in together}
    out = [move for one in together for move in _ways_out(build, one, ways[one], change)]
    return out, change, [move for one in reversed(together) for move in _ways_back(build, one, ways[one], change)]


def _needing(needs: tuple[str, ...], steps: list[Step]) -> list[Step]:
    return [steps[0].model_copy(update={"needs": (*needs, *steps[0].needs)}), *steps[1:]]


def _callers_first(build: Builder, instances: list[str]) -> list[str]:
    depth = {name: i for i, name in enumerate(nx.lexicographical_topological_sort(build.env.calls))}
    return sorted(instances, key=lambda i: depth[build.env.instances[i][0]])


def _gentle(build: Builder, instance: str) -> Partition:
    """How an instance leaves that only shares its machine with the one that is to change."""
    return Partition(take_out="drain" if "drain" in build.env.services[build.env.instances[instance][0]].actions else "stop")


def _changes(build: Builder, instance: str, upgraded: bool, patch: bool) -> list[Move]:
    service = build.env.instances[instance][0]
    recipes: list[tuple[str, Action]] = []
    if upgraded:
        actions = build.env.services[service].actions
        recipes += [(a, actions[a]) for a in CHANGING if a in actions]
    if patch:
        recipes += [(a, build.env.actions[a]) for a in ("patch", "reboot") if a in build.env.actions]
        if build.section == "rollback" and not build.env.actions["patch"].undo:
            recipes = [(a, recipe) for a, recipe in recipes if a != "patch"] or [("return", Action(duration=ZERO))]
    moves = [Move(instance, action, recipe, [], []) for action, recipe in recipes]
    for move in moves:
        if move.action == "install":
            move.end.append(("version", instance, build.versions[service]))
    return moves


def _ways_out(build: Builder, instance: str, partition: Partition, changing: list[Move]) -> list[Move]:
    """The moves that take *instance* out; without a recipe it goes when the change begins."""
    service = build.env.services[build.env.instances[instance][0]]
    drained = partition.take_out != "stop"
    gone: Effects = [("out", instance), *([("weight", instance, 1.0)] if partition.weights else [])]
    moves = [Move(instance, "weigh", service.actions["weigh"], [("weight", instance, float(w))], []) for w in partition.weights]
    taking = [a for a in TAKING if a in service.actions and (drained or a == "stop")]
    moves += [Move(instance, action, service.actions[action], [], []) for action in taking]
    if not taking:
        changing[0].begin.append(("out" if drained else "kill", instance))
        return moves
    by_action = {move.action: move for move in moves if move.action != "weigh"}
    by_action[taking[0]].begin.append(("drain" if drained and taking[0] != "stop" else "out" if drained else "kill", instance))
    if drained and taking[0] != "stop":
        by_action["await_idle" if "await_idle" in taking else "drain"].end.extend(gone)
        if "stop" in by_action:
            by_action["stop"].begin.append(("out", instance))
    return moves


def _ways_back(build: Builder, instance: str, partition: Partition, changing: list[Move]) -> list[Move]:
    """The moves that bring *instance* back; the last one gives it, or the end of the change if there are none."""
    service = build.env.services[build.env.instances[instance][0]]
    drained = partition.take_out != "stop"
    giving = [a for a in GIVING if a in service.actions and (drained or a != "undrain")]
    moves = [Move(instance, action, service.actions[action], [], []) for action in giving]
    if service.health_check is not None and "await_healthy" not in giving:
        moves.append(Move(instance, "await_healthy", None, [], []))
    (moves or changing)[-1].end.append(("serve", instance))
    return moves


def rise(check: HealthCheck | None) -> Distribution:
    """How long a started instance waits for its health check: U((rise - 1) x interval, rise x interval)."""
    assert check is not None  # only a checked instance waits
    return Distribution(kind="uniform", parameters=((check.rise - 1) * check.interval_s, check.rise * check.interval_s))
