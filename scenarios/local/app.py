"""One box of the local service: answers its version at `/` and whether it lives at `/healthz`, and ends when its last request has."""

from __future__ import annotations

import http.server
import itertools
import pathlib
import signal
import sys
import threading
import time

HOLD_S = 0.005
"""How long a request is worked on."""


def serve(name: str, port: int, release: pathlib.Path) -> None:
    """Serve the *release* (a folder with VERSION and, of a bad one, ERRORS: which share of requests fails) until SIGTERM."""
    version = (release / "VERSION").read_text().strip()
    errors = release / "ERRORS"
    share = float(errors.read_text()) if errors.exists() else 0.0
    served = itertools.count(1)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                return self.answer(200, "fine")
            time.sleep(HOLD_S)
            k = next(served)
            bad = int(k * share) > int((k - 1) * share)
            return self.answer(500 if bad else 200, f"{name} serves version {version}")

        def answer(self, status: int, text: str) -> None:
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Version", version)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: nobody reads it."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False  # so that closing waits for what is in flight
        request_queue_size = 128

    server = Server(("127.0.0.1", port), Answer)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.02)
    server.server_close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve())
