"""A shard against brute force: whatever is written, sealed, loaded, closed or crashed, it answers as a dict would.

Small keys come often, so that most writes are overwrites; 64 rows fill a growing segment, so that a batch may freeze
one by itself. A crash leaves the folder as it lies, at times with the torn beginning of a frame behind the log.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule

from shards import sealing
from shards.bulk import BulkSession
from shards.distance import Distance
from shards.index import SearchPlan
from shards.log_frame import encode_frame
from shards.point_ids import UUID_BASE
from shards.recovery import create_collection, open_collection
from tests.shard_oracle import (
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    check_search,
    delete_op,
    spec_of,
    upsert_op,
    vectors_of,
)

keys = st.integers(0, 30) | st.integers(0, 5).map(lambda low: UUID_BASE + (low << 8))
key_lists = st.lists(keys, min_size=1, max_size=12)


class WrittenShard(RuleBasedStateMachine):
    """A shard and its oracle, to which the same writes go."""

    prepared_loads = Bundle("prepared_loads")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="shoal-stateful-")) / "c"
        self.version = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder.parent)

    @initialize(distance=st.sampled_from(Distance))
    def create(self, distance: Distance) -> None:
        self.distance = distance
        self.oracle = Oracle(distance)
        create_collection(self.folder, UID, spec_of(distance, WIDE_DIM))
        self.open()
        self.queries = vectors_of([1, 2], WIDE_DIM, distance)

    def open(self) -> tuple[str, ...]:
        opened = open_collection(self.folder, UID, SMALL)
        self.collection = opened.collection
        return opened.notes

    def next_batch(self, listed: list[int]):
        self.version += 1
        return batch_of(listed, self.version, WIDE_DIM, self.distance)

    @rule(listed=key_lists)
    def upsert(self, listed: list[int]) -> None:
        batch = self.next_batch(listed)
        self.oracle.upsert(batch, self.collection.commit([upsert_op(batch)], 1))

    @rule(first_key=st.integers(0, 40))
    def upsert_many(self, first_key: int) -> None:
        self.upsert(list(range(first_key, first_key + 40)))

    @rule(parts=st.lists(key_lists, min_size=2, max_size=4), deleted=key_lists)
    def commit_a_group(self, parts: list[list[int]], deleted: list[int]) -> None:
        batches = [self.next_batch(listed) for listed in parts]
        ops = [*(upsert_op(batch) for batch in batches), delete_op(deleted)]
        first_lsn = self.collection.commit(ops, 1)
        for lsn, batch in enumerate(batches, first_lsn):
            self.oracle.upsert(batch, lsn)
        self.oracle.delete(deleted)

    @rule(listed=key_lists)
    def delete(self, listed: list[int]) -> None:
        self.collection.commit([delete_op(listed)], 1)
        self.oracle.delete(listed)

    @rule(target=prepared_loads, parts=st.lists(key_lists, min_size=1, max_size=3))
    def prepare_load(self, parts: list[list[int]]):
        batches = [self.next_batch(listed) for listed in parts]
        session = self.version.to_bytes(16, "big")
        load = BulkSession(self.collection, session, 4)
        for batch in batches:
            load.add(batch)
        load.prepare()
        return session, batches

    @rule(prepared=consumes(prepared_loads))
    def commit_load(self, prepared) -> None:
        session, batches = prepared
        load = BulkSession(self.collection, session, 4)  # also as after a restart: it finds its segment again
        load.prepare()
        lsn = self.collection.commit([load.attach_op()], 1)
        for batch in batches:
            self.oracle.upsert(batch, lsn)


class SealedShard(WrittenShard):
    """Its segments get their graphs, or a crash comes between."""

    @rule()
    def freeze(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)

    @precondition(lambda self: self.collection.frozen)
    @rule(listed=key_lists, is_recorded=st.booleans(), is_deleted=st.booleans())
    def seal_one(self, listed: list[int], is_recorded: bool, is_deleted: bool) -> None:
        """A write comes while the graph is built; without `is_recorded` a crash finds the manifest unwritten."""
        built = sealing.build(self.collection, self.collection.frozen[0])
        (self.delete if is_deleted else self.upsert)(listed)
        sealing.install(self.collection, built)
        plan = sealing.plan_manifest(self.collection)
        (self.upsert if is_deleted else self.delete)(listed[:1])
        if is_recorded:
            sealing.record(self.collection, plan)

    @precondition(lambda self: self.collection.frozen)
    @rule()
    def build_in_vain(self) -> None:
        """A graph that is built but never takes its place, as where the shard dies just then."""
        sealing.build(self.collection, self.collection.frozen[0])

    @rule()
    def seal_all(self) -> None:
        sealing.seal_all(self.collection)


class ShardMachine(SealedShard):
    """It is closed, it crashes, and it is read: every rule that reads compares with the oracle."""

    @rule()
    def reopen_cleanly(self) -> None:
        self.collection.wal.close()
        assert self.open() == ()
        self.check()

    @rule()
    def crash(self) -> None:
        assert self.open() == ()
        self.check()

    @precondition(lambda self: any((self.folder / "wal").glob("wal-*")))
    @rule(kept_fraction=st.floats(0.05, 0.95))
    def crash_in_mid_write(self, kept_fraction: float) -> None:
        wal = self.collection.wal
        frame = encode_frame([upsert_op(self.next_batch([1, 2]))], 1, wal.next_lsn, wal.last_lsn)
        with open(max((self.folder / "wal").glob("wal-*")), "ab") as log:
            log.write(frame[: int(len(frame) * kept_fraction)])
        notes = self.open()
        assert len(notes) == 1
        assert f"(LSN {wal.next_lsn}) were cut" in notes[0]
        self.check()

    @rule()
    def check(self) -> None:
        """Count, every record, and exact search."""
        check_same(self.collection, self.oracle, self.queries)

    @rule(seed=st.integers(0, 50), k=st.integers(1, 12))
    def search_by_graph(self, seed: int, k: int) -> None:
        """As many as there are, each alive and as it was last written, however many died."""
        queries = np.concatenate([vectors_of([seed], WIDE_DIM, self.distance), self.queries])
        check_search(self.collection, self.oracle, queries, SearchPlan(k, 24))


# A green run takes seconds; a red one has up to five minutes to find the shortest way to its failure.
TestShard = pytest.mark.timeout(600)(ShardMachine.TestCase)
# The clock says nothing about the code, and the same examples each time: a red run can be repeated.
TestShard.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
