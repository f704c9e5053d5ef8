"""Machines that die by chance: exponential lives, repairs, and when a run ends; against renewal theory.

Bands are four standard errors of the sample.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.files import load_environment
from simdeploy.environment.models import Environment
from simdeploy.errors import FileError, InvalidDocument, PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Crash, Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.outcome import simulate, trace
from simdeploy.simulation.sampler import Means
from tests.builders import farm, run

MANY = 4000
HOUR = 3600.0


def exponential(mean_s: float) -> Distribution:
    return Distribution(kind="exponential", parameters=(mean_s,))


def mortal(env: Environment, *machines: str, **fields: Any) -> Environment:
    """*env* whose machines (all, or the named ones) have these fields."""
    boxes = [m.model_copy(update=fields) if not machines or m.name in machines else m for m in env.machines]
    return env.model_copy(update={"machines": tuple(boxes)})


def wait(name: str, seconds: float, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), **fields)


def deaths(plan: Plan, machine: str, replication: int = 0) -> list[float]:
    return [r.at_s for r in trace(plan, 0, replication) if r.kind == "crashed" and r.subject == machine]


def near(values: np.ndarray, expected: float) -> bool:
    return bool(abs(np.mean(values) - expected) < 4 * np.std(values, ddof=1) / math.sqrt(len(values)))


def down_s(until_s: float, fails: float, repaired: float, boxes: int = 1) -> float:
    """Expected time in [0, until] in which all of *boxes* are down: each is with chance q(t) = f/s (1 - exp(-s t)), s = f + r."""
    total, at = fails + repaired, (np.arange(10_000) + 0.5) / 10_000 * until_s
    return float(np.mean((fails / total * (1 - np.exp(-total * at))) ** boxes)) * until_s


@pytest.mark.parametrize("boxes", [1, 2])
def test_machines_that_die_and_return_are_down_as_long_as_renewal_theory_says(boxes):
    """The 4,000 runs of 4 h, mean life 1 h, mean repair 20 min; all boxes down is downtime, since they die independently."""
    env = mortal(farm(boxes, 100.0, 50.0), mtbf_s=HOUR, repair=exponential(HOUR / 3))

    found = run(Plan(environment=env, steps=(), horizon_s=4 * HOUR), MANY)["downtime_s"]

    assert near(found, down_s(4 * HOUR, 1 / HOUR, 3 / HOUR, boxes))


def test_a_machine_without_a_repair_dies_once_and_stays_out():
    env = mortal(farm(1, 100.0, 50.0), mtbf_s=HOUR)

    found = run(Plan(environment=env, steps=(), horizon_s=HOUR), MANY)

    assert near(found["capacity_end"] == 0, 1 - math.exp(-1))
    assert near(found["downtime_s"], HOUR - HOUR * (1 - math.exp(-1)))  # an hour less the mean of min(life, 1 h)


def test_one_of_ten_machines_dies_within_six_hours_as_the_docs_say():
    env = mortal(farm(10, 100.0, 950.0), mtbf_s=90 * 86400.0)

    found = run(Plan(environment=env, steps=(), horizon_s=6 * HOUR), MANY)["brownout_s"] > 0

    assert near(found, 1 - math.exp(-10 * 0.25 / 90))


def test_a_life_begins_anew_with_each_repair_and_luck_is_the_machine_s_own():
    env = mortal(farm(3, 100.0, 50.0), mtbf_s=HOUR, repair=fixed(600.0))
    plan = Plan(environment=env, steps=(), horizon_s=40 * HOUR)
    alone = plan.model_copy(update={"environment": mortal(farm(3, 100.0, 50.0), "w1", mtbf_s=HOUR, repair=fixed(600.0))})

    lives = np.concatenate([np.diff([-600.0, *deaths(plan, "w1", r)]) - 600.0 for r in range(30)])

    assert deaths(plan, "w1") == deaths(alone, "w1")
    assert not deaths(alone, "w0") and deaths(plan, "w0") != deaths(plan, "w1")
    assert (lives > 0).all()
    assert abs(np.mean(lives) - HOUR) < 4 * HOUR / math.sqrt(len(lives)) + 0.05 * HOUR  # the last life is cut by the horizon


def test_a_death_breaks_the_attempt_that_runs_there():
    """A step of 30 min on a machine that lives 1 h: it is done at once if that life is longer."""
    env = mortal(farm(2, 100.0, 50.0), "w0", mtbf_s=HOUR, repair=fixed(60.0))

    found = run(Plan(environment=env, steps=(wait("work", HOUR / 2, on="w0"),)), MANY)["makespan_s"]

    # attempts of 30 min, each broken with chance 1 - exp(-1/2): mean (mtbf + repair) (exp(1/2) - 1) when started anew
    assert near(found == HOUR / 2, math.exp(-0.5))
    assert near(found, (HOUR + 60) * (math.exp(0.5) - 1))


def test_a_plan_that_aborts_when_a_machine_dies_does_so_as_often_as_it_dies():
    env = mortal(farm(2, 100.0, 50.0), "w0", mtbf_s=HOUR)
    steps = (wait("work", HOUR / 2, on="w0"), wait("undo", 60.0, section="rollback"))

    found = run(Plan(environment=env, steps=steps, after_crash="abort", on_abort="rollback"), MANY)

    assert near(found["rolled_back"], 1 - math.exp(-0.5))
    assert np.allclose(found["rollback_s"], 60 * found["rolled_back"])


@pytest.mark.parametrize("horizon_s", [None, 600.0])
def test_deaths_keep_no_run_alive(horizon_s):
    env = mortal(farm(2, 100.0, 50.0), mtbf_s=30.0, repair=fixed(1.0))

    told = trace(Plan(environment=env, steps=(wait("work", 60.0),), horizon_s=horizon_s))

    assert 1 < sum(r.kind == "crashed" for r in told)
    assert told.end_s == max(60.0, horizon_s or 0.0) >= max(r.at_s for r in told)


def test_a_run_that_waits_for_a_machine_that_is_gone_is_stuck_however_often_others_die():
    env = mortal(farm(3, 100.0, 50.0), "w1", "w2", mtbf_s=30.0, repair=fixed(20.0))
    plan = Plan(environment=env, steps=(wait("work", 60.0, on="w0"),), crashes=(Crash(machine="w0", at_s=10.0),), horizon_s=500.0)

    told = trace(plan)

    assert ("stuck", 500) == (told.outcome, told.end_s)


def test_a_run_waits_for_a_machine_that_returns():
    """Broken at 10 s by one crash of 100 s, while another machine is gone for good."""
    dying = (Crash(machine="w0", at_s=10.0, for_s=100.0), Crash(machine="w1", at_s=5.0))
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=(wait("work", 60.0, on="w0"),), crashes=dying)

    assert (1, 170) == (run(plan)["success"][0], run(plan)["makespan_s"][0])


def test_a_step_that_takes_far_longer_than_its_machine_lives_is_an_error_that_names_it():
    env = mortal(farm(1, 100.0, 50.0), mtbf_s=1.0, repair=fixed(1.0))

    with pytest.raises(PlanError, match=r"'w0' died 10,000 times.*mtbf of 1 s"):
        simulate(Plan(environment=env, steps=(wait("work", 1000.0, on="w0"),)), replications=1)


def test_a_run_without_luck_has_no_deaths():
    plan = Plan(environment=mortal(farm(1, 100.0, 50.0), mtbf_s=1.0, repair=fixed(1.0)), steps=(wait("work", 60.0, on="w0"),))
    engine = Engine(plan)

    assert ["began", "ended"] == [r.kind for r in engine.trace(Means(plan, engine.names))]


def test_a_change_on_a_machine_whose_only_monitor_died_is_unobserved():
    """w0 and the monitor's machine: a step of 100 s on w0, the monitor dead for good from its death on."""
    env = farm(1, 100.0, 50.0)
    watcher = env.services["web"].model_copy(update={"role": "monitoring", "on": ("m",), "capacity_per_s": None})
    box = env.machines[0].model_copy(update={"name": "m", "mtbf_s": 50.0})
    watched = env.model_copy(update={"services": env.services | {"mon": watcher}, "machines": (*env.machines, box)})
    plan = Plan(environment=watched, steps=(wait("work", 100.0, on="w0"),), horizon_s=100.0)

    (died_s,) = deaths(plan, "m") or (100.0,)

    assert died_s < 100
    assert pytest.approx(100 - died_s) == run(plan)["unobserved_change_s"][0] == measure(plan, trace(plan)).values["unobserved_change_s"]


