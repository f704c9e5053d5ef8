"""Published incidents, replayed: each figure with its pencil beside it, and the tables of the page that tells of them."""

from __future__ import annotations

import functools
import pathlib
import re

import numpy as np
import pytest

from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from tests.builders import run

ROOT = pathlib.Path(__file__).parents[2]
INCIDENTS = ROOT / "scenarios" / "incidents"
PAGE = (ROOT / "docs" / "incidents.md").read_text(encoding="utf-8")
REPLICATIONS = 400
UNITS = {"min": 60.0, "h": 3600.0}
ROW = r"\| `([\w-]+)` \|(.+)\|"


@functools.cache
def means(name: str) -> dict[str, dict[str, float]]:
    """Strategy -> mean of each metric of a shipped replay."""
    plans = build_plans(load_scenario(INCIDENTS / f"{name}.yaml"))
    with np.errstate(invalid="ignore"):
        return {s: {m: float(v.mean()) for m, v in run(plan, REPLICATIONS).items()} for s, plan in plans.items()}


def tables() -> list[tuple[str, str, str, str, float]]:
    """(replay, strategy, metric, figure as a text, divisor of its unit) of each cell of the page."""
    name, metrics, found = "", [], []
    for line in PAGE.splitlines():
        if linked := re.match(r"\[([\w-]+)\.yaml\]", line):
            name = linked[1]
        if line.startswith("| strategy"):
            metrics = re.findall(r"`(\w+)`(?: \[(\w+)\])?", line)
        elif row := re.fullmatch(ROW, line):
            cells = [cell.strip() for cell in row[2].split("|")]
            for (metric, unit), cell in zip(metrics, cells, strict=True):
                found.append((name, row[1], metric, cell, UNITS.get(unit, 1.0)))
    return found


@pytest.mark.parametrize(("name", "strategy", "metric", "figure", "divisor"), tables())
def test_the_page_shows_what_the_simulation_gives(name, strategy, metric, figure, divisor):
    digits = len(figure.partition(".")[2])

    assert figure == f"{means(name)[strategy][metric] / divisor:,.{digits}f}"


def test_the_page_has_every_strategy_of_every_replay():
    shown = {(name, strategy) for name, strategy, *_ in tables()}
    shipped = [p for p in INCIDENTS.glob("*.yaml") if not p.stem.endswith("-environment")]

    assert {(p.stem, s) for p in shipped for s in load_scenario(p).strategies} == shown


# delivery#951


def test_delivery_951_leaves_eight_hosts_out_and_stricter_rules_one_or_two():
    found = {strategy: values["out_at_end"] for strategy, values in means("gitlab-delivery-951").items()}

    assert {"as-it-was": 6 + 2, "half-of-a-batch": 6 + 2, "half-carried": 2, "none": 1, "kind-by-kind": 2} == found


def test_delivery_951_takes_six_whole_batches_and_a_failed_one():
    found = means("gitlab-delivery-951")["as-it-was"]

    assert 6 * 240 + 190 == found["makespan_s"]
    assert pytest.approx(10 * 70 / 0.95) == found["capacity_end"]
    left = [(960, 1200, 13), (1200, 1440, 12), (1440, 7200, 10)]  # main nodes, from the fifth that is out on
    assert pytest.approx(sum((b - a) * (1000 - n * 70 / 0.95) for a, b, n in left)) == found["failed_requests"]


@pytest.mark.parametrize(("canaries", "size"), [(2, 2), (4, 2), (6, 2), (8, 2), (4, 4), (6, 4)])
def test_delivery_951_leaves_out_as_many_as_there_are_canaries_and_one_batch(canaries, size, tmp_path):
    environment = (INCIDENTS / "gitlab-delivery-951-environment.yaml").read_text()
    (tmp_path / "gitlab-delivery-951-environment.yaml").write_text(environment.replace("count: 6", f"count: {canaries}"))
    nodes = [m for n in range(1, 19) for m in (f"web{n}", f"cny{n}") if m[:3] == "web" or n <= canaries]
    batches = [nodes[k : k + size] for k in range(0, len(nodes), size)]
    head = (INCIDENTS / "gitlab-delivery-951.yaml").read_text().partition("strategies:")[0].replace("baseline: as-it-was\n", "")
    strategies = f"strategies: {{as-it-was: {{failures_of: all_of_batch, slices: {batches}}}}}\n"
    (tmp_path / "deployment.yaml").write_text(head + strategies)

    [plan] = build_plans(load_scenario(tmp_path / "deployment.yaml")).values()

    assert canaries + size == run(plan)["out_at_end"][0]


# 2017-01-31


def test_2017_01_31_loses_what_was_written_since_the_newest_copy_began():
    found = {strategy: values["data_loss_s"] for strategy, values in means("gitlab-2017-01-31").items()}

    by_hand_s = (23.5 - 17 - 20 / 60) * 3600
    assert 22_200 == pytest.approx(by_hand_s)
    assert {"as-estimated", "as-throttled", "quick-disks"} == {s for s, loss_s in found.items() if loss_s == pytest.approx(by_hand_s)}
    assert pytest.approx(81_000) == found["nightly-only"]  # "almost 24 hours"
    assert pytest.approx(30 * 60) == found["hourly"]
    assert 0 == found["standby"]
    assert abs(found["log-archiving"] - (10 + 60 / 2)) < 4 * 60 / 12**0.5 / REPLICATIONS**0.5  # U(10, 70): four standard errors


