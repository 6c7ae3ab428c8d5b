"""Keys of two tenants against a dictionary (tests/tenant_keys_story.py): over the cluster in memory, and, with a result
cache, over shards; the field is declared at once, or late. A hundred thousand requests are row 22 of `make chaos`.

    SHOAL_TENANT_KEYS_SEED=7 SHOAL_TENANT_KEYS_STEPS=1000 python -m pytest tests/property/test_tenant_keys_against_oracle.py
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from deployments.cluster_api import ClusterApi
from deployments.router_parts import PLAIN, RouterParts
from tests.tenant_keys_story import Story, over_shards
from tests.unit.deployments.fake_cluster import FakeCluster

SEED = int(os.environ.get("SHOAL_TENANT_KEYS_SEED", "20261128"))
STEP_COUNT = int(os.environ.get("SHOAL_TENANT_KEYS_STEPS", "25"))


async def play(cluster: ClusterApi, seed: int, is_late: bool, parts: RouterParts = PLAIN) -> None:
    story = Story(cluster, seed, parts)
    await story.begin(is_late)
    for _ in range(STEP_COUNT):
        await story.step()
    assert story.read_count > 20 * STEP_COUNT
    assert story.cancelled_count


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_own_points_alone_in_memory(seed: int, is_late: bool) -> None:
    asyncio.run(play(FakeCluster(), SEED + seed, is_late))


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("shard_count", [1, 3])
def test_own_points_alone_over_shards(tmp_path: Path, shard_count: int, is_late: bool) -> None:
    async def whole() -> None:
        async with over_shards(tmp_path, shard_count) as (coordinator, parts):
            await play(coordinator, SEED + shard_count, is_late, parts)

    uvloop.run(whole())
