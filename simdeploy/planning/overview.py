"""A scenario at a glance."""

from __future__ import annotations

from simdeploy.planning.base import Scenario
from simdeploy.planning.built_in import BUILT_IN
from simdeploy.planning.kinds import KINDS
from simdeploy.planning.scenario import Upgrade
from simdeploy.tables import Table


def strategies(scenario: Scenario) -> Table:
    """One row per strategy of a scenario."""
    rows = [(name, scenario.outline(name), strategy.about or "-") for name, strategy in scenario.strategies.items()]
    return Table(
        scenario.title or scenario.name,
        ("strategy", "order", "about"),
        rows,
        f"{scenario.aim}; goals: {'; '.join(g.text for g in scenario.goals) or 'none'}",
        left=(0, 1, 2),
    )


def scenarios() -> Table:
    """One row per kind of scenario."""
    rows = [(name, kind.about, ", ".join(kind.read_for[:3])) for name, kind in KINDS.items()]
    return Table("Kinds of scenarios", ("scenario", "what is done", "read it for"), rows, "in a file: scenario: NAME", left=(0, 1, 2))


def built_in_strategies(scenario: Upgrade | None = None) -> Table:
    """One row per built-in strategy; with a scenario, also whether it makes sense there."""
    rows: list[tuple[str, ...]] = [(name, one.about) for name, one in BUILT_IN.items()]
    if scenario is None:
        return Table(
            "Built-in strategies", ("strategy", "what it does"), rows, "in a scenario: strategies: {NAME: {use: NAME}}", left=(0, 1)
        )
    rows = [(name, why or "fits") for name, why in scenario.misfits().items()]
    return Table(f"Built-in strategies for {scenario.name}", ("strategy", "fits, or why not"), rows, left=(0, 1))
