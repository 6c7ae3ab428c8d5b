"""What a result cache asks of the cluster, over real sockets: probes move with writes, and only moved shards are searched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from cluster.cached_reads import SLOTS_MAX, footprint_of
from cluster.coordinator import Coordinator
from cluster.requests import SearchAnswer, SearchRequest, Selection
from cluster.slots import slot_of_name
from shards.batch import make_batch
from shards.distance import Distance
from shards.errors import StaleEpoch
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.generations import NO_STAMP
from shards.messages import hits_of_query
from shards.point_ids import key_array
from shards.schema import CollectionSpec, VectorSpec
from tests.local_cluster import LocalCluster

DIM, COUNT, DEADLINE_S = 4, 60, 30.0
SPEC = CollectionSpec(vectors={"": VectorSpec(size=DIM, distance=Distance.EUCLID)})
VECTORS = np.random.default_rng(3).random((COUNT, DIM), np.float32)
QUERY = SearchRequest(VECTORS[:1], 8, with_payload=True)
Steps = Callable[[LocalCluster, Coordinator], Awaitable[Any]]


def run(folder: Path, steps: Steps) -> None:
    """The steps on two shards that hold all points in `things`."""

    async def whole() -> None:
        cluster = LocalCluster(folder, 2)
        coordinator = await cluster.connect()
        try:
            await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
            await put(coordinator, *range(COUNT))
            await steps(cluster, coordinator)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    uvloop.run(whole())


async def put(coordinator: Coordinator, *keys: int, who: str = "anna") -> None:
    payloads = [b'{"who":"%s","n":%d}' % (who.encode(), key) for key in keys]
    await coordinator.upsert("things", make_batch(key_array(keys), VECTORS[list(keys)], payloads), DEADLINE_S)


def covered(answer: SearchAnswer, stamps: Any) -> dict[int, bool]:
    replies = answer.origins[0].replies
    return {shard_id: replies[shard_id].stamp.covers(stamp) for shard_id, stamp in stamps.items()}


def test_a_write_moves_its_shard_alone_and_only_that_is_searched_again(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        footprint = footprint_of(coordinator.collection("things"), b"")
        before = await coordinator.search("things", QUERY, DEADLINE_S)
        assert covered(before, await coordinator.stamps(footprint)) == {0: True, 1: True}
        nearest = before.hits[0].keys[0]
        await coordinator.delete("things", Selection(keys=[nearest]), DEADLINE_S)
        told = covered(before, await coordinator.stamps(footprint))
        assert sorted(told.values()) == [False, True]
        (moved,) = [shard_id for shard_id, holds in told.items() if not holds]
        kept = {1 - moved: hits_of_query(before.origins[0].replies[1 - moved].body, 0)}
        again = await coordinator.search_moved("things", QUERY, kept, [moved], DEADLINE_S)
        whole = await coordinator.search("things", QUERY, DEADLINE_S)
        assert again.hits == whole.hits
        assert nearest not in again.hits[0].keys
        assert covered(again, await coordinator.stamps(footprint)) == {0: True, 1: True}
        with pytest.raises(StaleEpoch):
            await coordinator.search_moved("things", QUERY, {}, [moved], DEADLINE_S)

    run(tmp_path, steps)


def test_a_restarted_or_stopped_shard_has_moved(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        footprint = footprint_of(coordinator.collection("things"), b"")
        answer = await coordinator.search("things", QUERY, DEADLINE_S)
        await asyncio.to_thread(cluster.stop_shard, 1)
        stamps = await coordinator.stamps(footprint)
        assert stamps[1] == NO_STAMP
        assert covered(answer, stamps) == {0: True, 1: False}
        await asyncio.to_thread(cluster.start_shard, 1)
        await coordinator.catalogue.refresh()
        await coordinator.search("things", QUERY, DEADLINE_S)
        stamps = await coordinator.stamps(footprint)
        assert stamps[1] != NO_STAMP
        assert covered(answer, stamps) == {0: True, 1: False}

    run(tmp_path, steps)


def test_a_tenants_answer_depends_on_its_slots_alone(tmp_path: Path) -> None:
    of_anna = b'{"must":[{"key":"who","match":{"value":"anna"}}]}'
    of_many = b'{"must":{"key":"who","match":{"any":[%s]}}}' % b",".join(b'"t%d"' % n for n in range(3 * SLOTS_MAX))

    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.delete("things", Selection(filter=b"{}"), DEADLINE_S)
        tenants = FieldSchema(kind=FieldKind.KEYWORD, is_tenant=True)
        await coordinator.create_index("things", "who", tenants, DEADLINE_S)
        await put(coordinator, 1, 2, 3)
        await put(coordinator, 4, 5, who="ben")
        collection = coordinator.collection("things")
        footprint = footprint_of(collection, of_anna)
        assert footprint.asked[2:] == ("who", (slot_of_name("anna"),))
        assert len(footprint.shard_ids) == 1
        assert footprint_of(collection, of_many).asked.field == ""
        await coordinator.stamps(footprint)
        asked = QUERY._replace(filter=of_anna)
        answer = await coordinator.search("things", asked, DEADLINE_S)
        await put(coordinator, 5, 6, who="ben")
        await coordinator.delete("things", Selection(keys=[4]), DEADLINE_S)
        assert all(covered(answer, await coordinator.stamps(footprint)).values())
        await put(coordinator, 1, who="ben")  # anna loses it
        assert not any(covered(answer, await coordinator.stamps(footprint)).values())

    run(tmp_path, steps)
