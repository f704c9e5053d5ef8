"""Incompatible versions against a pencil. A web lane takes 200 s, a middle-tier lane 160 s; 100 req/s, which one box of a tier bears."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate_all
from simdeploy.study.comparison import compare

FOLDER = pathlib.Path(__file__).parents[2] / "scenarios" / "canonical"
Figures = dict[str, dict[str, float]]

NEITHER: Figures = {
    # mid1 is new at 160 s, when mid2 leaves: all of it is new to old web boxes. web1 leaves at 320 s and is new at 520 s,
    # when web2, the last old one, leaves: 160 s to 520 s, in which every request fails and nothing is down
    "rolling": {"makespan_s": 720, "incompatible_s": 360, "failed_requests": 100 * 360, "downtime_s": 0},
    # web1 is new at 200 s, when web2 leaves; mid1 leaves at 400 s and is new at 560 s, when mid2, the last old one, leaves
    "callers-first": {"makespan_s": 720, "incompatible_s": 360, "failed_requests": 100 * 360, "downtime_s": 0},
    # from 160 s on the middle tier is new, from 200 s on web is
    "side-by-side": {"makespan_s": 400, "incompatible_s": 40, "failed_requests": 100 * 40, "downtime_s": 0},
    # from 160 s to 200 s web2 is old and half of the middle tier is new; then web1 and mid1, both new, are alone until 360 s
    "slices": {"makespan_s": 400, "incompatible_s": 40, "failed_requests": 50 * 40, "downtime_s": 0},
    # new boxes are there at 200 s and, web, at 220 s; a switch takes 5 s: the middle tier is new 20 s before web
    "blue-green": {"makespan_s": 220 + 5 + 40, "incompatible_s": 20, "failed_requests": 100 * 20, "downtime_s": 0},
    "all-at-once": {"makespan_s": 200, "incompatible_s": 0, "failed_requests": 100 * 200, "downtime_s": 200},
}

CLEAN = {"incompatible_s": 0, "failed_requests": 0, "downtime_s": 0}
# who calls an interface goes after the one who brings it: then no new web box meets an old middle tier
EXPANDED: Figures = {
    "rolling": {"makespan_s": 720, **CLEAN},
    "callers-first": NEITHER["callers-first"],
    "side-by-side": {"makespan_s": 400, **CLEAN},
    "slices": {"makespan_s": 400, **CLEAN},
    "blue-green": {"makespan_s": 265, **CLEAN},
    "all-at-once": NEITHER["all-at-once"],
}
# a cell with one of its boxes out is dead, and the other carries 133 req/s
CELLS: Figures = {
    # from 160 s to 320 s the new mid1 has old callers, from 320 s to 520 s the new mid2
    "rolling": NEITHER["rolling"],
    "callers-first": NEITHER["callers-first"],
    # from 160 s to 200 s web1 and mid2 are out: both cells are dead
    "side-by-side": {"makespan_s": 400, "incompatible_s": 0, "failed_requests": 100 * 40, "downtime_s": 40},
    "slices": {"makespan_s": 400, **CLEAN},
    "blue-green": NEITHER["blue-green"],
    "all-at-once": NEITHER["all-at-once"],
}
BY_HAND: dict[str, tuple[str, Figures]] = {
    "incompatible": ("blue-green", NEITHER),
    "incompatible-expanded": ("blue-green", EXPANDED),
    "incompatible-cells": ("slices", CELLS),
}
"""Environment -> the strategy that is recommended, and the figures of every one."""


@pytest.mark.parametrize("environment", BY_HAND)
def test_versions_that_do_not_understand_each_other_cost_what_was_derived_by_hand(environment):
    scenario = load_scenario(FOLDER / "upgrade-incompatible.yaml", environment=FOLDER / f"{environment}.yaml")
    recommended, figures = BY_HAND[environment]
    found = simulate_all(build_plans(scenario), replications=3, seed=1)

    assert set(figures) == set(found)
    for strategy, wanted in figures.items():
        got = {metric: found[strategy].values[metric] for metric in wanted}
        assert {m: pytest.approx(np.full(3, float(v)), rel=1e-9, abs=1e-6) for m, v in wanted.items()} == got, strategy
    assert recommended == compare(scenario, 6, 1).recommended
