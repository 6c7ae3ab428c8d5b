"""Which HTTP status belongs to which error, and how an error reads on the wire. The only file that knows the codes.

The form is `{"status": {"error": "..."}, "time": seconds}`; only a missing API key is answered in plain text. Our own
mistakes (Internal, Corrupt, and exceptions that are no ShoalError) are logged in full under a request id, and the
caller is told the id alone: no trace, no path.
"""

from __future__ import annotations

import logging
import math
from time import perf_counter
from uuid import uuid4

import orjson

from deployments.http_message import TEXT, Reply
from shards.errors import (
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    MemoryExhausted,
    NotFound,
    Overloaded,
    QueueFull,
    ShoalError,
    StaleEpoch,
    StorageFull,
    Unauthenticated,
    Unavailable,
)

_log = logging.getLogger(__name__)


class ValidationFailed(InvalidRequest):
    """The body is well formed, but a value is out of its range."""

    code = "validation_failed"


class BodyTooLarge(LimitExceeded):
    code = "body_too_large"


class UnknownPath(NotFound):
    code = "unknown_path"


class MissingPoint(NotFound):
    """A write named a point that is not there; the others of its points were written."""

    code = "missing_point"


class WrongMethod(InvalidRequest):
    """`methods` are those that the path has."""

    code = "wrong_method"

    def __init__(self, message: str, retry_after_s: float | None = None, methods: tuple[str, ...] = ()) -> None:
        super().__init__(message, retry_after_s)
        self.methods = methods


_STATUS: dict[type[ShoalError], int] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    WrongMethod: 405,
    DeadlineExceeded: 408,
    Conflict: 409,
    BodyTooLarge: 413,
    LimitExceeded: 422,
    ValidationFailed: 422,
    Overloaded: 429,
    ShoalError: 500,
    QueueFull: 503,
    StaleEpoch: 503,
    Unavailable: 503,
    MemoryExhausted: 507,
    StorageFull: 507,
}
"""An error has the status of its nearest ancestor here. StaleEpoch is no conflict that a caller could resolve: the
router's map was old, and the same call soon succeeds."""


def status_of(error: ShoalError) -> int:
    """The HTTP status of an error."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_reply(error: Exception, started: float, request_id: str = "") -> Reply:
    """The reply that says what went wrong. `started` is when the request began, a perf_counter value; `request_id` what a
    failure is logged under ("": one is made).
    """
    if not isinstance(error, ShoalError) or isinstance(error, Corrupt) or status_of(error) == 500:
        return _failure(error, started, request_id or uuid4().hex)
    if isinstance(error, Unauthenticated):  # in plain text, as the API has it
        return Reply(error.message.encode(), status_of(error), TEXT, ((b"www-authenticate", b"Bearer"),))
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    elif isinstance(error, Overloaded):
        headers.append((b"retry-after", b"1"))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", ", ".join(error.methods).encode()))
    if isinstance(error, BodyTooLarge):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return Reply(_error_body(error.message, started), status_of(error), headers=tuple(headers))


def _failure(error: Exception, started: float, request_id: str) -> Reply:
    _log.error("request %s failed", request_id, exc_info=error, extra={"fields": {"request_id": request_id}})
    message = f"Service internal error: the server's log says more under request id {request_id}"
    return Reply(_error_body(message, started), 500, headers=((b"x-request-id", request_id.encode()),))


def _error_body(message: str, started: float) -> bytes:
    # A message may quote a client's text, and that may hold what UTF-8 has no bytes for.
    readable = message.encode("utf-8", "replace").decode()
    return orjson.dumps({"status": {"error": readable}, "time": round(perf_counter() - started, 6)})
