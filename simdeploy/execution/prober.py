"""A prober: one request after another at a URL while a run goes on, counted by tenths of a second."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from collections import defaultdict
from typing import Any

from simdeploy.errors import PlanError
from simdeploy.execution.journal import clock_s

EVERY_S = 0.02
BIN_S = 0.1
PATIENCE_S = 2.0


class Prober:
    """Asks *url* every 20 ms from its start to its end, in a thread of its own. Raises PlanError for what is no URL."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
            self._target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        except ValueError:  # a port that is none, a bracket that is not closed
            is_url = False
        if not is_url or " " in url:
            raise PlanError(f"{url!r} is nothing to probe; write http://HOST:PORT/PATH")
        self._parts = parts
        self._bins: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, args=(k,), daemon=True, name="prober") for k in range(4)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what was counted can still be had."""
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE_S + 1)

    def samples(self, whole: bool = False) -> list[dict[str, Any]]:
        """What was counted since, as bodies of `sampled` entries: of each bin its begin, requests and failures."""
        until = None if whole else int((clock_s() - PATIENCE_S - BIN_S) / BIN_S)
        with self._guard:
            over = sorted(b for b in self._bins if until is None or b < until)
            if not over or (not whole and len(over) < 10):
                return []
            bins = [[round(b * BIN_S, 3), *self._bins.pop(b)] for b in over]
        return [{"every_s": EVERY_S, "bin_s": BIN_S, "bins": bins}]

    def _ask_on(self, k: int) -> None:
        """One of several that take turns, so that a slow answer does not hide what others would see."""
        n = len(self._threads)
        due = time.monotonic() + k * EVERY_S
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            at, failed = clock_s(), not self._is_served()
            with self._guard:
                counted = self._bins[int(at / BIN_S)]
                counted[0] += 1
                counted[1] += failed
            due = max(due + n * EVERY_S, time.monotonic() - n * EVERY_S)

    def _is_served(self) -> bool:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", self._target)
            response = connection.getresponse()
            response.read()
            return response.status < 500
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()
