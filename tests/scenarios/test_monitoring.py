"""Monitoring that is upgraded beside what it watches, against a pencil; what a check through monitoring can find."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping

import pytest

from simdeploy.errors import FileError
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate_all

Figures = Mapping[str, float]
Forecast = Callable[..., Mapping[str, Figures]]

# A web lane takes 60 s and a monitor's 120 s, from the begin of its install on: it has no way out of its own.
# One web box bears the demand. Monitors of version 1 have no checks for web 2, those of version 2 have.
ENVIRONMENT = """
name: watched
machines: [{{name: web1}}, {{name: web2}}, {{name: mon1}}, {{name: mon2}}]
entry: web
demand: {{rate: 90 req/s}}
actions: {{allocate: {{duration: 30 s}}}}
services:
  web:
    on: [web1, web2]
    capacity: 100 req/s
    actions: {{drain: {{duration: 10 s}}, install: {{duration: 40 s}}, start: {{duration: 10 s}}}}
  mon:
    role: monitoring
    on: {monitors}
    observes: {observes}
    accepts: {accepts}
    actions: {{{leaving}install: {{duration: 100 s}}, start: {{duration: 20 s}}}}
"""
CHECKS = '{"1": {web: ["1"]}, "2": {web: ["1", "2"]}}'
LEAVING = "drain: {duration: 5 s}, switch: {duration: 5 s}, "


@pytest.fixture
def forecast(tmp_path: pathlib.Path) -> Forecast:
    """Strategy -> the means of all metrics, of the scenario text below its environment."""

    def means(
        scenario: str, monitors: str = "[mon1]", accepts: str = CHECKS, leaving: str = "", observes: str = "[web]"
    ) -> Mapping[str, Figures]:
        environment = ENVIRONMENT.format(monitors=monitors, accepts=accepts, leaving=leaving, observes=observes)
        (tmp_path / "environment.yaml").write_text(environment)
        (tmp_path / "upgrade.yaml").write_text(f"scenario: upgrade\nenvironment: environment.yaml\n{scenario}")
        found = simulate_all(build_plans(load_scenario(tmp_path / "upgrade.yaml")), replications=2, seed=1)
        return {name: {metric: float(of_runs.mean()) for metric, of_runs in one.values.items()} for name, one in found.items()}

    return means


def figures(found: Mapping[str, Figures], wanted: Mapping[str, Figures]) -> Mapping[str, Figures]:
    """Of what was *found*, the metrics that are *wanted*."""
    assert set(found) == set(wanted)
    return {name: {metric: found[name][metric] for metric in one} for name, one in wanted.items()}


# what is blind, and what runs unchecked -------------------------------------------------------------------------------

ORDERS = """
to: {web: "2", mon: "2"}
strategies:
  before: {order: [mon, web], services: {web: {batches: 1}, mon: {batches: 1}}}
  with: {order: [[mon, web]], services: {web: {batches: 1}, mon: {batches: 1}}}
  after: {order: [web, mon], services: {web: {batches: 1}, mon: {batches: 1}}}
"""


def test_one_box_is_blind_while_it_is_out_and_new_code_unchecked_until_it_is_back(forecast):
    wanted = {
        # mon 0-120, web1 120-180, web2 180-240: web 2 serves from 180 on
        "before": {"makespan_s": 240, "blind_s": 120, "unchecked_s": 0},
        # mon 0-120, web1 0-60, web2 60-120: web 2 serves from 60 on and nothing watches it before 120
        "with": {"makespan_s": 120, "blind_s": 120, "unchecked_s": 60},
        # web1 0-60, web2 60-120, mon 120-240: first the old monitor does not know web 2, then none is there
        "after": {"makespan_s": 240, "blind_s": 120, "unchecked_s": 180},
    }
    assert wanted == figures(forecast(ORDERS), wanted)


def test_a_pair_in_batches_is_never_dark_and_the_first_new_one_has_the_new_checks(forecast):
    wanted = {
        # mon1 0-120, mon2 120-240, web1 240-300, web2 300-360
        "before": {"makespan_s": 360, "blind_s": 0, "unchecked_s": 0},
        # web 2 serves from 60 on, mon1 is new at 120
        "with": {"makespan_s": 240, "blind_s": 0, "unchecked_s": 60},
        # web 2 serves from 60 on, mon1 is new at 240
        "after": {"makespan_s": 360, "blind_s": 0, "unchecked_s": 180},
    }
    assert wanted == figures(forecast(ORDERS, monitors="[mon1, mon2]"), wanted)


def test_without_new_checks_the_old_monitor_will_do_while_it_is_there(forecast):
    """Nothing is said about checks, so all have all: what counts is that none is there while new code runs."""
    one, pair = ({s: f["unchecked_s"] for s, f in forecast(ORDERS, m, accepts="{}").items()} for m in ("[mon1]", "[mon1, mon2]"))

    assert {"before": 0, "with": 60, "after": 120} == one
    assert {"before": 0, "with": 0, "after": 0} == pair


def test_where_code_alone_changes_what_is_not_known_stays_unchecked(forecast):
    """web1 is new at 60, web2 at 120; the horizon is 1,000 s."""
    known, unknown = ({**f["s"]} for f in (forecast(ALONE, accepts='{"1": {web: ["1", "2"]}}'), forecast(ALONE)))

    assert (0, 1000 - 60) == (known["unchecked_s"], unknown["unchecked_s"])
    assert (0, 0) == (known["blind_s"], unknown["blind_s"])


ALONE = """
to: {web: "2"}
horizon: 1000 s
strategies: {s: {services: {web: {batches: 1}}}}
"""

WAYS = """
to: {web: "2", mon: "2"}
strategies:
  all: {order: [mon, web], services: {web: {batches: 1}}}
  no-order: {services: {web: {batches: 1}, mon: {batches: 1}}}
  stopped: {order: [mon, web], services: {web: {batches: 1}, mon: {batches: 1, take_out: stop}}}
  web-at-once: {order: [[mon, web]], services: {mon: {batches: 1}}}
  slices: {slices: [[mon1, web1], [mon2, web2]]}
