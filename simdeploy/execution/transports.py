"""How an order comes to a host and its answer back: over the system's OpenSSH, or on this machine. The only door to ssh.

A transport carries and never judges: it gives the host's framed answer, or says that the connection was lost, and then
nothing is known but what the receipt will say.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from simdeploy.execution.host import FRAME

DESK = ""
"""The operator's own machine."""
MOST_BYTES = 1_000_000
"""Of what a host may say: an answer is a few kB, the rest is noise."""
MOST_AT_ONCE = 5
"""Sessions on one host: sshd allows ten (MaxSessions), and counts one that has ended until it has read all that came with its end."""
MOST_LOGINS = 8
"""Hosts to which we log in at once: an sshd, as that of a jump host, begins to drop those above ten (MaxStartups)."""
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_PROGRAM = (pathlib.Path(__file__).parent / "host.py").read_bytes()

Order = Mapping[str, Any]
Reply = dict[str, Any]


class Lost(Exception):
    """No answer came: nothing is known of what the order did. Carries what the transport said, for people."""


class Transport(Protocol):
    """Carries orders to hosts; safe to call from several threads."""

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        """The answer of *host* (DESK: this machine). Raises Lost where none came within *patience_s*."""

    def close(self) -> None:
        """Give back what it holds open."""


class Local:
    """Everything on this machine: for a first try without a server, and for the steps of the operator's desk."""

    def __init__(self, python: str = sys.executable) -> None:
        self._argv = [python, "-I", "-"]

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        """The answer of this machine, whatever *host* is called."""
        return _converse(self._argv, order, patience_s)

    def close(self) -> None:
        """Nothing is held open."""


