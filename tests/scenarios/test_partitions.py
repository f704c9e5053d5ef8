"""Every shipped partition against a pencil: its figures follow from the durations in its environment's file.

A lane of a web box takes 30 + 10 + 120 + 20 + 20 = 200 s behind a drain (the drain, stop, install, start, and the wait
until it is healthy), 170 s without one. A new box comes in 60 + 120 + 20 + 20 = 220 s, an old one goes in
30 + 10 + 10 = 50 s. Other lanes are worked out where they are used.
"""

from __future__ import annotations

import itertools
import pathlib
import re
from typing import get_args

import numpy as np
import pytest

from simdeploy.planning.batches import Rounding, Word
from simdeploy.planning.built_in import BUILT_IN
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.partition import Partition
from simdeploy.planning.slices import SliceWord
from simdeploy.report.reports import scenario_files
from simdeploy.simulation.outcome import Outcome, simulate_all
from simdeploy.study.comparison import compare

FOLDER = pathlib.Path(__file__).parents[2] / "scenarios" / "partitions"
FILES = {path.stem.removeprefix("upgrade-"): path for path in scenario_files(FOLDER)}
PAGE = (FOLDER.parents[1] / "docs" / "partitions.md").read_text(encoding="utf-8")
Figures = dict[str, dict[str, float]]

# demand 250, four boxes of 100: one out leaves 300, three out leave 100; H = 1800 s
FRONT_END: Figures = {
    "drained": {"makespan_s": 4 * 200, "failed_requests": 0, "capacity_min": 300, "lost_capacity": 4 * 200 * 100, "single_fault_s": 800},
    # its failed requests are chance, below
    "stopped": {"makespan_s": 4 * 170, "capacity_min": 300, "lost_capacity": 4 * 170 * 100},
    # 15 s at half the traffic (the other three are full at 350), 15 s at a tenth (310), then as drained
    "weighed": {"makespan_s": 4 * (15 + 15 + 200), "failed_requests": 0, "lost_capacity": 4 * (15 * 50 + 15 * 90 + 200 * 100)},
    "canary": {"makespan_s": 2 * 200, "capacity_min": 100, "failed_requests": (250 - 100) * 200, "brownout_s": 200},
    "all-at-once": {"makespan_s": 200, "capacity_min": 0, "failed_requests": 250 * 200, "downtime_s": 200},
    # a fifth machine from the end of allocate (60 s) to the end of release (270 s), four times
    "surge": {"makespan_s": 4 * (220 + 50), "capacity_min": 400, "failed_requests": 0, "machine_hours": (4 * 1800 + 4 * 210) / 3600},
    # 220 s until all new boxes are healthy, a switch of 10 s, 40 s out, 10 s to release: both sets from 60 s to 280 s
    "blue-green": {"makespan_s": 280, "capacity_min": 400, "skew_s": 0, "machine_hours": (4 * 1800 + 4 * 220) / 3600},
    "blue-green-kept": {"makespan_s": 280 + 600, "capacity_min": 400, "machine_hours": (4 * 1800 + 4 * (220 + 600)) / 3600},
}

RETRY: Figures = {
    "drained": {"makespan_s": 800, "failed_requests": 0},
    "stopped": {"makespan_s": 680, "failed_requests": 0},  # one of four is dead for a while, and 300 >= 250 are left
}

# A box holds load x 60 s connections; of those that have lasted for a random time half last for another 30 s and are cut.
# The state just before a drain counts: the first box carries a quarter of 250 req/s, each later one a third of it, since
# the box before it comes back at that moment. Weighed, it carries 0.1 / 3.1 of it.
CONNECTIONS: Figures = {
    "drained": {"makespan_s": 4 * 200, "cut_requests": (250 / 4 + 3 * 250 / 3) * 60 / 2, "brownout_s": 0},
    "weighed": {"makespan_s": 4 * (15 + 15 + 200), "cut_requests": 4 * 250 * 0.1 / 3.1 * 60 / 2},
    "surge": {"makespan_s": 4 * 270, "cut_requests": 4 * 250 / 4 * 60 / 2},
}

