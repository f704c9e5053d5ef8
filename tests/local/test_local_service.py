"""The service of scenarios/local really runs: its recipes do what they say, and a plan's steps upgrade it without a failed request."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import pytest

from simdeploy.plan.plan import Plan
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario

ROOT = pathlib.Path(__file__).parent.parent.parent
Ctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def surroundings(tmp_path: pathlib.Path) -> dict[str, str]:
    return {**os.environ, "SIMDEPLOY_LOCAL": str(tmp_path / "state"), "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def ctl(surroundings: dict[str, str]) -> Iterator[Ctl]:
    """Runs a verb of ctl.py on a service of the test's own, which is up."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "scenarios/local/ctl.py", *words]
        return subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=60, check=False)

    try:
        assert 0 == run("up").returncode
        yield run
    finally:
        run("down")


@pytest.fixture
def probed(surroundings: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Probes from now on; call it to end that and to have the samples."""
    file = tmp_path / "samples.jsonl"
    process = subprocess.Popen([sys.executable, "scenarios/local/ctl.py", "probe", "120", str(file)], cwd=ROOT, env=surroundings)

    def samples() -> list[dict[str, Any]]:
        process.terminate()
        process.wait(10)
        return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]

    try:
        yield samples
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return build_plan(load_scenario(ROOT / "scenarios" / "local" / "upgrade.yaml"), "one-by-one")


def test_every_step_of_every_plan_has_a_command_and_a_check():
    scenario = load_scenario(ROOT / "scenarios" / "local" / "upgrade.yaml")
    for strategy in scenario.strategies:
        for step in build_plan(scenario, strategy).steps:
            assert step.kind == "judge" or step.run, step.id
            assert step.kind != "step" or step.check, step.id


def test_the_steps_of_a_plan_upgrade_the_service_and_no_request_fails(ctl, probed, surroundings, plan):
    def does(command: tuple[str, ...]) -> int:
        return subprocess.run(command, cwd=ROOT, env=surroundings, timeout=60, check=False).returncode

    main = [step for step in plan.steps if step.section == "main"]
    order = [s for s in nx.lexicographical_topological_sort(plan.graph()) if s in {step.id for step in main}]
    steps = {step.id: step for step in main}
    for name in order:
        step = steps[name]
        if step.kind == "step":
            if step.action in ("drain", "stop", "install", "start", "undrain"):
                assert 1 == does(step.check), f"{name} is done before it is begun"
            assert (0, 0) == (does(step.run), does(step.check)), name
        elif step.kind == "gate":
            assert 0 == does(step.run), name

    samples = probed()

    assert 0 == ctl("smoke", "1.1").returncode
    assert {"1.0", "1.1"} == {s["version"] for s in samples} and len(samples) > 50
    assert [] == [s for s in samples if not s["ok"]]


def test_a_box_that_is_stopped_without_a_drain_costs_requests_until_its_health_check_notices(ctl, probed):
    ctl("stop", "box2")
    ctl("smoke")  # some of these may fail; by their end the check has noticed
    while 0 != ctl("smoke").returncode:
        pass
    noticed = len(probed())

    assert 0 == ctl("is-stopped", "box2").returncode and 1 == ctl("is-healthy", "box2").returncode
    assert noticed > 0


def test_a_bad_release_is_told_by_the_smoke_test(ctl):
    assert 0 == ctl("smoke").returncode
    for verb in (("drain",), ("stop",), ("install", "1.2-bad"), ("start",), ("undrain",), ("await-healthy",)):
        assert 0 == ctl(verb[0], "box1", *verb[1:]).returncode

    assert 1 == ctl("smoke").returncode


def test_everything_may_be_done_twice(ctl):
    lane = (("drain",), ("stop",), ("install", "1.1"), ("start",), ("undrain",), ("await-healthy",))
    for verb in lane:
        assert [0, 0] == [ctl(verb[0], "box3", *verb[1:]).returncode for _ in range(2)], verb

    assert 0 == ctl("up").returncode and 0 == ctl("has-release", "box3", "1.1").returncode


def test_down_ends_what_up_started(ctl, tmp_path):
    pids = [json.loads(p.read_text())["pid"] for p in (tmp_path / "state").glob("*.pid.json")]
    assert 4 == len(pids)

    assert 0 == ctl("down").returncode

    for pid in pids:
        stat = pathlib.Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("drain", "box9"), "boxes are box1, box2, box3"),
        (("fly",), "python3 scenarios/local/ctl.py"),
        (("install", "box1"), "install takes box, version"),
        (("install", "box1", "9"), "is no release; there are 1.0, 1.1, 1.2-bad"),
    ],
)
def test_what_it_does_not_know_it_refuses(ctl, words, says):
    result = ctl(*words)

    assert result.returncode in (1, 2) and says in result.stderr and "Traceback" not in result.stderr


def test_without_a_service_it_says_how_to_start_one(tmp_path):
    surroundings = {**os.environ, "SIMDEPLOY_LOCAL": str(tmp_path)}
    command = [sys.executable, "scenarios/local/ctl.py", "drain", "box1"]
    result = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=30, check=False)

    assert 1 == result.returncode and "ctl.py up" in result.stderr
