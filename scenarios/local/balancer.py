"""The balancer of the local service: each request to the next box that is enabled and healthy, with no second try.

It checks every box each INTERVAL_S and takes it out after FALL failures in a row, and back after RISE successes; what it is
told at the admin port (`/drain/BOX`, `/enable/BOX`, `/status`) holds at once. A request that meets a dead box fails with 502.
"""

from __future__ import annotations

import http.client
import http.server
import json
import signal
import sys
import threading
import time

INTERVAL_S, FALL, RISE, TIMEOUT_S = 0.25, 2, 2, 0.5


class Box:
    """A member of the pool, as the balancer sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.enabled = True
        self.healthy = False
        self.in_a_row = 0
        """Checks in a row that say the contrary of `healthy`."""
        self.in_flight = 0

    def checked(self, answers: bool) -> None:
        """Take note of one health check."""
        self.in_a_row = 0 if answers == self.healthy else self.in_a_row + 1
        if self.in_a_row >= (FALL if self.healthy else RISE):
            self.healthy, self.in_a_row = not self.healthy, 0


class Pool:
    """The boxes, and whose turn it is."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.boxes = {name: Box(port) for name, port in ports.items()}
        self._lock = threading.Lock()
        self._turn = 0

    def take(self) -> Box | None:
        """The next box that may get a request, counted as busy; None where there is none."""
        with self._lock:
            able = [box for box in self.boxes.values() if box.enabled and box.healthy]
            if not able:
                return None
            self._turn += 1
            box = able[self._turn % len(able)]
            box.in_flight += 1
            return box

    def give_back(self, box: Box) -> None:
        """A request to *box* is over."""
        with self._lock:
            box.in_flight -= 1

    def status(self) -> dict[str, dict[str, object]]:
        """Box -> enabled, healthy, in_flight."""
        return {n: {"enabled": b.enabled, "healthy": b.healthy, "in_flight": b.in_flight} for n, b in self.boxes.items()}

    def watch(self) -> None:
        """Check all boxes for ever."""
        while True:
            began = time.monotonic()
            for box in self.boxes.values():
                box.checked(_get(box.port, "/healthz")[0] == 200)
            time.sleep(max(0.0, INTERVAL_S - (time.monotonic() - began)))


def _get(port: int, path: str) -> tuple[int, bytes, str]:
    """(status, body, version) of a request to a box; 502 where it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("X-Version", "")
    except (OSError, http.client.HTTPException):
        return 502, b"no answer\n", ""
    finally:
        connection.close()


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers with a status and a body, and logs nothing."""

    def answer(self, status: int, body: bytes, version: str = "") -> None:
        """Send an answer, with the version that gave it."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", version)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: nobody reads it."""


class Server(http.server.ThreadingHTTPServer):
    """Waits for nobody when it ends."""

    daemon_threads = True
    request_queue_size = 128


def serve(port: int, admin_port: int, ports: dict[str, int]) -> None:
    """Balance until SIGTERM."""
    pool = Pool(ports)

    class Front(Quiet):
        def do_GET(self) -> None:
            box = pool.take()
            if box is None:
                return self.answer(503, b"no box is up\n")
            try:
                return self.answer(*_get(box.port, self.path))
            finally:
                pool.give_back(box)

    class Admin(Quiet):
        def do_GET(self) -> None:
            verb, _, name = self.path.strip("/").partition("/")
            if verb in ("drain", "enable") and name in pool.boxes:
                pool.boxes[name].enabled = verb == "enable"
            elif verb != "status":
                return self.answer(404, b"drain/BOX, enable/BOX or status\n")
            return self.answer(200, json.dumps(pool.status()).encode())

    front, admin = Server(("127.0.0.1", port), Front), Server(("127.0.0.1", admin_port), Admin)
    threading.Thread(target=pool.watch, daemon=True).start()
    threading.Thread(target=admin.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=front.shutdown).start())
    front.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
