"""What people ask of a run from another terminal: small files in a folder beside its journal."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from typing import Literal, NamedTuple

Verb = Literal["pause", "rollback", "abort", "skip", "answer"]


class Request(NamedTuple):
    """One wish, and whose it is."""

    verb: Verb
    who: str
    step: str = ""
    because: str = ""
    answer: str = ""


def folder_of(journal: pathlib.Path) -> pathlib.Path:
    """Where the requests to the run of *journal* are put."""
    return journal.with_name(f"{journal.name}.requests")


def put(journal: pathlib.Path, request: Request) -> None:
    """Leave a request for whoever runs *journal*."""
    folder = folder_of(journal)
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / f".{os.getpid()}"
    fresh.write_text(json.dumps(request._asdict()), encoding="utf-8")
    fresh.rename(folder / f"{time.time_ns()}-{os.getpid()}.json")


def waiting(journal: pathlib.Path) -> list[tuple[pathlib.Path, Request | None]]:
    """The requests that wait, oldest first; None for what is none."""
    try:
        files = sorted(folder_of(journal).glob("*.json"))
    except OSError:
        return []
    return [(file, _read(file)) for file in files]


def done(file: pathlib.Path) -> None:
    """Forget a request that is in the journal."""
    with contextlib.suppress(OSError):
        file.unlink()


def _read(file: pathlib.Path) -> Request | None:
    try:
        return Request(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
