"""The command that explains one strategy: explain."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

import click

from simdeploy.cli.program import INTERRUPTED, main
from simdeploy.cli.shared import ELSEWHERE, forecasting, progress_bar, show, strategy_names, wrapped
from simdeploy.errors import StudyError

if TYPE_CHECKING:
    from simdeploy.study.explanation import Explanation, Part


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="Which strategy, if there are several.")
@ELSEWHERE
@forecasting
@click.option("--metric", metavar="NAME", help="What to explain beside the makespan; by default what the scenario prefers most.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(["criticality", "speedups", "sensitivity", "worst"]),
    multiple=True,
    help="Only this part; repeat for more. The sensitivity takes the longest.",
)
@click.option("--plot", metavar="DIR", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Write figures (PNG and SVG) there.")
def explain(
    scenario: pathlib.Path,
    strategy: str | None,
    environment: pathlib.Path | None,
    replications: int,
    seed: int,
    jobs: int | None,
    style: str,
    metric: str | None,
    parts: tuple[Part, ...],
    plot: pathlib.Path | None,
) -> None:
    """Explain one strategy of SCENARIO: what its runs wait for, what moves its forecast, and its worst run.

    With --format csv name one --part.
    """
    from simdeploy.planning.loading import load_scenario
    from simdeploy.study import explanation_overview as overview
    from simdeploy.study.explanation import PARTS
    from simdeploy.study.explanation import explain as run

    if style == "csv" and len(parts) != 1:
        raise StudyError("CSV holds one table; name one with --part, or use --format json or table")
    if scenario.suffix == ".json":
        raise StudyError(
            f"{str(scenario)!r} is a plan, and inputs are varied in the files that it was made of; name the scenario's YAML file"
        )
    loaded = load_scenario(scenario, environment)
    if strategy is None and len(loaded.strategies) > 1:
        known = ", ".join(loaded.strategies)
        raise StudyError(f"{str(scenario)!r} has {len(loaded.strategies)} strategies; name one with --strategy: {known}")
    try:
        with progress_bar() as progress:
            found = run(loaded, strategy or next(iter(loaded.strategies)), metric, replications, seed, jobs, progress, parts or PARTS)
    except KeyboardInterrupt:
        click.echo("simdeploy: interrupted; there is no explanation by half", err=True)
        sys.exit(INTERRUPTED)
    if style == "json":
        click.echo(found.to_json())
    elif style == "csv":
        click.echo(found.frame(parts[0]).to_csv(index=False), nl=False)
    else:
        for table in overview.tables(found):
            show(table)
        for sentence in overview.sentences(found):
            click.echo(wrapped(sentence))
    if plot is not None:
        _plot(found, plot)


def _plot(found: Explanation, folder: pathlib.Path) -> None:
    from simdeploy.report.explanation_figures import save_explanation

    try:
        written = save_explanation(found, folder)
    except OSError as error:
        raise StudyError(f"figures cannot be written to {str(folder)!r} ({error.strerror}); name a folder that you may write to") from None
    click.echo(f"{len(written)} figures in {folder}", err=True)
