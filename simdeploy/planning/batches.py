"""Batches: how many of a service's instances may be out at once, rounded as the named tool rounds, in exact integers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, PlainSerializer, PlainValidator, Tag
from pydantic_core import PydanticCustomError

from simdeploy.environment.models import Environment
from simdeploy.environment.names import in_short
from simdeploy.errors import PlanError, Problem

if TYPE_CHECKING:
    from simdeploy.planning.partition import Partition

_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%")
_PercentageText = Annotated[str, Field(pattern=f"^{_PERCENTAGE.pattern}$")]


def _reader(least: int, what: str) -> PlainValidator:
    def read(value: Any) -> int | Fraction:
        match = _PERCENTAGE.fullmatch(value.strip()) if isinstance(value, str) else None
        size = Fraction(match[1]) / 100 if match else value
        if isinstance(size, Fraction) and (0 < size <= 1 or size == least == 0):
            return size
        if isinstance(size, int) and not isinstance(size, bool) and size >= least:
            return size
        rule = f"a count from {least} up, or a percentage {'from' if least == 0 else 'above'} 0 % up to 100 %"
        raise PydanticCustomError("batches", "{value} is no {what}; write {rule}", {"value": repr(value)[:60], "what": what, "rule": rule})

    return PlainValidator(read, json_schema_input_type=Annotated[int, Field(ge=least)] | _PercentageText)


def _said(size: int | Fraction) -> int | str:
    return size if isinstance(size, int) else f"{float(size * 100):.9f}".rstrip("0").rstrip(".") + " %"


Size = Annotated[int | Fraction, _reader(1, "batch size"), PlainSerializer(_said)]
"""A count, or an exact share of the pool; in YAML `2` or `25 %`."""
Minimum = Annotated[int | Fraction, _reader(0, "number of instances"), PlainSerializer(_said)]
"""The same, and 0: how many stay."""
Tolerated = Annotated[int | Fraction, _reader(0, "number of failures"), PlainSerializer(_said)]
"""The same of lanes that may fail."""

Word = Literal["all", "by_zone", "by_update_domain", "canary", "halves"]


def _listed(value: Any) -> Any:
    if value in get_args(Word) or (isinstance(value, list | tuple) and value):
        return value
    if (isinstance(value, str) and "%" not in value) or value in ([], ()):
        known = ", ".join(get_args(Word))
        raise PydanticCustomError(
            "batches",
            "{value} is no batch size; write a count, a percentage, a list of these, or one of {known}",
            {"value": repr(value)[:60], "known": known},
        )
    return [value]


Batches = Annotated[
    Annotated[Word, Tag("word")] | Annotated[tuple[Size, ...], Tag("sizes")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "sizes"),
    BeforeValidator(_listed, json_schema_input_type=Word | Size | Annotated[tuple[Size, ...], Field(min_length=1)]),
]

Rounding = Literal["ansible", "kubernetes", "pdb", "codedeploy"]
ROUNDS: dict[Rounding, tuple[str, ...]] = {
    "ansible": ("batches",),
    "kubernetes": ("max_unavailable", "max_surge"),
    "pdb": ("max_unavailable", "min_available"),
    "codedeploy": ("minimum_healthy",),
}
"""Convention -> the keys it rounds; a key without `rounding` goes by the first convention that has it."""
GROUPED = {"by_zone": "zone", "by_update_domain": "update_domain"}
"""Word for batches -> the key of a machine by which it groups."""
KEYS = tuple(dict.fromkeys(key for keys in ROUNDS.values() for key in keys))
"""The keys of a partition that say how many go at once."""


def ansible(n: int, size: int | Fraction) -> int:
    """Hosts in a batch of `serial: size` out of *n*: a percentage of all *n* truncated, at least 1; a count as it is.

    Ansible computes in floating point, so 29 % of 100 is 28 there; here it is 29.

    >>> ansible(10, Fraction("0.25")), ansible(3, Fraction("0.25")), ansible(0, Fraction(1)), ansible(100, Fraction("0.29"))
    (2, 1, 1, 29)
    """
    return _floor(n, size) or 1


def kubernetes(n: int, max_unavailable: int | Fraction, max_surge: int | Fraction = 0) -> tuple[int, int]:
    """How many of *n* a Deployment lets be unavailable, rounded down, and how many it adds, rounded up.

    Where both come to 0 one may be unavailable, else nothing would move; this holds for an empty pool too.

    >>> kubernetes(10, Fraction("0.39"), Fraction("0.39")), kubernetes(3, Fraction("0.25")), kubernetes(0, Fraction(1))
    ((3, 4), (1, 0), (1, 0))
    """
    out, surge = _floor(n, max_unavailable), _ceil(n, max_surge)
    return (out, surge) if out or surge else (1, 0)


def pdb(n: int, *, max_unavailable: int | Fraction | None = None, min_available: int | Fraction = 0) -> int:
    """How many of *n* a PodDisruptionBudget lets be out: *max_unavailable* rounded up, else what *min_available*, rounded up, leaves.

    With *max_unavailable* more may go than the percentage says: 30 % of 7 is 3. 0 = the budget lets none go.

    >>> pdb(7, max_unavailable=Fraction("0.3")), pdb(7, min_available=Fraction("0.5")), pdb(1, min_available=Fraction("0.01"))
    (3, 3, 0)
    """
    return min(n, _ceil(n, max_unavailable)) if max_unavailable is not None else max(0, n - _ceil(n, min_available))


def codedeploy(n: int, minimum_healthy: int | Fraction) -> int:
    """How many of *n* CodeDeploy takes at once: what the minimum of healthy hosts, rounded up, leaves. 0 = it can take none.

    >>> codedeploy(9, Fraction("0.4")), codedeploy(9, 6), codedeploy(1, Fraction("0.5"))
    (5, 3, 0)
    """
    return max(0, n - _ceil(n, minimum_healthy))


def _floor(n: int, size: int | Fraction) -> int:
    return size if isinstance(size, int) else math.floor(n * size)


def _ceil(n: int, size: int | Fraction) -> int:
    return size if isinstance(size, int) else math.ceil(n * size)


def cut(partition: Partition, members: Sequence[str], env: Environment) -> list[tuple[str, ...]]:
    """*members*, instances of one service with its leader where it shall go, cut into batches.

    Sizes are consumed in order, the last one repeating. `by_zone` and `by_update_domain` have one batch per zone or
    domain, in the order of the list of machines; the leader's goes first or last if the leader does. Raises PlanError
    where nothing may be taken out and where a zone or domain is missing.
    """
    if partition.batches in GROUPED:
        return _by_group(partition, members, env)
    sizes = _sizes(partition, len(members))
    if members and 0 in sizes:
        raise PlanError(_nothing_left(partition, len(members)))
    batches: list[tuple[str, ...]] = []
    done = 0
    while done < len(members):
        size = sizes[min(len(batches), len(sizes) - 1)]
        batches.append(tuple(members[done : done + size]))
        done += size
    return batches


def _by_group(partition: Partition, members: Sequence[str], env: Environment) -> list[tuple[str, ...]]:
    key = GROUPED[str(partition.batches)]
    group_of = {member: getattr(env.machines[env.machine_index[env.instances[member][1]]], key) for member in members}
    bare = [env.instances[member][1] for member in members if group_of[member] is None]
    if bare:
        raise PlanError(f"no {key} of {in_short(bare)} is known; give each machine its '{key}', or write counts")
    order = list(dict.fromkeys(getattr(machine, key) for machine in env.machines))
    if members and partition.leader != "any":
        leader = members[-1 if partition.leader == "last" else 0]
        order.sort(key=lambda group: (group == group_of[leader]) == (partition.leader == "last"))
    groups = (tuple(m for m in members if group_of[m] == group) for group in order)
    return [group for group in groups if group]


def at_work(
    batches: Iterable[tuple[str, ...]], env: Environment, patched: Collection[str], upgraded: Collection[str], done: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """*batches* without the instances for which nothing is left to do, and without batches of such alone.

    Those are of services that are *patched* and not *upgraded*, on a machine that is *done* or that an earlier one patches.
    """
    seen, working = set(done), []
    for batch in batches:
        kept = []
        for instance in batch:
            service, machine = env.instances[instance]
            if service in upgraded or service not in patched or machine not in seen:
                kept.append(instance)
            seen |= {machine} if service in patched else set()
        working += [tuple(kept)] if kept else []
    return working


def surging(partition: Partition, n: int) -> int:
    """How many of each batch of a pool of *n* are replaced by a new machine before they go."""
    return kubernetes(n, partition.max_unavailable or 0, partition.max_surge)[1] if partition.max_surge is not None else 0


def _sizes(partition: Partition, n: int) -> tuple[int, ...]:
    """The sizes to be consumed for a pool of *n*; 0 = nothing may be taken."""
    if partition.max_surge is not None:
        return (sum(kubernetes(n, partition.max_unavailable or 0, partition.max_surge)),)
    if partition.max_unavailable is not None:
        most = partition.max_unavailable
        return (pdb(n, max_unavailable=most) if partition.rounding == "pdb" else kubernetes(n, most)[0],)
    if partition.min_available is not None:
        return (pdb(n, min_available=partition.min_available),)
    if partition.minimum_healthy is not None:
        return (codedeploy(n, partition.minimum_healthy),)
    words = {"all": (n,), "canary": (1, n), "halves": (n // 2 or 1, n)}
    return words[partition.batches] if isinstance(partition.batches, str) else tuple(ansible(n, s) for s in partition.batches)


def _nothing_left(partition: Partition, n: int) -> str:
    key = next(k for k in ("max_unavailable", "min_available", "minimum_healthy") if getattr(partition, k) is not None)
    if key == "max_unavailable":
        return "max_unavailable lets none of them go: nothing may be taken out; write at least 1, or add max_surge"
    return f"{key} keeps all {n} in service: nothing may be taken out; write a count of at most {n - 1}" + (
        ", or add a machine" if n == 1 else ""
    )


def cutting_keys(partition: Partition) -> list[str]:
    """The keys of *partition* that cut a service into more than one batch, as far as they are given."""
    return [key for key in KEYS if getattr(partition, key) not in (None, "all")]


def problems_of(partition: Partition, service: str, env: Environment) -> list[Problem]:
    """What is wrong with how *partition* cuts *service*; paths begin at the partition."""
    given = [key for key in KEYS if key in partition.model_fields_set and getattr(partition, key) is not None]
    if len(given) > 1 and given != ["max_unavailable", "max_surge"]:
        return [Problem((given[-1],), f"{' and '.join(given)} say how many of {service!r} go at once; keep one of them")]
    key = given[0] if given else "batches"
    if partition.rounding is not None and key not in ROUNDS[partition.rounding]:
        fits = " or ".join(name for name, keys in ROUNDS.items() if key in keys)
        message = f"{partition.rounding!r} rounds {' or '.join(ROUNDS[partition.rounding])}, not {key!r}"
        return [Problem(("rounding",), f"{message}; write that, or rounding: {fits}")]
    try:
        cut(partition, env.members(service), env)
    except PlanError as error:
        return [Problem((key,), str(error))]
    return []
