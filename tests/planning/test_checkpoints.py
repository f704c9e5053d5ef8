"""Checkpoints and checks that would find nothing are faults at their place; those that something reaches are not."""

from __future__ import annotations

import pytest

from simdeploy.errors import FileError
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.upgrade import build_plan

LANE = "{drain: {duration: 1 s}, install: {duration: 1 s}, start: {duration: 1 s}}"
ENVIRONMENT = f"""\
name: pair
machines: [{{name: w1, zone: a}}, {{name: w2, zone: b}}, {{name: m1, zone: a}}, {{name: db, zone: a}}]
entry: web
demand: {{rate: 50 req/s}}
actions: {{patch: {{duration: 1 s}}, allocate: {{duration: 1 s}}}}
services:
  web: {{on: [w1, w2], capacity: 100 req/s, calls: {{mid: 1, sql: 1}}, actions: {LANE}}}
  side: {{on: [w1, w2], actions: {LANE}}}
  mid: {{on: [m1], actions: {LANE}}}
  sql:
    role: datastore
    on: [db]
    actions: {{expand: {{duration: 1 s}}, contract: {{duration: 1 s}}, migrate: {{duration: 1 s}}}}
"""
WATCHER = "  watcher: {role: monitoring, on: [m1]}\n"


@pytest.fixture
def scenario(tmp_path):
    def load(strategy: str, change: str = 'to: {web: "2", mid: "2"}', environment: str = ENVIRONMENT, check: str = "{}"):
        (tmp_path / "environment.yaml").write_text(environment)
        text = f"scenario: upgrade\nenvironment: environment.yaml\n{change}\nchecks:\n  look: {check}\nstrategies:\n  s: {{{strategy}}}\n"
        (tmp_path / "upgrade.yaml").write_text(text)
        return load_scenario(tmp_path / "upgrade.yaml")

    return load


def point(after: str) -> str:
    return f"checkpoints: [{{after: {after}, checks: [look]}}]"


def gates(scenario) -> list[str]:
    return [s.id for s in build_plan(scenario, "s").steps if s.kind == "gate"]


EXPAND = "services: {sql: {migration: expand_contract}}"


@pytest.mark.parametrize(
    ("strategy", "change", "says"),
    [
        (point("canary"), 'to: {web: "2", mid: "2"}', "no service goes in more than one batch"),
        (f"{point('canary')}, services: {{mid: {{batches: 1}}}}", 'to: {web: "2", mid: "2"}', "batches: canary"),
        (f"{point('canary')}, slices: [[w1, w2, m1]]", 'to: {web: "2", mid: "2"}', "nor do slices"),
        (point("canary"), 'to: {sql: "2"}', "no service goes in more than one batch"),
        (f"{point('canary')}, {EXPAND}", 'to: {sql: "2"}', "check after: code or end"),
        (f"{point('batch')}, {EXPAND}", 'to: {sql: "2"}', "check after: code or end"),
        (f"{point('tier')}, {EXPAND}", 'to: {sql: "2"}', "check after: code or end"),
    ],
)
def test_a_checkpoint_that_no_plan_comes_to_is_a_fault_at_its_place(scenario, strategy, change, says):
    with pytest.raises(FileError) as caught:
        scenario(strategy, change)

    [fault] = caught.value.faults
    assert (7, 7 + len("  s: {checkpoints: [{after: ") - 6) == (fault.line, fault.column)
    assert says in fault.message and "nothing would be checked" in fault.message


@pytest.mark.parametrize(
    ("strategy", "change", "made"),
    [
        (f"{point('canary')}, services: {{web: {{batches: 1}}}}", 'to: {web: "2", mid: "2"}', ["validate/web/look#1"]),
        (f"{point('canary')}, slices: by_zone", 'to: {web: "2", mid: "2"}', ["validate/slices/look#1"]),
        (point("tier"), 'to: {sql: "2"}', ["validate/sql/look#1"]),
        (f"{point('code')}, {EXPAND}", 'to: {sql: "2"}', ["validate/upgrade/look#1"]),
        (f"{point('end')}, {EXPAND}", 'to: {sql: "2"}', ["validate/upgrade/look#1"]),
        (f"{point('tier')}, services: {{web: {{batches: 1}}, side: {{batches: 1}}}}", "patch: [web, side]", ["validate/side/look#1"]),
    ],
)
def test_a_checkpoint_that_one_tier_comes_to_is_none(scenario, strategy, change, made):
    assert made == gates(scenario(strategy, change))


def test_a_tier_is_checked_after_its_last_batch_that_has_something_to_do(scenario):
    """w1 is patched with side, which is upgraded too; what is left of web is w2, one batch of two."""
    names = ENVIRONMENT.replace("side: {on: [w1, w2]", "side: {on: [w2]")
    strategy = f"{point('tier')}, order: [side, web], services: {{web: {{batches: 1}}}}"

    assert ["validate/side/look#1", "validate/web/look#1"] == gates(scenario(strategy, "patch: [side, web]", names))


LOOK = "{of: monitoring}"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (ENVIRONMENT, "no service here has role: monitoring, so 'look' would find nothing; add one, or look at new, old or primary"),
        (ENVIRONMENT + WATCHER.replace("on:", "observes: [side, sql], on:"), "no monitor observes any of web, mid, which get new versions"),
    ],
)
def test_a_check_of_what_no_monitor_sees_is_a_fault_at_its_place(scenario, environment, says):
    with pytest.raises(FileError) as caught:
        scenario("services: {}", environment=environment, check=LOOK)

    [fault] = caught.value.faults
    assert (5, 14) == (fault.line, fault.column) and says in fault.message


@pytest.mark.parametrize("observes", ["", "observes: [mid], "])
def test_a_check_of_what_one_monitor_sees_is_none(scenario, observes):
    watched = ENVIRONMENT + WATCHER.replace("on:", f"{observes}on:")

    assert scenario("services: {}", environment=watched, check=LOOK).checks["look"].of == "monitoring"
