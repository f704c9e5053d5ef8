"""What runs on a host: Python 3.6 or later, the standard library, nothing installed.

The transport sends this file over standard input with an order behind it, so that nothing of the order shows in a list of
processes. It answers with one framed line. A command that changes something is run by a supervisor of its own session,
which outlives the connection and leaves a receipt: a folder, claimed by an atomic rename, with what became of the command.
"""

import errno
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

FRAME = "simdeploy-reply"
Order = Dict[str, Any]
TAIL_BYTES = 2048
KEEP_S = 30 * 86400.0
"""How long the output of a run that nobody cleaned up is kept; its receipts stay, so that nothing is sent twice."""


def main(order: Order) -> None:
    """Do what the *order* says and answer, framed by its nonce, in one line."""
    try:
        reply = ORDERS[order["op"]](order)
    except OSError as error:
        reply = {"error": "{}: {}".format(error.filename or order["op"], error.strerror)}
    line = "\n{} {} {}\n".format(FRAME, order["nonce"], json.dumps(reply, sort_keys=True))
    os.write(1, line.encode("ascii"))


def send(order: Order) -> Order:
    """Start the command under a supervisor, unless its receipt is there already, and wait for a while; how it stands."""
    folder = _folder(order)
    if not os.path.isdir(folder):
        _forget_old(os.path.dirname(os.path.dirname(folder)))
        child = os.fork()
        if child == 0:
            _detached(order, folder)
        os.waitpid(child, 0)
    return _await(folder, order.get("wait_s", 0.0), appears_s=10.0)


def ask(order: Order) -> Order:
    """How the command stands, after waiting a while; `settle`: where nothing was claimed, claim it, so that it never runs."""
    folder = _folder(order)
    if order.get("settle"):
        _settle(folder)
    return _await(folder, order.get("wait_s", 0.0))


def stop(order: Order) -> Order:
    """End the command's processes, politely, then not; what is still on its way will never run. How it stands then."""
    folder = _folder(order)
    _settle(folder)
    if not os.path.exists(os.path.join(folder, "result")):
        _write(folder, "stop", {})
        _until(lambda: _read(folder, "child") is not None or not _runs(folder), order.get("grace_s", 5.0))  # it may only just begin
        child = _read(folder, "child")
        for number in (signal.SIGTERM, signal.SIGKILL):
            if child and _alive(child):
                _signal_group(child["pid"], number)
                _until(lambda: not _alive(child), order.get("grace_s", 5.0))
    return _await(folder, 5.0)


def fence(order: Order) -> Order:
    """Raise the fence to the order's, so that whoever has a lower one is refused; the fence that holds now."""
    return {"fence": _raise_fence(_base(order), order.get("fence", 0))}


def lock(order: Order) -> Order:
    """Take the environment's lock, with a fence number above all before it; or say who holds it."""
    base = _base(order)
    held = _held(base)
    if held is None:
        number = max(_fence(base), order.get("fence", 0)) + 1
        if _claim(os.path.join(base, "lock"), dict(order["owner"], fence=number)):
            _raise_fence(base, number)
            return {"taken": True, "fence": number}
        held = _held(base)
    if held and held.get("token") == order["owner"].get("token"):  # our own, whose answer was lost
        _raise_fence(base, held["fence"])
        return {"taken": True, "fence": held["fence"]}
    return {"taken": False, "by": held}


def unlock(order: Order) -> Order:
    """Give the lock back, or (`force`) break it whoever holds it; who held it. Its fence is then too low everywhere."""
    base = _base(order)
    held = _held(base)
    if held is None:
        return {"freed": False, "by": None}
    if not order.get("force") and held.get("token") != order.get("token"):
        return {"freed": False, "by": held}
    broken = os.path.join(base, f"lock.{os.getpid()}")
    try:
        os.rename(os.path.join(base, "lock"), broken)
    except OSError:
        return {"freed": False, "by": _held(base)}
    shutil.rmtree(broken, ignore_errors=True)
    fence_now = _raise_fence(base, max(_fence(base), held.get("fence", 0)) + 1) if order.get("force") else _fence(base)
    return {"freed": True, "by": held, "fence": fence_now}


def holder(order: Order) -> Order:
    """Who holds the lock (None = nobody), and the fence that holds."""
    base = _base(order)
    return {"by": _held(base), "fence": _fence(base)}


def look(order: Order) -> Order:
    """Run a command that changes nothing, within its time; its exit code or signal, or that it was too late."""
    try:
        child, pipe = _started(order)
    except OSError as error:
        return {"how": "exited", "code": 127, "tail": str(error)}
    masked = _Masked(order, None)
    late = not _follow(child, pipe, masked, order["deadline_s"])
    if late:
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()
    os.close(pipe)
    return dict({"how": "timed_out"} if late else _how(child.returncode), tail=masked.tail())


