"""What is said of a value that a model refuses: the rule and the way out, in our words and not in pydantic's."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from simdeploy.errors import Path

RULES = {
    "string": "must be a text",
    "float": "must be a number",
    "finite_number": "must be a finite number",
    "int": "must be a whole number",
    "bool": "must be true or false",
    "too_short": "is empty; write at least {min_length}",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_pattern_mismatch": "must have the form {pattern}",
    "union_tag_not_found": "does not say its {discriminator}; add it",
    "union_tag_invalid": "must have as its {discriminator} one of {expected_tags}",
}
"""Pydantic's kind of error, or what it begins with -> the rule in our words."""


def _rule(kind: str) -> str | None:
    return RULES.get(kind) or RULES.get(kind.partition("_")[0])


def _yaml(given: object) -> str:
    """A value for a message, as a file has it; nothing for a list or mapping that is not empty."""
    if isinstance(given, dict | list | tuple):
        return "" if given else "{}" if isinstance(given, dict) else "[]"
    if given is None or isinstance(given, bool):
        return "null" if given is None else str(given).lower()
    return f"{given:g}" if isinstance(given, float) else f"{given!r:.60}"


def wording(error: Mapping[str, Any], path: Path, model: type[BaseModel]) -> str:
    """What is wrong at *path* of a document that should be a *model*; *error* is one of pydantic's, as its `errors()` gives them."""
    kind, text, given = error["type"], error["msg"], error["input"]
    key = path[-1] if path else "document"
    if isinstance(key, int) and len(path) > 1:
        key = f"{path[-2]}[{key}]"
    if key == "[key]":  # pydantic's word for the key of a mapping
        path, kind, key = path[:-1], "literal_error", path[-2]
    if kind in ("tuple_type", "list_type"):
        shown = isinstance(given, str | int | float) and len(str(given)) <= 60 and str(given).isprintable()
        return f"{key}: must be a list; write [{given}]" if shown else f"{key}: must be a list"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return " ".join(filter(None, (f"{key}:", _yaml(given), "must be a mapping of keys and values, such as {name: web1}")))
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        if key in known:  # of another member of a union
            return f"unknown key {key!r}: it does not go with this kind; take it away, or give the kind that has it"
        near = difflib.get_close_matches(str(key), known, n=1)
        return f"unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}")
    if kind == "missing":
        return f"the key {key!r} is missing; add it"
    if kind == "literal_error":
        words = text.removeprefix("Input should be ")
        near = difflib.get_close_matches(str(given), words.replace("'", "").replace(" or ", ", ").split(", "), n=1)
        return f"{key}: {_yaml(given) or 'this'} is not allowed; write {words}" + (f"; did you mean {near[0]!r}?" if near else "")
    if (rule := _rule(kind)) is not None:
        number = kind == "string_type" and isinstance(given, int | float) and not isinstance(given, bool)
        quoted = f'; write "{given!s:.60}"' if number else ""
        return " ".join(filter(None, (f"{key}:", _yaml(given), rule.format(**error.get("ctx", {}))))) + quoted
    if isinstance(given, dict | list):
        return f"{key}: {text[0].lower()}{text[1:]}"
    here = "" if repr(given)[:60] in text else f" (here: {given!r:.60})"
    return f"{key}: {text[0].lower() if text.startswith('Input') else text[:1]}{text[1:]}{here}"


def _keys_at(annotation: Any, path: Path) -> list[str]:
    """The keys that a document may have at *path* below *annotation* (a model or a type around models)."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return sorted({k for part in get_args(annotation) for k in _keys_at(part, path)})
    if origin in (dict, Mapping, tuple, list) and path:
        inner = get_args(annotation)[0 if origin in (tuple, list) else 1]
        return _keys_at(inner, path[1:])
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _keys_at(get_args(annotation)[0], path)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {(f.alias or n): f.annotation for n, f in annotation.model_fields.items()}
        if not path:
            return list(fields)
        return _keys_at(fields[str(path[0])], path[1:]) if path[0] in fields else _keys_at(annotation, path[1:])
    return []
