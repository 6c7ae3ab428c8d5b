"""Collections with a tenant field over real sockets: where points come to live, who is asked, and what a move leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop

from cluster.bulk_load import BulkLoad
from cluster.coordinator import Coordinator
from cluster.requests import ScrollRequest, SearchRequest, Selection, UpsertCondition
from cluster.shard_client import ShardClient
from cluster.slots import slot_of_name
from shards.batch import PointBatch, make_batch
from shards.distance import Distance
from shards.errors import Conflict, InvalidRequest
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import UUID_BASE, key_array
from shards.schema import CollectionSpec, VectorSpec
from shards.wire import Kind
from tests.local_cluster import SECRET, LocalCluster

DIM, COUNT, DEADLINE_S = 4, 120, 30.0
SPEC = CollectionSpec(vectors={"": VectorSpec(size=DIM, distance=Distance.EUCLID)})
VECTORS = np.random.default_rng(3).random((COUNT, DIM), np.float32)
TENANTS = [f"tenant-{number}" for number in range(8)]
TENANT = FieldSchema(kind=FieldKind.KEYWORD, is_tenant=True)
Steps = Callable[[LocalCluster, Coordinator], Awaitable[Any]]


def points(keys: list[int], tenants: list[str | None]) -> PointBatch:
    payloads = [orjson.dumps({"n": key % 1000} | ({} if name is None else {"org": name}))
                for key, name in zip(keys, tenants, strict=True)]  # fmt: skip
    return make_batch(key_array(keys), VECTORS[[key % COUNT for key in keys]], payloads)


KEYS = [key if key % 3 else UUID_BASE + key for key in range(COUNT)]
ALL = points(KEYS, [TENANTS[row % 8] for row in range(COUNT)])


def of(*tenants: str, n: int | None = None) -> bytes:
    more = [] if n is None else [{"key": "n", "match": {"value": n}}]
    return orjson.dumps({"must": [{"key": "org", "match": {"any": list(tenants)}}, *more]})


@pytest.fixture(params=[2, 5])
def shard_count(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def run(folder: Path, shard_count: int, steps: Steps) -> Any:
    """The steps on a cluster with an empty collection `things` whose tenant field is `org`."""

    async def whole() -> Any:
        cluster = LocalCluster(folder, shard_count)
        coordinator = await cluster.connect()
        try:
            await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
            await coordinator.create_index("things", "org", TENANT, DEADLINE_S)
            return await steps(cluster, coordinator)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    return uvloop.run(whole())


async def counts(coordinator: Coordinator) -> dict[int, int]:
    return {shard.shard_id: shard.point_count for shard in await coordinator.statistics("things", DEADLINE_S)}


def owner(coordinator: Coordinator, tenant: str) -> int:
    return int(coordinator.collection("things").shard_map.owners[slot_of_name(tenant)])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Kind, int]]:
    """Every request that went to a shard, and which shard's it was."""
    sent: list[tuple[Kind, int]] = []
    request = ShardClient.request

    def noting(client: ShardClient, kind: Kind, *arguments: Any) -> int:
        sent.append((kind, client.shard_id))
        return request(client, kind, *arguments)

    monkeypatch.setattr(ShardClient, "request", noting)
    return sent


def test_a_tenants_points_live_on_one_shard_which_alone_is_asked_for_them(
    tmp_path: Path, shard_count: int, asked: list[tuple[Kind, int]]
) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.upsert("things", ALL, DEADLINE_S)
        expected = dict.fromkeys(range(shard_count), 0)
        for tenant in TENANTS:
            expected[owner(coordinator, tenant)] += COUNT // 8
        assert await counts(coordinator) == expected
        for number, tenant in enumerate(TENANTS):
            asked.clear()
            request = SearchRequest(VECTORS[:1], COUNT, filter=of(tenant))
            found = (await coordinator.search("things", request, DEADLINE_S)).hits[0].keys
            page = await coordinator.scroll("things", ScrollRequest(COUNT, of(tenant)), DEADLINE_S)
            assert sorted(found) == sorted(KEYS[number::8]) == sorted(record.key for record in page.records)
            assert (await coordinator.count("things", DEADLINE_S, of(tenant))).count == COUNT // 8
            shard_id = owner(coordinator, tenant)
            assert asked == [(Kind.SEARCH, shard_id), (Kind.SCROLL, shard_id), (Kind.COUNT, shard_id)]
        asked.clear()
        assert (await coordinator.count("things", DEADLINE_S)).count == COUNT
        assert len(asked) == shard_count

    run(tmp_path, shard_count, steps)


