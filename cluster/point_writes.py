"""Writing points to a collection's shards: split by slot, or told to all of them; answered when all have made it durable.

A write has one operation id, the same for every try: a shard that has done it already says so. Whole points are
cluster/upserts.py's affair, how points are split in a collection with a tenant field cluster/tenants.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cluster.requests import ANY_POINT, Selection, UpsertCondition, WriteReceipt
from cluster.scope import Named, scope_of
from cluster.state import CollectionState
from cluster.tenant_guard import narrowed
from cluster.tenants import checked_change, shards_asked, split_ids
from cluster.upserts import Bodies, Upserts, batch_bodies
from shards import messages
from shards.batch import PointBatch, encode_keys
from shards.errors import Conflict
from shards.field_schema import FieldSchema
from shards.filter_query import filter_query
from shards.filters.indexes import FieldKind
from shards.point_change import PointChange
from shards.point_ids import key_array
from shards.point_writes import PointWrite, WriteKind
from shards.wire import Kind

EVERY_POINT = b"{}"
"""The filter that constrains nothing."""


class PointWrites(Upserts):
    """Every method raises ShoalErrors; deadlines are in seconds from now."""

    async def update_vectors(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        """Replace those vectors of points that the batch has (NaN runs are left as they are); its payloads are empty.
        Points that do not exist are passed over.
        """

        def bodies(collection: CollectionState, guard: bytes) -> Bodies:
            parts = split_ids(collection, batch.keys, guard)
            return batch_bodies(WriteKind.VECTORS, batch, parts, condition._replace(guard=guard))

        return await self._write(about, Kind.WRITE, bodies, deadline_s)

    async def delete(self, about: Named, selection: Selection, deadline_s: float) -> WriteReceipt:
        """Delete points; ids that do not exist are no error."""
        if selection.keys is None or scope_of(about).tenants:
            return await self._write_selected(about, selection, PointWrite(WriteKind.DELETE), deadline_s)
        array = key_array(selection.keys)

        def bodies(collection: CollectionState, _: bytes) -> Bodies:
            parts = split_ids(collection, array)
            return {shard_id: [encode_keys(array[rows])] for shard_id, rows in parts.items()}

        return await self._write(about, Kind.DELETE, bodies, deadline_s)

    async def change(
        self, about: Named, selection: Selection, change: PointChange, deadline_s: float
    ) -> WriteReceipt:
        """Change points that exist; others are passed over. Raises InvalidRequest where a point would get another tenant."""
        return await self._write_selected(about, selection, PointWrite(WriteKind.CHANGE, change=change), deadline_s)

    async def create_index(self, about: Named, field: str, schema: FieldSchema, deadline_s: float) -> None:
        """Declare a payload field (a path), of every shard. Harmless to repeat; another schema replaces the first.

        A keyword field with `is_tenant` becomes the collection's tenant field (cluster/tenants.py), for good, if the
        collection holds no point; where it holds some it says whose a point is, and points stay where their ids say.
        Raises InvalidRequest where another field is it already, Conflict where points came in at the same moment.
        """
        if schema.is_tenant and schema.kind is FieldKind.KEYWORD:
            await self._route_by(about, field, deadline_s)
        await self._declare(about, field, schema, deadline_s)

    async def delete_index(self, about: Named, field: str, deadline_s: float) -> bool:
        """False if no shard had such a declaration. A tenant field goes on saying where points live: only its index goes."""
        return await self._declare(about, field, None, deadline_s)

    async def _route_by(self, about: Named, field: str, deadline_s: float) -> None:
        point_count = await self._count_all(about, deadline_s)
        collection = self.collection(about)  # the newest that shards answer to, now
        moves_points = collection.tenant_field is not None or not point_count
        await self.catalogue.set_tenant_field(collection.name, field, moves_points, deadline_s)
        if collection.tenant_field is not None or not moves_points:
            return
        # No shard takes a write by the older split any more; those that it took before stand in front of this one.
        nothing = PointWrite(WriteKind.DELETE, body=encode_keys(key_array([])))
        await self._write(
            about,
            Kind.WRITE,
            lambda state, _: {shard_id: [nothing.encode()] for shard_id in state.shard_map.shard_ids},
            deadline_s,
        )
        if came_in := await self._count_all(about, deadline_s):
            raise Conflict(
                f"{came_in} points were written to `{collection.name}` while `{field}` became its tenant field: those that"
                " came before may be missed by searches within their tenant until they are upserted again"
            )

    async def _count_all(self, about: Named, deadline_s: float) -> int:
        return sum((await self._ask_all(about, Kind.COUNT, messages.decode_written, deadline_s)).values())

    async def _declare(self, about: Named, field: str, schema: FieldSchema | None, deadline_s: float) -> bool:
        body = messages.encode_field(field, schema)
        changed = await self._ask_all(about, Kind.FIELDS, messages.decode_written, deadline_s, body)
        return any(changed.values())

    async def _write_selected(
        self, about: Named, selection: Selection, write: PointWrite, deadline_s: float
    ) -> WriteReceipt:
        def bodies(collection: CollectionState, guard: bytes) -> Bodies:
            query = filter_query(guard) if guard else None
            guarded = replace(write, guard=query)
            if write.change is not None:
                field = collection.owner_field if guard else collection.tenant_field
                guarded = replace(guarded, change=checked_change(write.change, field))
            if selection.keys is None:
                encoded = [replace(guarded, filter=filter_query(selection.filter or EVERY_POINT)).encode()]
                return dict.fromkeys(shards_asked(collection, narrowed(selection.filter or b"", guard)), encoded)
            array = key_array(selection.keys)
            parts = split_ids(collection, array, guard)
            return {
                shard_id: [replace(guarded, body=encode_keys(array[rows])).encode()]
                for shard_id, rows in parts.items()
            }

        return await self._write(about, Kind.WRITE, bodies, deadline_s)

    async def _write(
        self, about: Named, kind: Kind, bodies_of: Callable[[CollectionState, bytes], Bodies], deadline_s: float
    ) -> WriteReceipt:
        async def ask(collection: CollectionState, guard: bytes) -> WriteReceipt:
            return await self._write_parts(collection, kind, bodies_of(collection, guard), deadline_s)

        return await self._on_current_state(about, ask)
