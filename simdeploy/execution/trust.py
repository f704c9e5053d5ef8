"""First contact with hosts: their keys are shown to a person before they are believed."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from simdeploy.errors import DiffersError, PlanError
from simdeploy.execution.transports import ssh_words

PATIENCE_S = 30.0
LOST = 255
"""What ssh ends with where it has not come as far as the command."""
_BEYOND_ITS_KEY = ("Permission denied (", "Too many authentication failures")
"""What ssh says once it has believed a host's key; a jump host says so too, and then the host is UNKNOWN."""


class Stranger(NamedTuple):
    """A host whose key nobody has confirmed yet."""

    host: str
    lines: tuple[str, ...]
    """As they will stand among the known hosts."""
    fingerprints: tuple[str, ...]
    known_hosts: pathlib.Path
    """The file of the user's configuration that they belong into."""


def strangers(hosts: Sequence[str], config: pathlib.Path | None = None) -> list[Stranger]:
    """The hosts whose keys are not known, with what they show; through the user's own configuration and jump hosts.

    Raises PlanError for a host that shows none, and DiffersError for one that shows another key than the known one.
    """
    return [found for host in hosts if (found := _asked(host, config)) is not None]


def trust(found: Stranger) -> None:
    """Believe the keys from now on. Raises PlanError where they cannot be written down."""
    try:
        found.known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(found.known_hosts, "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in found.lines))
    except OSError as error:
        raise PlanError(f"{found.known_hosts}: cannot be written ({error.strerror}), so {found.host} is not trusted; make it so") from None


def _asked(host: str, config: pathlib.Path | None) -> Stranger | None:
    known_hosts = _known_hosts(host, config)
    with tempfile.TemporaryDirectory(prefix="sd-") as folder:
        fresh = pathlib.Path(folder) / "keys"
        if known_hosts.exists():
            fresh.write_bytes(known_hosts.read_bytes())
        before = set(_lines(fresh))
        # the first value that ssh reads of an option counts
        words = ["ssh", "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={fresh}", "-o", "ControlPath=none"]
        code, done = _run([*words, "-o", "HashKnownHosts=no", *ssh_words(config, 10.0)[1:], "--", host, "true"])
        shown = tuple(line for line in _lines(fresh) if line not in before)
        if "IDENTIFICATION HAS CHANGED" in done:
            raise DiffersError(
                f"{host}: shows another key than the one in {known_hosts}; somebody may be in between, or it was made anew. "
                f"Find out which; if it is right: ssh-keygen -f {known_hosts} -R {_name(host, config)}, then this command again"
            )
        if not shown:
            if code != LOST or ("UNKNOWN port" not in done and any(sign in done for sign in _BEYOND_ITS_KEY)):
                return None
            raise PlanError(f"{host}: shows no key: {' '.join(done.split())[-200:] or 'no answer'}; try: ssh {host} true")
        (pathlib.Path(folder) / "shown").write_text("\n".join(shown) + "\n", encoding="utf-8")
        _, prints = _run(["ssh-keygen", "-lf", str(pathlib.Path(folder) / "shown")])
    return Stranger(host, shown, tuple(prints.splitlines()), known_hosts)


def _known_hosts(host: str, config: pathlib.Path | None) -> pathlib.Path:
    first = _settings(host, config).get("userknownhostsfile", "~/.ssh/known_hosts").split()[0]
    if first == "none":
        raise PlanError(f"{host}: its configuration keeps known hosts nowhere (UserKnownHostsFile none); name a file there")
    return pathlib.Path(first).expanduser()


def _name(host: str, config: pathlib.Path | None) -> str:
    """The name under which a host's key is kept."""
    settings = _settings(host, config)
    name, port = settings.get("hostkeyalias") or settings.get("hostname", host), settings.get("port", "22")
    return name if port == "22" or "hostkeyalias" in settings else f"'[{name}]:{port}'"


def _settings(host: str, config: pathlib.Path | None) -> dict[str, str]:
    """What the user's configuration says of a host."""
    _, said = _run(["ssh", *(["-F", str(config)] if config else []), "-G", "--", host])
    return {key: value for key, _, value in (line.partition(" ") for line in said.splitlines())}


def _lines(file: pathlib.Path) -> list[str]:
    text = file.read_bytes().decode("utf-8", "backslashreplace") if file.exists() else ""
    return [line for line in text.splitlines() if line.strip()]


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """(exit code, what it said); one that does not end in time is lost."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return LOST, "timed out"
    except OSError as error:
        raise PlanError(f"{argv[0]} cannot be run ({error.strerror}); install openssh-client") from None
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
