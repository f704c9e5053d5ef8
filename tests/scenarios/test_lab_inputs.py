"""The lab's environment holds the measured durations, all of them and no others; the led middle tier elects as it should."""

from __future__ import annotations

import csv
import pathlib
import re

import pytest

from simdeploy.environment.files import load_environment
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Means

SCENARIOS = pathlib.Path(__file__).parents[2] / "scenarios"
STEP_OF = {"await_idle": "wait_idle", "undrain": "ready", "await_healthy": "wait_up"}
"""Action -> what the measurements call it; all others keep their name."""

LAB = load_environment(SCENARIOS / "lab" / "environment.yaml")
ROWS = list(csv.DictReader((SCENARIOS / "lab" / "measurements.csv").read_text(encoding="utf-8").splitlines()))
SOURCES = {i.at: i.source for i in LAB.inputs if i.mark == "measured"}
ACTIONS = [(service, action) for service, about in LAB.services.items() for action in about.actions]


def cited(service: str, action: str) -> tuple[str, str, str, int]:
    """(exp, variant, step, number of values) that the environment gives as the source of an action's duration."""
    source = SOURCES[f"services.{service}.actions.{action}.duration"]
    match = re.fullmatch(r"lab 2026-11-22, (\S+) (\S+), (\w+), (\d+) values", source)
    assert match, source
    return match[1], match[2], match[3], int(match[4])


@pytest.mark.parametrize(("service", "action"), ACTIONS)
def test_a_duration_of_the_lab_is_the_whole_sample_that_it_cites(service, action):
    exp, variant, step, count = cited(service, action)
    duration = LAB.services[service].actions[action].duration

    rows = [r for r in ROWS if (r["exp"], r["variant"], r["step"]) == (exp, variant, step)]

    assert step == STEP_OF.get(action, action)
    assert {r["box"] for r in rows} == set(LAB.services[service].on)
    assert duration.kind == "empirical"
    assert sorted(duration.parameters) == sorted(float(r["duration_s"]) for r in rows)
    assert len(duration.parameters) == count


def test_every_step_of_a_cited_upgrade_has_its_action():
    used = {cited(service, action)[:3] for service, action in ACTIONS}

    for exp, variant in (("1-rolling", "60rps"), ("4-schema", "online")):
        measured = {(exp, variant, r["step"]) for r in ROWS if (r["exp"], r["variant"]) == (exp, variant)}
        assert measured and measured <= used


def test_a_backfill_of_the_lab_has_as_many_chunks_as_a_repetition_measured():
    chunks = [sum(r["step"] == "backfill" and r["rep"] == rep for r in ROWS) for rep in ("0", "1", "2")]

    assert chunks == [LAB.services["sql"].actions["backfill"].times] * 3


@pytest.mark.parametrize(("strategy", "failovers"), [("leader-last-hand-over", 1), ("leader-first-hand-over", 2)])
def test_the_lead_changes_once_if_the_leader_goes_last_and_twice_if_it_goes_first(strategy, failovers):
    scenario = load_scenario(SCENARIOS / "canonical" / "upgrade-leader-elected.yaml")
    plan = build_plans(scenario, [strategy])[strategy]
    engine = Engine(plan)

    run = next(iter(engine.runs(Means(plan, engine.names))))

    assert run.outcome == "success"
    assert run.failovers == failovers
