"""The committed reports are those that the shipped scenarios give today."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.planning.loading import load_scenario
from simdeploy.report import reports
from simdeploy.study.comparison import compare

FILES = reports.scenario_files(pathlib.Path("scenarios"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_a_report_is_not_stale(path):
    committed = pathlib.Path("reports") / f"{reports.name_of(path)}.md"
    comparison = compare(load_scenario(path), reports.REPLICATIONS, reports.SEED)

    assert committed.exists() and reports.report(comparison, path) == committed.read_text(), "the report is stale: run make reports"


@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_the_figures_of_a_report_are_there(path):
    for figure in ("capacity", "gantt"):
        assert (pathlib.Path("reports") / reports.name_of(path) / f"{figure}.png").stat().st_size > 3000
