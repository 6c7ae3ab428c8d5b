"""Requests that are kept within tenants, over real sockets: what they see, what they change, and what they are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop

from cluster.coordinator import Coordinator
from cluster.requests import OrderBy, ScrollRequest, SearchRequest, Selection, UpsertCondition
from cluster.scope import Scope
from cluster.slots import slot_of_name
from cluster.tenant_guard import narrowed
from shards.batch import PointBatch, make_batch
from shards.distance import Distance
from shards.errors import Forbidden, InvalidRequest
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import key_array
from shards.schema import CollectionSpec, VectorSpec
from tests.local_cluster import LocalCluster

DIM, COUNT, DEADLINE_S = 4, 60, 30.0
SPEC = CollectionSpec(vectors={"": VectorSpec(size=DIM, distance=Distance.EUCLID)})
VECTORS = np.random.default_rng(3).random((COUNT, DIM), np.float32)
TENANTS = ["ann", "bob", "cy"]
EVERYTHING = orjson.dumps({"should": [{"is_empty": {"key": "x"}}], "must": {"key": "n", "range": {"gte": 0}}})
ANN, BOB, BOTH = (Scope("things", tenants=names) for names in (("ann",), ("bob",), ("ann", "bob")))
Steps = Callable[[Coordinator], Awaitable[Any]]


def points(keys: list[int], owners: list[Any]) -> PointBatch:
    payloads = [orjson.dumps({"n": key, "org": owner}) for key, owner in zip(keys, owners, strict=True)]
    return make_batch(key_array(keys), VECTORS[[key % COUNT for key in keys]], payloads)


ALL = points([*range(COUNT)], [TENANTS[key % 3] for key in range(COUNT)])
OF_ANN, OF_BOTH = [*range(0, COUNT, 3)], [key for key in range(COUNT) if key % 3 < 2]


@pytest.fixture(params=["declared at once", "declared late"])
def is_late(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "declared late")


def run(folder: Path, is_late: bool, steps: Steps) -> Any:
    """The steps on a cluster of three shards whose collection `things` holds ALL, with `org` as its tenant field."""

    async def whole() -> Any:
        cluster = LocalCluster(folder, 3)
        coordinator = await cluster.connect()
        declared = FieldSchema(kind=FieldKind.KEYWORD, is_tenant=True)
        try:
            await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
            if is_late:
                await coordinator.upsert("things", ALL, DEADLINE_S)
            await coordinator.create_index("things", "org", declared, DEADLINE_S)
            if not is_late:
                await coordinator.upsert("things", ALL, DEADLINE_S)
            assert (coordinator.collection("things").tenant_field is None) is is_late
            return await steps(coordinator)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    return uvloop.run(whole())


async def contents(coordinator: Coordinator) -> dict[int, tuple[bytes, bytes]]:
    page = await coordinator.scroll("things", ScrollRequest(1_000, with_vectors=True), DEADLINE_S)
    return {one.key: (one.payload, b"" if one.vector is None else one.vector.tobytes()) for one in page.records}


@pytest.mark.parametrize(("scope", "own"), [(ANN, OF_ANN), (BOTH, OF_BOTH), (Scope("things", tenants=("x",)), [])])
def test_every_read_finds_own_points_alone(tmp_path: Path, is_late: bool, scope: Scope, own: list[int]) -> None:
    async def steps(coordinator: Coordinator) -> None:
        for encoded in (b"", EVERYTHING):
            assert (await coordinator.count(scope, DEADLINE_S, encoded)).count == len(own)
            for exact in (False, True):
                request = SearchRequest(VECTORS[:2], COUNT, exact=exact, filter=encoded)
                hits = (await coordinator.search(scope, request, DEADLINE_S)).hits
                assert [sorted(one.keys) for one in hits] == [own, own]
            page = await coordinator.scroll(scope, ScrollRequest(COUNT, encoded), DEADLINE_S)
            assert [record.key for record in page.records] == own
            ordered = ScrollRequest(COUNT, encoded, order_by=OrderBy("n"))
            assert [one.key for one in (await coordinator.scroll(scope, ordered, DEADLINE_S)).records] == own
        records = await coordinator.retrieve(scope, [*range(COUNT), 99], True, True, DEADLINE_S)
        assert [record.key for record in records] == own
        assert (await coordinator.scroll(scope, ScrollRequest(2), DEADLINE_S)).next_key == (own[2] if own else None)

    run(tmp_path, is_late, steps)


def test_searches_of_several_tenants_at_once_keep_their_own_answers(tmp_path: Path) -> None:
    async def steps(coordinator: Coordinator) -> None:
        scopes = [ANN, BOB, BOTH, "things"] * 8
        request = SearchRequest(VECTORS[:1], COUNT)
        found = await asyncio.gather(*(coordinator.search(scope, request, DEADLINE_S) for scope in scopes))
        assert [len(answer.hits[0].keys) for answer in found] == [COUNT // 3, COUNT // 3, 2 * COUNT // 3, COUNT] * 8

    run(tmp_path, False, steps)


def test_changes_and_deletes_touch_own_points_alone(tmp_path: Path, is_late: bool) -> None:
    async def steps(coordinator: Coordinator) -> None:
        def own_of(found: dict[int, Any]) -> dict[int, Any]:
            return {key: value for key, value in found.items() if key % 3 == 0}

        before = await contents(coordinator)
        ids, every = Selection(keys=[*range(COUNT)]), Selection(filter=b"")
        for selection in (ids, every, Selection(filter=EVERYTHING)):
            for change in (
                PointChange(kind=ChangeKind.SET, payload={"seen": True}),
                PointChange(kind=ChangeKind.DELETE, paths=("seen",)),
                PointChange(kind=ChangeKind.OVERWRITE, payload={"org": "ann", "n": 3}),
            ):
                await coordinator.change(ANN, selection, change, DEADLINE_S)
            for change in (
                PointChange(kind=ChangeKind.SET, payload={"org": "bob"}),
                PointChange(kind=ChangeKind.DELETE, paths=("org",)),
                PointChange(kind=ChangeKind.OVERWRITE, payload={"org": "bob"}),
                PointChange(kind=ChangeKind.OVERWRITE, payload={"n": 1}),
                PointChange(kind=ChangeKind.CLEAR),
            ):
                with pytest.raises(InvalidRequest, match="`org`"):
                    await coordinator.change(ANN, selection, change, DEADLINE_S)
        moved = make_batch(ALL.keys, VECTORS + 1, [b""] * COUNT)
        await coordinator.update_vectors(ANN, moved, DEADLINE_S)
        after = await contents(coordinator)
        payloads = {orjson.dumps(orjson.loads(payload)) for payload, _ in own_of(after).values()}
        assert payloads == {orjson.dumps({"org": "ann", "n": 3})}
        assert {key: vector for key, (_, vector) in own_of(after).items()} == {
            key: (VECTORS[key] + 1).tobytes() for key in OF_ANN
        }
        await coordinator.delete(ANN, Selection(keys=[0, 1, 2, 3]), DEADLINE_S)
        assert (await coordinator.count("things", DEADLINE_S)).count == COUNT - 2
        await coordinator.delete(ANN, every, DEADLINE_S)
        left = await contents(coordinator)
        assert left == {key: value for key, value in before.items() if key % 3}

    run(tmp_path, is_late, steps)


def test_upserts_write_own_points_and_take_no_id_of_another(tmp_path: Path, is_late: bool) -> None:
    async def steps(coordinator: Coordinator) -> None:
        before = await contents(coordinator)
        for batch, text in (
            (points([100, 0], ["ann", "bob"]), "tenant `ann` alone.*point 0 says otherwise"),
            (make_batch(key_array([100]), VECTORS[:1], [b""]), "point 100 says otherwise"),
            (points([100], [["ann", "bob"]]), "point 100 says otherwise|names 2"),
            (points([100, 0, 1, 2], ["ann"] * 4), "the id 1 is taken"),
        ):
            for condition in (UpsertCondition(), UpsertCondition("insert_only")):
                with pytest.raises((Forbidden, InvalidRequest), match=text):
                    await coordinator.upsert(ANN, batch, DEADLINE_S, condition)
        assert await contents(coordinator) == before
        await coordinator.upsert(ANN, points([0, 100], ["ann", "ann"]), DEADLINE_S)
        await coordinator.upsert(BOTH, points([0, 4, 101], ["bob", "ann", "bob"]), DEADLINE_S)
        await coordinator.upsert(BOTH, points([3, 102], ["ann", "ann"]), DEADLINE_S, UpsertCondition("insert_only"))
        await coordinator.upsert(BOTH, points([3, 103], ["ann", "ann"]), DEADLINE_S, UpsertCondition("update_only"))
        now = await contents(coordinator)
        owners = {key: orjson.loads(payload)["org"] for key, (payload, _) in now.items()}
        expected = {key: TENANTS[key % 3] for key in range(COUNT)}
        assert owners == expected | {0: "bob", 4: "ann", 100: "ann", 101: "bob", 102: "ann"}
        assert (await coordinator.count("things", DEADLINE_S)).count == COUNT + 3

    run(tmp_path, is_late, steps)


def test_an_update_passes_over_anothers_id_as_over_one_that_is_missing(tmp_path: Path, is_late: bool) -> None:
    async def steps(coordinator: Coordinator) -> None:
        before = await contents(coordinator)
        for key in (1, 2, 100):
            await coordinator.upsert(ANN, points([key], ["ann"]), DEADLINE_S, UpsertCondition("update_only"))
        assert await contents(coordinator) == before
        mine = make_batch(key_array([0, 1, 100]), VECTORS[5:8], [b'{"org":"ann","new":1}'] * 3)
        await coordinator.upsert(ANN, mine, DEADLINE_S, UpsertCondition("update_only"))
        now = await contents(coordinator)
        assert {key for key in now | before if now.get(key) != before.get(key)} == {0}

    run(tmp_path, is_late, steps)


def test_an_upsert_that_meets_anothers_new_point_is_refused_by_the_shard(
    tmp_path: Path, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the router looked before that came."""

    async def steps(coordinator: Coordinator) -> None:
        look = coordinator._check_ids_free

        async def look_first(*about: Any) -> None:
            await look(*about)
            await coordinator.upsert("things", points([77], [foreign]), DEADLINE_S)

        owners = coordinator.collection("things").shard_map.owners
        names = (f"other-{number}" for number in range(50))
        foreign = next(name for name in names if owners[slot_of_name(name)] == owners[slot_of_name("ann")])
        monkeypatch.setattr(coordinator, "_check_ids_free", look_first)
        with pytest.raises(Forbidden, match="the id 77 is taken"):
            await coordinator.upsert(ANN, points([77], ["ann"]), DEADLINE_S)
        (found,) = await coordinator.retrieve("things", [77], True, False, DEADLINE_S)
        assert orjson.loads(found.payload)["org"] == foreign

    run(tmp_path, is_late, steps)


