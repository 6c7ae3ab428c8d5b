"""Where points live in a collection with a tenant field: a tenant's points together, on the shard of its name's slot. Pure.

The tenant field is a payload field (a path) that was declared so while the collection held no point. A point whose field
holds one text belongs to the tenant of that name; one without the field, or with something else in it, lives where its id
says. Two texts in it are refused: a search within either tenant would have to find the point.

So a filter that allows only some names of the field asks their shards alone. An id says nothing about a point's shard: who
has only ids asks all of them. A stored point's field stays as it was written, as a change of it would leave the point where
nobody looks; an upsert moves it (cluster/upserts.py). Which points a request may see and change is told in
cluster/tenant_guard.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson

from cluster.shard_map import RowsByShard, ShardMap
from cluster.slots import Slots, slot_of_name, slots_of
from cluster.state import CollectionState
from shards.batch import PointBatch
from shards.errors import InvalidRequest
from shards.filter_query import filter_query
from shards.filters.conditions import And, Field, Node, OneOf
from shards.filters.paths import JsonPath, Step, parse_path
from shards.point_change import ChangeKind, JsonObject, PointChange
from shards.point_ids import KeyArray, key_list, point_id
from shards.tenant_names import names_in


def tenant_of(payload: bytes, field: JsonPath) -> str | None:
    """The tenant of a point with this payload (JSON bytes, b"" for none). Raises InvalidRequest where there are several."""
    names = names_in(payload, field)
    if len(names) > 1:
        first, second = sorted(names)[:2]
        raise InvalidRequest(
            f"a point belongs to one tenant, and its field `{field}` names {len(names)}, `{first:.40}` and `{second:.40}`"
            " among them: upsert a point for each"
        )
    return next(iter(names), None)


def slots_by_tenant(batch: PointBatch, field: JsonPath) -> Slots:
    """The slot of each point, uint16 (count,). Raises InvalidRequest with the id of a point that has several tenants."""
    slots = slots_of(batch.keys)
    slot_of: dict[str, int] = {}
    for row in range(len(batch)):
        try:
            name = tenant_of(batch.payload(row), field)
        except InvalidRequest as error:
            (key,) = key_list(batch.keys[row : row + 1])
            raise InvalidRequest(f"Wrong input: point {point_id(key)}: {error.message}") from None
        if name is not None:
            if name not in slot_of:
                slot_of[name] = slot_of_name(name)
            slots[row] = slot_of[name]
    return slots


def split_points(shard_map: ShardMap, tenant_field: str | None, batch: PointBatch) -> RowsByShard:
    """The rows of a batch that each shard is to hold. Raises InvalidRequest as `slots_by_tenant`."""
    if tenant_field is None:
        return shard_map.split_by_shard(batch.keys)
    return shard_map.split_slots(slots_by_tenant(batch, parse_path(tenant_field)))


def split_ids(collection: CollectionState, keys: KeyArray, guard: bytes = b"") -> RowsByShard:
    """The rows of `keys` that each shard has to be asked for, where nothing but the ids is known, and perhaps a guard
    (cluster/tenant_guard.py) that their points have to match.
    """
    if collection.tenant_field is None:
        return collection.shard_map.split_by_shard(keys)
    return dict.fromkeys(shards_asked(collection, guard), np.arange(len(keys))) if len(keys) else {}


def last_rows(keys: KeyArray) -> npt.NDArray[np.intp]:
    """The rows that count where a batch has an id twice: the last of each, ascending."""
    _, from_the_end = np.unique(keys[::-1], return_index=True)
    rows: npt.NDArray[np.intp] = np.sort(len(keys) - 1 - from_the_end)
    return rows


def tenants_of(node: Node, field: JsonPath) -> frozenset[str] | None:
    """The names that a filter restricts the field to, never empty; None where it leaves it open. A condition counts where it
    must hold: `match` by `value` or `any` of texts, alone or among what must hold with it.
    """
    found = [
        frozenset(str(name) for name in leaf.test.values)
        for leaf in (node.children if isinstance(node, And) else (node,))
        if isinstance(leaf, Field) and leaf.path == field and isinstance(leaf.test, OneOf) and leaf.test.kind is str
    ]
    return min(filter(None, found), key=len, default=None)


def slots_asked(collection: CollectionState, encoded_filter: bytes) -> tuple[int, ...] | None:
    """The slots that hold every point that matches (b"": any point), ascending; None: any slot may. Raises BadFilter,
    LimitExceeded.
    """
    if collection.tenant_field is None or not encoded_filter:
        return None
    names = tenants_of(filter_query(encoded_filter).node, parse_path(collection.tenant_field))
    return None if names is None else tuple(sorted({slot_of_name(name) for name in names}))


def shards_asked(collection: CollectionState, encoded_filter: bytes) -> tuple[int, ...]:
    """The shards that may hold a point that matches (b"": any point). Raises BadFilter, LimitExceeded."""
    shard_map = collection.shard_map
    slots = slots_asked(collection, encoded_filter)
    return shard_map.shard_ids if slots is None else tuple(sorted({int(shard_map.owners[slot]) for slot in slots}))


def checked_change(change: PointChange, field: str | None) -> PointChange:
    """The change as it is sent, where stored points may not get another tenant (`field` None: where there is none). A whole new
    payload is compared with each point by its shard: one that would alter a tenant does nothing, others may have done their
    part. Raises InvalidRequest for other changes that reach the field.
    """
    if field is None or not _reaches(change, parse_path(field).steps):
        return change
    if change.kind is ChangeKind.OVERWRITE:
        tenant_of(orjson.dumps(change.payload), parse_path(field))
        return change.model_copy(update={"keeps": field})
    instead = "overwrite the payload with one that has the same tenant" if change.kind is ChangeKind.CLEAR else ""
    raise InvalidRequest(
        f"Wrong input: `{field}` is the collection's tenant field and says whose a point is, so a stored point's can't be"
        f" changed by `{change.kind}`: {instead or 'upsert the point with its new payload'}"
    )


def _reaches(change: PointChange, field: tuple[Step, ...]) -> bool:
    match change.kind:
        case ChangeKind.OVERWRITE | ChangeKind.CLEAR:
            return True
        case ChangeKind.DROP_VECTORS:
            return False
        case ChangeKind.DELETE:
            return any(_meet(parse_path(text).steps, field) for text in change.paths)
        case ChangeKind.SET:
            path = () if change.path is None else parse_path(change.path).steps
            return _sets(path, change.payload, field)


def _sets(path: tuple[Step, ...], payload: JsonObject, field: tuple[Step, ...]) -> bool:
    """Whether setting the payload at the path may write what the field leads to, or replace what it leads through: that
    happens where one goes on by a name and the other into an array.
    """
    for one, other in zip(path, field, strict=False):
        if isinstance(one, str) is not isinstance(other, str):
            return True
        if isinstance(one, str) and one != other:
            return False
    below = field[len(path)] if len(path) < len(field) else None
    return not isinstance(below, str) or below in payload


def _meet(path: tuple[Step, ...], field: tuple[Step, ...]) -> bool:
    """Whether one may lead to, or through, what the other leads to: nowhere do they name two different things."""
    pairs = zip(path, field, strict=False)
    return not any(isinstance(one, str) and isinstance(other, str) and one != other for one, other in pairs)
