"""Commands that carry a plan out, and that speak to a run from another terminal."""

from __future__ import annotations

import contextlib
import json
import pathlib
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from simdeploy.cli.program import DECLINED, DIFFERS, FINE, HALTED, INTERRUPTED, MISSED, ROLLED_BACK, UNKNOWN, main
from simdeploy.cli.shared import show, wrapped
from simdeploy.errors import PlanError, StudyError

if TYPE_CHECKING:
    from simdeploy.execution.journal import Journal
    from simdeploy.execution.operating import Assent, Briefing, Settings
    from simdeploy.execution.runner import Ending
    from simdeploy.study.dossier import Dossier

FILE = click.Path(path_type=pathlib.Path, dir_okay=False)
CODES = {
    "success": FINE, "partial": FINE, "rolled_back": ROLLED_BACK, "halted": HALTED, "paused": DECLINED, "declined": DECLINED,
    "unknown": UNKNOWN, "interrupted": INTERRUPTED,
}  # fmt: skip
ASSENT_S = 3600.0
"""How long the first question waits for a person; then nothing is begun."""
MOST_FINDINGS = 10
"""So many are shown before the first question."""
BECAUSE = click.option("--because", required=True, metavar="TEXT", help="Why; it goes into the journal with your name.")


def _ways(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how hosts are reached."""
    for option in reversed(
        (
            click.option("--transport", type=click.Choice(["ssh", "local"]), default="ssh", show_default=True, help="local: this machine."),
            click.option("--ssh-config", type=FILE, help="Instead of ~/.ssh/config."),
            click.option("--lock-host", metavar="MACHINE", help="Where the environment's lock lies; by default on its first machine."),
        )
    ):
        command = option(command)
    return command


@main.command()
@click.argument("plan", type=FILE)
@click.option("--journal", type=FILE, help="The file in which all is written down; needed unless --check or --dry-run.")
@_ways
@click.option("--forks", type=click.IntRange(min=1), default=10, show_default=True, help="Steps at once.")
@click.option("--wait", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds to wait for the lock.")
@click.option("--probe", metavar="URL", help="Ask this address while the plan runs, and count what is not served.")
@click.option("--scenario", type=FILE, help="Refuse unless this scenario still makes this very plan.")
@click.option("--yes", is_flag=True, help="Answers the first question, and never a gate.")
@click.option("--accept-findings", is_flag=True, help="Run a plan that is not clean.")
@click.option("--check", "only_check", is_flag=True, help="Only ask the hosts, read-only, whether they are as the plan expects.")
@click.option("--dry-run", is_flag=True, help="Contact nothing: say what would be sent where.")
def run(
    plan: pathlib.Path, journal: pathlib.Path | None, transport: str, ssh_config: pathlib.Path | None, lock_host: str | None, forks: int,
    wait: float, probe: str | None, scenario: pathlib.Path | None, yes: bool, accept_findings: bool, only_check: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Carry out a vetted plan (written by 'simdeploy plan -o'), and write down what happens.

    Hosts are asked first whether the world is as the plan expects it. Ctrl-C once lets running steps end; twice ends them.
    """
    from simdeploy.execution import operating
    from simdeploy.study.dossier import read_dossier
    from simdeploy.study.running import admitted, made_today

    known = read_dossier(plan)
    settings = operating.Settings(transport, str(ssh_config.resolve()) if ssh_config else None, forks, lock_host, wait, probe)
    if scenario is not None:
        from simdeploy.planning.kinds import build_plan
        from simdeploy.planning.loading import load_scenario

        made_today(known.plan, build_plan(load_scenario(scenario), known.plan.source.strategy), scenario, plan)
    if dry_run:
        operating.rehearse(known.plan, click.echo)
        return
    if only_check:
        _checked(known, settings, plan)
        return
    if journal is None:
        raise PlanError("a run needs a file in which it writes down what happens; add --journal FILE")
    try:
        admitted(known, plan, accept_findings)
    except StudyError as error:
        click.echo(wrapped(f"simdeploy: {error}: --accept-findings"), err=True)
        sys.exit(MISSED)
    _conduct(known, operating.begin(known.plan, journal, settings, plan), settings, yes)


@main.command()
@click.argument("journal", type=FILE)
@click.option("--plan", type=FILE, help="The plan, where it does not lie any more where it lay.")
@click.option("--yes", is_flag=True, help="Answers the first question, and never a gate.")
def resume(journal: pathlib.Path, plan: pathlib.Path | None, yes: bool) -> None:
    """Go on with a run that was paused, interrupted or killed; what was in flight is settled first."""
    from simdeploy.execution import operating
    from simdeploy.study.running import plan_of

    known = plan_of(journal, plan)
    opened, settings = operating.take_up(known.plan, journal, plan)
    _conduct(known, opened, settings, yes)


@main.command()
@click.argument("journal", type=FILE)
@click.option("--plan", type=FILE, help="The plan, where it does not lie any more where it lay.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(journal: pathlib.Path, plan: pathlib.Path | None, style: str) -> None:
    """Say how a run stands: what is done, what is in flight, what is unknown, and what to type next."""
    from simdeploy.execution.status import standing, standing_table
    from simdeploy.study.running import plan_of

    found = standing(plan_of(journal, plan).plan, journal)
    if style == "json":
        click.echo(json.dumps(found._asdict(), indent=1))
        return
    show(standing_table(found))
    click.echo(wrapped(found.next))


@main.command()
@click.argument("journal", type=FILE)
def pause(journal: pathlib.Path) -> None:
    """Let lanes that have begun run to their end, begin nothing else, and stop (exit code 9); 'resume' goes on."""
    _ask(journal, "pause")


@main.command()
@click.argument("journal", type=FILE)
@BECAUSE
def rollback(journal: pathlib.Path, because: str) -> None:
    """Leave the plan and take back what it has done, as its rollback says; past the point of no return it halts."""
    _ask(journal, "rollback", because=because)


@main.command()
@click.argument("journal", type=FILE)
@BECAUSE
def abort(journal: pathlib.Path, because: str) -> None:
    """Leave the plan where it is: lanes that have begun run to their end, and nothing is taken back."""
    _ask(journal, "abort", because=because)


@main.command()
@click.argument("journal", type=FILE)
@click.argument("step")
@BECAUSE
def skip(journal: pathlib.Path, step: str, because: str) -> None:
    """Go on as if STEP were done: a person has done it, or it is not needed."""
    _ask(journal, "skip", step, because)


@main.command()
@click.argument("journal", type=FILE)
@click.argument("step")
@click.argument("word", type=click.Choice(["yes", "no"]))
@BECAUSE
def answer(journal: pathlib.Path, step: str, word: str, because: str) -> None:
    """Answer what a run asks about STEP: whether it is done, whether it may go on, or whether it took effect."""
    _ask(journal, "answer", step, because, word)


@main.command()
@click.argument("plan", type=FILE)
@click.option("--run", "run_id", required=True, metavar="ID", help="The run that holds the lock, as the refusal named it.")
@_ways
@BECAUSE
def unlock(plan: pathlib.Path, run_id: str, transport: str, ssh_config: pathlib.Path | None, lock_host: str | None, because: str) -> None:
    """Free the lock of a plan's environment that RUN holds and nobody operates any more.

    Every host is told, so that this run is refused should it wake up.
    """
    from simdeploy.execution import operating
    from simdeploy.execution.lock import named
    from simdeploy.study.dossier import read_dossier

    settings = operating.Settings(transport, str(ssh_config.resolve()) if ssh_config else None, lock_host=lock_host)
    held, missed = operating.break_lock(read_dossier(plan).plan, settings, run_id)
    click.echo(f"freed: it was held by {named(held)}; because: {because}")
    for host, why in missed.items():
        click.echo(f"{host}: could not be told ({why}); should that run wake up there, the next run's preflight shuts it out", err=True)
    click.echo("What that run had in flight may still go on; see 'simdeploy status' of its journal.")


@main.group()
def hosts() -> None:
    """The hosts of a plan."""


@hosts.command()
@click.argument("plan", type=FILE)
@click.option("--ssh-config", type=FILE, help="Instead of ~/.ssh/config.")
@click.option("--yes", is_flag=True, help="Trust what is shown, because it was compared with what the hosts' console says.")
def trust(plan: pathlib.Path, ssh_config: pathlib.Path | None, yes: bool) -> None:
    """Show the fingerprints of hosts that are not known yet, and trust them once you say so."""
    from simdeploy.execution import trust as keys
    from simdeploy.execution.hands import hosts_of
    from simdeploy.study.dossier import read_dossier

    found = keys.strangers([h for h in hosts_of(read_dossier(plan).plan) if h], ssh_config)
    if not found:
        click.echo("All hosts are known.")
        return
    for stranger in found:
        click.echo("\n".join(f"{stranger.host}: {line}" for line in stranger.fingerprints))
    if not yes and not (sys.stdin.isatty() and click.confirm("Do these match what the hosts' consoles say?", err=True)):
        click.echo("Nothing was trusted. Compare them with 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' there.", err=True)
        sys.exit(DECLINED)
    for stranger in found:
        keys.trust(stranger)
    click.echo(f"Trusted: {', '.join(s.host for s in found)}")


@main.command()
@click.argument("plan", type=FILE)
@click.argument("journal", type=FILE)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def measure(plan: pathlib.Path, journal: pathlib.Path, style: str) -> None:
    """Hold what happened, as JOURNAL tells it, against the forecast of PLAN; each figure observed, inferred or not observed."""
    from simdeploy.execution.journal import read_journal
    from simdeploy.execution.measuring import as_json, comparison, measured
    from simdeploy.study.running import plan_of

    known = plan_of(journal, plan)
    found, seen = measured(known.plan, read_journal(journal))
    if style == "json":
        click.echo(json.dumps(as_json(found, known.forecast), indent=1))
    else:
        show(comparison(known.plan, found, known.forecast, seen))


def _conduct(known: Dossier, journal: Journal, settings: Settings, yes: bool) -> None:
    from simdeploy.execution.journal import named_plan
    from simdeploy.execution.operating import conduct
    from simdeploy.execution.operator import Terminal

    plan_file = named_plan(journal.entries)
    ending = conduct(known.plan, journal, settings, Terminal(), _assent(known, yes, plan_file), known.forecast)
    _end(ending, journal.path, plan_file)


def _end(ending: Ending, journal: pathlib.Path, plan_file: str) -> None:
    click.echo(wrapped(f"outcome: {ending.outcome.replace('_', ' ')}{f'. {ending.why}' if ending.why else ''}"), err=True)
    if ending.outcome in ("success", "partial", "rolled_back", "halted"):
        click.echo(f"Hold it against the forecast: simdeploy measure {plan_file} {journal}", err=True)
    sys.exit(CODES[ending.outcome])


def _assent(known: Dossier, yes: bool, plan_file: str) -> Assent:
    """Show what a person must have seen, and ask."""

    def ask(briefing: Briefing) -> bool:
        from simdeploy.plan.overview import number, verdict

        plan, lines = known.plan, []
        named = f" ({plan.source.scenario}, {plan.source.strategy})" if plan.source.scenario else ""
        lines.append(f"plan {plan.digest[:12]}{named}: {len(plan.steps)} steps")
        for host, facts in briefing.hosts.items():
            lines.append(f"  {host or 'this machine'}: {facts['name']} as user {facts['user']}, python {facts['python']}")
        lines += [f"  differs: {difference}" for difference in briefing.differences]
        lines.append(f"lock on {briefing.lock_host or 'this machine'}, fence {briefing.fence}")
        if known.vetting is not None:
            lines.append(f"vetting: {verdict(known.vetting)}")
            found = [f for f in known.vetting.findings if f.severity != "note"]
            lines += [f"  {f.severity} {f.id}: {f.message}" for f in found[:MOST_FINDINGS]]
            lines += [f"  and {len(found) - MOST_FINDINGS} more; see: simdeploy vet {plan_file}"] if len(found) > MOST_FINDINGS else []
        expectations = known.forecast.metrics if known.forecast is not None else {}
        for name in (n for n in ("makespan_s", "downtime_s", "failed_requests", "capacity_min") if n in expectations):
            expected = expectations[name]
            lines.append(f"forecast: {name} P50 {number(name, expected.p50)}, P95 {number(name, expected.p95)}")
        click.echo(wrapped("\n".join(lines)), err=True)
        if yes:
            return True
        if sys.stdin is None or not sys.stdin.isatty():
            click.echo("Nobody is there to say yes; add --yes", err=True)
            return False
        return _said_yes("Begin?", briefing.is_called_off)

    return ask


def _said_yes(question: str, is_called_off: Callable[[], bool]) -> bool:
    """Ask at the terminal. The environment's lock is held meanwhile, so nobody waits for ever, and a signal is an answer too."""
    from simdeploy.execution.journal import clock_s
    from simdeploy.units import format_s

    end = clock_s() + ASSENT_S
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    while not is_called_off() and clock_s() < end:
        if select.select([sys.stdin], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # the terminal is gone
                return sys.stdin.readline().strip().lower() in ("y", "yes")
            return False
    click.echo("" if is_called_off() else f"\nNobody has answered within {format_s(ASSENT_S)}.", err=True)
    return False


def _checked(known: Dossier, settings: Settings, plan: pathlib.Path) -> None:
    from simdeploy.execution.operating import check

    found = check(known.plan, settings, plan_file=plan)
    for host, facts in found.facts.items():
        click.echo(f"{host or 'this machine'}: reachable, python {facts['python']}, {facts['free_bytes'] / 1e9:.1f} GB free")
    for difference in found.differences:
        click.echo(wrapped(str(difference)), err=True)
    click.echo(f"{found.asked} checks of the plan were asked: {'all as expected' if not found.differences else 'the world differs'}")
    if found.differences:
        sys.exit(DIFFERS)


def _ask(journal: pathlib.Path, verb: Any, step: str = "", because: str = "", answer: str = "") -> None:
    """Leave a request for whoever runs the journal."""
    from simdeploy.environment.names import did_you_mean
    from simdeploy.execution.history import History
    from simdeploy.execution.journal import is_written, read_journal
    from simdeploy.execution.lock import who
    from simdeploy.execution.requests import Request, put
    from simdeploy.study.running import plan_of

    known = plan_of(journal, None)
    if step and step not in known.plan.wiring.position:
        raise PlanError(f"{step!r} is no step of the plan; {did_you_mean(step, list(known.plan.wiring.position))}")
    if step and known.plan.steps[known.plan.wiring.position[step]].judge is not None:
        raise PlanError(f"{step!r} is decided by what the steps before it did; skip or answer one of those")
    history = History(known.plan, read_journal(journal))
    if history.outcome is not None:
        raise PlanError(f"{journal}: this run has ended ({history.outcome.replace('_', ' ')}); see 'simdeploy status {journal}'")
    if step and (result := history.progress.results[known.plan.wiring.position[step]]) is not None:
        raise PlanError(f"{step!r} has ended already ({result.replace('_', ' ')}); see 'simdeploy status {journal}'")
    try:
        put(journal, Request(verb, who(), step, because, answer))
    except OSError as error:
        raise PlanError(f"{journal}: the request cannot be left beside it ({error.strerror}); ask whoever runs it") from None
    if is_written(journal):
        click.echo(f"asked: {verb} {step}".rstrip() + f"; see 'simdeploy status {journal}'")
    else:
        click.echo(f"Nobody runs this journal now; it is done first when somebody does: simdeploy resume {journal}")
