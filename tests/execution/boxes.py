"""Boxes on loopback: each a real `sshd` with an address, a host key and a home of its own, behind a relay with faults."""

from __future__ import annotations

import contextlib
import getpass
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

Cut = Literal["fin", "rst"]
TICK_S = 0.01
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: to close is to send RST."""


class Unavailable(Exception):
    """Boxes cannot be had on this machine; says why, and what to type."""


class Relay:
    """The network in front of a box. Everything happens in one thread, so that a socket is never closed under a reader."""

    def __init__(self, address: str, behind: int) -> None:
        self.connects: list[float] = []
        """When each connection came [monotonic s]."""
        self.sent_bytes = 0
        """What has gone to the box."""
        self._behind = (address, behind)
        self._door = socket.create_server((address, 0), backlog=64)
        self.port: int = self._door.getsockname()[1]
        self._partner: dict[socket.socket, socket.socket] = {}
        self._from_desk: set[socket.socket] = set()
        self._frozen: set[socket.socket] = set()
        self._swallows = False
        self._left: int | None = None
        self._way: Cut = "rst"
        self._todo: list[Callable[[], None]] = []
        self._guard = threading.Lock()
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self, way: Cut) -> None:
        """End every connection."""
        self._do(lambda: self._cut(way))

    def cut_after(self, count: int, way: Cut) -> None:
        """End every connection as soon as *count* more bytes have gone to the box."""

        def arm() -> None:
            self._left, self._way = count, way

        self._do(arm)

    def freeze(self) -> None:
        """Carry nothing more on the connections that are open now, for good; new ones work."""
        self._do(lambda: self._frozen.update(self._partner))

    def swallow(self, swallows: bool) -> None:
        """Accept every connection and swallow every byte; who heals this ends what was open, as half of it is lost."""

        def turn() -> None:
            if self._swallows and not swallows:
                self._cut("rst")
            self._swallows = swallows

        self._do(turn)

    def reset(self) -> None:
        """An honest network without connections."""

        def heal() -> None:
            self._swallows, self._left = False, None
            self._cut("rst")
            self.connects.clear()
            self.sent_bytes = 0

        self._do(heal)

    def close(self) -> None:
        self._do(lambda: self._cut("rst"))
        self._is_open = False
        self._thread.join(5)
        self._door.close()

    def _do(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def doing() -> None:
            act()
            done.set()

        with self._guard:
            self._todo.append(doing)
        assert done.wait(10), "the relay hangs"

    def _serve(self) -> None:
        while self._is_open:
            with self._guard:
                todo, self._todo = self._todo, []
            for act in todo:
                act()
            watched = [self._door, *(s for s in self._partner if s not in self._frozen)]
            for ready in select.select(watched, [], [], TICK_S)[0]:
                if ready is self._door:
                    self._accept()
                elif ready in self._partner:  # it may have been ended a moment ago
                    self._carry(ready)

    def _accept(self) -> None:
        desk, _ = self._door.accept()
        self.connects.append(time.monotonic())
        try:
            box = socket.create_connection(self._behind)
        except OSError:  # nobody listens there
            _end(desk, "rst")
            return
        self._partner |= {desk: box, box: desk}
        self._from_desk.add(desk)

    def _carry(self, source: socket.socket) -> None:
        try:
            piece = source.recv(65536)
        except OSError:
            piece = b""
        if not piece:
            self._forget(source, "fin")
            return
        if self._swallows:
            return
        is_last = False
        if source in self._from_desk:
            if self._left is not None:
                piece = piece[: self._left]
                self._left -= len(piece)
                is_last = self._left == 0
            self.sent_bytes += len(piece)
        try:
            self._partner[source].sendall(piece)
        except OSError:
            self._forget(source, "fin")
        if is_last:
            self._left = None
            self._cut(self._way)

    def _cut(self, way: Cut) -> None:
        for source in [*self._partner]:
            self._forget(source, way)

    def _forget(self, one: socket.socket, way: Cut) -> None:
        if one not in self._partner:
            return
        for end in (one, self._partner[one]):
            del self._partner[end]
            self._from_desk.discard(end)
            self._frozen.discard(end)
            _end(end, way)


class Box:
    """A host: an sshd, what runs under it, and the relay through which it is reached."""

    def __init__(self, name: str, address: str, folder: pathlib.Path, sshd: str, authorized: pathlib.Path) -> None:
        self.name, self.address, self.folder, self._sshd = name, address, folder, sshd
        self.home = folder / "home"
        """Of its own, so that nobody's profile is run, nor broken off in the middle."""
        self.state = self.home / ".local" / "state" / "simdeploy"
        """Where its receipts, lock and fences are."""
        self.log = folder / "log"
        self._boot_id = folder / "boot_id"
        self._boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        self.make_host_key()
        self.port = _free_port(address)
        (folder / "sshd_config").write_text(
            f"ListenAddress {address}:{self.port}\nHostKey {self.host_key}\nAuthorizedKeysFile {authorized}\nPidFile none\n"
            # every folder above the keys would have to be ours alone; a test's folder is not
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n"
            # where there are ten who are not logged in, an eleventh is dropped, and not only perhaps
            f"MaxStartups 10:100:10\nPermitRootLogin prohibit-password\nSetEnv HOME={self.home} SIMDEPLOY_BOOT_ID={self._boot_id}\n"
        )
        self.relay = Relay(address, self.port)
        self.boot()

    @property
    def host_key(self) -> pathlib.Path:
        return self.folder / "host_key"

    @property
    def known_as(self) -> str:
        """Its line among the known hosts."""
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[{self.address}]:{self.relay.port} {kind} {key}\n"

    def make_host_key(self) -> None:
        self.host_key.unlink(missing_ok=True)
        keygen(self.host_key)

    def boot(self) -> None:
        """The machine starts, with another boot id."""
        self._boots += 1
        self._boot_id.write_text(f"boot-{self._boots}\n")
        self.start()

    def start(self) -> None:
        """Only its sshd."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [self._sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(lambda: self._answers() or self.is_down, 10)
        if self.is_down:
            raise Unavailable(f"sshd does not start: {self.log.read_text()[-300:]}")

    @property
    def is_down(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill_sshd(self) -> None:
        """It and its connections; what runs on the box goes on."""
        assert self._process is not None
        for pid in [self._process.pid, *(p for p in _below(self._process.pid) if _name(p).startswith("sshd"))]:
            _kill(pid)
        self._process.wait()

    def crash(self) -> None:
        """The power fails: nothing goes on."""
        self.kill_sshd()
        self._end_all()

    def processes(self) -> list[int]:
        """What runs on the box: whoever is at home there."""
        mark = f"HOME={self.home}\0".encode()
        return [pid for pid in _pids() if mark in _proc(pid, "environ")]

    def receipts(self) -> list[pathlib.Path]:
        return sorted(self.state.glob("*/runs/*/*"))

    def sessions_at_once(self) -> int:
        """The most that were open at a time, as its sshd has logged them."""
        now = most = 0
        for line in self.log.read_text(errors="replace").splitlines():
            now += line.startswith("Starting session") - line.startswith("Close session")
            most = max(most, now)
        return most

    def reset(self) -> None:
        """As it was at first: up, reachable, nothing known, nothing running."""
        self.relay.reset()
        self._end_all()
        shutil.rmtree(self.home)
        self.home.mkdir()
        if self.is_down:
            self.start()
        self.log.write_text("")

    def close(self) -> None:
        self.relay.close()
        if not self.is_down:
            self.crash()

    def _end_all(self) -> None:
        while pids := self.processes():
            for pid in pids:
                _kill(pid)
            time.sleep(TICK_S)

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return True


class Boxes(list[Box]):
    """Some boxes, and the operator's ssh configuration for them."""

    def __init__(self, folder: pathlib.Path, count: int, network: int) -> None:
        super().__init__()
        sshd = needed()
        self.folder = folder
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it locks itself in; Debian makes it when it boots
        keygen(folder / "key")
        try:
            for k in range(count):
                self.append(Box(f"w{k}", f"127.0.{network}.{k + 1}", folder / f"w{k}", sshd, folder / "key.pub"))
            self.known_hosts = folder / "known_hosts"
            self.know()
            self.config = self.configure(folder / "ssh_config", self.known_hosts)
            self._try_login()
        except BaseException:
            self.close()
            raise

    def know(self) -> None:
        """The operator has seen the key of every box."""
        self.known_hosts.write_text("".join(box.known_as for box in self))

    def configure(self, file: pathlib.Path, known_hosts: pathlib.Path, more: str = "") -> pathlib.Path:
        """An ssh configuration in which each box is a host; *more* comes first, so it counts."""
        text = more + "".join(f"Host {box.name}\n  HostName {box.address}\n  Port {box.relay.port}\n" for box in self)
        file.write_text(
            f"{text}Host *\n  User {getpass.getuser()}\n  IdentityFile {self.folder / 'key'}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        )
        return file

    def reset(self) -> None:
        for box in self:
            box.reset()

    def close(self) -> None:
        for box in self:
            box.close()

    def _try_login(self) -> None:
        words = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "w0", "true"]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{getpass.getuser()} cannot log in: {done.stderr.strip()[-200:]}; sshd: {self[0].log.read_text()[-300:]}")


