"""Hosts in memory that answer as `host.py` does (`test_host.py` holds the two side by side), and faults on the way to them."""

from __future__ import annotations

import pathlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from simdeploy.execution.hands import Hands, Limits
from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry, Journal
from simdeploy.execution.operating import Settings, begin, conduct, take_up
from simdeploy.execution.operator import Operator, Script
from simdeploy.execution.runner import Ending
from simdeploy.execution.transports import Lost, Order, Reply
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step

QUICK = Limits(step_s=5, look_s=1, reach_s=0.05, grace_s=0.05, poll_s=0.05)
SETTINGS = Settings(transport="local", limits=QUICK)


class Killed(BaseException):
    """The controller is killed with SIGKILL here."""


class World:
    """Hosts in memory: what was done, receipts, fences and the lock.

    A command is ("do", X, state...), ("is", X, state...) or ("look", X); a state is "INSTANCE.pool=out" or "INSTANCE.version=2".
    """

    def __init__(self, plan: Plan) -> None:
        out = {*plan.start.absent, *plan.start.out}
        self.state = {f"{i}.pool": "out" if i in out else "in" for i in plan.environment.instances}
        self.state |= {f"{i}.version": plan.environment.services[s].version for i, (s, _) in plan.environment.instances.items()}
        self.touched: set[str] = set()
        """Instances to which something was done."""
        self.guard = threading.RLock()
        self.effects: Counter[str] = Counter()
        """What was done -> how often."""
        self.order_of_effects: list[str] = []
        self.receipts: dict[tuple[str, str], Reply] = {}
        self.fences: Counter[str] = Counter()
        self.lock: dict[str, Any] | None = None
        self.codes: dict[str, list[int]] = {}
        """X -> the exit codes of doing it, one after the other; then 0."""
        self.without_effect: set[str] = set()
        """X of which a check never finds a trace."""
        self.blind: set[str] = set()
        """X of which a check cannot tell."""

        self.free_bytes = 10**12
        self.is_orphaned = False
        """Whether the operator was killed: nobody tidies up."""

    def answer(self, host: str, order: Order) -> Reply:
        if self.is_orphaned and order["op"] in ("unlock", "clean"):
            raise Lost("killed")
        with self.guard:
            return dict(getattr(self, f"_{order['op']}")(host, order))

    def _run(self, argv: list[str]) -> int:
        verb, what, states = argv[0], argv[1], dict(s.split("=") for s in argv[2:])
        if verb == "is":
            found = all(self.state[k] == v for k, v in states.items())
            if not states or any(k.split(".")[0] in self.touched for k in states):  # another step's effect is not this one's
                found = found and self.effects[what] > 0
            return 2 if what in self.blind else int(not found)
        code = self.codes[what].pop(0) if self.codes.get(what) else 0
        if verb == "do" and code == 0 and what not in self.without_effect:
            self.effects[what] += 1
            self.state |= states
            self.touched |= {k.split(".")[0] for k in states}
            self.order_of_effects.append(what)
        return code

    def _send(self, host: str, order: Order) -> Reply:
        key = (order["run"], order["key"])
        if key not in self.receipts:
            if order["fence"] < self.fences[host]:
                self.receipts[key] = {"state": "ended", "how": "fenced", "fence": self.fences[host]}
            else:
                self.fences[host] = order["fence"]
                code = self._run(order["argv"])
                late = code == 124  # as `timeout` has it
                how = {"how": "timed_out"} if late else {"how": "exited", "code": code}
                self.receipts[key] = {"state": "ended", "tail": "", "bytes": 0, **how}
        return self.receipts[key]

    def _ask(self, host: str, order: Order) -> Reply:
        key = (order["run"], order["key"])
        if order.get("settle"):
            self.receipts.setdefault(key, {"state": "ended", "how": "never"})
        return self.receipts.get(key, {"state": "absent"})

    def _stop(self, host: str, order: Order) -> Reply:
        return self._ask(host, {**order, "settle": True})

    def _look(self, host: str, order: Order) -> Reply:
        return {"how": "exited", "code": self._run(order["argv"]), "tail": ""}

    def _fence(self, host: str, order: Order) -> Reply:
        self.fences[host] = max(self.fences[host], order["fence"])
        return {"fence": self.fences[host]}

    def _lock(self, host: str, order: Order) -> Reply:
        if self.lock is None:
            self.fences[host] = max(self.fences[host], order["fence"]) + 1
            self.lock = {**order["owner"], "fence": self.fences[host]}
        taken = self.lock["token"] == order["owner"]["token"]
        return {"taken": True, "fence": self.lock["fence"]} if taken else {"taken": False, "by": self.lock}

    def _unlock(self, host: str, order: Order) -> Reply:
        held = self.lock
        if held is None or (not order.get("force") and held["token"] != order.get("token")):
            return {"freed": False, "by": held}
        self.lock = None
        if order.get("force"):
            self.fences[host] += 1
        return {"freed": True, "by": held, "fence": self.fences[host]}

    def _holder(self, host: str, order: Order) -> Reply:
        return {"by": self.lock, "fence": self.fences[host]}

    def _facts(self, host: str, order: Order) -> Reply:
        import time

        return {
            "boot": "b", "wall_s": time.time(), "free_bytes": self.free_bytes, "writable": True, "sudo": None, "user": "0", "name": host,
            "base": "/",
            "fence": self.fences[host], "by": self.lock, "python": "3.11.0",
        }  # fmt: skip

    def _clean(self, host: str, order: Order) -> Reply:
        return {}