# demand 800, twelve boxes of 100; H = 3600 s, so 12 machine hours without new machines
BATCHES: Figures = {
    "all-at-once": {"makespan_s": 200, "capacity_min": 0, "failed_requests": 800 * 200, "downtime_s": 200},
    "one-by-one": {"makespan_s": 12 * 200, "capacity_min": 1100, "failed_requests": 0},
    "one-then-quarters": {"makespan_s": 5 * 200, "capacity_min": 900, "failed_requests": 0},  # 1, 3, 3, 3, 2
    "canary": {"makespan_s": 2 * 200, "capacity_min": 100, "failed_requests": (800 - 100) * 200, "brownout_s": 200},
    "halves": {"makespan_s": 2 * 200, "capacity_min": 600, "failed_requests": (800 - 600) * 400, "brownout_s": 400},
    # a zone of four leaves 800 of 800: nothing fails, and no box more may be lost
    "by-zone": {"makespan_s": 3 * 200, "capacity_min": 800, "failed_requests": 0, "headroom_min": 0, "single_fault_s": 600},
    "by-update-domain": {"makespan_s": 4 * 200, "capacity_min": 900, "failed_requests": 0, "single_fault_s": 0},
    "max-unavailable": {"makespan_s": 4 * 200, "capacity_min": 900},  # floor(3.6) = 3
    "max-unavailable-pdb": {"makespan_s": 3 * 200, "capacity_min": 800},  # ceil(3.6) = 4
    "min-available": {"makespan_s": 4 * 200, "capacity_min": 900},  # 12 - ceil(8.4) = 3
    "minimum-healthy": {"makespan_s": 3 * 200, "capacity_min": 800},  # 12 - ceil(7.2) = 4
    "surge": {"makespan_s": 12 * 270, "capacity_min": 1200, "machine_hours": 12 + 12 * 210 / 3600},
    "surge-quarters": {"makespan_s": 4 * 270, "capacity_min": 1200, "machine_hours": 12 + 12 * 210 / 3600},
    # six a batch: three come first, 220 s, then their old ones go, 50 s; the other three go first, 50 s, which gives
    # their machines back until new ones are allocated 60 s later. Three are out all the time.
    "rolling-update": {
        "makespan_s": 2 * 270, "capacity_min": 900, "lost_capacity": 540 * 300, "machine_hours": 12 + (6 * 210 - 6 * 60) / 3600,
    },
}  # fmt: skip

# three hands work on three lanes to their end before they begin another: four rounds of 200 s, whatever the batches
FORKS: Figures = {name: {"makespan_s": 800, "capacity_min": 900, "failed_requests": 0} for name in ("thirds", "halves", "all-at-once")}

# 100 req/s; middle lanes 10 + 10 + 120 + 20 = 160 s, 150 s without the drain; three of them, then two web lanes of 200 s.
# A hand-over takes 2 s, an election 5 s, a lease runs out after 10 s. The leader is the second of the list.
MIDDLE_TIER: Figures = {
    "leader-last-handed-over": {"makespan_s": 480 + 2 + 400, "downtime_s": 2, "failed_requests": 200, "failovers": 1},
    "leader-last-drained": {"makespan_s": 880, "downtime_s": 5, "failed_requests": 500, "failovers": 1},
    "leader-last-stopped": {"makespan_s": 850, "downtime_s": 15, "failed_requests": 1500, "failovers": 1},
    # the second hands over to the first, which goes next and hands over again
    "leader-first-handed-over": {"makespan_s": 884, "downtime_s": 4, "failed_requests": 400, "failovers": 2},
    "leader-first-drained": {"makespan_s": 880, "downtime_s": 10, "failed_requests": 1000, "failovers": 2},
    "leader-first-stopped": {"makespan_s": 850, "downtime_s": 30, "failed_requests": 3000, "failovers": 2},
    # first, second, third: the second leaves the lead to the first, which is done
    "leader-any": {"makespan_s": 880, "downtime_s": 5, "failed_requests": 500, "failovers": 1},
    "tiers-in-parallel": {"makespan_s": 482, "downtime_s": 2, "failed_requests": 200, "failovers": 1},
    # new middle boxes 60 + 120 + 20 = 200 s, old ones 10 + 10 + 10 = 30 s; new web boxes 220 s, old ones 50 s
    "surge": {"makespan_s": 3 * 230 + 2 + 2 * 270, "downtime_s": 2, "machine_hours": (6 * 1800 + 3 * 170 + 2 + 2 * 210) / 3600},
    # killed 150 s with its lease; the election begins when all are back: 155 s. Then the web boxes, killed 170 s
    "all-at-once": {"makespan_s": 150 + 170, "downtime_s": 320, "failed_requests": 32000, "failovers": 1},
}

# the lock of 12 s: the lease runs out at 10 s, the election lasts from 12 s to 17 s. The first of the list drains from 12 s
# on, so the old leader is elected again. It goes last; the lock of 2 s is shorter than a lease
LEASES: Figures = {
    "expand-contract": {"makespan_s": 12 + 480 + 2 + 2, "downtime_s": 17 + 2 + 2, "failed_requests": 2100, "failovers": 1},
    "expand-contract-drained": {"makespan_s": 12 + 480 + 2, "downtime_s": 17 + 5 + 2, "failed_requests": 2400, "failovers": 1},
    "offline": {"makespan_s": 10 + 300 + 20, "downtime_s": 330 + 5, "failed_requests": 33500},
}

