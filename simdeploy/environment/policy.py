"""What is promised of each disruption: how soon everything is back, and how much of the data may be gone."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from simdeploy.environment.base import Frozen
from simdeploy.units import Seconds

Lose = Literal["application", "machine", "zone", "everything"]
"""What may be lost."""
DISRUPTIONS: tuple[Lose, ...] = get_args(Lose)
"""From the smallest to the largest."""


class Objective(Frozen):
    """What is promised of one disruption."""

    rto_s: Seconds | None = Field(default=None, alias="rto")
    """From the disruption until validated service at the demanded capacity."""
    rpo_s: Seconds | None = Field(default=None, alias="rpo")
    """Acknowledged writes of this long may be gone."""


class Policy(Frozen):
    """What is promised of each disruption; `simdeploy resilience` holds the environment against it."""

    application: Objective = Objective()
    """Of something wrong that is written to a store."""
    machine: Objective = Objective()
    """Of the loss of any one machine."""
    zone: Objective = Objective()
    """Of the loss of any one zone."""
    everything: Objective = Objective()
    """Of the loss of every machine that is not hosted."""
    held_at: Literal["p50", "p95", "p99"] = "p95"
    """In how many of 100 cases it is promised."""

    def objective(self, lose: Lose) -> Objective:
        """What is promised of the disruption *lose*."""
        objective: Objective = getattr(self, lose)
        return objective

    @property
    def share(self) -> float:
        """In what share of the cases it is promised."""
        return int(self.held_at[1:]) / 100
