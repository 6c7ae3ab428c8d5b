"""The shard's end of a data-plane connection: handshake, frames in, answers out. What a request means is the
service's affair.

All frames that one read brought are handed over together, so that searches that waited meanwhile can share one pass.
Answers may come later and in any order. A peer that does not read its answers is not read from; one that breaks the
protocol is told why, and its connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol, cast

from shards import handshake
from shards.errors import ShardUnavailable, ShoalError
from shards.wire import Frame, FrameReader, Kind, encode_error, encode_frame

HANDSHAKE_S = 5.0
"""A peer that has not proved itself by then is dropped."""

log = logging.getLogger(__name__)


class Service(Protocol):
    """What answers requests."""

    name: bytes

    def handle(self, frames: list[Frame], connection: ShardConnection) -> None:
        """Answer each frame, now or later, by `connection.answer`. Raises nothing."""

    def forget(self, connection: ShardConnection) -> None:
        """The connection has ended: nobody waits for what it asked."""


class ShardConnection(asyncio.Protocol):
    """One connection. Lives on the loop."""

    def __init__(
        self, service: Service, secret: bytes, frame_bytes_max: int, on_close: Callable[[Any], None]
    ) -> None:
        self._service = service
        self._secret = secret
        self._reader = FrameReader(frame_bytes_max)
        self._on_close = on_close
        self._nonce = os.urandom(handshake.NONCE_BYTES)
        self._is_trusted = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Answers leave at once; uvloop would else keep them until the end of the loop's turn, behind other searches.
        self._transport.set_write_buffer_limits(high=0)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.close)
        self.answer(Kind.CHALLENGE, 0, [handshake.encode_challenge(self._nonce)])

    def data_received(self, data: bytes) -> None:
        """Hand over the frames that are whole; the first one must prove that the caller knows the secret."""
        try:
            frames = self._reader.feed(data)
            if not self._is_trusted and frames:
                self._authenticate(frames.pop(0))
            if frames:
                self._service.handle(frames, self)
        except ShoalError as error:
            log.warning("a data-plane connection was closed: %s", error.message)
            self.answer(Kind.ERROR, 0, [encode_error(error)])
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._service.forget(self)
        self._on_close(self)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def answer(self, kind: Kind, request_id: int, parts: list[Any]) -> None:
        """Send one answer; nothing happens where the peer has gone."""
        self.send(encode_frame(kind, request_id, parts))

    def fail(self, request_id: int, error: ShoalError) -> None:
        """Send an error as the answer."""
        self.answer(Kind.ERROR, request_id, [encode_error(error)])

    def send(self, buffers: list[Any]) -> None:
        """Send encoded frames, in one write."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(buffers)

    def close(self) -> None:
        """Close after what was sent."""
        if self._transport is not None:
            self._transport.close()

    def _authenticate(self, frame: Frame) -> None:
        caller_nonce = None
        if frame.kind is Kind.AUTHENTICATE:
            caller_nonce = handshake.check_authenticate(self._secret, self._nonce, frame.body)
        if caller_nonce is None:
            raise ShardUnavailable("the caller does not know this cluster's secret")
        self._is_trusted = True
        if self._timer is not None:
            self._timer.cancel()
        welcome = handshake.encode_welcome(self._secret, self._nonce, caller_nonce, self._service.name)
        self.answer(Kind.WELCOME, frame.request_id, [welcome])