def test_ids_alone_find_read_change_and_delete_points(tmp_path: Path, shard_count: int) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.upsert("things", ALL, DEADLINE_S)
        records = await coordinator.retrieve("things", [*KEYS[5:50], 10**9], True, True, DEADLINE_S)
        assert [record.key for record in records] == KEYS[5:50]
        change = PointChange(kind=ChangeKind.SET, payload={"seen": True})
        await coordinator.change("things", Selection(keys=KEYS[:10]), change, DEADLINE_S)
        seen = orjson.dumps({"must": {"key": "seen", "match": {"value": True}}})
        assert (await coordinator.count("things", DEADLINE_S, seen)).count == 10
        moved = make_batch(key_array(KEYS[:4]), VECTORS[:4] + 10, [b""] * 4)
        await coordinator.update_vectors("things", moved, DEADLINE_S)
        found = await coordinator.search("things", SearchRequest(VECTORS[:1] + 10, 4), DEADLINE_S)
        assert sorted(found.hits[0].keys) == sorted(KEYS[:4])
        await coordinator.delete("things", Selection(keys=KEYS[:30]), DEADLINE_S)
        await coordinator.delete("things", Selection(filter=of(TENANTS[7])), DEADLINE_S)
        left = [key for row, key in enumerate(KEYS) if row >= 30 and row % 8 != 7]
        page = await coordinator.scroll("things", ScrollRequest(COUNT), DEADLINE_S)
        assert [record.key for record in page.records] == sorted(left)

    run(tmp_path, shard_count, steps)


def test_a_point_that_gets_another_tenant_exists_once(tmp_path: Path, shard_count: int) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.upsert("things", ALL, DEADLINE_S)
        for turn in range(1, 9):
            moved = points(KEYS, [TENANTS[(row + turn) % 8] if row % 5 else None for row in range(COUNT)])
            await coordinator.upsert("things", moved, DEADLINE_S)
            assert (await coordinator.count("things", DEADLINE_S)).count == COUNT
            for number, tenant in enumerate(TENANTS):
                page = await coordinator.scroll("things", ScrollRequest(COUNT, of(tenant)), DEADLINE_S)
                rows = [row for row in range(COUNT) if row % 5 and (row + turn) % 8 == number]
                assert sorted(record.key for record in page.records) == sorted(KEYS[row] for row in rows)
        twice = points([7, 7, 7], [TENANTS[0], TENANTS[1], TENANTS[2]])
        await coordinator.upsert("things", twice, DEADLINE_S)
        assert (await coordinator.count("things", DEADLINE_S)).count == COUNT
        assert (await coordinator.count("things", DEADLINE_S, of(TENANTS[2], n=7))).count == 1

    run(tmp_path, shard_count, steps)


def test_upserts_that_cross_never_lose_a_point(tmp_path: Path, shard_count: int) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        for turn in range(30):
            writers = [points([turn % 3], [TENANTS[(turn + number) % 8]]) for number in range(6)]
            await asyncio.gather(*(coordinator.upsert("things", batch, DEADLINE_S) for batch in writers))
            assert await coordinator.retrieve("things", [turn % 3], False, False, DEADLINE_S)
        for key in range(3):
            await coordinator.upsert("things", points([key], ["last"]), DEADLINE_S)
        assert await counts(coordinator) == {
            shard_id: 3 * (shard_id == owner(coordinator, "last")) for shard_id in range(shard_count)
        }

    run(tmp_path, shard_count, steps)


