"""What the page says is what the comparison, the vetting and the forecast say; how it looks is looked at in a browser."""

from __future__ import annotations

import html
import itertools
import pathlib
import re

import numpy as np
import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.errors import StudyError
from simdeploy.plan.overview import shown
from simdeploy.planning.kinds import KINDS
from simdeploy.planning.loading import load_scenario
from simdeploy.report import pictures, reports
from simdeploy.report.page import inputs_digest, report_page, sheet
from simdeploy.study import overview
from simdeploy.study.comparison import Comparison, compare
from simdeploy.vetting.vet import vet

UPGRADE = "scenarios/canonical/upgrade.yaml"
LOCAL = "scenarios/local/upgrade.yaml"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(load_scenario(UPGRADE), 80)


@pytest.fixture(scope="module")
def page(comparison) -> str:
    return report_page(comparison, command="simdeploy report here")


def words_of(page: str) -> str:
    """The texts of a page, without its tags."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


def test_the_verdict_comes_first_with_its_reasons(comparison, page):
    verdict = words_of(page[: page.index('<nav aria-label="Chapters"')])

    assert f"Take {comparison.recommended}" in verdict and comparison.because[1:] in verdict
    assert "All 4 hold." in verdict and "Clean: 4 notes." in verdict and comparison.causes[comparison.recommended].sentence in verdict
    assert all(g.goal.text in verdict for g in comparison.goals[comparison.recommended])


def test_another_strategy_is_shown_with_its_faults_and_the_recommended_one_is_named(comparison):
    said = report_page(comparison, "all-at-once")
    verdict = words_of(said[: said.index('<nav aria-label="Chapters"')])

    assert "Take" not in verdict and f"Recommended is {comparison.recommended}" in verdict
    assert "2 of 4 hold." in verdict and "Not clean" in verdict and '<section class="verdict" ' in said


@pytest.mark.parametrize("name", ["all-at-once", "drain-expand-parallel"])
def test_every_finding_stands_there_with_its_cure_and_the_state_that_shows_it(comparison, name):
    said = words_of(report_page(comparison, name))

    findings = vet(comparison.outcomes[name].plan).findings
    assert len(findings) >= 3 and any(f.witness for f in findings)
    for one in findings:
        assert all(text in said for text in (one.message, one.cure, *(which for _, which in (shown(one.witness) if one.witness else ()))))


def test_every_table_of_the_comparison_is_there_cell_by_cell(comparison, page):
    for table in (overview.compared(comparison), overview.goals_met(comparison), overview.differences(comparison)):
        for mark, *cells in ((r.mark, *r.cells) for r in sheet(table, marked=True).rows):
            first, *others = map(html.escape, cells)
            badge = f' <span class="badge {mark}">{mark}</span>' if mark else ""
            row = f'<tr><th scope="row"><bdi>{first}</bdi>{badge}</th>' + "".join(f'<td class="n">{c}</td>' for c in others)
            assert row.replace("&#x27;", "&#39;") in page


def test_an_unknown_strategy_is_named_with_those_that_there_are(comparison):
    with pytest.raises(StudyError, match=r"'drain-expnd' is no strategy of 'upgrade'; did you mean 'drain-expand'"):
        report_page(comparison, "drain-expnd")


def test_provenance_names_what_made_the_page(comparison, page):
    said = words_of(page)

    assert "simdeploy report here" in said and "80 of each strategy" in said
    assert comparison.outcomes[comparison.recommended].plan.digest in said and inputs_digest(comparison.scenario) in said


def test_the_digest_of_the_inputs_follows_their_meaning_and_not_their_comments(tmp_path):
    text = "\n# a comment\n" + pathlib.Path(UPGRADE).read_text().replace("environment: ", "environment: canonical/")
    environment = pathlib.Path("scenarios/canonical/production.yaml").read_text()
    (tmp_path / "canonical").mkdir()
    (tmp_path / "upgrade.yaml").write_text(text)
    (tmp_path / "canonical" / "production.yaml").write_text(environment)
    same = inputs_digest(load_scenario(tmp_path / "upgrade.yaml"))
    (tmp_path / "canonical" / "production.yaml").write_text(environment.replace("value: 130 req/s", "value: 131 req/s"))

    assert inputs_digest(load_scenario(UPGRADE)) == same != inputs_digest(load_scenario(tmp_path / "upgrade.yaml"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scenario_has_its_page(kind):
    scenario = load_scenario(f"scenarios/kinds/{kind.replace('_', '-')}.yaml")
    name = next(iter(scenario.strategies))

    for replications in (1, 8):
        said = report_page(compare(scenario, replications, strategies=[name]))
        assert f"Take <bdi>{name}</bdi>" in said and "nan" not in words_of(said).split()


def test_the_command_makes_the_page_that_make_reports_makes_byte_by_byte(tmp_path, monkeypatch):
    path = next(p for p in reports.scenario_files(pathlib.Path("scenarios/local")))
    wanted = reports.texts(reports.compared(path), path)["local-upgrade.html"]
    command = re.search(r"<code>simdeploy (report [^<]*)</code>", wanted)
    assert command is not None
    arguments = command[1].split()
    folder = pathlib.Path.cwd()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios").symlink_to(folder / "scenarios")

    result = CliRunner().invoke(main, [*arguments, "--jobs", "1"])

    assert 0 == result.exit_code, result.output
    assert wanted == (tmp_path / "local-upgrade.html").read_text(encoding="utf-8")


WRONG = {
    "no file to write": (("report", LOCAL), "Missing option '-o'"),
    "an unknown strategy": (("report", LOCAL, "-o", "x.html", "--strategy", "one-by-on"), "did you mean 'one-by-one'"),
    "a place that cannot be written": (("report", LOCAL, "-o", "/no/such/folder/x.html", "-n", "1"), "cannot be written"),
    "a scenario that is not there": (("report", "none.yaml", "-o", "x.html"), "none.yaml:1:1: cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_exits_2_with_the_culprit(name):
    arguments, message = WRONG[name]

    result = CliRunner().invoke(main, list(arguments))

    assert 2 == result.exit_code and message in result.output and "Traceback" not in result.output


def test_the_front_is_what_brute_force_finds(comparison):
    drawn = pictures.front(comparison)
    assert drawn is not None
    down, across = "failed_requests", "makespan_s"
    means = {n: (o.values[across].mean(), o.values[down].mean()) for n, o in comparison.outcomes.items()}

    def worse(name: str) -> bool:
        return any(np.all(np.array(means[o]) <= np.array(means[name]) + 1e-6) and means[o][0] < means[name][0] for o in means)

    assert ("failed requests", "makespan") == drawn.metrics[::-1]
    assert {n: "-" if worse(n) else "yes" for n in means} == {r[0].split(": ")[1]: r[3] for r in drawn.table.rows}


def test_labels_of_the_front_that_would_cover_each_other_are_one(comparison):
    drawn = pictures.front(comparison)
    assert drawn is not None
    letters = sorted(letter for p in drawn.points for letter in p.label.split(", "))

    assert list("ABCDEFG") == letters
    for a, b in itertools.combinations(drawn.points, 2):
        assert abs(a.x - b.x) >= pictures.ROOM[0] or abs(a.y - b.y) >= pictures.ROOM[2]


def test_metrics_that_hardly_vary_are_not_drawn(comparison):
    assert ["failed_requests", "makespan_s", "downtime_s"] == pictures.varied(comparison)[:3]
    assert "machine_hours" not in pictures.varied(comparison)


def test_a_single_strategy_has_no_front():
    assert pictures.front(compare(load_scenario(LOCAL), 8, strategies=["canary"])) is None
