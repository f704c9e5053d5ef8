"""What was at risk before any plan, against a machine that really dies in a simulated run."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.environment.files import load_environment
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.standing import standing_risks, standing_sentence
from simdeploy.simulation.outcome import simulate

SCENARIOS = pathlib.Path(__file__).parents[2] / "scenarios"
FILES = [*sorted((SCENARIOS / "canonical").glob("*.yaml")), *sorted((SCENARIOS / "partitions").glob("*.yaml"))]
ENVIRONMENTS = [path for path in FILES if "scenario:" not in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda p: p.stem)
def test_what_is_left_after_a_loss_is_what_a_run_ends_with_in_which_that_machine_dies(path):
    env = load_environment(path)
    found = {risk.machine: risk.capacity_per_s for risk in standing_risks(env)}

    for machine in env.machines:
        plan = Plan(environment=env, steps=(), crashes=(Crash(machine=machine.name, at_s=1.0),), horizon_s=3600.0)
        left = float(simulate(plan, 1).values["capacity_end"][0])
        assert (left < env.demand.peak_per_s) == (machine.name in found), machine.name
        if machine.name in found:
            assert left == pytest.approx(found[machine.name])


def test_the_sentence_names_each_machine_with_what_runs_on_it_and_what_is_left():
    # a web box leaves 300 of 130 req/s, a middle-tier box 200 / 1.5; without the balancer or the store nothing goes
    said = standing_sentence(load_environment(SCENARIOS / "canonical" / "production.yaml"))

    assert said.endswith("of a demand of up to 130 req/s the loss of lb (balancer) or sql1 (sql) leaves 0.")
