"""The journal on a real disk: cut at every byte, spoilt, full, written by two."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.errors import JournalError, LockedError, PlanError
from simdeploy.execution.journal import Journal, is_written, read_journal

HOSTILE = "ü\u2028\n\x00\x1b[2J\ud800"


def some(path: pathlib.Path) -> list[tuple[str, dict[str, object]]]:
    """A journal of five entries; what they say."""
    said = [("opened", {"run": "r"}), ("intent", {"step": HOSTILE}), ("result", {"n": 1.5}), ("ended", {"x": None}), ("closed", {})]
    journal = Journal.create(path)
    for kind, body in said:
        journal.write(kind, **body)
    journal.close()
    return said


def test_what_was_written_is_read_and_only_its_owner_may(tmp_path):
    said = some(tmp_path / "j")
    entries = read_journal(tmp_path / "j")

    assert [(e.kind, e.body) for e in entries] == said and [e.seq for e in entries] == [1, 2, 3, 4, 5]
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600
    assert all(json.loads(line) for line in (tmp_path / "j").read_bytes().splitlines())


def test_cut_at_every_byte_the_whole_lines_are_there_and_the_journal_can_be_gone_on_with(tmp_path):
    some(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    for length in range(len(whole) + 1):
        path = tmp_path / f"cut{length}"
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        assert len(read_journal(path)) == lines
        journal = Journal.reopen(path)
        torn = length - (whole[:length].rfind(b"\n") + 1)
        cut = [e.body["bytes"] for e in journal.entries if e.kind == "cut"]
        assert cut == ([torn] if torn and lines else [])
        if lines:
            journal.write("warning", reason="r")
            assert [e.seq for e in read_journal(path)] == list(range(1, lines + len(cut) + 2))
        journal.close()
        path.unlink()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_line_that_was_changed_is_found_wherever_it_was_changed(tmp_path_factory, place, change):
    path = tmp_path_factory.mktemp("j") / "j"
    some(path)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    at = place % (last - 1)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])

    with pytest.raises(PlanError, match="spoilt"):
        Journal.reopen(path)


@pytest.mark.parametrize("change", ["drop", "double", "swap"])
def test_lines_that_are_missing_doubled_or_moved_are_found(tmp_path, change):
    some(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    kept = {"drop": lines[:1] + lines[2:], "double": lines[:2] + lines[1:], "swap": [lines[1], lines[0], *lines[2:]]}[change]
    (tmp_path / "j").write_bytes(b"".join(kept))

    with pytest.raises(PlanError, match=r"j:\d: this line is spoilt"):
        read_journal(tmp_path / "j")


def test_a_journal_is_never_written_over(tmp_path):
    some(tmp_path / "j")
    with pytest.raises(PlanError, match="is there already; go on with 'simdeploy resume"):
        Journal.create(tmp_path / "j")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlanError, match="is there already"):
        Journal.create(tmp_path / "link")


def test_one_process_writes_it(tmp_path):
    journal = Journal.create(tmp_path / "j")
    journal.write("opened", run="r")
    other = f"from simdeploy.execution.journal import *; import pathlib; Journal.reopen(pathlib.Path({str(tmp_path / 'j')!r}))"
    said = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False, cwd=os.getcwd())

    assert "LockedError" in said.stderr and "another process is writing it" in said.stderr and is_written(tmp_path / "j")
    with pytest.raises(LockedError):
        Journal.reopen(tmp_path / "j")
    journal.close()
    assert not is_written(tmp_path / "j")


def test_a_disk_that_is_full_stops_it_for_good(tmp_path):
    """A real write that fails: the process may not make files longer than 2 kB."""
    program = f"""
import pathlib, resource, signal
from simdeploy.errors import JournalError
from simdeploy.execution.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.create(pathlib.Path({str(tmp_path / "j")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    for k in range(100):
        journal.write("intent", step=k)
except JournalError as error:
    print(k, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    journal.write("intent", step=k)
except JournalError as error:
    print("still", error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.getcwd()).stdout.splitlines()
    written = int(said[0].split()[0])

    assert "cannot be written" in said[0] and said[1].startswith("still") and len(said) == 2
    entries = read_journal(tmp_path / "j")
    assert [e.body["step"] for e in entries] == list(range(written))  # what write() has promised, and no more
    journal = Journal.reopen(tmp_path / "j")  # the torn line goes
    journal.close()


def test_a_folder_that_is_not_there_is_no_place(tmp_path):
    with pytest.raises(JournalError, match="nothing was begun"):
        Journal.create(tmp_path / "nowhere" / "j")
    with pytest.raises(PlanError, match="name the journal of a run"):
        Journal.reopen(tmp_path / "nowhere")


def test_who_only_looks_whether_a_journal_is_written_keeps_nobody_from_writing_it(tmp_path):
    Journal.create(tmp_path / "j").close()
    with open(tmp_path / "j") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_written(tmp_path / "j")
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        Journal.reopen(tmp_path / "j").close()


def test_a_file_that_is_no_journal_is_called_that(tmp_path):
    (tmp_path / "notes").write_text("deploy at ten\n")
    with pytest.raises(PlanError, match="is no journal of a run"):
        read_journal(tmp_path / "notes")
