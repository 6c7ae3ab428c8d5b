"""The short way of a request into a router: from the connection's bytes to the HTTP API and back.

Behind HAProxy a router's own server is uvicorn's, and between it and the application stand Serve's middlewares, its
request context, and a task that waits for the client to go: for a handler that does nothing that is 400 us a request,
more than all of Shoal's own work for a search. This protocol class keeps uvicorn's parser, pipelining, keep-alive and
graceful end, and hands whole requests to the application that the router registered. Serve's own paths (`/-/...`:
health, routes) and upgrades take the usual way.

What Serve would do on its way, and what is done here instead: it waits for requests in progress before a router ends
(uvicorn's server waits for them too), it holds back more than `max_ongoing_requests` (here they are refused with 503 and
Retry-After, as are bodies that have no room), and it cancels what a client no longer waits for (so does this). A client
that doesn't take what it asked for holds a place among the requests in progress, so it is cut off after STALLED_S; and of
those places streams have STREAMS_MAX.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from deployments.http_errors import BodyTooLarge, error_reply
from deployments.http_message import Call, Headers, Reply, Stream
from deployments.router_log import given_id, with_id
from shards.errors import QueueFull

SERVE_PREFIX = b"/-/"
BUSY_RETRY_S = 1.0
BODIES_BYTES_MAX = 256 * 1024 * 1024
STALLED_S = 30.0
"""How long a client may take for what was sent so far; of a stream that is a piece, so 35 kB/s are enough."""
STREAMS_MAX = 8
"""Bodies in pieces that a router sends at once: each is up to 1 MiB in memory, and reads from the shards."""

_log = logging.getLogger(__name__)


class DirectApp(Protocol):
    """What a router registers."""

    @property
    def body_bytes_max(self) -> int:
        """The longest body that `answer` is given."""

    def admit(self, method: str, path: str, query_string: bytes, headers: Headers, started: float) -> Call:
        """Decide whether a request is answered, before its body is here; raises where not. `started`: a perf_counter
        value.
        """

    async def answer(self, call: Call, body: bytes) -> Reply:
        """The reply to a request that was let in; an error is a reply too."""


class _Registered:
    """The application of this process, the loop that it lives on, and how many requests it works on at once."""

    app: DirectApp | None = None
    loop: asyncio.AbstractEventLoop | None = None
    ongoing_max = 0
    stream_count = 0
    bodies: BodyBudget


class BodyBudget:
    """Bytes of the bodies that a router holds at once, those still on their way included."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Raises QueueFull where there is no room."""
        if self.held_bytes + size > self.bytes_max:
            raise QueueFull(
                f"this router holds {self.held_bytes} bytes of requests; the limit is {self.bytes_max}"
                " (admission.body_bytes_max): try again later",
                BUSY_RETRY_S,
            )
        self.held_bytes += size

    def give_back(self, size: int) -> None:
        """What was taken."""
        self.held_bytes -= size


def register(app: DirectApp, ongoing_max: int, bodies_bytes_max: int = BODIES_BYTES_MAX) -> None:
    """From now on, new connections' requests go straight to `app`, if they arrive on the loop that runs now (Serve can
    be set to run applications in a thread of their own; then they take its usual way).
    """
    _Registered.app, _Registered.loop, _Registered.ongoing_max = app, asyncio.get_running_loop(), ongoing_max
    _Registered.bodies = BodyBudget(bodies_bytes_max)


def protocol_class(usual: type[asyncio.Protocol], loop: asyncio.AbstractEventLoop) -> type[asyncio.Protocol]:
    """What a server on `loop` makes for a connection, in place of uvicorn's `usual`."""
    if _Registered.app is None or _Registered.loop is not loop or usual is not HttpToolsProtocol:
        return usual
    return RouterProtocol


