"""What commands share: their options, how they read plans and how they print."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from simdeploy.cli.program import INTERRUPTED, MISSED
from simdeploy.errors import StudyError

if TYPE_CHECKING:
    from simdeploy.plan.plan import Plan
    from simdeploy.simulation.outcome import Outcome
    from simdeploy.tables import Table

F = TypeVar("F", bound=Callable[..., Any])


def strategy_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completions: the strategies of the scenario that stands before the option."""
    parsed = context.params.get("scenario") or context.params.get("file")
    try:
        from simdeploy.planning.loading import load_scenario

        strategies = load_scenario(parsed or context.args[0]).strategies  # click parses no argument before an option without its value
        return [name for name in strategies if name.startswith(incomplete)]
    except Exception:  # whatever is wrong with the file, a half-typed line is no place to say it
        return []


def forecasting(command: F) -> F:
    """The options of the commands that show one forecast or several in one table."""
    return forecast_options(
        click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)(command)
    )


def forecast_options(command: F) -> F:
    """The options that decide a forecast."""
    for option in reversed(
        (
            click.option(
                "-n", "--replications", type=click.IntRange(min=1), default=1000, show_default=True, help="Runs of each strategy."
            ),
            click.option(
                "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides all luck; the same for every strategy."
            ),
            click.option("--jobs", type=click.IntRange(min=1), help="Processes; by default all cores where that pays. Changes no number."),
        )
    ):
        command = option(command)
    return command


ELSEWHERE = click.option(
    "--environment", metavar="FILE", type=click.Path(path_type=pathlib.Path), help="Another environment for the same scenario."
)


def read_plan(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None = None, how: str = "with --strategy") -> Plan:
    """The plan in *file* (JSON), or that of a *strategy* of the scenario there; *how* says where a strategy is named."""
    from simdeploy.planning.kinds import build_plan
    from simdeploy.planning.loading import load_scenario

    if file.suffix == ".json":
        from simdeploy.study.dossier import read_dossier

        if strategy is not None or environment is not None:
            raise StudyError(f"{str(file)!r} is a plan and has its strategy and environment; drop --strategy and --environment")
        return read_dossier(file).plan
    scenario = load_scenario(file, environment)
    if strategy is None and len(scenario.strategies) > 1:
        raise StudyError(f"{str(file)!r} has {len(scenario.strategies)} strategies; name one {how}: {', '.join(scenario.strategies)}")
    return build_plan(scenario, strategy or next(iter(scenario.strategies)))


def show(table: Table) -> None:
    """Print a table as wide as the terminal, at least 80 columns: narrower would cut numbers."""
    from simdeploy.tables import text

    width = max(80, shutil.get_terminal_size().columns) if sys.stdout is not None and sys.stdout.isatty() else 80
    click.echo(text(table, width))


def show_trace(trace: Any, style: str) -> None:
    """Print the records of a trace, a line each."""
    if style == "json":
        click.echo(json.dumps({"outcome": trace.outcome, "end_s": trace.end_s, "records": [r._asdict() for r in trace]}, indent=1))
    elif style == "csv":
        import pandas as pd

        click.echo(pd.DataFrame(list(trace.records)).to_csv(index=False), nl=False)
    else:
        for record in trace:
            click.echo(str(record))
        click.echo(f"outcome: {trace.outcome}")


def show_goals(outcome: Outcome) -> None:
    """Print whether each goal is met, a line each."""
    for result in outcome.goals():
        share = "" if result.probability is None else f" (its bound is kept in {100 * result.probability:.3g} % of the replications)"
        said = {True: "met", False: "MISSED", None: "too few replications to tell"}[result.met]
        click.echo(f"goal {result.goal}: {said}{share}")


def wrapped(text: str) -> str:
    """*text* in lines that fit into 80 columns, where no word is longer: a path must be there to be copied."""
    import textwrap

    return "\n".join(textwrap.fill(line, 79, break_on_hyphens=False, break_long_words=False) for line in text.splitlines())


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr where that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replications", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def end_forecast(interrupted: bool, replications: int, goals_met: bool) -> None:
    """End with the exit code of a forecast."""
    if interrupted:
        click.echo(f"simdeploy: interrupted; the numbers are of the first {replications} replications", err=True)
        sys.exit(INTERRUPTED)
    if not goals_met:
        sys.exit(MISSED)
