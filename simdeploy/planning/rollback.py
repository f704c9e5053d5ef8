"""Rollback: the way back from any point of a plan, with the same partition in reverse.

A lane that was begun and not done is brought back first, all such lanes at once: that takes nothing more out. Lanes
that were done go back in the batches of the way forward, the last ones first, so that never more is out at once than
on the way forward; what fails is judged as on the way forward, and halts it. Each step has a guard over what the
earlier sections did, so one section serves every abort.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from simdeploy.environment.models import CHANGING, TAKING
from simdeploy.plan.steps import Step
from simdeploy.planning import data_layer
from simdeploy.planning.builder import Batch, Builder, Lane
from simdeploy.planning.lanes import hand_over, lane, new_lane, release, way_back, way_out
from simdeploy.planning.tiers import Barrier, judge


class Touched(NamedTuple):
    """A lane of the main section (round 0) or a forward round, beside the lanes of the same instance in other rounds."""

    round: int
    lane: Lane
    before: tuple[Lane, ...]
    later: tuple[str, ...]
    """First steps of its lanes in later rounds: had one begun, that lane would be the one to take back."""

    def guard(self, **more: Barrier) -> dict[str, Any]:
        """That this lane was the last one to touch its instance, and *more*."""
        return {"unbegun": self.later, **more}

    @property
    def half_done(self) -> dict[str, Any]:
        """Guard: the lane did not come to its end; steps add which of its own must have begun."""
        return self.guard(undone=(self.lane.steps[-1].id,))

    @property
    def done(self) -> dict[str, Any]:
        """Guard: the lane came to its end."""
        return self.guard(done=(self.lane.steps[-1].id,))


def _surged(one: Lane) -> bool:
    """Whether its new machine came before the old one left."""
    return next(s for s in one.steps if s.action != "hand_over").target == one.new


class _Chain(NamedTuple):
    """Batches that go back one after the other: those of one service, of the slices, or the writers of one store."""

    label: str
    batches: list[list[Touched]]
    offline: bool


def add_rollback(build: Builder, rounds: Sequence[Sequence[Batch]], migrations: Sequence[data_layer.Migration]) -> None:
    """Add the section that takes back what the main section (the first of *rounds*), forward rounds and *migrations* did."""
    build.section, build.round = "rollback", 0
    build.versions = {name: build.env.services[name].version for name in build.versions}
    stages = _chains(build, rounds, migrations)
    barrier = _half_done(build, [batch for chains in stages.values() for c in chains if not c.offline for batch in c.batches])
    for migration in reversed(migrations):
        barrier = data_layer.take_back_contraction(build, migration, barrier)
    heirs = {one.heir: one for batch in rounds[0] for one in batch.lanes if one.heir is not None}
    for stage in sorted({*stages, *(m.stage for m in migrations)}, reverse=True):
        ends: list[str] = []
        for chain in stages.get(stage, []):
            end = barrier
            for k, batch in enumerate(reversed(chain.batches), start=1):
                step_id = f"rollback/{chain.label}/judge#{k}"
                back = _writers_back(build, chain.label, batch, end) if chain.offline else _batch_back(build, batch, heirs, end)
                end = judge(build, step_id, chain.label, back, size=len(batch)) if back else end
            ends += end
        barrier = tuple(dict.fromkeys(ends)) or barrier
        for migration in migrations:
            if migration.stage == stage:
                barrier = data_layer.take_back(build, migration, barrier)


def _chains(build: Builder, rounds: Sequence[Sequence[Batch]], migrations: Sequence[data_layer.Migration]) -> dict[int, list[_Chain]]:
    """Stage -> its chains, each with its batches in the order in which they went, of all rounds; an offline store has one."""
    offline = {m.store for m in migrations if m.kind == "offline"}
    store_of = {w: store for store in offline for w, service in build.env.services.items() if store in service.calls}
    lanes_of = [{one.instance: one for batch in batches for one in batch.lanes} for batches in rounds]
    found: dict[tuple[int, str], list[list[list[Touched]]]] = {}
    for r, batches in enumerate(rounds):
        for batch in batches:
            touched = []
            for one in batch.lanes:
                before = tuple(lanes[one.instance] for lanes in lanes_of[:r] if one.instance in lanes)
                later = tuple(lanes[one.instance].steps[0].id for lanes in lanes_of[r + 1 :] if one.instance in lanes)
                touched.append(Touched(r, one, before, later))
            found.setdefault((batch.stage, store_of.get(batch.label, batch.label)), [[] for _ in rounds])[r].append(touched)
    stages: dict[int, list[_Chain]] = {}
    for (stage, label), groups in found.items():
        together = itertools.zip_longest(*groups, fillvalue=[])  # a round has the batches of the main section: one lane an instance counts
        merged = [[t for batch in batches for t in batch] for batches in together]
        merged = [[t for batch in merged for t in batch]] if label in offline else merged
        stages.setdefault(stage, []).append(_Chain(label, merged, label in offline))
    return stages


def _half_done(build: Builder, batches: Sequence[Sequence[Touched]]) -> Barrier:
    """Bring back what was begun and not done; what comes after it. What was begun at once is about one batch."""
    lanes: list[list[Step]] = []
    for one in itertools.chain(*batches):
        build.round = one.round
        lanes.append(_renamed(_renewed(build, one) if one.lane.new is not None else _resumed(build, one), "out-"))
    build.round = 0
    build.add_lanes(lanes)
    return judge(build, "rollback/out/judge", "out", lanes, size=max(map(len, batches))) if lanes else ()


def _resumed(build: Builder, one: Touched, start_needs: Barrier = ()) -> list[Step]:
    """The way back of an instance whose lane was not done: what of it began is taken back, and it serves again.

    Where an earlier round changed it, it is changed back as soon as this lane began.
    """
    partition, own = one.lane.partition, [] if one.before else one.lane.steps
    back = way_back(build, one.lane.instance, partition, patch=one.lane.patch, start_needs=start_needs)
    guarded = []
    for step in back:
        began = _takers(one.lane.steps, step.target)
        if step.action.partition("#")[0] in (*CHANGING, "patch", "reboot") and not _serves(step, step.target):
            began = tuple(s.id for s in own if s.target == step.target and _base(s) == _base(step)) or began
        guarded.append(step.model_copy(update={**one.half_done, "began": began}))
    return _weighed(guarded, one.lane)


def _weighed(back: list[Step], own: Lane) -> list[Step]:
    """*back*, at whose end the instance has its normal share of the traffic again, should it have had less."""
    given = (("weight", own.instance, 1.0),) if own.partition.weights else ()
    return [*back[:-1], back[-1].model_copy(update={"end": (*back[-1].end, *given)})]


def _renewed(build: Builder, one: Touched) -> list[Step]:
    """The way back of an instance that a new machine was to replace, and the new one's way out after it."""
    own, new = one.lane, str(one.lane.new)
    old, steps = own.instance, own.steps
    ids = {(s.target, _base(s)): s.id for s in steps}
    back = [s.model_copy(update={"began": _takers(steps, old)}) for s in way_back(build, old, own.partition, changed=False)]
    back = _weighed(back, own)
    if not _surged(own):  # it may have been released before the new machine came
        gone: dict[str, Any] = {"done": (ids[old, "release"],)}
        fresh = [s.model_copy(update=gone) for s in new_lane(build, old, ()) if _base(s) in ("allocate", *CHANGING)]
        back = [*fresh, back[0].model_copy(update={"needs": (fresh[-1].id,)}), *back[1:]]
    if own.heir == new:
        handed = next(s.id for s in steps if s.action == "hand_over")
        back.append(hand_over(build, new, old, (), needs=(back[-1].id,)).model_copy(update={"done": (handed,)}))
    served = next(s.id for s in build.steps if _serves(s, new))
    for step in way_out(build, new, own.partition, (), needs=(back[-1].id,)):
        back.append(step.model_copy(update={"began": (ids[new, "start"],)} if _base(step) == "stop" else {"done": (served,)}))
    back.append(release(build, new, (back[-1].id,)).model_copy(update={"began": (ids[new, "allocate"],)}))
    return [s.model_copy(update=one.half_done) for s in back]


