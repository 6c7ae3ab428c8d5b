"""Upserts: whole points to the shards that are to hold them, and, where a tenant field says which, off those that held them.

A point that gets another tenant moves. First the other shards are asked which of the ids they hold, in which version (that
is memory alone, and nearly always the answer is none); then the new points are made durable; then those older versions are
withdrawn, each only if it is still the one that was seen. So a version is only deleted by an upsert that began before its
own was written and ended after it: however requests repeat or cross, the one that was written last stays. Upserts
that give one id two tenants at the same moment may leave both points, until the id is upserted again; one that fails
between its steps leaves the older point beside the new one, until it is repeated.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.fan_out import ShardRequest
from cluster.requests import ANY_POINT, UpsertCondition, WriteReceipt
from cluster.scope import Named, scope_of
from cluster.shard_calls import ShardCalls, target_of
from cluster.shard_map import RowsByShard
from cluster.state import CollectionState
from cluster.tenant_guard import check_own
from cluster.tenants import last_rows, shards_asked, split_ids, split_points
from shards import messages
from shards.batch import PointBatch, encode_batch, encode_batch_parts, encode_versioned_keys
from shards.errors import InvalidRequest
from shards.filter_query import filter_query
from shards.lookup import Which
from shards.nearest import Want
from shards.point_ids import KeyArray, key_list, point_id
from shards.point_writes import PointWrite, WriteKind, WriteMode, foreign_id
from shards.wire import Kind

Bodies = dict[int, list[Any]]
LEFT_S_MIN = 0.001


class _Strays(NamedTuple):
    """Points of an upsert that a shard holds though it is not to. versions: uint64 (count,)."""

    keys: KeyArray
    versions: npt.NDArray[np.uint64]


class Upserts(ShardCalls):
    """See the module. Raises ShoalErrors; deadlines are in seconds from now."""

    async def upsert(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        """Write points; returns when every shard has made its part durable and visible. Raises InvalidRequest where a point
        has several tenants, and where a condition other than `insert_only` is about one that would move; Forbidden where a
        point is not, or its id belongs to one that is not, of the scope's tenants (`update_only` passes over the latter).
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_s

        async def ask(collection: CollectionState, guard: bytes) -> WriteReceipt:
            if guard:
                check_own(batch, guard, scope_of(about))
                if condition.mode != "update_only":  # that passes over what is not there, and so foreign points
                    left_s = max(LEFT_S_MIN, ends_at - loop.time())
                    await self._check_ids_free(collection, batch.keys, guard, left_s)
            guarded = condition._replace(guard=guard)
            if collection.tenant_field is not None:
                return await self._upsert_by_tenant(collection, batch, guarded, ends_at)
            parts = collection.shard_map.split_by_shard(batch.keys)
            left_s = max(LEFT_S_MIN, ends_at - loop.time())
            return await self._write_parts(collection, *upsert_bodies(batch, parts, guarded), left_s)

        return await self._on_current_state(about, ask)

    async def _check_ids_free(
        self, collection: CollectionState, keys: KeyArray, guard: bytes, deadline_s: float
    ) -> None:
        """Raises Forbidden with an id that belongs to a point which the guard does not allow, on any shard. The shards that
        write decide again; this one look is what tells of the others, and mostly keeps a refusal from coming half-way.
        """
        target, which = target_of(collection), Which(filter_query(guard), inverted=True)
        bodies = {
            shard_id: messages.encode_retrieve(target, keys[rows], Want(), which)
            for shard_id, rows in split_ids(collection, keys).items()
        }
        replies = await self._ask(ShardRequest(Kind.RETRIEVE, bodies, messages.decode_records), deadline_s)
        foreign = [key for records in replies.values() for key in key_list(records.batch.keys)]
        if foreign:
            raise foreign_id(min(foreign))

    async def _upsert_by_tenant(
        self, collection: CollectionState, batch: PointBatch, condition: UpsertCondition, ends_at: float
    ) -> WriteReceipt:
        """`ends_at`: the deadline, by the loop's clock."""
        loop = asyncio.get_running_loop()
        last = last_rows(batch.keys)
        batch = batch if len(last) == len(batch) else batch.take(last)
        parts = split_points(collection.shard_map, collection.tenant_field, batch)
        left_s = max(LEFT_S_MIN, ends_at - loop.time())
        strays = await self._find_strays(collection, batch.keys, parts, condition.guard, left_s)
        if strays and not condition.is_met_by_all:
            batch = _without_strays(batch, strays, condition)
            parts = split_points(collection.shard_map, collection.tenant_field, batch)
            strays = {}
        kind, bodies = upsert_bodies(batch, parts, condition)
        receipt = await self._write_parts(collection, kind, bodies, max(LEFT_S_MIN, ends_at - loop.time()))
        withdrawals: Bodies = {
            shard_id: [PointWrite(WriteKind.WITHDRAW, body=encode_versioned_keys(*found)).encode()]
            for shard_id, found in strays.items()
        }
        await self._write_parts(collection, Kind.WRITE, withdrawals, max(LEFT_S_MIN, ends_at - loop.time()))
        return receipt

    async def _find_strays(
        self, collection: CollectionState, keys: KeyArray, parts: RowsByShard, guard: bytes, deadline_s: float
    ) -> dict[int, _Strays]:
        """Those that the guard allows: a point that came in beside it is none of this upsert's."""
        which = Which(filter_query(guard)) if guard else None
        bodies: Bodies = {}
        for shard_id in shards_asked(collection, guard):
            others = np.ones(len(keys), np.bool_)
            others[parts.get(shard_id, [])] = False
            if others.any():
                bodies[shard_id] = messages.encode_retrieve(target_of(collection), keys[others], Want(), which)
        if not bodies:
            return {}
        replies = await self._ask(ShardRequest(Kind.RETRIEVE, bodies, messages.decode_records), deadline_s)
        found = {shard_id: _Strays(records.batch.keys, records.versions) for shard_id, records in replies.items()}
        return {shard_id: strays for shard_id, strays in found.items() if len(strays.keys)}

    async def _write_parts(
        self, collection: CollectionState, kind: Kind, parts: Bodies, deadline_s: float
    ) -> WriteReceipt:
        """Send each shard its part, under one operation id for every try. A new id where a newer shard map splits the
        points otherwise: a shard that did its part by the older one would take the other part for a repetition.
        """
        if not parts:
            return WriteReceipt(0)
        target, op_id = target_of(collection), uuid.uuid4().bytes
        bodies = {shard_id: messages.encode_write(target, op_id, part) for shard_id, part in parts.items()}
        replies = await self._ask(ShardRequest(kind, bodies, messages.decode_written), deadline_s)
        return WriteReceipt(max(replies.values()))


