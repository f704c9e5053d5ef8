"""The command that writes a page for others to read: report."""

from __future__ import annotations

import pathlib
import shlex

import click

from simdeploy.cli.program import main
from simdeploy.cli.shared import ELSEWHERE, end_forecast, forecast_options, progress_bar, strategy_names
from simdeploy.errors import StudyError


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=pathlib.Path, dir_okay=False), help="The HTML file to write.")
@click.option(
    "--strategy", metavar="NAME", shell_complete=strategy_names, help="The one that is shown in detail; by default the recommended one."
)
@ELSEWHERE
@forecast_options
def report(
    scenario: pathlib.Path,
    output: pathlib.Path,
    strategy: str | None,
    environment: pathlib.Path | None,
    replications: int,
    seed: int,
    jobs: int | None,
) -> None:
    """Write one HTML page about SCENARIO: which strategy to take, why, and all that stands behind it.

    The page needs nothing else: no network, no script. It can be mailed, printed and read on a phone.
    """
    from simdeploy.planning.loading import load_scenario
    from simdeploy.report.page import report_page
    from simdeploy.study.comparison import chosen, compare

    loaded = load_scenario(scenario, environment)
    for warning in loaded.warnings():
        click.echo(f"simdeploy: warning: {warning}", err=True)
    if strategy is not None:
        chosen(loaded, [strategy])  # a name that is not there is said before the simulation
    with progress_bar() as progress:
        comparison = compare(loaded, replications, seed, jobs=jobs, progress=progress)
    words = ["simdeploy", "report", str(scenario), "-o", str(output)]
    words += ["--strategy", strategy] if strategy else []
    words += ["--environment", str(environment)] if environment else []
    page = report_page(comparison, strategy, shlex.join([*words, "--replications", str(replications), "--seed", str(seed)]))
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"the page cannot be written to {str(output)!r} ({error.strerror}); name a file that you may write") from None
    click.echo(f"{output}: {len(page.encode()) / 1000:.0f} kB; recommended: {comparison.recommended}", err=True)
    end_forecast(comparison.interrupted, comparison.replications, goals_met=True)