def opened(folder: pathlib.Path, count: int) -> Boxes:
    """Boxes, or under CI=true a failure and else a skip that says what is missing."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    try:
        return Boxes(folder, count, 10 + int(worker) % 200)
    except Unavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def needed() -> str:
    """The absolute path of sshd, which it wants to be called by. Raises Unavailable."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None or shutil.which("ssh") is None:
        raise Unavailable("sshd or ssh is missing; install them with: apt-get install openssh-server openssh-client")
    return found


def keygen(file: pathlib.Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test's", "-f", str(file)], check=True)


def until(true: Callable[[], Any], patience_s: float = 20.0) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.01)


@contextlib.contextmanager
def deaf(address: str) -> Iterator[int]:
    """A port whose queue is full, so that the kernel drops whoever wants to connect."""
    with contextlib.ExitStack() as kept:
        door = kept.enter_context(socket.create_server((address, 0), backlog=0))
        for _ in range(4):
            one = kept.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(door.getsockname())
        yield door.getsockname()[1]


def _end(end: socket.socket, way: Cut) -> None:
    if way == "rst":
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as door:
        port: int = door.getsockname()[1]
        return port


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _proc(pid: int, name: str) -> bytes:
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _name(pid: int) -> str:
    return _proc(pid, "comm").decode().strip()


def _below(pid: int) -> list[int]:
    """The processes that a process has started, and they."""
    parents = {p: int((_proc(p, "stat").rpartition(b")")[2].split() or [b"", b"0"])[1]) for p in _pids()}
    found = [pid]
    for one in found:
        found += [p for p, parent in parents.items() if parent == one]
    return found[1:]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def memory_kb(pid: int) -> int:
    """The most that a process has ever used [kB]; 0 where it is over."""
    line = next((s for s in _proc(pid, "status").decode().splitlines() if s.startswith("VmHWM")), "VmHWM: 0")
    return int(line.split()[1])


def cmdlines() -> list[bytes]:
    """What every process of this machine shows of itself."""
    return [_proc(pid, "cmdline") for pid in _pids()]
