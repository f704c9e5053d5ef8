"""What a plan must keep: goals over metrics, as people write them."""

from __future__ import annotations

import operator
import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from simdeploy.environment.names import did_you_mean
from simdeploy.errors import UnitError
from simdeploy.plan.metrics import METRICS
from simdeploy.units import FRACTION, RATE, TIME, parse

DEFAULT_PREFER = ("failed_requests", "data_loss_s", "makespan_s", "machine_hours")
STATISTICS = ("mean", "min", "max", "p50", "p95", "p99")
OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}

_FORM = re.compile(r"(\w+)\s*\(\s*(\w+)\s*\)\s*(<=|>=|<|>)\s*(.+)")
_CHANCE = re.compile(r"P\s*\(\s*(\w+)\s*(<=|>=|<|>)\s*([^)]+?)\s*\)\s*>=\s*(.+)")
_SHORT = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*(.+)")
_UNITS = {"s": TIME, "req/s": RATE, "h": {"h": 1.0, "d": 24.0}, "share": FRACTION, "probability": FRACTION}


class GoalParts(NamedTuple):
    """`statistic`(`metric`) `comparison` `value`, or with `chance`: P(`metric` `comparison` `value`) >= chance."""

    text: str
    metric: str
    comparison: str
    value: float
    """In the metric's own unit."""
    statistic: str | None
    chance: float | None

    def holds(self, x: float) -> bool:
        """Whether one value of the metric keeps the goal's comparison."""
        return bool(OPERATORS[self.comparison](x, self.value))

    def __str__(self) -> str:
        return self.text


def _value(text: str, metric: str) -> float:
    unit = METRICS[metric].unit
    units = _UNITS.get(unit)
    try:
        if units is None or (re.fullmatch(r"[\d.]+(e[+-]?\d+)?", text.strip()) and (unit in ("share", "probability") or float(text) == 0)):
            return float(text)
        return parse(text, units)
    except (UnitError, ValueError) as error:
        reason = str(error) if isinstance(error, UnitError) else f"{text!r} is no number of {unit}"
        raise PydanticCustomError("goal", "{metric} is in {unit}: {reason}", {"metric": metric, "unit": unit, "reason": reason}) from None


def _parse(value: Any) -> Any:
    if isinstance(value, GoalParts):
        return value
    text = str(value).strip()
    chance = _CHANCE.fullmatch(text)
    form = chance or _FORM.fullmatch(text)
    if form is None and (short := _SHORT.fullmatch(text)) and short[1] in METRICS:
        hint = f"say of which statistic: 'p95({short[1]}) {short[2]} {short[3]}' or 'P({short[1]} {short[2]} {short[3]}) >= 95 %'"
        raise PydanticCustomError("goal", "{text}: {hint}", {"text": repr(text)[:80], "hint": hint})
    if form is None or not isinstance(value, str):
        forms = "'p95(downtime_s) <= 30 s' or 'P(failed_requests <= 100) >= 95 %'"
        raise PydanticCustomError("goal", "{text} is no goal; write {forms}", {"text": repr(value)[:80], "forms": forms})
    statistic, metric, comparison, bound = (None, form[1], form[2], form[3]) if chance else (form[1], form[2], form[3], form[4])
    if metric not in METRICS:
        raise PydanticCustomError(
            "goal", "{metric} is no metric; {hint}", {"metric": repr(metric), "hint": did_you_mean(metric, list(METRICS))}
        )
    if statistic is not None and statistic not in STATISTICS:
        known = ", ".join(STATISTICS)
        raise PydanticCustomError("goal", "{statistic} is no statistic; there are {known}", {"statistic": repr(statistic), "known": known})
    wanted = _value(chance[4], "availability") if chance else None
    if wanted is not None and wanted > 1:
        raise PydanticCustomError("goal", "{text}: no probability is over 100 %", {"text": repr(text)[:80]})
    return GoalParts(text, metric, comparison, _value(bound, metric), statistic, wanted)


_EXAMPLES = ["p95(downtime_s) <= 30 s", "P(failed_requests <= 100) >= 95 %"]
_TITLE = "goal: a statistic or a chance of a metric, and its bound"
_Text = Annotated[str, Field(title=_TITLE, pattern=rf"^\s*({_CHANCE.pattern}|{_FORM.pattern})$", examples=_EXAMPLES)]
Goal = Annotated[GoalParts, BeforeValidator(_parse, json_schema_input_type=_Text), PlainSerializer(lambda goal: goal.text)]
"""A pydantic field that reads 'p95(downtime_s) <= 30 s' or 'P(failed_requests <= 100) >= 95 %'."""
