"""Sealed segments become one behind everybody's back: what was written meanwhile, what died, what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import sealing, upkeep
from shards import segment_files as files
from shards.bulk import BulkSession
from shards.collection import SEGMENTS_FOLDER, ShardCollection
from shards.committer import Committer
from shards.compaction import Merge
from shards.distance import Distance
from shards.index import SearchPlan
from shards.upkeep import Builders
from tests.shard_oracle import (
    SMALL,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    check_search,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)

DEADLINE_S = 60.0
ROWS = 64
"""They fill a growing segment."""
QUERIES = vectors_of([5, 77, 1_000], WIDE_DIM)
SESSION = b"s" * 16


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))


def write(collection: ShardCollection, oracle: Oracle, keys: range, version: int = 0) -> None:
    batch = batch_of(keys, version, WIDE_DIM)
    oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))


def three_segments(collection: ShardCollection) -> Oracle:
    """Keys 0 to 191 in three sealed segments, each with some rows dead."""
    oracle = Oracle()
    for first in (0, 64, 128):
        write(collection, oracle, range(first, first + 64))
        sealing.seal_all(collection)
    write(collection, oracle, range(5), version=1)
    collection.commit([delete_op([70, 71, 130])], 1)
    oracle.delete([70, 71, 130])
    sealing.seal_all(collection)
    return oracle


def names(collection: ShardCollection) -> list[str]:
    return [segment.name for segment in collection.sealed]


def carry_out(collection: ShardCollection, base: str | None, parts: list[str]) -> sealing.BuiltSegment:
    name = f"{sealing.MERGED_PREFIX}{collection.manifest_number:08d}"
    return sealing.compact(collection, Merge(base, tuple(parts), "a test"), name)


def record(collection: ShardCollection) -> None:
    sealing.record(collection, sealing.plan_manifest(collection))


@pytest.mark.parametrize("copies", [True, False])
def test_several_segments_become_one_and_what_changed_meanwhile_stays_changed(
    collection: ShardCollection, copies: bool
) -> None:
    oracle = three_segments(collection)
    base, *parts = names(collection)
    built = carry_out(collection, base if copies else None, parts if copies else [base, *parts])
    write(collection, oracle, range(60, 70), version=2)
    collection.commit([delete_op([0, 150])], 1)
    oracle.delete([0, 150])
    check_same(collection, oracle, QUERIES)
    sealing.install(collection, built)
    check_same(collection, oracle, QUERIES)
    check_search(collection, oracle, QUERIES, SearchPlan(10, 48))
    assert len(collection.sealed) == 1
    assert collection.sealed[0].row_count == (64 + 62 + 63 + 5 if copies else 59 + 62 + 63 + 5)
    record(collection)
    again = reopened(collection.folder, SMALL)
    check_same(again, oracle, QUERIES)
    check_search(again, oracle, QUERIES, SearchPlan(10, 48))


def test_the_replaced_segments_stay_until_no_kept_manifest_names_them(collection: ShardCollection) -> None:
    three_segments(collection)
    base, *parts = names(collection)
    folder = collection.folder / SEGMENTS_FOLDER
    sealing.install(collection, carry_out(collection, base, parts))
    record(collection)
    assert {base, *parts} < {path.name for path in folder.iterdir()}
    record(collection)
    assert [path.name for path in folder.iterdir()] == names(collection)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_crash_before_the_manifest_leaves_the_old_segments_and_no_rubbish(
    collection: ShardCollection, steps: int
) -> None:
    oracle = three_segments(collection)
    before = names(collection)
    built = carry_out(collection, before[0], before[1:])
    if steps > 1:
        sealing.install(collection, built)
        write(collection, oracle, range(300, 310))
    (collection.folder / SEGMENTS_FOLDER / "merged-00000099.building").mkdir()
    again = reopened(collection.folder, SMALL)
    assert names(again) == before
    assert sorted(path.name for path in (collection.folder / SEGMENTS_FOLDER).iterdir()) == sorted(before)
    check_same(again, oracle, QUERIES)


def test_segments_in_which_every_row_died_are_removed(collection: ShardCollection) -> None:
    oracle = Oracle()
    write(collection, oracle, range(ROWS))
    sealing.seal_all(collection)
    collection.commit([delete_op(list(range(ROWS)))], 1)
    sealing.install(collection, carry_out(collection, None, names(collection)))
    assert (collection.sealed, collection.count()) == ([], 0)
    record(collection)
    assert reopened(collection.folder, SMALL).count() == 0


def test_a_distance_without_graphs_is_merged_too(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "m", SMALL, spec_of(Distance.MANHATTAN, WIDE_DIM))
    oracle = Oracle()
    for first in (0, 64):
        write(collection, oracle, range(first, first + 64))
        sealing.seal_all(collection)
    base, part = names(collection)
    sealing.install(collection, carry_out(collection, base, [part]))
    record(collection)
    check_same(reopened(collection.folder, SMALL), oracle, QUERIES)


# Through the committer


def run(collection: ShardCollection, steps: Callable[[Committer], object]) -> None:
    """The steps (a coroutine function) with a committer, closed at the end."""

    async def play() -> None:
        with ThreadPoolExecutor(1) as seals, ThreadPoolExecutor(1) as compactions:
            committer = Committer(collection, Builders(seals, compactions))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await steps(committer)  # type: ignore[misc]
            finally:
                await committer.close()

    asyncio.run(play())


async def rest(committer: Committer) -> None:
    """Until nothing is built any more."""
    while committer.upkeep.is_building:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.005)


def test_a_long_life_of_writes_keeps_few_segments_and_every_point(collection: ShardCollection) -> None:
    oracle = Oracle()

    async def steps(committer: Committer) -> None:
        for number in range(60):
            batch = batch_of(range(number * 24 % 700, number * 24 % 700 + 32), number, WIDE_DIM)
            oracle.upsert(batch, await committer.submit(upsert_op(batch), 1))
            if number % 7 == 6:
                gone = list(range(number * 5, number * 5 + 9))
                await committer.submit(delete_op(gone), 1)
                oracle.delete(gone)
        await rest(committer)
        assert len(collection.sealed) <= 3
        check_same(collection, oracle, QUERIES)
        check_search(collection, oracle, QUERIES, SearchPlan(10, 64))

    run(collection, steps)
    assert collection.compacted_bytes + collection.sealed_bytes > 0
    check_same(reopened(collection.folder, SMALL), oracle, QUERIES)


def test_a_merged_loads_commit_is_still_recognised(collection: ShardCollection) -> None:
    oracle = Oracle()

    def prepared(session: bytes, keys: range) -> BulkSession:
        load = BulkSession(collection, session, len(keys))
        load.add(batch_of(keys, 0, WIDE_DIM))
        load.prepare()
        return load

    first, second = prepared(SESSION, range(100)), prepared(b"t" * 16, range(100, 180))
    op = first.attach_op()
    assert op is not None

    async def steps(committer: Committer) -> None:
        oracle.upsert(batch_of(range(100), 0, WIDE_DIM), await committer.submit(op, 1))
        other = second.attach_op()
        assert other is not None
        oracle.upsert(batch_of(range(100, 180), 0, WIDE_DIM), await committer.submit(other, 1))
        await rest(committer)
        assert [name[:7] for name in names(collection)] == [sealing.MERGED_PREFIX]
        newer = batch_of([1, 2], 1, WIDE_DIM)
        oracle.upsert(newer, await committer.submit(upsert_op(newer), 1))

    run(collection, steps)
    for load in (first, second):
        load.close()
    for number in range(3):  # manifests that no longer know the log of the loads
        write(collection_again := reopened(collection.folder, SMALL), oracle, range(200 + number, 201 + number))
        sealing.seal_all(collection_again)
    again = reopened(collection.folder, SMALL)
    assert again.history.lsn_of(SESSION) == 1
    assert not (collection.folder / SEGMENTS_FOLDER / f"bulk-{SESSION.hex()}").exists()
    again.apply(op, again.wal.last_lsn)
    check_same(again, oracle, QUERIES)


def test_a_base_whose_graph_was_damaged_since_is_built_anew(collection: ShardCollection) -> None:
    oracle = Oracle()
    write(collection, oracle, range(128))
    sealing.seal_all(collection)
    graph = collection.sealed[0].folder / files.GRAPHS[0]
    graph.write_bytes(bytes(graph.stat().st_size))

    async def steps(committer: Committer) -> None:
        for first in (200, 300):
            batch = batch_of(range(first, first + ROWS), 0, WIDE_DIM)
            oracle.upsert(batch, await committer.submit(upsert_op(batch), 1))
        await rest(committer)

    run(collection, steps)
    assert not any(segment.needs_rebuild for segment in collection.sealed)
    again = reopened(collection.folder, SMALL)
    check_same(again, oracle, QUERIES)
    check_search(again, oracle, QUERIES, SearchPlan(10, 64))


def test_a_shard_that_nobody_writes_to_comes_to_rest_in_one_graph(
    collection: ShardCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "QUIET_S", 0.05)
    oracle = Oracle()
    write(collection, oracle, range(400))
    sealing.seal_all(collection)

    async def steps(committer: Committer) -> None:
        batch = batch_of(range(500, 520), 0, WIDE_DIM)
        oracle.upsert(batch, await committer.submit(upsert_op(batch), 1))
        while [segment.row_count for segment in collection.sealed] != [420]:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.005)
        await rest(committer)

    run(collection, steps)
    check_same(reopened(collection.folder, SMALL), oracle, QUERIES)


def test_many_deletes_are_a_reason_to_build_anew(collection: ShardCollection) -> None:
    oracle = Oracle()
    write(collection, oracle, range(128))
    sealing.seal_all(collection)

    async def steps(committer: Committer) -> None:
        gone = list(range(0, 128, 3))
        await committer.submit(delete_op(gone), 1)
        oracle.delete(gone)
        await rest(committer)
        while committer.collection.sealed[0].row_count == 128:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.005)

    run(collection, steps)
    assert [(segment.row_count, segment.live_count) for segment in collection.sealed] == [(85, 85)]
    check_same(reopened(collection.folder, SMALL), oracle, QUERIES)
