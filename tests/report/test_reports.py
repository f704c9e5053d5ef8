"""The committed reports are those that the shipped scenarios give today."""

from __future__ import annotations

import pathlib

import pytest

from simdeploy.report import reports

FILES = reports.scenario_files(pathlib.Path("scenarios"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_a_report_is_not_stale(path):
    for name, text in reports.texts(reports.compared(path), path).items():
        committed = pathlib.Path("reports") / name

        assert committed.exists() and text == committed.read_text(encoding="utf-8"), f"reports/{name} is stale: run make reports"


def test_all_reports_together_stay_small():
    """They are in the repository, of which all is to stay below 20 MB."""
    assert sum(p.stat().st_size for p in pathlib.Path("reports").rglob("*") if p.is_file()) < 12_000_000


@pytest.mark.parametrize("path", FILES, ids=reports.name_of)
def test_the_figures_of_a_report_are_there(path):
    for figure in ("capacity", "gantt"):
        assert (pathlib.Path("reports") / reports.name_of(path) / f"{figure}.png").stat().st_size > 3000
