"""One HTTP request and its reply, as handlers see them, and the envelope that replies share.

A handler gets the whole body and never sees ASGI. Query parameters are parsed only where a handler asks for one:
most requests carry none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from cluster.api_keys import EVERYTHING, Access
from cluster.scope import Scope
from cluster.search_times import SearchTimes
from deployments.admission import Admission, Ticket
from deployments.cluster_api import ClusterApi
from deployments.http_coverage import MIN_COVERAGE_HEADER, fraction_of
from deployments.http_parameters import parse_parameters, seconds_of
from deployments.limits import LimitSettings
from deployments.result_cache import ResultCache
from deployments.snapshot_settings import SnapshotSettings

Headers = Iterable[tuple[bytes, bytes]]

LEFT_S_MIN = 0.001
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
_NONE: Mapping[str, str] = {}


if TYPE_CHECKING:
    from deployments.observability import Observed


@dataclass(frozen=True, slots=True)
class HttpContext:
    """What all handlers share."""

    cluster: ClusterApi
    limits: LimitSettings
    shoal_version: str
    observed: Observed
    routes: Mapping[str, Mapping[str, Handler]] = field(default_factory=dict)
    """Handlers by path template and method, for the API's description of itself."""
    cache: ResultCache | None = None
    """Of answers to queries; None where it is off."""
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    admission: Admission = field(default_factory=Admission)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    """What goes on although its request was answered."""
    recoveries: set[object] = field(default_factory=set)
    """One for each recovery of a snapshot that goes on."""


@dataclass(slots=True)
class Request:
    """`named` and `point` (of an index: its field) are the path's variables, "" where it has none; `started` is a
    perf_counter value. `collection` is what `named` was found to be, an alias resolved; what a handler does is held to it.
    `access` is for handlers that show only what the caller may see; whether it may call them at all is decided before,
    and so are `tenants`, to whose points alone the request is kept, where it names any.
    """

    collection: Scope
    point: str
    body: bytes
    query_string: bytes
    started: float
    named: str = ""
    access: Access = EVERYTHING
    headers: Headers = ()
    tenants: tuple[str, ...] = ()
    times: SearchTimes | None = None
    """Of a search that was answered."""
    ticket: Ticket | None = None
    """Of a request for points: what it costs is charged to it."""
    waited_s: float = 0.0
    """How long it stood in line."""
    degraded: tuple[str, ...] = ()
    """What its answer did without, because the router was short of time; the answer says so."""

    def header(self, name: bytes) -> bytes:
        """A header's value, b"" where there is none; `name` in lower case."""
        return header_of(self.headers, name)

    def parameters(self) -> Mapping[str, str]:
        """The query parameters. Raises InvalidRequest (http_parameters.py)."""
        return parse_parameters(self.query_string) if self.query_string else _NONE

    def deadline_s(self, limits: LimitSettings) -> float:
        """What is left of `timeout`, in seconds, or the default (whole: searches with equal ones can go as one). Raises
        InvalidRequest where it is no positive number.
        """
        text = self.parameters().get("timeout") if self.query_string else None
        if text is None:
            return limits.timeout_default_s
        return max(LEFT_S_MIN, seconds_of(text, limits.timeout_s_max) - self.waited_s)

    def min_coverage(self) -> float:
        """The fraction of the shards that is enough for the caller: 1, unless the header says less."""
        text = self.header(MIN_COVERAGE_HEADER)
        return fraction_of(text) if text else 1.0

    def charge(self, cost: float) -> None:
        """Say what the request costs as a whole (deployments/cost.py)."""
        if self.ticket is not None:
            self.ticket.charge(cost)

    def wait(self, default: bool = False) -> bool:
        """`wait`, or the default where it is not given."""
        return self.parameters().get("wait", "true" if default else "false") == "true"


class Stream(NamedTuple):
    """A body of known length that comes in pieces, each asked for when the one before is on its way."""

    byte_count: int
    pieces: AsyncIterator[bytes]


@dataclass(slots=True)
class Reply:
    """`headers` are sent besides content-type and content-length. With a `stream`, that is the body."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    stream: Stream | None = None

    @property
    def byte_count(self) -> int:
        """Of the body."""
        return len(self.body) if self.stream is None else self.stream.byte_count


def header_of(headers: Headers, name: bytes) -> bytes:
    """A header's value, b"" where there is none; `name` in lower case."""
    for held, value in headers:
        # Most headers have another length, which is known without looking at them.
        if len(held) == len(name) and held.lower() == name:
            return value
    return b""


Handler = Callable[[HttpContext, Request], Awaitable[Reply]]


class Call(NamedTuple):
    """A request that was let in, its body still to come."""

    handler: Handler
    request: Request


def success(request: Request, result: bytes, shoal: bytes = b"") -> Reply:
    """The envelope of a success. `result` and `shoal` (our addition, left out where empty) are JSON already."""
    addition = b',"shoal":%b' % shoal if shoal else b""
    elapsed_s = perf_counter() - request.started
    return Reply(b'{"result":%b,"status":"ok","time":%.6f%b}' % (result, elapsed_s, addition))