def test_points_of_several_tenants_belong_to_who_has_them_all(tmp_path: Path) -> None:
    async def steps(coordinator: Coordinator) -> None:
        await coordinator.upsert(
            "things", points([0, 1, 2], [["ann", "bob"], ["bob"], ["ann", "bob", "cy"]]), DEADLINE_S
        )
        for scope, expected in ((ANN, []), (BOB, [1]), (BOTH, [0, 1])):
            found = await coordinator.retrieve(scope, [0, 1, 2], False, False, DEADLINE_S)
            assert [record.key for record in found] == expected

    run(tmp_path, True, steps)


def test_what_concerns_the_whole_collection_is_refused(tmp_path: Path) -> None:
    async def steps(coordinator: Coordinator) -> None:
        schema = FieldSchema(kind=FieldKind.INTEGER)
        for call in (
            coordinator.statistics(ANN, DEADLINE_S),
            coordinator.create_index(ANN, "n", schema, DEADLINE_S),
            coordinator.delete_index(ANN, "org", DEADLINE_S),
        ):
            with pytest.raises(Forbidden, match="tenant `ann` alone, and this concerns all of collection `things`"):
                await call
        await coordinator.create_collection("plain", SPEC, None, DEADLINE_S)
        with pytest.raises(Forbidden, match="`plain` has no tenant field"):
            await coordinator.count(ANN._replace(name="plain"), DEADLINE_S)

    run(tmp_path, False, steps)


def test_a_narrowed_filter_is_no_deeper() -> None:
    guard = b'{"must":[{"key":"org","match":{"any":["a"]}}],"must_not":[{"key":"x"}]}'
    assert narrowed(b"", b"") == b""
    assert narrowed(b"{}", b"") == b"{}"
    assert narrowed(b"", guard) == guard
    both = narrowed(b'{"must":{"key":"n"},"should":[{"key":"m"}]}', guard)
    assert orjson.loads(both) == {
        "must": [{"key": "org", "match": {"any": ["a"]}}, {"key": "n"}],
        "should": [{"key": "m"}],
        "must_not": [{"key": "x"}],
    }
    assert narrowed(both, guard) == both
