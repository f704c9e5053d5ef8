"""What a step may do to the environment: one closed table of verbs.

Engine, vetting, runner and documentation follow this table; a verb that is not in it is no effect.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

Effect: TypeAlias = Annotated[
    tuple[str | int | float | None, ...], BeforeValidator(lambda value: _checked(value)), PlainSerializer(lambda effect: list(effect))
]


class Verb(NamedTuple):
    """One kind of effect."""

    arguments: tuple[str, ...]
    """What follows the verb: instance, service, version, weight, copy, step; a trailing '?' may be null or left out."""
    writes: str
    """The attribute of the state that it writes."""
    takes: bool
    """It takes an instance out of service."""
    meaning: str


COPIES = ("backup", "standby")
"""What a restore may name: periodic copies (backups, log archives, recovery points), or standbys; by default the best of both."""

VERBS: dict[str, Verb] = {
    "drain": Verb(("instance",), "mode", True, "takes nothing new, finishes what it has"),
    "out": Verb(("instance",), "mode", True, "is off the balancer and serves nothing"),
    "kill": Verb(("instance",), "mode", True, "is gone without notice: dead in the pool until the health check notices"),
    "start": Verb(("instance",), "mode", False, "runs, and serves once its health check has risen"),
    "serve": Verb(("instance",), "mode", False, "serves"),
    "remove": Verb(("instance",), "mode", True, "is absent, its machine released"),
    "version": Verb(("instance", "version"), "version", False, "runs this version from its next start"),
    "weight": Verb(("instance", "weight"), "weight", False, "gets requests in proportion to this number; 1 is normal, 0 is nothing"),
    "schema": Verb(("service", "version"), "schema", False, "the store has this schema"),
    "lead": Verb(("service", "instance?"), "leader", False, "is led by this instance; null: between two leaders"),
    "point": Verb(("service",), "recovery point", False, "could be restored to the moment this step began"),
    "restore": Verb(("service", "copy?"), "timeline", False, "holds what its best surviving copy (of one kind) held"),
    "split": Verb(("service",), "split", False, "every serving instance of the store takes writes of its own"),
    "join": Verb(("service",), "split", False, "the store has one primary again"),
    "rewind": Verb(("service", "step"), "timeline", False, "holds what the best copy of the time before that step held"),
    "open": Verb((), "open", False, "users arrive"),
    "validated": Verb((), "validated", False, "the service counts as restored"),
}


def _checked(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], str) or value[0] not in VERBS:
        raise PydanticCustomError(
            "effect", "{value} is no effect; the verbs are {verbs}", {"value": repr(value)[:60], "verbs": ", ".join(VERBS)}
        )
    wanted = VERBS[value[0]].arguments
    least = sum(not a.endswith("?") for a in wanted)
    if not least <= len(value) - 1 <= len(wanted):
        usage = " ".join((value[0], *wanted))
        raise PydanticCustomError(
            "effect", "{value} has the wrong number of arguments; it reads [{usage}]", {"value": repr(value)[:60], "usage": usage}
        )
    for kind, given in zip(wanted, value[1:], strict=False):
        if kind == "weight" and not (isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= sys.float_info.max):
            rule = "{value} has the weight {weight}; a weight is a finite number that is not negative, and 1 is normal"
            raise PydanticCustomError("effect", rule, {"value": repr(value)[:60], "weight": repr(given)[:30]})
        if kind == "copy?" and given is not None and given not in COPIES:
            rule = "{value} restores from {copy}, which is no kind of copy; it takes {kinds}, or null for the best that survives"
            raise PydanticCustomError(
                "effect", rule, {"value": repr(value)[:60], "copy": repr(given)[:30], "kinds": " or ".join(map(repr, COPIES))}
            )
        if kind != "weight" and isinstance(given, float):
            raise PydanticCustomError(
                "effect",
                "{value} has the number {given}, not a {kind}; write it in quotes",
                {"value": repr(value)[:60], "given": given, "kind": kind.rstrip("?")},
            )
    return tuple(float(x) if kind == "weight" else x for kind, x in zip(("", *wanted), value, strict=False))
