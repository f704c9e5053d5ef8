"""The fleet against a pencil and against the binomial law.

A web lane takes 30 + 10 + 120 + 20 + 20 = 200 s. On the day of the leak the lane of the one api box of each batch fails
when its stop fails, at 40 s, and the box stays out. C = min(60 x 20 / 0.8, 10 x 30 / 0.2) = 1,500 req/s: each api box
that is out takes 150, and so do the six web boxes of a batch while they are out. Demand 1,000 req/s: with four api boxes
out 900 are left, and H = 3,600 s.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from simdeploy.environment.durations import fixed
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.planning.kinds import build_plan, build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import Outcome, simulate, simulate_all, trace
from simdeploy.study.comparison import compare

FOLDER = pathlib.Path(__file__).parents[2] / "scenarios" / "fleet"

# In the k-th batch C = 150 (10 - k): what fails in 200 s of the batches 1 to 10 is 200 times
SHORT = [0, 0, 0, 100, 250, 400, 550, 700, 850, 1000]
NEVER = {  # 10 batches; no api box is left, C = 0 from 1,800 s on
    "batches": 10, "makespan_s": 2000, "out_at_end": 10, "capacity_end": 0, "downtime_s": 1800, "partial": 1,
    "failed_requests": 200 * sum(SHORT) + 1000 * 1600,
}  # fmt: skip
LEAK: dict[str, dict[str, float]] = {
    "batch-25": NEVER,  # 1 of 7 is 14.3 %
    "whole-batch": NEVER,  # 1 of 7 is not all
    "plan-25": NEVER,  # 25 % of 70 are 17.5
    # 10 % of 70 are 7: the 8th aborts. 300 req/s are left; the last batch and the time after it lack the same 700
    "plan-10": {
        "batches": 8, "makespan_s": 1600, "out_at_end": 8, "capacity_end": 300, "downtime_s": 0, "halted": 1,
        "failed_requests": 200 * sum(SHORT[:8]) + 700 * 2000,
    },
    # 5 % of 70 are 3.5: the 4th aborts, 900 are left from 600 s to the end
    "plan-5": {
        "batches": 4, "makespan_s": 800, "out_at_end": 4, "capacity_end": 900, "brownout_s": 3000, "halted": 1,
        "failed_requests": 100 * 3000,
    },
    # 40 s in which the four api boxes start and get healthy, then four batches of 200 s: 900 are left from 600 s to 840 s,
    # then 1,350, and all at the end
    "plan-5-back": {
        "batches": 4, "makespan_s": 800 + 40 + 800, "rollback_s": 840, "out_at_end": 0, "capacity_end": 1500, "brownout_s": 240,
        "rolled_back": 1, "failed_requests": 100 * 240,
    },
    # 25 % of 7 are 1.75: the 2nd aborts, 1,200 are left
    "carried-25": {"batches": 2, "makespan_s": 400, "out_at_end": 2, "capacity_end": 1200, "halted": 1, "failed_requests": 0},
    "carried-25-back": {
        "batches": 2, "makespan_s": 400 + 40 + 400, "rollback_s": 440, "out_at_end": 0, "capacity_end": 1500, "rolled_back": 1,
        "failed_requests": 0,
    },
    "none": {"batches": 1, "makespan_s": 200, "out_at_end": 1, "capacity_end": 1350, "halted": 1, "failed_requests": 0},
    "none-back": {
        "batches": 1, "makespan_s": 200 + 40 + 200, "rollback_s": 240, "out_at_end": 0, "capacity_end": 1500, "rolled_back": 1,
        "failed_requests": 0,
    },
    # a batch of api boxes is one box: 100 % of it fail, at 40 s
    "kind-by-kind": {"batches": 1, "makespan_s": 40, "out_at_end": 1, "capacity_end": 1350, "halted": 1, "failed_requests": 0},
}  # fmt: skip


def test_the_leak_leaves_the_capacity_that_a_hand_computation_gives_under_each_rule():
    plans = build_plans(load_scenario(FOLDER / "upgrade-leak.yaml"))
    found = simulate_all(plans, replications=2, seed=1)

    assert set(LEAK) == set(found)
    for strategy, figures in LEAK.items():
        wanted = {m: pytest.approx(np.full(2, float(v)), abs=1e-6) for m, v in figures.items() if m != "batches"}
        assert wanted == {m: found[strategy].values[m] for m in wanted}, strategy
        assert figures["batches"] == batches_begun(plans[strategy]), strategy


def batches_begun(plan: Plan) -> int:
    """After how many batches it stopped: each has one api box, which is drained when its batch begins."""
    return sum(r.kind == "began" and r.subject.startswith("code/api@") and r.subject.endswith("/drain") for r in trace(plan, 1))


def test_of_all_rules_the_one_that_bears_no_failure_and_goes_back_is_recommended_for_the_leak():
    assert "none-back" == compare(load_scenario(FOLDER / "upgrade-leak.yaml"), 6, 1).recommended


def test_the_fleet_has_a_hundred_machines_in_three_zones():
    machines = load_scenario(FOLDER / "upgrade.yaml").environment.machines

    assert 100 == len(machines)
    assert {"a", "b", "c"} == {m.zone for m in machines if not m.hosted}


RUNS, P = 400, 0.03
# Each of the seventy installs fails with 3 %, by itself. A machine that dies breaks its step, which is done again: no failure.
# Seven go in each of ten batches; strictly more than 1.75 of 7, of a batch or of all so far, or than 3.5 of 70 abort.
ENDS = {
    "none": {"success": (1 - P) ** 70, "halted": 1 - (1 - P) ** 70},
    "batch-25": {"success": (1 - P) ** 70, "halted": 1 - binom.cdf(1, 7, P) ** 10},
    "carried-25": {"success": (1 - P) ** 70, "halted": binom.sf(1, 70, P)},
    "plan-5": {"success": (1 - P) ** 70, "halted": binom.sf(3, 70, P)},
    "whole-batch": {"success": (1 - P) ** 70, "halted": 1 - (1 - P**7) ** 10},
}


@cache
def likely() -> dict[str, Outcome]:
    """The runs with every duration at its mean, which changes no chance and is quicker."""
    plans = build_plans(load_scenario(FOLDER / "upgrade.yaml"))
    return dict(simulate_all({name: with_steps(plan, at_mean) for name, plan in plans.items()}, replications=RUNS, seed=1))


def with_steps(plan: Plan, changed: Callable[[Step], Step]) -> Plan:
    return plan.model_copy(update={"steps": tuple(map(changed, plan.steps))})


def at_mean(step: Step) -> Step:
    return step.model_copy(update={"duration": fixed(step.duration.mean_s)})


@pytest.mark.parametrize("strategy", ENDS)
def test_the_chances_of_the_ends_are_those_of_the_binomial_law(strategy):
    values = likely()[strategy].values
    for outcome, p in ENDS[strategy].items():
        # four standard errors of RUNS runs: for p = 0.18 that is 7.7 %
        assert pytest.approx(p, abs=4 * (p * (1 - p) / RUNS) ** 0.5 + 1e-9) == values[outcome].mean(), outcome
    assert pytest.approx(1) == sum(values[o].mean() for o in ("success", "partial", "halted"))


def test_going_back_aborts_as_often_as_halting_does_and_fails_where_an_install_of_the_old_version_fails():
    halts, back = likely()["plan-5"].values, likely()["plan-5-back"].values

    assert (halts["halted"] == back["halted"] + back["rolled_back"]).all()  # with the same luck
    assert 0 < back["rolled_back"].sum() < halts["halted"].sum()


def test_as_many_machines_die_as_their_mean_time_between_failures_says():
    # Nothing fails, and each repair takes 4 h: dead at H = 2 h is who died before. 99 x (1 - exp(-2 h / 90 d)) = 0.0917 a run,
    # with a standard error of (0.0917 / RUNS)^0.5 = 0.015; runs that wait for a repair (0.15 %) end later and count as well
    scenario = load_scenario(FOLDER / "upgrade-leak.yaml", environment=FOLDER / "production.yaml")
    plan = build_plan(scenario, "whole-batch")
    machines = tuple(m.model_copy(update={"repair": fixed(4 * 3600.0)} if m.mtbf_s else {}) for m in plan.environment.machines)
    env = plan.environment.model_copy(update={"machines": machines})
    plan = with_steps(plan, lambda step: at_mean(step).model_copy(update={"p_fail": 0.0}))

    out = simulate(plan.model_copy(update={"environment": env, "horizon_s": 7200.0}), RUNS, 1).values["out_at_end"]

    expected = 99 * (1 - np.exp(-7200 / (90 * 86400)))
    assert pytest.approx(expected, abs=4 * (expected / RUNS) ** 0.5) == out.mean()
