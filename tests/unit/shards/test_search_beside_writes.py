"""Searches on other threads, while points are overwritten, frozen, sealed and merged: each point once, as it once was."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shards import sealing
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.hits import Hits
from shards.index import SearchPlan
from shards.nearest import Want, nearest
from shards.upkeep import Builders
from tests.shard_oracle import SMALL, WIDE_DIM, batch_of, delete_op, new_collection, spec_of, upsert_op, vectors_of

QUERIES = vectors_of([5, 6, 7], WIDE_DIM)
KEYS = range(150)
PASSING_KEYS = range(1_000, 1_040)
ROUNDS = 60
SEED = 20_261
DEADLINE_S = 120.0
WANT = Want(payloads=True, vectors=True)


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))


def test_a_snapshot_stays_as_it_was(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of(range(40), dim=WIDE_DIM))], 1)
    sealing.seal_all(collection)
    collection.commit([upsert_op(batch_of(range(30, 50), 1, WIDE_DIM)), delete_op([0])], 1)
    before = collection.search(QUERIES, SearchPlan(60, 60), WANT)
    snapshot = collection.snapshot()
    collection.commit([upsert_op(batch_of(range(20, 60), 2, WIDE_DIM)), delete_op([1, 45])], 1)
    sealing.seal_all(collection)
    after = nearest(snapshot, QUERIES, SearchPlan(60, 60), WANT)
    for column in ("counts", "distances", "keys", "versions"):
        np.testing.assert_array_equal(getattr(after, column), getattr(before, column))
    assert after.payloads == before.payloads


@cache
def vector_bytes(key: int, version: int) -> bytes:
    return batch_of([key], version, WIDE_DIM).vectors.tobytes()


def check(hits: Hits, asked_after: dict[int, int]) -> None:
    """Every key that is never deleted is there once; what is found fits together, and is no older than what was
    acknowledged when the search was asked for.
    """
    assert hits.payloads is not None
    assert hits.vectors is not None
    for row in range(len(QUERIES)):
        count = int(hits.counts[row])
        keys = hits.keys[row, :count].tolist()
        assert len(set(keys)) == count, "a point was found twice"
        assert set(KEYS) <= set(keys), "a point that always lives was not found"
        for place, key in enumerate(keys):
            payload = hits.payloads[row * hits.width + place]
            _, version = payload.removeprefix(b'{"v":[').removesuffix(b"]}").split(b",")
            assert payload == b'{"v":[%d,%d]}' % (key, int(version))
            assert hits.vectors[row, place].tobytes() == vector_bytes(key, int(version))
            assert int(version) >= asked_after.get(key, 0)


def test_every_point_is_found_once_whatever_happens_meanwhile(collection: ShardCollection) -> None:
    chosen = random.Random(SEED)
    newest = dict.fromkeys(KEYS, 0)

    async def write(committer: Committer) -> None:
        for version in range(1, ROUNDS):
            keys = chosen.sample(KEYS, 20)
            passing = chosen.sample(PASSING_KEYS, 10)
            await committer.submit(upsert_op(batch_of([*keys, *passing], version, WIDE_DIM)), 1)
            newest.update(dict.fromkeys(keys, version))
            await committer.submit(delete_op(passing), 1)

    async def search(threads: ThreadPoolExecutor, writer: asyncio.Task[None]) -> int:
        searches = 0
        loop = asyncio.get_running_loop()
        while not writer.done():
            asked_after = dict(newest)
            plan = SearchPlan(400, 400, exact=bool(searches % 2))
            hits = await loop.run_in_executor(threads, nearest, collection.snapshot(), QUERIES, plan, WANT)
            check(hits, asked_after)
            searches += 1
        return searches

    async def play() -> int:
        with ThreadPoolExecutor(3) as threads, ThreadPoolExecutor(1) as seals, ThreadPoolExecutor(1) as merges:
            committer = Committer(collection, Builders(seals, merges))
            async with asyncio.timeout(DEADLINE_S):
                await committer.submit(upsert_op(batch_of(KEYS, 0, WIDE_DIM)), 1)
                writer = asyncio.create_task(write(committer))
                searched = sum(await asyncio.gather(*(search(threads, writer) for _ in range(3))))
                await writer
            await committer.close()
        return searched

    assert asyncio.run(play()) > 0
    assert collection.compacted_bytes + collection.sealed_bytes > 0, "nothing was sealed: the test shows nothing"
