"""A plan's file and the two beside it: all three are of one plan, or none is read."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.plan.forecast import Forecast
from simdeploy.simulation.outcome import simulate
from simdeploy.study.dossier import read_dossier

UPGRADE = "scenarios/canonical/upgrade.yaml"


def invoke(*arguments: object):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("plans")
    for name in ("stop-expand", "all-at-once"):
        said = invoke("plan", UPGRADE, "--strategy", name, "-o", folder / f"{name}.json", "--replications", 80, "--seed", 3)
        assert 0 == said.exit_code, said.output
    return folder


@pytest.fixture
def folder(written, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(written, tmp_path / "copy"))


def test_a_plan_is_written_with_its_vetting_and_its_forecast_which_name_its_digest(folder):
    known = read_dossier(folder / "stop-expand.json")

    assert {"stop-expand", "all-at-once"} == {p.name.split(".")[0] for p in folder.iterdir()} and 6 == len(list(folder.iterdir()))
    assert known.plan.digest == known.vetting.plan_sha256 == known.forecast.plan_sha256
    assert (3, 80) == (known.forecast.seed, known.forecast.replications)
    assert known.forecast.metrics["makespan_s"].mean == pytest.approx(simulate(known.plan, 80, 3).values["makespan_s"].mean())
    assert set(known.forecast.steps) == {s.id for s in known.plan.steps}
    assert known.forecast == Forecast.from_json(known.forecast.to_json())


@pytest.mark.parametrize("kind", ["forecast", "vetting"])
@pytest.mark.parametrize("command", ["simulate", "check", "vet"])
def test_what_lies_beside_a_plan_and_is_of_another_is_refused_with_exit_code_3(folder, kind, command):
    beside = folder / f"stop-expand.{kind}.json"
    shutil.copy(folder / f"all-at-once.{kind}.json", beside)

    said = invoke(command, folder / "stop-expand.json")

    assert 3 == said.exit_code and f"{beside}: is of the plan" in said.output and "remove" in said.output


def test_a_plan_alone_is_read_alone(folder):
    for kind in ("forecast", "vetting"):
        (folder / f"stop-expand.{kind}.json").unlink()

    known = read_dossier(folder / "stop-expand.json")

    assert (None, None) == (known.vetting, known.forecast)


def test_a_plan_that_was_edited_is_refused_until_its_digest_is_dropped(folder):
    path = folder / "stop-expand.json"
    content = json.loads(path.read_text()) | {"horizon_s": 9999}
    path.write_text(json.dumps(content))
    edited = invoke("check", path)
    for kind in ("forecast", "vetting"):
        (folder / f"stop-expand.{kind}.json").unlink()
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "sha256"}))

    assert 3 == edited.exit_code and f"{path}: was changed after it was written" in edited.output
    assert 0 == invoke("check", path).exit_code


@pytest.mark.parametrize("spoilt", ["{", "[]", '{"format": 1}', b"\xff"])
def test_what_is_no_forecast_is_named(folder, spoilt):
    beside = folder / "stop-expand.forecast.json"
    beside.write_bytes(spoilt.encode() if isinstance(spoilt, str) else spoilt)

    said = invoke("simulate", folder / "stop-expand.json")

    assert 2 == said.exit_code and str(beside) in said.output and isinstance(said.exception, SystemExit)
