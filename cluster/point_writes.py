"""Writing points to a collection's shards: split by slot, or told to all of them; answered when all have made it durable.

A write has one operation id, the same for every try: a shard that has done it already says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from cluster.fan_out import ShardRequest
from cluster.requests import ANY_POINT, Selection, UpsertCondition, WriteReceipt
from cluster.shard_calls import ShardCalls, target_of
from cluster.state import CollectionState
from shards import messages
from shards.batch import PointBatch, encode_batch, encode_batch_parts, encode_keys
from shards.field_schema import FieldSchema
from shards.filter_query import FilterQuery, filter_query
from shards.point_change import PointChange
from shards.point_ids import key_array
from shards.point_writes import PointWrite, WriteKind, WriteMode
from shards.wire import Kind

EVERY_POINT = b"{}"
"""The filter that constrains nothing."""
Bodies = dict[int, list[Any]]


class PointWrites(ShardCalls):
    """Every method raises ShoalErrors; deadlines are in seconds from now."""

    async def upsert(
        self, name: str, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        """Write points; returns when every shard has made its part durable and visible."""
        if condition != ANY_POINT:
            return await self._write_batch(name, WriteKind.UPSERT, batch, condition, deadline_s)

        def bodies(collection: CollectionState) -> Bodies:
            parts = collection.shard_map.split_by_shard(batch.keys)
            whole = len(parts) == 1
            return {
                shard_id: encode_batch_parts(batch if whole else batch.take(rows)) for shard_id, rows in parts.items()
            }

        return await self._write(name, Kind.UPSERT, bodies, deadline_s)

    async def update_vectors(
        self, name: str, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        """Replace those vectors of points that the batch has (NaN runs are left as they are); its payloads are empty.
        Points that do not exist are passed over.
        """
        return await self._write_batch(name, WriteKind.VECTORS, batch, condition, deadline_s)

    async def delete(self, name: str, selection: Selection, deadline_s: float) -> WriteReceipt:
        """Delete points; ids that do not exist are no error."""
        if selection.keys is None:
            return await self._write_selected(name, selection, PointWrite(WriteKind.DELETE), deadline_s)
        array = key_array(selection.keys)

        def bodies(collection: CollectionState) -> Bodies:
            parts = collection.shard_map.split_by_shard(array)
            return {shard_id: [encode_keys(array[rows])] for shard_id, rows in parts.items()}

        return await self._write(name, Kind.DELETE, bodies, deadline_s)

    async def change(self, name: str, selection: Selection, change: PointChange, deadline_s: float) -> WriteReceipt:
        """Change points that exist; others are passed over."""
        return await self._write_selected(name, selection, PointWrite(WriteKind.CHANGE, change=change), deadline_s)

    async def create_index(self, name: str, field: str, schema: FieldSchema, deadline_s: float) -> None:
        """Declare a payload field (a path), of every shard. Harmless to repeat; another schema replaces the first."""
        await self._declare(name, field, schema, deadline_s)

    async def delete_index(self, name: str, field: str, deadline_s: float) -> bool:
        """False if no shard had such a declaration."""
        return await self._declare(name, field, None, deadline_s)

    async def _declare(self, name: str, field: str, schema: FieldSchema | None, deadline_s: float) -> bool:
        body = messages.encode_field(field, schema)
        changed = await self._ask_all(name, Kind.FIELDS, messages.decode_written, deadline_s, body)
        return any(changed.values())

    async def _write_batch(
        self, name: str, kind: WriteKind, batch: PointBatch, condition: UpsertCondition, deadline_s: float
    ) -> WriteReceipt:
        mode = WriteMode[condition.mode.upper()]
        query = filter_query(condition.filter) if condition.filter else None

        def bodies(collection: CollectionState) -> Bodies:
            parts = collection.shard_map.split_by_shard(batch.keys)
            return {
                shard_id: [PointWrite(kind, mode, query, body=encode_batch(batch.take(rows))).encode()]
                for shard_id, rows in parts.items()
            }

        return await self._write(name, Kind.WRITE, bodies, deadline_s)

    async def _write_selected(
        self, name: str, selection: Selection, write: PointWrite, deadline_s: float
    ) -> WriteReceipt:
        def bodies(collection: CollectionState) -> Bodies:
            if selection.keys is None:
                encoded = [_with(write, query=filter_query(selection.filter or EVERY_POINT)).encode()]
                return dict.fromkeys(collection.shard_map.shard_ids, encoded)
            array = key_array(selection.keys)
            parts = collection.shard_map.split_by_shard(array)
            return {
                shard_id: [_with(write, body=encode_keys(array[rows])).encode()] for shard_id, rows in parts.items()
            }

        return await self._write(name, Kind.WRITE, bodies, deadline_s)

    async def _write(
        self, name: str, kind: Kind, bodies_of: Callable[[CollectionState], Bodies], deadline_s: float
    ) -> WriteReceipt:
        op_id = uuid.uuid4().bytes

        async def ask(collection: CollectionState) -> WriteReceipt:
            parts = bodies_of(collection)
            if not parts:
                return WriteReceipt(0)
            target = target_of(collection)
            bodies = {shard_id: messages.encode_write(target, op_id, part) for shard_id, part in parts.items()}
            replies = await self._ask(ShardRequest(kind, bodies, messages.decode_written), deadline_s)
            return WriteReceipt(max(replies.values()))

        return await self._on_current_state(name, ask)


def _with(write: PointWrite, query: FilterQuery | None = None, body: bytes = b"") -> PointWrite:
    return PointWrite(write.kind, write.mode, query, write.change, body)
