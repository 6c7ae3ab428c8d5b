"""Writes that depend on what is stored: by a filter, on a condition, or of a part of a point. They become plain upserts and
deletes when it is their turn, that is when every earlier write has had its effect and no later one has.

So a log holds whole points and ids alone: it can be replayed whatever rows have died since, and whatever the filter language
is by then. A write of many points becomes several ops, each of whole points; readers may see it half done, a crash may
leave it so, and repeating it does the rest.

    kind u8 | mode u8 | 2 zero bytes | filter bytes + 1 u32 (0: none) | guard bytes u32 | change bytes u32 |
    body bytes u32 | 4 zero bytes | filter | guard: a filter | change (shards/point_change.py) |
    body: keys or a batch; none where the filter selects
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.batch import (
    Buffer,
    PointBatch,
    decode_batch,
    decode_keys,
    decode_versioned_keys,
    encode_batch,
    encode_keys,
    make_batch,
)
from shards.errors import BadVector, Corrupt, DimensionMismatch, Forbidden, InvalidRequest
from shards.filter_memo import matching, rows_matching
from shards.filter_query import FilterQuery, filter_query
from shards.filters.paths import JsonPath, parse_path
from shards.index import VectorIndex
from shards.log_frame import LogOp, OpKind
from shards.lookup import look_up
from shards.nearest import Want
from shards.point_change import ChangeKind, PointChange, changed_payload, decode_change
from shards.point_ids import KeyArray, key_array, key_list, point_id, same_width
from shards.tenant_names import names_in
from shards.vector_layout import VectorLayout

CHANGED_POINTS_MAX = 1_000
"""Points that one op writes anew: some 10 ms on the loop."""
DELETED_POINTS_MAX = 20_000

_HEAD = struct.Struct("<BBxxIIII4x")
Places = npt.NDArray[np.intp]


class WriteKind(IntEnum):
    """What is done. UPSERT and VECTORS bring a batch; of VECTORS, NaN runs stand for vectors that stay as they are, payloads
    are empty, and points that do not exist are passed over. DELETE and CHANGE are about keys, or about a filter's points.
    WITHDRAW deletes keys that come with versions, unless they were written since.
    """

    UPSERT = 1
    DELETE = 2
    CHANGE = 3
    VECTORS = 4
    WITHDRAW = 5


class WriteMode(IntEnum):
    """Which points of an upsert are written: all, those that are new, those that exist."""

    UPSERT = 0
    INSERT_ONLY = 1
    UPDATE_ONLY = 2


SELECTING = frozenset({WriteKind.DELETE, WriteKind.CHANGE})
DELETING = frozenset({WriteKind.DELETE, WriteKind.WITHDRAW})


@dataclass(frozen=True, slots=True)
class PointWrite:
    """See the module. `filter` None: there is none; with a batch it is a condition on the points that exist. `guard`: the
    write may touch the points that match it alone. Others are passed over as if they were not there; an upsert of an id that
    one of them has is refused whole, unless it is UPDATE_ONLY.
    """

    kind: WriteKind
    mode: WriteMode = WriteMode.UPSERT
    filter: FilterQuery | None = None
    change: PointChange | None = None
    body: bytes | memoryview = b""
    guard: FilterQuery | None = None

    def encode(self) -> bytes:
        """The layout above."""
        encoded = b"" if self.filter is None else self.filter.encoded
        guard = b"" if self.guard is None else self.guard.encoded
        change = b"" if self.change is None else self.change.encode()
        filter_bytes = 0 if self.filter is None else len(encoded) + 1
        head = _HEAD.pack(self.kind, self.mode, filter_bytes, len(guard), len(change), len(self.body))
        return b"".join([head, encoded, guard, change, self.body])


def decode_point_write(buffer: Buffer) -> PointWrite:
    """The write. Raises Corrupt, and BadFilter."""
    view = memoryview(buffer)
    try:
        kind, mode, filter_bytes, guard_bytes, change_bytes, body_bytes = _HEAD.unpack_from(view)
        guard_at = _HEAD.size + max(0, filter_bytes - 1)
        change_at = guard_at + guard_bytes
        body_at = change_at + change_bytes
        if len(view) != body_at + body_bytes:
            raise ValueError(f"it says {body_at + body_bytes}")
        query = filter_query(bytes(view[_HEAD.size : guard_at])) if filter_bytes else None
        guard = filter_query(bytes(view[guard_at:change_at])) if guard_bytes else None
        change = decode_change(view[change_at:body_at]) if change_bytes else None
        write = PointWrite(WriteKind(kind), WriteMode(mode), query, change, view[body_at:], guard)
    except (struct.error, ValueError) as error:
        raise Corrupt(f"a write of {len(view)} bytes can't be read: {error}") from None
    if (write.kind is WriteKind.CHANGE) != (write.change is not None):
        raise Corrupt(f"a write of kind {write.kind.name} comes {'with' if write.change else 'without'} a change")
    if not write.body and (write.filter is None or write.kind not in SELECTING):
        raise Corrupt(f"a write of kind {write.kind.name} does not say which points it is about")
    return write


def check_write(write: PointWrite, layout: VectorLayout) -> None:
    """Raises InvalidRequest or Corrupt unless the write fits points of this layout."""
    if write.kind is WriteKind.WITHDRAW:
        decode_versioned_keys(write.body)
        return
    if write.kind not in SELECTING:
        check_vectors(decode_batch(write.body), layout)
        return
    if write.body:
        decode_keys(write.body)
    if write.change is not None and max(write.change.numbers, default=0) >= len(layout.columns):
        raise InvalidRequest(f"there is no vector number {max(write.change.numbers)}")


def check_vectors(batch: PointBatch, layout: VectorLayout) -> None:
    """Raises DimensionMismatch, or BadVector with the first row that holds what no vector may."""
    if batch.dim != layout.dim:
        raise DimensionMismatch(f"Vector dimension error: expected dim: {layout.dim}, got {batch.dim}")
    if (bad_row := layout.first_bad_row(batch.vectors)) is not None:
        raise BadVector(f"vector {bad_row} of an upsert holds a NaN or an infinite component")


def targets(write: PointWrite, segments: Sequence[VectorIndex]) -> list[KeyArray | Places]:
    """What the write is about, as things are now, in parts that are written one after the other: keys, or places in the
    batch that it brings. Raises Forbidden where an upsert would replace a point that its guard does not allow, InvalidRequest
    where a change would alter what it has to keep: nothing is written then.
    """
    if write.kind not in SELECTING | DELETING:
        places = _kept_places(write, decode_batch(write.body), segments)
        step = CHANGED_POINTS_MAX if write.kind is WriteKind.VECTORS else max(1, len(places))
        return [places[at : at + step] for at in range(0, len(places), step)]
    if write.kind is WriteKind.WITHDRAW:
        keys = _unchanged_keys(write, segments)
    else:
        keys = decode_keys(write.body) if write.body else _matching_keys(write.filter, segments)
        if write.guard is not None:
            keys = keys[_standing(keys, segments, write.guard).matches]
    step = DELETED_POINTS_MAX if write.kind in DELETING else CHANGED_POINTS_MAX
    parts = [keys[at : at + step] for at in range(0, len(keys), step)]
    if write.change is not None and write.change.keeps is not None:
        for part in parts:
            _check_kept(write.change, parse_path(write.change.keeps), look_up(segments, part, Want(True)).batch)
    return parts


def plain_op(
    write: PointWrite, target: KeyArray | Places, segments: Sequence[VectorIndex], layout: VectorLayout, op_id: bytes
) -> LogOp | None:
    """The op that writes one of `targets`, as things are now; None where there is nothing to write."""
    if write.kind in DELETING:
        return LogOp(OpKind.DELETE, op_id, encode_keys(target))
    if write.kind is WriteKind.UPSERT:
        batch = decode_batch(write.body)
        return LogOp(OpKind.UPSERT, op_id, encode_batch(batch.take(target)))
    given = None if write.kind is WriteKind.CHANGE else decode_batch(write.body).take(target)
    stored = look_up(segments, target if given is None else given.keys, Want(True, True)).batch
    if not len(stored):
        return None
    if given is not None:
        changed = _with_vectors(given, stored)
    else:
        assert write.change is not None, "decode_point_write has looked"
        changed = _changed(write.change, stored, layout)
    return LogOp(OpKind.UPSERT, op_id, encode_batch(changed)) if len(changed) else None


def _changed(change: PointChange, stored: PointBatch, layout: VectorLayout) -> PointBatch:
    """The points after a change. Those that it leaves as they are, are not among them."""
    payloads = [stored.payload(row) for row in range(len(stored))]
    if change.kind is ChangeKind.DROP_VECTORS:
        vectors = stored.vectors.copy()
        for number in change.numbers:
            layout.columns[number].of(vectors)[:] = np.nan
        lost = (np.isnan(vectors) != np.isnan(stored.vectors)).any(axis=1)
        return make_batch(stored.keys, vectors, payloads).take(np.flatnonzero(lost))
    after = [changed_payload(payload, change) for payload in payloads]
    rows = [row for row, (old, new) in enumerate(zip(payloads, after, strict=True)) if old != new]
    return make_batch(stored.keys, stored.vectors, after).take(np.array(rows, np.intp))


def _with_vectors(given: PointBatch, stored: PointBatch) -> PointBatch:
    """The stored points with the vectors that were given; of an id that is given twice the last."""
    place_of = {key: place for place, key in enumerate(key_list(given.keys))}
    news = given.vectors[[place_of[key] for key in key_list(stored.keys)]]
    payloads = [stored.payload(row) for row in range(len(stored))]
    return make_batch(stored.keys, np.where(np.isnan(news), stored.vectors, news), payloads)


def _check_kept(change: PointChange, field: JsonPath, stored: PointBatch) -> None:
    for row, key in enumerate(key_list(stored.keys)):
        payload = stored.payload(row)
        if names_in(changed_payload(payload, change), field) != names_in(payload, field):
            raise InvalidRequest(
                f"Wrong input: `{field}` of point {point_id(key)} is another, and `{change.kind}` must leave it as it is:"
                " upsert the point with its new payload"
            )


def _matching_keys(query: FilterQuery | None, segments: Sequence[VectorIndex]) -> KeyArray:
    assert query is not None, "decode_point_write has looked"
    found = [segment.keys_of(np.flatnonzero(matching(segment, query))) for segment in segments]
    found = [keys for keys in found if len(keys)]
    return np.concatenate(same_width(found)) if found else key_array([])


def _unchanged_keys(write: PointWrite, segments: Sequence[VectorIndex]) -> KeyArray:
    keys, versions = decode_versioned_keys(write.body)
    version_of = dict(zip(key_list(keys), versions.tolist(), strict=True))
    stored = look_up(segments, keys, Want())
    now = stored.versions.tolist()
    same = [version_of[key] == version for key, version in zip(key_list(stored.batch.keys), now, strict=True)]
    return stored.batch.keys[np.array(same, np.bool_)]


class _Standing(NamedTuple):
    """How things stand with each of some keys, bool (count,): whether its point exists, and whether it does and matches."""

    exists: npt.NDArray[np.bool_]
    matches: npt.NDArray[np.bool_]


def _standing(keys: KeyArray, segments: Sequence[VectorIndex], query: FilterQuery | None) -> _Standing:
    exists, matches = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
    for segment in segments:
        rows = segment.find(keys)
        here = np.flatnonzero(rows >= 0)
        exists[here] = True
        if len(here):
            matches[here] = True if query is None else rows_matching(segment, query, rows[here])
    return _Standing(exists, matches)


def _kept_places(write: PointWrite, batch: PointBatch, segments: Sequence[VectorIndex]) -> Places:
    """The points of a batch that are written: existing ones have to match the filter, new ones have nothing to match."""
    exists, matches = _standing(batch.keys, segments, write.filter)
    if write.guard is not None:
        own = _standing(batch.keys, segments, write.guard).matches
        foreign = np.flatnonzero(exists & ~own)
        if write.kind is WriteKind.UPSERT and write.mode is not WriteMode.UPDATE_ONLY and len(foreign):
            (key,) = key_list(batch.keys[foreign[:1]])
            raise foreign_id(key)
        exists, matches = exists & own, matches & own
    if write.kind is WriteKind.VECTORS or write.mode is WriteMode.UPDATE_ONLY:
        return np.flatnonzero(matches)
    return np.flatnonzero(~exists) if write.mode is WriteMode.INSERT_ONLY else np.flatnonzero(~exists | matches)


def foreign_id(key: int) -> Forbidden:
    """What an upsert is told whose id belongs to a point that it may not touch."""
    return Forbidden(
        f"Forbidden: the id {point_id(key)} is taken, by a point that this key has no access to; choose another"
    )
