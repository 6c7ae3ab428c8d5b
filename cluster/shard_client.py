"""One connection to one shard: requests out, answers matched by id, reconnected when the shard comes back elsewhere.

A request leaves at once where the shard has nothing of ours to do; while it works, requests wait for each other until
the end of the loop's turn, or until there are BURST of them, and leave in one write. An answer whose request was
cancelled is dropped; it must never disturb the connection. The shard is told of a request that nobody waits for any more
(CANCEL, in one write with what else leaves in that turn), and forgets it if it has not begun. When the connection is lost
every open request fails with ShardUnavailable (it may have run): whoever asked decides whether to repeat it. While the
shard's breaker is open (cluster/shard_guard.py) requests fail at once with BreakerOpen.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from cluster.shard_guard import TIMER_ERROR_S, ShardGuard
from shards import handshake
from shards.errors import ShardUnavailable, ShoalError
from shards.wire import Frame, FrameReader, Kind, decode_error, encode_frame

CONNECT_S = 5.0
"""A connection that is not up by then has failed."""

FRAME_BYTES_MAX = 1024 * 1024 * 1024
"""Answers are bounded by what was asked for; this bounds a broken peer."""

BURST = 4
"""Frames that leave in one write at most. One write each would be a system call each; waiting for the end of a busy turn
would leave the shard idle meanwhile.
"""

TIMEOUT_COUNTS_S = 1.0
"""A request that was given less shows nothing about the shard when it is late."""

Done = Callable[[Frame | ShoalError], None]
Address = tuple[str, int]


class _Waiting(NamedTuple):
    """A request that is not answered. `due_at`: by the loop's clock, when it is late; `given_s`: how long it had, 0 for any
    time.
    """

    done: Done
    due_at: float
    given_s: float


class ShardClient:
    """Lives on one loop. `retarget` says where the shard is; `request` connects when it is first needed."""

    def __init__(self, shard_id: int, cluster_id: str, secret: bytes) -> None:
        self.shard_id = shard_id
        self.cluster_id = cluster_id
        self.secret = secret
        self._address: Address | None = None
        self._incarnation = ""
        self._link: _Link | None = None
        self._next_id = 1
        self._open: dict[int, _Waiting] = {}
        self.guard = ShardGuard(self, f"shard {shard_id}")

    def __repr__(self) -> str:
        return f"<ShardClient {self.shard_id} at {self._address}, {len(self._open)} open requests>"

    def retarget(self, address: Address | None, incarnation: str) -> None:
        """Where the shard listens now; a new incarnation means that the old connection is dead."""
        if (address, incarnation) != (self._address, self._incarnation):
            self._address, self._incarnation = address, incarnation
            self._drop_link(ShardUnavailable(f"shard {self.shard_id} was restarted"))
            self.guard.reset()

    def request(self, kind: Kind, parts: list[Any], done: Done, deadline_s: float = 0.0) -> int:
        """Send a request; `done` is called once, with the answer or an error, unless `cancel` is given the returned id.

        Never calls `done` before it returns.
        """
        if self._address is None:
            return self._fail_soon(ShardUnavailable(f"shard {self.shard_id} is not running"), done)
        if not self.guard.is_closed:
            return self._fail_soon(self.guard.refusal(), done)
        return self.send(kind, parts, done, deadline_s)

    def send(self, kind: Kind, parts: list[Any], done: Done, deadline_s: float = 0.0) -> int:
        """The same, whatever the breaker says: for its probes. The shard has to have an address."""
        assert self._address is not None, "a shard that does not run is sent nothing"
        request_id, self._next_id = self._next_id, self._next_id + 1
        is_idle = not self._open
        self._open[request_id] = _Waiting(done, asyncio.get_running_loop().time() + deadline_s, deadline_s)
        if is_idle:
            self.guard.on_busy()
        if self._link is None:
            self._link = _Link(self, self._address)
        self._link.send(encode_frame(kind, request_id, parts, int(deadline_s * 1000)), is_idle)
        return request_id

    @property
    def is_running(self) -> bool:
        """Whether there is an address to send to."""
        return self._address is not None

    @property
    def open_count(self) -> int:
        """Requests that are not answered yet."""
        return len(self._open)

    @property
    def progress(self) -> tuple[int, int]:
        """What differs as long as bytes come or go on the connection."""
        return (0, 0) if self._link is None else self._link.progress

    def give_up(self, error: ShoalError) -> None:
        """Drop the connection: every open request fails with the error."""
        self._drop_link(error)

    def cancel(self, request_id: int) -> bool:
        """Nobody waits for this answer any more, be it that its time is over. Harmless where it has arrived; True where the
        shard is told.
        """
        waiting = self._open.pop(request_id, None)
        if waiting is None:
            return False
        is_told = self._link is not None
        if self._link is not None:
            self._link.send(encode_frame(Kind.CANCEL, request_id, []), at_once=False)
        if waiting.given_s >= TIMEOUT_COUNTS_S:
            is_late = asyncio.get_running_loop().time() + TIMER_ERROR_S >= waiting.due_at
            if is_late:
                self.guard.on_timeout(waiting.due_at - waiting.given_s)
        return is_told

    async def call(self, kind: Kind, parts: list[Any], deadline_s: float) -> Frame:
        """The same for coroutines. Raises ShoalErrors; TimeoutError at the deadline."""
        answer: asyncio.Future[Frame | ShoalError] = asyncio.get_running_loop().create_future()

        def take(got: Frame | ShoalError) -> None:
            if not answer.done():
                answer.set_result(got)

        request_id = self.request(kind, parts, take, deadline_s)
        try:
            async with asyncio.timeout(deadline_s):
                got = await answer
        finally:
            self.cancel(request_id)
        if isinstance(got, ShoalError):
            raise got
        return got

    def close(self) -> None:
        """Close the connection; open requests fail."""
        self._drop_link(ShardUnavailable(f"the connection to shard {self.shard_id} was closed"))
        self._address = None
        self.guard.reset()

    # Called by the link

    def on_frames(self, frames: list[Frame]) -> None:
        """Answers arrived."""
        for frame in frames:
            got = decode_error(frame.body) if frame.kind is Kind.ERROR else frame
            self.guard.on_answer(got)
            self._finish(frame.request_id, got)

    def on_lost(self, link: _Link, error: ShoalError) -> None:
        """The connection could not be made, or was lost."""
        if link is self._link:
            self.guard.on_lost(error)
            self._drop_link(error)

    def _fail_soon(self, error: ShoalError, done: Done) -> int:
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._open[request_id] = _Waiting(done, 0.0, 0.0)
        asyncio.get_running_loop().call_soon(self._finish, request_id, error)
        return request_id

    def _finish(self, request_id: int, got: Frame | ShoalError) -> None:
        waiting = self._open.pop(request_id, None)
        if waiting is not None:
            waiting.done(got)

    def _drop_link(self, error: ShoalError) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        open_requests, self._open = self._open, {}
        for waiting in open_requests.values():
            waiting.done(error)


class _Link(asyncio.Protocol):
    """One TCP connection, from connecting to lost. Frames sent before it is trusted wait."""

    def __init__(self, client: ShardClient, address: Address) -> None:
        self._client = client
        self._address = address
        self._reader = FrameReader(FRAME_BYTES_MAX)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_trusted = False
        self._nonces = (b"", os.urandom(handshake.NONCE_BYTES))
        self._outgoing: list[Any] = []
        self._outgoing_frames = 0
        self._flush_planned = False
        self._reads = 0
        self._task = self._loop.create_task(self._connect())

    @property
    def progress(self) -> tuple[int, int]:
        """How often bytes came, and how many wait to be sent."""
        return self._reads, 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, buffers: list[Any], at_once: bool) -> None:
        self._outgoing += buffers
        self._outgoing_frames += 1
        if not self._is_trusted:
            return
        if at_once or self._outgoing_frames >= BURST:
            self._flush()
        elif not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._end_turn)

    def abort(self) -> None:
        self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A write goes to the socket at once; uvloop would else keep it until the end of the loop's turn.
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._reads += 1
        try:
            frames = self._reader.feed(data)
            while frames and not self._is_trusted:
                self._shake_hands(frames.pop(0))
            self._client.on_frames(frames)
        except ShoalError as error:
            self._client.on_lost(self, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.on_lost(self, self._unreachable(f"the connection was lost ({exc or 'closed by the shard'})"))

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: self, *self._address)
        except (OSError, TimeoutError) as error:
            self._client.on_lost(self, self._unreachable(f"connecting failed ({error or 'timed out'})"))

    def _unreachable(self, why: str) -> ShardUnavailable:
        host, port = self._address
        return ShardUnavailable(f"shard {self._client.shard_id} at {host}:{port}: {why}")

    def _shake_hands(self, frame: Frame) -> None:
        assert self._transport is not None
        client = self._client
        if frame.kind is Kind.CHALLENGE:
            self._nonces = (handshake.decode_challenge(frame.body), self._nonces[1])
            body = handshake.encode_authenticate(client.secret, *self._nonces)
            self._transport.writelines(encode_frame(Kind.AUTHENTICATE, 0, [body]))
        elif frame.kind is Kind.WELCOME:
            name = json.loads(handshake.check_welcome(client.secret, *self._nonces, frame.body))
            if (name["shard_id"], name["cluster_id"]) != (client.shard_id, client.cluster_id):
                raise self._unreachable(f"shard {name['shard_id']} of cluster {name['cluster_id']} answers there")
            self._is_trusted = True
            self._flush()
        else:
            raise (
                decode_error(frame.body) if frame.kind is Kind.ERROR else self._unreachable(f"it sent {frame.kind!r}")
            )

    def _end_turn(self) -> None:
        self._flush_planned = False
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing and not self._transport.is_closing():
            outgoing, self._outgoing, self._outgoing_frames = self._outgoing, [], 0
            self._transport.writelines(outgoing)
