"""Oracle 6 from files: how often gates say no, b the chance of a bad release, q the sensitivity, f the false alarms."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from simdeploy.errors import FileError
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate

RUNS = 20_000
B, Q, F = 0.1, 0.9, 0.02

ENVIRONMENT = """
name: pair
machines: [{name: web1}, {name: web2}]
entry: web
demand: {rate: 50 req/s}
services:
  web:
    on: [web1, web2]
    capacity: 100 req/s
    actions: {drain: {duration: 10 s}, install: {duration: 20 s}, start: {duration: 10 s}}
"""
SCENARIO = """
scenario: upgrade
environment: environment.yaml
to: {web: "2"}
release: {p_bad: 10 %, error_share: 5 %}
checks:
  look: {duration: 30 s, sensitivity: 90 %, false_alarms: 2 %}
  look-again: {of: new, duration: 60 s, sensitivity: 90 %, false_alarms: 2 %}
strategies:
  one-gate:
    checkpoints: [{after: canary, checks: [look]}]
    services: {web: {batches: 1}}
  two-gates:
    checkpoints: [{after: canary, checks: [look]}, {after: end, checks: [look]}]
    services: {web: {batches: 1}}
  side-by-side:
    checkpoints: [{after: canary, checks: [look, look-again]}]
    services: {web: {batches: 1}}
"""


@pytest.fixture
def outcomes(tmp_path: pathlib.Path):
    (tmp_path / "environment.yaml").write_text(ENVIRONMENT)
    (tmp_path / "upgrade.yaml").write_text(SCENARIO)
    scenario = load_scenario(tmp_path / "upgrade.yaml")
    return lambda strategy: simulate(build_plan(scenario, strategy), RUNS, 1).values


def share(expected: float) -> object:
    """What the share of RUNS runs is to be: within four standard errors."""
    return pytest.approx(expected, abs=4 * (expected * (1 - expected) / RUNS) ** 0.5)


def test_6_one_gate_rolls_back_what_it_finds_and_what_it_takes_for_bad(outcomes):
    values = outcomes("one-gate")

    assert share(B * Q + (1 - B) * F) == values["rolled_back"].mean()  # 0.108
    escaped = (values["success"] == 1) & (values["bad_release_requests"] > 0)
    assert share(B * (1 - Q)) == escaped.mean()


@pytest.mark.parametrize("strategy", ["two-gates", "side-by-side"])
def test_6_two_gates_roll_back_in_0_134640_of_the_runs(outcomes, strategy):
    expected = B * (1 - (1 - Q) ** 2) + (1 - B) * (1 - (1 - F) ** 2)
    values = outcomes(strategy)

    assert 0.134640 == pytest.approx(expected)
    assert share(expected) == values["rolled_back"].mean()
    assert np.array_equal(1 - values["rolled_back"], values["success"])


def test_a_check_that_is_made_twice_at_one_checkpoint_is_a_fault_at_its_place(tmp_path):
    (tmp_path / "environment.yaml").write_text(ENVIRONMENT)
    path = tmp_path / "upgrade.yaml"
    points = "checkpoints: [{after: end, checks: [look, look]}]"
    head = "scenario: upgrade\nenvironment: environment.yaml\nto: {web: next}\nchecks: {look: {}}\n"
    path.write_text(f"{head}strategies: {{s: {{{points}}}}}\n")

    with pytest.raises(FileError) as caught:
        load_scenario(path)
    [fault] = caught.value.faults
    assert 5 == fault.line and "'look' is made twice here" in fault.message
