"""What a simulation expects of a plan, as a value that travels beside it: to a runbook, a runner, another day."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import ValidationError

from simdeploy.environment.base import Frozen
from simdeploy.errors import PlanError


class Expected(Frozen):
    """One number over the replications; None where they cannot support it."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class StepForecast(Frozen):
    """What to expect of one step, over the replications in which it began."""

    began: float
    """Share of the replications in which it began."""
    begins_s: Expected
    """When, since the plan's start [s]."""
    lasts_s: Expected
    """From the first attempt's begin to the last one's end [s]."""
    capacity_per_s: float | None
    """The lowest capacity at the front door that was met in any replication while it ran [req/s]."""


class Forecast(Frozen):
    """What to expect of one plan."""

    format: Literal[1] = 1
    plan_sha256: str
    """Digest of the plan that was simulated."""
    tool: str
    """Version of simdeploy."""
    seed: int
    replications: int
    metrics: dict[str, Expected]
    """Metric -> what to expect of it, in its unit."""
    steps: dict[str, StepForecast]
    """Step -> what to expect of it."""
    goals: dict[str, bool | None]
    """Goal -> whether it is met; None where the replications cannot tell."""

    def to_json(self) -> str:
        """The forecast as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Forecast:
        """The forecast that `to_json` wrote. Raises PlanError for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise PlanError(f"is no forecast ({error.error_count()} faults); write it anew with 'simdeploy plan -o'") from None
