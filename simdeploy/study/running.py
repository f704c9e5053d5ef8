"""Running a vetted plan from Python, a notebook included, and holding it against its forecast."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from simdeploy.errors import DiffersError, PlanError, StudyError
from simdeploy.execution.journal import Journal, read_journal
from simdeploy.execution.measuring import comparison, measured
from simdeploy.execution.operating import Settings, begin, conduct, opening, take_up
from simdeploy.execution.operator import Question, Script
from simdeploy.execution.sightings import Sampled
from simdeploy.plan.following import Measured
from simdeploy.plan.overview import verdict
from simdeploy.plan.plan import Plan
from simdeploy.plan.trace import Trace
from simdeploy.study.dossier import Dossier, read_dossier
from simdeploy.tables import Table, mime_bundle

Answer = Callable[[Question], str | None]


class Ran(NamedTuple):
    """A run, or this part of it, and what it is held against."""

    outcome: str
    """success, partial, rolled_back or halted; else paused, unknown or interrupted, and there is something left to do."""
    why: str
    """What a person should know, and what to do next."""
    trace: Trace
    known: Dossier
    journal: pathlib.Path

    def __repr__(self) -> str:
        return f"<Ran {self.known.plan.source.strategy or 'a plan'}: {self.outcome.replace('_', ' ')}, journal {self.journal}>"

    def measured(self) -> Measured:
        """The metrics of the run, each observed, inferred or not observed."""
        return self._measured()[0]

    def table(self) -> Table:
        """The forecast beside what happened."""
        return comparison(self.known.plan, self._measured()[0], self.known.forecast, self._measured()[1])

    def _measured(self) -> tuple[Measured, Sampled | None]:
        return measured(self.known.plan, read_journal(self.journal))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mime_bundle(self.table())


def run(
    plan: str | pathlib.Path,
    journal: str | pathlib.Path,
    transport: str = "ssh",
    answer: Answer | None = None,
    tell: Callable[[str], None] | None = None,
    accept_findings: bool = False,
    ssh_config: str | pathlib.Path | None = None,
    forks: int = 10,
    probe: str | None = None,
) -> Ran:
    """Carry out the plan in the file *plan*, as 'simdeploy plan -o' wrote it, and write what happens to *journal*.

    To call this is the assent to begin. *answer* is asked what only a person can decide (manual steps and gates, outcomes that
    nobody knows) and says `yes`, `no` or nothing; *tell* gets each line of progress. Raises PlanError, DiffersError, LockedError
    and JournalError as the command does, and StudyError for a plan that is not clean.
    """
    known = admitted(read_dossier(pathlib.Path(plan)), pathlib.Path(plan), accept_findings)
    settings = Settings(transport, str(pathlib.Path(ssh_config).resolve()) if ssh_config else None, forks, probe=probe)
    return _conducted(known, begin(known.plan, pathlib.Path(journal), settings, pathlib.Path(plan)), settings, answer, tell)


def resume(
    journal: str | pathlib.Path,
    plan: str | pathlib.Path | None = None,
    answer: Answer | None = None,
    tell: Callable[[str], None] | None = None,
) -> Ran:
    """Go on with the run in *journal*; *plan*: where its plan lies now. Arguments and errors are those of `run`."""
    known = plan_of(pathlib.Path(journal), pathlib.Path(plan) if plan else None)
    opened, settings = take_up(known.plan, pathlib.Path(journal), pathlib.Path(plan) if plan else None)
    return _conducted(known, opened, settings, answer, tell)


def admitted(known: Dossier, file: pathlib.Path, accept_findings: bool) -> Dossier:
    """The same, if it may be run. Raises PlanError where it was not vetted, StudyError where it is not clean."""
    if known.vetting is None or known.forecast is None:
        raise PlanError(f"{file}: no vetting or forecast lies beside it; vet it with 'simdeploy plan -o', and run what that wrote")
    if not known.vetting.is_clean and not accept_findings:
        raise StudyError(f"{file}: {verdict(known.vetting)} See 'simdeploy vet {file}'; to run it all the same, accept its findings")
    return known


def plan_of(journal: pathlib.Path, plan: pathlib.Path | None) -> Dossier:
    """The plan that a journal is of, with what lies beside it. Raises DiffersError where the named plan is another one."""
    opened = opening(read_journal(journal), journal)
    if plan is None and opened["plan"] is None:
        raise PlanError(f"{journal}: does not say where its plan lies; add --plan FILE")
    file = plan or pathlib.Path(opened["plan"])
    known = read_dossier(file)
    if known.plan.digest != opened["plan_sha256"]:
        raise DiffersError(f"{file}: is the plan {known.plan.digest[:12]}, and {journal} is of {opened['plan_sha256'][:12]}; name that one")
    return known


def made_today(plan: Plan, today: Plan, scenario: pathlib.Path, file: pathlib.Path) -> None:
    """See that a *scenario* still makes this very plan, which lies in *file*. Raises DiffersError."""
    if today.digest != plan.digest:
        raise DiffersError(
            f"{scenario}: makes another plan today ({today.digest[:12]}) than the one that was vetted ({plan.digest[:12]}); see what "
            f"differs: simdeploy diff {file} {scenario}:{plan.source.strategy}"
        )


def _conducted(known: Dossier, journal: Journal, settings: Settings, answer: Answer | None, tell: Callable[[str], None] | None) -> Ran:
    ending = conduct(known.plan, journal, settings, Script(answer, tell), lambda _: True, known.forecast)
    return Ran(ending.outcome, ending.why, ending.trace, known, journal.path)
