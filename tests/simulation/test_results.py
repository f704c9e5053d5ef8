"""Results in a file: bit for bit, with their provenance; and a bar in a notebook."""

from __future__ import annotations

import html.parser
import json

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import simdeploy
from simdeploy.errors import PlanError, StudyError

UPGRADE = "scenarios/canonical/upgrade.yaml"


@pytest.fixture(scope="module")
def comparison():
    return simdeploy.compare(simdeploy.load_scenario(UPGRADE), replications=60, seed=3)


def same(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_one_outcome_goes_under_the_name_of_its_strategy(comparison, tmp_path):
    one = comparison.outcomes["drain-expand"]

    [(name, again)] = simdeploy.load_results(simdeploy.save_results(one, tmp_path / "one.json")).outcomes.items()

    assert name == "drain-expand" and again.plan == one.plan and all(same(again.values[m], one.values[m]) for m in one.values)


def test_outcomes_are_read_back_bit_for_bit_with_where_they_come_from(comparison, tmp_path):
    outcomes = dict(comparison.outcomes)
    odd = outcomes["drain-expand"]
    values = {**odd.values, "rto_s": np.array([np.nan, np.inf, -0.0, 5e-324] * 15)}
    outcomes["drain-expand"] = odd._replace(values=values)
    read = simdeploy.load_results(simdeploy.save_results(outcomes, tmp_path / "results.json"))

    assert list(read.outcomes) == list(outcomes) and read.tool and read.written_at.endswith("+00:00")
    for name, outcome in outcomes.items():
        again = read.outcomes[name]
        assert again.plan == outcome.plan and (again.seed, again.interrupted) == (outcome.seed, outcome.interrupted)
        assert all(same(again.values[m], outcome.values[m]) for m in outcome.values)
        assert len(again.paths) == len(outcome.paths)
        assert all(same(x, y) for p, q in zip(again.paths, outcome.paths, strict=True) for x, y in zip(p, q, strict=True))


def test_a_comparison_is_made_again_from_what_was_read(comparison, tmp_path):
    read = simdeploy.load_results(simdeploy.save_results(comparison.outcomes, tmp_path / "results.json"))
    again = simdeploy.ranked(comparison.scenario, read.outcomes)

    assert again.to_json() == comparison.to_json()
    with pytest.raises(StudyError, match="none of the outcomes"):
        simdeploy.ranked(comparison.scenario, read.outcomes, "x")


@pytest.mark.parametrize("spoil", [lambda t: t.replace('"seed": 3', '"seed": 4'), lambda t: t[:-40], lambda t: "[]", lambda t: "{}"])
def test_a_file_that_was_changed_or_is_no_results_is_refused(comparison, tmp_path, spoil):
    file = simdeploy.save_results(comparison.outcomes, tmp_path / "results.json")
    file.write_text(spoil(file.read_text()))
    with pytest.raises(PlanError, match=r"results.json: (was changed|is no file of results)"):
        simdeploy.load_results(file)


def test_what_cannot_be_saved_says_what_can(comparison, tmp_path):
    with pytest.raises(PlanError, match=r"a Comparison is no Outcome .* save its \.outcomes"):
        simdeploy.save_results(comparison, tmp_path / "results.json")
    with pytest.raises(PlanError, match=r"results.parquet: results are written as JSON; .* \.json"):
        simdeploy.save_results(comparison.outcomes, tmp_path / "results.parquet")
    assert not any(tmp_path.iterdir())


def test_a_newer_format_and_a_missing_file_are_refused(tmp_path):
    from simdeploy.simulation.results import _digest

    content = {"format": 9, "tool": "x", "written_at": "", "outcomes": {}}
    (tmp_path / "r.json").write_text(json.dumps({**content, "sha256": _digest(content)}))
    with pytest.raises(PlanError, match="has format 9"):
        simdeploy.load_results(tmp_path / "r.json")
    with pytest.raises(PlanError, match="cannot be read"):
        simdeploy.load_results(tmp_path / "none.json")
    with pytest.raises(PlanError, match="cannot be written"):
        simdeploy.save_results({}, tmp_path / "none" / "r.json")


@pytest.mark.slow
def test_a_notebook_shows_a_bar_that_vanishes_and_a_script_shows_none():
    source = f"""
import simdeploy
from simdeploy.simulation import display
display.AFTER_S = 0.0
simdeploy.compare(simdeploy.load_scenario({UPGRADE!r}), replications=400, jobs=1)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [o for o in notebook.cells[0].outputs if o.output_type == "display_data"]

    assert len(shown) == 1 and shown[0]["data"]["text/html"] == ""  # it was there, and is empty now
    from simdeploy.simulation.display import notebook_progress

    assert notebook_progress() is None


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def test_every_value_shows_itself_in_a_notebook_and_no_name_breaks_out(comparison):
    scenario = comparison.scenario
    hostile = scenario.model_copy(update={"title": "<script>alert(1)</script>"})
    plan = comparison.outcomes["all-at-once"].plan
    vetting = simdeploy.vet(plan)
    values = [scenario, hostile, scenario.environment, plan, vetting, vetting.findings[0], comparison, comparison.outcomes["all-at-once"]]
    for value in values:
        parser = Tags()
        shown = value._repr_mimebundle_(include=None, exclude=None)
        parser.feed(shown["text/html"])
        assert "table" in parser.tags and "script" not in parser.tags
        assert set(shown) == {"text/html", "text/plain"} and max(map(len, shown["text/plain"].splitlines())) <= 80
