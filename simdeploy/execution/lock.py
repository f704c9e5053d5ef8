"""One operator for each environment: a lock on one of its hosts, and a fence number that every host checks."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from simdeploy.errors import LockedError, PlanError
from simdeploy.execution.hands import Hands
from simdeploy.execution.transports import DESK, Lost
from simdeploy.plan.plan import Plan

Owner = dict[str, Any]
AT_ONCE = 8
"""Hosts that are told of a fence, or to clean up, at once."""


class Lock(NamedTuple):
    """A lock that is held."""

    host: str
    token: str
    fence: int


def lock_host(plan: Plan, chosen: str | None = None) -> str:
    """Where the lock of the plan's environment lies: on its first machine that is not hosted and carries something at the start.

    It does not depend on the plan's strategy, so that two plans for one environment meet there. Raises PlanError for a
    *chosen* host that is no machine.
    """
    env = plan.environment
    if chosen is not None:
        if chosen not in env.machine_index:
            raise PlanError(f"{chosen!r} is no machine of {env.name!r}; name one of {', '.join(list(env.machine_index)[:8])}")
        return chosen
    absent = set(plan.start.absent)
    there = [machine for instance, (_, machine) in env.instances.items() if instance not in absent]
    return next((m.name for m in env.machines if not m.hosted and m.name in there), DESK)


def owner(run: str) -> Owner:
    """Who we are, as the lock tells others."""
    return {
        "who": who(), "host": socket.gethostname(), "pid": os.getpid(), "run": run, "at": round(time.time()), "token": secrets.token_hex(8),
    }  # fmt: skip


def who() -> str:
    """The name of the person at the desk."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def take(hands: Hands, host: str, me: Owner, wait_s: float = 0.0) -> Lock | None:
    """Take the lock, waiting no longer than *wait_s*; a lock that a dead process of the same run has left is ours.

    None where the run is called off meanwhile.

    Raises LockedError, which names the holder, and Lost.
    """
    end = time.monotonic() + wait_s
    while True:
        reply = hands.order(host, "lock", owner=me, fence=hands.fence)
        if reply["taken"]:
            return Lock(host, me["token"], int(reply["fence"]))
        held = reply["by"] or {}
        if held.get("run") == me["run"]:  # we have its journal for ourselves, so nobody else writes it
            hands.order(host, "unlock", token=held["token"])
        elif hands.is_called_off():
            return None
        elif time.monotonic() >= end:
            raise LockedError(
                f"{named(held)} operates this environment, and nothing was begun; wait for them, or if nobody does any more: "
                f"simdeploy unlock {hands.plan_file} --run {held.get('run')} --because TEXT"
            )
        else:
            time.sleep(0.2)


def give_back(hands: Hands, lock: Lock) -> None:
    """Free the lock, if it is still ours. Raises Lost."""
    hands.order(lock.host, "unlock", token=lock.token)


def raise_fences(hands: Hands, hosts: list[str]) -> dict[str, str]:
    """Let every host know our fence, so that whoever had the lock before is refused; host -> why it could not be told.

    Where a host knows a higher one (it has seen another lock's host), ours becomes higher still: the lock is ours.
    """

    def told(host: str) -> int | Lost:
        try:
            return int(hands.order(host, "fence")["fence"])
        except Lost as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            answers = dict(zip(hosts, pool.map(told, hosts), strict=True))
            highest = max((fence for fence in answers.values() if isinstance(fence, int)), default=0)
            if highest <= hands.fence:
                return {host: str(why) for host, why in answers.items() if isinstance(why, Lost)}
            hands.fence = highest + 1


def named(held: Owner) -> str:
    """Who holds a lock, in words."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(held.get("at", 0))))
    return f"{held.get('who', 'somebody')} (run {held.get('run')}, process {held.get('pid')} on {held.get('host')}, since {at})"
