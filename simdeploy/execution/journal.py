"""The journal: what the runner meant to do and what became of it, on the disk before anything depends on it.

One JSON object a line: seq, wall and monotonic time, kind, body, checksum over all that. It is only ever appended to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from simdeploy.errors import JournalError, LockedError, PlanError

Kind = Literal[
    "opened", "cut", "preflight", "locked", "asked", "answered", "intent", "result", "again", "ended", "aborted",
    "warning", "pause", "request", "sampled", "closed",
]  # fmt: skip
LOOKED_AT_S = 0.5
"""How long who wants to write a journal waits for those who only look whether somebody does."""


class Entry(NamedTuple):
    """One line of a journal."""

    seq: int
    wall_s: float
    """Seconds since 1970."""
    mono_s: float
    """Seconds on a clock of the machine that only runs forward, also while it is suspended."""
    kind: Kind
    body: dict[str, Any]


def clock_s() -> float:
    """A clock that runs forward, also while the machine sleeps [s]."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Journal:
    """A journal that is open for writing, by one process at a time.

    A write that fails closes it for good: after a failed fsync a later one may succeed and have lost what came before.
    """

    def __init__(self, path: pathlib.Path, fd: int, entries: list[Entry]) -> None:
        self.path = path
        self.entries = entries
        self._fd = fd
        self._is_broken = False

    @classmethod
    def create(cls, path: pathlib.Path) -> Journal:
        """A new journal in *path*. Raises JournalError where that cannot be made, or where a file is there already."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _own(fd, path)
                _sync_folder(path)
            except BaseException:
                os.close(fd)
                raise
        except FileExistsError:
            raise PlanError(f"{path}: is there already; go on with 'simdeploy resume {path}', or name a new file") from None
        except OSError as error:
            raise JournalError(f"{path}: cannot be written ({error.strerror}); nothing was begun; name a file that you may write") from None
        return cls(path, fd, [])

    @classmethod
    def reopen(cls, path: pathlib.Path) -> Journal:
        """The journal in *path*, to go on with; a last line that was not finished is cut off, which is noted.

        Raises PlanError for what is no journal or has a bad line before its end, LockedError where another process writes it.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise PlanError(f"{path}: cannot be opened ({error.strerror}); name the journal of a run") from None
        try:
            _own(fd, path)
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            entries = list(_entries(content[:whole], path))
            journal = cls(path, fd, entries)
            if whole < len(content):
                os.ftruncate(fd, whole)
                os.fsync(fd)
                if entries:
                    journal.write("cut", bytes=len(content) - whole)
        except BaseException:
            os.close(fd)
            raise
        return journal

    def write(self, kind: Kind, *, durable: bool = True, **body: Any) -> Entry:
        """Append one entry; *durable*: it is on the disk when this returns. Raises JournalError."""
        if self._is_broken:
            raise JournalError(f"{self.path}: a write has failed before; nothing more is written to it")
        entry = Entry(len(self.entries) + 1, time.time(), clock_s(), kind, body)
        line = _line(entry)
        try:
            while line:
                line = line[os.write(self._fd, line) :]
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            self._is_broken = True
            raise JournalError(f"{self.path}: cannot be written ({error.strerror})") from None
        self.entries.append(entry)
        return entry

    def close(self) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


def read_journal(path: pathlib.Path) -> list[Entry]:
    """The entries of a journal, also of one that is being written; a last line that is not finished is left out.

    Raises PlanError for what is no journal.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); name the journal of a run") from None
    return list(_entries(content[: content.rfind(b"\n") + 1], path))


def is_written(path: pathlib.Path) -> bool:
    """Whether a process has the journal open to write it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def last(entries: list[Entry], kind: Kind, where: Callable[[Entry], bool] = lambda _: True) -> Entry | None:
    """The last entry of a kind."""
    return next((e for e in reversed(entries) if e.kind == kind and where(e)), None)


def named_plan(entries: list[Entry]) -> str:
    """The file of the plan that a run was last begun or resumed with, as a shell takes it; PLAN where none was named."""
    opened = last(entries, "opened", lambda e: bool(e.body.get("plan")))
    return shlex.quote(opened.body["plan"]) if opened else "PLAN"


def _entries(content: bytes, path: pathlib.Path) -> Iterator[Entry]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            found = json.loads(line)
            entry = Entry(*(found[name] for name in Entry._fields))
        except (ValueError, KeyError, TypeError):
            entry = None
        if entry is None and number == 1 and b'"kind"' not in line and b'"sum"' not in line:
            raise PlanError(f"{path}: is no journal of a run; name the file that 'simdeploy run --journal FILE' wrote")
        if entry is None or entry.seq != number or _line(entry).rstrip(b"\n") != line:
            raise PlanError(
                f"{path}:{number}: this line is spoilt, and others follow it or it is whole: the journal was changed after it was written, "
                f"or its disk is bad; nothing is resumed from it. What is known stands before line {number}"
            )
        yield entry


def _line(entry: Entry) -> bytes:
    content = entry._asdict()
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["sum"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _own(fd: int, path: pathlib.Path) -> None:
    end = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() > end:
            raise LockedError(f"{path}: another process is writing it; see 'simdeploy status {path}'")
        time.sleep(0.01)


def _sync_folder(path: pathlib.Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
