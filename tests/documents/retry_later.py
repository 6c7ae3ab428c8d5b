"""A server that refuses at first: what a client that repeats has to get through."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Refusing:
    """`statuses`: what POST requests were answered with so far."""

    url: str
    statuses: list[int] = field(default_factory=list)


@contextmanager
def answering_later(refusals: Sequence[int], answer: bytes) -> Iterator[Refusing]:
    """Answers POST with each status of `refusals` once, and no time to wait, then always with `answer`."""
    waiting = list(refusals)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, b'{"title": "shoal", "version": "1.19.0"}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = waiting.pop(0) if waiting else 200
            refusing.statuses.append(status)
            self._send(status, answer if status == 200 else b'{"status": {"error": "no time"}, "time": 0}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status != 200:
                self.send_header("retry-after", "1" if status == 503 else "0")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        refusing = Refusing(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield refusing
        finally:
            server.shutdown()
            thread.join(30)
