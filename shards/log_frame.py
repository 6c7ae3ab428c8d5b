"""The write-ahead log's frame: one group commit is one checksummed frame.

    magic "SHL1" | crc32c u32 | body bytes u32 | op count u32 | epoch u64 | first LSN u64 | durable LSN u64 | body
    body = ops; op = kind u8 | 7 zero bytes | body bytes u64 | operation id 16 bytes | body, padded to 8 bytes

Little-endian; the checksum covers everything behind itself. Op i of a frame has LSN first + i. `durable LSN` is the
last LSN that had been fsynced when the frame was written: a later frame thereby proves that an earlier one was
durable. So a bad frame is *corruption* if something later proves that it was durable; otherwise it is a torn tail,
which no client was ever told of. This module tells good bytes from bad; shards/wal.py weighs the proof.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

MAGIC = b"SHL1"
_HEADER = struct.Struct("<4sIIIQQQ")
_OP_HEADER = struct.Struct("<B7xQ16s")
_CRC_START = 8
"""The checksum covers the frame from here on."""

FRAME_HEADER_BYTES = _HEADER.size
OP_OVERHEAD_BYTES = _OP_HEADER.size + 7
BODY_BYTES_MAX = 2**32 - 1


class OpKind(IntEnum):
    """What an op does. The numbers are part of the format on disk."""

    UPSERT = 1
    DELETE = 2
    ATTACH = 3


_KINDS = frozenset(int(kind) for kind in OpKind)


@dataclass(frozen=True, slots=True)
class LogOp:
    """One write. `op_id` (16 bytes) names the operation, so that a repetition can be recognised."""

    kind: OpKind
    op_id: bytes
    body: bytes | memoryview


@dataclass(frozen=True, slots=True)
class LogFrame:
    """A decoded frame. Op bodies are views of the buffer it was read from."""

    epoch: int
    first_lsn: int
    durable_lsn: int
    ops: tuple[LogOp, ...]
    end: int
    """Offset of the first byte behind the frame."""

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + len(self.ops) - 1


class BadFrame(Exception):
    """The bytes at an offset are not a whole, right frame; the text says why."""


def encode_frame(ops: Sequence[LogOp], epoch: int, first_lsn: int, durable_lsn: int) -> bytes:
    """The frame's bytes. The ops' bodies together must stay below 4 GiB."""
    parts: list[bytes | memoryview] = [b""]
    body_bytes = 0
    for op in ops:
        padding = -len(op.body) % 8
        parts += (_OP_HEADER.pack(op.kind, len(op.body), op.op_id), op.body, bytes(padding))
        body_bytes += _OP_HEADER.size + len(op.body) + padding
    assert body_bytes <= BODY_BYTES_MAX, "the caller bounds a group commit"
    parts[0] = _HEADER.pack(MAGIC, 0, body_bytes, len(ops), epoch, first_lsn, durable_lsn)
    frame = bytearray(b"".join(parts))
    checksum = google_crc32c.value(bytes(memoryview(frame)[_CRC_START:]))
    frame[4:8] = checksum.to_bytes(4, "little")
    return bytes(frame)


def decode_frame(buffer: memoryview, offset: int) -> LogFrame:
    """The frame at `offset`. Raises BadFrame where the bytes are not one, whatever they are."""
    if len(buffer) - offset < _HEADER.size:
        raise BadFrame(f"{len(buffer) - offset} bytes are left, a frame's header has {_HEADER.size}")
    magic, checksum, body_bytes, op_count, epoch, first_lsn, durable_lsn = _HEADER.unpack_from(buffer, offset)
    if magic != MAGIC:
        raise BadFrame(f"it starts with {bytes(magic)!r} instead of {MAGIC!r}")
    end = offset + _HEADER.size + body_bytes
    if end > len(buffer):
        raise BadFrame(f"its header says {body_bytes} body bytes, {len(buffer) - offset - _HEADER.size} are there")
    if google_crc32c.value(bytes(buffer[offset + _CRC_START : end])) != checksum:
        raise BadFrame("its checksum is wrong")
    ops = _decode_ops(buffer[offset + _HEADER.size : end], op_count)
    return LogFrame(epoch, first_lsn, durable_lsn, ops, end)


def find_frames(buffer: memoryview, offset: int) -> Iterator[LogFrame]:
    """Every good frame that starts at `offset` or behind it, whatever stands between them."""
    content = bytes(buffer)
    while (offset := content.find(MAGIC, offset)) >= 0:
        try:
            frame = decode_frame(buffer, offset)
        except BadFrame:
            offset += 1
            continue
        yield frame
        offset = frame.end


def _decode_ops(body: memoryview, op_count: int) -> tuple[LogOp, ...]:
    # The checksum held, so contradictions here are a writer's mistake; they still must not become a crash.
    ops: list[LogOp] = []
    at = 0
    for _ in range(op_count):
        if len(body) - at < _OP_HEADER.size:
            raise BadFrame(f"it says {op_count} ops, {len(ops)} fit")
        kind, op_bytes, op_id = _OP_HEADER.unpack_from(body, at)
        at += _OP_HEADER.size
        if kind not in _KINDS or op_bytes > len(body) - at:
            raise BadFrame(f"op {len(ops)} has kind {kind} and {op_bytes} bytes")
        ops.append(LogOp(OpKind(kind), op_id, body[at : at + op_bytes]))
        at += op_bytes + -op_bytes % 8
    if at != len(body):
        raise BadFrame(f"{len(body) - at} bytes stand behind its {op_count} ops")
    return tuple(ops)