def facts(order: Order) -> Order:
    """What a preflight wants to know of a host; it changes nothing."""
    base = _base(order)
    place = base
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    return {
        "boot": _boot(), "wall_s": time.time(), "free_bytes": disk.f_bavail * disk.f_frsize, "writable": os.access(place, os.W_OK),
        "sudo": _may_sudo() if order.get("sudo") else None, "user": _user(), "name": socket.gethostname(),
        "base": base, "fence": _fence(base), "by": _held(base),
        "python": "%d.%d.%d" % sys.version_info[:3],
    }  # fmt: skip


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _may_sudo() -> bool:
    nothing = subprocess.DEVNULL
    return bool(shutil.which("sudo")) and subprocess.call(["sudo", "-n", "true"], stdin=nothing, stdout=nothing, stderr=nothing) == 0


def clean(order: Order) -> Order:
    """Forget the receipts of a run whose end is written down."""
    shutil.rmtree(os.path.dirname(_folder(dict(order, key="-"))), ignore_errors=True)
    return {}


ORDERS = {f.__name__: f for f in (send, ask, stop, fence, lock, unlock, holder, look, facts, clean)}


def _detached(order: Order, folder: str) -> NoReturn:
    """In a child: become a supervisor that no connection can end, claim the receipt, run the command, write what became of it."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        if _claim(folder, _identity(os.getpid())):
            _supervise(order, folder)
    finally:
        os._exit(0)


def _supervise(order: Order, folder: str) -> None:
    base = _base(order)
    if order["fence"] < _fence(base):  # after the claim: whoever raised the fence before will find the claim, and we the fence
        _finish(folder, {"how": "fenced", "fence": _fence(base)})
        return
    _raise_fence(base, order["fence"])
    try:
        child, pipe = _started(order)
    except OSError as error:
        _finish(folder, {"how": "exited", "code": 127, "tail": str(error)})
        return
    try:
        _write(folder, "child", _identity(child.pid))
    except OSError:  # nobody could find it again
        _signal_group(child.pid, signal.SIGKILL)
        raise
    masked = _Masked(order, os.path.join(folder, "output"))
    late = not _follow(child, pipe, masked, order["deadline_s"])
    for number in (signal.SIGTERM, signal.SIGKILL) if late else ():
        _signal_group(child.pid, number)
        if _follow(child, pipe, masked, order.get("grace_s", 5.0)):
            break
    how = {"how": "timed_out"} if late else _how(child.returncode)
    if os.path.exists(os.path.join(folder, "stop")) and how["how"] == "signal":
        how = {"how": "cancelled"}
    if late:
        _signal_group(child.pid, signal.SIGKILL)  # what it has started and left
    _finish(folder, dict(how, tail=masked.tail(), bytes=masked.count))
    while os.read(pipe, 65536):  # a service that it started may still write; it must not die of that
        pass


def _started(order: Order) -> Tuple["subprocess.Popen[bytes]", int]:
    """The command in a session of its own, and the reading end of its output. Secrets are in its surroundings, not in its words."""
    reading, writing = os.pipe()
    surroundings = dict(os.environ, **order.get("secrets", {}))
    try:
        child = subprocess.Popen(
            order["argv"], stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=surroundings, start_new_session=True,
            cwd=order.get("cwd"),
        )  # fmt: skip
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return child, reading


def _follow(child: "subprocess.Popen[bytes]", pipe: int, masked: "_Masked", patience_s: float) -> bool:
    """Read what the command prints until it has ended (True) or the patience has."""
    end = time.monotonic() + patience_s
    is_open = True
    while child.poll() is None and time.monotonic() < end:
        if not is_open:
            time.sleep(0.01)
        elif select.select([pipe], [], [], 0.02)[0]:
            is_open = masked.read(pipe)
    over = child.poll() is not None
    last = time.monotonic() + 1.0  # a service that it started may go on writing
    while over and is_open and time.monotonic() < last and select.select([pipe], [], [], 0.0)[0]:
        is_open = masked.read(pipe)
    if over:
        masked.write(b"")
    return over


def _how(code: int) -> Order:
    return {"how": "exited", "code": code} if code >= 0 else {"how": "signal", "signal": -code}


class _Masked:
    """Output without the secrets: its beginning in a file, up to a cap, and its last bytes."""

    def __init__(self, order: Order, path: Optional[str]) -> None:
        self._secrets = [s.encode() for s in order.get("secrets", {}).values() if s]
        self._kept = max([len(s) for s in self._secrets] or [1]) - 1
        self._left = order.get("cap_bytes", 1000000)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if path else None
        self._pending = b""
        self._tail = b""
        self.count = 0

    def read(self, pipe: int) -> bool:
        """Take what the pipe has; whether there may be more."""
        piece = os.read(pipe, 65536)
        if piece:
            self.write(piece)
        return bool(piece)

    def write(self, piece: bytes) -> None:
        """Take *piece*; what could be the beginning of a secret waits for more, the empty piece lets it out."""
        self.count += len(piece)
        text = self._pending + piece
        for secret in self._secrets:
            text = text.replace(secret, b"***")
        cut = len(text) - self._kept if piece else len(text)
        self._pending = text[max(cut, 0) :]
        self._keep(text[: max(cut, 0)])

    def _keep(self, text: bytes) -> None:
        self._tail = (self._tail + text)[-TAIL_BYTES:]
        if self._file is not None and self._left > 0:
            try:
                os.write(self._file, text[: self._left])
                self._left -= len(text)
            except OSError:  # the disk is full; the command goes on, its tail is still kept
                self._left = 0

    def tail(self) -> str:
        """The last bytes as text; what is no UTF-8 is shown as its number."""
        return self._tail.decode("utf-8", "backslashreplace")


def _await(folder: str, wait_s: float, appears_s: float = 0.0) -> Order:
    """How the command of this receipt stands, as soon as it has ended, else after *wait_s*."""
    if appears_s:
        _until(lambda: os.path.isdir(folder), appears_s)
    _until(lambda: not os.path.isdir(folder) or os.path.exists(os.path.join(folder, "result")) or not _runs(folder), wait_s)
    return _stands(folder)


def _stands(folder: str) -> Order:
    if not os.path.isdir(folder):
        return {"state": "absent"}
    runs = _runs(folder)  # before the result, which a supervisor writes before it goes
    result = _read(folder, "result")
    if result:
        return dict(result, state="ended")
    if runs:
        return {"state": "running"}
    claim, child = _read(folder, "claim") or {}, _read(folder, "child")
    if claim.get("boot") != _boot():
        return {"state": "lost", "why": "the host was restarted while it ran"}
    if child is None and "pid" in claim:
        return {"state": "lost", "why": "its supervisor is gone, and nobody knows whether its command still runs"}
    left = child is not None and _alive(child)
    return {"state": "lost", "why": "its supervisor is gone" + (" and its command still runs" if left else "")}


def _runs(folder: str) -> bool:
    claim = _read(folder, "claim")
    return claim is not None and "pid" in claim and _alive(claim)


def _base(order: Order) -> str:
    """Where everything of one environment lies."""
    root = order.get("root") or os.environ.get("SIMDEPLOY_STATE") or os.path.join(os.path.expanduser("~"), ".local", "state", "simdeploy")
    return os.path.join(root, _safe(order["environment"]))


def _folder(order: Order) -> str:
    return os.path.join(_base(order), "runs", _safe(order["run"]), _safe(order["key"]))


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*|-", name):
        raise OSError(errno.EINVAL, "no name of a folder", name)
    return name


def _claim(folder: str, content: Order) -> bool:
    """Make *folder* with its *content*, at once or not at all; False where it is there already."""
    os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    fresh = f"{folder}.{os.getpid()}.{time.time()}"
    os.mkdir(fresh, 0o700)
    _write(fresh, "claim", content)
    try:
        os.rename(fresh, folder)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        return False
    _sync(os.path.dirname(folder))
    return True


def _settle(folder: str) -> None:
    """Where nothing was claimed, claim it, so that it never runs."""
    if not os.path.isdir(folder) and _claim(folder, {"settled": True}):
        _finish(folder, {"how": "never"})


def _finish(folder: str, result: Order) -> None:
    _write(folder, "result", result)


def _held(base: str) -> Optional[Order]:
    return _read(os.path.join(base, "lock"), "claim")


def _fence(base: str) -> int:
    return max(_fences(base), default=0)


def _fences(base: str) -> List[int]:
    folder = os.path.join(base, "fences")
    return [int(name) for name in os.listdir(folder)] if os.path.isdir(folder) else []


def _raise_fence(base: str, number: int) -> int:
    """A number that was ever there holds, so that two who raise it at once cannot lower it."""
    if number > _fence(base):
        os.makedirs(os.path.join(base, "fences", str(number)), mode=0o700, exist_ok=True)
        _sync(os.path.join(base, "fences"))
    now = _fence(base)
    for lower in _fences(base):
        if lower < now:
            shutil.rmtree(os.path.join(base, "fences", str(lower)), ignore_errors=True)
    return now


def _write(folder: str, name: str, content: Order) -> None:
    """Write at once or not at all, and to the disk."""
    fresh = os.path.join(folder, f"{name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, json.dumps(content).encode("ascii"))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, os.path.join(folder, name))
    _sync(folder)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _read(folder: str, name: str) -> Optional[Order]:
    try:
        with open(os.path.join(folder, name)) as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return None


def _forget_old(runs: str) -> None:
    """Make room: the receipt of a command is a few hundred bytes, its output up to a megabyte."""
    for run in os.listdir(runs) if os.path.isdir(runs) else ():
        path = os.path.join(runs, run)
        for key in os.listdir(path) if time.time() - os.stat(path).st_mtime > KEEP_S else ():
            try:
                os.remove(os.path.join(path, key, "output"))
            except OSError:
                pass


def _boot() -> str:
    """Which start of the machine this is."""
    path = os.environ.get("SIMDEPLOY_BOOT_ID") or "/proc/sys/kernel/random/boot_id"
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _identity(pid: int) -> Order:
    return {"pid": pid, "began": _began(pid), "boot": _boot()}


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its number that names it. Empty where it is over, as a zombie is."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _alive(who: Order) -> bool:
    return who.get("boot") == _boot() and bool(who["began"]) and _began(who["pid"]) == who["began"]


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def _until(true: Callable[[], bool], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
