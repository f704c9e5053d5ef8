"""The data restore: one store comes back from its copies, and those who call it are pointed to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from simdeploy.environment.durations import Duration
from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name, did_you_mean
from simdeploy.errors import Problem
from simdeploy.plan.plan import Plan
from simdeploy.planning.recovery import RecoveryScenario, RecoveryStrategy, datastores
from simdeploy.planning.recovery_rules import late_warnings, recovery_problems
from simdeploy.planning.recovery_steps import recovery_plan


class DataRestore(RecoveryScenario):
    """A store that is lost with its machine, or holds something wrong, and comes back from what protects it.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["data_restore"]
    """What is done."""
    store: Name = ""
    """The datastore; by default the only one."""
    noticed: Duration | None = None
    """Of lose: application, instead of detect: until somebody knows that something wrong is in the store; by default as the
    environment's `recovery` says."""
    strategies: Mapping[Name, RecoveryStrategy] = Field(default={"as-it-is": RecoveryStrategy()}, min_length=1)
    """The ways to be protected and to recover that are compared; by default what is there."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """The only datastore, where none is named."""
        if not isinstance(data, Mapping) or data.get("store") is not None or not isinstance(data.get("environment"), Environment):
            return data
        stores = datastores(data["environment"])
        return {**data, "store": stores[0]} if len(stores) == 1 else data

    @property
    def stores(self) -> tuple[str, ...]:
        """The one that is restored."""
        return (self.store,)

    @property
    def notice(self) -> Duration | None:
        """Until somebody knows that the store holds something wrong."""
        return (self.noticed or self.environment.recovery.noticed) if self.disruption.lose == "application" else None

    def problems(self) -> Iterator[Problem]:
        """Every rule of a data restore that is broken."""
        found = list(self._own_problems())
        yield from found
        if not any(problem.path[:1] in (("store",), ("disruption",)) for problem in found):
            yield from recovery_problems(self)

    def _own_problems(self) -> Iterator[Problem]:
        env, known, lost = self.environment, list(datastores(self.environment)), self.disruption
        if not known:
            yield Problem(("store",), "no service is a datastore, so there is nothing to restore; give one role: datastore")
        elif not self.store:
            yield Problem(("store",), f"there are several datastores; name the one that is lost: {did_you_mean('', known)}")
        elif self.store not in known:
            yield Problem(("store",), f"{self.store!r} is no datastore; {did_you_mean(self.store, known)}")
        elif lost.lose not in ("machine", "application"):
            message = f"a data restore is about one store, and {lost.lose} is lost"
            yield Problem(("disruption", "lose"), f"{message}; write machine or application, or scenario: disaster_recovery")
        elif lost.lose == "machine" and lost.which is not None and lost.which in env.machine_index:
            home = env.instances[env.leader_of(self.store)][1]
            if lost.which != home:
                message = f"the primary of {self.store!r} is on {home!r}, so that the loss of {lost.which!r} takes no data"
                yield Problem(("disruption", "which"), f"{message}; drop it, or write scenario: disaster_recovery")
        if lost.lose == "application" and self.notice is None:
            message = "nothing says how late what is wrong in the store is noticed"
            yield Problem((), f"{message}; write 'noticed: 30 min' here, or under 'recovery' in the environment")
        if lost.lose != "application" and self.noticed is not None:
            yield Problem(("noticed",), f"lost is the {lost.lose}, which is detected; drop it, or write lose: application")

    def warnings(self) -> Sequence[str]:
        """A sentence for each strategy whose standby may be too late."""
        return list(late_warnings(self)) if self.disruption.lose == "application" else ()

    @property
    def aim(self) -> str:
        """What is lost, and what comes back."""
        what = "its machine is lost" if self.disruption.lose == "machine" else "it holds something wrong"
        return f"recovers {self.store} when {what}"

    def outline(self, strategy: str) -> str:
        """How the store is protected, and how it comes back."""
        return self.described(strategy)


def plan(scenario: DataRestore, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    spares = scenario.strategies[name].spares
    return recovery_plan(scenario, name, scenario.case(name), scenario.procedure, spares, about=scenario.store)
