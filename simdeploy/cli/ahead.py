"""The command that plans capacity ahead: capacity."""

from __future__ import annotations

import pathlib

import click

from simdeploy.cli.program import main
from simdeploy.cli.shared import ELSEWHERE, progress_bar, show, strategy_names
from simdeploy.errors import StudyError


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="By default the recommended one.")
@ELSEWHERE
@click.option("--growth", "growths", multiple=True, type=click.FloatRange(min=0.01, max=1000), help="Times the demand; may be repeated.")
@click.option("--demand", metavar="FILE", type=click.Path(path_type=pathlib.Path), help="A day or week as time_s,rate_per_s (CSV).")
@click.option("-n", "--replications", type=click.IntRange(min=1), default=100, show_default=True, help="Of each forecast.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes. Changes no number.")
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--part", type=click.Choice(["headroom", "spare", "needs", "waits", "enough", "windows"]), help="What --format csv prints.")
@click.option("--plot", metavar="DIR", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Write figures there.")
def capacity(
    scenario: pathlib.Path,
    strategy: str | None,
    environment: pathlib.Path | None,
    growths: tuple[float, ...],
    demand: pathlib.Path | None,
    replications: int,
    seed: int,
    jobs: int | None,
    style: str,
    part: str | None,
    plot: pathlib.Path | None,
) -> None:
    """Say how much is carried while a strategy runs, how many machines each tier needs, what users wait, and when to begin."""
    from simdeploy.environment.curves import read_curve
    from simdeploy.planning.loading import load_scenario
    from simdeploy.report.capacity_figures import save_capacity_figures
    from simdeploy.study import capacity as planning
    from simdeploy.study.capacity_overview import tables
    from simdeploy.study.windows import WEEK_S

    if (style == "csv") != (part is not None):
        raise StudyError("one part is printed as CSV; give --format csv and --part together")
    loaded = load_scenario(scenario, environment)
    curve = read_curve(demand, WEEK_S) if demand is not None else None
    chosen = tuple(sorted(set(growths))) or planning.GROWTHS
    with progress_bar() as progress:
        found = planning.capacity(loaded, strategy, chosen, curve, replications, seed, jobs, progress)
    if part is not None:
        click.echo(found.frame(part).to_csv(index=False), nl=False)
    elif style == "json":
        click.echo(found.to_json())
    else:
        for table in tables(found):
            show(table)
    if plot is not None:
        click.echo(f"Written: {', '.join(map(str, save_capacity_figures(found, plot)))}", err=True)
