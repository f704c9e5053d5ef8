"""One scenario's strategies on one HTML page that needs nothing else: what to do, why, and all that it stands on."""

from __future__ import annotations

import hashlib
import json
import math
from importlib.metadata import version
from typing import NamedTuple

from simdeploy.environment.inputs import input_text
from simdeploy.environment.models import Environment
from simdeploy.environment.overview import tiers
from simdeploy.export.pages import rendered
from simdeploy.export.runbook import Runbook, runbook
from simdeploy.plan import overview as plans
from simdeploy.plan.findings import Finding, Vetting
from simdeploy.planning.base import Scenario
from simdeploy.planning.overview import strategies as outlines
from simdeploy.report import pictures
from simdeploy.simulation.forecasting import forecast
from simdeploy.simulation.outcome import GoalResult
from simdeploy.study import overview
from simdeploy.study.comparison import Comparison, chosen
from simdeploy.study.courses import Courses, courses, moments
from simdeploy.study.dossier import Dossier
from simdeploy.tables import Table
from simdeploy.vetting.vet import vet

MARKS = {"*": "recommended", "-": "dominated"}
"""What stands before a strategy in a table of a comparison."""
MET = {True: "met", False: "missed", None: "open"}

KEPT = "kept: at the front door for every timing, apart from locks and moved leads"


class Row(NamedTuple):
    """A row of a sheet."""

    mark: str
    """A word beside the first cell."""
    cells: tuple[str, ...]


