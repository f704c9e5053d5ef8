"""The exports of the upgrade in scenarios/local on the service that really runs: its page answers the new version, or the old one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from tests.export.helpers import ansible, shell

ROOT = pathlib.Path(__file__).parent.parent.parent
BOXES = ("box1", "box2", "box3")
DONE = {"shell": 0, "ansible": 0}
ROLLED_BACK = {"shell": 8, "ansible": 2}


@pytest.fixture
def surroundings(tmp_path):
    """Variables for the recipes; they name files below the project's root, which the folder of the test shows too."""
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    return {"SIMDEPLOY_LOCAL": str(tmp_path / "state"), "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def ctl(surroundings):
    def run(*words):
        command = [sys.executable, "scenarios/local/ctl.py", *words]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **surroundings}, capture_output=True, text=True, timeout=60)

    try:
        assert 0 == run("up").returncode
        yield run
    finally:
        run("down")


def carry_out(to, version, tmp_path, surroundings):
    scenario = load_scenario(ROOT / "scenarios" / "local" / "upgrade.yaml").model_copy(update={"to": {"app": version}})
    plan = build_plan(scenario, "canary")
    return shell(plan, tmp_path, "--yes", "--local", **surroundings) if to == "shell" else ansible(plan, tmp_path, **surroundings)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["shell", "ansible"])
def test_the_service_is_upgraded_and_answers_the_new_version_on_every_box(to, ctl, tmp_path, surroundings):
    assert 0 == ctl("smoke", "1.0").returncode

    ended = carry_out(to, "1.1", tmp_path, surroundings)

    assert DONE[to] == ended.returncode, ended.stdout + ended.stderr
    assert 0 == ctl("smoke", "1.1").returncode
    assert [0, 0, 0] == [ctl("has-release", box, "1.1").returncode for box in BOXES]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["shell", "ansible"])
def test_a_bad_release_is_found_on_the_first_box_and_rolled_back(to, ctl, tmp_path, surroundings):
    ended = carry_out(to, "1.2-bad", tmp_path, surroundings)

    assert ROLLED_BACK[to] == ended.returncode, ended.stdout + ended.stderr
    assert "code/app@box1/install" in ended.stdout and "rollback" in ended.stdout
    assert 0 == ctl("smoke", "1.0").returncode
    assert [0, 0, 0] == [ctl("has-release", box, "1.0").returncode for box in BOXES]


@pytest.mark.slow
def test_a_script_that_runs_again_after_its_end_finds_everything_there(ctl, tmp_path, surroundings):
    assert 0 == carry_out("shell", "1.1", tmp_path, surroundings).returncode

    again = carry_out("shell", "1.1", tmp_path, surroundings)

    assert (0, "DONE") == (again.returncode, again.stdout.strip())
