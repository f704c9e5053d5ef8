"""Whether what the policy promises can be kept by a standby that is there to keep it: it must not share its primary's fate."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from simdeploy.environment.models import Environment, Service
from simdeploy.environment.names import in_short
from simdeploy.environment.stores import Backup, Copy, LogArchive, Standby
from simdeploy.errors import Problem
from simdeploy.units import format_s


def policy_problems(env: Environment) -> Iterator[Problem]:
    """Every standby that the policy counts on and that is lost with its primary. Names of machines must be sound.

    A standby that is not behind by more than the RPO of a zone could keep it, if it stood elsewhere. Where all of them stand
    in the zone of their primary, and no backup or archive keeps the RPO either, the file contradicts itself.
    """
    for name, service in env.services.items():
        found = shared_fate(env, name, service.on, "put one")
        if found is not None:
            yield Problem(("services", name, "store", "copies", found[0]), found[1])


def shared_fate(env: Environment, name: str, machines: Collection[str], cure: str) -> tuple[int, str] | None:
    """(position of the copy, what is wrong) where a store on *machines* has such a standby. *cure* begins what mends it: put one."""
    rpo_s, service, boxes = env.policy.zone.rpo_s, env.services[name], {m.name: m for m in env.machines}
    copies = service.store.copies if service.store else ()
    j = next((j for j, copy in enumerate(copies) if isinstance(copy, Standby) and rpo_s is not None and copy.lag_s <= rpo_s), None)
    home = _home(env, service)
    zone = boxes[home].zone
    if rpo_s is None or j is None or zone is None or any(boxes[m].hosted or boxes[m].zone != zone for m in machines):
        return None
    if _kept(env, copies, zone, rpo_s) >= env.policy.share - 1e-9:
        return None
    others = [m for m in machines if m != home]
    beside = f"{in_short(others)} {'stands' if len(others) == 1 else 'stand'} in zone {zone} as its primary on {home} does"
    elsewhere = sorted({m.zone for m in env.machines if m.zone not in (None, zone) and not m.hosted})
    another = f"another zone ({in_short([str(z) for z in elsewhere])})" if elsewhere else "another zone"
    rule = f"the loss of that zone loses both, and the policy's rpo of a zone is {format_s(rpo_s)}"
    way_out = f"{cure} in {another}, add a log_archive that is kept elsewhere, or change policy.zone.rpo"
    return j, f"the standby of {name!r} cannot help: {beside}; {rule}: {way_out}"


def _home(env: Environment, service: Service) -> str:
    """The machine of the primary at the start: the stated one, else the first in the list of machines."""
    order = {m.name: i for i, m in enumerate(env.machines)}
    return service.leader or min(service.on, key=lambda m: order[m])


def _kept(env: Environment, copies: tuple[Copy, ...], zone: str, rpo_s: float) -> float:
    """In what share of the moments the backups and archives that survive the loss of *zone* keep *rpo_s*."""
    left = [c for c in copies if not isinstance(c, Standby) and not _dies(env, c, zone)]
    if not any(isinstance(c, Backup) for c in left):  # a log goes on from a backup
        return 0.0
    missed = 1.0
    for copy in left:
        shortest_s, period_s = _exposure(copy)
        missed *= 1 - min(1.0, max(0.0, (rpo_s - shortest_s) / period_s))
    return 1 - missed


def _exposure(copy: Copy) -> tuple[float, float]:
    """(a, b) of a copy whose exposure at a random moment is uniform from a to a + b [s]."""
    assert not isinstance(copy, Standby)
    return copy.newest_s, copy.every_s if isinstance(copy, Backup) else copy.closes_every_s or float("inf")


def _dies(env: Environment, copy: Backup | LogArchive, zone: str) -> bool:
    """Whether *copy* is kept where the loss of *zone* reaches it."""
    return copy.zone == zone or any(m.name == copy.on and m.zone == zone and not m.hosted for m in env.machines)
