"""The plans of an independent implementation give its numbers: exact to six digits, or within four standard errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from simdeploy.plan.measurement import metrics_of
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from tests.reference.adapter import PLANS, _life, read

FILES = sorted(PLANS.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_reference_plan_gives_the_numbers_that_stand_there(path):
    plan, document = read(path)
    engine = Engine(plan)
    count = 2000 if "means" in document else 1
    draws = Draws(plan, 1, 0, count, engine.names)
    runs = list(engine.runs(draws))
    found = metrics_of(plan, engine.book, runs, [draws.phases(r) for r in range(count)])

    for name, wanted in document.get("metrics", {}).items():
        if name == "outcome":
            assert runs[0].outcome == wanted
        elif wanted is None:
            assert math.isnan(found[name][0]), name
        else:
            assert found[name][0] == pytest.approx(wanted, rel=1e-6, abs=1e-6), name
    for name, wanted in document.get("means", {}).items():
        error = math.hypot(wanted["se"], np.std(found[name], ddof=1) / math.sqrt(count))
        assert abs(np.mean(found[name]) - wanted["mean"]) < 4 * error, name


@pytest.mark.parametrize(
    ("given", "read_as"),
    [(3600.0, (3600, None)), ([3600, 60], (3600, 60)), ([3600, ["exponential", 60]], (3600, 60)), (None, (None, None))],
)
def test_the_adapter_reads_how_long_machines_live(tmp_path, given, read_as):
    document = json.loads(FILES[0].read_text())
    machine = next(iter(document["plan"]["env"]["instances"].values()))
    document["plan"]["env"]["mtbf"] = {} if given is None else {machine: given}
    (tmp_path / "plan.json").write_text(json.dumps(document))

    boxes = read(tmp_path / "plan.json")[0].environment.machines

    lives = {m.name: (m.mtbf_s, m.repair and m.repair.mean_s) for m in boxes}
    assert read_as == lives[machine]
    assert {(None, None)} == {life for name, life in lives.items() if name != machine}


def test_the_adapter_refuses_a_life_of_another_shape_by_name():
    with pytest.raises(NotImplementedError, match="of 'web1'"):
        _life("web1", {"mean": 3600})
