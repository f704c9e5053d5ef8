"""The command line: each command parses, calls one function of the library, prints its text and returns an exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from simdeploy.errors import PlanError, SimdeployError, StudyError

if TYPE_CHECKING:
    from simdeploy.plan.plan import Plan
    from simdeploy.simulation.outcome import Outcome
    from simdeploy.study.comparison import Comparison
    from simdeploy.study.robustness import Robustness
    from simdeploy.tables import Table

F = TypeVar("F", bound=Callable[..., Any])

FINE, BAD_INPUT, MISSED, INTERRUPTED, CLOSED = 0, 2, 4, 130, 141
EXIT_CODES = {
    FINE: "done, or fine",
    1: "internal error",
    BAD_INPUT: "bad input or usage",
    3: "plan, environment or hosts differ from what was vetted",
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
EPILOG = "\b\nExit codes (one table for the whole program):\n" + "\n".join(
    f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()
)


@contextlib.contextmanager
def _quiet_when_closed() -> Iterator[None]:
    """End without a word where the reader of our output has gone, as in `simdeploy ... | head -1`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        os._exit(CLOSED)  # the interpreter would try to write the rest once more


class _Program(click.Group):
    """Turns our errors into a message on stderr and exit code 2."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _quiet_when_closed():  # --help prints here
            return super().make_context(*arguments, **more)

    @_quiet_when_closed()
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SimdeployError as error:
            click.echo(f"simdeploy: {error}" if "\n" not in str(error) else str(error), err=True)
            ctx.exit(BAD_INPUT)
        except OSError as error:  # what the library reads and writes it reports itself: this is our own output
            if error.errno == errno.EPIPE:
                raise
            with contextlib.suppress(OSError):
                click.echo(f"simdeploy: the output cannot be written ({error.strerror}); make room or write elsewhere", err=True)
            os._exit(1)  # the interpreter would try to write the rest once more
        except KeyboardInterrupt:
            click.echo("simdeploy: interrupted before the first replications were done", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Program, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="simdeploy")
def main() -> None:
    """Forecast deployments before anything is touched.

    Start with: simdeploy init
    """


def _strategy_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completions: the strategies of the scenario that stands before the option."""
    parsed = context.params.get("scenario") or context.params.get("file")
    try:
        from simdeploy.planning.loading import load_scenario

        strategies = load_scenario(parsed or context.args[0]).strategies  # click parses no argument before an option without its value
        return [name for name in strategies if name.startswith(incomplete)]
    except Exception:  # whatever is wrong with the file, a half-typed line is no place to say it
        return []


