"""Commands about one plan: plan, check."""

from __future__ import annotations

import pathlib

import click

from simdeploy.cli.shared import ELSEWHERE, print_table, read_plan, strategy_names, wrapped
from simdeploy.errors import PlanError


@click.command()
@click.argument("scenario", type=click.Path(path_type=pathlib.Path))
@ELSEWHERE
@click.option("--strategy", metavar="NAME", shell_complete=strategy_names, help="Which strategy, if there are several.")
@click.option(
    "-o", "--output", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="The file to write; by default standard output."
)
def plan(scenario: pathlib.Path, strategy: str | None, environment: pathlib.Path | None, output: pathlib.Path | None) -> None:
    """Write the plan of one strategy as JSON."""
    built = read_plan(scenario, strategy, environment)
    if output is None:
        click.echo(built.to_json())
        return
    try:
        output.write_text(built.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError(f"the plan cannot be written to {str(output)!r} ({error.strerror}); name a file that you may write") from None
    click.echo(f"{output}: {len(built.steps)} steps, sha256 {built.digest}", err=True)


@click.command()
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
        print_table(tiers(read.environment))
        print_table(steps(read))
        click.echo(f"{file}: a sound plan, sha256 {read.digest}")
        return
    loaded = load(file)
    environment = loaded.environment if isinstance(loaded, Scenario) else loaded
    print_table(tiers(environment))
    click.echo(wrapped(standing_sentence(environment)) + "\n")
    if isinstance(loaded, Scenario):
        print_table(chosen(loaded))
        for warning in loaded.warnings():
            click.echo(wrapped(f"warning: {warning}"))
        plans = build_plans(loaded)
        have = "plan has" if len(plans) == 1 else f"{len(plans)} plans have"
        click.echo(f"{file}: a sound scenario; its {have} {', '.join(str(len(p.steps)) for p in plans.values())} steps")
    else:
        click.echo(f"{file}: a sound environment")


COMMANDS = (plan, check)
