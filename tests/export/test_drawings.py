"""Where the boxes of the drawings stand, and which batch they name, by hand on small plans."""

from __future__ import annotations

import itertools

from simdeploy.environment.durations import fixed
from simdeploy.export.batches import parts
from simdeploy.export.drawings import BOX, batches_of, timeline, topology
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from tests.builders import canonical, farm, lane
from tests.export.helpers import two_batches


def test_each_instance_names_the_first_batch_that_is_about_it(tmp_path):
    plan = two_batches(tmp_path)
    [box] = topology(plan.environment, parts(plan)[0]).boxes

    assert {"web@w0": ("1",), "web@w1": ("2",)} == batches_of(plan.environment, parts(plan)[0])
    assert [("1", "web@w0: batch 1"), ("2", "web@w1: batch 2")] == [(c.label, c.about) for c in box.cells]


def test_a_step_on_a_store_is_about_the_machine_it_runs_on_and_one_of_people_about_none():
    env = canonical()
    decide = Step(id="people/sql/decide", target="sql", duration=fixed(60))
    migrate = Step(id="data/sql/migrate", target="sql", on="sql1", needs=(decide.id,), end=(("schema", "sql", "2"),))
    drawn = topology(env, parts(Plan(environment=env, steps=(decide, migrate)))[0])

    assert {"sql": 1} == {b.name: len(b.cells) for b in drawn.boxes if b.cells}
    assert any("1 of 1 in batch 1" in line for line in drawn.summary)


def test_of_many_instances_each_batch_is_one_square_with_its_number():
    env = farm(60, 100.0, 50.0)
    first = [s for k in range(20) for s in lane(f"web@w{k}")]
    then = [s for k in range(20, 50) for s in lane(f"web@w{k}", after=("code/web@w0/start",))]
    [box] = topology(env, parts(Plan(environment=env, steps=(*first, *then)))[0]).boxes

    assert ["1: 20", "2: 30", ""] == [c.label for c in box.cells]


def test_nothing_stands_on_anything_else():
    plan = build_plan(load_scenario("scenarios/fleet/machine-replacement.yaml"), "zone-by-zone")
    drawn = topology(plan.environment, parts(plan)[0])

    assert any(len(b.cells) > 20 for b in drawn.boxes)
    for a, b in itertools.combinations(drawn.boxes, 2):
        assert a.x + BOX <= b.x or b.x + BOX <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
    for box in drawn.boxes:
        assert all(0 <= c.x and c.x + c.width <= BOX and 60 + c.y + 20 <= box.height for c in box.cells)
    assert max(b.y + b.height for b in drawn.boxes) <= drawn.height


def test_the_schedule_tells_when_its_bars_begin_and_end(tmp_path):
    steps = lane("web@w0", out_s=60.0) + lane("web@w1", after=("code/web@w0/start",), out_s=30.0)
    plan = Plan(environment=farm(2, 100.0, 50.0), steps=steps)
    drawn = timeline(plan, parts(plan)[0], None)

    assert [(0, 60), (60, 60), (60, 90), (90, 90)] == [(b.begins_s, b.ends_s) for b in drawn.bars]
    assert 90 == drawn.ends_s and [s.id for b in drawn.bars for s in b.steps] == [s.id for s in steps]
