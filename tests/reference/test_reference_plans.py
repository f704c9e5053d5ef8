"""The plans of an independent implementation give its numbers: exact to six digits, or within four standard errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from simdeploy.plan.measurement import metrics_of
from simdeploy.simulation.engine import Engine
from simdeploy.simulation.sampler import Draws
from tests.builders import run
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


def with_environment(folder, **fields):
    """A rolling upgrade of two webs and two mids, its environment's *fields* replaced."""
    document = json.loads((PLANS / "rolling-with-drain.json").read_text())
    document["plan"]["env"] |= fields
    path = folder / "plan.json"
    path.write_text(json.dumps(document))
    return read(path)[0]


INSTANCES = {"web@web1": "a", "mid@mid1": "a", "web@web2": "b", "mid@mid2": "b"}


@pytest.mark.parametrize("cells", [INSTANCES, {c: [i for i, cell in INSTANCES.items() if cell == c] for c in "ab"}])
def test_cells_are_read_in_both_forms(tmp_path, cells):
    env = with_environment(tmp_path, cells=cells).environment

    assert {"a": ("web1", "mid1"), "b": ("web2", "mid2")} == {name: cell.on for name, cell in env.cells.items()}
    assert {"a": 0.5, "b": 0.5} == env.cell_shares


def test_forbidden_pairs_fail_the_requests_in_which_they_meet(tmp_path):
    plan = with_environment(tmp_path, forbidden=[["web", 2, "mid", 1]])

    assert {"2": {"mid": ("2",)}} == plan.environment.services["web"].accepts
    assert "errors" == plan.environment.mixing
    pairs, free = (run(p) for p in (plan, with_environment(tmp_path)))
    assert pairs["incompatible_s"][0] > 0 == free["incompatible_s"][0]
    assert pairs["failed_requests"][0] > free["failed_requests"][0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shards": 2}, "shards"),
        ({"cells": {"a": {"web@web1": 1}}}, "cells such as a: "),
        ({"forbidden": [["web", 1]]}, r"forbidden pairs such as \['web', 1\]"),
    ],
)
def test_what_the_adapter_does_not_read_it_refuses_by_name(tmp_path, fields, says):
    with pytest.raises(NotImplementedError, match=says):
        with_environment(tmp_path, **fields)


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
