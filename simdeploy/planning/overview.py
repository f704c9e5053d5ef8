"""A scenario at a glance."""

from __future__ import annotations

from simdeploy.planning.scenario import Scenario
from simdeploy.tables import Table


def strategies(scenario: Scenario) -> Table:
    """One row per strategy of a scenario."""
    rows = []
    for name, strategy in scenario.strategies.items():
        stages = " > ".join("+".join(stage) for stage in scenario.stages(strategy))
        rows.append((name, stages, strategy.about or "-"))
    to = ", ".join(f"{s} to {v}" for s, v in scenario.to.items())
    return Table(
        scenario.title or scenario.name,
        ("strategy", "order", "about"),
        rows,
        f"upgrades {to}; goals: {'; '.join(g.text for g in scenario.goals) or 'none'}",
        left=(0, 1, 2),
    )
