"""Runs the local service: three boxes behind a balancer, all on loopback.

    python3 scenarios/local/ctl.py up | down | status | smoke [VERSION] | probe SECONDS FILE
    python3 scenarios/local/ctl.py drain | stop | start | undrain | await-healthy BOX,  install BOX VERSION
    python3 scenarios/local/ctl.py is-drained | is-stopped | is-running | is-enabled | is-healthy BOX,  has-release BOX VERSION

Every verb that does something may be done twice; every verb that asks something (is-..., has-..., smoke) exits with 0 for yes
and 1 for no, and changes nothing. The state lies in the folder SIMDEPLOY_LOCAL, by default `state` beside this file.
"""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
STATE = pathlib.Path(os.environ.get("SIMDEPLOY_LOCAL") or HERE / "state")
BOXES = ("box1", "box2", "box3")
RELEASES = {"1.0": None, "1.1": None, "1.2-bad": 0.5}
"""Version -> the share of its requests that fails."""
PATIENCE_S = 15.0


def up() -> None:
    """Start everything with release 1.0, on ports that are free; what runs already goes on."""
    for version, errors in RELEASES.items():
        folder = STATE / "releases" / version
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "VERSION").write_text(version)
        if errors is not None:
            (folder / "ERRORS").write_text(str(errors))
    if not (STATE / "ports.json").exists():
        _write("ports.json", dict(zip(("front", "admin", *BOXES), _free_ports(2 + len(BOXES)), strict=True)))
    for box in BOXES:
        if not _current(box).is_symlink():
            install(box, "1.0")
        start(box)
    ports = _read("ports.json")
    if not _lives("balancer"):
        boxes = json.dumps({box: ports[box] for box in BOXES})
        _launch("balancer", [str(HERE / "balancer.py"), str(ports["front"]), str(ports["admin"]), boxes])
        _wait(lambda: _get(ports["admin"], "/status")[0] == 200, "the balancer does not answer")
    for box in BOXES:
        await_healthy(box)
    print(f"http://127.0.0.1:{ports['front']}/")


def down() -> None:
    """Stop everything and forget the ports; the releases that are installed stay."""
    for name in ("balancer", *BOXES):
        _end(name)
    (STATE / "ports.json").unlink(missing_ok=True)


def drain(box: str) -> None:
    """No new requests to *box*, and wait for those that it has."""
    _admin(f"drain/{box}")
    _wait(lambda: is_drained(box), f"{box} still has requests")


def is_drained(box: str) -> bool:
    """Whether *box* gets no requests and has none."""
    seen = _admin("status")[box]
    return not seen["enabled"] and seen["in_flight"] == 0


def stop(box: str) -> None:
    """End the process of *box* when its last request has ended."""
    _end(box)


def is_stopped(box: str) -> bool:
    """Whether *box* does not run."""
    return not _lives(box)


def install(box: str, version: str) -> None:
    """Let the next start of *box* run *version*."""
    if version not in RELEASES:
        sys.exit(f"{version!r} is no release; there are {', '.join(RELEASES)}")
    link = _current(box)
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name("next")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(STATE.resolve() / "releases" / version)
    os.replace(fresh, link)


def has_release(box: str, version: str) -> bool:
    """Whether the next start of *box* runs *version*."""
    return _current(box).is_symlink() and _current(box).resolve().name == version


def start(box: str) -> None:
    """Start *box* with what is installed, and wait until it answers."""
    if not _lives(box):
        _launch(box, [str(HERE / "app.py"), box, str(_read("ports.json")[box]), str(_current(box))])
    _wait(lambda: is_running(box), f"{box} does not answer")


def is_running(box: str) -> bool:
    """Whether *box* answers."""
    return _lives(box) and _get(_read("ports.json")[box], "/healthz")[0] == 200


def undrain(box: str) -> None:
    """Requests to *box* again, as soon as the balancer finds it healthy."""
    _admin(f"enable/{box}")


def is_enabled(box: str) -> bool:
    """Whether *box* gets requests when it is healthy."""
    return bool(_admin("status")[box]["enabled"])


def await_healthy(box: str) -> None:
    """Wait until the balancer sends requests to *box*."""
    _wait(lambda: is_healthy(box), f"the balancer does not find {box} healthy")


def is_healthy(box: str) -> bool:
    """Whether the balancer sends requests to *box*."""
    seen = _admin("status")[box]
    return bool(seen["enabled"] and seen["healthy"])


