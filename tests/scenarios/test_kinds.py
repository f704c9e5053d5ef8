"""Every kind of scenario in every kind of environment: four small environments with fixed durations, and figures by hand.

The derivations stand in words at the top of each scenario's file in scenarios/kinds/; here they are expressions of the durations in
scenarios/kinds/production.yaml. A web lane: drain 30, stop 10, install 120, start 20; a middle-tier lane: 20, 10, 100, 30.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping

import numpy as np
import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.planning.kinds import KINDS, build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.report.reports import scenario_files
from simdeploy.simulation.outcome import Outcome, simulate_all

FOLDER = pathlib.Path(__file__).parents[2] / "scenarios" / "kinds"
CANONICAL = FOLDER.parent / "canonical"
PLACES = ("onebox", "test", "dogfood", "production")
Figures = Mapping[str, Mapping[str, float]]
"""Strategy -> metric -> what it comes to."""

WEB, MIDDLE = 30 + 10 + 120 + 20, 20 + 10 + 100 + 30
ALL_STOPPED = 10 + 200 + 30
"""The middle tier stops, the schema migrates, the middle tier starts; web is back before that."""
SINGLES = 5 + MIDDLE + WEB + 5
PAIRS = 5 + 2 * MIDDLE + 2 * WEB + 5
UPGRADE: Mapping[str, Figures] = {
    # each tier is one box, so that nothing is served while a lane runs, nor while the schema is locked
    "onebox": {
        "all-at-once": {"makespan_s": ALL_STOPPED, "failed_requests": 2 * ALL_STOPPED},
        "one-by-one": {"makespan_s": SINGLES, "downtime_s": SINGLES, "failed_requests": 2 * SINGLES},
    },
    "test": {
        "all-at-once": {"makespan_s": ALL_STOPPED, "failed_requests": 10 * ALL_STOPPED},
        "one-by-one": {"makespan_s": SINGLES, "downtime_s": SINGLES, "failed_requests": 10 * SINGLES},
    },
    # one box of two carries all of 50 req/s, and 100 of 150 req/s
    "dogfood": {
        "all-at-once": {"makespan_s": ALL_STOPPED, "failed_requests": 50 * ALL_STOPPED},
        "one-by-one": {"makespan_s": PAIRS, "downtime_s": 5 + 5, "failed_requests": 50 * 10},
    },
    "production": {
        "all-at-once": {"makespan_s": ALL_STOPPED, "failed_requests": 150 * ALL_STOPPED},
        "one-by-one": {"makespan_s": PAIRS, "brownout_s": PAIRS - 10, "failed_requests": 150 * 10 + (150 - 100) * (PAIRS - 10)},
    },
}

MONITOR = 60 + 10
ONE_OF_EACH = {
    "before": {"makespan_s": MONITOR + WEB, "blind_s": MONITOR, "unchecked_s": 0, "downtime_s": WEB},
    "after": {"makespan_s": WEB + MONITOR, "blind_s": MONITOR, "unchecked_s": MONITOR, "downtime_s": WEB},
}
MONITORING: Mapping[str, Figures] = {
    # unchecked from the first web 2 on, at WEB, until the first new monitor serves
    "onebox": ONE_OF_EACH,
    "test": ONE_OF_EACH,
    "dogfood": {
        "before": {"makespan_s": MONITOR + 2 * WEB, "blind_s": MONITOR, "unchecked_s": 0, "failed_requests": 0},
        "after": {"makespan_s": 2 * WEB + MONITOR, "blind_s": MONITOR, "unchecked_s": WEB + MONITOR, "failed_requests": 0},
    },
    "production": {
        "before": {"makespan_s": 2 * (MONITOR + WEB), "blind_s": 0, "unchecked_s": 0, "failed_requests": 50 * 2 * WEB},
        "after": {"makespan_s": 2 * (WEB + MONITOR), "blind_s": 0, "unchecked_s": WEB + MONITOR, "failed_requests": 50 * 2 * WEB},
    },
}

# sql on its machine: prerequisites, install, schema, data, start; a standby is seeded and started after that
STORE, STANDBY, LOOK = 120 + 180 + 60 + 240 + 20, 400 + 20, 120 + 30
STARTS = 30 + 20 + 10 + 10  # middle, web, balancer, monitoring; a hosted balancer starts in no time
HANDED = STORE - 120  # what is left of the store's time when all is handed over
SELF_MADE = (300 + STORE) + (60 + 100 + 30) + (60 + 120 + 20) + (60 + 60 + 10) + LOOK  # without the balancer and machines of one's own
FRESH: Mapping[str, Figures] = {
    "onebox": {
        "manual": {"rto_s": 900 + 120 + HANDED + STARTS + LOOK, "machine_hours": (10800 - 900) / 3600},
        "scripted": {"rto_s": 300 + STORE + STARTS + LOOK, "machine_hours": (10800 - 300) / 3600},
        "built-in": {"rto_s": SELF_MADE + 130},
    },
    "test": {
        "manual": {"rto_s": 5 * 900 + 60 + HANDED + STARTS + LOOK, "machine_hours": (5 * 10800 - 900 * (1 + 2 + 3 + 4 + 5)) / 3600},
        "scripted": {"rto_s": 300 + STORE + STARTS + LOOK, "machine_hours": 5 * (10800 - 300) / 3600},
        "built-in": {"rto_s": SELF_MADE + 130 + 4 * 300},
    },
    "dogfood": {
        "manual": {"rto_s": 6 * 900 + 60 + HANDED + STARTS - 10 + LOOK},
        "scripted": {"rto_s": 300 + STORE + STARTS - 10 + LOOK, "machine_hours": 6 * (10800 - 300) / 3600},
        "built-in": {"rto_s": SELF_MADE + 3 * 300},
    },
    "production": {
        "manual": {"rto_s": 8 * 900 + 60 + HANDED + STANDBY + STARTS - 10 + LOOK},
        "scripted": {"rto_s": 300 + STORE + STANDBY + STARTS - 10 + LOOK, "machine_hours": 8 * (10800 - 300) / 3600},
        "built-in": {"rto_s": SELF_MADE + STANDBY + 3 * 300},
    },
}

NEW_MIDDLE, NEW_WEB = 300 + 60 + 100 + 30, 300 + 60 + 120 + 20


def scaled(machines: int, capacity_per_s: float) -> Figures:
    """Of so many machines that are there for 1,800 s: two more, from the end of their allocate on."""
    late = NEW_MIDDLE + 300
    return {
        "tier-by-tier": {
            "makespan_s": NEW_MIDDLE + NEW_WEB, "capacity_end": capacity_per_s, "failed_requests": 0,
            "machine_hours": (machines * 1800 + (1800 - 300) + (1800 - late)) / 3600,
        },
        "together": {
            "makespan_s": NEW_WEB, "capacity_end": capacity_per_s, "failed_requests": 0,
            "machine_hours": (machines * 1800 + 2 * (1800 - 300)) / 3600,
        },
    }  # fmt: skip


# the store bears 500 req/s; a box more in both tiers bears 100 more
SCALE_OUT = {"onebox": scaled(1, 200), "test": scaled(5, 200), "dogfood": scaled(6, 300), "production": scaled(8, 300)}

PEOPLE, ANEW, CHECKED = 60 + 120, 120 + 180 + 20, 90
"""detect and decide; prerequisites, install and start of a store; validate."""


def lost(away_s: float, as_it_is_s: float, demand_per_s: float) -> Figures:
    """Of a store that is lost: how long users are without it from a backup and as it is; a spare machine saves 300 s."""

    def figures(seconds: float) -> Mapping[str, float]:
        return {"rto_s": seconds + CHECKED, "downtime_s": seconds, "failed_requests": demand_per_s * seconds}

    return {"backup-alone": figures(away_s), "spare": figures(away_s - 300), "as-it-is": figures(as_it_is_s)}


RESTORED = PEOPLE + 300 + ANEW  # and what it takes to read the backup
DATA_RESTORE: Mapping[str, Figures] = {
    # the box takes all with it: middle, web and balancer start; elsewhere the middle tier is repointed
    "onebox": lost(RESTORED + 20 + 30 + 20 + 10, RESTORED + 20 + 30 + 20 + 10, 2),
    "test": lost(RESTORED + 200 + 15, RESTORED + 200 + 15, 10),
    "dogfood": lost(RESTORED + 400 + 15, RESTORED + 400 + 15, 50),
    "production": lost(RESTORED + 2000 + 15, PEOPLE + 30 + 15, 150),  # as it is: promoted, repointed
}


def back(away_s: float, last_s: float) -> Figures:
    """Users are without it for so long, the *last* lane ends then; two spares save the first 300 s of waiting for machines."""
    return {
        "as-it-is": {"downtime_s": away_s, "rto_s": last_s + CHECKED},
        "spares": {"downtime_s": away_s - 300, "rto_s": last_s - 300 + CHECKED},
    }


FIFTH = PEOPLE + 3 * 300  # the third pair of machines
DISASTER: Mapping[str, Figures] = {
    "onebox": back(RESTORED + 20 + 30 + 20 + 10, RESTORED + 20 + 30 + 20 + 10),
    "test": back(RESTORED + 200 + 30 + 20 + 10, FIFTH + 60 + 60 + 10),  # the monitor is the fifth
    "dogfood": back(RESTORED + 400 + 30 + 20, FIFTH + 60 + 120 + 20),  # the second web box is
    "production": back(RESTORED + 2000 + 30 + 20, RESTORED + 2000 + 30 + 20),  # the standby comes back after that
}

GONE = 30 + 10 + 40  # an old web box drains, stops and is released; an old store is released at once
STORE_IN, WEB_IN, MIDDLE_IN = 300 + 120 + 180 + 400 + 20, 300 + 60 + 120 + 20, 300 + 60 + 100 + 30
PRIMARY, FOLLOWER, FRONT = STORE_IN + 5 + 40, STORE_IN + 40, WEB_IN + GONE
# store, middle, web, balancer and monitoring come in turn, the store hands over, web and the middle tier leave
WHOLE = STORE_IN + 190 + 200 + 130 + 130 + 5 + (30 + 10) + (20 + 10) + 40


def replaced(machines: int, demand_per_s: float, lanes_s: list[float], together_s: float) -> Figures:
    """Of so many machines, of which as many as there are lanes are replaced: each is there twice from 300 s of its lane on."""
    away = {"downtime_s": 5, "failed_requests": demand_per_s * 5, "failovers": 1}
    away["machine_hours"] = (machines * 7200 + sum(lane_s - 300 for lane_s in lanes_s)) / 3600
    return {
        "one-by-one": {"makespan_s": sum(lanes_s), **away},
        "spare": {"makespan_s": sum(lanes_s) - 300, **away},
        "at-once": {"makespan_s": together_s, **away},
    }


REPLACEMENT = {
    "onebox": replaced(1, 2, [WHOLE], WHOLE),
    "test": replaced(5, 10, [PRIMARY, FRONT], PRIMARY),
    "dogfood": replaced(6, 50, [PRIMARY, FRONT, FRONT], PRIMARY),
    "production": replaced(8, 150, [PRIMARY, FOLLOWER, FRONT, FRONT], PRIMARY),
}


def restored(machines: int, lost: int, away_s: float, demand_per_s: float, beside: Mapping[str, float]) -> Figures:
    """How long users are without the boxes that are lost of all machines; spares save the 300 s of the allocations, side by side.

    For 7,200 s those that live are paid for, all four spares, and what is allocated from then on; what died is not.
    """
    alive = machines - lost

    def figures(seconds: float, paid_s: float) -> Mapping[str, float]:
        metrics = {"rto_s": seconds + CHECKED, "downtime_s": seconds, "failed_requests": demand_per_s * seconds, "out_at_end": 0}
        return {**metrics, "machine_hours": (alive * 7200 + paid_s) / 3600}

    allocated_s = lost * (7200 - PEOPLE - 300)
    return {"after-loss": figures(away_s, allocated_s), "after-loss-spares": figures(away_s - 300, 4 * 7200), "beside": beside}


# the middle tier comes and starts, and web, which is installed by then, starts after it
TIERS_BACK = PEOPLE + MIDDLE_IN + 20
MIDDLE_SWAP = MIDDLE_IN + 20 + 10 + 40
COMPUTE_RESTORE: Mapping[str, Figures] = {
    # all is on the box: the store is read back (20 s), then what calls it starts, as after any loss of the box
    "onebox": restored(
        1,
        1,
        RESTORED + 20 + 30 + 20 + 10,
        2,
        {"makespan_s": WHOLE + CHECKED, "downtime_s": 5, "failed_requests": 10},
    ),
    "test": restored(5, 2, TIERS_BACK, 10, {"makespan_s": MIDDLE_SWAP + FRONT + CHECKED, "downtime_s": 0, "failed_requests": 0}),
    "dogfood": restored(6, 4, TIERS_BACK, 50, {"makespan_s": 2 * MIDDLE_SWAP + 2 * FRONT + CHECKED, "downtime_s": 0, "failed_requests": 0}),
    "production": restored(
        8, 4, TIERS_BACK, 150, {"makespan_s": 2 * MIDDLE_SWAP + 2 * FRONT + CHECKED, "capacity_min": 200, "failed_requests": 0}
    ),
}

PROCEDURE: Mapping[str, Figures] = {
    place: {
        "look-first": {"downtime_s": 60 + 300 + 30, "rto_s": 60 + 300 + 30, "makespan_s": 390},
        "restart-first": {"downtime_s": 60 + 30, "rto_s": 60 + 30, "makespan_s": 390},
    }
    for place in PLACES
}

BY_HAND: Mapping[str, Mapping[str, Figures]] = {
    "upgrade": UPGRADE,
    "monitoring-deployment": MONITORING,
    "fresh-deployment": FRESH,
    "scale-out": SCALE_OUT,
    "data-restore": DATA_RESTORE,
    "machine-replacement": REPLACEMENT,
    "compute-restore": COMPUTE_RESTORE,
    "disaster-recovery": DISASTER,
    "procedure": PROCEDURE,
}
BOTH = list(itertools.product(BY_HAND, PLACES))


def outcomes(kind: str, place: str, replications: int = 3) -> dict[str, Outcome]:
    plans = build_plans(load_scenario(FOLDER / f"{kind}.yaml", FOLDER / f"{place}.yaml"))
    return dict(simulate_all(plans, replications=replications, seed=3))


@pytest.mark.parametrize(("kind", "place"), BOTH)
def test_every_strategy_gives_the_figures_that_were_derived_by_hand(kind, place):
    wanted, found = BY_HAND[kind][place], outcomes(kind, place)

    assert set(wanted) == set(found)
    for strategy, figures in wanted.items():
        got = {metric: found[strategy].values[metric] for metric in figures}
        assert {m: pytest.approx(np.full(3, float(v)), rel=1e-9, abs=1e-6) for m, v in figures.items()} == got, strategy
        assert 1 == found[strategy].values["success"].min(), strategy


def test_every_kind_has_its_scenario_and_every_environment_says_its_kind():
    made = {kind.replace("_", "-") for kind in KINDS}
    assert made == {path.stem for path in scenario_files(FOLDER)} == set(BY_HAND)
    for kind, place in BOTH:
        scenario = load_scenario(FOLDER / f"{kind}.yaml", FOLDER / f"{place}.yaml")
        assert (kind.replace("-", "_"), place) == (scenario.scenario, scenario.environment.kind)


def test_how_much_a_backup_loses_is_the_law_of_its_cycle_and_a_standby_loses_its_lag():
    # every 3600 s, takes 600 s: U(600, 4200), mean 2400, sd 3600 / 12 ** 0.5 = 1039; of 400 runs 52: the band is 4 of these
    for place in PLACES:
        found = outcomes("data-restore", place, 400)
        for strategy in ("backup-alone", "spare", *(["as-it-is"] if place != "production" else [])):
            lost_s = found[strategy].values["data_loss_s"]
            assert 600 <= lost_s.min() and lost_s.max() <= 4200
            assert pytest.approx(2400, abs=4 * 52) == lost_s.mean()
    assert pytest.approx(np.full(400, 5.0)) == found["as-it-is"].values["data_loss_s"]


@pytest.mark.parametrize(
    ("scenario", "environment"),
    [(folder / f"{kind}.yaml", folder / f"{place}.yaml") for folder in (FOLDER, CANONICAL) for kind, place in BOTH],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_pair_runs_through_the_command_line(scenario, environment):
    strategy = next(iter(load_scenario(scenario, environment).strategies))
    for command in (
        ("compare", "--replications", "2"),
        ("simulate", "--strategy", strategy, "--replications", "2"),
        ("plan", "--strategy", strategy),
    ):
        result = CliRunner().invoke(main, [command[0], str(scenario), "--environment", str(environment), *command[1:]])
        assert result.exit_code in (0, 4) and not isinstance(result.exception, Exception), (command, result.output)
