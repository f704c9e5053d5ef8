"""Quantities as people write them in YAML: a number and a unit from a fixed list, read once at the edge.

Inside simdeploy there are only seconds, requests per second, bytes, bytes per second and fractions.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from simdeploy.errors import UnitError

TIME = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
RATE = {"req/s": 1.0, "req/min": 1 / 60, "req/h": 1 / 3600}
SIZE = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
SPEED = {f"{unit}/s": factor for unit, factor in SIZE.items()}
FRACTION = {"%": 0.01}

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(\S.*)?", re.IGNORECASE)


def parse(text: str, units: dict[str, float]) -> float:
    """*text*, a number with one of *units*, in the base unit of that table.

    >>> parse("1.5 h", TIME), parse("20%", FRACTION)
    (5400.0, 0.2)

    Raises UnitError for anything else: a bare number, another unit, a negative or infinite value.
    """
    example = f"90 {_base(units)}"
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not a number with a unit; write for example {example!r}")
    number, unit = float(match[1]), (match[2] or "").strip()
    if not unit:
        raise UnitError(f"{text!r} has no unit; write for example '{match[1]} {_base(units)}' (units: {', '.join(units)})")
    if unit not in units:
        near = difflib.get_close_matches(unit, units, n=1, cutoff=0.4)
        hint = f"did you mean {match[1] + ' ' + near[0]!r}?" if near else f"units here: {', '.join(units)}"
        raise UnitError(f"{text!r} has the unknown unit {unit!r}; {hint}")
    value = number * units[unit] if unit != "%" else number / 100
    if value < 0 or not math.isfinite(value):
        raise UnitError(f"{text!r} must be finite and not negative")
    return value


def _base(units: dict[str, float]) -> str:
    """The unit of a table in which values are kept, else its first."""
    return next((unit for unit, factor in units.items() if factor == 1.0), next(iter(units)))


def format_s(seconds: float) -> str:
    """*seconds* as a person writes it, three significant digits: '75 ms', '42.5 s', '12.3 min', '2.5 h'."""
    if 0 < abs(seconds) < 0.1:
        return f"{1000 * seconds:.3g} ms"
    for unit in ("d", "h", "min"):
        if abs(seconds) >= 2 * TIME[unit]:
            return f"{seconds / TIME[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"


def _text(units: dict[str, float], title: str, *examples: str | float) -> Any:
    """The texts that `parse` reads with *units*, as the JSON Schema of a file says it."""
    pattern = rf"^\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*({'|'.join(units)})\s*$"
    return Annotated[str, Field(title=f"{title}: a number with {', '.join(units)}", pattern=pattern, examples=list(examples))]


def _reader(units: dict[str, float], written: Any) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> Any:
        """Texts are parsed; a bare number passes only where no file is being read (JSON plans and Python)."""
        if isinstance(value, bool):
            raise PydanticCustomError("unit", "{value} is not a number with a unit", {"value": value})
        if isinstance(value, int | float):
            try:
                value = float(value)
            except OverflowError:
                raise PydanticCustomError(
                    "unit", "a number of {digits} digits must be finite", {"digits": value.bit_length() // 3}
                ) from None
            if info.context and info.context.get("units_required") and not (units is FRACTION and 0 <= value <= 1):
                sample = f"{value * 100:g} %" if units is FRACTION else f"{value:g} {_base(units)}"
                raise PydanticCustomError(
                    "unit", "{value} has no unit; write for example '{sample}'", {"value": f"{value:g}", "sample": sample}
                )
            if not math.isfinite(value) or value < 0:
                raise PydanticCustomError("unit", "{value} must be finite and not negative", {"value": value})
            return value
        if isinstance(value, str):
            try:
                return parse(value, units)
            except UnitError as error:
                raise PydanticCustomError("unit", "{text}", {"text": str(error)}) from None
        said = {"value": repr(value)[:60], "sample": f"{5 if units is FRACTION else 90} {_base(units)}"}
        raise PydanticCustomError("unit", "{value} is no number with a unit; write for example '{sample}'", said)

    return BeforeValidator(read, json_schema_input_type=written)


def _at_most_one(value: float) -> float:
    if value > 1:
        raise PydanticCustomError("unit", "{percent} % is over 100 %; a share lies between 0 % and 100 %", {"percent": f"{value * 100:g}"})
    return value


TimeText = _text(TIME, "time", "30 s", "1.5 h")
_SHARE = _text(FRACTION, "share", "5 %", 0.05) | Annotated[float, Field(title="share: a number from 0 to 1", ge=0, le=1)]

Seconds = Annotated[float, _reader(TIME, TimeText)]
PerSecond = Annotated[float, _reader(RATE, _text(RATE, "rate", "300 req/s"))]
Bytes = Annotated[float, _reader(SIZE, _text(SIZE, "size", "500 GB", "64 MiB"))]
BytesPerSecond = Annotated[float, _reader(SPEED, _text(SPEED, "speed", "100 MB/s"))]
Fraction = Annotated[float, _reader(FRACTION, _SHARE), AfterValidator(_at_most_one)]
