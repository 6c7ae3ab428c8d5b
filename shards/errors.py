"""The one tree of errors that Shoal raises on purpose.

Each says what is wrong, with what value, and what to do. `code` is the error's stable name: it travels on the
data plane and in logs; only `deployments/http_errors.py` knows which HTTP status belongs to it. `transient`
says whether the same call may succeed later without a change by its caller.

Errors survive pickling (Ray carries them between processes) and the data plane (`from_wire`).
"""

from __future__ import annotations

from typing import ClassVar


class ShoalError(Exception):
    """Root of the tree.

    `message` is one sentence for a person; `retry_after_s` is set where the caller should wait before the
    next try.
    """

    code: ClassVar[str] = "internal"
    transient: ClassVar[bool] = False

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[ShoalError], tuple[str, float | None]]:
        return type(self), (self.message, self.retry_after_s)


class InvalidRequest(ShoalError):
    """The request itself is wrong; repeating it can't help."""

    code = "invalid_request"


class DimensionMismatch(InvalidRequest):
    code = "dimension_mismatch"


class BadVector(InvalidRequest):
    """A NaN, an infinity, or a vector that the distance can't use."""

    code = "bad_vector"


class BadFilter(InvalidRequest):
    """A filter that the grammar does not know; the message begins with the place of what is wrong."""

    code = "bad_filter"


class LimitExceeded(InvalidRequest):
    """A stated limit (k, ef, batch, body, name length) is passed; the message names the limit."""

    code = "limit_exceeded"


class NotSupported(InvalidRequest):
    """A feature of the API's full form that Shoal does not have; the message names it."""

    code = "not_supported"


class DamagedSnapshot(InvalidRequest):
    """A snapshot that can't be recovered: its bytes are not what was written; the message names the file."""

    code = "damaged_snapshot"


class Unauthenticated(ShoalError):
    """The cluster asks for an API key, and the request has none that counts."""

    code = "unauthenticated"


class Forbidden(ShoalError):
    """The request's API key is good, and does not allow this."""

    code = "forbidden"


class NotFound(ShoalError):
    code = "not_found"


class Conflict(ShoalError):
    code = "conflict"


class StaleEpoch(Conflict):
    """The caller used an older shard map than the shard's; refresh it and repeat."""

    code = "stale_epoch"
    transient = True


class Overloaded(ShoalError):
    code = "overloaded"
    transient = True


class QueueFull(Overloaded):
    code = "queue_full"


class RateLimited(Overloaded):
    """The caller, its tenant, or all callers together have spent their tokens; the message names which."""

    code = "rate_limited"


class MemoryExhausted(Overloaded):
    code = "memory_exhausted"


class StorageFull(Overloaded):
    """The disk has no room for the write; nothing of it was kept."""

    code = "storage_full"


class Unavailable(ShoalError):
    code = "unavailable"
    transient = True


class ShardUnavailable(Unavailable):
    """A shard can't answer now. The call may have run."""

    code = "shard_unavailable"


class BreakerOpen(ShardUnavailable):
    """A shard failed too often lately, and is left alone until probes of it are healthy. The call has not run."""

    code = "breaker_open"


class DeadlineExceeded(Unavailable):
    """The deadline passed before the answer came. The call may have run."""

    code = "deadline_exceeded"


class Corrupt(ShoalError):
    """Bytes on disk or on the wire are not what was written; the message names the file and the offset."""

    code = "corrupt"


class Internal(ShoalError):
    """Our own mistake."""

    code = "internal"


def _tree(root: type[ShoalError]) -> dict[str, type[ShoalError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[ShoalError]] = {**_tree(ShoalError), "internal": Internal}


def from_wire(code: str, message: str, retry_after_s: float | None = None) -> ShoalError:
    """The error that `code` names; an unknown code (a newer peer's) becomes `Internal` and keeps its name."""
    kind = BY_CODE.get(code)
    if kind is None:
        return Internal(f"{code}: {message}", retry_after_s)
    return kind(message, retry_after_s)
