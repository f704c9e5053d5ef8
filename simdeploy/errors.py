"""One root error and its few leaves; every message names the culprit, the value, the rule and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Where in a document something stands: keys and list positions from its root."""


class SimdeployError(Exception):
    """Root of simdeploy's errors. Not a ValueError: pydantic would re-wrap one raised in a validator."""


class UnitError(SimdeployError):
    """A text is no quantity of the dimension that is wanted here."""


class Problem(NamedTuple):
    """One thing that is wrong with a document: where, and what with its way out."""

    path: Path
    message: str


class InvalidDocument(SimdeployError):
    """A document breaks rules that span several of its fields; carries every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{'.'.join(map(str, p.path)) or 'document'}: {p.message}" for p in self.problems))


class Fault(NamedTuple):
    """One thing that is wrong with a file, with its place (line and column count from 1)."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class FileError(SimdeployError):
    """A file cannot be used; carries every fault found, in the order of the file."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(dict.fromkeys(faults), key=lambda f: (f.file, f.line, f.column)))
        super().__init__("\n".join(map(str, self.faults)))


class PlanError(SimdeployError):
    """The steps form no plan; says which step, what is wrong, and what would mend it.

    Where a plan is there to point into it carries every problem found, with its path in the plan.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class StudyError(SimdeployError):
    """A question that cannot be asked of this scenario, e.g. about a strategy that it does not have."""


class DiffersError(SimdeployError):
    """A plan, its environment or its hosts are not what was vetted; names both sides."""


class JournalError(SimdeployError):
    """The journal cannot be written: the plan stops at once; names what is in flight."""


class LockedError(SimdeployError):
    """Somebody else operates this environment, or has taken it over; names them."""