def upsert_bodies(batch: PointBatch, parts: RowsByShard, condition: UpsertCondition) -> tuple[Kind, Bodies]:
    """The message that writes a batch, by shard."""
    if condition == ANY_POINT:  # no guard either
        whole = len(parts) == 1
        return Kind.UPSERT, {
            shard_id: encode_batch_parts(batch if whole else batch.take(rows)) for shard_id, rows in parts.items()
        }
    return Kind.WRITE, batch_bodies(WriteKind.UPSERT, batch, parts, condition)


def batch_bodies(kind: WriteKind, batch: PointBatch, parts: RowsByShard, condition: UpsertCondition) -> Bodies:
    """The same for a write that depends on what is stored."""
    mode = WriteMode[condition.mode.upper()]
    query = filter_query(condition.filter) if condition.filter else None
    guard = filter_query(condition.guard) if condition.guard else None
    return {
        shard_id: [PointWrite(kind, mode, query, None, encode_batch(batch.take(rows)), guard).encode()]
        for shard_id, rows in parts.items()
    }


def _without_strays(batch: PointBatch, strays: dict[int, _Strays], condition: UpsertCondition) -> PointBatch:
    """What is left to write of an upsert with a condition. Raises InvalidRequest where only moving a point would do."""
    elsewhere = {key for found in strays.values() for key in key_list(found.keys)}
    if condition.mode != "insert_only":
        raise InvalidRequest(
            f"Wrong input: point {point_id(min(elsewhere))} is another tenant's, and an upsert with a condition does not"
            " move it: upsert it without one"
        )
    new = [row for row, key in enumerate(key_list(batch.keys)) if key not in elsewhere]
    return batch.take(np.array(new, np.intp))