def smoke(version: str = "") -> bool:
    """Whether thirty requests in a row are answered well, if it is given with *version*."""
    answers = [_get(_read("ports.json")["front"], "/") for _ in range(30)]
    return all(status == 200 and version in ("", found) for status, found in answers)


def status() -> None:
    """Print how each box stands."""
    for box, seen in _admin("status").items():
        print(f"{box}: release {_current(box).resolve().name}, {'runs' if _lives(box) else 'stopped'}, {json.dumps(seen)}")


def probe(seconds: str, file: str) -> None:
    """One request each 20 ms through the balancer for so many *seconds*; a JSON line for each in *file*."""
    port, end = _read("ports.json")["front"], time.time() + float(seconds)
    with open(file, "w", encoding="utf-8") as samples:
        while (at := time.time()) < end:
            code, version = _get(port, "/")
            sample = {"at": at, "ok": code == 200, "status": code, "latency_s": time.time() - at, "version": version}
            samples.write(json.dumps(sample) + "\n")
            samples.flush()
            time.sleep(max(0.0, 0.02 - (time.time() - at)))


def _current(box: str) -> pathlib.Path:
    return STATE / "boxes" / box / "current"


def _get(port: int, path: str) -> tuple[int, str]:
    """(status, version) of the answer; 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("X-Version", "")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _admin(path: str) -> dict[str, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", _read("ports.json")["admin"], timeout=2)
    try:
        connection.request("GET", f"/{path}")
        return dict(json.loads(connection.getresponse().read()))
    except (OSError, ValueError, http.client.HTTPException):
        sys.exit("the balancer does not answer; start it with: python3 scenarios/local/ctl.py up")
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _launch(name: str, command: list[str]) -> None:
    """Start a process of its own session, and write down who it is."""
    with open(STATE / f"{name}.log", "ab") as log:
        process = subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _write(f"{name}.pid.json", {"pid": process.pid, "began": _began(process.pid)})


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its number that names it for good. Empty for one that is over."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _lives(name: str) -> bool:
    file = STATE / f"{name}.pid.json"
    if not file.exists():
        return False
    known = _read(file.name)
    return bool(known["began"]) and _began(known["pid"]) == known["began"]


def _end(name: str) -> None:
    """End the process that was written down under *name*, and no other."""
    if _lives(name):
        os.kill(_read(f"{name}.pid.json")["pid"], signal.SIGTERM)
        _wait(lambda: not _lives(name), f"{name} does not end")
    (STATE / f"{name}.pid.json").unlink(missing_ok=True)


def _wait(until, otherwise: str) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + PATIENCE_S
    while not until():
        if time.monotonic() > end:
            sys.exit(f"{otherwise} after {PATIENCE_S:g} s")
        time.sleep(0.02)


def _read(name: str) -> dict:  # type: ignore[type-arg]
    try:
        return dict(json.loads((STATE / name).read_text()))
    except OSError:
        sys.exit("the local service is not up; start it with: python3 scenarios/local/ctl.py up")


def _write(name: str, content: object) -> None:
    """Write at once or not at all: somebody may be reading."""
    fresh = STATE / f"{name}.{os.getpid()}"
    fresh.write_text(json.dumps(content))
    os.replace(fresh, STATE / name)


VERBS = {
    f.__name__.replace("_", "-"): f
    for f in (
        up, down, drain, is_drained, stop, is_stopped, install, has_release, start, is_running, undrain, is_enabled, await_healthy,
        is_healthy, smoke, status, probe,
    )
}  # fmt: skip


def main(words: list[str]) -> int:
    """Do what the words say."""
    if not words or words[0] not in VERBS:
        print(__doc__, file=sys.stderr)
        return 2
    verb, arguments = VERBS[words[0]], words[1:]
    wrong = [a for a in arguments[:1] if verb.__code__.co_varnames[:1] == ("box",) and a not in BOXES]
    least = verb.__code__.co_argcount - len(verb.__defaults__ or ())
    if wrong or not least <= len(arguments) <= verb.__code__.co_argcount:
        print(f"{' '.join(words)}: {words[0]} takes {', '.join(verb.__code__.co_varnames[: verb.__code__.co_argcount]) or 'nothing'}; "
              f"boxes are {', '.join(BOXES)}", file=sys.stderr)  # fmt: skip
        return 2
    return 1 if verb(*arguments) is False else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
