"""A run from its question to its end: lock, preflight, assent, the runner, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, NamedTuple

from simdeploy.errors import DiffersError, JournalError, PlanError
from simdeploy.execution import lock as locks
from simdeploy.execution.hands import Hands, Limits, hosts_of, words
from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry, Journal, last, named_plan
from simdeploy.execution.operator import Operator
from simdeploy.execution.preflight import Preflight, preflight, unreachable
from simdeploy.execution.prober import Prober
from simdeploy.execution.runner import Ending, Runner
from simdeploy.execution.transports import Local, Lost, Recorder, Ssh, Transport
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import SUCCEEDED, Progress, order


class Settings(NamedTuple):
    """How a plan is carried out; kept in the journal, so that a resume needs none of it."""

    transport: str = "ssh"
    """`ssh` or `local`."""
    ssh_config: str | None = None
    forks: int = 10
    """How many steps run at once at most."""
    lock_host: str | None = None
    lock_wait_s: float = 0.0
    probe: str | None = None
    """A URL that a prober asks while the plan runs."""
    root: str | None = None
    """Where hosts keep receipts; by default in the home of their user."""
    limits: tuple[float, ...] = Limits()


class Briefing(NamedTuple):
    """What a person must have seen before the first change."""

    hosts: dict[str, dict[str, Any]]
    fence: int
    lock_host: str
    differences: list[str]
    """Of a run that goes on: what is not fit or does not answer now. A new run is refused instead."""
    is_called_off: Callable[[], bool]
    """Whether a signal has come meanwhile: then nobody need answer any more."""


Assent = Callable[[Briefing], bool]


def transport_of(settings: Settings) -> Transport:
    """The transport that the settings name. Raises PlanError."""
    if settings.transport == "local":
        return Local()
    if settings.transport != "ssh":
        raise PlanError(f"{settings.transport!r} is no transport; there are ssh and local")
    return Ssh(pathlib.Path(settings.ssh_config) if settings.ssh_config else None)


def begin(plan: Plan, path: pathlib.Path, settings: Settings, plan_file: pathlib.Path | None = None) -> Journal:
    """A new journal for a run of *plan*.

    Raises PlanError for settings that cannot be and where the file is there, JournalError where it cannot be written.
    """
    locks.lock_host(plan, settings.lock_host)
    if settings.probe is not None:
        Prober(settings.probe)
    journal = Journal.create(path)
    try:
        journal.write("opened", **_opening(plan, secrets.token_hex(6), settings, plan_file))
    except BaseException:
        journal.close()
        raise
    return journal


def take_up(plan: Plan, path: pathlib.Path, plan_file: pathlib.Path | None = None) -> tuple[Journal, Settings]:
    """The journal of an earlier run of *plan*, to go on with. Raises DiffersError where it is of another plan."""
    journal = Journal.reopen(path)
    try:
        opened = opening(journal.entries, path)
        if opened["plan_sha256"] != plan.digest:
            raise DiffersError(f"{path}: is of the plan {opened['plan_sha256'][:12]}, and this plan is {plan.digest[:12]}; name that plan")
        if last(journal.entries, "closed", lambda e: e.body["is_final"]):
            raise PlanError(f"{path}: this run has ended; see 'simdeploy status {path}', or begin a new one")
        settings = Settings(**{**opened["settings"], "limits": Limits(*opened["settings"]["limits"])})
        journal.write("opened", **_opening(plan, opened["run"], settings, plan_file))
    except BaseException:
        journal.close()
        raise
    return journal, settings


def opening(entries: list[Entry], path: pathlib.Path) -> dict[str, Any]:
    """What the journal's first entry says. Raises PlanError where it has none: then nothing was begun."""
    if not entries or entries[0].kind != "opened":
        raise PlanError(f"{path}: does not say of which plan it is, so nothing was begun with it; remove it and begin anew")
    return entries[0].body


