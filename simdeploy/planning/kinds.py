"""The kinds of scenarios: for each what its file says, who makes its plans, and what it is read for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from simdeploy.environment.names import did_you_mean
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan
from simdeploy.planning import compute_restore, data_restore, disaster, fresh, procedure, replacement, scale_out, upgrade
from simdeploy.planning.base import Scenario
from simdeploy.planning.compute_restore import ComputeRestore
from simdeploy.planning.data_restore import DataRestore
from simdeploy.planning.disaster import DisasterRecovery
from simdeploy.planning.fresh import FreshDeployment
from simdeploy.planning.monitoring import MonitoringDeployment
from simdeploy.planning.procedure import Procedure
from simdeploy.planning.replacement import MachineReplacement
from simdeploy.planning.scale_out import ScaleOut
from simdeploy.planning.scenario import Upgrade


class Kind(NamedTuple):
    """One kind of scenario."""

    model: type[Scenario]
    plan: Callable[[Any, str], Plan]
    """(scenario of that model, name of a strategy) -> its plan, without a horizon."""
    about: str
    """One line for people."""
    read_for: tuple[str, ...]
    """The metrics that decide most, as a comparison shows them."""


CHANGES = ("downtime_s", "failed_requests", "lost_capacity", "makespan_s", "single_fault_s", "exposure_max_s", "success")
"""What a change of something that serves is read for."""

LOSSES = ("data_loss_s", "rto_s", "downtime_s", "lost_writes", "failed_requests", "makespan_s", "success")
"""What a recovery is read for."""

KINDS: dict[str, Kind] = {
    "fresh_deployment": Kind(
        FreshDeployment,
        fresh.plan,
        "everything, from no machines to the first user",
        ("rto_s", "makespan_s", "machine_hours", "blind_s", "success"),
    ),
    "scale_out": Kind(
        ScaleOut,
        scale_out.plan,
        "more machines join what serves, and nothing else is touched",
        ("failed_requests", "brownout_s", "capacity_end", "makespan_s", "machine_hours", "success"),
    ),
    "upgrade": Kind(Upgrade, upgrade.plan, "new versions, schemas and patches, batch by batch", CHANGES),
    "monitoring_deployment": Kind(
        MonitoringDeployment,
        upgrade.plan,
        "other builds of what watches; before, with or after the code",
        ("blind_s", "unchecked_s", "downtime_s", "failed_requests", "makespan_s", "success"),
    ),
    "data_restore": Kind(
        DataRestore, data_restore.plan, "a store that is lost or holds something wrong comes back from its copies", LOSSES
    ),
    "compute_restore": Kind(
        ComputeRestore,
        compute_restore.plan,
        "new machines with new code, beside the old ones or after their loss",
        ("rto_s", "downtime_s", "failed_requests", "lost_capacity", "makespan_s", "machine_hours", "success"),
    ),
    "machine_replacement": Kind(
        MachineReplacement,
        replacement.plan,
        "new machines that run the same, one by one or in batches",
        ("downtime_s", "failed_requests", "lost_capacity", "makespan_s", "single_fault_s", "machine_hours", "success"),
    ),
    "disaster_recovery": Kind(DisasterRecovery, disaster.plan, "a machine, a zone or everything is lost and comes back elsewhere", LOSSES),
    "procedure": Kind(Procedure, procedure.plan, "steps of one's own, one after the other or side by side", LOSSES),
}
"""What a file may say under `scenario` -> the kind."""

HORIZON_FACTOR = 1.5
"""Times the longest critical path over all strategies: what a halted plan leaves out must still be seen to cost."""


def build_plan(scenario: Scenario, strategy: str) -> Plan:
    """The plan of one strategy of *scenario*, with the horizon that all its strategies share.

    Raises StudyError for a strategy that the scenario does not have.
    """
    if strategy not in scenario.strategies:
        raise StudyError(f"{strategy!r} is no strategy of {scenario.name!r}; {did_you_mean(strategy, list(scenario.strategies))}")
    return build_plans(scenario, [strategy])[strategy]


def build_plans(scenario: Scenario, strategies: Sequence[str] | None = None) -> dict[str, Plan]:
    """Strategy -> plan, for all strategies or the named ones; the horizon is that of all of them."""
    wanted = list(scenario.strategies) if strategies is None else strategies
    rough = {
        name: KINDS[scenario.scenario].plan(scenario, name) for name in scenario.strategies if name in wanted or scenario.horizon_s is None
    }
    horizon_s = scenario.horizon_s
    if horizon_s is None:
        horizon_s = HORIZON_FACTOR * max(plan.critical_path_s() for plan in rough.values())
    return {name: rough[name].model_copy(update={"horizon_s": horizon_s}) for name in wanted}