class Ssh:
    """The system's `ssh` with the user's configuration, agent and jump hosts; one connection a host, shared (ControlMaster).

    Host keys are always checked, no question is ever asked; what runs on the desk does not go over ssh.
    """

    def __init__(self, config: pathlib.Path | None = None, connect_s: float = 10.0, alive_s: float = 5.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sd-")  # short: the path of a socket has 104 characters
        alive = ["-o", f"ServerAliveInterval={max(1, round(alive_s))}", "-o", "ServerAliveCountMax=3"]
        self._ssh = [*ssh_words(config, connect_s), *alive, "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
        self._desk = Local()
        self._roads: dict[str, _Road] = {}
        self._guard = threading.Lock()
        self._logins = threading.BoundedSemaphore(MOST_LOGINS)

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        """The answer of *host*. Raises Lost. To wait for a session is not silence: whoever has one has it for a bounded time."""
        if host == DESK:
            return self._desk.carry(host, order, patience_s)
        with self._guard:
            road = self._roads.setdefault(host, _Road(pathlib.Path(self._folder.name, str(len(self._roads)))))
        with road.sessions:
            self._log_in(host, road, patience_s)
            return _converse([*self._ssh, *road.words, "-T", "--", host, "exec python3 -I -"], order, patience_s)

    def close(self) -> None:
        """End the shared connections."""
        for host, road in self._roads.items():
            if road.socket.exists():
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(
                        [*self._ssh, *road.words, "-O", "exit", "--", host], stdin=subprocess.DEVNULL, capture_output=True, timeout=5,
                        check=False,
                    )  # fmt: skip
        self._folder.cleanup()

    def _log_in(self, host: str, road: _Road, patience_s: float) -> None:
        """Make the shared connection, where there is none; who waits for another's attempt shares its failure. Raises Lost."""
        asked_s = time.monotonic()
        with road.door:
            if road.socket.exists():
                return
            if road.failed_s > asked_s:
                raise Lost(road.why)
            with self._logins:
                road.why = self._login(host, road, patience_s)
            if road.why:
                road.failed_s = time.monotonic()
                raise Lost(road.why)

    def _login(self, host: str, road: _Road, patience_s: float) -> str:
        """Why it fails; empty where it does not."""
        try:
            done = subprocess.run(
                [*self._ssh, *road.words, "-T", "--", host, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=patience_s, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "no login in time"
        except OSError as error:
            return f"ssh cannot be run ({error.strerror}); install openssh-client"
        return _told(done.stdout) if done.returncode else ""


class _Road:
    """How one host is reached: the socket of its shared connection, and who may use it."""

    def __init__(self, socket: pathlib.Path) -> None:
        self.socket = socket
        """There while the connection is."""
        self.words = ("-o", f"ControlPath={socket}")
        self.door = threading.Lock()
        self.why = ""
        """Of the latest login that failed."""
        self.failed_s = 0.0
        """When that was, on the clock that only runs forward."""
        self.sessions = threading.BoundedSemaphore(MOST_AT_ONCE)


class Recorder:
    """Carries nothing: it writes every order down, and answers as a host where everything succeeds."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Order]] = []

    def carry(self, host: str, order: Order, patience_s: float) -> Reply:
        """The answer of a host where everything succeeds; a check says that its effect is not there yet."""
        self.orders.append((host, order))
        if order["op"] == "look":
            return {"how": "exited", "code": 1 if order.get("is_check") else 0, "tail": ""}
        if order["op"] == "lock":
            return {"taken": True, "fence": 1}
        return {"state": "ended", "how": "exited", "code": 0, "tail": "", "bytes": 0, "fence": 1, "freed": True, "by": None}

    def close(self) -> None:
        """Nothing is held open."""


def ssh_words(config: pathlib.Path | None, connect_s: float) -> list[str]:
    """The words of an `ssh` that checks host keys and asks nothing."""
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={max(1, round(connect_s))}", "LogLevel=ERROR")
    return ["ssh", *(["-F", str(config)] if config else []), *(word for option in options for word in ("-o", option))]


def _converse(argv: Sequence[str], order: Order, patience_s: float) -> Reply:
    """Send our program and the *order* to a Python that reads it from standard input; its framed answer."""
    nonce = secrets.token_hex(8)
    call = f"\nmain(json.loads({json.dumps({**order, 'nonce': nonce})!r}))\n"
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )  # a session of its own: Ctrl-C is ours to handle
    except OSError as error:
        raise Lost(f"{argv[0]} cannot be run ({error.strerror})") from None
    end = time.monotonic() + patience_s
    try:
        said = _exchange(process, _PROGRAM + call.encode(), end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))  # its session is over before another begins
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
    return _framed(said, nonce)


def _exchange(process: subprocess.Popen[bytes], data: bytes, end: float) -> bytes:
    """Write all *data*, read until the other side is done; what it said, of too much the end."""
    assert process.stdin and process.stdout
    said, left = b"", memoryview(data)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stdout, selectors.EVENT_READ)
        while (now := time.monotonic()) < end:
            for key, _ in ready.select(min(end - now, 1.0)):
                if key.fileobj is process.stdout:
                    piece = os.read(process.stdout.fileno(), 65536)
                    if not piece:
                        return said
                    said = (said + piece)[-MOST_BYTES:]
                    continue
                try:
                    left = left[os.write(process.stdin.fileno(), left[:65536]) :]
                except BrokenPipeError:
                    left = left[:0]
                if not left:
                    ready.unregister(process.stdin)
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()
    return said


def _framed(said: bytes, nonce: str) -> Reply:
    start = f"{FRAME} {nonce} ".encode()
    for line in reversed(said.splitlines()):
        if line.startswith(start):
            try:
                reply = json.loads(line[len(start) :])
            except ValueError:
                break
            if isinstance(reply, dict):
                return reply
    raise Lost(_told(said))


def _told(said: bytes) -> str:
    """Why there is no answer, as ssh tells it: the end of it, or that a key has changed, of which it tells a long story."""
    text = said.decode("utf-8", "backslashreplace").strip()
    return _CHANGED if _CHANGED in text else text[-300:] or "no answer came in time"