def _batch_back(build: Builder, batch: Sequence[Touched], heirs: dict[str, Lane], barrier: Barrier) -> list[list[Step]]:
    """Take a batch that was done back; its lanes."""
    lanes: list[list[Step]] = []
    for one in batch:
        build.round = one.round
        steps = _replaced_back(build, one, heirs, barrier) if one.lane.new is not None else _lane_back(build, one, heirs, barrier)
        lanes += [steps] if steps else []
    build.round = 0
    build.add_lanes(lanes)
    return lanes


def _lane_back(build: Builder, one: Touched, heirs: dict[str, Lane], barrier: Barrier) -> list[Step]:
    """The lane of the way forward with the old version; nothing where a patch without an undo is all there was."""
    instance, partition, _, patch, *_ = one.lane
    upgraded, unpatch = build.env.instances[instance][0] in build.versions, patch and bool(build.env.actions["patch"].undo)
    if patch and not unpatch and not upgraded:
        return []
    handing = _lead_back(build, instance, one, heirs, (), barrier)
    rest = lane(build, instance, partition, () if handing else barrier, patch=unpatch)
    if handing:
        rest[0] = rest[0].model_copy(update={"needs": (handing[0].id,)})
    steps = [*handing, *(s.model_copy(update=one.done) for s in rest)]
    if unpatch and one.later:  # a later round brought new code alone: it has gone back, the patch has not
        again = {"done": one.done["done"], "began": one.later, "unbegun": ()}
        alone = _renamed(lane(build, instance, partition, (steps[-1].id,), patch=True, upgraded=False), "unpatch-")
        steps += [s.model_copy(update=again) for s in alone]
    return steps


