"""Commands about the files that people write, and what may stand in them."""

from __future__ import annotations

import pathlib

import click

from simdeploy.cli.program import main
from simdeploy.cli.shared import ELSEWHERE, show
from simdeploy.errors import StudyError


@main.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=pathlib.Path))
def init(folder: pathlib.Path) -> None:
    """Write a small environment and an upgrade of it into DIR (by default here), to be changed to yours."""
    import shlex

    from simdeploy.planning.starter import write_starter

    written = write_starter(folder)
    click.echo(f"Written: {', '.join(map(str, written))}\nNext: simdeploy compare {shlex.quote(str(written[-1]))}")


@main.command()
@click.argument("scenario", required=False, type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
def strategies(scenario: pathlib.Path | None, environment: pathlib.Path | None) -> None:
    """List the built-in strategies; with a SCENARIO, those that make sense there and why the others do not."""
    from simdeploy.planning.loading import load_scenario
    from simdeploy.planning.overview import built_in_strategies
    from simdeploy.planning.scenario import Upgrade

    if scenario is None and environment is not None:
        raise StudyError("--environment says where a scenario runs; name the SCENARIO too")
    loaded = None if scenario is None else load_scenario(scenario, environment)
    if loaded is not None and not isinstance(loaded, Upgrade):
        known = ", ".join(loaded.strategies)
        raise StudyError(f"{str(scenario)!r} is a {loaded.scenario}, and built-in strategies are for upgrades; it has its own: {known}")
    show(built_in_strategies(loaded))


@main.command()
def scenarios() -> None:
    """List the kinds of scenarios: what is done in each, and what to read it for."""
    from simdeploy.planning.overview import scenarios as kinds

    show(kinds())


@main.command()
@click.argument("file", type=click.Choice(["environment", "scenario"]))
def schema(file: str) -> None:
    """Print the JSON Schema of a kind of file, by which editors complete and check it."""
    from simdeploy.planning.schema import schema_text

    click.echo(schema_text(file))