# 250 req/s over members of 100
QUORUM: Figures = {
    "by-one": {"makespan_s": 5 * 200, "capacity_min": 400, "failed_requests": 0},
    "by-two": {"makespan_s": 3 * 200, "capacity_min": 300, "failed_requests": 0},
    "by-three": {"makespan_s": 2 * 200, "capacity_min": 0, "downtime_s": 200, "failed_requests": 250 * 200},  # 2 of 5, then 3 of 5
    # 60 + 120 + 40 s to come, 50 s to go. Six members want four, and five or six serve. A sixth machine for 210 s
    "surge": {"makespan_s": 5 * 270, "capacity_min": 500, "downtime_s": 0, "machine_hours": (5 * 1800 + 5 * 210) / 3600},
}
QUORUM_OF_THREE: Figures = {
    "by-one": {"makespan_s": 3 * 200, "capacity_min": 200, "failed_requests": 0},
    "by-two": {"makespan_s": 2 * 200, "capacity_min": 0, "downtime_s": 200, "failed_requests": 150 * 200},  # 1 of 3, then 2 of 3
}

# 100 req/s, 20 writes/s; writers 20 + 10 + 60 + 30 = 120 s; a standby that is 5 s behind
DATA_LAYER: Figures = {
    "offline": {"makespan_s": 10 + 300 + 30, "downtime_s": 340, "failed_requests": 34000, "added_exposure_s": 0},
    "offline-drained": {"makespan_s": 20 + 10 + 300 + 30, "downtime_s": 360, "failed_requests": 36000},
    "offline-backed-up": {"makespan_s": 600 + 340, "downtime_s": 340, "failed_requests": 34000},
    "expand-contract": {"makespan_s": 2 + 240 + 900 + 2, "downtime_s": 4, "failed_requests": 400, "added_exposure_s": 0},
    # no standby follows for 300 s, twice
    "replica-first": {
        "makespan_s": 300 + 5 + 300 + 240, "downtime_s": 5, "failed_requests": 500, "failovers": 1, "added_exposure_s": 300,
    },
    # split from 10 s to the end of the reconciliation: 300 + 300 + 60 s in which nobody follows anybody
    "split": {
        "makespan_s": 10 + 660 + 240, "downtime_s": 0, "failed_requests": 0, "divergent_writes": 20 * 660, "reconcile_s": 60,
        "added_exposure_s": 660,
    },
}  # fmt: skip

# 100 req/s; patch and reboot 260 s. Lanes: web 30 + 10 + 260 + 40 = 340 s, middle 10 + 10 + 5 + 260 + 5 + 20 = 310 s, others
# 260 s; a switchover 5 s, a hand-over 2 s
PATCH: Figures = {
    "one-by-one": {"makespan_s": 525 + 932 + 680 + 520, "downtime_s": 5 + 2, "failed_requests": 700, "failovers": 2, "blind_s": 0},
    "leaders-drained": {"makespan_s": 520 + 930 + 680 + 520, "downtime_s": 260 + 5, "failed_requests": 26500, "failovers": 1},
    "tiers-in-parallel": {"makespan_s": 932 + 520, "downtime_s": 7, "failed_requests": 700, "failovers": 2},
    "all-at-once": {"makespan_s": 260 + 310 + 340 + 260, "downtime_s": 910, "failed_requests": 91000, "blind_s": 260},
}
# callers first: web 40 s, middle 20 s, locks 5 s; 260 s; locks 5 s, middle 20 s, web 40 s. Nobody watches the patch
ONEBOX: Figures = {"all-at-once": {"makespan_s": 390, "downtime_s": 390, "failed_requests": 2 * 390, "unobserved_change_s": 260}}

# three cells of 2 x 100 with 150 req/s each; web lanes 200 s, middle lanes 160 s
CELLS: Figures = {
    "cell-by-cell": {"makespan_s": 3 * 200, "failed_requests": 150 * 600, "capacity_min": 400},
    "zone-by-zone": {"makespan_s": 2 * 200, "failed_requests": 3 * 50 * 400, "capacity_min": 300},
    "by-list": {"makespan_s": 6 * 200, "failed_requests": 50 * 1200, "capacity_min": 500, "brownout_s": 0},
    "tier-by-tier": {"makespan_s": 2 * 160 + 2 * 200, "failed_requests": 3 * 50 * 720, "capacity_min": 300},
    "one-by-one": {"makespan_s": 6 * 160 + 6 * 200, "failed_requests": 50 * 2160, "capacity_min": 500},
}
# a dead cell's 150 go to the two others, which have room for 50 each; a cell that is half there is not dead
REROUTED: Figures = CELLS | {"cell-by-cell": {"makespan_s": 600, "failed_requests": 50 * 600, "capacity_min": 400}}

