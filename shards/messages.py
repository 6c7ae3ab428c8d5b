"""The bodies of the data plane's requests and answers (shards/wire.py frames them). Pure.

Every request about a collection begins with the same 24 bytes: its uid (16) and the epoch of the caller's shard map
(u64).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from shards.batch import Buffer, Vectors, decode_batch, decode_keys, encode_batch_parts, encode_keys
from shards.errors import Corrupt
from shards.field_schema import FieldSchema
from shards.filter_query import KEPT_BYTES_MAX, filter_query
from shards.filters.paths import parse_path
from shards.generations import NO_STAMP, Stamp
from shards.hits import HitLists, Hits
from shards.index import SearchPlan
from shards.lookup import Which
from shards.nearest import Want
from shards.point_ids import NARROW, WIDE, KeyArray, key_list
from shards.records import Records
from shards.scrolling import Order, Page, ScrollPlan

_TARGET = struct.Struct("<16sQ")
_SEARCH = struct.Struct("<IIIIBBHI")
RETURNED_MAX = 2**16 - 1
_HITS = struct.Struct("<IIIBBBxQQQ")
_WRITTEN = struct.Struct("<Q")
_RETRIEVE = struct.Struct("<BxxxI")
_EXACT, _PAYLOADS, _VECTORS, _INVERTED = 1, 2, 4, 8
_FILTER_BYTES = struct.Struct("<I")
SEARCH_HEAD_BYTES = _TARGET.size + _SEARCH.size
"""Of a search without a filter."""
_FILTER_AT = SEARCH_HEAD_BYTES - _FILTER_BYTES.size


class Target(NamedTuple):
    """Which collection a request is about, and the epoch of the shard map that sent it here."""

    uid: bytes
    epoch: int

    def encode(self) -> bytes:
        return _TARGET.pack(self.uid, self.epoch)


class SearchHead(NamedTuple):
    """What a search is, `byte_count` bytes before the queries themselves: prepared ones, float32 (query_count, dim), of one
    vector.
    """

    target: Target
    plan: SearchPlan
    want: Want
    query_count: int
    dim: int
    byte_count: int

    @property
    def body_bytes(self) -> int:
        """Length of a SEARCH's whole body."""
        return self.byte_count + 4 * self.query_count * self.dim


def decode_target(body: memoryview) -> tuple[Target, memoryview]:
    """The target, and the rest of the body."""
    if len(body) < _TARGET.size:
        raise Corrupt(f"a request has {len(body)} bytes, fewer than the {_TARGET.size} that name its collection")
    return Target(*_TARGET.unpack_from(body)), body[_TARGET.size :]


def encode_search(target: Target, plan: SearchPlan, want: Want, queries: Vectors) -> list[Any]:
    """SEARCH's body: target | k u32 | ef u32 | count u32 | dim u32 | flags u8 | vector u8 | returned u16 | filter bytes u32 |
    filter, with blanks up to a multiple of 8 | queries.
    """
    encoded = b"" if plan.filter is None else plan.filter.encoded
    encoded += b" " * (-len(encoded) % 8)
    flags = _EXACT * plan.exact | _PAYLOADS * want.payloads | _VECTORS * want.vectors
    count, dim = queries.shape
    head = _SEARCH.pack(plan.k, plan.ef, count, dim, flags, plan.vector, plan.returned, len(encoded))
    return [target.encode() + head + encoded, queries.tobytes()]


def search_head_of(body: memoryview) -> bytes:
    """The head of a SEARCH's body: what searches that ask alike have in common. Not checked."""
    if len(body) < SEARCH_HEAD_BYTES or not (filter_bytes := _FILTER_BYTES.unpack_from(body, _FILTER_AT)[0]):
        return bytes(body[:SEARCH_HEAD_BYTES])
    return bytes(body[: SEARCH_HEAD_BYTES + filter_bytes])


def decode_search_head(head: bytes) -> SearchHead:
    """A search's head, of `search_head_of`. Searches that ask alike have equal heads, so most are decoded already.

    Raises Corrupt, and BadFilter.
    """
    return _head_kept(head) if len(head) <= KEPT_BYTES_MAX else _search_head(head)


def _search_head(head: bytes) -> SearchHead:
    if len(head) < SEARCH_HEAD_BYTES:
        raise Corrupt("a search is shorter than its header")
    k, ef, count, dim, flags, vector, returned, filter_bytes = _SEARCH.unpack_from(head, _TARGET.size)
    if len(head) != SEARCH_HEAD_BYTES + filter_bytes:
        raise Corrupt("a search is shorter than its filter")
    if not (k and count and dim):
        raise Corrupt(f"a search asks for the {k} nearest to {count} queries x {dim}")
    query = filter_query(head[SEARCH_HEAD_BYTES:]) if filter_bytes else None
    plan = SearchPlan(k, ef, bool(flags & _EXACT), vector, query, returned)
    want = Want(bool(flags & _PAYLOADS), bool(flags & _VECTORS))
    return SearchHead(Target(*_TARGET.unpack_from(head)), plan, want, count, dim, len(head))


