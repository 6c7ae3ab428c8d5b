"""Bulk loads: nobody sees a row before the commit, then all of them at once; what is given up leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import time

import numpy as np
import pytest

from shards import sealing
from shards.batch import concatenate, make_batch
from shards.bulk import ORPHAN_S, BulkSession, check_known, remove_orphans
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.distance import Distance
from shards.errors import BadVector, Conflict, DimensionMismatch, InvalidRequest, NotFound, StorageFull
from shards.index import SearchPlan
from shards.log_frame import LogOp
from shards.point_ids import UUID_BASE, key_array
from shards.recovery import create_collection, open_collection
from shards.settings import ShardSettings
from shards.upkeep import Builders
from tests.shard_oracle import (
    DIM,
    UID,
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
from tests.simulated_disk import Crash, Fault, Operation, SimulatedDisk, When

SESSION = b"s" * 16
QUERIES = vectors_of([1, 2, 3])


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c")


def begin(collection: ShardCollection, session: bytes = SESSION) -> BulkSession:
    return BulkSession(collection, session, 10)


def attach_op(load: BulkSession) -> LogOp:
    op = load.attach_op()
    assert op is not None
    return op


def load_all(collection: ShardCollection, keys: list[int], version: int = 0, session: bytes = SESSION) -> int:
    """Load points in one batch; returns the LSN from which on they are seen."""
    load = begin(collection, session)
    load.add(batch_of(keys, version))
    load.prepare()
    return collection.commit([attach_op(load)], 1)


def left_over(collection: ShardCollection) -> list[str]:
    return sorted(path.name for path in (collection.folder / "segments").iterdir())


@pytest.mark.parametrize("distance", list(Distance))
def test_rows_are_seen_from_the_commit_on_and_not_before(tmp_path: Path, distance: Distance) -> None:
    collection = new_collection(tmp_path / "c", spec=spec_of(distance))
    oracle = Oracle()
    queries = vectors_of([1, 2], distance=distance)
    parts = [batch_of(range(25), distance=distance), batch_of([UUID_BASE + 7, 90], distance=distance)]
    load = begin(collection)  # room for 10 rows: it grows
    assert [load.add(part) for part in parts] == [25, 27]
    check_same(collection, oracle, queries)
    assert load.prepare() == {"rows": 27, "superseded": 0}
    check_same(collection, oracle, queries)
    op = attach_op(load)
    check_same(collection, oracle, queries)
    oracle.upsert(concatenate(parts), collection.commit([op], 1))
    check_same(collection, oracle, queries)
    check_search(collection, oracle, queries, SearchPlan(5, 64))


def test_of_a_key_that_comes_twice_the_last_row_wins(collection: ShardCollection) -> None:
    parts = [batch_of([1, 2, 3]), batch_of([2, 2, UUID_BASE], version=1), batch_of([1], version=2)]
    load = begin(collection)
    for part in parts:
        load.add(part)
    assert load.prepare() == {"rows": 7, "superseded": 3}
    oracle = Oracle()
    oracle.upsert(concatenate(parts), collection.commit([attach_op(load)], 1))
    check_same(collection, oracle, QUERIES)
    check_same(reopened(collection.folder), oracle, QUERIES)


def test_of_many_keys_that_come_often_the_last_rows_win(collection: ShardCollection) -> None:
    parts = [batch_of([*range(50)], version) for version in range(6)]
    load = begin(collection)
    assert [load.add(part) for part in parts][-1] == 300
    assert load.prepare() == {"rows": 300, "superseded": 250}
    oracle = Oracle()
    oracle.upsert(parts[-1], collection.commit([attach_op(load)], 1))
    check_same(collection, oracle, QUERIES)


def test_a_load_replaces_older_versions_wherever_they_are(collection: ShardCollection) -> None:
    oracle = Oracle()
    for keys in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
        batch = batch_of(keys)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
        if 1 in keys:
            sealing.seal_all(collection)
        elif 4 in keys:
            collection.freeze(collection.wal.last_lsn)
    assert (len(collection.sealed), len(collection.frozen), collection.growing.row_count) == (1, 1, 3)
    oracle.upsert(batch_of([1, 4, 7, 10], version=1), load_all(collection, [1, 4, 7, 10], version=1))
    check_same(collection, oracle, QUERIES)


def test_later_writes_replace_and_delete_what_was_loaded(collection: ShardCollection) -> None:
    oracle = Oracle()
    oracle.upsert(batch_of([1, 2, 3]), load_all(collection, [1, 2, 3]))
    newer = batch_of([1], version=1)
    oracle.upsert(newer, collection.commit([upsert_op(newer)], 1))
    collection.commit([delete_op([2])], 1)
    oracle.delete([2])
    check_same(collection, oracle, QUERIES)
    oracle.upsert(batch_of([1, 2], 2), load_all(collection, [1, 2], version=2, session=b"t" * 16))
    check_same(collection, oracle, QUERIES)
    sealing.seal_all(collection)
    check_same(reopened(collection.folder), oracle, QUERIES)


def test_writes_between_prepare_and_commit_are_older_than_the_load(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    load.prepare()
    collection.commit([upsert_op(batch_of([1, 2], version=1))], 1)
    oracle = Oracle()
    oracle.upsert(batch_of([1, 2], version=1), 1)
    oracle.upsert(batch_of([1]), collection.commit([attach_op(load)], 1))
    check_same(collection, oracle, QUERIES)
    check_same(reopened(collection.folder), oracle, QUERIES)


def test_nothing_of_a_bad_batch_is_kept(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    with pytest.raises(DimensionMismatch, match=f"expected dim: {DIM}, got {DIM + 1}"):
        load.add(batch_of([2], dim=DIM + 1))
    damaged = batch_of([3, 4])
    damaged.vectors[1, 0] = np.nan
    with pytest.raises(BadVector, match="vector 1 of a load's batch"):
        load.add(damaged)
    assert load.add(batch_of([5])) == 2
    assert load.prepare() == {"rows": 2, "superseded": 0}
    oracle = Oracle()
    oracle.upsert(batch_of([1, 5]), collection.commit([attach_op(load)], 1))
    check_same(collection, oracle, QUERIES)


def test_a_prepared_load_takes_no_more_rows(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    load.prepare()
    with pytest.raises(InvalidRequest, match="already prepared"):
        load.add(batch_of([2]))
    assert load.prepare()["rows"] == 1, "preparing again is harmless"


def test_a_load_without_rows_leaves_nothing(collection: ShardCollection) -> None:
    load = begin(collection)
    assert load.prepare() == {"rows": 0, "superseded": 0}
    assert load.prepare() == {"rows": 0, "superseded": 0}
    assert load.attach_op() is None
    assert left_over(collection) == []


def test_a_prepared_load_survives_a_restart(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1, 2, 1]))
    load.prepare()
    after = reopened(collection.folder)
    assert after.count() == 0
    again = begin(after)
    with pytest.raises(InvalidRequest, match="has to be prepared before it is committed"):
        again.attach_op()
    assert again.prepare()["rows"] == 3
    oracle = Oracle()
    oracle.upsert(batch_of([1, 2]), after.commit([attach_op(again)], 1))
    check_same(after, oracle, QUERIES)


def test_rows_of_a_load_that_was_not_prepared_are_gone_after_a_restart(collection: ShardCollection) -> None:
    lost = begin(collection)
    lost.add(batch_of([1, 2]))
    (collection.folder / "segments" / f"{lost.name}.building" / "stray").touch()
    after = reopened(collection.folder)
    again = begin(after)
    assert again.add(batch_of([3])) == 1
    assert again.prepare() == {"rows": 1, "superseded": 0}
    oracle = Oracle()
    oracle.upsert(batch_of([3]), after.commit([attach_op(again)], 1))
    check_same(after, oracle, QUERIES)
    assert not (collection.folder / "segments" / lost.name / "stray").exists()
    lost.abort()  # closes its files


@pytest.mark.parametrize("restart", [False, True])
def test_a_commit_that_is_repeated_attaches_once(collection: ShardCollection, restart: bool) -> None:
    load = begin(collection)
    load.add(batch_of([1, 2]))
    load.prepare()
    op = attach_op(load)
    newer = batch_of([1], version=1)

    async def play() -> ShardCollection:
        with ThreadPoolExecutor(1) as builders:
            committer = Committer(collection, Builders(builders, builders))
            writes = [committer.submit(op, 1), committer.submit(op, 1), committer.submit(upsert_op(newer), 1)]
            assert await asyncio.gather(*writes) == [1, 1, 2]
            after = collection
            if restart:
                await committer.close()
                after = reopened(collection.folder)
                committer = Committer(after, Builders(builders, builders))
            assert after.history.lsn_of(SESSION) == 1, "the load's id tells that it was committed"
            assert await committer.submit(op, 1) == 1
            await committer.close()
            return after

    after = asyncio.run(play())
    oracle = Oracle()
    oracle.upsert(batch_of([1, 2]), 1)
    oracle.upsert(newer, 2)
    check_same(after, oracle, QUERIES)
    assert len(after.sealed) == 1


@pytest.mark.parametrize("prepared", [False, True])
def test_an_aborted_load_leaves_nothing(collection: ShardCollection, prepared: bool) -> None:
    load = begin(collection)
    load.add(batch_of([1, 2]))
    if prepared:
        load.prepare()
    assert len(left_over(collection)) == 1
    load.abort()
    assert (left_over(collection), collection.count()) == ([], 0)
    oracle = Oracle()
    oracle.upsert(batch_of([3]), load_all(collection, [3]))
    check_same(collection, oracle, QUERIES)


def let_all_look_old(collection: ShardCollection, but: BulkSession) -> None:
    for path in (collection.folder / "segments").iterdir():
        if not path.name.startswith(but.name):
            os.utime(path, (time() - ORPHAN_S - 60,) * 2)


def test_leftovers_of_old_loads_are_removed_and_nothing_else(collection: ShardCollection) -> None:
    oracle = Oracle()
    oracle.upsert(batch_of([1]), collection.commit([upsert_op(batch_of([1]))], 1))
    sealing.seal_all(collection)
    oracle.upsert(batch_of([2]), load_all(collection, [2]))
    asked_for = begin(collection, b"p" * 16)
    asked_for.add(batch_of([3]))
    asked_for.prepare()
    op = attach_op(asked_for)
    given_up, given_up_later, young = (begin(collection, letter * 16) for letter in (b"x", b"y", b"n"))
    given_up.add(batch_of([4]))
    given_up_later.add(batch_of([4]))
    given_up_later.prepare()
    let_all_look_old(collection, but=young)
    young.add(batch_of([5]))
    removed = remove_orphans(collection)
    assert sorted(path.name for path in removed) == [f"bulk-{'78' * 16}.building", f"bulk-{'79' * 16}"]
    assert not any(path.exists() for path in removed)
    assert len(left_over(collection)) == 4
    oracle.upsert(batch_of([3]), collection.commit([op], 1))
    check_same(collection, oracle, QUERIES)
    check_same(reopened(collection.folder), oracle, QUERIES)
    assert remove_orphans(collection) == []
    for load in (given_up, young):
        load.abort()  # closes its files


def test_an_unknown_load_is_named(collection: ShardCollection) -> None:
    load = begin(collection)
    assert check_known({SESSION: load}, SESSION) is load
    with pytest.raises(NotFound, match=r"knows no load 7878.*begin the load again"):
        check_known({SESSION: load}, b"x" * 16)
    load.abort()
    load.close()


def test_a_load_is_known_by_its_segment_when_the_log_has_forgotten_it(collection: ShardCollection) -> None:
    lsn = load_all(collection, [1, 2, 3])
    for key in (1, 8, 9):  # three manifests: the two that are kept need nothing of the load's log
        collection.commit([upsert_op(batch_of([key], 5))], 1)
        sealing.seal_all(collection)
    again = reopened(collection.folder)
    assert again.history.lsn_of(SESSION) == lsn
    load = begin(again)
    load.prepare()
    again.commit([attach_op(load)], 1)
    assert [sealed.name for sealed in again.sealed].count(load.name) == 1
    oracle = Oracle()
    oracle.upsert(batch_of([2, 3]), lsn)
    for number, key in enumerate((1, 8, 9)):
        oracle.upsert(batch_of([key], 5), lsn + 1 + number)
    check_same(again, oracle, QUERIES)


def test_a_load_that_is_being_committed_can_not_be_aborted(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    load.prepare()
    op = attach_op(load)
    with pytest.raises(Conflict, match="being committed"):
        load.abort()
    collection.commit([op], 1)
    assert reopened(collection.folder).count() == 1


def test_a_load_that_is_not_prepared_can_not_be_committed(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    with pytest.raises(InvalidRequest, match="has to be prepared"):
        load.attach_op()


def test_a_load_without_rows_is_over_once_it_is_prepared(collection: ShardCollection) -> None:
    load = begin(collection)
    assert load.prepare() == load.prepare() == {"rows": 0, "superseded": 0}
    assert load.attach_op() is None
    with pytest.raises(InvalidRequest, match="takes no more rows"):
        load.add(batch_of([1]))


def test_a_load_under_way_is_no_leftover_however_old_its_folder_looks(collection: ShardCollection) -> None:
    load = begin(collection)
    load.add(batch_of([1]))
    (building,) = (collection.folder / "segments").iterdir()
    os.utime(building, (0, time() - 2 * ORPHAN_S))
    assert remove_orphans(collection, [load.name]) == []
    assert load.prepare()["rows"] == 1


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_load_whose_fsync_failed_is_told_so_again_and_again(tmp_path: Path, failing: int) -> None:
    """A second fsync would succeed, and the first one's bytes would be lost all the same."""
    disk = SimulatedDisk(tmp_path)
    create_collection(tmp_path / "c", UID, spec_of(), disk)
    collection = open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection
    load = begin(collection)
    load.add(batch_of(range(20)))
    disk.faults.append(Fault(Operation.SEGMENT_FSYNC, When.BEFORE, failing, errno.EIO))
    for _ in range(3):
        with pytest.raises(StorageFull, match="begin it again"):
            load.prepare()
    load.abort()
    oracle = Oracle()
    oracle.upsert(batch_of([1]), load_all(collection, [1]))
    disk.power_loss(Random(failing))
    check_same(open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection, oracle, QUERIES)


