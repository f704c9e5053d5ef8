"""Checkpoints and checks that would find nothing are faults at their place; those that something reaches are not."""

from __future__ import annotations

import pytest

from simdeploy.errors import FileError
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import trace

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


@pytest.mark.parametrize(
    ("checkpoints", "web", "mid", "back_s"),
    [
        # no at 3 s + 3 s + 3 s; a look at the other checkpoint is not begun, and two web boxes and one middle box go back
        ("{after: end, checks: [look]}, {after: end, bake: 2 h, checks: [look]}", "batches: 1", "batches: all", 9),
        # no at 3 s, when the middle tier bakes since 3 s; one web box and the middle box go back side by side
        ("{after: canary, checks: [look]}, {after: tier, bake: 2 h, checks: [look]}", "batches: 1", "batches: all", 3),
    ],
)
@pytest.mark.parametrize("on_bad", ["rollback", "halt"])
def test_an_abort_waits_for_no_bake_of_another_checkpoint(scenario, checkpoints, web, mid, back_s, on_bad):
    order = "[[web, mid]]" if "canary" in checkpoints else "[mid, web]"
    points = checkpoints.replace("[look]", f"[look], on_bad: {on_bad}")
    strategy = f"on_abort: {on_bad}, order: {order}, checkpoints: [{points}], services: {{web: {{{web}}}, mid: {{{mid}}}}}"
    told = trace(build_plan(scenario(strategy, check="{false_alarms: 1}"), "s"))

    [no_s] = [r.at_s for r in told if r.kind == "aborted"]
    assert no_s + (back_s if on_bad == "rollback" else 0) == max(r.at_s for r in told if r.kind == "ended")
    assert ["skipped"] == [r.value for r in told if r.kind == "ended" and "/bake" in r.subject]


@pytest.mark.parametrize("on_bad", ["rollback", "halt"])
def test_an_abort_does_not_wait_until_an_old_set_need_not_be_kept(scenario, on_bad):
    """The middle box is blue and green and kept from 5 s on (1 s each to allocate, install, start, switch and drain).

    A check says no at 3 + 10 s. Back (3 s) the old middle box starts while the web box is out, and its new machine is released.
    """
    actions = LANE.replace("}}", "}, switch: {duration: 1 s}}")
    names = ENVIRONMENT.replace(f"mid: {{on: [m1], actions: {LANE}}}", f"mid: {{on: [m1], actions: {actions}}}")
    names = names.replace("patch:", "release: {duration: 0 s}, patch:")
    strategy = (
        f"on_abort: {on_bad}, order: [[web, mid]], checkpoints: [{{after: canary, checks: [look], on_bad: {on_bad}}}], "
        "services: {web: {batches: 1}, mid: {blue_green: true, keep_old: 2 h}}"
    )
    told = trace(build_plan(scenario(strategy, environment=names, check="{duration: 10 s, false_alarms: 1}"), "s"))

    assert [(13, "validate/web/look#1", on_bad)] == [(r.at_s, r.subject, r.value) for r in told if r.kind == "aborted"]
    assert [(13, "skipped")] == [(r.at_s, r.value) for r in told if r.kind == "ended" and r.subject == "code/mid/keep_old"]
    assert max(r.at_s for r in told if r.kind == "ended") < 30
    assert {"rollback": "rolled_back", "halt": "halted"}[on_bad] == told.outcome


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


KNOWS_ONE = "accepts: {'1': {web: ['1'], mid: ['1', '2']}}, "
KNOWS_WHEN_NEW = "accepts: {'1': {web: ['1'], mid: ['1']}, '2': {mid: ['2']}}, "


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ("", 'to: {web: "2", mid: "2"}'),
        ("observes: [mid], ", 'to: {web: "2", mid: "2"}'),
        (KNOWS_ONE, 'to: {web: "2", mid: "2"}'),
        (KNOWS_WHEN_NEW, 'to: {web: "2", mid: "2", watcher: "2"}'),
    ],
)
def test_a_check_of_what_one_monitor_sees_is_none(scenario, fields, change):
    watched = ENVIRONMENT + WATCHER.replace("on: [m1]", f"{fields}on: [m1], actions: {LANE}")

    assert [] == scenario("services: {}", change, environment=watched, check=LOOK).warnings()


@pytest.mark.parametrize(("check", "warned"), [(LOOK, 1), ("{of: new}", 0)])
def test_a_check_of_monitoring_that_has_no_checks_for_the_new_versions_draws_a_warning(scenario, check, warned):
    watched = ENVIRONMENT + WATCHER.replace("on:", "accepts: {'1': {web: ['1'], mid: ['1']}}, on:")

    warnings = scenario("services: {}", environment=watched, check=check).warnings()

    said = "check 'look' asks monitoring, and no monitor has checks for the new version of any of web, mid, so it finds no bad release; "
    assert [said + "add them under 'accepts', or look at new, old or primary"] * warned == list(warnings)