# files ---------------------------------------------------------------------------------------------------------------


FILE = """
name: shop
machines:
  - {name: "web{n}", count: 3, mtbf: 90 d, repair: {lognormal: {median: 4 h, p95: 1 d}}}
  - {name: sql1, mtbf: {value: 1000 h, assumed: data sheet}}
entry: web
demand: {rate: 10 req/s}
services:
  web: {on: ["web*"], capacity: 100 req/s, calls: {sql: 1}}
  sql: {role: datastore, on: [sql1]}
"""


def test_machines_that_are_counted_share_their_times_and_a_plan_keeps_them(tmp_path):
    (tmp_path / "shop.yaml").write_text(FILE)

    env = load_environment(tmp_path / "shop.yaml")

    assert [90 * 86400.0] * 3 + [1000 * HOUR] == [m.mtbf_s for m in env.machines]
    assert [14400.0] * 3 == [m.repair.parameters[0] for m in env.machines[:3]] and env.machines[3].repair is None
    assert env == Plan.from_json(Plan(environment=env, steps=()).to_json()).environment


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ("{name: sql1, mtbf: 0 s}", "must be above 0"),
        ("{name: sql1, mtbf: 90}", "mtbf"),
        ("{name: sql1, repair: 4 h}", "give it an mtbf or drop the repair"),
    ],
)
def test_times_that_make_no_sense_are_faults_with_their_place(tmp_path, machine, words):
    (tmp_path / "shop.yaml").write_text(FILE.replace("{name: sql1, mtbf: {value: 1000 h, assumed: data sheet}}", machine))

    with pytest.raises(FileError) as error:
        load_environment(tmp_path / "shop.yaml")

    assert words in str(error.value) and "shop.yaml:5" in str(error.value)


def test_a_repair_without_an_mtbf_is_refused_in_a_plan_too():
    with pytest.raises(InvalidDocument, match="never dies"):
        Environment.model_validate(farm(1, 100.0, 50.0).model_dump() | {"machines": [{"name": "w0", "repair": 60.0}]})
