"""Opening after faults that came together: a crash in the middle of a creation, damage and a crash behind it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from shards import sealing
from shards.recovery import create_collection, open_collection
from shards.settings import ShardSettings
from tests.shard_oracle import (
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)
from tests.simulated_disk import Crash, Fault, Operation, SimulatedDisk, When

QUERIES = vectors_of([1, 2, 3])


def test_dead_rows_of_a_segment_that_was_built_anew_are_not_taken_for_its_own(tmp_path: Path) -> None:
    """The newest manifest's bitmap was made for the segment before it was damaged, which had other rows."""
    collection = new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))
    oracle = Oracle()
    for keys in (range(64), range(100, 140)):  # the first fills a segment
        batch = batch_of(keys, dim=WIDE_DIM)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    built = sealing.build(collection, collection.frozen[0])
    collection.commit([delete_op([5])], 1)
    sealing.install(collection, built)
    sealing.record(collection, sealing.plan_manifest(collection))
    collection.commit([delete_op([0])], 1)
    oracle.delete([0, 5])
    (vectors,) = collection.folder.glob("segments/*/vectors.f32")
    content = vectors.read_bytes()
    vectors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = reopened(tmp_path / "c", SMALL)
    sealing.build(again, again.frozen[0])  # under the same name; a crash before its manifest
    check_same(reopened(tmp_path / "c", SMALL), oracle, vectors_of([1], WIDE_DIM))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("countdown", range(1, 9))
def test_what_a_crash_left_of_a_creation_is_durable_once_it_is_open(
    tmp_path: Path, countdown: int, seed: int
) -> None:
    disk = SimulatedDisk(tmp_path)
    disk.faults.append(Fault(Operation.NAME, When.AFTER, countdown))
    with pytest.raises(Crash):
        create_collection(tmp_path / "shard" / "c", UID, spec_of(), disk)
    disk.restart()
    create_collection(tmp_path / "shard" / "c", UID, spec_of(), disk)
    collection = open_collection(tmp_path / "shard" / "c", UID, ShardSettings(), disk).collection
    oracle = Oracle()
    oracle.upsert(batch_of([1]), collection.commit([upsert_op(batch_of([1]))], 1))
    collection.wal.close(clean=False)
    disk.power_loss(Random(seed))
    check_same(open_collection(tmp_path / "shard" / "c", UID, ShardSettings(), disk).collection, oracle, QUERIES)
