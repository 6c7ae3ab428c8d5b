"""A shard against brute force: whatever is written, sealed, loaded, closed or crashed, it answers as a dict would.

Small keys come often, so that most writes are overwrites; 64 rows fill a growing segment, so that a batch may freeze
one by itself. A crash leaves the folder as it lies, at times with the torn beginning of a frame behind the log.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from shards import sealing
from shards.bulk import BulkSession
from shards.compaction import Merge
from shards.distance import Distance
from shards.index import SearchPlan
from shards.log_frame import encode_frame
from shards.point_ids import UUID_BASE
from shards.recovery import create_collection, open_collection
from tests.shard_oracle import (
    NAMED,
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    check_search,
    delete_op,
    named_batch_of,
    spec_of,
    upsert_op,
    vectors_of,
)

keys = st.integers(0, 30) | st.integers(0, 5).map(lambda low: UUID_BASE + (low << 8))
key_lists = st.lists(keys, min_size=1, max_size=12)
writes = st.sampled_from(["upsert", "delete", "load"])


class WrittenShard(RuleBasedStateMachine):
    """A shard and its oracle, to which the same writes go."""

    prepared_loads = Bundle("prepared_loads")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="shoal-stateful-")) / "c"
        self.version = 0
        # No power is cut here, so an fsync shows nothing; without it there is time for more examples.
        self.fsync = patch("os.fsync")
        self.fsync.start()

    def teardown(self) -> None:
        self.fsync.stop()
        shutil.rmtree(self.folder.parent)

    @initialize(distance=st.sampled_from([*Distance, None]))
    def create(self, distance: Distance | None) -> None:
        """`distance` None: three named vectors, each with its own."""
        self.distance = distance
        self.oracle = Oracle()
        create_collection(self.folder, UID, NAMED if distance is None else spec_of(distance, WIDE_DIM))
        self._open()
        self.queries = vectors_of([1], WIDE_DIM, distance or Distance.COSINE)

    @rule()
    def check(self) -> None:
        """Count, every record, and exact search."""
        check_same(self.collection, self.oracle, self.queries)

    def _open(self) -> tuple[str, ...]:
        opened = open_collection(self.folder, UID, SMALL)
        self.collection = opened.collection
        return opened.notes

    def _next_batch(self, listed: list[int]):
        self.version += 1
        if self.distance is None:
            return named_batch_of(listed, self.version)
        return batch_of(listed, self.version, WIDE_DIM, self.distance)

    @rule(listed=key_lists)
    def upsert(self, listed: list[int]) -> None:
        batch = self._next_batch(listed)
        self.oracle.upsert(batch, self.collection.commit([upsert_op(batch)], 1))

    @rule(first_key=st.integers(0, 10))
    def upsert_many(self, first_key: int) -> None:
        self.upsert(list(range(first_key, first_key + 40)))

    @rule(parts=st.lists(key_lists, min_size=2, max_size=4), deleted=key_lists)
    def commit_a_group(self, parts: list[list[int]], deleted: list[int]) -> None:
        batches = [self._next_batch(listed) for listed in parts]
        ops = [*(upsert_op(batch) for batch in batches), delete_op(deleted)]
        first_lsn = self.collection.commit(ops, 1)
        for lsn, batch in enumerate(batches, first_lsn):
            self.oracle.upsert(batch, lsn)
        self.oracle.delete(deleted)

    @rule(listed=key_lists)
    def delete(self, listed: list[int]) -> None:
        self.collection.commit([delete_op(listed)], 1)
        self.oracle.delete(listed)

    def _write_one(self, kind: str, listed: list[int]) -> None:
        if kind == "load":
            self.commit_load(self.prepare_load([listed]))
        else:
            (self.upsert if kind == "upsert" else self.delete)(listed)

    @rule(parts=st.lists(key_lists, min_size=1, max_size=3), between=key_lists)
    def load(self, parts: list[list[int]], between: list[int]) -> None:
        prepared = self.prepare_load(parts)
        self.upsert(between)
        self.commit_load(prepared)

    @rule(target=prepared_loads, parts=st.lists(key_lists, min_size=1, max_size=3))
    def prepare_load(self, parts: list[list[int]]):
        batches = [self._next_batch(listed) for listed in parts]
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
        self.check()


class ShardMachine(WrittenShard):
    """Its segments get their graphs, it is closed, it crashes; every rule that reads compares with the oracle."""

    @rule()
    def freeze(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)

    @rule(steps=st.integers(1, 3), write=writes, listed=key_lists, is_crash=st.booleans(), joins=st.booleans())
    def seal_one(self, steps: int, write: str, listed: list[int], is_crash: bool, joins: bool) -> None:
        """Build (alone or joined to a sealed one), install, record, or the first of these steps; writes come in between, at
        times a crash behind.
        """
        if not self.collection.frozen:
            self.freeze()
        if self.collection.frozen:
            covered = self._covered()
            base = covered[0] if joins and covered else None
            built = sealing.build(self.collection, self.collection.frozen[0], base)
            self._finish_build(built, steps, write, listed)
        self.check()
        if is_crash:
            self.reopen(is_clean=False)

    @rule(data=st.data(), steps=st.integers(1, 3), write=writes, listed=key_lists, is_crash=st.booleans())
    def compact(self, data, steps: int, write: str, listed: list[int], is_crash: bool) -> None:
        """Any of the covered segments become one, with a copied graph or a new one."""
        names = sorted(segment.name for segment in self._covered())
        if not names:
            return
        parts = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        base = parts.pop() if len(parts) > 1 and data.draw(st.booleans()) else None
        name = f"{sealing.MERGED_PREFIX}{self.collection.manifest_number:08d}"
        built = sealing.compact(self.collection, Merge(base, tuple(parts), "a test"), name)
        self._finish_build(built, steps, write, listed)
        self.check()
        if is_crash:
            self.reopen(is_clean=False)

    def _covered(self):
        self.collection.settle()
        return [segment for segment in self.collection.sealed if segment.lsn <= self.collection.applied_lsn]

    def _finish_build(self, built: sealing.BuiltSegment, steps: int, write: str, listed: list[int]) -> None:
        self._write_one(write, listed)
        if steps > 1:
            sealing.install(self.collection, built)
            plan = sealing.plan_manifest(self.collection)
            self.delete(listed[:1])
        if steps > 2:
            sealing.record(self.collection, plan)

    @rule()
    def seal_all(self) -> None:
        sealing.seal_all(self.collection)

    @rule(is_clean=st.booleans())
    def reopen(self, is_clean: bool) -> None:
        if is_clean:
            self.collection.wal.close()
        assert self._open() == ()
        self.check()

    @rule(listed=key_lists, kept_fraction=st.floats(0.05, 0.95))
    def crash_in_mid_write(self, listed: list[int], kept_fraction: float) -> None:
        self.upsert(listed)  # so that there is a log file
        wal = self.collection.wal
        frame = encode_frame([upsert_op(self._next_batch(listed))], 1, wal.next_lsn, wal.last_lsn)
        with open(max((self.folder / "wal").glob("wal-*")), "ab") as log:
            log.write(frame[: int(len(frame) * kept_fraction)])
        notes = self._open()
        assert len(notes) == 1
        assert f"(LSN {wal.next_lsn}) were cut" in notes[0]
        self.check()

    @rule(seed=st.integers(0, 50), k=st.integers(1, 12), number=st.integers(0, 2))
    def search_by_graph(self, seed: int, k: int, number: int) -> None:
        """As many as there are, each alive and as it was last written, however many died."""
        vector = number % len(self.collection.spec.layout.columns)
        asked = vectors_of([seed], WIDE_DIM, self.distance or Distance.COSINE)
        queries = np.concatenate([asked, self.queries])
        check_search(self.collection, self.oracle, queries, SearchPlan(k, 24, vector=vector))


# A green run takes seconds; a red one has up to five minutes to find the shortest way to its failure.
TestShard = pytest.mark.timeout(600)(ShardMachine.TestCase)
# The clock says nothing about the code, and the same examples each time: a red run can be repeated.
TestShard.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
