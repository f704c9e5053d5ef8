"""The upgrade: stages of tiers or vertical slices, and the data layer around them."""

from __future__ import annotations

from collections.abc import Sequence

from simdeploy.environment.models import did_you_mean
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan, Source, Start
from simdeploy.planning import data_layer
from simdeploy.planning.builder import Builder
from simdeploy.planning.scenario import Scenario, Strategy
from simdeploy.planning.slices import cut_slices
from simdeploy.planning.tiers import Barrier, rollout, tier

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
    rough = {name: _plan(scenario, name) for name in scenario.strategies if name in wanted or scenario.horizon_s is None}
    horizon_s = scenario.horizon_s
    if horizon_s is None:
        horizon_s = HORIZON_FACTOR * max(plan.critical_path_s() for plan in rough.values())
    return {name: rough[name].model_copy(update={"horizon_s": horizon_s}) for name in wanted}


def _plan(scenario: Scenario, name: str) -> Plan:
    strategy = scenario.strategies[name]
    build = Builder(scenario.environment, scenario.to, scenario.forks)
    barrier: Barrier = ()
    for stage in scenario.stages(strategy):
        ends = [end for service in stage for end in _service(build, scenario, strategy, service, barrier)]
        barrier = tuple(ends) or barrier
    sliced = scenario.sliced(strategy)
    if strategy.slices is not None and sliced:
        partitions = {s: scenario.partition(strategy, s) for s in sliced}
        barrier = rollout(build, "slices", cut_slices(strategy.slices, sliced, build.env), partitions, barrier, scenario.patch)
    for store in scenario.changed:
        if scenario.partition(strategy, store).migration == "expand_contract":
            barrier = data_layer.contract(build, store, barrier)
    return Plan(
        environment=build.env,
        steps=tuple(build.steps),
        pools={"forks": scenario.forks} if scenario.forks else {},
        start=Start(absent=tuple(build.absent), starts_at_s=scenario.starts_at_s),
        goals=scenario.goals,
        prefer=scenario.prefer,
        source=Source(scenario=scenario.name, strategy=name),
    )


def _service(build: Builder, scenario: Scenario, strategy: Strategy, name: str, barrier: Barrier) -> Barrier:
    """Add the steps of one service of a stage; what the next stage comes after."""
    partition = scenario.partition(strategy, name)
    if partition.back_up_first:
        barrier = data_layer.back_up(build, name, barrier)
    match partition.migration:
        case "offline":
            writers = {w: scenario.partition(strategy, w) for w in scenario.writers(name)}
            return data_layer.offline(build, name, writers, barrier)
        case "expand_contract":
            return data_layer.expand(build, name, barrier)
        case "replica_first":
            return data_layer.replica_first(build, name, barrier)
        case "split":
            return data_layer.split(build, name, barrier)
        case None:
            return tier(build, name, partition, barrier, name in scenario.patch)
