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
