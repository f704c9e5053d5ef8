"""The committed reports are those that the shipped scenarios give today."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.report import reports

FILES = reports.scenario_files(pathlib.Path("scenarios"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_a_report_is_not_stale(path):
    committed = pathlib.Path("reports") / f"{reports.name_of(path)}.md"

    assert committed.exists() and reports.report(reports.compared(path), path) == committed.read_text(), (
        "the report is stale: run make reports"
    )


@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_the_figures_of_a_report_are_there(path):
    for figure in ("capacity", "gantt"):
        assert (pathlib.Path("reports") / reports.name_of(path) / f"{figure}.png").stat().st_size > 3000
