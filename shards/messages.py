"""The bodies of the data plane's requests and answers (shards/wire.py frames them). Pure.

Every request about a collection begins with the same 24 bytes: its uid (16) and the epoch of the caller's shard map
(u64).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from shards.batch import Buffer, Vectors, decode_batch, encode_batch_parts
from shards.errors import Corrupt
from shards.hits import Hits
from shards.index import SearchPlan
from shards.nearest import Want
from shards.point_ids import NARROW, WIDE
from shards.records import Records

_TARGET = struct.Struct("<16sQ")
_SEARCH = struct.Struct("<IIIIB7x")
_HITS = struct.Struct("<IIIBBBx")
_WRITTEN = struct.Struct("<Q")
_EXACT, _PAYLOADS, _VECTORS = 1, 2, 4
TARGET_BYTES = _TARGET.size


@dataclass(frozen=True, slots=True)
class Target:
    """Which collection a request is about, and the epoch of the shard map that sent it here."""

    uid: bytes
    epoch: int

    def encode(self) -> bytes:
        return _TARGET.pack(self.uid, self.epoch)


@dataclass(frozen=True, slots=True)
class SearchBody:
    """A search of prepared queries, float32 (nq, dim)."""

    plan: SearchPlan
    want: Want
    queries: Vectors


def decode_target(body: memoryview) -> tuple[Target, memoryview]:
    """The target, and the rest of the body."""
    if len(body) < _TARGET.size:
        raise Corrupt(f"a request has {len(body)} bytes, fewer than the {_TARGET.size} that name its collection")
    return Target(*_TARGET.unpack_from(body)), body[_TARGET.size :]


def encode_search(target: Target, search: SearchBody) -> list[Any]:
    """SEARCH's body."""
    plan, want = search.plan, search.want
    flags = _EXACT * plan.exact | _PAYLOADS * want.payloads | _VECTORS * want.vectors
    count, dim = search.queries.shape
    head = target.encode() + _SEARCH.pack(plan.k, plan.ef, count, dim, flags)
    return [head, np.ascontiguousarray(search.queries, np.float32).data.cast("B")]


def decode_search(body: memoryview) -> SearchBody:
    """The search behind its target. The queries are a view of the body."""
    if len(body) < _SEARCH.size:
        raise Corrupt("a search is shorter than its header")
    k, ef, count, dim, flags = _SEARCH.unpack_from(body)
    if len(body) != _SEARCH.size + 4 * count * dim or not (k and count and dim):
        raise Corrupt(f"a search of {count} queries x {dim} has {len(body)} bytes")
    queries = np.frombuffer(body, np.float32, count * dim, _SEARCH.size).reshape(count, dim)
    plan = SearchPlan(k, ef, bool(flags & _EXACT))
    return SearchBody(plan, Want(bool(flags & _PAYLOADS), bool(flags & _VECTORS)), queries)


def encode_hits(hits: Hits) -> list[Any]:
    """HITS' body: header | counts | distances | versions | keys | vectors | payload offsets | payloads."""
    has_payloads, has_vectors = hits.payloads is not None, hits.vectors is not None
    dim = hits.vectors.shape[2] if hits.vectors is not None else 0
    parts = [
        _HITS.pack(hits.query_count, hits.width, dim, hits.keys.dtype.itemsize, has_payloads, has_vectors),
        hits.distances.astype(np.float32, copy=False).tobytes(),
        hits.counts.tobytes(),
        hits.versions.tobytes(),
        hits.keys.tobytes(),
    ]
    if hits.vectors is not None:
        parts.append(hits.vectors.tobytes())
    if hits.payloads is not None:
        parts.append(np.cumsum([0, *map(len, hits.payloads)], dtype=np.uint64).tobytes())
        parts.append(b"".join(hits.payloads))
    return parts


def decode_hits(body: memoryview) -> Hits:
    """The hits; arrays are views of the body. Raises Corrupt where lengths contradict each other."""
    try:
        count, width, dim, key_bytes, has_payloads, has_vectors = _HITS.unpack_from(body)
        cells = count * width
        cut = _Cutter(body, _HITS.size)
        distances = cut.array(np.dtype(np.float32), cells).reshape(count, width)
        counts = cut.array(np.dtype(np.int32), count)
        versions = cut.array(np.dtype(np.uint64), cells).reshape(count, width)
        keys = cut.array(NARROW if key_bytes == NARROW.itemsize else WIDE, cells).reshape(count, width)
        vectors = cut.array(np.dtype(np.float32), cells * dim).reshape(count, width, dim) if has_vectors else None
        payloads = None
        if has_payloads:
            offsets = cut.array(np.dtype(np.uint64), cells + 1).tolist()
            blob = body[cut.at :]
            payloads = [bytes(blob[start:end]) for start, end in pairwise(offsets)]
        return Hits(counts, distances, keys, versions, payloads, vectors)
    except (ValueError, struct.error) as error:
        raise Corrupt(f"an answer of {len(body)} bytes can't be read: {error}") from error


class _Cutter:
    def __init__(self, body: memoryview, at: int) -> None:
        self._body = body
        self.at = at

    def array(self, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
        values = np.frombuffer(self._body, dtype, count, self.at)
        self.at += count * dtype.itemsize
        return values


def encode_records(records: Records) -> list[Any]:
    """RECORDS' body: count u64 | versions | batch."""
    return [_WRITTEN.pack(len(records.versions)), records.versions.tobytes(), *encode_batch_parts(records.batch)]


def decode_records(body: memoryview) -> Records:
    """The records; arrays are views of the body."""
    try:
        (count,) = _WRITTEN.unpack_from(body)
        versions = np.frombuffer(body, np.uint64, count, _WRITTEN.size)
    except (ValueError, struct.error) as error:
        raise Corrupt(f"records of {len(body)} bytes can't be read: {error}") from error
    return Records(versions, decode_batch(body[_WRITTEN.size + 8 * count :]))


def encode_write(target: Target, op_id: bytes, parts: list[Any]) -> list[Any]:
    """UPSERT's and DELETE's body: target | operation id (16 bytes) | the op's own bytes, as the log keeps them."""
    return [target.encode() + op_id, *parts]


def decode_write(body: memoryview) -> tuple[bytes, memoryview]:
    """The operation id and the op's own bytes, behind the target."""
    if len(body) < 16:
        raise Corrupt("a write is shorter than its operation id")
    return bytes(body[:16]), body[16:]


def encode_written(lsn: int) -> list[Any]:
    """WRITTEN's body."""
    return [_WRITTEN.pack(lsn)]


def decode_written(body: Buffer) -> int:
    """The LSN of a write."""
    lsn: int = _WRITTEN.unpack(body)[0]
    return lsn


def encode_json(content: Any) -> list[Any]:
    """A body of JSON."""
    return [json.dumps(content).encode()]


def decode_json(body: Buffer) -> Any:
    """What a JSON body holds. Raises Corrupt."""
    try:
        return json.loads(bytes(body))
    except ValueError as error:
        raise Corrupt(f"a message's JSON can't be read: {error}") from error