"""


def test_the_pair_goes_in_every_way_that_needs_no_way_out(forecast):
    wanted = {
        "all": {"makespan_s": 240, "blind_s": 120, "unchecked_s": 0},  # both 0-120
        "no-order": {"makespan_s": 360, "blind_s": 0, "unchecked_s": 0},  # neither calls the other: monitoring goes first
        "stopped": {"makespan_s": 360, "blind_s": 0, "unchecked_s": 0},
        "web-at-once": {"makespan_s": 240, "blind_s": 0, "unchecked_s": 60},  # web 0-60, mon1 is new at 120
        "slices": {"makespan_s": 240, "blind_s": 0, "unchecked_s": 60},  # web1 is new at 60, mon1 at 120; then the others
    }
    assert wanted == figures(forecast(WAYS, monitors="[mon1, mon2]"), wanted)


REPLACED = """
to: {web: "2", mon: "2"}
strategies:
  surge: {order: [mon, web], services: {web: {batches: 1}, mon: {max_surge: 1}}}
  blue-green: {order: [mon, web], services: {web: {batches: 1}, mon: {blue_green: true}}}
  drained: {order: [mon, web], services: {web: {batches: 1}, mon: {}}}
"""


def test_one_box_that_is_replaced_is_never_dark(forecast):
    wanted = {
        "surge": {"makespan_s": 30 + 120 + 5 + 120, "blind_s": 0, "unchecked_s": 0},
        "blue-green": {"makespan_s": 30 + 120 + 5 + 5 + 120, "blind_s": 0, "unchecked_s": 0},
        "drained": {"makespan_s": 5 + 120 + 120, "blind_s": 125, "unchecked_s": 0},  # who drains looks no more
    }
    assert wanted == figures(forecast(REPLACED, leaving=LEAVING), wanted)


@pytest.mark.parametrize("way", ["max_surge: 1", "blue_green: true"])
def test_a_monitor_that_is_replaced_needs_a_way_out(forecast, way):
    with pytest.raises(FileError) as caught:
        forecast(f'to: {{mon: "2"}}\nstrategies: {{s: {{services: {{mon: {{{way}}}}}}}}}\n', leaving="switch: {duration: 5 s}, ")

    assert "'mon' has no recipe for 'drain', which this strategy needs" in str(caught.value)


def test_a_monitor_that_the_migration_of_its_own_store_stops_needs_a_way_out(tmp_path):
    """The migration begins when all writers have left, so each must have a step by which it leaves."""
    own = "    calls: {db: 1}\n  db: {role: datastore, on: [mon2], actions: {migrate: {duration: 9 s}}}\n"
    (tmp_path / "environment.yaml").write_text(ENVIRONMENT.format(monitors="[mon1]", accepts="{}", leaving="", observes="[web]") + own)
    (tmp_path / "upgrade.yaml").write_text(
        'scenario: upgrade\nenvironment: environment.yaml\nto: {mon: "2", db: "2"}\nstrategies: {s: {}}\n'
    )

    with pytest.raises(FileError) as caught:
        load_scenario(tmp_path / "upgrade.yaml")

    assert "'mon' has no recipe for 'drain', which this strategy needs" in str(caught.value)


# what a check through monitoring finds --------------------------------------------------------------------------------

BAD = """
to: {web: "2", mon: "2"}
release: {p_bad: 100 %, error_share: 50 %}
checks: {errors: {of: monitoring, duration: 10 s}}
strategies:
  before: {order: [mon, web], checkpoints: [{after: canary, checks: [errors]}], services: {web: {batches: 1}}}
  with: {order: [[mon, web]], checkpoints: [{after: canary, checks: [errors]}], services: {web: {batches: 1}}}
  after: {order: [web, mon], checkpoints: [{after: canary, checks: [errors]}], services: {web: {batches: 1}}}
  end: {order: [web, mon], checkpoints: [{after: end, checks: [errors]}], services: {web: {batches: 1}}}
