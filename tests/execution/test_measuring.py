"""What a journal says beside the forecast: by hand, to the horizon, of a run that goes on, and across a restart of the desk."""

from __future__ import annotations

import math
from typing import Any

import pytest

from simdeploy.execution.guards import Guards
from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry, Kind
from simdeploy.execution.measuring import comparison, measured, sampled
from simdeploy.plan.plan import Plan
from tests.builders import farm, rolling, run

PLAN = Plan(environment=farm(2, 100.0, 40.0), steps=rolling(["web@w0"], 1.0), horizon_s=60.0)


class Told:
    """A journal, told entry by entry; one second passes with each."""

    def __init__(self, mono_s: float = 1000.0) -> None:
        self.entries: list[Entry] = []
        self.mono_s, self.wall_s = mono_s, 5000.0

    def __call__(self, kind: Kind, wait_s: float = 0.0, **body: Any) -> None:
        self.mono_s, self.wall_s = self.mono_s + wait_s, self.wall_s + wait_s
        self.entries.append(Entry(len(self.entries) + 1, self.wall_s, self.mono_s, kind, body))

    def step(self, step_id: str, lasts_s: float = 1.0) -> None:
        self("intent", step=step_id, attempt=1, **{"try": 1})
        self("ended", lasts_s, step=step_id, result="succeeded", by="runner")

    def saw(self, *bins: tuple[float, int, int]) -> None:
        self("sampled", bin_s=0.1, every_s=0.02, bins=[list(b) for b in bins])


@pytest.fixture
def told() -> Told:
    told = Told()
    told("opened")
    return told


def test_the_prober_by_hand(told):
    told.step(PLAN.steps[0].id)
    told.saw((999.0, 5, 5), (1000.1, 5, 2), (1000.2, 5, 2), (1000.3, 5, 5), (1000.4, 5, 0), (1099.0, 5, 5))
    seen = sampled(PLAN, told.entries)

    assert seen is not None and (seen.asked, seen.failed) == (20, 9)
    assert math.isclose(seen.downtime_s, 0.1) and math.isclose(seen.failed_requests, 40 * 0.1 * (0.4 + 0.4 + 1))
    assert math.isclose(seen.availability, 1 - 1.8 / 4) and math.isclose(seen.share, 0.4)
    assert "40% of the run's time" in comparison(PLAN, measured(PLAN, told.entries)[0], None, seen).note


def test_a_goal_that_users_already_see_missed_is_an_alarm_though_the_steps_do_not_show_it(told):
    """40 req/s, all of which failed in two tenths: 8 of at most 5; in one tenth 4."""
    plan = Plan.model_validate({**PLAN.model_dump(mode="json"), "goals": ["p95(failed_requests) <= 5"]})
    told.step(plan.steps[0].id)
    told.saw((1000.1, 5, 5))
    guards = Guards(plan, None, history := History(plan, told.entries))
    assert [*guards.look(told.mono_s, [])] == []

    told.saw((1000.2, 5, 5))
    history.tell(told.entries[-1])
    (alarm,) = guards.look(told.mono_s + 2, [])
    assert alarm.pauses and alarm.text == "the goal p95(failed_requests) <= 5 is missed: failed_requests is 8 already, as the prober saw"


def test_without_samples_nobody_has_seen_what_users_notice(told):
    for step in PLAN.steps:
        told.step(step.id)
    found, seen = measured(PLAN, told.entries)

    assert seen is None
    for name in ("downtime_s", "failed_requests", "lost_writes"):
        assert (found.values[name], found.known[name]) == (None, "not observed")


def test_as_in_the_forecast_integrals_run_to_the_horizon(told):
    for step in PLAN.steps:
        told.step(step.id, step.duration.mean_s)
    found, _ = measured(PLAN, told.entries)
    forecast = {name: float(value[0]) for name, value in run(PLAN).items()}

    assert found.values["machine_hours"] == pytest.approx(2 * 60 / 3600) and found.known["machine_hours"] == "inferred"
    assert found.known["makespan_s"] == "observed" and found.outcome == "success"
    for name in ("makespan_s", "machine_hours", "lost_capacity", "capacity_end", "single_fault_s", "success"):
        assert found.values[name] == pytest.approx(forecast[name]), name


def test_a_run_that_goes_on_has_no_outcome(told):
    told.step(PLAN.steps[0].id)
    found, _ = measured(PLAN, told.entries)

    assert found.outcome == "not ended yet"
    assert {(found.values[n], found.known[n]) for n in ("success", "stuck")} == {(None, "not observed")}


def test_samples_are_counted_after_a_restart_of_the_desk_too(told):
    told.step(PLAN.steps[0].id)
    told.saw((1000.5, 5, 5))
    told.mono_s = 7.0  # the clock of the machine has begun anew
    told("opened", 10.0)
    told.step(PLAN.steps[1].id)
    told.saw((17.5, 5, 5), (16.5, 5, 0))
    seen = sampled(PLAN, told.entries)

    assert seen is not None and (seen.asked, seen.failed) == (15, 10) and math.isclose(seen.downtime_s, 0.2)
