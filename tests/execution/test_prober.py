"""The prober: what it asks, what it counts as served, and what it refuses to ask."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from simdeploy.errors import PlanError
from simdeploy.execution.prober import Prober


class Door(http.server.BaseHTTPRequestHandler):
    """Serves what is asked for with `?deep=1`, and nothing else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health?deep=1" else 503)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture
def door() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def counted(url: str) -> tuple[int, int]:
    """(asked, failed) of a third of a second."""
    prober = Prober(url)
    prober.start()
    time.sleep(0.35)
    prober.stop()
    bins = [b for sample in prober.samples(whole=True) for b in sample["bins"]]
    return sum(asked for _, asked, _ in bins), sum(failed for _, _, failed in bins)


def test_the_whole_address_is_asked(door):
    asked, failed = counted(f"{door}/health?deep=1")
    assert asked >= 5 and failed == 0


def test_what_is_not_served_has_failed(door):
    asked, failed = counted(f"{door}/health")
    assert asked == failed >= 5
    asked, failed = counted("http://127.0.0.1:1/")
    assert asked == failed >= 5


@pytest.mark.parametrize(
    "url", ["x", "ftp://a/", "http:///x", "http://a:99999/", "http://a:b/", "http://[::1/", "http://a:0/", "http://a/b c", "http://a/\n"]
)
def test_what_cannot_be_asked_is_refused_before_anything_begins(url):
    with pytest.raises(PlanError, match="is nothing to probe; write http://HOST:PORT/PATH"):
        Prober(url)