"""


def test_a_bad_release_is_found_by_who_has_checks_for_it(forecast):
    wanted = {
        # web1 is new at 180 and half of it bad until the look of 10 s is over: 90 / 2 x 50 % x 10; web1 and mon go back
        "before": {"rolled_back": 1, "bad_release_requests": 225, "makespan_s": 190 + 60 + 120},
        "with": {"success": 1},  # web1 is new at 60, when no monitor is there
        "after": {"success": 1},  # web1 is new at 60, when the old monitor is there
        # web2 is new at 120, mon at 240; the look is over at 250, then mon goes back, and web1 and web2 one after the other
        "end": {"rolled_back": 1, "makespan_s": 250 + 120 + 120},
    }
    assert wanted == figures(forecast(BAD), wanted)


ITSELF = """
to: {web: "2", mon: "2"}
release: {p_bad: 100 %, error_share: 50 %}
checks: {errors: {of: monitoring}, look: {of: new}}
strategies:
  seen: {order: [mon, web], checkpoints: [{after: tier, checks: [errors]}], services: {web: {batches: 1}}}
  looked-at: {order: [mon, web], checkpoints: [{after: tier, checks: [look]}], services: {web: {batches: 1}}}
"""


def test_a_monitor_is_no_judge_of_itself(forecast):
    """The new monitor serves at 120 s and is as bad as all that is new: a look at what is new finds it, its own checks do not."""
    wanted = {
        "seen": {"rolled_back": 1, "bad_release_requests": 90 * 0.5 * (60 + 60)},  # one web box alone: before the look, and on the way back
        "looked-at": {"rolled_back": 1, "bad_release_requests": 0},
    }
    assert wanted == figures(forecast(ITSELF, observes="[web, mon]"), wanted)


def test_a_check_by_monitoring_of_monitoring_alone_is_a_fault(forecast):
    with pytest.raises(FileError) as caught:
        forecast(ITSELF.replace('web: "2", ', "").replace("[mon, web]", "[mon]"))

    assert "no monitor observes any of mon, which get new versions, and of itself none is a judge" in str(caught.value)


MIXED = """
to: {web: "2", mon: "2"}
release: {p_bad: 100 %, error_share: 50 %}
checks: {errors: {of: monitoring}}
strategies:
  one-of-each: {slices: [[mon1, web1], [mon2, web2]], checkpoints: [{after: canary, checks: [errors]}]}
  web-first: {slices: [[web1], [mon1, web2], [mon2]], checkpoints: [{after: canary, checks: [errors]}]}
"""


def test_of_a_pair_one_with_the_new_checks_is_enough(forecast):
    """one-of-each: web1 and mon1 are new, web2 and mon2 old at the look; web-first: web1 is new, both monitors old."""
    found = forecast(MIXED, monitors="[mon1, mon2]")

    assert {"one-of-each": 1, "web-first": 0} == {name: one["rolled_back"] for name, one in found.items()}


FIXED = """
to: {to}
fix: 60 s
release: {{p_bad: 100 %, p_bad_fix: {p_bad_fix}, error_share: 50 %}}
checks: {{errors: {{of: monitoring}}}}
strategies:
  s:
    order: {order}
    checkpoints: [{{after: code, checks: [errors], on_bad: forward, rounds: 2, then: rollback}}]
    services: {{web: {{batches: 1}}}}
"""


@pytest.mark.parametrize(
    ("to", "order", "accepts", "again_s"),
    [
        ('{web: "2", mon: "2"}', "[mon, web]", CHECKS, 120),
        ('{web: "2"}', "[web]", '{"1": {web: ["2"]}}', 0),
        ('{web: "2"}', "[web]", "{}", 0),
    ],
)
def test_who_has_checks_for_a_version_has_them_for_its_fixes(forecast, to, order, accepts, again_s):
    """All that serves is bad while web1 is alone (60 s), while the fix is made (60 s) and the monitor, which is out meanwhile,
    gets its own (*again_s*), and while web2 is alone (60 s). The second fix is needed only where the first one is bad."""
    good, bad = (forecast(FIXED.format(to=to, order=order, p_bad_fix=p), accepts=accepts)["s"] for p in ("0 %", "100 %"))

    assert (1, 1) == (good["success"], bad["rolled_back"])
    assert 90 * 0.5 * (60 + 60 + again_s + 60) == good["bad_release_requests"]
    assert again_s == good["unchecked_s"]


def test_a_fix_of_what_nobody_has_checks_for_is_not_needed_since_nothing_is_found(forecast):
    one = forecast(FIXED.format(to='{web: "2"}', order="[web]", p_bad_fix="100 %"))["s"]

    assert (1, 0) == (one["success"], one["forward_s"])


@pytest.mark.parametrize("accepts", ['{"1": {wbe: ["1"]}}', '{"1": {mon: ["1"]}}'])
def test_checks_are_for_what_is_observed(forecast, accepts):
    with pytest.raises(FileError) as caught:
        forecast(ALONE, accepts=accepts)

    [fault] = caught.value.faults
    assert "does not observe" in fault.message and "web" in fault.message
