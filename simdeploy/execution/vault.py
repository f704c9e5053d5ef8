"""Where secrets are: references are resolved at the last moment, and what they stand for is kept nowhere."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable, Mapping

from simdeploy.errors import PlanError

PATIENCE_S = 30.0


def resolve(secrets: Mapping[str, str]) -> dict[str, str]:
    """Name -> secret, of name -> reference. Raises PlanError, which names the reference and never what it stands for."""
    return {name: _secret(reference) for name, reference in secrets.items()}


def _secret(reference: str) -> str:
    scheme, _, place = reference.partition(":")
    if scheme not in SCHEMES:
        raise PlanError(
            f"the secret {reference!r} has the scheme {scheme!r}, and the runner knows {', '.join(SCHEMES)}; keep it in one of these"
        )
    found = SCHEMES[scheme](place)
    if found is None:
        raise PlanError(f"the secret {reference!r} cannot be had: {WHERE[scheme]}")
    return found


def _of_file(place: str) -> str | None:
    try:
        return pathlib.Path(place).expanduser().read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError):
        return None


def _printed(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _of_vault(place: str) -> str | None:
    path, _, field = place.partition("#")
    return _printed(["vault", "kv", "get", f"-field={field or 'value'}", "--", path])


SCHEMES: dict[str, Callable[[str], str | None]] = {
    "env": os.environ.get,
    "file": _of_file,
    "pass": lambda place: _printed(["pass", "show", "--", place]),
    "vault": _of_vault,
}
WHERE = {
    "env": "no such variable is set here; set it before the run",
    "file": "the file cannot be read; name one that the operator may read",
    "pass": "'pass show' fails; try it by hand",
    "vault": "'vault kv get' fails; log in first, and write vault:PATH#FIELD",
}
"""What is wrong, and the way out."""
