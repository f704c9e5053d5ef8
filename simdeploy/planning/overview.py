"""A scenario at a glance."""

from __future__ import annotations

from simdeploy.planning.built_in import BUILT_IN
from simdeploy.planning.scenario import Scenario
from simdeploy.tables import Table


def strategies(scenario: Scenario) -> Table:
    """One row per strategy of a scenario."""
    rows = []
    for name, strategy in scenario.strategies.items():
        stages = " > ".join("+".join(stage) for stage in scenario.stages(strategy))
        if strategy.slices is not None:
            stages = f"{stages}{' > ' if stages else ''}slices of {'+'.join(scenario.sliced(strategy))}"
        rows.append((name, stages, strategy.about or "-"))
    changes = [f"upgrades {', '.join(f'{s} to {v}' for s, v in scenario.to.items())}"] if scenario.to else []
    changes += [f"patches the machines of {', '.join(scenario.patch)}"] if scenario.patch else []
    return Table(
        scenario.title or scenario.name,
        ("strategy", "order", "about"),
        rows,
        f"{'; '.join(changes)}; goals: {'; '.join(g.text for g in scenario.goals) or 'none'}",
        left=(0, 1, 2),
    )


def built_in_strategies(scenario: Scenario | None = None) -> Table:
    """One row per built-in strategy; with a scenario, also whether it makes sense there."""
    rows: list[tuple[str, ...]] = [(name, one.about) for name, one in BUILT_IN.items()]
    if scenario is None:
        return Table(
            "Built-in strategies", ("strategy", "what it does"), rows, "in a scenario: strategies: {NAME: {use: NAME}}", left=(0, 1)
        )
    rows = [(name, why or "fits") for name, why in scenario.misfits().items()]
    return Table(f"Built-in strategies for {scenario.name}", ("strategy", "fits, or why not"), rows, left=(0, 1))
