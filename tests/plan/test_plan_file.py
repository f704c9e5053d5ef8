"""The file of a plan: its digest, its writer, and what is said of one that was changed."""

from __future__ import annotations

import json
import pathlib

import pytest

from simdeploy.errors import DiffersError, PlanError
from simdeploy.plan.plan import Plan
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario

UPGRADE = pathlib.Path(__file__).parent.parent.parent / "scenarios" / "canonical" / "upgrade.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return build_plan(load_scenario(UPGRADE), "stop-expand")


def test_the_order_of_keys_and_the_writer_change_no_digest(plan):
    content = json.loads(plan.to_json())
    shuffled = dict(reversed(content.items())) | {"tool": "99.0"}

    assert plan.digest == content["sha256"] == Plan.from_json(json.dumps(shuffled)).digest


@pytest.mark.parametrize("change", [{"horizon_s": 1.0}, {"goals": ["max(downtime_s) <= 1 s"]}, {"pools": {"forks": 7}}])
def test_a_plan_that_was_changed_after_it_was_written_is_refused(plan, change):
    content = json.loads(plan.to_json()) | change

    with pytest.raises(DiffersError, match=f"its sha256 is '{plan.digest[:12]}' and its content has"):
        Plan.from_json(json.dumps(content))
    assert Plan.from_json(json.dumps({k: v for k, v in content.items() if k != "sha256"})).digest != plan.digest


def test_a_file_of_a_later_form_is_no_plan_here(plan):
    with pytest.raises(PlanError, match=r"has format 2, .* up to 1; read it with the newer simdeploy that wrote it \(99\.0\)"):
        Plan.from_json(json.dumps(json.loads(plan.to_json()) | {"format": 2, "tool": "99.0", "novel": True}))