class Sheet(NamedTuple):
    """A table as a page has it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    left: tuple[int, ...]
    """Columns of words."""
    notes: tuple[str, ...]


class Said(NamedTuple):
    """One line of the verdict."""

    about: str
    text: str
    style: str = ""
    """met or missed, where it is good or bad news."""


def report_page(comparison: Comparison, strategy: str | None = None, command: str = "", known: Dossier | None = None) -> str:
    """*comparison* as a self-contained HTML page; *strategy*, by default the recommended one, is shown in detail.

    *command* is what makes this page, as its reader would type it. *known* is what is known of that strategy's plan,
    where it was worked out before. The same comparison and command give the same page.

    Raises StudyError for a strategy that was not compared.
    """
    name = strategy or comparison.recommended
    if name not in comparison.outcomes:
        name = chosen(comparison.scenario, [name])[0]
    outcome = comparison.outcomes[name]
    known = known or dossier_of(comparison, name)
    assert known.vetting is not None  # a dossier that was just made has all
    vettings = {n: known.vetting if n == name else vet(o.plan) for n, o in comparison.outcomes.items()}
    book = runbook(outcome.plan, known.vetting, known.forecast)
    at_s = moments([outcome])
    told = courses(outcome, at_s)
    env, scenario = outcome.plan.environment, comparison.scenario
    plots = [pictures.capacity_plot("Capacity and demand at the front door", outcome, at_s, told.capacity, told.demand)]
    plots += [p for p in (pictures.exposure_plot(outcome, told), pictures.risk_plot(outcome, told)) if p]
    return rendered(
        "report.html",
        "simdeploy.report",
        title=scenario.title or scenario.name,
        about=f"{scenario.scenario.replace('_', ' ')} of {env.name} ({env.kind}): {scenario.aim}",
        shown=name,
        recommended=comparison.recommended,
        is_good=all(g.met for g in comparison.goals[name]) and known.vetting.is_clean,
        verdict=_verdict(comparison, name, known.vetting),
        key_figures=_key_figures(comparison, name),
        goals=[(g.goal.text, MET[g.met], _share(g)) for g in comparison.goals[name]],
        tables=_tables(comparison),
        outlines=sheet(outlines(scenario)),
        plots=plots,
        no_exposure=_no_exposure(told) if len(plots) < 3 else "",
        course=sheet(pictures.course_table(told)),
        small_plots=pictures.capacity_plots(comparison, moments(list(comparison.outcomes.values()))),
        schedule=pictures.schedule(book.timeline),
        topology=book.topology,
        batches=_batches(book),
        tiers=sheet(tiers(env)),
        spreads=pictures.spreads(comparison),
        front=(front := pictures.front(comparison)),
        front_table=sheet(front.table) if front else None,
        findings=[(f, _witness(f)) for f in known.vetting.findings],
        vetted=sheet(plans.vetted(vettings)._replace(title="Vetting of each plan", note=KEPT)),
        floors=sheet(plans.floors(known.vetting)),
        accepted=known.vetting.accepted,
        warnings=scenario.warnings(),
        inputs=_inputs(scenario.environment),
        provenance=_provenance(comparison, name, command),
    )


def dossier_of(comparison: Comparison, strategy: str) -> Dossier:
    """The plan of a *strategy* that was compared, vetted and forecast with the same luck."""
    plan = comparison.outcomes[strategy].plan
    return Dossier(plan, vet(plan), forecast(plan, comparison.replications, comparison.seed))


def inputs_digest(scenario: Scenario) -> str:
    """The SHA-256 of a scenario with its environment, as they were read: of comments and the order of keys it knows nothing."""
    content = scenario.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sheet(table: Table, marked: bool = False) -> Sheet:
    """*table* for a page; *marked*: its first cells begin with one of MARKS, else with a blank."""
    rows = [Row(MARKS.get(r[0][0], "") if marked else "", (r[0][2:] if marked else r[0], *r[1:])) for r in table.rows]
    notes = [n for n in table.note.splitlines() if not n.startswith("* ")]
    header = tuple(h.replace("\n", " ") for h in table.header)
    return Sheet(table.title, header, tuple(rows), table.left, tuple(notes))


def _verdict(comparison: Comparison, name: str, vetting: Vetting) -> list[Said]:
    asked_for = f"Asked for. Recommended is {comparison.recommended}: {comparison.because}."
    why = f"{_sentence(comparison.because)}." if name == comparison.recommended else asked_for
    return [
        Said("Why", why),
        _goals_said(comparison.goals[name]),
        Said("Vetting", plans.verdict(vetting), "met" if vetting.is_clean else "missed"),
        Said("Cost", comparison.causes[name].sentence),
        Said("Accepted", _sentence(vetting.accepted[0].partition(": ")[2])),
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _goals_said(results: list[GoalResult]) -> Said:
    if not results:
        return Said("Goals", "The scenario states none.")
    met = sum(g.met is True for g in results)
    open_ones = sum(g.met is None for g in results)
    if met == len(results):
        return Said("Goals", f"All {met} hold." if met > 1 else "It holds.", "met")
    undecided = f", {open_ones} cannot be told with so few replications" if open_ones else ""
    return Said("Goals", f"{met} of {len(results)} hold{undecided}.", "missed")


def _share(result: GoalResult) -> str:
    return "" if result.probability is None else f"its bound is kept in {100 * result.probability:.3g} % of the runs"


def _key_figures(comparison: Comparison, name: str) -> list[tuple[str, str]]:
    """(what, how much) of the shown strategy: its row of the table of strategies."""
    table = overview.compared(comparison)
    row = next(r for r in table.rows if r[0][2:] == name)
    return [(h.replace("\n", " "), cell) for h, cell in zip(table.header[1:], row[1:], strict=True)]


def _tables(comparison: Comparison) -> list[Sheet]:
    found = [overview.compared(comparison)]
    found += [overview.goals_met(comparison)] if comparison.scenario.goals else []
    found += [overview.ends(comparison)] if comparison.ends_differ else []
    found += [overview.differences(comparison)] if len(comparison.outcomes) > 1 else []
    return [sheet(t, marked=True) for t in found]


def _no_exposure(told: Courses) -> str:
    """Why data at risk are not drawn."""
    if told.exposure_s is None:
        return "Data at risk are not drawn: no service of the environment states how its data are kept."
    if math.isinf(float(told.exposure_s.high.max())):
        return "Data at risk: nothing bounds what would be gone if a store were lost, since no copy of it is left or stated."
    return "Data at risk: none at any moment; whatever store were lost, every write is held elsewhere."


def _batches(book: Runbook) -> Sheet:
    """The batches of the main section: machines and when they are expected to begin."""
    chapter = next((c for c in book.chapters if c.title == "Batches"), None)
    rounds = [r for stage in chapter.stages for r in stage.rounds] if chapter else []
    rows = tuple(Row("", (r.number, r.machines, r.begins)) for r in rounds)
    return Sheet("Batches in the order in which they begin", ("batch", "machines", "expected to begin"), rows, (0, 1, 2), ())


def _witness(finding: Finding) -> list[tuple[str, str]]:
    return plans.shown(finding.witness) if finding.witness else []


def _inputs(env: Environment) -> list[Sheet]:
    """The numbers of the environment's file that say where they come from, the assumed ones first; a strategy may replace some."""
    found = []
    for mark in ("assumed", "measured"):
        rows = tuple(Row("", (i.at, input_text(env, i.at) or "", i.source)) for i in env.inputs if i.mark == mark)
        found.append(Sheet(f"{mark.capitalize()} numbers", ("input", "is", "source"), rows, (0, 1, 2), ()))
    return [s for s in found if s.rows]


def _provenance(comparison: Comparison, name: str, command: str) -> list[tuple[str, str]]:
    plan = comparison.outcomes[name].plan
    runs = f"{comparison.replications:,} of each strategy{', interrupted before all were done' if comparison.interrupted else ''}"
    rows = [
        ("Made by", f"simdeploy {version('simdeploy')}"),
        ("Command", command),
        ("Seed", str(comparison.seed)),
        ("Replications", runs),
        ("Plan shown", f"{name}, {len(plan.steps)} steps"),
        ("Plan, SHA-256", plan.digest),
        ("Inputs, SHA-256", inputs_digest(comparison.scenario)),
    ]
    return [(label, said) for label, said in rows if said]
