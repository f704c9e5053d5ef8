"""The pages under docs/ keep up with the code: every name stands there, every example runs, every link leads somewhere."""

from __future__ import annotations

import math
import pathlib
import re
import sys
from typing import get_args

import pytest
from pydantic import BaseModel, TypeAdapter
from ruamel.yaml import YAML

from simdeploy import units
from simdeploy.environment import demand, models, policy, stores
from simdeploy.environment.durations import FAMILIES, Duration
from simdeploy.plan.effects import VERBS
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Corruption, Crash, Plan, Release, Start
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.planning import (
    base,
    compute_restore,
    data_restore,
    disaster,
    fresh,
    monitoring,
    procedure,
    recovery,
    replacement,
    scale_out,
    scenario,
)
from simdeploy.planning.kinds import KINDS
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.starter import TEMPLATES, write_starter
from simdeploy.simulation.outcome import simulate
from simdeploy.study.comparison import compare
from simdeploy.vetting.vet import vet

ROOT = pathlib.Path(__file__).parent.parent
MODEL = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
FILES = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()]

DESCRIBED: dict[str, type[BaseModel]] = {
    "Environment": models.Environment, "Machine": models.Machine, "Cell": models.Cell, "Demand": demand.Demand, "Level": demand.Level,
    "Service": models.Service, "Call": models.Call, "Health check": models.HealthCheck, "Election": models.Election,
    "Store": stores.Store, "Backup": stores.Backup, "Log archive": stores.LogArchive, "Standby": stores.Standby,
    "Recovery": models.Recovery, "Policy": policy.Policy, "Objective": policy.Objective,
    "Action": models.Action, "Artefact": models.Artefact,
    "Release": scenario.Release, "Check": scenario.Check, "Checkpoint": scenario.Checkpoint,
    "Disruption": recovery.Disruption, "Recovery strategy": recovery.RecoveryStrategy,
    "Data restore": data_restore.DataRestore, "Disaster recovery": disaster.DisasterRecovery,
    "Scenario": base.Scenario, "Upgrade": scenario.Upgrade, "Strategy": scenario.Strategy, "Partition": scenario.Partition,
    "Fresh deployment": fresh.FreshDeployment, "Fresh strategy": fresh.FreshStrategy,
    "Procedure": procedure.Procedure, "Procedure strategy": procedure.ProcedureStrategy,
    "Procedure step": procedure.ProcedureStep, "Known crash": procedure.KnownCrash,
    "Scale-out": scale_out.ScaleOut, "Scale-out strategy": scale_out.ScaleOutStrategy,
    "Machine replacement": replacement.MachineReplacement, "Replacement strategy": replacement.ReplacementStrategy,
    "Compute restore": compute_restore.ComputeRestore, "Restore strategy": compute_restore.RestoreStrategy,
}  # fmt: skip
"""Heading in files.md -> the model whose keys its table lists."""

FILLED_IN = {("Scenario", "name"), ("Upgrade", "strategies")}
"""Required by the model, but filled in from the file's name and from the built-in strategies."""


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", re.split(rf"^#+ {re.escape(heading)}$", page, maxsplit=1, flags=re.M)[1], maxsplit=1, flags=re.M)[0]


def rows(text: str) -> dict[str, list[str]]:
    """First cell, where it is `code` -> the other cells, of all tables in *text*."""
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, flags=re.M)
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in found}


def examples(page: str) -> dict[str, str]:
    """Name -> text of the blocks that are marked as runnable."""
    return dict(re.findall(r"^<!-- runnable: (\S+) -->\n```\w+\n(.*?)^```$", page, flags=re.M | re.S))


def test_every_metric_stands_in_the_table_with_its_unit_and_sense():
    table = rows(section(MODEL, "Metrics"))

    assert {name: [m.unit, m.better] for name, m in METRICS.items()} == {name: cells[:2] for name, cells in table.items()}


def test_every_verb_stands_in_the_table_of_effects():
    assert set(VERBS) == set(rows(section(MODEL, "Effects")))


@pytest.mark.parametrize(("heading", "model"), [("Fields of a plan", Plan), ("Fields of a step", Step)])
def test_every_field_of_a_plan_and_of_a_step_stands_in_its_table(heading, model):
    assert set(model.model_fields) == set(rows(section(MODEL, heading)))