def _forecasting(command: F) -> F:
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


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
@_forecasting
@click.option("--baseline", metavar="NAME", shell_complete=_strategy_names, help="The strategy that the others are compared with.")
@click.option(
    "--strategy", "strategies", metavar="NAME", shell_complete=_strategy_names, multiple=True, help="Only this one; repeat for more."
)
@click.option("--robust", "varied", is_flag=True, help="Also halve and double each assumed input: does the recommendation hold?")
@click.option("--plot", metavar="DIR", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Write figures (PNG and SVG) there.")
def compare(
    scenario: pathlib.Path,
    environment: pathlib.Path | None,
    replications: int,
    seed: int,
    jobs: int | None,
    style: str,
    baseline: str | None,
    strategies: tuple[str, ...],
    varied: bool,
    plot: pathlib.Path | None,
) -> None:
    """Compare the strategies of SCENARIO: goals, metrics, differences, and which to take.

    Exits with 4 when no strategy meets all goals.
    """
    from simdeploy.planning.loading import load_scenario
    from simdeploy.study import overview
    from simdeploy.study.comparison import compare as run

    if varied and style == "csv":
        raise StudyError("--robust is a second table and CSV holds one; use --format json or table")
    loaded = load_scenario(scenario, environment)
    for warning in loaded.warnings():
        click.echo(f"simdeploy: warning: {warning}", err=True)
    with _progress() as progress:
        comparison = run(loaded, replications, seed, baseline, list(strategies) or None, jobs, progress)
    varied = varied and not comparison.interrupted
    robustness: Robustness | None = None
    if style == "json":
        robustness = _robustness(comparison, jobs) if varied else None
        content = comparison.to_dict() | ({"robustness": robustness.to_dict()} if robustness else {})
        click.echo(json.dumps(content, indent=1, allow_nan=False))
    elif style == "csv":
        click.echo(comparison.frame().to_csv(index=False), nl=False)
    else:
        _print(overview.compared(comparison))
        if comparison.ends_differ:
            _print(overview.ends(comparison))
        if loaded.goals:
            _print(overview.goals_met(comparison))
        if len(comparison.outcomes) > 1:
            _print(overview.differences(comparison))
        click.echo(_wrapped(overview.verdict(comparison)))
        if varied:
            robustness = _robustness(comparison, jobs)
        if robustness:
            click.echo()
            table = overview.robust(robustness)
            if table.rows:
                _print(table)
            click.echo(_wrapped(robustness.sentence))
    if plot is not None:
        from simdeploy.report.figures import save_figures

        try:
            written = save_figures(comparison, plot)
        except OSError as error:
            raise StudyError(
                f"figures cannot be written to {str(plot)!r} ({error.strerror}); name a folder that you may write to"
            ) from None
        click.echo(f"{len(written)} figures in {plot}", err=True)
    if varied and (robustness is None or robustness.interrupted):
        how = f"the inputs were varied with {robustness.outcome.replications} replications" if robustness else "no input was varied"
        click.echo(f"simdeploy: interrupted; the comparison is whole, {how}", err=True)
        sys.exit(INTERRUPTED)
    _end(comparison.interrupted, comparison.replications, comparison.all_goals_met)


def _robustness(comparison: Comparison, jobs: int | None) -> Robustness | None:
    """The variation of the assumed inputs, with no more replications than the comparison has; None where Ctrl-C came before any."""
    from simdeploy.study.robustness import REPLICATIONS, vary_inputs

    replications = min(REPLICATIONS, comparison.replications)
    try:
        with _progress() as progress:
            return vary_inputs(comparison.scenario, replications, comparison.seed, list(comparison.outcomes), jobs, progress)
    except KeyboardInterrupt:
        return None


@main.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--strategy",
    metavar="NAME",
    shell_complete=_strategy_names,
    help="Which strategy of a scenario, if it has several; a plan has its own.",
)
@ELSEWHERE
@_forecasting
@click.option("--trace", "traced", is_flag=True, help="Print the events of one replication instead.")
@click.option("--replication", type=click.IntRange(min=0), default=0, show_default=True, help="Which one --trace prints.")
def simulate(
    file: pathlib.Path,
    strategy: str | None,
    environment: pathlib.Path | None,
    replications: int,
    seed: int,
    jobs: int | None,
    style: str,
    traced: bool,
    replication: int,
) -> None:
    """Forecast one strategy of a scenario, or a plan (JSON).

    Exits with 4 when a goal is missed.
    """
    from simdeploy.simulation.outcome import simulate as run
    from simdeploy.simulation.outcome import trace
    from simdeploy.simulation.overview import forecast

    plan = _plan(file, strategy, environment)
    if traced:
        _print_trace(trace(plan, seed, replication), style)
        return
    with _progress() as progress:
        outcome = run(plan, replications, seed, jobs, progress)
    if style == "json":
        click.echo(outcome.to_json())
    elif style == "csv":
        click.echo(outcome.frame().to_csv(), nl=False)
    else:
        _print(forecast(outcome))
        _print_goals(outcome)
    _end(outcome.interrupted, outcome.replications, all(g.met for g in outcome.goals()))


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
@click.option("--strategy", metavar="NAME", shell_complete=_strategy_names, help="Which strategy, if there are several.")
@click.option(
    "-o", "--output", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="The file to write; by default standard output."
)
def plan(scenario: pathlib.Path, strategy: str | None, environment: pathlib.Path | None, output: pathlib.Path | None) -> None:
    """Write the plan of one strategy as JSON."""
    built = _plan(scenario, strategy, environment)
    if output is None:
        click.echo(built.to_json())
        return
    try:
        output.write_text(built.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError(f"the plan cannot be written to {str(output)!r} ({error.strerror}); name a file that you may write") from None
    click.echo(f"{output}: {len(built.steps)} steps, sha256 {built.digest}", err=True)


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
        read = _plan(file, None)
        _print(tiers(read.environment))
        _print(steps(read))
        click.echo(f"{file}: a sound plan, sha256 {read.digest}")
        return
    loaded = load(file)
    environment = loaded.environment if isinstance(loaded, Scenario) else loaded
    _print(tiers(environment))
    click.echo(_wrapped(standing_sentence(environment)) + "\n")
    if isinstance(loaded, Scenario):
        _print(chosen(loaded))
        for warning in loaded.warnings():
            click.echo(_wrapped(f"warning: {warning}"))
        plans = build_plans(loaded)
        have = "plan has" if len(plans) == 1 else f"{len(plans)} plans have"
        click.echo(f"{file}: a sound scenario; its {have} {', '.join(str(len(p.steps)) for p in plans.values())} steps")
    else:
        click.echo(f"{file}: a sound environment")


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
    _print(built_in_strategies(loaded))


@main.command()
def scenarios() -> None:
    """List the kinds of scenarios: what is done in each, and what to read it for."""
    from simdeploy.planning.overview import scenarios as kinds

    _print(kinds())


@main.command()
@click.argument("environment", type=click.Path(path_type=pathlib.Path))
@_forecasting
@click.option("--all", "every", is_flag=True, help="Show every disruption, not only the worst of each kind.")
def resilience(environment: pathlib.Path, replications: int, seed: int, jobs: int | None, style: str, every: bool) -> None:
    """Show what each disruption would cost ENVIRONMENT, against its policy, and what would mend each breach.

    Exits with 4 when an objective of the policy is missed.
    """
    from simdeploy.environment.models import Environment
    from simdeploy.planning.loading import load
    from simdeploy.study.resilience import resilience as run
    from simdeploy.study.resilience_overview import breaches, matrix

    if environment.suffix == ".json":
        raise StudyError(f"{str(environment)!r} is a plan, and resilience is about an environment; name the environment's YAML file")
    loaded = load(environment)
    if not isinstance(loaded, Environment):
        what = f"{str(environment)!r} is a scenario, and resilience is about an environment"
        raise StudyError(f"{what}; name the file that stands there under 'environment'")
    with _progress() as progress:
        found = run(loaded, replications, seed, jobs, progress)
    if style == "json":
        click.echo(found.to_json())
    elif style == "csv":
        click.echo(found.frame().to_csv(index=False), nl=False)
    else:
        _print(matrix(found, every))
        click.echo(_wrapped(breaches(found)))
    _end(found.interrupted, found.replications, found.all_met)


@main.command()
@click.argument("file", type=click.Choice(["environment", "scenario"]))
def schema(file: str) -> None:
    """Print the JSON Schema of a kind of file, by which editors complete and check it."""
    from simdeploy.planning.schema import schema_text

    click.echo(schema_text(file))


def _plan(file: pathlib.Path, strategy: str | None, environment: pathlib.Path | None = None) -> Plan:
    from simdeploy.plan.plan import Plan
    from simdeploy.planning.kinds import build_plan
    from simdeploy.planning.loading import load_scenario

    if file.suffix == ".json":
        if strategy is not None or environment is not None:
            raise StudyError(f"{str(file)!r} is a plan and has its strategy and environment; drop --strategy and --environment")
        try:
            return Plan.from_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise PlanError(f"{file}: cannot be read ({error.strerror}); name a file written by 'simdeploy plan'") from None
        except (PlanError, UnicodeDecodeError) as error:
            raise PlanError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
    scenario = load_scenario(file, environment)
    if strategy is None and len(scenario.strategies) > 1:
        raise StudyError(
            f"{str(file)!r} has {len(scenario.strategies)} strategies; name one with --strategy: {', '.join(scenario.strategies)}"
        )
    return build_plan(scenario, strategy or next(iter(scenario.strategies)))


def _print(table: Table) -> None:
    from simdeploy.tables import text

    width = (
        max(80, shutil.get_terminal_size().columns) if sys.stdout is not None and sys.stdout.isatty() else 80
    )  # narrower would cut numbers
    click.echo(text(table, width))


def _print_trace(trace: Any, style: str) -> None:
    if style == "json":
        click.echo(json.dumps({"outcome": trace.outcome, "end_s": trace.end_s, "records": [r._asdict() for r in trace]}, indent=1))
    elif style == "csv":
        import pandas as pd

        click.echo(pd.DataFrame(list(trace.records)).to_csv(index=False), nl=False)
    else:
        for record in trace:
            click.echo(str(record))
        click.echo(f"outcome: {trace.outcome}")


def _print_goals(outcome: Outcome) -> None:
    for result in outcome.goals():
        share = "" if result.probability is None else f" (its bound is kept in {100 * result.probability:.3g} % of the replications)"
        said = {True: "met", False: "MISSED", None: "too few replications to tell"}[result.met]
        click.echo(f"goal {result.goal}: {said}{share}")


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.fill(line, 79, break_on_hyphens=False) for line in text.splitlines())


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr where that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replications", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _end(interrupted: bool, replications: int, goals_met: bool) -> None:
    if interrupted:
        click.echo(f"simdeploy: interrupted; the numbers are of the first {replications} replications", err=True)
        sys.exit(INTERRUPTED)
    if not goals_met:
        sys.exit(MISSED)
