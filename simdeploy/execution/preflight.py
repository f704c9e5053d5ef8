"""Before the first change: is the world as the plan expects it? Asked of every host, read-only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from simdeploy.errors import PlanError
from simdeploy.execution.hands import Hands, hosts_of
from simdeploy.execution.transports import Lost
from simdeploy.execution.vault import resolve
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import MAIN, ROLLBACK, Step

FREE_BYTES = 50_000_000
"""What receipts and output need at least."""
SKEW_S = 5.0
"""How far a host's clock may be off."""


class Difference(NamedTuple):
    """Something that is not as the plan expects it, and the way out."""

    host: str
    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.host or 'this machine'}: {self.what}; {self.way_out}"


class Preflight(NamedTuple):
    """What the hosts said."""

    facts: dict[str, dict[str, Any]]
    """Host -> boot id, free bytes, user and so on."""
    differences: list[Difference]
    asked: int
    """How many checks of the plan were asked."""


class Expectation(NamedTuple):
    """What a step's check should say before the plan begins."""

    step: Step
    is_there: bool
    means: str


def preflight(plan: Plan, hands: Hands, asks: bool = True, forks: int = 8) -> Preflight:
    """Ask every host of *plan* whether it is reachable, fit, and (*asks*) as the plan expects it at its start."""
    hosts, differences = hosts_of(plan), [*_secrets(plan)]
    with ThreadPoolExecutor(forks) as pool:
        answers = dict(zip(hosts, pool.map(lambda host: _facts(plan, hands, host), hosts), strict=True))
        facts = {host: found for host, found in answers.items() if isinstance(found, dict)}
        for host, found in answers.items():
            differences += [found] if isinstance(found, Difference) else _unfit(host, found)
        wanted = [e for e in expectations(plan) if e.step.on in facts] if asks else []
        differences += [d for d in pool.map(lambda e: _compared(hands, e), wanted) if d is not None]
    return Preflight(facts, differences, len(wanted))


def expectations(plan: Plan) -> Iterator[Expectation]:
    """What checks must say at the start: versions are the old ones, and who serves is in the pool, who does not is not."""
    serving = {i for i in plan.environment.instances if i not in plan.start.absent and i not in plan.start.out}
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for step in plan.steps:
        for verb, instance, means in _meanings(step):
            if not step.check or instance not in plan.environment.instances:
                continue
            if verb == "version" and step.part == MAIN:
                found = Expectation(step, False, f"{instance} has {means} already")
            elif verb == "version" and step.part == ROLLBACK and instance in serving:
                found = Expectation(step, True, f"{instance} does not have {means}")
            elif verb in ("serve", "start") and step.part == MAIN and instance in serving:
                found = Expectation(step, True, f"{instance} does not {verb}")
            elif verb in ("drain", "out") and step.part == MAIN and instance in serving:
                found = Expectation(step, False, f"{instance} is out already")
            else:
                continue
            if (key := (instance, found.means, step.check)) not in seen:
                seen.add(key)
                yield found


def _meanings(step: Step) -> Iterable[tuple[str, str, str]]:
    """(verb, instance, what it brings) of the effects that a check can be held against."""
    effects = (*step.begin, *step.end)
    versions = [e for e in effects if e[0] == "version"]  # the check of a step that brings one as well is about that one
    for effect in versions or effects:
        yield str(effect[0]), str(effect[1]) if len(effect) > 1 else "", f"version {effect[2]}" if effect[0] == "version" else ""


def _facts(plan: Plan, hands: Hands, host: str) -> dict[str, Any] | Difference:
    sudo = any(argv[:1] == ("sudo",) for s in plan.steps if s.on == host for argv in (s.run, s.check, s.expects))
    before = time.time()
    try:
        found = hands.order(host, "facts", sudo=sudo)
    except Lost as error:
        return Difference(host, _one_line(str(error)), unreachable(host, str(error), hands.plan_file))
    middle = (before + time.time()) / 2
    return {**found, "skew_s": found["wall_s"] - middle, "round_trip_s": time.time() - before}


def _unfit(host: str, found: dict[str, Any]) -> Iterator[Difference]:
    if found["free_bytes"] < FREE_BYTES:
        free = f"{found['free_bytes'] / 1e6:.0f} MB are free under {found['base']}"
        yield Difference(host, free, f"make room for {FREE_BYTES / 1e6:.0f} MB")
    if not found["writable"]:
        yield Difference(host, f"{found['base']} cannot be written by user {found['user']}", "let that user write it")
    if abs(found["skew_s"]) > SKEW_S + found["round_trip_s"] / 2:
        yield Difference(host, f"its clock is {found['skew_s']:+.1f} s off", "let it keep time (chrony or ntpd)")
    if found["sudo"] is False:
        yield Difference(host, "a step wants sudo, and 'sudo -n true' fails", "allow it without a password, or drop sudo")


def _compared(hands: Hands, expected: Expectation) -> Difference | None:
    looked, said = hands.look(expected.step)
    wanted = "there" if expected.is_there else "not there"
    if looked == wanted:
        return None
    check = " ".join(expected.step.check)
    if looked in ("there", "not there"):
        return Difference(expected.step.on, expected.means, f"{check!r} says so; make the world as the plan expects it, or plan anew")
    return Difference(
        expected.step.on, f"{check!r} says neither yes (0) nor no (1): {_one_line(said) or 'nothing'}", "try it by hand there"
    )


def _secrets(plan: Plan) -> Iterator[Difference]:
    for name, reference in sorted({pair for s in plan.steps for pair in s.secrets.items()}):
        try:
            resolve({name: reference})
        except PlanError as error:
            what, _, way_out = str(error).partition("; ")
            yield Difference("", what, way_out or "keep it where the reference says")


def unreachable(host: str, said: str, plan_file: str) -> str:
    """The way out where a host gives no answer, by what ssh said."""
    hints = (
        ("IDENTIFICATION HAS CHANGED", f"somebody may be in between, or its key was made anew; see: simdeploy hosts trust {plan_file}"),
        ("Host key verification failed", f"look at its fingerprint first: simdeploy hosts trust {plan_file}"),
        ("Permission denied (", f"let your key in, and try: ssh {host} true"),
        ("Could not resolve", f"give it an address under 'Host {host}' in ~/.ssh/config"),
        ("python3", "install python3 there"),
        ("No space left", "make room there"),
        ("Permission denied", "let that user write there"),
    )
    otherwise = f"try: ssh {host} true" if host else "try it by hand"
    return next((way_out for sign, way_out in hints if sign in said), otherwise)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
