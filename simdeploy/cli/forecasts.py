"""Commands that simulate: compare, simulate, resilience."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING

import click

from simdeploy.cli.program import INTERRUPTED, main
from simdeploy.cli.shared import (
    ELSEWHERE,
    end_forecast,
    forecasting,
    progress_bar,
    read_plan,
    show,
    show_goals,
    show_trace,
    strategy_names,
    wrapped,
)
from simdeploy.errors import StudyError

if TYPE_CHECKING:
    from simdeploy.plan.plan import Plan
    from simdeploy.study.comparison import Comparison
    from simdeploy.study.robustness import Robustness


@main.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
@forecasting
@click.option("--baseline", metavar="NAME", shell_complete=strategy_names, help="The strategy that the others are compared with.")
@click.option(
    "--strategy", "strategies", metavar="NAME", shell_complete=strategy_names, multiple=True, help="Only this one; repeat for more."
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
    with progress_bar() as progress:
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
        show(overview.compared(comparison))
        if comparison.ends_differ:
            show(overview.ends(comparison))
        if loaded.goals:
            show(overview.goals_met(comparison))
        if len(comparison.outcomes) > 1:
            show(overview.differences(comparison))
        click.echo(wrapped(overview.verdict(comparison)))
        if varied:
            robustness = _robustness(comparison, jobs)
        if robustness:
            click.echo()
            table = overview.robust(robustness)
            if table.rows:
                show(table)
            click.echo(wrapped(robustness.sentence))
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
    end_forecast(comparison.interrupted, comparison.replications, comparison.all_goals_met)


def _robustness(comparison: Comparison, jobs: int | None) -> Robustness | None:
    """The variation of the assumed inputs, with no more replications than the comparison has; None where Ctrl-C came before any."""
    from simdeploy.study.robustness import REPLICATIONS, vary_inputs

    replications = min(REPLICATIONS, comparison.replications)
    try:
        with progress_bar() as progress:
            return vary_inputs(comparison.scenario, replications, comparison.seed, list(comparison.outcomes), jobs, progress)
    except KeyboardInterrupt:
        return None


@main.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--strategy",
    metavar="NAME",
    shell_complete=strategy_names,
    help="Which strategy of a scenario, if it has several; a plan has its own.",
)
@ELSEWHERE
@forecasting
@click.option("--trace", "traced", is_flag=True, help="Print the events of one replication instead.")
@click.option("--witness", metavar="ID", help="Replay a run that reaches the state of this finding of 'simdeploy vet'.")
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
    witness: str | None,
    replication: int,
) -> None:
    """Forecast one strategy of a scenario, or a plan (JSON).

    Exits with 4 when a goal is missed.
    """
    from simdeploy.simulation.outcome import simulate as run
    from simdeploy.simulation.outcome import trace
    from simdeploy.simulation.overview import forecast

    plan = read_plan(file, strategy, environment)
    if witness is not None:
        _replay(plan, witness, style)
        return
    if traced:
        show_trace(trace(plan, seed, replication), style)
        return
    with progress_bar() as progress:
        outcome = run(plan, replications, seed, jobs, progress)
    if style == "json":
        click.echo(outcome.to_json())
    elif style == "csv":
        click.echo(outcome.frame().to_csv(), nl=False)
    else:
        show(forecast(outcome))
        show_goals(outcome)
    end_forecast(outcome.interrupted, outcome.replications, all(g.met for g in outcome.goals()))


def _replay(plan: Plan, finding: str, style: str) -> None:
    """Print a run up to the state in which *finding* shows."""
    from simdeploy.environment.names import did_you_mean
    from simdeploy.plan.trace import Trace
    from simdeploy.simulation.replay import replay
    from simdeploy.vetting.vet import vet

    found = {f.id: f for f in vet(plan).findings if f.witness is not None}
    if finding not in found:
        raise StudyError(f"no finding with a witness is called {finding!r}; {did_you_mean(finding, list(found))}")
    run = replay(plan, found[finding])
    show_trace(Trace([r for r in run.trace if r.at_s <= run.at_s and "witness/" not in r.subject], run.at_s, run.trace.outcome), style)
    if style == "table":
        click.echo(
            wrapped(f"{found[finding].message}\nHere at {run.at_s:.0f} s; the lowest capacity until then: {run.capacity_per_s:.4g} req/s")
        )


@main.command()
@click.argument("environment", type=click.Path(path_type=pathlib.Path))
@forecasting
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
    with progress_bar() as progress:
        found = run(loaded, replications, seed, jobs, progress)
    if style == "json":
        click.echo(found.to_json())
    elif style == "csv":
        click.echo(found.frame().to_csv(index=False), nl=False)
    else:
        show(matrix(found, every))
        click.echo(wrapped(breaches(found)))
    end_forecast(found.interrupted, found.replications, found.all_met)
