"""What several commands share: exit codes, options, reading a plan, printing."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from simdeploy.errors import StudyError

if TYPE_CHECKING:
    from simdeploy.plan.plan import Plan
    from simdeploy.tables import Table

F = TypeVar("F", bound=Callable[..., Any])

FINE, BAD_INPUT, DIFFERS, MISSED, INTERRUPTED, CLOSED = 0, 2, 3, 4, 130, 141
EXIT_CODES = {
    FINE: "done, or fine",
    1: "internal error",
    BAD_INPUT: "bad input or usage",
    DIFFERS: "plan, environment or hosts differ from what was vetted",
    MISSED: "a goal is missed, or there are findings",
    5: "a step failed and the plan halted",
    6: "an outcome is unknown",
    7: "locked by someone else",
    8: "rolled back",
    9: "paused, or the operator declined",
    74: "the journal cannot be written",
    INTERRUPTED: "interrupted",
    CLOSED: "the reader of the output went away",
}


def strategy_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completions: the strategies of the scenario that stands before the option."""
    parsed = context.params.get("scenario") or context.params.get("file")
    try:
        from simdeploy.planning.loading import load_scenario

        strategies = load_scenario(parsed or context.args[0]).strategies  # click parses no argument before an option without its value
        return [name for name in strategies if name.startswith(incomplete)]
    except Exception:  # whatever is wrong with the file, a half-typed line is no place to say it
        return []


def forecast_options(command: F) -> F:
    """The options that every forecast has."""
    for option in reversed(
        (
            click.option("--replications", type=click.IntRange(min=1), default=1000, show_default=True, help="Runs of each strategy."),
            click.option(
                "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides all luck; the same for every strategy."
            ),
            click.option("--jobs", type=click.IntRange(min=1), help="Processes; by default all cores where that pays. Changes no number."),
            click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True),
        )
    ):
        command = option(command)
    return command


ELSEWHERE = click.option(
    "--environment", metavar="FILE", type=click.Path(path_type=pathlib.Path), help="Another environment for the same scenario."
)


def read_plan(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None = None) -> Plan:
    """The plan of a JSON file with what lies beside it checked, or the one of a scenario's strategy.

    The strategy may be left out where there is but one.
    """
    from simdeploy.plan.files import read_plan_file

    if file.suffix == ".json":
        _refuse_choices(file, strategy, environment)
        return read_plan_file(file).plan
    return built_plan(file, strategy, environment)


def built_plan(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None = None) -> Plan:
    """Like `read_plan`, whatever lies beside a plan's file."""
    from simdeploy.plan.files import read_plan as read
    from simdeploy.planning.kinds import build_plan
    from simdeploy.planning.loading import load_scenario

    if file.suffix == ".json":
        _refuse_choices(file, strategy, environment)
        return read(file)
    scenario = load_scenario(file, environment)
    if strategy is None and len(scenario.strategies) > 1:
        raise StudyError(
            f"{str(file)!r} has {len(scenario.strategies)} strategies; name one with --strategy: {', '.join(scenario.strategies)}"
        )
    return build_plan(scenario, strategy or next(iter(scenario.strategies)))


def _refuse_choices(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None) -> None:
    if strategy is not None or environment is not None:
        raise StudyError(f"{str(file)!r} is a plan and has its strategy and environment; drop --strategy and --environment")


def print_table(table: Table) -> None:
    """Print *table* as wide as the terminal, or 80 columns."""
    from simdeploy.tables import text

    width = (
        max(80, shutil.get_terminal_size().columns) if sys.stdout is not None and sys.stdout.isatty() else 80
    )  # narrower would cut numbers
    click.echo(text(table, width))


def wrapped(text: str) -> str:
    """*text* with lines of at most 79 columns."""
    import textwrap

    return "\n".join(textwrap.fill(line, 79, break_on_hyphens=False) for line in text.splitlines())


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


def end(interrupted: bool, replications: int, goals_met: bool) -> None:
    """Exit with the code that says how a forecast ended; go on where all is well."""
    if interrupted:
        click.echo(f"simdeploy: interrupted; the numbers are of the first {replications} replications", err=True)
        sys.exit(INTERRUPTED)
    if not goals_met:
        sys.exit(MISSED)