def test_2017_01_31_the_two_published_rates_enclose_the_published_duration():
    found = {strategy: values["rto_s"] for strategy, values in means("gitlab-2017-01-31").items()}

    decide_s, validate_s = 1800, 3600
    assert pytest.approx(decide_s + 310e9 / 7.5e6 + validate_s) == found["as-throttled"]
    assert pytest.approx(decide_s + 310e9 / 4.305e6 + validate_s) == found["as-estimated"]
    assert 12.98 <= found["as-throttled"] / 3600 <= 18.5 <= found["as-estimated"] / 3600 <= 21.51
    assert 18.5 > 1.3 * found["as-throttled"] / 3600  # the published rate alone does not explain it


def test_2017_01_31_quicker_disks_or_a_standby_would_have_saved_most_of_a_day_and_an_archive_costs_its_replay():
    found = means("gitlab-2017-01-31")

    assert pytest.approx(1800 + 310e9 / 200e6 + 3600) == found["quick-disks"]["rto_s"]
    assert pytest.approx(1800 + 120 + 3600) == found["standby"]["rto_s"]
    replay_s = (22_200 - found["log-archiving"]["data_loss_s"]) / 20
    assert pytest.approx(replay_s) == found["log-archiving"]["rto_s"] - found["as-estimated"]["rto_s"]


# 2015-05-29


def test_2015_05_29_the_sum_of_the_assumed_parts_lies_within_a_fifth_of_the_published_downtime():
    """The durations were assumed by people who knew the timeline, so this is no more than a band."""
    found = means("gitlab-2015-05-29")["as-it-was"]

    pencil_min = 7.5 + 30 + 15 + 3 * (4 + 5) + 10 + (4 + 5) + 5
    assert abs(found["downtime_s"] / 60 - pencil_min) < 4 * 5 / 12**0.5 / REPLICATIONS**0.5  # U(5, 10): four standard errors
    assert abs(pencil_min - 94) < 0.2 * 94
    assert found["rto_s"] == pytest.approx(found["downtime_s"])


def test_2015_05_29_another_order_of_suspects_saves_what_the_others_took_in_each_run():
    plans = build_plans(load_scenario(INCIDENTS / "gitlab-2015-05-29.yaml"))
    as_it_was, backend_first = (run(plans[name], 100)["downtime_s"] for name in ("as-it-was", "backend-first"))

    assert pytest.approx(100 * [60 * (30 + 15 + 3 * 9)]) == (as_it_was - backend_first).tolist()
    page_s = backend_first - 60 * (10 + 4 + 5 + 5)
    assert 300 <= page_s.min() < 420 < page_s.max() <= 600  # the published 7 min lie within the law of the page


def test_2015_05_29_a_quicker_check_saves_six_minutes_and_what_needs_nobody_all_but_one():
    found = {strategy: values["downtime_s"] / 60 for strategy, values in means("gitlab-2015-05-29").items()}

    assert found["as-it-was"] - found["quicker-check"] == pytest.approx(7.5 - 1.5, abs=4 * 4 / 12**0.5 / REPLICATIONS**0.5)
    assert {1.0} == {found["watchdog"], found["second-backend"]}  # thawed after 60 s; 30 s + 30 s until another one leads


# 2017-10-06


def test_2017_10_06_the_last_tier_waits_for_all_before_it():
    found = means("gitlab-2017-10-06")
    tier_s = 30 + 120 + 60

    assert {tier_s} == {found[s]["downtime_s"] for s in ("as-it-was", "all-tiers-at-once", "front-end-last")}
    assert abs(tier_s - 4 * 60) < 90  # 12:30 to 12:34
    wanted = {"as-it-was": 4 * tier_s, "all-tiers-at-once": tier_s, "front-end-last": 4 * tier_s, "rolling": 10 * 240 + 3 * tier_s}
    assert wanted == {strategy: values["makespan_s"] for strategy, values in found.items()}
    assert found["as-it-was"]["makespan_s"] < 37 * 60  # published; some 20 min of it are not modelled


def test_2017_10_06_rolling_is_never_down_and_fails_six_times_as_much():
    found = means("gitlab-2017-10-06")

    assert 0 == found["rolling"]["downtime_s"]
    assert pytest.approx(sum(240 * 500 * (20 - 2 * k) / 18 for k in range(1, 11))) == found["rolling"]["failed_requests"]
    assert pytest.approx(210 * 500) == found["as-it-was"]["failed_requests"] == found["all-tiers-at-once"]["failed_requests"]
    assert pytest.approx((3 * 210 + 210) * 500) == found["front-end-last"]["failed_requests"]
    assert (0, 9 * 240) == (found["as-it-was"]["incompatible_s"], found["rolling"]["incompatible_s"])