def conduct(
    plan: Plan, journal: Journal, settings: Settings, operator: Operator, assent: Assent, forecast: Forecast | None = None,
    transport: Transport | None = None,
) -> Ending:  # fmt: skip
    """Carry out *plan* from where its *journal* stands, once a person has given their assent.

    The ending's outcome is `declined` where they do not. Raises DiffersError where a host is not as the plan expects it,
    LockedError where somebody else operates the environment, JournalError where the journal cannot be written.
    """
    history = History(plan, journal.entries)
    is_new = not history.attempts
    carrier = transport or transport_of(settings)
    hands = Hands(plan, carrier, journal.entries[0].body["run"], Limits(*settings.limits), settings.root)
    hands.plan_file = named_plan(journal.entries)
    lock: locks.Lock | None = None
    keeps_lock = False
    runner: list[Runner] = []
    with _signals(lambda: runner[0].interrupt() if runner else None) as interrupted:
        try:
            hands.is_called_off = lambda: interrupted() > 0
            lock = _locked(plan, hands, settings)
            if lock is None:
                return _closed(journal, Ending("interrupted", "Nothing was begun.", history.chronicle.trace(None)))
            journal.write("locked", host=lock.host, fence=lock.fence)
            facts = _made_sure(plan, hands, journal, is_new)
            briefing = Briefing(facts.facts, lock.fence, lock.host, [str(d) for d in facts.differences], hands.is_called_off)
            if not interrupted() and not assent(briefing) and not interrupted():
                return _closed(journal, Ending("declined", "Nothing was begun.", history.chronicle.trace(None)))
            with _probing(settings.probe) as samples:
                runner.append(Runner(plan, hands, journal, history, operator, forecast, settings.forks, samples))
                for _ in range(interrupted()):
                    runner[0].interrupt()
                ending = runner[0].run()
                for sample in samples(True):
                    journal.write("sampled", durable=False, **sample)
            if history.outcome is not None:
                _clean(plan, hands)
            held, lock = lock, None  # before the last entry: whoever is killed in between has a journal that can be resumed
            _freed(hands, held)
            return _closed(journal, ending, is_final=history.outcome is not None)
        except JournalError:
            keeps_lock = True  # what is in flight is not written down: nobody else may begin before somebody has looked
            raise
        finally:
            if lock is not None and not keeps_lock:
                _freed(hands, lock)
            carrier.close()
            journal.close()


def rehearse(plan: Plan, tell: Callable[[str], None]) -> None:
    """Say what would be sent, to whom and in which order, if everything succeeded; nothing is contacted."""
    recorder = Recorder()
    hands = Hands(plan, recorder, "dry-run", secrets_of=lambda secrets: dict.fromkeys(secrets, "***"))
    progress = Progress(order(plan))
    while begun := progress.started():
        for i in begun:
            step = plan.steps[i]
            host = step.on or "this machine"
            if not step.run and not (step.kind == "gate" and step.check):
                waits = step.kind == "step" and not (step.begin or step.end or step.on or step.target)
                tell(f"{step.id}: {'waits ' + str(step.duration) if waits else 'a person does it'}{f' ({host})' if step.on else ''}")
            else:
                seen = len(recorder.orders)
                hands.carry_out(step, 1, must_know=False)
                tell(f"{step.id} on {host}:")
                for _, sent in recorder.orders[seen:]:
                    what = "look" if sent["op"] == "look" else "send"
                    tell(f"  {what}: {' '.join(words(sent['argv']))}")
        for i in begun:
            progress.ended(i, SUCCEEDED)
            while progress.has_verdicts():
                progress.judged()


def check(plan: Plan, settings: Settings, transport: Transport | None = None, plan_file: pathlib.Path | None = None) -> Preflight:
    """Ask the hosts whether the world is as the plan expects it; changes nothing, takes no lock."""
    carrier = transport or transport_of(settings)
    hands = Hands(plan, carrier, "check", Limits(*settings.limits), settings.root)
    hands.plan_file = shlex.quote(str(plan_file or hands.plan_file))
    try:
        return preflight(plan, hands)
    finally:
        carrier.close()