class RouterProtocol(HttpToolsProtocol):
    """One connection. Callbacks of the parser come in uvicorn's order: begin, url, headers, body, complete."""

    cycle: Any
    """The newest request: an _Exchange, or uvicorn's own cycle for what takes the usual way."""
    _exchange: _Exchange | None = None
    """The request that is being read, if it takes the short way."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more: what is in progress is cancelled."""
        exchanges = [self.cycle, *(cycle for cycle, _app in self.pipeline)]
        super().connection_lost(exc)
        for exchange in exchanges:
            if isinstance(exchange, _Exchange):
                exchange.cancel()

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Choose the way."""
        parser = self.parser
        app = _Registered.app
        if app is None or self.url.startswith(SERVE_PREFIX) or parser.should_upgrade():
            self._exchange = None
            self._take_usual_way()
            return
        self.cycle = self._exchange = _Exchange(self, app, before=self.cycle)
        self._exchange.keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        for name, value in self.headers:
            if len(name) == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.add(body)

    def on_message_complete(self) -> None:
        if self._exchange is None:
            super().on_message_complete()
        else:
            self._exchange.start()

    def _take_usual_way(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()


class _Exchange:
    """One request and its reply. Has what uvicorn's protocol asks of its own RequestResponseCycle."""

    __slots__ = (
        "_app", "_before", "_body", "_body_bytes", "_call", "_headers", "_held_bytes", "_is_started", "_method",
        "_protocol", "_refusal", "_started", "_task", "disconnected", "keep_alive", "response_complete",
    )  # fmt: skip
    message_event = asyncio.Event()
    """uvicorn sets it when a connection ends; nobody waits for it."""

    def __init__(self, protocol: RouterProtocol, app: DirectApp, before: Any) -> None:
        url = httptools.parse_url(protocol.url)
        path: str = url.path.decode("ascii")
        self._started = perf_counter()
        self._protocol = protocol
        self._app = app
        self._headers = protocol.headers
        self._before = before
        self._method: str = protocol.parser.get_method().decode("ascii")
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._held_bytes = 0
        self._call: Call | None = None
        self._refusal: Exception | None = None
        try:
            path = unquote(path) if "%" in path else path
            self._call = app.admit(self._method, path, url.query or b"", protocol.headers, self._started)
        except Exception as error:  # answered when the request is here whole; its body is let go of as it comes
            self._refusal = error
        self._is_started = False
        self._task: asyncio.Task[Any] | None = None
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    def add(self, chunk: bytes) -> None:
        """Take a part of the body. One that is too long is let go of and refused, before it is here whole."""
        if self._is_started:
            return
        self._body_bytes += len(chunk)
        if self._refusal is None:
            self._keep(chunk)
        if self._body_bytes > self._app.body_bytes_max:
            self._let_go()
            limit = self._app.body_bytes_max
            self._refusal = BodyTooLarge(f"the body is larger than the limit body_bytes_max of {limit} bytes")
            self.start()

    def _keep(self, chunk: bytes) -> None:
        try:
            _Registered.bodies.take(len(chunk))
        except QueueFull as error:
            self._let_go()
            self._refusal = error
        else:
            self._held_bytes += len(chunk)
            self._body.append(chunk)

    def _let_go(self) -> None:
        """Of the body."""
        self._body = []
        if self._held_bytes:
            _Registered.bodies.give_back(self._held_bytes)
            self._held_bytes = 0

    def start(self) -> None:
        """The request is here: answer it now, or after the one before it on this connection."""
        if self._is_started:
            return
        self._is_started = True
        protocol = self._protocol
        # Kept, each would hold the one before it, as long as the connection lives.
        before, self._before = self._before, None
        if before is None or before.response_complete:
            ongoing = len(protocol.tasks)
            if ongoing >= _Registered.ongoing_max:
                self._refusal = QueueFull(f"this router already works on {ongoing} requests", BUSY_RETRY_S)
            if self._refusal is not None and not protocol.flow.write_paused:
                self._let_go()
                self._answer(self._refused(self._refusal))  # a task would cost more than the answer
                return
            protocol._start_asgi_task(self, protocol.app)  # type: ignore[arg-type]
        else:
            protocol.flow.pause_reading()
            protocol.pipeline.appendleft((self, protocol.app))  # type: ignore[arg-type]

    def cancel(self) -> None:
        """The client went away."""
        self.disconnected = True
        self._refusal = None
        if self._task is not None:
            self._task.cancel()
        else:
            self._let_go()

    async def run_asgi(self, app: Any) -> None:
        """Answer (called as uvicorn calls its own cycles; `app` is Serve's, and passed by)."""
        if self.disconnected:
            return
        self._task = asyncio.current_task()
        try:
            reply = await self._reply()
        finally:
            self._let_go()
        try:
            await self._drain()
        except TimeoutError:
            return
        if self.disconnected:
            return
        if reply.stream is None:
            self._answer(reply)
        elif _Registered.stream_count >= STREAMS_MAX:
            busy = QueueFull(f"this router already sends {STREAMS_MAX} files: try again later", BUSY_RETRY_S)
            self._answer(self._refused(busy))
        else:
            _Registered.stream_count += 1
            try:
                await self._send(reply, reply.stream)
            finally:
                _Registered.stream_count -= 1

    async def _reply(self) -> Reply:
        if self._refusal is not None:
            return self._refused(self._refusal)
        assert self._call is not None, "what is not refused was let in"
        body, self._body = self._body[0] if len(self._body) == 1 else b"".join(self._body), []
        return await self._app.answer(self._call, body)

    def _refused(self, refusal: Exception) -> Reply:
        self._refusal = None  # it knows, by its trace, who raised it: kept, both would wait for the garbage collector
        request_id = given_id(self._headers)
        reply = error_reply(refusal, self._started, request_id)
        return with_id(reply, request_id) if request_id else reply

    def _answer(self, reply: Reply) -> None:
        self._end(self._head(reply) + (b"" if self._method == "HEAD" else reply.body))

    async def _drain(self) -> None:
        """Wait until the client has taken enough of what was sent. One that doesn't is cut off: raises TimeoutError."""
        protocol = self._protocol
        if not protocol.flow.write_paused:
            return
        try:
            async with asyncio.timeout(STALLED_S):
                await protocol.flow.drain()
        except TimeoutError:
            _log.warning("a client took nothing for %g s and is cut off", STALLED_S)
            protocol.transport.abort()
            raise

    async def _send(self, reply: Reply, stream: Stream) -> None:
        """A body in pieces: the next is asked for when the client has taken enough of those before."""
        protocol = self._protocol
        try:
            protocol.transport.write(self._head(reply))
            async for piece in stream.pieces:
                protocol.transport.write(piece)
                await self._drain()
        except Exception as error:  # too late for another status: a body that is too short says so
            if not protocol.transport.is_closing():
                _log.error("a body of %d bytes was cut short", stream.byte_count, exc_info=error)
                protocol.transport.abort()  # closing would wait for a client that may read nothing
            return
        self._end(b"")

    def _head(self, reply: Reply) -> bytes:
        protocol = self._protocol
        parts = [STATUS_LINE[reply.status]]
        for name, value in (*protocol.server_state.default_headers, *reply.headers):
            if name == b"connection":
                self.keep_alive = self.keep_alive and value != b"close"
            else:
                parts.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (reply.content_type, reply.byte_count))
        return b"".join(parts)

    def _end(self, rest: bytes) -> None:
        """Write what is left of the reply; the connection is the next request's, or closed."""
        protocol = self._protocol
        protocol.transport.write(rest)
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
