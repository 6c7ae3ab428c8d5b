"""Which slots an op touches, where points live by the texts of a payload field: those of the points that it brings, and those
of the points that it replaces or removes.

Exact for small ops. A large one, or one that can't be told, touches all: that costs later readers a search, never a
wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import orjson

from shards.batch import PointBatch, decode_batch, decode_keys
from shards.filters.paths import JsonPath, parse_path, select, unwrap
from shards.index import VectorIndex
from shards.log_frame import LogOp, OpKind
from shards.lookup import look_up
from shards.nearest import Want
from shards.slots import slot_of_name

POINTS_MAX = 256
"""Points of one op whose payloads are read for this, each some microseconds on the shard's loop."""

_slot_of_name = lru_cache(maxsize=4096)(slot_of_name)


def touched_slots(op: LogOp, field: str, segments: Sequence[VectorIndex]) -> list[int] | None:
    """The slots, before the op is applied to the segments; None: all."""
    if op.kind not in (OpKind.UPSERT, OpKind.DELETE):
        return None
    batch = decode_batch(op.body) if op.kind is OpKind.UPSERT else None
    keys = decode_keys(op.body) if batch is None else batch.keys
    if len(keys) > POINTS_MAX:
        return None
    path = parse_path(field)
    slots: set[int] = set()
    try:
        for points in (batch, look_up(segments, keys, Want(payloads=True)).batch):
            if points is not None:
                slots.update(_slots_of(points, path))
    except ValueError:  # a payload that is no JSON
        return None
    return sorted(slots)


def _slots_of(points: PointBatch, path: JsonPath) -> Iterator[int]:
    for row in range(len(points)):
        payload = points.payload(row)
        if payload:
            for value in unwrap(select(orjson.loads(payload), path)):
                if isinstance(value, str):
                    yield _slot_of_name(value)
