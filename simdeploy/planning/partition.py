"""How one service is partitioned: which of its instances go out together, how they leave and return, and what makes no sense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from simdeploy.environment.base import Frozen
from simdeploy.environment.models import Environment, Service
from simdeploy.errors import Path, Problem
from simdeploy.planning.batches import Batches, Minimum, Rounding, cut, cutting_keys, problems_of, surging
from simdeploy.units import Fraction, Seconds

REPLACING = ("max_surge", "blue_green")
"""Keys with which new machines take the place of old ones."""
LEADS = ("leader_elected", "datastore")


class Partition(Frozen):
    """How the instances of one service go out together, in what order, and how they are taken out and brought back."""

    batches: Batches = "all"
    """'all' at once, sizes consumed in order of the machines with the last one repeating, or another way by its name."""
    max_unavailable: Minimum | None = None
    """Instead of batches: at most so many at once."""
    max_surge: Minimum | None = None
    """Instead of batches: so many new machines at once take the place of old ones, which go when the new ones serve."""
    min_available: Minimum | None = None
    """Instead of batches: as many at once as leave so many."""
    minimum_healthy: Minimum | None = None
    """The same as CodeDeploy has it."""
    rounding: Rounding | None = None
    """Whose rounding percentages follow; by default ansible for batches, kubernetes for max_unavailable and max_surge."""
    blue_green: bool = False
    """Instead of batches: a whole new set of machines is made beside the old one, then all traffic is switched over."""
    keep_old_s: Seconds = Field(default=0.0, alias="keep_old")
    """Of blue_green: how long the old set is kept after the switch."""
    take_out: Literal["drain", "stop", "weigh"] = "drain"
    """drain: off the balancer, finishing what it has; stop: dead in the pool until the health check notices;
    weigh: less and less of the traffic, then as drain."""
    weights: tuple[Annotated[Fraction, Field(gt=0, lt=1)], ...] = ()
    """Of take_out: weigh: the shares of its normal traffic that an instance gets, one after the other, before its drain."""
    leader: Literal["last", "first", "any"] = "any"
    """Of a service with a leader: where in the order the leader of the start state goes."""
    hand_over: bool = False
    """Of a service with a leader or a primary: it hands over before it goes, instead of leaving an election behind."""
    migration: Literal["offline", "expand_contract", "replica_first", "split"] | None = None
    """Of a datastore. offline: its writers are stopped, the schema migrates, the new writers start.
    expand_contract: a short lock, new code, a backfill while slower, a short lock.
    replica_first: the standbys migrate, one of them takes over, the old primary migrates.
    split: half after half migrates while the other one takes writes; then what diverged is reconciled."""
    restore_on_abort: bool = False
    """Of expand_contract: past the contraction an abort that rolls back restores what the store held before it, instead of
    halting; what was written since is lost."""
    back_up_first: bool = False
    """Of a datastore: a backup, and so a fresh recovery point, before it is touched."""


def partition_problems(
    name: str, partition: Partition, env: Environment, upgraded: bool, patched: bool, sliced: bool = False
) -> Iterator[Problem]:
    """Every rule that *partition* of the service *name* breaks; paths begin at the partition."""
    service = env.services[name]
    misplaced = list(_misplaced(name, service, partition, upgraded))
    yield from misplaced
    if misplaced or (service.role == "datastore" and upgraded):
        yield from _of_a_store(name, service, partition)
        return
    cutting = cutting_keys(partition)
    if partition.blue_green and cutting:
        yield Problem((cutting[0],), f"blue_green replaces all of {name!r} at once; drop {cutting[0]!r} or blue_green")
    if (partition.weights != ()) != (partition.take_out == "weigh"):
        way_out = "write take_out: weigh and, for example, weights: [50 %, 10 %]"
        yield Problem(("take_out",), f"take_out: weigh and weights go together, here one is missing; {way_out}")
    if partition.keep_old_s and not partition.blue_green:
        yield Problem(("keep_old",), "only blue_green has an old set to keep; drop 'keep_old'")
    replacing = [key for key in REPLACING if getattr(partition, key) not in (None, False)]
    for key in replacing:
        if "allocate" not in env.actions:
            way_out = "add it under the environment's 'actions', beside 'services'"
            yield Problem((key,), f"{key} needs new machines, and there is no recipe for 'allocate'; {way_out}")
        for machine, other in [(m, s) for m in service.on for s in env.services if s != name and m in env.services[s].on][:1]:
            message = f"{key} gives the machines of {name!r} back, and {other!r} runs on {machine!r} as well"
            yield Problem((key,), f"{message}; take batches, which change what is there")
    if patched and any(getattr(partition, key) not in (None, False) for key in REPLACING):
        yield Problem((), f"{name!r} is patched where it stands; to replace its machines, upgrade it with max_surge or blue_green")
    uncut = problems_of(partition, name, env)
    yield from uncut
    if partition.hand_over and not uncut and not sliced and not partition.blue_green:
        yield from _nobody_left(name, partition, env)


def _nobody_left(name: str, partition: Partition, env: Environment) -> Iterator[Problem]:
    """A leader hands over to a member that stays, or to a new one that came before it goes."""
    members = env.members(name)
    if partition.max_surge is not None:
        if not surging(partition, len(members)):
            yield Problem(("hand_over",), f"no new machine of {name!r} comes before an old one goes; raise max_surge, or drop hand_over")
    elif not cutting_keys(partition) or (len(members) > 1 and len(cut(partition, members, env)) == 1):
        yield Problem(("hand_over",), f"all of {name!r} goes at once, so nobody is left to take over; set batches, or drop hand_over")


def _misplaced(name: str, service: Service, partition: Partition, upgraded: bool) -> Iterator[Problem]:
    """Keys that a service of this role does not have."""
    store = service.role == "datastore"
    migrates = store and upgraded
    for key, given, fits, rule in (
        ("migration", partition.migration is not None, migrates, "only the schema of a datastore that is upgraded migrates"),
        ("restore_on_abort", partition.restore_on_abort, migrates, "only a datastore that migrates is restored"),
        ("back_up_first", partition.back_up_first, store, "only a datastore is backed up"),
        *((key, True, not migrates, "a datastore's schema changes as a whole") for key in cutting_keys(partition)),
        ("rounding", partition.rounding is not None, not migrates, "nothing of a datastore is rounded"),
        ("max_surge", partition.max_surge is not None and not migrates, not store, "a new machine has none of its data"),
        ("blue_green", partition.blue_green, not store, "a new machine has none of its data"),
        ("take_out", partition.take_out == "weigh", service.role == "stateless", "only stateless instances share their traffic by weight"),
        ("leader", partition.leader != "any", service.role in LEADS and not migrates, "only a leader-elected service has one"),
        ("hand_over", partition.hand_over, service.role in LEADS and not migrates, "only a leader hands over"),
    ):
        if given and not fits:
            yield Problem((key,), f"{name!r} is {service.role}; {rule}: drop {key!r}")


def _of_a_store(name: str, service: Service, partition: Partition) -> Iterator[Problem]:
    if partition.restore_on_abort and partition.migration != "expand_contract":
        yield Problem(("restore_on_abort",), f"{name!r} does not contract here; drop it, or write migration: expand_contract")
    if partition.restore_on_abort and not (service.store and service.store.copies) and not partition.back_up_first:
        message = f"nothing of {name!r} could be restored: it has no copies"
        yield Problem(("restore_on_abort",), f"{message}; describe them under its 'store', or add back_up_first: true")
    if partition.migration in ("replica_first", "split") and len(service.on) < 2:
        message = f"{name!r} runs on one machine, so nobody takes over while it migrates"
        yield Problem(("migration",), f"{message}; add a machine, or write migration: offline or expand_contract")


def recipes_needed(service: Service, partition: Partition, upgraded: bool, patched: bool, stopped: bool = False) -> list[str]:
    """The actions that *service* must have a recipe for to be partitioned so; *stopped*: by the offline migration of its store.

    Nobody waits for what monitoring has in hand, so a monitor that is changed where it stands may go with its change.
    """
    needed = ["back_up"] * partition.back_up_first
    if service.role == "datastore" and upgraded:
        return (
            needed
            + {
                "offline": ["migrate"],
                "expand_contract": ["expand", "contract"] + ["restore"] * partition.restore_on_abort,
                "replica_first": ["migrate", "hand_over"],
                "split": ["split", "migrate", "reconcile"],
            }[partition.migration or "offline"]
        )
    needed += ["hand_over"] * partition.hand_over
    taking = {"drain": ["drain"], "stop": ["stop"], "weigh": ["weigh", "drain"]}[partition.take_out]
    if patched and not upgraded:
        return needed + taking * (partition.take_out == "weigh")  # else what has no way out goes with its machine
    if service.role == "monitoring" and not stopped and not any(getattr(partition, key) for key in REPLACING):
        taking = []
    return needed + taking + ["install"] * upgraded + ["start"] + ["switch"] * partition.blue_green


def prefixed(problems: Iterable[Problem], where: Path) -> list[Problem]:
    """*problems* with their paths seen from the top of the document."""
    return [Problem((*where, *p.path), p.message) for p in problems]
