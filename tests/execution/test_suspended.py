"""The laptop of the operator sleeps for minutes: longer than any silence, time-out and kept connection that the runner knows of."""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile
import time

import pytest

from simdeploy.execution.journal import read_journal
from tests.execution.boxes import until
from tests.execution.test_over_ssh import over_ssh
from tests.execution.test_processes import LOCAL, Desk

pytestmark = pytest.mark.slow
MINUTES_S = 125.0
"""More than the 60 s that a shared connection is kept, the 30 s that a step may take, and the 15 s of silence."""


def controllers(runners: list[int], folder: str) -> list[int]:
    """The runners and whatever speaks ssh for them."""
    speaking = [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*") if folder.encode() in _words(p)]
    return sorted({*runners, *speaking})


def _words(process: pathlib.Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def signalled(pid: int, number: int) -> bool:
    """Whether it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def test_after_minutes_of_sleep_a_run_goes_on_and_nothing_is_done_twice(tmp_path, boxes, box):
    """Side by side over ssh, with its connections asleep as well, and on the local transport."""
    with tempfile.TemporaryDirectory(prefix="sd-") as short:
        desks = {way: Desk(tmp_path / way) for way in ("ssh", "local")}
        runners: list[int] = []
        for way, desk in desks.items():
            desk.folder.mkdir()
            desk.env["TMPDIR"] = short
            desk.write(0.0, 5.0, 0.0)
            words = ("run", str(desk.plan_file), "--journal", str(desk.journal), "--yes", *LOCAL)
            process = desk.start(*(over_ssh(desk, boxes) if way == "ssh" else words))
            runners.append(process.pid)
            desk.until_began(1)
        asleep = [pid for pid in controllers(runners, short) if signalled(pid, signal.SIGSTOP)]
        assert len(asleep) >= 3  # two runners and a connection at least
        time.sleep(MINUTES_S)
        assert all(desk.done() == ["s0", "s1"] for desk in desks.values())  # hosts do not sleep
        for pid in asleep:
            signalled(pid, signal.SIGCONT)

        for desk in desks.values():
            said, _ = desk.processes[0].communicate(timeout=60)
            assert desk.processes[0].returncode in (0, 9), said  # 9: later than the forecast's P99, which is a pause
            if desk.processes[0].returncode:
                code, said = desk.resume()
                assert code == 0, said
            words = [e.body["word"] for e in read_journal(desk.journal) if e.kind == "result"]
            assert desk.done() == ["s0", "s1", "s2"] and words == ["succeeded"] * 3 and not desk.lock()
            desk.close()
        until(lambda: box.processes() == [], 10)
