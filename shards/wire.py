"""The data plane's frames: what travels on the socket between a router (or a loader) and a shard.

    frame   body bytes u32 | kind u8 | 3 zero bytes | request id u64 | deadline in ms u32 | 4 zero bytes | body

Little-endian; vectors are raw float32, never pickle. Requests are pipelined: an answer carries its request's id, in
any order. The deadline is relative to the moment of sending (0: none), so clocks need not agree. CANCEL names the id of an
earlier request whose answer nobody waits for any more; it is never answered, and the request may be. A connection begins
with the handshake of shards/handshake.py. Pure: bytes in, frames out; shards/server.py and cluster/shard_client.py
own sockets.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any, NamedTuple

from shards.batch import Buffer
from shards.errors import Corrupt, LimitExceeded, ShoalError, from_wire

PROTOCOL_VERSION = 2
_HEADER = struct.Struct("<IB3xQI4x")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What a frame is. Requests are below 100, answers above."""

    CHALLENGE = 1
    AUTHENTICATE = 2
    PING = 10
    SEARCH = 11
    RETRIEVE = 12
    COUNT = 13
    STATISTICS = 14
    SCROLL = 15
    CANCEL = 16
    GENERATIONS = 18
    UPSERT = 20
    DELETE = 21
    WRITE = 22
    FIELDS = 23
    BULK_BEGIN = 30
    BULK_ROWS = 31
    BULK_PREPARE = 32
    BULK_COMMIT = 33
    BULK_ABORT = 34
    SNAPSHOT_TAKE = 40
    SNAPSHOT_SEAL = 41
    SNAPSHOT_LIST = 42
    SNAPSHOT_READ = 43
    SNAPSHOT_DELETE = 44
    SNAPSHOT_RECEIVE = 45
    SNAPSHOT_RESTORE = 46
    SNAPSHOT_DISCARD = 48
    SNAPSHOT_MARK = 49  # not 47: `GET /` has that byte there, and HTTP is to be told by it
    WELCOME = 101
    PONG = 110
    HITS = 111
    RECORDS = 112
    JSON = 113
    PAGE = 114
    BYTES = 115
    STAMPS = 118
    WRITTEN = 120
    ERROR = 199


_KINDS = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    """One message. `body` is a view of what was received, valid as long as it is kept.

    A tuple, as are all that are made for every request: a frozen dataclass costs twice as much to make.
    """

    kind: Kind
    request_id: int
    deadline_ms: int
    body: memoryview


def encode_frame(kind: Kind, request_id: int, parts: list[Any], deadline_ms: int = 0) -> list[Any]:
    """The frame as buffers to write one after the other; `parts` are the body's buffers."""
    body_bytes = sum(map(len, parts))
    return [_HEADER.pack(body_bytes, kind, request_id, deadline_ms), *parts]


class FrameReader:
    """Cuts a stream of bytes into frames. Raises LimitExceeded or Corrupt where it isn't one of ours: then close."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._pending = bytearray()
        self._needed = HEADER_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole with `data`. A whole frame in one piece is not copied."""
        frames: list[Frame] = []
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return frames
            data = bytes(self._pending)
            self._pending.clear()
        view = memoryview(data)
        size, at = len(data), 0
        self._needed = HEADER_BYTES
        while size - at >= HEADER_BYTES:
            body_bytes, kind, request_id, deadline_ms = _HEADER.unpack_from(view, at)
            if kind not in _KINDS:
                raise Corrupt(f"a frame has the unknown kind {kind}: the peer speaks another protocol")
            if body_bytes > self._frame_bytes_max:
                raise LimitExceeded(f"a frame of {body_bytes} bytes is over the limit of {self._frame_bytes_max}")
            if size - at - HEADER_BYTES < body_bytes:
                self._needed = HEADER_BYTES + body_bytes
                break
            start = at + HEADER_BYTES
            at = start + body_bytes
            frames.append(Frame(_KINDS[kind], request_id, deadline_ms, view[start:at]))
        if at < size:
            self._pending += view[at:]
        return frames


def encode_error(error: ShoalError) -> bytes:
    """An ERROR frame's body."""
    return json.dumps([error.code, error.message, error.retry_after_s]).encode()


def decode_error(body: Buffer) -> ShoalError:
    """The error that an ERROR frame carries."""
    try:
        code, message, retry_after_s = json.loads(bytes(body))
        return from_wire(str(code), str(message), retry_after_s)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"an error frame can't be read: {error}") from error
