"""Commands about plans: plan, vet, diff, check."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING

import click

from simdeploy.cli.program import MISSED, main
from simdeploy.cli.shared import ELSEWHERE, end_forecast, forecast_options, progress_bar, read_plan, show, strategy_names, wrapped
from simdeploy.errors import PlanError, StudyError

if TYPE_CHECKING:
    from simdeploy.plan.plan import Plan


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="Which strategy, if there are several.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="The file to write, with the result of vetting and the forecast beside it; by default the plan alone to standard output.",
)
@click.option("--replications", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the forecast beside it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the forecast beside it.")
def plan(
    scenario: pathlib.Path,
    strategy: str | None,
    environment: pathlib.Path | None,
    output: pathlib.Path | None,
    replications: int,
    seed: int,
) -> None:
    """Write the plan of one strategy as JSON, vetted and forecast.

    The plan, PLAN.vetting.json and PLAN.forecast.json name the same digest; what reads the plan refuses them when they do not.
    """
    from simdeploy.plan.overview import verdict
    from simdeploy.study.dossier import dossier, write_dossier

    built = read_plan(scenario, strategy, environment)
    if output is None:
        click.echo(built.to_json())
        return
    with progress_bar() as progress:
        known = dossier(built, replications, seed, progress)
    written = write_dossier(known, output)
    assert known.vetting is not None
    click.echo(f"{', '.join(map(str, written))}: {len(built.steps)} steps, sha256 {built.digest}", err=True)
    click.echo(wrapped(verdict(known.vetting)), err=True)


@main.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="Only this strategy of a scenario, with all its findings.")
@ELSEWHERE
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def vet(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None, style: str) -> None:
    """Prove what holds of a plan (JSON) or of a scenario's strategies for every timing.

    Exits with 4 when there are findings; of several strategies, when none is clean.
    """
    from simdeploy.plan import overview
    from simdeploy.planning.kinds import build_plans
    from simdeploy.planning.loading import load_scenario
    from simdeploy.vetting.vet import vet as run

    if file.suffix == ".json" or strategy is not None:
        plans = {"": read_plan(file, strategy, environment)}
    else:
        plans = build_plans(load_scenario(file, environment))
    found = {name: run(built) for name, built in plans.items()}
    if style == "json":
        content = {name: json.loads(vetting.to_json()) for name, vetting in found.items()}
        click.echo(json.dumps(next(iter(content.values())) if len(content) == 1 else content, indent=1))
    elif len(found) > 1:
        show(overview.vetted(found))
    else:
        [vetting], [built] = found.values(), plans.values()
        show(overview.floors(vetting))
        for one in vetting.findings:
            click.echo(wrapped(overview.finding(one, built)) + "\n")
        click.echo(wrapped("\n".join([*vetting.accepted, overview.verdict(vetting)])))
    if not any(vetting.is_clean for vetting in found.values()):
        sys.exit(MISSED)


@main.command()
@click.argument("a")
@click.argument("b")
@forecast_options
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def diff(a: str, b: str, replications: int, seed: int, jobs: int | None, style: str) -> None:
    """Show how plan B differs from plan A: steps, environment and settings, forecast, goals and findings.

    Each is a plan (JSON) or a strategy of a scenario, written FILE:STRATEGY:

    \b
      simdeploy diff plan.json new.json
      simdeploy diff upgrade.yaml:all-at-once upgrade.yaml:rolling

    Exits with 0 whether they differ or not.
    """
    from simdeploy.study.difference import difference
    from simdeploy.study.difference_overview import tables
    from simdeploy.study.difference_overview import verdict as said

    plans = _side(a), _side(b)
    with progress_bar() as progress:
        found = difference(*plans, replications, seed, jobs, progress)
    if style == "json":
        click.echo(found.to_json())
    else:
        click.echo(wrapped(said(found)) + "\n")
        for table in tables(found):
            show(table)
    end_forecast(found.interrupted, found.outcomes[0].replications if found.outcomes else 0, goals_met=True)


def _side(text: str) -> Plan:
    """The plan that FILE or FILE:STRATEGY names."""
    file, _, strategy = (text, "", "") if pathlib.Path(text).exists() else text.rpartition(":")
    if not file:
        file, strategy = strategy, ""
    if strategy and file.endswith(".json"):
        raise StudyError(f"{text!r}: {file!r} is a plan and has its strategy; write {file!r} alone")
    return read_plan(pathlib.Path(file), strategy or None, how="as FILE:STRATEGY")


@main.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path))
def check(file: pathlib.Path) -> None:
    """Check a scenario, environment or plan, and show what was understood."""
    from simdeploy.environment.overview import tiers
    from simdeploy.plan.overview import steps
    from simdeploy.plan.standing import standing_sentence
    from simdeploy.planning.base import Scenario
    from simdeploy.planning.kinds import build_plans
    from simdeploy.planning.loading import load
    from simdeploy.planning.overview import strategies as chosen

    if file.suffix == ".json":
        read = read_plan(file, None)
        show(tiers(read.environment))
        show(steps(read))
        click.echo(f"{file}: a sound plan, sha256 {read.digest}")
        return
    loaded = load(file)
    environment = loaded.environment if isinstance(loaded, Scenario) else loaded
    show(tiers(environment))
    click.echo(wrapped(standing_sentence(environment)) + "\n")
    if isinstance(loaded, Scenario):
        show(chosen(loaded))
        for warning in loaded.warnings():
            click.echo(wrapped(f"warning: {warning}"))
        plans = build_plans(loaded)
        have = "plan has" if len(plans) == 1 else f"{len(plans)} plans have"
        click.echo(f"{file}: a sound scenario; its {have} {', '.join(str(len(p.steps)) for p in plans.values())} steps")
    else:
        click.echo(f"{file}: a sound environment")


@main.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option("--to", required=True, type=click.Choice(["markdown", "html", "ansible", "ansible-inventory", "shell", "mermaid"]))
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="Which strategy of a scenario, if there are several.")
@ELSEWHERE
@click.option(
    "-o", "--output", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="The file to write; by default standard output."
)
@click.option("--replications", type=click.IntRange(min=1), default=1000, show_default=True, help="Of a scenario's forecast.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of a scenario's forecast.")
def export(
    file: pathlib.Path,
    to: str,
    strategy: str | None,
    environment: pathlib.Path | None,
    output: pathlib.Path | None,
    replications: int,
    seed: int,
) -> None:
    """Print a plan (JSON), or that of a scenario's strategy, for people or for other tools.

    Runbooks (markdown, html) tell what was found and forecast: of a plan what lies beside it, of a scenario what is worked out
    now. Each form says which promises it loses.
    """
    from simdeploy.export.formats import export as run
    from simdeploy.plan.overview import verdict
    from simdeploy.study.dossier import Dossier, dossier, read_dossier
    from simdeploy.vetting.vet import vet as vet_plan

    if file.suffix == ".json" and strategy is None and environment is None:
        known = read_dossier(file)
    else:
        built = read_plan(file, strategy, environment)
        if to in ("markdown", "html"):
            with progress_bar() as progress:
                known = dossier(built, replications, seed, progress)
        else:
            known = Dossier(built, vet_plan(built), None)
    text = run(known.plan, to, known.vetting, known.forecast)
    if known.vetting is not None and not known.vetting.is_clean:
        click.echo(wrapped(f"{verdict(known.vetting)} See 'simdeploy vet {file}' before anybody follows it."), err=True)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError(f"the export cannot be written to {str(output)!r} ({error.strerror}); name a file that you may write") from None
    click.echo(f"{output}: {to} of the plan {known.plan.digest[:12]}", err=True)
