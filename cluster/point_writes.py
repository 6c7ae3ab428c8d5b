"""Writing points to a collection's shards: split by slot, or told to all of them; answered when all have made it durable.

A write has one operation id, the same for every try: a shard that has done it already says so. Whole points are
cluster/upserts.py's affair, how points are split in a collection with a tenant field cluster/tenants.py's.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.requests import ANY_POINT, Selection, UpsertCondition, WriteReceipt
from cluster.scope import Named
from cluster.state import CollectionState
from cluster.tenants import check_change, shards_asked, split_ids
from cluster.upserts import Bodies, Upserts, batch_bodies
from shards import messages
from shards.batch import PointBatch, encode_keys
from shards.errors import Conflict
from shards.field_schema import FieldSchema
from shards.filter_query import FilterQuery, filter_query
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

        def bodies(collection: CollectionState) -> Bodies:
            return batch_bodies(WriteKind.VECTORS, batch, split_ids(collection, batch.keys), condition)

        return await self._write(about, Kind.WRITE, bodies, deadline_s)

    async def delete(self, about: Named, selection: Selection, deadline_s: float) -> WriteReceipt:
        """Delete points; ids that do not exist are no error."""
        if selection.keys is None:
            return await self._write_selected(about, selection, PointWrite(WriteKind.DELETE), deadline_s)
        array = key_array(selection.keys)

        def bodies(collection: CollectionState) -> Bodies:
            parts = split_ids(collection, array)
            return {shard_id: [encode_keys(array[rows])] for shard_id, rows in parts.items()}

        return await self._write(about, Kind.DELETE, bodies, deadline_s)

    async def change(
        self, about: Named, selection: Selection, change: PointChange, deadline_s: float
    ) -> WriteReceipt:
        """Change points that exist; others are passed over. Raises InvalidRequest where the change reaches the collection's
        tenant field.
        """
        return await self._write_selected(about, selection, PointWrite(WriteKind.CHANGE, change=change), deadline_s)

    async def create_index(self, about: Named, field: str, schema: FieldSchema, deadline_s: float) -> None:
        """Declare a payload field (a path), of every shard. Harmless to repeat; another schema replaces the first.

        A keyword field with `is_tenant` becomes the collection's tenant field (cluster/tenants.py), for good, if the
        collection holds no point; where it holds some the field is declared and points stay where their ids say. Raises
        InvalidRequest where another field is it already, Conflict where points came in at the same moment.
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
        if collection.tenant_field is None and point_count:
            return
        await self.catalogue.set_tenant_field(collection.name, field, deadline_s)
        if collection.tenant_field is not None:
            return
        # No shard takes a write by the older split any more; those that it took before stand in front of this one.
        nothing = PointWrite(WriteKind.DELETE, body=encode_keys(key_array([])))
        await self._write(
            about,
            Kind.WRITE,
            lambda state: {shard_id: [nothing.encode()] for shard_id in state.shard_map.shard_ids},
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
        def bodies(collection: CollectionState) -> Bodies:
            if write.change is not None:
                check_change(write.change, collection.tenant_field)
            if selection.keys is None:
                encoded = [_with(write, query=filter_query(selection.filter or EVERY_POINT)).encode()]
                return dict.fromkeys(shards_asked(collection, selection.filter or b""), encoded)
            array = key_array(selection.keys)
            parts = split_ids(collection, array)
            return {
                shard_id: [_with(write, body=encode_keys(array[rows])).encode()] for shard_id, rows in parts.items()
            }

        return await self._write(about, Kind.WRITE, bodies, deadline_s)

    async def _write(
        self, about: Named, kind: Kind, bodies_of: Callable[[CollectionState], Bodies], deadline_s: float
    ) -> WriteReceipt:
        async def ask(collection: CollectionState) -> WriteReceipt:
            return await self._write_parts(collection, kind, bodies_of(collection), deadline_s)

        return await self._on_current_state(about, ask)


def _with(write: PointWrite, query: FilterQuery | None = None, body: bytes = b"") -> PointWrite:
    return PointWrite(write.kind, write.mode, query, write.change, body)