_head_kept = lru_cache(maxsize=1024)(_search_head)


def decode_queries(head: SearchHead, bodies: Sequence[memoryview]) -> Vectors:
    """The queries of searches with this head, one after the other, float32 (count, dim); of a single one, a view of its
    body. The caller has compared the bodies' lengths with the head's.
    """
    if len(bodies) == 1:
        return np.frombuffer(bodies[0], np.float32, -1, head.byte_count).reshape(-1, head.dim)
    joined = b"".join([body[head.byte_count :] for body in bodies])
    return np.frombuffer(joined, np.float32).reshape(-1, head.dim)


def encode_hits(hits: Hits, stamp: Stamp = NO_STAMP) -> list[Any]:
    """HITS' body: header | distances | counts | versions | keys | vectors | payload offsets | payloads. The header ends in
    the stamp of the moment before the search looked.
    """
    has_payloads, has_vectors = hits.payloads is not None, hits.vectors is not None
    dim = hits.vectors.shape[2] if hits.vectors is not None else 0
    count, width = hits.distances.shape
    parts = [
        _HITS.pack(count, width, dim, hits.keys.dtype.itemsize, has_payloads, has_vectors, *stamp),
        hits.distances.tobytes(),
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


def decode_hits(body: memoryview) -> HitLists:
    """The hits; payloads and vectors are views of the body. Raises Corrupt where lengths contradict each other."""
    try:
        count, width, dim, key_bytes, has_payloads, has_vectors, *stamp = _HITS.unpack_from(body)
        cells = count * width
        cut = _Cutter(body, _HITS.size)
        distances: list[float] = cut.take(4 * cells).cast("f").tolist()  # type: ignore[assignment]
        counts = cut.take(4 * count).cast("i").tolist()
        versions = cut.take(8 * cells).cast("Q").tolist()
        found = HitLists(counts, width, distances, _decode_keys(cut, cells, key_bytes), versions)
        found.stamp, found.body = Stamp(*stamp), body
        if has_vectors:
            found.vectors = np.frombuffer(cut.take(4 * cells * dim), np.float32).reshape(count, width, dim)
        if has_payloads:
            found.payload_offsets = cut.take(8 * (cells + 1)).cast("Q").tolist()
            found.payloads = body[cut.at :]
    except (ValueError, TypeError, struct.error) as error:
        raise Corrupt(f"an answer of {len(body)} bytes can't be read: {error}") from error
    if cut.at > len(body) or len(found.payloads) != (found.payload_offsets or [0])[-1]:
        raise Corrupt(f"an answer of {len(body)} bytes does not have the {cut.at} that its header says, and payloads")
    if counts and not 0 <= min(counts) <= max(counts) <= width:
        raise Corrupt(f"an answer of {width} places a query says that {max(counts)} of them are filled")
    return found


def hits_of_query(body: memoryview | bytes, query: int) -> bytes:
    """HITS' body of one query alone, out of one of several that `decode_hits` has read."""
    view = memoryview(body)
    count, width, dim, key_bytes, has_payloads, has_vectors, *stamp = _HITS.unpack_from(view)
    if count == 1:
        return bytes(view)
    cells = count * width
    cut = _Cutter(view, _HITS.size)
    parts: list[Any] = [_HITS.pack(1, width, dim, key_bytes, has_payloads, has_vectors, *stamp)]
    for cell_bytes, each in ((4, width), (4, 1), (8, width), (key_bytes, width)):
        column = cut.take(cell_bytes * each * count)
        parts.append(column[cell_bytes * each * query : cell_bytes * each * (query + 1)])
    if has_vectors:
        parts.append(cut.take(4 * cells * dim)[4 * width * dim * query : 4 * width * dim * (query + 1)])
    if has_payloads:
        offsets = np.frombuffer(cut.take(8 * (cells + 1)), np.uint64)[width * query : width * (query + 1) + 1]
        parts.append((offsets - offsets[0]).tobytes())
        parts.append(view[cut.at + int(offsets[0]) : cut.at + int(offsets[-1])])
    return b"".join(parts)


def _decode_keys(cut: _Cutter, cells: int, key_bytes: int) -> list[int]:
    if key_bytes == NARROW.itemsize:
        return cut.take(8 * cells).cast("Q").tolist()
    return key_list(np.frombuffer(cut.take(WIDE.itemsize * cells), WIDE))


class _Cutter:
    """Takes pieces off a body, one after the other; `at` runs past the end where the body is too short."""

    def __init__(self, body: memoryview, at: int) -> None:
        self._body = body
        self.at = at

    def take(self, byte_count: int) -> memoryview:
        start = self.at
        self.at = start + byte_count
        return self._body[start : self.at]


def encode_retrieve(target: Target, keys: KeyArray, want: Want, which: Which | None = None) -> list[Any]:
    """RETRIEVE's body: target | flags u8 | 3 zero bytes | filter bytes u32 | filter, with blanks up to a multiple of 8 |
    keys.
    """
    encoded = b"" if which is None else which.filter.encoded
    encoded += b" " * (-len(encoded) % 8)
    flags = _PAYLOADS * want.payloads | _VECTORS * want.vectors | _INVERTED * (which is not None and which.inverted)
    return [target.encode() + _RETRIEVE.pack(flags, len(encoded)) + encoded, encode_keys(keys)]


def decode_retrieve(body: memoryview) -> tuple[KeyArray, Want, Which | None]:
    """What is asked, behind the target. Raises Corrupt, and BadFilter."""
    try:
        flags, filter_bytes = _RETRIEVE.unpack_from(body)
    except struct.error as error:
        raise Corrupt(f"a retrieve of {len(body)} bytes can't be read: {error}") from error
    keys_at = _RETRIEVE.size + filter_bytes
    if len(body) < keys_at:
        raise Corrupt(f"a retrieve of {len(body)} bytes is shorter than its filter")
    which = None
    if filter_bytes:
        which = Which(filter_query(bytes(body[_RETRIEVE.size : keys_at])), bool(flags & _INVERTED))
    return decode_keys(body[keys_at:]), Want(bool(flags & _PAYLOADS), bool(flags & _VECTORS)), which


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


def encode_scroll(target: Target, plan: ScrollPlan) -> list[Any]:
    """SCROLL's body: target | JSON bytes u32 | JSON | filter."""
    order = plan.order and [str(plan.order.field), plan.order.descends, plan.order.start_from]
    head = {
        "limit": plan.limit,
        "offset": None if plan.offset is None else str(plan.offset),  # beyond the integers that JSON readers keep
        "order": order,
        "want": [plan.want.payloads, plan.want.vectors],
    }
    encoded = json.dumps(head).encode()
    query = b"" if plan.filter is None else plan.filter.encoded
    return [target.encode() + _FILTER_BYTES.pack(len(encoded)) + encoded + query]


def decode_scroll(body: memoryview) -> ScrollPlan:
    """The plan, behind the target. Raises Corrupt, and BadFilter."""
    try:
        end = _FILTER_BYTES.size + _FILTER_BYTES.unpack_from(body)[0]
        head = json.loads(bytes(body[_FILTER_BYTES.size : end]))
        order = head["order"] and Order(parse_path(head["order"][0]), bool(head["order"][1]), head["order"][2])
        offset = None if head["offset"] is None else int(head["offset"])
        query = filter_query(bytes(body[end:])) if len(body) > end else None
        return ScrollPlan(int(head["limit"]), offset, query, order, Want(*map(bool, head["want"])))
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise Corrupt(f"a scroll of {len(body)} bytes can't be read: {error}") from error


def encode_page(page: Page) -> list[Any]:
    """PAGE's body: JSON bytes u32 | JSON of the order's values, blanks up to a multiple of 8 | records."""
    values = json.dumps(page.order_values).encode()
    values += b" " * (-(_FILTER_BYTES.size + len(values)) % 8)
    return [_FILTER_BYTES.pack(len(values)) + values, *encode_records(page.records)]


def decode_page(body: memoryview) -> Page:
    """The page; arrays are views of the body. Raises Corrupt."""
    try:
        end = _FILTER_BYTES.size + _FILTER_BYTES.unpack_from(body)[0]
        values = json.loads(bytes(body[_FILTER_BYTES.size : end]))
    except (ValueError, struct.error) as error:
        raise Corrupt(f"a page of {len(body)} bytes can't be read: {error}") from error
    return Page(decode_records(body[end:]), values)


def encode_field(path: str, schema: FieldSchema | None) -> bytes:
    """FIELDS' body behind the target: JSON of the field, and what it is declared as; null: no longer."""
    return json.dumps([path, schema and schema.model_dump(mode="json")]).encode()


def decode_field(body: memoryview) -> tuple[str, FieldSchema | None]:
    """The field and its schema, behind the target. Raises Corrupt."""
    try:
        path, schema = json.loads(bytes(body))
        parse_path(path)
        return path, None if schema is None else FieldSchema.model_validate(schema)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"a field's declaration can't be read: {error}") from error


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


def encode_piece(head: Any, piece: Buffer) -> list[Any]:
    """SNAPSHOT_RECEIVE's body: JSON bytes u32 | JSON | a piece of a file."""
    encoded = json.dumps(head).encode()
    return [_FILTER_BYTES.pack(len(encoded)) + encoded, piece]


def decode_piece(body: memoryview) -> tuple[Any, memoryview]:
    """The JSON and the piece. Raises Corrupt."""
    if len(body) < _FILTER_BYTES.size or len(body) < (end := _FILTER_BYTES.size + _FILTER_BYTES.unpack_from(body)[0]):
        raise Corrupt(f"a piece of a file is cut: {len(body)} bytes")
    return decode_json(body[_FILTER_BYTES.size : end]), body[end:]
