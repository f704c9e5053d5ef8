"""What hosts are asked and told before the first change."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from simdeploy.execution.lock import raise_fences
from simdeploy.execution.operating import Briefing, conduct, take_up
from simdeploy.execution.operator import Script
from simdeploy.execution.preflight import expectations, preflight
from simdeploy.execution.requests import Request, put
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from tests.builders import farm, rolling
from tests.execution.fakes import QUICK, Hands, Wires, World, started
from tests.execution.test_runner import shipped


def test_who_resumes_is_told_what_has_changed_on_the_hosts(tmp_path):
    plan, path = shipped(), tmp_path / "j"
    world = World(plan)

    def before(host: str, order: Any) -> None:
        if order["op"] == "send":
            put(path, Request("pause", "ana"))

    assert started(plan, path, world, before=before).outcome == "paused"
    journal, settings = take_up(plan, path)
    world.free_bytes = 1_000_000
    seen: list[Briefing] = []
    conduct(plan, journal, settings, Script(), lambda briefing: bool(seen.append(briefing)), transport=Wires(world))

    assert any("1 MB are free" in d and d.startswith("box1:") for d in seen[0].differences)


@pytest.mark.parametrize("part", ["run", "check", "expects"])
def test_sudo_is_tried_wherever_a_step_wants_it(part):
    step = Step(id="a", on="w0", **{"run": ("true",), "check": ("true",), part: ("sudo", "true")})
    plan, asked = Plan(environment=farm(1, 100.0, 50.0), steps=(step,)), []
    wires = Wires(World(plan), before=lambda _, order: asked.append(order.get("sudo")))
    preflight(plan, Hands(plan, wires, "r", QUICK), asks=False)
    assert asked == [True]


def test_hosts_are_told_of_a_fence_side_by_side():
    plan = Plan(environment=farm(8, 100.0, 50.0), steps=rolling([f"web@w{k}" for k in range(8)]))
    together = threading.Barrier(8)
    hands = Hands(plan, Wires(World(plan), before=lambda *_: bool(together.wait(5))), "r", QUICK)
    hands.fence = 3
    assert raise_fences(hands, [f"w{k}" for k in range(8)]) == {}


def test_of_two_effects_with_one_check_a_preflight_asks_once():
    step = Step(id="a", on="w0", run=("do", "x"), check=("is", "x"), begin=(("drain", "web@w0"),), end=(("out", "web@w0"),))
    assert len(list(expectations(Plan(environment=farm(2, 100.0, 50.0), steps=(step,))))) == 1
