"""What vetting says of the shipped scenarios: recommended plans are clean, naive ones are not."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.plan.overview import drawn
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.study.comparison import compare
from simdeploy.vetting.vet import vet

SCENARIOS = pathlib.Path(__file__).parent.parent.parent / "scenarios"
FILES = sorted(
    f"{p.parent.name}/{p.stem}" for p in SCENARIOS.glob("*/*.yaml") if "\nscenario:" in p.read_text() and p.parent.name != "incidents"
)  # incidents tell what was done, which nobody recommends
NOT_CLEAN = {
    "canonical/upgrade-incompatible": {"versions/web-middle"}  # no strategy of it is clean there: that is what it shows
}


@pytest.mark.parametrize("file", FILES)
def test_the_recommended_plan_of_a_shipped_scenario_is_clean(file):
    scenario = load_scenario(SCENARIOS / f"{file}.yaml")
    recommended = compare(scenario, 40 if file.startswith("fleet") else 100, 0).recommended

    errors = {f.id for f in vet(build_plan(scenario, recommended)).findings if f.severity != "note"}

    assert NOT_CLEAN.get(file, set()) == errors


@pytest.mark.parametrize(
    ("file", "strategy", "found"),
    [
        ("canonical/upgrade", "all-at-once", {"capacity/web", "capacity/middle"}),
        ("canonical/upgrade", "drain-offline", {"capacity/middle"}),
        ("fleet/upgrade", "batch-25", {"failures/api"}),
        ("fleet/upgrade", "whole-batch", {"failures/web", "failures/api"}),
        ("partitions/upgrade-quorum", "by-three", {"capacity/cluster", "quorum/cluster"}),
        ("partitions/upgrade-cells", "zone-by-zone", {"capacity/web"}),
        ("canonical/upgrade-with-validation", "check-too-late", {"rollback-capacity/sql"}),
        ("canonical/upgrade-incompatible", "rolling", {"versions/web-middle"}),
        ("canonical/upgrade-leader-elected", "leader-first-stopped", {"leaders/middle"}),
    ],
)
def test_naive_plans_are_not(file, strategy, found):
    plan = build_plan(load_scenario(SCENARIOS / f"{file}.yaml"), strategy)

    assert found <= {f.id for f in vet(plan).findings if f.severity != "note"}


@pytest.mark.parametrize(
    ("strategy", "kept", "machine_lost", "zone_lost"),
    [("by-list", 500, 400, 200), ("cell-by-cell", 400, 300, 200), ("zone-by-zone", 300, 200, 0)],
)
def test_of_a_service_in_cells_the_floor_is_what_all_cells_have_at_once(strategy, kept, machine_lost, zone_lost):
    """Six boxes of 100 req/s; of the list one is out at once, of a cell two, of a zone three."""
    found = {f.service: f for f in vet(build_plan(load_scenario(SCENARIOS / "partitions/upgrade-cells.yaml"), strategy)).floors}

    for service in ("", "web", "middle"):
        assert (found[service].kept_per_s, found[service].machine_lost_per_s, found[service].zone_lost_per_s) == (
            kept,
            machine_lost,
            zone_lost,
        )


def test_the_state_behind_a_finding_is_drawn_service_by_service():
    plan = build_plan(load_scenario("scenarios/canonical/upgrade.yaml"), "all-at-once")
    [found] = [f for f in vet(plan).findings if f.id == "capacity/web"]
    assert found.witness is not None
    lines = drawn(plan, found.witness)

    assert [line.split()[0] for line in lines] == ["balancer", "monitoring", "web", "middle", "sql"]  # as calls go
    assert lines[2].endswith(" ░ web1 dead in the pool  ░ web2 dead in the pool") and lines[3].endswith(" █ mid1  █ mid2")
    alone = found.witness.model_copy(update={"lost": ("mid2",)})
    assert "✗ mid2 lost  █ mid1" in drawn(plan, alone)[3]
