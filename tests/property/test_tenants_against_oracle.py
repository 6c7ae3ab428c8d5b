"""A collection with a tenant field against a dictionary: upserts that move points, deletes, changes, loads and restarts at
random; every point is there once, found by its id and within its tenant.

    SHOAL_TENANT_SEED=7 python -m pytest tests/property/test_tenants_against_oracle.py
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop

from cluster.coordinator import Coordinator
from cluster.requests import ScrollRequest, SearchRequest, Selection
from shards.batch import make_batch
from shards.distance import Distance
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import UUID_BASE, key_array
from shards.schema import CollectionSpec, VectorSpec
from tests.local_cluster import LocalCluster

SEED = int(os.environ.get("SHOAL_TENANT_SEED", "20261126"))
SPEC = CollectionSpec(vectors={"": VectorSpec(size=2, distance=Distance.EUCLID)})
IDS = [*range(30), *(UUID_BASE + number for number in range(10))]
TENANTS = ["a", "b", "c", "d", "é", "", None, 5]
STEP_COUNT, WAIT_S, NAME = 120, 30.0, "c"
Payloads = dict[int, dict[str, Any]]


class Story:
    """`expected`: the payload of every point that should be there."""

    def __init__(self, cluster: LocalCluster, coordinator: Coordinator, seed: int) -> None:
        self.cluster, self.coordinator = cluster, coordinator
        self.random = np.random.default_rng(seed)
        self.expected: Payloads = {}

    async def step(self) -> None:
        """One write, or a shard's restart."""
        keys = [IDS[place] for place in self.random.integers(0, len(IDS), self.random.integers(1, 12))]
        action = self.random.random()
        if action < 0.6:
            given = [{"org": TENANTS[self.random.integers(len(TENANTS))], "n": key % 3} for key in keys]
            vectors = self.random.random((len(keys), 2), np.float32)
            batch = make_batch(key_array(keys), vectors, list(map(orjson.dumps, given)))
            await self.coordinator.upsert(NAME, batch, WAIT_S)
            self.expected |= zip(keys, given, strict=True)
        elif action < 0.75:
            await self.coordinator.delete(NAME, Selection(keys=sorted(set(keys))), WAIT_S)
            self.expected = {key: payload for key, payload in self.expected.items() if key not in keys}
        elif action < 0.9:
            change = PointChange(kind=ChangeKind.SET, payload={"n": 7})
            await self.coordinator.change(NAME, Selection(keys=sorted(set(keys))), change, WAIT_S)
            self.expected |= {key: self.expected[key] | {"n": 7} for key in keys if key in self.expected}
        elif action < 0.95:
            await self.coordinator.delete(NAME, Selection(filter=within("c", 1)), WAIT_S)
            self.expected = {
                key: found for key, found in self.expected.items() if (found["org"], found["n"]) != ("c", 1)
            }
        else:
            shard_id = int(self.random.integers(len(self.cluster.hosts)))
            await asyncio.to_thread(self.cluster.stop_shard, shard_id)
            await asyncio.to_thread(self.cluster.start_shard, shard_id)

    async def compare(self) -> None:
        """Every way to points gives what it should."""
        page = await self.coordinator.scroll(NAME, ScrollRequest(1_000), WAIT_S)
        found = [(record.key, orjson.loads(record.payload)) for record in page.records]
        assert found == sorted(self.expected.items())
        records = await self.coordinator.retrieve(NAME, IDS, False, False, WAIT_S)
        assert [record.key for record in records] == [key for key in IDS if key in self.expected]
        for tenant in filter(lambda name: isinstance(name, str), TENANTS):
            keys = sorted(key for key, payload in self.expected.items() if payload["org"] == tenant)
            request = SearchRequest(np.zeros((1, 2), np.float32), len(IDS), filter=within(tenant))
            assert sorted((await self.coordinator.search(NAME, request, WAIT_S)).hits[0].keys) == keys
            assert (await self.coordinator.count(NAME, WAIT_S, within(tenant))).count == len(keys)


def within(tenant: Any, n: int | None = None) -> bytes:
    more = [] if n is None else [{"key": "n", "match": {"value": n}}]
    return orjson.dumps({"must": [{"key": "org", "match": {"value": tenant}}, *more]})


@pytest.mark.parametrize("shard_count", [2, 5])
def test_every_point_is_there_once(tmp_path: Path, shard_count: int) -> None:
    async def play() -> None:
        cluster = LocalCluster(tmp_path, shard_count)
        coordinator = await cluster.connect()
        try:
            await coordinator.create_collection(NAME, SPEC, None, WAIT_S)
            schema = FieldSchema(kind=FieldKind.KEYWORD, is_tenant=True)
            await coordinator.create_index(NAME, "org", schema, WAIT_S)
            story = Story(cluster, coordinator, SEED + shard_count)
            for _ in range(STEP_COUNT):
                await story.step()
                await story.compare()
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    uvloop.run(play())
