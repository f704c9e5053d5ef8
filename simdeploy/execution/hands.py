"""One step on its host: look whether it is done, send it, follow it to its end. Every wait is bounded; nothing is sent twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from simdeploy.errors import PlanError
from simdeploy.execution.outcomes import Outcome, of_reply
from simdeploy.execution.transports import DESK, Lost, Reply, Transport
from simdeploy.execution.vault import resolve
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step

Look = Literal["there", "not there", "cannot tell", "unreachable"]
"""What a check says: exit code 0; 1 or 3 (as `systemctl is-active`); anything else; nothing."""


class Limits(NamedTuple):
    """How long things may take [s]."""

    step_s: float = 3600.0
    """An attempt of a step that has no time-out of its own, where its mean is not longer."""
    look_s: float = 60.0
    """A check, and what a step expects."""
    reach_s: float = 60.0
    """Until a host that does not answer counts as unreachable."""
    grace_s: float = 10.0
    """Between the polite and the other end of a process."""
    poll_s: float = 15.0
    """One question for a receipt waits so long on the host."""


class Hands:
    """Carries out steps of one run over a transport; each method may be called from any thread."""

    def __init__(
        self, plan: Plan, transport: Transport, run: str, limits: Limits | None = None, root: str | None = None,
        secrets_of: Callable[[Mapping[str, str]], dict[str, str]] = resolve,
    ) -> None:  # fmt: skip
        self._transport, self.run, self.limits, self._secrets_of = transport, run, limits or Limits(), secrets_of
        self.fence = 0
        """Ours, once we have the lock."""
        self._base = {"environment": plan.environment.name, "run": run, **({"root": root} if root else {})}
        self._number = plan.wiring.position
        self.is_called_off: Callable[[], bool] = lambda: False
        """Whether nothing new may be sent any more."""
        self.plan_file = "PLAN"
        """How messages call the file of the plan."""

    def order(self, host: str, op: str, patience_s: float | None = None, **fields: Any) -> Reply:
        """One order to one host. Raises Lost."""
        reply = self._transport.carry(host, {"op": op, "fence": self.fence, **self._base, **fields}, patience_s or self.limits.reach_s)
        if "error" in reply:
            raise Lost(f"{host or 'this machine'}: {reply['error']}")
        return reply

    def carry_out(self, step: Step, attempt: int, must_know: bool) -> Outcome:
        """Look, and send the step unless its effect is there; what became of it.

        *must_know*: an earlier attempt may have taken effect, so it is not sent unless the check says that it has not.
        """
        looked, said = self.look(step)
        if looked == "there":
            return Outcome("succeeded", "it was there already", by="check", tail=said)
        if looked == "unreachable":
            return Outcome("failed", f"its host cannot be reached: {said}", by="runner", no_effect=True)
        if looked == "cannot tell" and must_know:
            return Outcome("failed", f"not tried again: its check cannot tell whether the last attempt took effect: {said}", by="check")
        if step.expects:
            try:
                reply = self._look(step, step.expects)
            except (Lost, PlanError) as error:
                return Outcome("failed", f"what it expects cannot be asked: {error}", by="runner", no_effect=True)
            if (reply.get("how"), reply.get("code")) != ("exited", 0):
                return Outcome("failed", "the world is not as it expects", by="check", tail=str(reply.get("tail", "")), no_effect=True)
        if self.is_called_off():
            return Outcome("cancelled", "the run was called off before it was sent", by="runner", no_effect=True)
        return self._send(step, attempt)

    def settle(self, step: Step, attempt: int) -> Outcome:
        """What became of an attempt that an earlier process has meant to send: by its receipt, else by the step's check."""
        return self._follow(step, attempt, None, time.monotonic() + self._deadline_s(step))

    def stop(self, step: Step, attempt: int) -> None:
        """End the processes of an attempt; what became of it is for who follows it to say."""
        try:
            self.order(step.on, "stop", key=self._key(step, attempt), grace_s=self.limits.grace_s)
        except Lost:
            return

    def look(self, step: Step) -> tuple[Look, str]:
        """What the step's check says, and in which words; a step without one cannot tell."""
        if not step.check or step.kind == "gate":
            return "cannot tell", "it has no check"
        end, why = time.monotonic() + self.limits.reach_s, ""
        while True:
            try:
                reply = self._look(step, step.check, is_check=True)
            except PlanError as error:
                return "cannot tell", str(error)
            except Lost as error:
                why = str(error)
                if time.monotonic() > end or self.is_called_off():
                    return "unreachable", why
                time.sleep(min(1.0, self.limits.reach_s / 5))
                continue
            return verdict(reply), str(reply.get("tail", "")).strip()

    def _look(self, step: Step, argv: Sequence[str], **fields: Any) -> Reply:
        limit_s = self.limits.look_s
        return self.order(
            step.on,
            "look",
            limit_s + self.limits.reach_s,
            argv=words(argv),
            deadline_s=limit_s,
            secrets=self._secrets_of(step.secrets),
            **fields,
        )

    def _send(self, step: Step, attempt: int) -> Outcome:
        argv = step.run or step.check
        deadline_s = self._deadline_s(step)
        wait_s = min(self.limits.poll_s, deadline_s)
        try:
            secrets = self._secrets_of(step.secrets)
        except PlanError as error:
            return Outcome("failed", str(error), by="runner", no_effect=True)
        order = {"key": self._key(step, attempt), "argv": words(argv), "deadline_s": deadline_s, "grace_s": self.limits.grace_s}
        try:
            reply: Reply | None = self.order(step.on, "send", wait_s + self.limits.reach_s, **order, secrets=secrets, wait_s=wait_s)
        except Lost:
            reply = None
        return self._follow(step, attempt, reply, time.monotonic() + deadline_s)  # it may have waited for a session

    def _follow(self, step: Step, attempt: int, reply: Reply | None, end: float) -> Outcome:
        """Ask for the receipt until it says how it ended, or until nobody can be expected to say."""
        limits = self.limits
        end += limits.grace_s + limits.poll_s
        silent_since, why = time.monotonic(), ""
        while True:
            if reply is not None and reply["state"] == "ended":
                return of_reply(reply)
            if reply is not None and reply["state"] == "lost":
                return self._by_check(step, str(reply["why"]))
            now = time.monotonic()
            if reply is None and now > silent_since + limits.reach_s + limits.poll_s:
                return Outcome("unknown", f"its host does not answer, so its receipt was not read: {why}", by="runner")
            if now > end and reply is not None:
                return Outcome("unknown", "it is beyond its time-out and its supervisor does not end it", by="receipt")
            try:
                left_s = max(0.0, min(limits.poll_s, end - now))
                key = self._key(step, attempt)
                reply = self.order(step.on, "ask", left_s + limits.reach_s, key=key, settle=True, wait_s=left_s)
                silent_since = time.monotonic()
            except Lost as error:
                reply, why = None, str(error)
                time.sleep(min(0.5, limits.reach_s / 10))

    def _by_check(self, step: Step, why: str) -> Outcome:
        """What a check says where the receipt knows no end; not while the command may still be at work."""
        if why.endswith("still runs"):
            return Outcome("unknown", why)
        looked, said = self.look(step)
        if looked == "there":
            return Outcome("succeeded", f"{why}; its check finds its effect", by="check", tail=said)
        if looked == "not there":
            return Outcome("failed", f"{why}; its check finds no effect", by="check", tail=said, no_effect=True)
        return Outcome("unknown", f"{why}, and its check cannot tell: {said}", by="check")

    def _deadline_s(self, step: Step) -> float:
        return step.timeout_s if step.timeout_s else max(self.limits.step_s, 10 * step.mean_s)

    def _key(self, step: Step, attempt: int) -> str:
        return f"{self._number[step.id]}.{attempt}"


def verdict(reply: Reply) -> Look:
    """What the answer of a check means."""
    if reply.get("how") != "exited":
        return "cannot tell"
    return {0: "there", 1: "not there", 3: "not there"}.get(int(reply["code"]), "cannot tell")  # type: ignore[return-value]


def words(argv: Sequence[str]) -> list[str]:
    """The words of a command as they are executed: `sudo` never asks."""
    return [argv[0], "-n", *argv[1:]] if argv and argv[0] == "sudo" and "-n" not in argv[1:2] else [*argv]


def command_digest(step: Step) -> str:
    """SHA-256 of what a step executes, for its intent."""
    return hashlib.sha256(json.dumps(words(step.run or step.check)).encode()).hexdigest()


def hosts_of(plan: Plan) -> list[str]:
    """The hosts that the plan's commands are sent to, in the order of its machines; the desk, where it has steps, first."""
    used = {s.on for s in plan.steps if s.run or s.check or s.expects}
    return [host for host in (DESK, *plan.environment.machine_index) if host in used]
