"""What may mend a breach of the policy: a table of changes to an environment, the cheapest first, to be tried in simulation.

Each is an assumption: what such a copy, person or machine would be like here is what the constants and texts say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from simdeploy.environment.models import Election, Environment
from simdeploy.environment.policy import DISRUPTIONS, Lose
from simdeploy.environment.stores import Backup, Copy, LogArchive, Standby, Store
from simdeploy.planning.recovery import RecoveryStrategy, beside, standbys_of, zones
from simdeploy.planning.recovery_rules import shares_fate
from simdeploy.study.disruptions import AS_IT_IS, Loss, case_of

Objective = Literal["rto", "rpo"]
Cured = tuple[Environment, RecoveryStrategy]

DUMP = Backup(kind="backup", every_s=24 * 3600, takes_s=1800)
ARCHIVE = LogArchive(kind="log_archive", closes_every_s=300, ships_in_s=30)
FOLLOWER = Standby(kind="standby", lag_s=5)
LATE = Standby(kind="standby", lag_s=5, delay_s=4 * 3600)
HOURLY_S = 3600.0
ELECTION = Election(detect_s=10, elect_s=20)
"""Of a store that fails over by itself and says nothing else."""


class Cure(NamedTuple):
    """One change that may mend a breach."""

    name: str
    text: str
    """What it is, after 'with'."""
    mends: tuple[Objective, ...]
    against: tuple[Lose, ...]
    change: Callable[[Environment, Loss], Cured | None]
    """None where it would change nothing, or there is no place for it."""


def _keep_elsewhere(env: Environment, loss: Loss) -> Cured | None:
    case = case_of(env, loss)

    def moved(copy: Copy) -> Copy:
        return copy.model_copy(update={"on": None, "zone": None}) if shares_fate(case, copy) else copy

    return _with_copies(env, loss, lambda copies: tuple(map(moved, copies)))


def _dump(env: Environment, loss: Loss) -> Cured | None:
    return _with_copies(env, loss, lambda copies: copies if _left(env, loss, copies, "backup") else (*copies, DUMP))


def _archive(env: Environment, loss: Loss) -> Cured | None:
    """Where a backup is left from which the log goes on, and no such archive."""
    return _with_copies(env, loss, lambda copies: _archived(env, loss, copies) if _left(env, loss, copies, "backup") else copies)


def _dump_and_archive(env: Environment, loss: Loss) -> Cured | None:
    return _with_copies(env, loss, lambda copies: copies if _left(env, loss, copies, "backup") else _archived(env, loss, (*copies, DUMP)))


def _archived(env: Environment, loss: Loss, copies: tuple[Copy, ...]) -> tuple[Copy, ...]:
    there = _left(env, loss, copies, "log_archive")
    soon = any(isinstance(c, LogArchive) and c.closes_every_s is not None and c.closes_every_s <= 300 for c in there)
    return copies if soon else (*copies, ARCHIVE)


def _hourly(env: Environment, loss: Loss) -> Cured | None:
    def sooner(copy: Copy) -> Copy:
        if not isinstance(copy, Backup) or copy.every_s <= HOURLY_S:
            return copy
        return copy.model_copy(update={"every_s": HOURLY_S, "takes_s": min(copy.takes_s, HOURLY_S / 2)})

    return _with_copies(env, loss, lambda copies: tuple(map(sooner, copies)))


def _standby_beside(env: Environment, loss: Loss) -> Cured | None:
    return _with_standby(env, loss, FOLLOWER, "same")


def _standby_elsewhere(env: Environment, loss: Loss) -> Cured | None:
    return _with_standby(env, loss, FOLLOWER, "other")


def _late_standby(env: Environment, loss: Loss) -> Cured | None:
    return _with_standby(env, loss, LATE, "same")


def _automatic(env: Environment, loss: Loss) -> Cured | None:
    waiting = [n for n, one in case_of(env, loss).stores.items() if one.standbys and not one.delayed and not one.by_itself]
    return (_by_itself(env, waiting), AS_IT_IS) if waiting else None


def _noticed(env: Environment, loss: Loss) -> Cured | None:
    return _sooner(env, "noticed" if env.recovery.noticed is not None else "detect")


def _detected(env: Environment, loss: Loss) -> Cured | None:
    return _sooner(env, "detect")


def _decided(env: Environment, loss: Loss) -> Cured | None:
    return _sooner(env, "decide")


def _hands(env: Environment, loss: Loss) -> Cured | None:
    if env.recovery.hands is None or env.recovery.hands >= len(case_of(env, loss).new):
        return None
    return env.model_copy(update={"recovery": env.recovery.model_copy(update={"hands": None})}), AS_IT_IS


def _spares(env: Environment, loss: Loss) -> Cured | None:
    new = case_of(env, loss).new
    return (env, RecoveryStrategy(spares=len(new))) if new else None


PARTS: tuple[Lose, ...] = ("machine", "zone")
DYING: tuple[Lose, ...] = (*PARTS, "everything")
CURES = (
    Cure("kept-elsewhere", "its copies kept out of reach", ("rpo",), DYING, _keep_elsewhere),
    Cure("dump", "a dump every night, kept out of reach", ("rpo",), DISRUPTIONS, _dump),
    Cure("log-archive", "a log archive every 5 min", ("rpo",), DISRUPTIONS, _archive),
    Cure("dump-and-archive", "a dump every night and a log archive every 5 min, out of reach", ("rpo",), DISRUPTIONS, _dump_and_archive),
    Cure("automatic-failover", "a failover that needs nobody", ("rto",), PARTS, _automatic),
    Cure("noticed-sooner", "mistakes noticed in half the time", ("rto", "rpo"), ("application",), _noticed),
    Cure("detected-sooner", "losses detected in half the time", ("rto",), DYING, _detected),
    Cure("decided-sooner", "a decision in half the time", ("rto", "rpo"), ("application",), _decided),
    Cure("decided-sooner", "a decision in half the time", ("rto",), DYING, _decided),
    Cure("hourly-dumps", "a dump every hour", ("rto", "rpo"), DISRUPTIONS, _hourly),
    Cure("more-hands", "hands for all lost machines at once", ("rto",), DISRUPTIONS, _hands),
    Cure("standby", "a standby beside the primary that takes over by itself", ("rto", "rpo"), ("machine",), _standby_beside),
    Cure("standby-elsewhere", "a standby in another zone that takes over by itself", ("rto", "rpo"), PARTS, _standby_elsewhere),
    Cure("delayed-standby", "a standby that is 4 h late on purpose", ("rto", "rpo"), ("application",), _late_standby),
    Cure("spare-machines", "a spare machine for each that is lost", ("rto",), DISRUPTIONS, _spares),
)  # fmt: skip
"""The cheapest first; one that would break a rule of the environment or of the recovery is left out."""


def _stores(env: Environment, loss: Loss) -> list[str]:
    """The stores that *loss* hits."""
    return list(case_of(env, loss).stores)


def _left(env: Environment, loss: Loss, copies: tuple[Copy, ...], kind: str) -> list[Copy]:
    """Those of *copies* of a kind that survive."""
    case = case_of(env, loss)
    return [c for c in copies if c.kind == kind and not shares_fate(case, c)]


def _with_copies(env: Environment, loss: Loss, change: Callable[[tuple[Copy, ...]], tuple[Copy, ...]]) -> Cured | None:
    """*env* with other copies of each store that is hit."""
    changed = env
    for name in _stores(env, loss):
        store = env.services[name].store or Store()
        changed = _service(changed, name, store=store.model_copy(update={"copies": change(store.copies)}))
    return (changed, AS_IT_IS) if changed != env else None


def _with_standby(env: Environment, loss: Loss, copy: Standby, where: Literal["same", "other"]) -> Cured | None:
    """*env* with a standby of each store that is hit and has none left, on a machine of its own if there is no other member.

    A member that shares the zone of the primary is moved to the other one with all that is on its machine.
    """
    case, changed = case_of(env, loss), env
    for name, one in case.stores.items():
        home = env.instances[one.primary][1]
        there = standbys_of(env.services[name].store)
        if (there and one.standbys) or any(c.delay_s for c in there):
            continue
        other = next((z for z in zones(env) if z != env.machines[env.machine_index[home]].zone), None)
        if where == "other" and other is None:
            return None
        members = [i for i in env.members(name) if i != env.leader_of(name)]
        if not members:
            changed, _ = beside(changed, {home: [name]}, "standby", (), other if where == "other" else None)
        elif where == "other" and not one.standbys:
            k = env.machine_index[env.instances[members[0]][1]]
            machines = [m.model_copy(update={"zone": other}) if j == k else m for j, m in enumerate(changed.machines)]
            changed = changed.model_copy(update={"machines": tuple(machines)})
        if not there:
            store = changed.services[name].store or Store()
            changed = _service(changed, name, store=store.model_copy(update={"copies": (*store.copies, copy)}))
        if not copy.delay_s:
            changed = _by_itself(changed, [name])
    return (changed, AS_IT_IS) if changed != env else None


def _by_itself(env: Environment, stores: list[str]) -> Environment:
    """*env* whose *stores* fail over without anybody's doing."""
    for name in stores:
        stated = env.services[name].election
        env = _service(env, name, failover="automatic", election=ELECTION if stated == Election() else stated)
    return env


def _sooner(env: Environment, step: str) -> Cured | None:
    duration = getattr(env.recovery, step)
    if duration is None or not duration.mean_s:
        return None
    return env.model_copy(update={"recovery": env.recovery.model_copy(update={step: duration.scaled(0.5)})}), AS_IT_IS


def _service(env: Environment, name: str, **changed: Any) -> Environment:
    return env.model_copy(update={"services": {**env.services, name: env.services[name].model_copy(update=changed)}})
