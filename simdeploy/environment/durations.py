"""How long something takes: a distribution with its inverse, so that one uniform is one draw.

Every draw goes through the inverse distribution function, which is what lets rival strategies meet the same luck.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, GetJsonSchemaHandler, PlainSerializer, TypeAdapter, ValidationInfo, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from simdeploy.environment.base import Frozen
from simdeploy.errors import UnitError
from simdeploy.units import TIME, TimeText, format_s, parse

Floats: TypeAlias = NDArray[np.float64]
Parameters: TypeAlias = tuple[float, ...]

Z95 = 1.6448536269514722
"""The 95 % quantile of the standard normal distribution."""


def _lognormal(p: Parameters) -> tuple[float, float]:
    """(mu, sigma) of the lognormal with median p[0] and 95 % quantile p[1]."""
    return math.log(p[0]), math.log(p[1] / p[0]) / Z95


def _pert(p: Parameters) -> tuple[float, float]:
    """(alpha, beta) of the beta distribution behind PERT(low, mode, high) with the usual weight of 4 on the mode."""
    low, mode, high = p
    return 1 + 4 * (mode - low) / (high - low), 1 + 4 * (high - mode) / (high - low)


def _gamma(p: Parameters) -> tuple[float, float]:
    """(shape, scale) of the gamma distribution with mean p[0] and standard deviation p[1]."""
    return (p[0] / p[1]) ** 2, p[1] ** 2 / p[0]


def _triangular_inverse(p: Parameters, u: Floats) -> Floats:
    low, mode, high = p
    left = np.sqrt(u * (high - low) * (mode - low))
    right = np.sqrt((1 - u) * (high - low) * (high - mode))
    return np.where(u * (high - low) < mode - low, low + left, high - right)


def _special(name: str) -> Callable[..., Any]:
    import scipy.special  # a tenth of a second: only where such a distribution is drawn

    function: Callable[..., Any] = getattr(scipy.special, name)
    return function


class _Family(NamedTuple):
    fields: tuple[str, ...]
    """Names of the parameters in YAML; one '*' = a list of values."""
    inverse: Callable[[Parameters, Floats], Floats]
    mean: Callable[[Parameters], float]
    rule: Callable[[Parameters], str | None]
    """What is wrong with the parameters, or None."""


def _ordered(p: Parameters) -> str | None:
    return None if list(p) == sorted(p) else f"the values {', '.join(f'{x:g}' for x in p)} must not fall"


def _spread(p: Parameters) -> str | None:
    return _ordered(p) or (None if p[0] < p[-1] else "the lowest and the highest value are equal; write one fixed value instead")


def _positive(p: Parameters) -> str | None:
    return None if min(p) > 0 else "every parameter must be greater than zero"


FAMILIES: dict[str, _Family] = {
    "fixed": _Family(("value",), lambda p, u: np.full_like(u, p[0]), lambda p: p[0], lambda p: None),
    "uniform": _Family(("low", "high"), lambda p, u: p[0] + u * (p[1] - p[0]), lambda p: (p[0] + p[1]) / 2, _ordered),
    "triangular": _Family(("low", "mode", "high"), _triangular_inverse, lambda p: sum(p) / 3, _spread),
    "pert": _Family(
        ("low", "mode", "high"),
        lambda p, u: p[0] + (p[2] - p[0]) * _special("betaincinv")(*_pert(p), u),
        lambda p: (p[0] + 4 * p[1] + p[2]) / 6,
        _spread,
    ),
    "lognormal": _Family(
        ("median", "p95"),
        lambda p, u: np.exp(_lognormal(p)[0] + _lognormal(p)[1] * _special("ndtri")(u)),
        lambda p: math.exp(_lognormal(p)[0] + _lognormal(p)[1] ** 2 / 2),
        lambda p: _positive(p) or (None if p[1] >= p[0] else f"p95 {p[1]:g} lies below the median {p[0]:g}"),
    ),
    "gamma": _Family(("mean", "sd"), lambda p, u: _gamma(p)[1] * _special("gammaincinv")(_gamma(p)[0], u), lambda p: p[0], _positive),
    "weibull": _Family(
        ("scale", "shape"),
        lambda p, u: p[0] * (-np.log1p(-u)) ** (1 / p[1]),
        lambda p: p[0] * math.gamma(1 + 1 / p[1]),
        _positive,
    ),
    "exponential": _Family(("mean",), lambda p, u: -p[0] * np.log1p(-u), lambda p: p[0], _positive),
    "empirical": _Family(
        ("*",),
        lambda p, u: np.sort(np.asarray(p))[np.minimum((u * len(p)).astype(np.intp), len(p) - 1)],
        lambda p: math.fsum(p) / len(p),
        lambda p: None if p else "a sample needs at least one value",
    ),
}
Kind: TypeAlias = Literal["fixed", "uniform", "triangular", "pert", "lognormal", "gamma", "weibull", "exponential", "empirical"]


def _endless(family: _Family, p: Parameters) -> str | None:
    try:
        return None if math.isfinite(family.mean(p)) else "the mean is infinite; choose other parameters"
    except OverflowError:
        return "the mean is beyond all numbers; choose other parameters"


def _by_name(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _family_schema(names: tuple[str, ...], time: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the parameters of a family: a list in order, by name, or the only one by itself."""
    if names == ("*",):
        return {"description": "Any number of values.", "anyOf": [time, {"type": "array", "items": time, "minItems": 1}]}
    fields = {n: {"type": "number", "exclusiveMinimum": 0, "description": "No unit."} if n == "shape" else time for n in names}
    listed = {"type": "array", "prefixItems": list(fields.values()), "minItems": len(names), "maxItems": len(names)}
    alone = [time] * (len(names) == 1)
    return {"description": f"{', '.join(names)}, in this order or by name.", "anyOf": [*alone, listed, _by_name(fields)]}


