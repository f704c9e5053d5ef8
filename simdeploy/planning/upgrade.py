"""The upgrade: stages of tiers or vertical slices, and the data layer around them."""

from __future__ import annotations

from collections.abc import Sequence

from simdeploy.environment.durations import ZERO
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning import data_layer
from simdeploy.planning.builder import Batch, Builder, Failures, Rules
from simdeploy.planning.data_layer import Migration
from simdeploy.planning.rollback import add_rollback
from simdeploy.planning.scenario import Strategy, Upgrade
from simdeploy.planning.slices import cut_slices
from simdeploy.planning.tiers import Barrier, rollout, tier


def plan(scenario: Upgrade, name: str) -> Plan:
    """The plan of the strategy *name*, to its own end."""
    strategy = scenario.strategies[name]
    touched = {*scenario.changed, *scenario.writers_stopped(strategy)}
    instances = sum(len(scenario.environment.members(s)) for s in touched)
    failures = Failures(strategy.max_failures, strategy.failures_of)
    rules = Rules(failures, strategy.checkpoints, scenario.checks, max(1, instances))
    build = Builder(scenario.environment, scenario.to, scenario.forks, rules)
    migrations = _main(build, scenario, strategy)
    fixes = max((point.rounds for point in strategy.checkpoints if point.on_bad == "forward"), default=0)
    rounds = [build.batches, *(_forward(build, scenario, strategy, k, migrations) for k in range(1, fixes + 1))]
    if "rollback" in (strategy.on_abort, *(reaction for p in strategy.checkpoints for reaction in (p.on_bad, p.reaction(p.rounds)))):
        add_rollback(build, rounds, migrations)
    return scenario.finished(
        name,
        build,
        start=Start(absent=tuple(build.absent), starts_at_s=scenario.starts_at_s),
        on_abort=strategy.on_abort,
        release=scenario.release,
    )


def _main(build: Builder, scenario: Upgrade, strategy: Strategy) -> list[Migration]:
    """Collect the main section; the schemas that it changes."""
    migrations: list[Migration] = []
    barrier: Barrier = ()
    for build.stage, stage in enumerate(scenario.stages(strategy)):
        ends: list[str] = []
        for service in stage:
            partition = scenario.partition(strategy, service)
            begins = data_layer.back_up(build, service, barrier) if partition.back_up_first else barrier
            if partition.migration is None:
                ends += tier(build, service, partition, begins, service in scenario.patch)
                continue
            migrations.append(Migration(build.stage, service, partition.migration, partition.restore_on_abort))
            writers = {w: scenario.partition(strategy, w) for w in scenario.writers(service)}
            ends += data_layer.migrate(build, service, partition.migration, writers, begins)
        barrier = tuple(ends) or barrier
    build.stage = len(scenario.stages(strategy))
    barrier = _slices(build, scenario, strategy, barrier, scenario.patch)
    _finish(build, scenario, migrations, barrier)
    return migrations


def _slices(build: Builder, scenario: Upgrade, strategy: Strategy, barrier: Barrier, patched: Sequence[str]) -> Barrier:
    services = tuple(s for s in scenario.sliced(strategy) if s in scenario.to or s in patched)
    if strategy.slices is None or not services:
        return barrier
    partitions = {s: scenario.partition(strategy, s) for s in services}
    return rollout(build, "slices", cut_slices(strategy.slices, services, build.env), partitions, barrier, patched)


def _finish(build: Builder, scenario: Upgrade, migrations: Sequence[Migration], barrier: Barrier) -> None:
    """What comes when all code is new: its checkpoints, the contraction of schemas, and the last checkpoints."""
    barrier = build.validated(["code"], scenario.name, barrier)
    for migration in migrations:
        if migration.kind == "expand_contract":
            barrier = data_layer.contract(build, migration, barrier)
    build.validated(["end"], scenario.name, barrier)


def _forward(build: Builder, scenario: Upgrade, strategy: Strategy, k: int, migrations: Sequence[Migration]) -> list[Batch]:
    """Collect a forward round: a fix, then all code again in the same batches; the batches.

    Schemas stay as they are; what was still to be contracted is contracted at the end.
    """
    build.section, build.round, build.batches = "forward", k, []
    build.fix_versions(k)
    fix = Step(id=f"{build.phase('code')}/release/fix", duration=scenario.fix or ZERO)
    build.add(fix)
    barrier: Barrier = (fix.id,)
    for build.stage, stage in enumerate(scenario.stages(strategy)):
        ends: list[str] = []
        for service in stage:
            partition = scenario.partition(strategy, service)
            if partition.migration == "offline":  # its writers went all at once, and do so again
                for writer in (w for w in scenario.writers(service) if w in scenario.to):
                    ends += tier(build, writer, scenario.partition(strategy, writer), barrier, patched=False)
            elif partition.migration is None and service in scenario.to:
                ends += tier(build, service, partition, barrier, patched=False)
        barrier = tuple(ends) or barrier
    build.stage = len(scenario.stages(strategy))
    barrier = _slices(build, scenario, strategy, barrier, patched=())
    _finish(build, scenario, migrations, barrier)
    return build.batches
