"""The disaster recovery: a machine, a zone or everything is lost, and all of it comes back elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name
from simdeploy.errors import Problem
from simdeploy.plan.plan import Plan
from simdeploy.planning.recovery import Disruption, RecoveryScenario, RecoveryStrategy
from simdeploy.planning.recovery_rules import recovery_problems
from simdeploy.planning.recovery_steps import recovery_plan


class DisasterRecovery(RecoveryScenario):
    """Machines that are lost with all that is on them, and come back as other ones.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["disaster_recovery"]
    """What is done."""
    strategies: Mapping[Name, RecoveryStrategy] = Field(default={"as-it-is": RecoveryStrategy()}, min_length=1)
    """The ways to be protected and to recover that are compared; by default what is there."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of a disaster recovery that is broken."""
        if self.disruption.lose == "application":
            message = "nothing dies where an application writes something wrong; write machine, zone or everything"
            yield Problem(("disruption", "lose"), f"{message}, or scenario: data_restore")
        else:
            yield from recovery_problems(self)

    @property
    def aim(self) -> str:
        """What is lost."""
        which = f" {self.disruption.which}" if self.disruption.which else ""
        return f"recovers from the loss of {'a ' * (not which and self.disruption.lose != 'everything')}{self.disruption.lose}{which}"

    def outline(self, strategy: str) -> str:
        """How the stores are protected, and how they come back."""
        return self.described(strategy)


def disaster(environment: Environment, lose: str, which: str | None = None, **keys: Any) -> DisasterRecovery:
    """The recovery of *environment* from a loss, as it is protected now; *keys* are further ones of the scenario.

    Raises InvalidDocument where it cannot recover, or where what is to be lost is not there.
    """
    disruption = Disruption.model_validate({"lose": lose, "which": which})
    name = "-".join(["lose", lose, *([which] if which else [])])[:63]
    return DisasterRecovery(**{"scenario": "disaster_recovery", "name": name, "environment": environment, "disruption": disruption} | keys)


def plan(scenario: DisasterRecovery, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    return recovery_plan(scenario, name, scenario.case(name), scenario.procedure, scenario.strategies[name].spares)
