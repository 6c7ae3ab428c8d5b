"""Where points live in a collection with a tenant field, by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from cluster.shard_map import even_map
from cluster.slots import SLOT_COUNT, slot_of_name, slots_of
from cluster.state import CollectionState
from cluster.tenants import (
    checked_change,
    last_rows,
    shards_asked,
    slots_by_tenant,
    split_ids,
    split_points,
    tenant_of,
    tenants_of,
)
from shards.batch import PointBatch, make_batch
from shards.distance import Distance
from shards.errors import InvalidRequest
from shards.filter_query import filter_query
from shards.filters.paths import parse_path
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import UUID_BASE, key_array
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=2, distance=Distance.EUCLID)})
FIELD = parse_path("org.name")
BY_TENANT = CollectionState(
    name="c", uid="0" * 32, spec=SPEC, shard_map=even_map(range(5), 1), status="ready", tenant_field="org.name"
)
BY_ID = BY_TENANT.model_copy(update={"tenant_field": None})


def batch(*payloads: bytes) -> PointBatch:
    return make_batch(key_array(range(len(payloads))), np.zeros((len(payloads), 2), np.float32), payloads)


def of(name: Any) -> bytes:
    return orjson.dumps({"org": {"name": name}})


def test_the_slot_of_a_name_never_changes() -> None:
    assert [slot_of_name(name) for name in ("", "a", "tenant-17", "Zürich")] == [1764, 2112, 1521, 1136]
    spread = np.bincount([slot_of_name(f"tenant-{number}") for number in range(40_960)], minlength=SLOT_COUNT)
    assert 0 < spread.min() <= spread.max() < 30


@pytest.mark.parametrize(
    ("payload", "tenant"),
    [
        (b"", None),
        (b"{}", None),
        (of("a"), "a"),
        (of(""), ""),
        (of(["a"]), "a"),
        (of(["a", 3, "a", None]), "a"),
        (of([["a"]]), None),
        (of(7), None),
        (of(None), None),
        (b'{"org":"a"}', None),
    ],
)
def test_a_point_belongs_to_the_text_in_its_field(payload: bytes, tenant: str | None) -> None:
    assert tenant_of(payload, FIELD) == tenant


def test_two_tenants_are_refused_by_the_points_id() -> None:
    with pytest.raises(InvalidRequest, match=r"point 1: .*`org.name` names 2, `a` and `b`"):
        slots_by_tenant(batch(of("b"), of(["b", "a"])), FIELD)


def test_points_without_a_tenant_live_where_their_id_says() -> None:
    points = batch(of("a"), b"", of(3), of("a"), of("b"))
    by_id = slots_of(points.keys)
    found = slots_by_tenant(points, FIELD).tolist()
    assert found == [slot_of_name("a"), by_id[1], by_id[2], slot_of_name("a"), slot_of_name("b")]
    rows = split_points(BY_TENANT.shard_map, "org.name", points)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(5))
    unchanged = split_points(BY_ID.shard_map, None, points)
    expected = BY_ID.shard_map.split_by_shard(points.keys)
    assert {key: rows.tolist() for key, rows in unchanged.items()} == {k: r.tolist() for k, r in expected.items()}


def test_ids_alone_are_asked_for_everywhere() -> None:
    keys = key_array([4, 5])
    everywhere = split_ids(BY_TENANT, keys)
    assert sorted(everywhere) == [0, 1, 2, 3, 4]
    assert all(rows.tolist() == [0, 1] for rows in everywhere.values())
    assert sum(map(len, split_ids(BY_ID, keys).values())) == 2
    assert split_ids(BY_TENANT, key_array([])) == {}


@pytest.mark.parametrize(
    ("keys", "rows"),
    [([], []), ([3], [0]), ([1, 2, 1, 3, 2], [2, 3, 4]), ([UUID_BASE + 1, 1, UUID_BASE + 1], [1, 2])],
)
def test_of_an_id_that_occurs_twice_the_last_row_counts(keys: list[int], rows: list[int]) -> None:
    assert last_rows(key_array(keys)).tolist() == rows


A, AB, C = (
    {"key": "org.name", "match": {"value": "a"}},
    {"key": "org.name", "match": {"any": ["a", "b"]}},
    {"key": "n", "match": {"value": "c"}},
)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, None),
        ({"must": A}, {"a"}),
        ({"must": [A]}, {"a"}),
        ({"must": [C, AB], "should": [C]}, {"a", "b"}),
        ({"must": [AB, A], "must_not": C}, {"a"}),
        ({"must": [{"must": [A]}, C]}, {"a"}),
        ({"must": {"key": '"org".name', "match": {"value": "a"}}}, {"a"}),
        ({"must": C}, None),
        ({"should": [A, C]}, None),
        ({"must": {"should": [A, C]}}, None),
        ({"must_not": A}, None),
        ({"must": {"key": "org.name", "match": {"value": 7}}}, None),
        ({"must": {"key": "org.name", "match": {"any": []}}}, None),
        ({"must": {"key": "org.name", "match": {"except": ["a"]}}}, None),
        ({"must": {"key": "org.name", "match": {"prefix": "a"}}}, None),
        ({"must": {"nested": {"key": "org", "filter": {"must": {"key": "name", "match": {"value": "a"}}}}}}, None),
        ({"min_should": {"conditions": [A, C], "min_count": 1}}, None),
    ],
)
def test_the_names_that_a_filter_restricts_to(given: dict[str, Any], names: set[str] | None) -> None:
    encoded = orjson.dumps(given)
    assert tenants_of(filter_query(encoded).node, FIELD) == names
    owners = BY_TENANT.shard_map.owners
    expected = set(range(5)) if names is None else {int(owners[slot_of_name(name)]) for name in names}
    assert shards_asked(BY_TENANT, encoded) == tuple(sorted(expected))
    assert shards_asked(BY_ID, encoded) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("change", "reaches"),
    [
        ({"kind": "set", "payload": {"n": 1}}, False),
        ({"kind": "set", "payload": {"org": 1}}, True),
        ({"kind": "set", "payload": {"name": 1}, "path": "org"}, True),
        ({"kind": "set", "payload": {"size": 1}, "path": "org"}, False),
        ({"kind": "set", "payload": {"x": 1}, "path": "org.name"}, True),
        ({"kind": "set", "payload": {"x": 1}, "path": "org.name.below"}, True),
        ({"kind": "set", "payload": {"name": 1}, "path": "orgs"}, False),
        ({"kind": "set", "payload": {"size": 1}, "path": "org[]"}, True),
        ({"kind": "delete", "paths": ("n", "org.size")}, False),
        ({"kind": "delete", "paths": ("n", "org")}, True),
        ({"kind": "delete", "paths": ("org.name",)}, True),
        ({"kind": "clear"}, True),
        ({"kind": "drop_vectors", "numbers": (0,)}, False),
    ],
)
def test_a_change_that_may_reach_the_tenant_field_is_refused(change: dict[str, Any], reaches: bool) -> None:
    made = PointChange(**{**change, "kind": ChangeKind(change["kind"])})
    assert checked_change(made, None) == made
    if not reaches:
        assert checked_change(made, "org.name") == made
        return
    with pytest.raises(
        InvalidRequest, match=r"`org.name` is the collection's tenant field.*(upsert the point|overwrite)"
    ):
        checked_change(made, "org.name")


def test_a_whole_new_payload_is_compared_by_the_shard() -> None:
    made = PointChange(kind=ChangeKind.OVERWRITE, payload={"org": {"name": "a"}})
    assert checked_change(made, "org.name") == made.model_copy(update={"keeps": "org.name"})
    two = PointChange(kind=ChangeKind.OVERWRITE, payload={"org": {"name": ["a", "b"]}})
    with pytest.raises(InvalidRequest, match="belongs to one tenant"):
        checked_change(two, "org.name")
