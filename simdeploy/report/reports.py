"""What is shown of each shipped scenario: `python -m simdeploy.report.reports scenarios reports`.

The comparison as Markdown with figures and as one page, and the runbook of the plan that is recommended.
"""

from __future__ import annotations

import pathlib
import re
import sys

from simdeploy.environment.overview import tiers
from simdeploy.export.formats import export
from simdeploy.plan.standing import standing_sentence
from simdeploy.planning.loading import load_scenario
from simdeploy.planning.overview import strategies
from simdeploy.report import figures
from simdeploy.report.page import dossier_of, report_page
from simdeploy.study import overview
from simdeploy.study.comparison import Comparison, compare
from simdeploy.tables import markdown

SEED = 1
REPLICATIONS, OF_LARGE_ONES, LARGE = 1000, 200, 50
"""Of each strategy; fewer where an environment has so many machines that the plans are long."""


def scenario_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The scenario files below *folder*, sorted: those whose text says which scenario they are."""
    return sorted(p for p in folder.rglob("*.yaml") if re.search("^scenario:", p.read_text(encoding="utf-8"), re.MULTILINE))


def name_of(path: pathlib.Path) -> str:
    """The report's name of a scenario file: folder and stem."""
    return f"{path.parent.name}-{path.stem}"


def compared(path: pathlib.Path) -> Comparison:
    """The comparison that the report of the scenario at *path* is made of."""
    scenario = load_scenario(path)
    return compare(scenario, REPLICATIONS if len(scenario.environment.machines) <= LARGE else OF_LARGE_ONES, SEED)


def texts(comparison: Comparison, path: pathlib.Path) -> dict[str, str]:
    """File name -> text of all that is written of the scenario at *path*, but the figures; the same scenario gives the same texts."""
    name = name_of(path)
    command = f"simdeploy report {path.as_posix()} -o {name}.html --replications {comparison.replications} --seed {SEED}"
    known = dossier_of(comparison, comparison.recommended)
    return {
        f"{name}.md": report(comparison, path),
        f"{name}.html": report_page(comparison, command=command, known=known),
        f"{name}-runbook.md": export(known.plan, "markdown", known.vetting, known.forecast).rstrip() + "\n",
    }


def report(comparison: Comparison, path: pathlib.Path) -> str:
    """The comparison of the scenario at *path* as Markdown; the same scenario gives the same text."""
    name, recommended = name_of(path), comparison.recommended
    environment = comparison.scenario.environment
    goals = [f"## Goals\n\n{markdown(overview.goals_met(comparison))}"] if comparison.scenario.goals else []
    parts = [
        f"# {comparison.scenario.title or comparison.scenario.name}",
        f"**Recommended: {recommended}.** {_sentence(comparison.because)} {comparison.causes[recommended].sentence}",
        f"Made by `make reports`; the same numbers: `simdeploy compare {path.as_posix()}"
        f" --replications {comparison.replications} --seed {SEED}`."
        f" More on one page, to be opened in a browser: [{name}.html]({name}.html). Step by step: [the runbook]({name}-runbook.md).",
        f"## Strategies\n\n{markdown(overview.compared(comparison))}",
        f"![Capacity against demand over time, one panel per strategy]({name}/capacity.png)",
        *([f"## How the runs end\n\n{markdown(overview.ends(comparison))}"] if comparison.ends_differ else []),
        *goals,
        f"## {overview.differences(comparison).title}\n\n{markdown(overview.differences(comparison))}",
        "## Where the cost comes from\n\n" + "\n".join(f"- **{n}**: {cause.sentence}" for n, cause in comparison.causes.items()),
        f"## Schedule of {recommended}\n\n![Its steps over time, every duration at its mean]({name}/gantt.png)",
        f"## Environment and strategies\n\n{markdown(tiers(environment))}",
        standing_sentence(environment),
        markdown(strategies(comparison.scenario)),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _sentence(because: str) -> str:
    return f"{because[0].upper()}{because[1:]}."


def write(scenarios: pathlib.Path, target: pathlib.Path) -> list[pathlib.Path]:
    """Write a report with its figures for every scenario below *scenarios* into *target*; the files written."""
    written = []
    for path in scenario_files(scenarios):
        comparison = compared(path)
        folder = target / name_of(path)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {
            "capacity": figures.capacity_figure(comparison),
            "gantt": figures.gantt_figure(comparison.outcomes[comparison.recommended].plan),
        }
        for name, figure in pictures.items():
            written.append(folder / f"{name}.png")
            figures.save_small(figure, written[-1])
        for name, text in texts(comparison, path).items():
            written.append(target / name)
            written[-1].write_text(text, encoding="utf-8")
    return written


if __name__ == "__main__":
    for file in write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])):
        print(file)