@pytest.mark.parametrize("model", [Start, Release, Crash, Corruption, Judge, Gate], ids=lambda m: m.__name__)
def test_every_field_of_what_a_plan_is_made_of_is_named(model):
    plans = MODEL.partition("\n## Plans\n")[2].partition("\n## ")[0]

    assert set() == {name for name in model.model_fields if f"`{name}`" not in plans}


@pytest.mark.parametrize(("heading", "model"), DESCRIBED.items(), ids=list(DESCRIBED))
def test_every_key_of_the_files_stands_in_its_table_and_no_other(heading, model):
    table = rows(section(FILES, heading))
    common = set(base.Scenario.model_fields) - {"strategies"} if model is not base.Scenario and issubclass(model, base.Scenario) else set()
    keys = {field.alias or name: field for name, field in model.model_fields.items() if name not in common}

    assert set(keys) == set(table)
    for key, field in keys.items():
        required = field.is_required() and (heading, key) not in FILLED_IN
        assert required == (table[key][1] == "required"), key


def test_no_model_of_the_files_is_left_out():
    kinds = {sys.modules[kind.model.__module__] for kind in KINDS.values()}
    rooms = (models, stores, demand, policy, *kinds)
    found = {m for room in rooms for m in vars(room).values() if isinstance(m, type) and issubclass(m, models.Frozen)}

    # a daily level has the keys of a level; an input is made from the marks; a monitoring deployment has the keys of an upgrade;
    # both recoveries have the keys of a recovery
    alike = {demand.DailyLevel, models.Input, base.Choice, monitoring.MonitoringDeployment, recovery.RecoveryScenario}
    alike |= {replacement.Replacing, replacement.OnMachines}
    found -= {Plan, Step, Start, Crash, Judge, Gate}  # what makers make stands in the other page
    assert found - {models.Frozen} - alike == set(DESCRIBED.values())


def test_every_action_stands_in_a_table_of_actions():
    assert set(get_args(models.ActionName)) == set(rows(section(FILES, "Actions")))
    assert set(get_args(models.MachineAction)) == set(rows(section(FILES, "Machines")))


@pytest.mark.parametrize(
    "table", [units.TIME, units.RATE, units.SIZE, units.SPEED, units.FRACTION], ids=["time", "rate", "size", "speed", "share"]
)
def test_every_unit_is_named(table):
    assert set() == {unit for unit in table if f"`{unit}`" not in section(FILES, "Values")}


def test_every_family_of_durations_stands_in_both_pages_and_its_examples_are_durations():
    reader = TypeAdapter(Duration)
    table = rows(section(FILES, "Durations"))

    assert set(FAMILIES) == set(table) == set(rows(section(MODEL, "Durations")))
    for family, (_, given) in table.items():
        for example in re.findall(r"`([^`]+)`", given):
            read = reader.validate_python(YAML(typ="safe").load(example), context={"units_required": True})
            assert family == read.kind


def test_the_two_files_are_those_that_init_writes():
    assert {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.yaml")} == examples(FILES)


def test_the_two_files_run_and_give_the_numbers_that_stand_beside_them(tmp_path):
    write_starter(tmp_path)

    found = compare(load_scenario(tmp_path / "upgrade.yaml"), replications=72)

    failed = {name: outcome.values["failed_requests"][0] for name, outcome in found.outcomes.items()}
    assert {"all-at-once": pytest.approx(150 * 130), "rolling": 0} == failed
    assert "rolling" == found.recommended
    rolling = found.outcomes["rolling"]
    assert 540 == rolling.plan.horizon_s
    assert pytest.approx(1.0) == rolling.values["availability"][0] and vet(rolling.plan).is_clean
    assert pytest.approx(0.75) == rolling.values["machine_hours"][0]
    saved = {c.action: c.saved for c in found.causes["all-at-once"].culprits}
    assert pytest.approx(60) == saved["install"]  # of the downtime


def test_the_plan_by_hand_runs_and_gives_the_numbers_that_stand_below_it():
    outcome = simulate(Plan.from_json(examples(MODEL)["plan.json"]), replications=1)

    assert 1 == outcome.values["rolled_back"][0]
    assert 130 == outcome.values["makespan_s"][0]
    assert math.isclose(135, outcome.values["failed_requests"][0])


def anchors(page: pathlib.Path) -> set[str]:
    """What a link into a page may name: its headings, in small letters with dashes."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))

    for link in links:
        if re.match(r"\w+:", link):
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or target.suffix != ".md" or heading in anchors(target), link
