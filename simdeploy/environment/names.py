"""What things are called in files, and the way out for a name that is not there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

REFERENCE = re.compile(r"[a-z][a-z0-9+-]*:[A-Za-z0-9_./#@-]+")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _name(value: Any) -> Any:
    if isinstance(value, str) and not NAME.fullmatch(value):
        rule = "a name has letters, digits, '.', '_' and '-', starts with a letter or digit and has at most 63 characters"
        raise PydanticCustomError("name", "{value} is no name: {rule}", {"value": repr(value)[:80], "rule": rule})
    return value


def _version(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _reference(value: Any) -> Any:
    if isinstance(value, str) and not REFERENCE.fullmatch(value):  # the value is not shown: it may be the secret
        rule = "a secret is named by a reference such as 'vault:sql/owner', 'env:NAME' or 'file:/path', and never written down"
        raise PydanticCustomError("reference", "this is no reference to a secret: {rule}", {"rule": rule})
    return value


Name = Annotated[str, BeforeValidator(_name, json_schema_input_type=Annotated[str, Field(pattern=f"^{NAME.pattern}$")])]
Reference = Annotated[str, BeforeValidator(_reference, json_schema_input_type=Annotated[str, Field(pattern=f"^{REFERENCE.pattern}$")])]
"""Where a secret is: a scheme, a colon, and its place there."""
Version = Annotated[str, BeforeValidator(_version, json_schema_input_type=str | float)]


def did_you_mean(value: str, known: list[str]) -> str:
    """The way out for a name that is not there: the nearest known one, else all of them, as far as they fit."""
    near = difflib.get_close_matches(value[:80], known[:2000], n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {in_short(known)}" if known else "there are none"


def in_short(names: Sequence[str]) -> str:
    """*names* for a message: 'a, b, c', of more than eight the first ones and how many more there are."""
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"
