"""Drains that follow from `hold`, as files write them: every fault at its place, and the step that they become."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.files import load_environment
from simdeploy.errors import FileError
from simdeploy.plan.overview import steps
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from tests.builders import run

DRAIN = "{until_idle: true, timeout: 30 s}"
ENVIRONMENT = """\
name: shop
machines: [{name: a}, {name: b}]
entry: web
demand: {rate: 60 req/s}
services:
  web:
    on: [a, b]
    capacity: 100 req/s
    hold: {exponential: 10 s}
    actions:
      drain: {until_idle: true, timeout: 30 s}
      install: {duration: 60 s}
      start: {duration: 20 s}
"""
UPGRADE = """\
scenario: upgrade
environment: environment.yaml
to: {web: "2"}
strategies:
  rolling: {services: {web: {batches: 1}}}
  stopped: {order: [web]}
"""


def write(folder: pathlib.Path, old: str = "", new: str = "") -> pathlib.Path:
    assert old in ENVIRONMENT
    (folder / "environment.yaml").write_text(ENVIRONMENT.replace(old, new, 1) if old else ENVIRONMENT)
    (folder / "upgrade.yaml").write_text(UPGRADE)
    return folder / "environment.yaml"


def test_a_drain_of_a_file_becomes_a_step_that_lasts_until_idle(tmp_path):
    write(tmp_path)

    plan = build_plan(load_scenario(tmp_path / "upgrade.yaml"), "rolling")

    first = plan.steps[0]
    assert ("code/web@a/drain", True, 30.0, fixed(0.0)) == (first.id, first.until_idle, first.timeout_s, first.duration)
    assert ((("drain", "web@a"),), (("out", "web@a"),)) == (first.begin, first.end)
    assert Distribution(kind="exponential", parameters=(10.0,)) == plan.environment.services["web"].hold
    assert 1.5 * 2 * (30 + 60 + 20) == plan.horizon_s
    assert "until idle, at most 30 s" in [row[2] for row in steps(plan).rows]
    assert 0 < run(plan)["makespan_s"][0] - 2 * (60 + 20) <= 60


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (DRAIN, "{until_idle: true, timeout: 30 s, duration: 5 s}", 11, "has a duration and lasts until idle; keep one"),
        (DRAIN, "{timeout: 30 s}", 11, "'drain' of 'web' has no duration; state it, or until_idle: true"),
        (DRAIN, "{until_idle: true}", 11, "has no timeout; state after how long it cuts"),
        (DRAIN, "{until_idle: true, timeout: 30 s, times: 2}", 11, "comes 2 times"),
        ("    hold: {exponential: 10 s}\n", "", 6, "does not say how long it holds a request; state 'hold'"),
        ("{duration: 60 s}", "{until_idle: true, timeout: 30 s}", 12, "'install' of 'web' lasts until idle; only 'drain' does"),
        ("{duration: 60 s}", "{p_fail: 1 %}", 12, "'install' of 'web' has no duration; state it"),
        ("hold: {exponential: 10 s}", "hold: {exponential: 10}", 9, "10 has no unit"),
    ],
)
def test_what_fits_not_is_a_fault_at_its_line(old, new, line, says, tmp_path):
    with pytest.raises(FileError) as error:
        load_environment(write(tmp_path, old, new))

    [fault] = error.value.faults
    assert line == fault.line and says in fault.message


def test_a_file_that_stands_on_another_may_state_the_duration_instead(tmp_path):
    write(tmp_path)
    path = tmp_path / "like.yaml"
    path.write_text("like: environment.yaml\nservices: {web: {hold: null, actions: {drain: {duration: 5 s, until_idle: false}}}}\n")

    web = load_environment(path).services["web"]

    assert (fixed(5.0), False, None) == (web.actions["drain"].duration, web.actions["drain"].until_idle, web.hold)


def test_a_file_that_stands_on_another_may_last_until_idle_instead(tmp_path):
    write(tmp_path, DRAIN, "{duration: 5 s}")
    path = tmp_path / "like.yaml"
    path.write_text(f"like: environment.yaml\nservices: {{web: {{actions: {{drain: {{duration: null, {DRAIN[1:]}}}}}}}\n")

    drain = load_environment(path).services["web"].actions["drain"]

    assert (None, True, 30.0) == (drain.duration, drain.until_idle, drain.timeout_s)


def test_a_store_that_elections_go_through_is_named_in_a_file(tmp_path):
    through = "    role: leader_elected\n    elected_through: wob\n    hold:"

    with pytest.raises(FileError) as error:
        load_environment(write(tmp_path, "    hold:", through))

    [fault] = error.value.faults
    assert 10 == fault.line and "elected through 'wob', which is no service" in fault.message