@pytest.mark.parametrize("seed", range(8))
def test_a_prepared_load_that_a_crash_left_is_durable_before_it_is_committed(tmp_path: Path, seed: int) -> None:
    disk = SimulatedDisk(tmp_path)
    create_collection(tmp_path / "c", UID, spec_of(), disk)
    load = begin(open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection)
    load.add(batch_of(range(20)))
    disk.faults.append(Fault(Operation.SEGMENT_RENAME, When.AFTER))
    with pytest.raises(Crash):
        load.prepare()
    disk.restart()
    collection = open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection
    found = begin(collection)
    assert found.prepare()["rows"] == 20
    oracle = Oracle()
    oracle.upsert(batch_of(range(20)), collection.commit([attach_op(found)], 1))
    collection.wal.close(clean=False)
    disk.power_loss(Random(seed))
    check_same(open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection, oracle, QUERIES)


def test_a_load_that_can_not_begin_is_told_so(tmp_path: Path) -> None:
    disk = SimulatedDisk(tmp_path)
    create_collection(tmp_path / "c", UID, spec_of(), disk)
    collection = open_collection(tmp_path / "c", UID, ShardSettings(), disk).collection
    disk.faults.append(Fault(Operation.NAME, When.BEFORE, 1, errno.ENOSPC))
    with pytest.raises(StorageFull, match="No space"):
        begin(collection)


@contextmanager
def full_disk(file_bytes_max: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("payload_bytes", [2_000, 200_000], ids=["while closing", "while adding"])
def test_a_load_that_met_a_full_disk_can_not_be_finished(collection: ShardCollection, payload_bytes: int) -> None:
    large = make_batch(key_array([1]), vectors_of([1]), [b'"' + b"x" * payload_bytes + b'"'])
    load = begin(collection)

    def add_and_prepare() -> None:
        load.add(large)
        load.prepare()

    with full_disk(100), pytest.raises(StorageFull):
        add_and_prepare()
    for again in (lambda: load.add(batch_of([2])), load.prepare):
        with pytest.raises(StorageFull, match="begin it again"):
            again()
    load.abort()
    assert left_over(collection) == []
