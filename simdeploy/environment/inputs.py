"""The numbers of an environment or a scenario by their paths: what stands there, and the same with other ones there."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

from simdeploy.environment.base import Frozen
from simdeploy.environment.demand import Demand
from simdeploy.environment.durations import Distribution
from simdeploy.environment.names import did_you_mean
from simdeploy.errors import StudyError
from simdeploy.units import format_s

Document = TypeVar("Document", bound=Frozen)
QUANTITIES = ("_s", "_bytes", "times")
"""How the names of fields end that hold a quantity as a decimal number; what other fields hold so is a share."""
MOMENTS = ("at_s", "begins_at_s")
"""When something is, not how much of it there is."""

SAID = 4
"""Quantities of a mapping that are written out at most."""


def input_text(document: Frozen, at: str) -> str | None:
    """What stands at the path *at* of an environment or a scenario, for reading; None where that is no number.

    Raises StudyError for a path that it does not have.
    """
    value: Any = document
    name, rest = "", at
    while not _ends(value, rest):
        (name, *_), rest = _first(value, rest)
        value = _parts(value)[name]
    return _text(value, name)


def scaled_input(document: Document, at: str, factor: float) -> Document:
    """An environment or scenario with *factor* times what stands at the path *at*, every rule of its models checked anew.

    A number is multiplied, a share stops at 100 %, a count is rounded up. Of a duration the whole distribution is
    stretched, also where the path names one of its parameters. Of a mapping (a backup, a call, a daily curve) each
    quantity is multiplied: times, rates, sizes; its shares, counts and moments stay.

    Raises pydantic's ValidationError or InvalidDocument for a value that it may not have, and StudyError for a path
    that it does not have.
    """
    changed: Document = _altered(document, "", at, factor)
    return changed


def _ends(value: Any, rest: str) -> bool:
    """Whether a path ends here; a parameter of a duration stands for all of it, a file of demand for its levels."""
    return not rest or isinstance(value, Distribution) or (isinstance(value, Demand) and rest == "csv")


def _parts(value: Any) -> dict[str, Any]:
    """What *value* is made of, by the names of its fields, its keys or its positions."""
    if isinstance(value, Frozen):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, tuple):
        return {str(i): part for i, part in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _first(value: Any, rest: str) -> tuple[list[str], str]:
    """The parts of *value* in which the path *rest* goes on, and how: one, or those of counted machines (`3-7`).

    Keys may have dots of their own.
    """
    fields = type(value).model_fields if isinstance(value, Frozen) else {}
    known = {fields[name].alias or name if name in fields else name: name for name in _parts(value)}
    head, _, tail = rest.partition(".")
    if isinstance(value, tuple) and (span := re.fullmatch(r"(\d+)-(\d+)", head)) and span[2] in known:
        return [str(i) for i in range(int(span[1]), int(span[2]) + 1)], tail
    key = max((k for k in known if f"{rest}.".startswith(f"{k}.")), key=len, default=None)
    if key is None:
        raise StudyError(f"there is nothing at {rest!r}; {did_you_mean(rest.partition('.')[0], list(known))}")
    return [known[key]], rest[len(key) + 1 :]


def _altered(value: Any, name: str, rest: str, factor: float) -> Any:
    if _ends(value, rest):
        return _scaled(value, name, factor)
    names, rest = _first(value, rest)
    return _rebuilt(value, {name: _altered(_parts(value)[name], name, rest, factor) for name in names})


def _scaled(value: Any, name: str, factor: float) -> Any:
    if isinstance(value, Distribution):
        return value.scaled(factor)
    if isinstance(value, float):
        return value * factor if name.endswith(QUANTITIES) else min(1.0, value * factor)
    if isinstance(value, int) and not isinstance(value, bool):
        return math.ceil(value * factor)
    return _rebuilt(value, {part: _scaled(inner, part, factor) for part, inner in _within(value).items()})


def _within(value: Any) -> dict[str, Any]:
    """The parts of a mapping or list that are or hold quantities."""
    return {
        name: part
        for name, part in _parts(value).items()
        if isinstance(part, Frozen | tuple | dict) or (isinstance(part, float) and name.endswith(QUANTITIES) and name not in MOMENTS)
    }


def _rebuilt(value: Any, changed: dict[str, Any]) -> Any:
    """*value* with some of its parts changed."""
    if not changed:
        return value
    parts = _parts(value) | changed
    if isinstance(value, Frozen):
        return type(value).model_validate(parts)
    return tuple(parts.values()) if isinstance(value, tuple) else parts


def _text(value: Any, name: str) -> str | None:
    if isinstance(value, Distribution):
        return format_s(value.mean_s) + ("" if value.is_fixed else " in the mean")
    if isinstance(value, float):
        return _quantity(value, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    texts = {part: _text(inner, part) for part, inner in _within(value).items()}
    said = [f"{_key(value, part)} {text}" for part, text in texts.items() if text]
    return f"{len(said)} values" if len(said) > SAID else ", ".join(said) or None


def _key(value: Any, part: str) -> str:
    return (type(value).model_fields[part].alias or part) if isinstance(value, Frozen) else part


def _quantity(value: float, name: str) -> str:
    if name.endswith("_per_s"):
        return f"{value:g} req/s"
    if name.endswith("_s"):
        return format_s(value)
    if name.endswith("_bytes"):
        return f"{value / 1e9:g} GB"
    return f"{value:g}" if name.endswith(QUANTITIES) else f"{100 * value:g} %"