def break_lock(plan: Plan, settings: Settings, run: str, transport: Transport | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Free the environment's lock although *run* has it, and shut that run out on every host; (holder, host -> why not).

    Raises PlanError where nobody or another run has it, and where its host cannot be reached.
    """
    carrier = transport or transport_of(settings)
    hands = Hands(plan, carrier, "unlock", Limits(*settings.limits), settings.root)
    host = locks.lock_host(plan, settings.lock_host)
    try:
        held = hands.order(host, "holder")["by"]
        if held is None:
            raise PlanError(f"nobody holds the lock of {plan.environment.name!r} on {host or 'this machine'}; there is nothing to unlock")
        if held["run"] != run:
            raise PlanError(f"the lock is held by {locks.named(held)}, not by run {run!r}; look who that is, then name that run")
        hands.fence = int(hands.order(host, "unlock", force=True)["fence"])
        return held, locks.raise_fences(hands, hosts_of(plan))
    except Lost as error:
        raise PlanError(f"{host}: cannot be reached, so its lock stays: {error}; try again when it can") from None
    finally:
        carrier.close()


def _opening(plan: Plan, run: str, settings: Settings, plan_file: pathlib.Path | None) -> dict[str, Any]:
    return {
        "run": run, "plan_sha256": plan.digest, "plan": str(plan_file.resolve()) if plan_file else None, "tool": version("simdeploy"),
        "environment": plan.environment.name, "who": locks.who(), "host": socket.gethostname(), "pid": os.getpid(),
        "settings": {**settings._asdict(), "limits": list(settings.limits)},
    }  # fmt: skip


def _locked(plan: Plan, hands: Hands, settings: Settings) -> locks.Lock | None:
    host = locks.lock_host(plan, settings.lock_host)
    try:
        lock = locks.take(hands, host, locks.owner(hands.run), settings.lock_wait_s)
    except Lost as error:
        why, way_out = " ".join(str(error).split()), unreachable(host, str(error), hands.plan_file)
        raise DiffersError(f"{host or 'this machine'}: the lock cannot be taken: {why}; nothing was begun; {way_out}") from None
    hands.fence = lock.fence if lock is not None else 0
    return lock


def _made_sure(plan: Plan, hands: Hands, journal: Journal, is_new: bool) -> Preflight:
    """Shut out whoever had the lock before, and see that hosts are fit and, before the first step, as the plan expects them."""
    missed = locks.raise_fences(hands, hosts_of(plan))
    found = preflight(plan, hands, asks=is_new)
    journal.write("preflight", asked=found.asked, differences=[str(d) for d in found.differences], fences_missed=missed)
    if found.differences and is_new:
        lines = "\n".join(f"  {d}" for d in found.differences)
        raise DiffersError(f"the world is not as the plan expects it, and nothing was begun:\n{lines}")
    return found


def _closed(journal: Journal, ending: Ending, is_final: bool = False) -> Ending:
    journal.write("closed", outcome=ending.outcome, why=ending.why, is_final=is_final)
    return ending


def _freed(hands: Hands, lock: locks.Lock) -> None:
    with contextlib.suppress(Lost):  # then its fence and its run tell the next one whose it was
        locks.give_back(hands, lock)


def _clean(plan: Plan, hands: Hands) -> None:
    def clean(host: str) -> None:
        with contextlib.suppress(Lost):
            hands.order(host, "clean")

    with ThreadPoolExecutor(locks.AT_ONCE) as pool:
        list(pool.map(clean, hosts_of(plan)))


@contextlib.contextmanager
def _probing(url: str | None) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    if url is None:
        yield lambda whole=False: []
        return
    prober = Prober(url)
    prober.start()

    def samples(whole: bool = False) -> list[dict[str, Any]]:
        if whole:
            prober.stop()
        return prober.samples(whole)

    try:
        yield samples
    finally:
        prober.stop()


@contextlib.contextmanager
def _signals(act: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """SIGINT, SIGTERM and SIGHUP are counted and acted on instead of ending the process; elsewhere than in the main thread not."""
    count = 0

    def heard(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        act()

    if threading.current_thread() is not threading.main_thread():
        yield lambda: count
        return
    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield lambda: count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
