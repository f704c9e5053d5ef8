"""What becomes of an attempt: a closed set, told from what a host's receipt says."""

from __future__ import annotations

import signal
from typing import Literal, NamedTuple

from simdeploy.execution.transports import Reply

Word = Literal["succeeded", "failed", "killed", "timed_out", "cancelled", "unknown"]
"""An attempt without a receipt or an intent is one more: not started."""


class Outcome(NamedTuple):
    """What became of one attempt, and how that is known."""

    word: Word
    detail: str = ""
    by: Literal["receipt", "check", "person", "runner"] = "receipt"
    tail: str = ""
    """The end of what the command printed."""
    no_effect: bool = False
    """It is certain that the command was never started, or has taken no effect."""
    fenced: int = 0
    """The fence number by which somebody has taken over, where the host refused us."""

    def __str__(self) -> str:
        return f"{self.word}{f' ({self.detail})' if self.detail else ''}"


def of_reply(reply: Reply) -> Outcome:
    """The outcome of a receipt's end. A real exit code is in a field of its own, so nothing can be mistaken for it."""
    how, tail = reply.get("how"), str(reply.get("tail", ""))
    if how == "exited":
        code = int(reply["code"])
        return Outcome("succeeded", tail=tail) if code == 0 else Outcome("failed", f"exit code {code}", tail=tail)
    if how == "signal":
        return Outcome("killed", _signal_name(int(reply["signal"])), tail=tail)
    if how == "timed_out":
        return Outcome("timed_out", "its processes were ended", tail=tail)
    if how == "cancelled":
        return Outcome("cancelled", "its processes were ended", tail=tail)
    if how == "never":
        return Outcome("cancelled", "it was never started", no_effect=True)
    if how == "fenced":
        return Outcome("cancelled", "somebody has taken over", no_effect=True, fenced=int(reply["fence"]))
    return Outcome("unknown", f"the receipt says {reply!r:.80}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