BY_HAND: dict[str, tuple[str, Figures]] = {
    "front-end": ("blue-green", FRONT_END),
    "front-end-retry": ("stopped", RETRY),
    "connections": ("weighed", CONNECTIONS),
    "batches": ("rolling-update", BATCHES),
    "batches-forks": ("thirds", FORKS),
    "middle-tier": ("tiers-in-parallel", MIDDLE_TIER),
    "leases": ("expand-contract", LEASES),
    "quorum": ("by-two", QUORUM),
    "quorum-of-three": ("by-one", QUORUM_OF_THREE),
    "data-layer": ("expand-contract", DATA_LAYER),
    "patch": ("tiers-in-parallel", PATCH),
    "patch-onebox": ("all-at-once", ONEBOX),
    "cells": ("by-list", CELLS),
    "cells-rerouted": ("cell-by-cell", REROUTED),
}
"""Scenario -> the strategy that it recommends, and the figures of every one."""


def outcomes(name: str) -> dict[str, Outcome]:
    return dict(simulate_all(build_plans(load_scenario(FILES[name])), replications=5, seed=3))


@pytest.mark.parametrize("name", BY_HAND)
def test_every_strategy_gives_the_figures_that_were_derived_by_hand(name):
    figures = BY_HAND[name][1]
    found = outcomes(name)

    assert set(figures) == set(found)
    for strategy, wanted in figures.items():
        got = {metric: found[strategy].values[metric] for metric in wanted}
        assert {m: pytest.approx(np.full(5, float(v)), rel=1e-9, abs=1e-6) for m, v in wanted.items()} == got, strategy
        assert 1 == found[strategy].values["success"].min(), strategy


def test_no_shipped_partition_is_without_figures():
    assert set(FILES) == set(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_recommendation_is_the_one_that_the_figures_suggest(name):
    assert BY_HAND[name][0] == compare(load_scenario(FILES[name]), 6, 1).recommended


def test_a_stopped_box_fails_what_meets_it_until_the_health_check_notices():
    # four times U(8 s, 12 s) at 250 / 4 req/s: between 2,000 and 3,000, and 2,500 in the mean of many runs.
    # sd of one run 4 ** 0.5 * 62.5 * 4 / 12 ** 0.5 = 144, of the mean of 400 runs 7.2: the band is 4 of these
    plans = build_plans(load_scenario(FILES["front-end"]))
    failed = simulate_all({"stopped": plans["stopped"]}, replications=400, seed=1)["stopped"].values["failed_requests"]

    assert 2000 <= failed.min() and failed.max() <= 3000
    assert pytest.approx(2500, abs=4 * 7.3) == failed.mean()


def tables() -> list[tuple[str, list[str], list[list[str]]]]:
    """(scenario, metrics, rows) of each table of figures in the page, below the scenario's name."""
    found: list[tuple[str, list[str], list[list[str]]]] = []
    scenario, lines = "", iter(PAGE.splitlines())
    for line in lines:
        scenario = (re.findall(r"partitions/upgrade-([\w-]+)\.yaml", line) or [scenario])[-1]
        if line.startswith("| strategy |"):
            metrics = re.findall(r"`(\w+)`", line)
            next(lines)
            rows = list(itertools.takewhile(lambda row: row.startswith("|"), lines))
            found.append((scenario, metrics, [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]))
    return found


def test_the_figures_in_the_page_are_those_of_the_simulator():
    shown: dict[str, set[str]] = {}
    for scenario, metrics, rows in tables():
        found = outcomes(scenario)
        for row in rows:
            shown.setdefault(scenario, set()).add(row[0])
            for metric, cell in zip(metrics, row[-len(metrics) :], strict=True):
                if not cell.startswith("about"):  # chance, tested above
                    assert pytest.approx(float(cell.replace(",", "")), abs=5e-5) == found[row[0]].values[metric][0], (
                        scenario,
                        row[0],
                        metric,
                    )

    assert {name: set(figures) for name, (_, figures) in BY_HAND.items()} == shown


def test_every_shipped_partition_has_its_picture_in_the_page():
    few = {"front-end-retry", "connections", "batches-forks", "quorum-of-three", "patch-onebox"}  # the same picture, or none worth one

    assert {name for name in BY_HAND if f"partitions-upgrade-{name}/capacity.png" in PAGE} == set(BY_HAND) - few


def test_every_key_word_and_built_in_strategy_of_partitions_stands_in_the_page():
    fields = Partition.model_fields
    words = {field.alias or key for key, field in fields.items()} | set(BUILT_IN) | set(get_args(SliceWord)) | set(get_args(Word))
    words |= {value for key in ("take_out", "leader", "migration") for value in literals(fields[key].annotation)} | set(get_args(Rounding))

    assert set() == {word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", PAGE)}


def literals(annotation: object) -> set[str]:
    """The words of a Literal, optional or not."""
    return {word for part in (annotation, *get_args(annotation)) for word in get_args(part) if isinstance(word, str)}