Fault = str
"""What becomes of one order: `ok`; `request`: it never arrives; `reply`: it is done, its answer is lost; `late`: it arrives
after the next order of the same operator."""


class Wires:
    """A transport to a World; *faults* says what becomes of each order that changes something or asks for a receipt."""

    def __init__(self, world: World, faults: Iterator[Fault] | None = None, before: Callable[[str, Order], None] | None = None) -> None:
        self._world, self._faults, self._before = world, faults or iter(()), before
        self._late: list[tuple[str, Order]] = []
        self._guard = threading.Lock()

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        if self._before is not None:
            self._before(host, order)
        with self._guard:
            fault = next(self._faults, "ok") if order["op"] in ("send", "ask") else "ok"
            late, self._late = self._late, []
            if fault == "late" and order["op"] == "send":
                self._late.append((host, order))
        reply = self._world.answer(host, order) if fault in ("ok", "reply") else None
        for delayed in late:
            self._world.answer(*delayed)
        if fault != "ok" or reply is None:
            raise Lost(f"a fault of the test: {fault}")
        return reply

    def close(self) -> None:
        """Nothing is held open; what is late arrives all the same."""
        for delayed in self._late:
            self._world.answer(*delayed)
        self._late = []


def executable(plan: Plan) -> Plan:
    """*plan* whose steps do something in a World and can be asked for."""

    def states(step: Step) -> tuple[str, ...]:
        found = {}
        for verb, instance, *value in (*step.begin, *step.end):
            if verb in ("drain", "out", "kill", "serve", "start", "remove"):
                found[f"{instance}.pool"] = "in" if verb in ("serve", "start") else "out"
            elif verb == "version":
                found[f"{instance}.version"] = str(value[0])
        return tuple(f"{k}={v}" for k, v in found.items())

    def argv(step: Step) -> dict[str, tuple[str, ...]]:
        if step.kind == "step":
            return {"run": ("do", step.id, *states(step)), "check": ("is", step.id, *states(step))}
        return {"run": ("look", step.id)} if step.kind == "gate" else {}

    steps = [s.model_copy(update=argv(s)) for s in plan.steps]
    return Plan.model_validate(plan.model_copy(update={"steps": tuple(steps), "goals": ()}).model_dump())


def started(plan: Plan, path: pathlib.Path, world: World, operator: Operator | None = None, **more: Any) -> Ending:
    """A new run of *plan*."""
    return conduct(plan, begin(plan, path, SETTINGS), SETTINGS, operator or Script(), lambda _: True, transport=Wires(world, **more))


def resumed(plan: Plan, path: pathlib.Path, world: World, operator: Operator | None = None, **more: Any) -> Ending:
    """The run goes on in another process."""
    world.is_orphaned = False
    journal, settings = take_up(plan, path)
    return conduct(plan, journal, settings, operator or Script(), lambda _: True, transport=Wires(world, **more))


def kinds(entries: list[Entry]) -> list[str]:
    return [e.kind for e in entries]


__all__ = ["QUICK", "SETTINGS", "Hands", "History", "Journal", "Killed", "Wires", "World", "executable", "kinds", "resumed", "started"]