class Distribution(Frozen):
    """A distribution of seconds: a kind of FAMILIES and its parameters [s], in that family's order (`shape` has no unit)."""

    kind: Kind
    """The family."""
    parameters: Parameters
    """Its parameters in order."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """What a file may say: `_read` with units required."""
        time = TypeAdapter(TimeText).json_schema()
        families = {kind: _family_schema(family.fields, time) for kind, family in FAMILIES.items()}
        families["lognormal"]["anyOf"].append(_by_name({"mean": time, "p95": time}))
        one = {"type": "object", "properties": families, "additionalProperties": False, "oneOf": [{"required": [k]} for k in families]}
        return {"title": "duration", "description": "One time, or a family with its parameters.", "anyOf": [time, one]}

    @model_validator(mode="after")
    def _is_one(self) -> Distribution:
        family = FAMILIES[self.kind]
        wrong = None
        if family.fields != ("*",) and len(self.parameters) != len(family.fields):
            wrong = f"needs {len(family.fields)} values ({', '.join(family.fields)}), not {len(self.parameters)}"
        elif any(x < 0 or not math.isfinite(x) for x in self.parameters):
            wrong = f"{min(self.parameters):g} must be finite and not negative"
        wrong = wrong or family.rule(self.parameters) or _endless(family, self.parameters)
        if wrong:
            raise PydanticCustomError("distribution", "{kind}: {wrong}", {"kind": self.kind, "wrong": wrong})
        return self

    def inverse(self, u: Floats) -> Floats:
        """Durations [s] at the uniforms *u* in [0, 1), one each, same shape."""
        return FAMILIES[self.kind].inverse(self.parameters, u)

    @property
    def mean_s(self) -> float:
        """The exact mean [s]."""
        return FAMILIES[self.kind].mean(self.parameters)

    @property
    def is_fixed(self) -> bool:
        """True where every draw is the same."""
        return self.kind == "fixed" or (len(set(self.parameters)) == 1 and self.kind in ("uniform", "empirical", "lognormal"))

    def scaled(self, factor: float) -> Distribution:
        """The distribution of *factor* times this duration."""
        scales = tuple(x if self.kind == "weibull" and i == 1 else x * factor for i, x in enumerate(self.parameters))
        return Distribution(kind=self.kind, parameters=scales)

    def __str__(self) -> str:
        if self.kind == "fixed":
            return format_s(self.parameters[0])
        if self.kind == "empirical":
            return f"empirical({len(self.parameters)} values, {format_s(min(self.parameters))} to {format_s(max(self.parameters))})"
        return f"{self.kind}({', '.join(f'{n} {x:g}' for n, x in zip(FAMILIES[self.kind].fields, self.parameters, strict=True))})"


def fixed(seconds: float) -> Distribution:
    """The duration that always takes *seconds*."""
    return Distribution(kind="fixed", parameters=(seconds,))


ZERO = fixed(0.0)


def _from_mean_and_p95(mean: float, p95: float) -> Parameters:
    """Median and p95 of the lognormal with this mean and p95, taking the smaller of the two sigmas that fit.

    From mean = exp(mu + sigma^2/2) and p95 = exp(mu + z sigma): sigma^2/2 - z sigma + ln(p95/mean) = 0.
    """
    room = Z95**2 - 2 * math.log(p95 / mean) if mean > 0 and p95 > 0 else -1.0
    sigma = Z95 - math.sqrt(room) if room >= 0 else -1.0
    if sigma < 0:
        limit = math.exp(Z95**2 / 2)
        text = f"no lognormal of use has the mean {mean:g} and the p95 {p95:g}: p95 lies between the mean and {limit:.3g} times it"
        raise PydanticCustomError("distribution", "{text}", {"text": text})
    return p95 / math.exp(Z95 * sigma), p95


def _read(value: Any, info: ValidationInfo) -> Any:
    """A duration as YAML or JSON writes it, in the form of the model: 30 s, {uniform: [2 s, 4 s]} or ["uniform", 2, 4]."""
    strict = bool(info.context and info.context.get("units_required"))

    def seconds(x: Any, name: str) -> float:
        if isinstance(x, int) and abs(x) > sys.float_info.max:
            raise PydanticCustomError("unit", "a number of {digits} digits must be finite", {"digits": x.bit_length() * 3 // 10})
        if name == "shape" and isinstance(x, int | float):
            return float(x)
        if isinstance(x, str):
            try:
                return parse(x, TIME)
            except UnitError as error:
                raise PydanticCustomError("unit", "{text}", {"text": str(error)}) from None
        if isinstance(x, int | float) and not isinstance(x, bool):
            if strict:
                raise PydanticCustomError("unit", "{value} has no unit; write for example '{value} s'", {"value": f"{x:g}"})
            return float(x)
        raise PydanticCustomError("unit", "{value} is no duration; write for example '90 s'", {"value": repr(x)[:60]})

    if isinstance(value, Distribution):
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return {"kind": "fixed", "parameters": (seconds(value, "value"),)}
    if not strict and isinstance(value, list | tuple) and value and isinstance(value[0], str) and value[0] in FAMILIES:
        return {"kind": value[0], "parameters": tuple(seconds(x, "") for x in value[1:])}
    if not strict and isinstance(value, dict) and set(value) == {"kind", "parameters"}:
        return value
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in FAMILIES:
        kind, given = next(iter(value.items()))
        names = FAMILIES[kind].fields
        if isinstance(given, dict):
            if kind == "lognormal" and set(given) == {"mean", "p95"}:
                return {"kind": kind, "parameters": _from_mean_and_p95(seconds(given["mean"], "mean"), seconds(given["p95"], "p95"))}
            if set(given) != set(names):
                wanted, found = ", ".join(names), ", ".join(map(str, given))
                raise PydanticCustomError(
                    "distribution", "{kind} takes {wanted}, not {found}", {"kind": kind, "wanted": wanted, "found": found}
                )
            given = [given[n] for n in names]
        if not isinstance(given, list):
            given = [given]
        labels = names if names != ("*",) and len(names) == len(given) else ("",) * len(given)
        return {"kind": kind, "parameters": tuple(seconds(x, n) for x, n in zip(given, labels, strict=True))}
    form, known = "{KIND: [...]}", ", ".join(FAMILIES)
    raise PydanticCustomError(
        "distribution",
        "{value} is no duration; write '90 s' or {form} with one of {known}",
        {"value": repr(value)[:60], "form": form, "known": known},
    )


def _write(value: Distribution) -> float | list[str | float]:
    return value.parameters[0] if value.kind == "fixed" else [value.kind, *value.parameters]


Duration = Annotated[Distribution, BeforeValidator(_read), PlainSerializer(_write)]
"""A pydantic field that reads '30 s', {uniform: [2 s, 4 s]}, 30 or ["uniform", 2, 4], and is written in the last two forms."""
