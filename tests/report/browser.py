"""A real Chromium without a window, asked through its DevTools protocol over a pipe: no library, no port, no network."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

TIMEOUT_S = 30.0
QUIET_S = 0.15
"""How long a page that is loaded may still have something to say."""
LAUNCHER = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
"""Chromium reads its commands from 3 and answers on 4."""


def chromium() -> str:
    """The program; where there is none the test is skipped, and fails where CI says that all must run."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        said = "chromium is missing; install it with: apt-get install chromium"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
    return found


class Browser:
    """One tab of one Chromium."""

    def __init__(self, profile: pathlib.Path) -> None:
        ours = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for fd in pair]
        read, self._write, self._read, write = ours
        options = ["--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(read), str(write), chromium(), *options, "about:blank"],
            pass_fds=(read, write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read), os.close(write)
        self._buffer, self._ids, self._session = b"", itertools.count(1), ""
        self.events: list[dict[str, Any]] = []
        """What the page reported since it was opened: requests, messages of its console, dialogs, exceptions."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End it: on request it cleans up behind itself; whatever state it is in, it ends."""
        with contextlib.suppress(OSError):
            os.write(self._write, b'{"id": 0, "method": "Browser.close"}\0')
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(TIMEOUT_S)
        os.close(self._read), os.close(self._write)

    def ask(self, method: str, **parameters: Any) -> Any:
        """The result of one command; what happens meanwhile goes to `events`."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": self._session} if self._session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(TIMEOUT_S)
            assert answer is not None, f"no answer to {method}"
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def open(self, page: pathlib.Path, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """Load *page* into a window of that width and that taste, and let it come to rest."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.ask("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        end = time.monotonic() + TIMEOUT_S
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            assert self._next(end - time.monotonic()) is not None, f"{page} does not load"
        while self._next(QUIET_S) is not None:
            pass

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def seen(self, *methods: str) -> list[dict[str, Any]]:
        """What was reported by these methods."""
        return [e["params"] for e in self.events if e["method"] in methods]

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, also kept where it is an event; None where none comes in time."""
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, timeout_s))[0]:
                return None
            part = os.read(self._read, 1 << 20)
            assert part, "chromium has ended"
            self._buffer += part
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message
