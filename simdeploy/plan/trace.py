"""What happened, simulated or real: step records and world records in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

StepKind = Literal["began", "again", "ended", "aborted"]
"""`again`: another attempt of a drain that lasts until its target is idle; of other steps only the first attempt's begin counts."""
WorldKind = Literal["noticed", "risen", "elected", "expired", "crashed", "repaired", "corrupted", "demand", "bad_release"]

GONE = "gone"
"""The value of a `crashed` machine that never returns."""


class Record(NamedTuple):
    """One thing that happened."""

    at_s: float
    """Seconds since the first step could start."""
    kind: StepKind | WorldKind
    subject: str
    """A step's id, an instance, a service or a machine; of a bad release what brings it, `main` or `forward`."""
    value: str | float = ""
    """How a step ended (succeeded, failed, skipped, not_needed), what an abort by it leads to (rollback, forward, halt),
    the new demand [req/s], the forward round that brings a bad release, or of a machine that dies and never returns `gone`."""

    def __str__(self) -> str:
        return f"{self.at_s:10.1f} s  {self.kind:<11} {self.subject}{f'  {self.value}' if self.value != '' else ''}"


class Trace(NamedTuple):
    """The records of one run, in order; at one instant: ends in plan order, the world, judges, begins."""

    records: Sequence[Record]
    end_s: float
    """Until when the world was followed."""
    outcome: str
    source: Literal["simulated", "journal"] = "simulated"

    def __iter__(self) -> Iterator[Record]:  # type: ignore[override]  # a trace is read as its records
        return iter(self.records)
