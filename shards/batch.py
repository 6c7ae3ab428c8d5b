"""A batch of points as columns: what travels on the data plane, what the log holds, what a bulk load streams.

One layout serves all three, so a write is encoded once, by the router, and its bytes are validated, logged and
applied as they are. Little-endian, 8-byte aligned from its start:

    header   count u32 | dim u32 | key width u8 (8 or 17) | 7 zero bytes | payload bytes u64
    vectors  float32, count x dim
    offsets  u64, count + 1: where each point's payload starts and ends in `payloads`
    keys     uint64 or S17, count (see shards/point_ids.py)
    payloads JSON objects, concatenated; an empty range means no payload

Decoding copies nothing: the arrays are views of the buffer, which must outlive them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import Corrupt
from shards.point_ids import NARROW, WIDE, KeyArray, same_width

Vectors = npt.NDArray[np.float32]
Buffer = bytes | bytearray | memoryview

_HEADER = struct.Struct("<IIB7xQ")


@dataclass(frozen=True, slots=True)
class PointBatch:
    """`count` points. vectors: float32 (count, dim), C order; keys: key array (count,)."""

    keys: KeyArray
    vectors: Vectors
    payload_offsets: npt.NDArray[np.uint64]
    payloads: Buffer

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def payload(self, row: int) -> bytes:
        """The stored JSON bytes of one point; empty where it has none."""
        return bytes(self.payloads[int(self.payload_offsets[row]) : int(self.payload_offsets[row + 1])])

    def take(self, rows: npt.NDArray[np.intp]) -> PointBatch:
        """A batch of copies of the given rows, in their order."""
        return make_batch(self.keys[rows], self.vectors[rows], [self.payload(row) for row in rows.tolist()])


def make_batch(keys: KeyArray, vectors: Vectors, payloads: Sequence[bytes]) -> PointBatch:
    """A batch from keys, float32 vectors (count, dim) and one JSON payload (or b"") for each point."""
    offsets = np.zeros(len(payloads) + 1, dtype=np.uint64)
    np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
    return PointBatch(keys, np.ascontiguousarray(vectors, dtype=np.float32), offsets, b"".join(payloads))


def concatenate(batches: Sequence[PointBatch]) -> PointBatch:
    """One batch with all points, in order. At least one batch; all of one dimension."""
    if len(batches) == 1:
        return batches[0]
    lengths = np.concatenate([np.diff(batch.payload_offsets) for batch in batches])
    offsets = np.zeros(len(lengths) + 1, dtype=np.uint64)
    np.cumsum(lengths, out=offsets[1:])
    return PointBatch(
        np.concatenate(same_width(batch.keys for batch in batches)),
        np.concatenate([batch.vectors for batch in batches]),
        offsets,
        b"".join(batch.payloads for batch in batches),
    )


def encode_batch(batch: PointBatch) -> bytes:
    """The bytes of a batch, in the layout above."""
    return b"".join(encode_batch_parts(batch))


def encode_batch_parts(batch: PointBatch) -> list[Any]:
    """The same as buffers that need no copy before they are written."""
    header = _HEADER.pack(len(batch), batch.dim, batch.keys.dtype.itemsize, len(batch.payloads))
    return [
        header,
        np.ascontiguousarray(batch.vectors).data.cast("B") if batch.vectors.size else b"",
        batch.payload_offsets.tobytes(),
        batch.keys.tobytes(),
        batch.payloads,
    ]


def decode_batch(buffer: Buffer) -> PointBatch:
    """The batch in `buffer`, as views of it. Raises Corrupt where lengths or offsets contradict each other."""
    view = memoryview(buffer)
    if len(view) < _HEADER.size:
        raise Corrupt(f"a point batch has {len(view)} bytes, fewer than its header of {_HEADER.size}")
    count, dim, key_bytes, payload_bytes = _HEADER.unpack_from(view)
    if key_bytes not in (NARROW.itemsize, WIDE.itemsize):
        raise Corrupt(f"a point batch says that its keys have {key_bytes} bytes; 8 and 17 are known")
    vectors_at = _HEADER.size
    offsets_at = vectors_at + 4 * count * dim
    keys_at = offsets_at + 8 * (count + 1)
    payloads_at = keys_at + key_bytes * count
    if len(view) != payloads_at + payload_bytes:
        raise Corrupt(f"a point batch has {len(view)} bytes, its header says {payloads_at + payload_bytes}")
    vectors = np.frombuffer(view, np.float32, count * dim, vectors_at).reshape(count, dim)
    offsets = np.frombuffer(view, np.uint64, count + 1, offsets_at)
    keys = np.frombuffer(view, NARROW if key_bytes == NARROW.itemsize else WIDE, count, keys_at)
    if offsets[0] != 0 or offsets[-1] != payload_bytes or (offsets[1:] < offsets[:-1]).any():
        raise Corrupt("the payload offsets of a point batch do not ascend from 0 to its payload bytes")
    return PointBatch(keys, vectors, offsets, view[payloads_at:])


_KEYS_HEADER = struct.Struct("<IB3x")


def encode_keys(keys: KeyArray) -> bytes:
    """count u32 | key width u8 | 3 zero bytes | keys."""
    return _KEYS_HEADER.pack(len(keys), keys.dtype.itemsize) + keys.tobytes()


def encode_versioned_keys(keys: KeyArray, versions: npt.NDArray[np.uint64]) -> bytes:
    """A key list, and a u64 for each key behind it."""
    return encode_keys(keys) + versions.astype("<u8").tobytes()


def decode_versioned_keys(buffer: Buffer) -> tuple[KeyArray, npt.NDArray[np.uint64]]:
    """What `encode_versioned_keys` wrote. Raises Corrupt where the length contradicts the header."""
    view = memoryview(buffer)
    if len(view) < _KEYS_HEADER.size:
        raise Corrupt(f"a key list has {len(view)} bytes, fewer than its header of {_KEYS_HEADER.size}")
    count = _KEYS_HEADER.unpack_from(view)[0]
    versions_at = max(0, len(view) - 8 * count)
    return decode_keys(view[:versions_at]), np.frombuffer(view, np.uint64, count, versions_at)


def decode_keys(buffer: Buffer) -> KeyArray:
    """The keys, as a view of the buffer. Raises Corrupt where the length contradicts the header."""
    view = memoryview(buffer)
    if len(view) < _KEYS_HEADER.size:
        raise Corrupt(f"a key list has {len(view)} bytes, fewer than its header of {_KEYS_HEADER.size}")
    count, key_bytes = _KEYS_HEADER.unpack_from(view)
    if key_bytes not in (NARROW.itemsize, WIDE.itemsize) or len(view) != _KEYS_HEADER.size + count * key_bytes:
        raise Corrupt(f"a key list of {count} keys of {key_bytes} bytes has {len(view)} bytes")
    return np.frombuffer(view, NARROW if key_bytes == NARROW.itemsize else WIDE, count, _KEYS_HEADER.size)