def _replaced_back(build: Builder, one: Touched, heirs: dict[str, Lane], barrier: Barrier) -> list[Step]:
    """A machine like the old one takes the place of the new one, in the same order as on the way forward."""
    old, partition, new = one.lane.instance, one.lane.partition, str(one.lane.new)
    if _surged(one.lane):
        steps = new_lane(build, old, barrier)
        steps += _lead_back(build, new, one, heirs, (steps[-1].id,), ())
        steps += way_out(build, new, partition, (), needs=(steps[-1].id,))
        steps.append(release(build, new, (steps[-1].id,)))
    else:
        steps = way_out(build, new, partition, barrier)
        steps.append(release(build, new, (steps[-1].id,)))
        steps += new_lane(build, old, (), needs=(steps[-1].id,))
    return [s if s.done else s.model_copy(update=one.done) for s in steps]


def _lead_back(build: Builder, leader: str, one: Touched, heirs: dict[str, Lane], needs: Barrier, after: Barrier) -> list[Step]:
    """The lead goes back to whom it was taken over from, if it was and has not been given away again."""
    taken_from = heirs.get(leader) if one.round == 0 else None
    if taken_from is None:
        return []
    place = {s.id: i for i, s in enumerate(build.steps)}
    taken = next(s.id for s in taken_from.steps if s.action == "hand_over")
    given = tuple(s.id for s in one.lane.steps if s.action == "hand_over" and place[s.id] > place[taken])
    step = hand_over(build, leader, taken_from.instance, after, needs=needs)
    return [step.model_copy(update=one.guard(done=(*one.done["done"], taken), undone=given))]


def _writers_back(build: Builder, store: str, batch: Sequence[Touched], barrier: Barrier) -> list[list[Step]]:
    """All writers that run leave, the migration is undone, and all start with the old version; their lanes.

    Without an undo the begin of the migration was a point of no return, and before it no writer came back.
    """
    recipe = build.env.services[store].actions["migrate"]
    undo = f"rollback/{store}/migrate" if recipe.undo else ""
    stopped: list[str] = []
    back: list[list[Step]] = []
    for one in batch:
        build.round = one.round
        half = _renamed(_resumed(build, one, (undo,) if undo else ()), "out-")
        back.append([half[0].model_copy(update={"after": barrier}), *half[1:]])
        if undo:
            done = lane(build, one.lane.instance, one.lane.partition, barrier, start_needs=(undo,))
            stopped.append([s.id for s in done if _base(s) in TAKING][-1])
            back.append([s.model_copy(update=one.done) for s in done])
    build.round = 0
    first = len(build.steps)
    build.add(*(s for steps in back for s in steps))
    if undo:
        began = data_layer.steps_of(build, store, "migrate")
        data_layer.undo(build, store, "migrate", (*barrier, *stopped), began, (("schema", store, build.versions[store]),))
    build.one_lane(first)
    return back


def _takers(steps: Sequence[Step], instance: str) -> Barrier:
    """Those of a lane's steps by which an instance goes, or is worked on."""
    return tuple(s.id for s in steps if s.action != "hand_over" and (s.target == instance or any(e[1] == instance for e in s.begin)))


def _serves(step: Step, instance: str) -> bool:
    return ("serve", instance) in step.end


def _base(step: Step) -> str:
    return step.action.partition("#")[0]


def _renamed(steps: Sequence[Step], prefix: str) -> list[Step]:
    """*steps* with a *prefix* before each action, and among themselves in what they need."""
    name = {s.id: f"{s.id.rpartition('/')[0]}/{prefix}{s.action}" for s in steps}
    return [s.model_copy(update={"id": name[s.id], "needs": tuple(name.get(n, n) for n in s.needs)}) for s in steps]
