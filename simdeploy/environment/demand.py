"""How much users want, over time: piecewise constant, whatever form it was given in."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from simdeploy.environment.base import Frozen
from simdeploy.units import TIME, PerSecond, Seconds

DAY_S = TIME["d"]
_CLOCK = r"([01]?\d|2[0-3]):([0-5]\d)"


def _clock(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) and not (info.context and info.context.get("units_required")):
        return value
    value = str(value)
    match = re.fullmatch(_CLOCK, value.strip())
    if match is None:
        raise PydanticCustomError("clock", "{value} is no time of day; write for example '22:30'", {"value": repr(value)})
    return int(match[1]) * 3600.0 + int(match[2]) * 60.0


_ClockText = Annotated[str, Field(title="clock: a time of day", pattern=rf"^\s*{_CLOCK}\s*$", examples=["22:30"])]
TimeOfDay = Annotated[float, Field(ge=0, lt=DAY_S), BeforeValidator(_clock, json_schema_input_type=_ClockText)]
"""Seconds after midnight, read from '22:30'."""


class Level(Frozen):
    """From this moment on, this rate."""

    at_s: Seconds = Field(alias="at")
    """Time after the plan's start."""
    rate_per_s: PerSecond = Field(alias="rate")
    """What users want from then on."""


class DailyLevel(Frozen):
    """From this time of day on, this rate."""

    at_s: TimeOfDay = Field(alias="at")
    """Time of day."""
    rate_per_s: PerSecond = Field(alias="rate")
    """What users want from then on."""


class Demand(Frozen):
    """Offered demand at the front door: one constant `rate`, `steps` after the start, or a `daily` curve."""

    rate_per_s: PerSecond | None = Field(default=None, alias="rate")
    """One constant rate."""
    steps: tuple[Level, ...] = ()
    """Rates from given moments after the start; the first at 0 s, times rising."""
    daily: tuple[DailyLevel, ...] = ()
    """Rates from given times of day, rising; repeats every day."""
    csv: str | None = None
    """A file beside this one with the columns `time_s,rate_per_s`; the loader turns it into `steps`."""
    excess: Literal["lost", "queue"] = "lost"
    """What happens to demand above capacity: it fails, or waits in one queue at the front door."""
    patience_s: Seconds | None = Field(default=None, alias="patience")
    """How long a queued request waits before it leaves (and counts as failed)."""

    @model_validator(mode="after")
    def _is_one_form(self) -> Demand:
        if self.csv is not None:
            raise PydanticCustomError("demand", "a CSV file is read with its environment file; here give its rows as steps", {})
        forms = [n for n, x in (("rate", self.rate_per_s), ("steps", self.steps), ("daily", self.daily)) if x not in (None, ())]
        if len(forms) != 1:
            found = " and ".join(forms) or "none"
            raise PydanticCustomError("demand", "a demand has exactly one of rate, steps, daily, csv; here: {found}", {"found": found})
        for name, levels in (("steps", self.steps), ("daily", self.daily)):
            times = [x.at_s for x in levels]
            if times and (times != sorted(set(times)) or (name == "steps" and times[0] != 0)):
                raise PydanticCustomError(
                    "demand", "{name}: the times must rise{start}", {"name": name, "start": " from 0 s" * (name == "steps")}
                )
        if (self.excess == "queue") != (self.patience_s is not None):
            raise PydanticCustomError("demand", "excess: queue and patience go together; give both or neither", {})
        return self

    def levels(self, until_s: float, starts_at_s: float = 0.0) -> list[tuple[float, float]]:
        """(moment [s], rate [req/s]) pairs that hold from each moment on, first at 0, none after *until_s*.

        A daily curve begins at *starts_at_s* seconds after midnight and repeats.
        """
        if self.rate_per_s is not None:
            return [(0.0, self.rate_per_s)]
        if self.steps:
            return [(x.at_s, x.rate_per_s) for x in self.steps if x.at_s <= until_s]
        starts_at_s %= DAY_S
        past = [x for x in self.daily if x.at_s <= starts_at_s]
        levels = [(0.0, (past or self.daily)[-1].rate_per_s)]
        day_s = -starts_at_s
        while day_s <= until_s:
            levels += [(day_s + x.at_s, x.rate_per_s) for x in self.daily if 0 < day_s + x.at_s <= until_s]
            day_s += DAY_S
        return levels

    @property
    def peak_per_s(self) -> float:
        """The highest rate that this demand ever has [req/s]."""
        levels = [x.rate_per_s for x in self.steps] + [x.rate_per_s for x in self.daily]
        return self.rate_per_s if self.rate_per_s is not None else max(levels, default=0.0)