def test_an_upsert_with_a_condition_does_not_move_a_point(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        here, there = next((a, b) for a in TENANTS for b in TENANTS if owner(coordinator, a) != owner(coordinator, b))
        await coordinator.upsert("things", points([1], [here]), DEADLINE_S)
        both = points([1, 2], [there, there])
        await coordinator.upsert("things", both, DEADLINE_S, UpsertCondition("insert_only"))
        assert (await coordinator.count("things", DEADLINE_S, of(there))).count == 1
        assert (await coordinator.count("things", DEADLINE_S, of(here))).count == 1
        with pytest.raises(InvalidRequest, match="point 1 is another tenant's"):
            await coordinator.upsert("things", both, DEADLINE_S, UpsertCondition("update_only"))
        with pytest.raises(InvalidRequest, match="point 1 is another tenant's"):
            await coordinator.upsert("things", both, DEADLINE_S, UpsertCondition(filter=of(here)))
        stays = points([1, 3], [here, here])
        await coordinator.upsert("things", stays, DEADLINE_S, UpsertCondition("update_only"))
        assert (await coordinator.count("things", DEADLINE_S)).count == 2

    run(tmp_path, 2, steps)


def test_the_tenant_of_a_stored_point_can_only_be_upserted(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.upsert("things", ALL, DEADLINE_S)
        for change in (
            PointChange(kind=ChangeKind.SET, payload={"org": "x"}),
            PointChange(kind=ChangeKind.OVERWRITE, payload={"n": 1}),
            PointChange(kind=ChangeKind.DELETE, paths=("org",)),
            PointChange(kind=ChangeKind.CLEAR),
        ):
            for selection in (Selection(keys=KEYS[:3]), Selection(filter=of(TENANTS[0]))):
                with pytest.raises(InvalidRequest, match=r"upsert the point|overwrite the payload"):
                    await coordinator.change("things", selection, change, DEADLINE_S)
        with pytest.raises(InvalidRequest, match="names 2"):
            await coordinator.upsert(
                "things", make_batch(key_array([5]), VECTORS[:1], [b'{"org":["a","b"]}']), DEADLINE_S
            )
        assert (await coordinator.count("things", DEADLINE_S)).count == COUNT
        same = PointChange(kind=ChangeKind.OVERWRITE, payload={"org": TENANTS[0], "new": True})
        await coordinator.change("things", Selection(filter=of(TENANTS[0])), same, DEADLINE_S)
        new = orjson.dumps({"must": [{"key": "new", "match": {"value": True}}]})
        assert (await coordinator.count("things", DEADLINE_S, new)).count == COUNT // 8
        assert (await coordinator.count("things", DEADLINE_S, of(TENANTS[0]))).count == COUNT // 8

    run(tmp_path, 2, steps)


def test_one_field_at_most_for_good_and_only_of_an_empty_collection(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        other = await cluster.connect()
        with pytest.raises(InvalidRequest, match="has the tenant field `org` already"):
            await coordinator.create_index("things", "team", TENANT, DEADLINE_S)
        await coordinator.create_index("things", "org", TENANT, DEADLINE_S)
        assert await coordinator.delete_index("things", "org", DEADLINE_S)
        assert coordinator.collection("things").tenant_field == "org"
        await coordinator.create_collection("full", SPEC, None, DEADLINE_S)
        await coordinator.upsert("full", ALL, DEADLINE_S)
        await other.create_index("full", "org", TENANT, DEADLINE_S)
        await other.close()
        full = cluster.collections["full"]
        assert (full.tenant_field, full.owner_field, full.shard_map.epoch) == (None, "org", 1)
        with pytest.raises(InvalidRequest, match="has the tenant field `org` already"):
            await coordinator.create_index("full", "team", TENANT, DEADLINE_S)
        assert (await coordinator.count("full", DEADLINE_S, of(TENANTS[0]))).count == COUNT // 8

    run(tmp_path, 2, steps)


def test_a_router_that_splits_by_the_older_map_is_put_right(tmp_path: Path, shard_count: int) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("more", SPEC, None, DEADLINE_S)
        late = await cluster.connect()
        assert late._watch_task is not None
        late._watch_task.cancel()
        await coordinator.create_index("more", "org", TENANT, DEADLINE_S)
        assert late.collection("more").tenant_field is None
        await late.upsert("more", ALL, DEADLINE_S)
        assert late.collection("more").tenant_field == "org"
        for tenant in TENANTS:
            assert (await coordinator.count("more", DEADLINE_S, of(tenant))).count == COUNT // 8
        await late.close()

    run(tmp_path, shard_count, steps)


def test_points_that_come_in_meanwhile_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("more", SPEC, None, DEADLINE_S)
        set_tenant_field = cluster.set_tenant_field

        async def late(name: str, path: str, moves_points: bool) -> Any:
            await coordinator.upsert("more", ALL, DEADLINE_S)
            return await set_tenant_field(name, path, moves_points)

        monkeypatch.setattr(cluster, "set_tenant_field", late)
        with pytest.raises(Conflict, match=f"{COUNT} points were written to `more`"):
            await coordinator.create_index("more", "org", TENANT, DEADLINE_S)

    run(tmp_path, 2, steps)


def test_a_bulk_load_puts_rows_where_their_payload_says(tmp_path: Path, shard_count: int) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        load = BulkLoad(lambda: cluster.cluster_state(-1, 0), SECRET, "things")
        await load.begin(COUNT)
        await load.add(ALL)
        await load.finish()
        load.close()
        for tenant in TENANTS:
            assert (await coordinator.count("things", DEADLINE_S, of(tenant))).count == COUNT // 8
        assert sum((await counts(coordinator)).values()) == COUNT

    run(tmp_path, shard_count, steps)
