"""The small client: a status becomes the error that callers catch."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deployments.http_client import ClusterClient
from shards import errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *(
            (400, errors.InvalidRequest),
            (404, errors.NotFound),
            (408, errors.DeadlineExceeded),
            (409, errors.Conflict),
        ),
        *((422, errors.LimitExceeded), (429, errors.Overloaded), (500, errors.Internal), (503, errors.Unavailable)),
    ],
)
def test_a_status_is_the_error_nearest_to_the_root(status: int, kind: type[errors.ShoalError]) -> None:
    with pytest.raises(errors.ShoalError, match="told so") as caught:
        _ask_one_that_answers(status)
    assert type(caught.value) is kind


def test_a_full_disk_is_an_overload() -> None:
    with pytest.raises(errors.Overloaded):
        _ask_one_that_answers(507)


def _ask_one_that_answers(status: int) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"status": {"error": "told so"}}')

        def log_message(self, *_: object) -> None:
            """Nothing on the test's own output."""

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            with ClusterClient(f"http://127.0.0.1:{server.server_port}", timeout_s=10) as client:
                client.collections()
        finally:
            thread.join()
