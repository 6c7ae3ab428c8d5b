"""A mixed workload on one collection over a simulated disk, with an oracle of what was acknowledged.

One write at a time is unknown: its call ended in a crash, or in an error that leaves its outcome open. The next
opening tells by the log's last LSN whether it is there; from then on it is there, or not, for good.

Like the shard's committer, the workload takes a failed step of a seal again; like a loader, it gives up a load
whose step failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from shards import sealing
from shards.bulk import BulkSession
from shards.collection import ShardCollection
from shards.compaction import SegmentWeight, plan_merge, plan_seal
from shards.errors import ShoalError, StorageFull, Unavailable
from shards.log_frame import LogOp
from shards.point_ids import UUID_BASE
from shards.recovery import create_collection, open_collection
from tests.shard_oracle import (
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    spec_of,
    upsert_op,
    vectors_of,
)
from tests.simulated_disk import Crash, SimulatedDisk

QUERIES = vectors_of([1], WIDE_DIM)
KEYS = [*range(40), *(UUID_BASE + number for number in range(8))]
TRIES_MAX = 4
"""So often a step of a seal is taken again; faults strike once."""

T = TypeVar("T")
Effect = Callable[[Oracle, int], None]


@dataclass(frozen=True)
class Write:
    """One frame's ops, and what they do to an oracle when the first has a given LSN."""

    ops: list[LogOp]
    effect: Effect


@dataclass
class Tally:
    """What a run did. `unknown`: writes whose outcome only the next opening told."""

    operations: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    openings: int = 0
    injected: int = 0

    def add(self, other: Tally) -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass
class Workload:
    """See the module. `random` decides everything."""

    root: Path
    random: Random
    tally: Tally = field(default_factory=Tally)
    oracle: Oracle = field(default_factory=Oracle)
    history: list[tuple[int, Write]] = field(default_factory=list)
    """The LSN of every write that is there, in order."""
    notes: list[str] = field(default_factory=list)
    """What the openings had to say."""

    def __post_init__(self) -> None:
        self.folder = self.root / "c"
        self.disk = SimulatedDisk(self.root)
        self._unknown: tuple[int, Write] | None = None
        self._version = 0
        self._prepared: list[tuple[bytes, Effect]] = []
        create_collection(self.folder, UID, spec_of(dim=WIDE_DIM), self.disk)
        self.open()

    # Steps

    def step(self) -> None:
        """One random operation. Raises Crash where the disk does."""
        self.tally.operations += 1
        steps = [
            self.upsert,
            self.delete,
            self._group,
            self._seal_one,
            self.seal_all,
            self._load,
            self._commit_prepared,
        ]
        self.random.choices([*steps, self._compact], [8, 3, 2, 2, 2, 2, 1, 2])[0]()

    def upsert(self) -> None:
        self.commit(self._upsert())

    def delete(self) -> None:
        self.commit(self._delete())

    def _group(self) -> None:
        """Several ops in one frame."""
        writes = [self._upsert(), self._delete(), self._upsert()]

        def effect(oracle: Oracle, first_lsn: int) -> None:
            for lsn, write in enumerate(writes, first_lsn):
                write.effect(oracle, lsn)

        self.commit(Write([op for write in writes for op in write.ops], effect))

    def _seal_one(self) -> None:
        """Build, install and record the oldest frozen segment, with a write behind each step."""
        if not self.collection.frozen:
            self.collection.freeze(self.collection.wal.last_lsn)
        if not self.collection.frozen:
            return
        built = self._insist(self._build)
        self.upsert()
        sealing.install(self.collection, built)
        plan = sealing.plan_manifest(self.collection)
        self.delete()
        self._insist(lambda: sealing.record(self.collection, plan))

    def seal_all(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)
        while self.collection.frozen:
            built = self._insist(self._build)
            sealing.install(self.collection, built)
        plan = sealing.plan_manifest(self.collection)
        self._insist(lambda: sealing.record(self.collection, plan))

    def _compact(self) -> None:
        """Carry out the merge that is due, with a write behind each step."""
        self.collection.settle()
        merge = plan_merge(self._weights(self.collection.applied_lsn), self._rows_floor)
        if merge is None:
            return
        name = f"{sealing.MERGED_PREFIX}{self.collection.manifest_number:08d}"
        built = self._insist(lambda: sealing.compact(self.collection, merge, name))
        self.upsert()
        sealing.install(self.collection, built)
        plan = sealing.plan_manifest(self.collection)
        self.delete()
        self._insist(lambda: sealing.record(self.collection, plan))

    def _build(self) -> sealing.BuiltSegment:
        """Build the oldest frozen segment's successor, joined to a sealed one where the ladder has a place for it."""
        frozen = self.collection.frozen[0]
        name = plan_seal(self._weights(frozen.through_lsn), frozen.growing.live_count, self._rows_floor)
        base = next((segment for segment in self.collection.sealed if segment.name == name), None)
        return sealing.build(self.collection, frozen, base)

    def _weights(self, through_lsn: int) -> list[SegmentWeight]:
        """The sealed segments that a merge may take, as the committer sees them."""
        return [
            SegmentWeight(segment.name, segment.row_count, segment.live_count, segment.needs_rebuild)
            for segment in self.collection.sealed
            if segment.lsn <= through_lsn
        ]

    @property
    def _rows_floor(self) -> int:
        return self.random.choice([0, 64])

    def _load(self) -> None:
        """Load some points; commit them now, or leave that to a later step."""
        self._version += 1
        session = self._version.to_bytes(16, "big")
        batches = [self._batch() for _ in range(self.random.randint(1, 3))]

        def effect(oracle: Oracle, lsn: int) -> None:
            for batch in batches:
                oracle.upsert(batch, lsn)

        try:
            load = BulkSession(self.collection, session, 16)
            try:
                for batch in batches:
                    load.add(batch)
                self._prepare(load)
            except Exception:
                load.abort()
                raise
        except ShoalError:
            self.tally.refused += 1
            return
        self._prepared.append((session, effect))
        if self.random.random() < 0.6:
            self._commit_prepared()

    def _commit_prepared(self) -> None:
        """Attach a load that is prepared, perhaps since before a restart."""
        if not self._prepared:
            return
        session, effect = self._prepared.pop()
        load = BulkSession(self.collection, session, 16)
        assert load.prepare()["rows"], "a load that was told to be prepared is gone"
        op = load.attach_op()
        assert op is not None
        self.commit(Write([op], effect))

    def commit(self, write: Write) -> None:
        """Write, and believe what comes back."""
        lsn = self.collection.wal.next_lsn
        was_fenced = self.collection.wal.fence_reason is not None
        if not was_fenced:
            self._unknown = (lsn, write)
        try:
            assert self.collection.commit(write.ops, 1) == lsn
            self.disk.acknowledge()
        except StorageFull:
            self._unknown = None
            self.tally.refused += 1
        except Unavailable:
            if self.collection.wal.fence_reason is None:
                self._unknown = None  # it was cut off again
            self.tally.refused += 1
        else:
            assert not was_fenced, "a log that takes no writes took one"
            self._unknown = None
            self._happened(lsn, write)
            self.tally.acknowledged += 1

    # Restarts

    def open(self) -> None:
        """Open what is there, and compare it with what must be there."""
        self.tally.openings += 1
        opened = open_collection(self.folder, UID, SMALL, self.disk)
        self.collection: ShardCollection = opened.collection
        self.notes += opened.notes
        if self._unknown is not None:
            lsn, write = self._unknown
            self._unknown = None
            self.tally.unknown += 1
            if self.collection.wal.last_lsn >= lsn:
                self._happened(lsn, write)
            else:
                assert not any(self.collection.history.lsn_of(op.op_id) for op in write.ops), "it never was"
        for lsn, write in self.history:
            known = [self.collection.history.lsn_of(op.op_id) for op in write.ops]
            assert known == list(range(lsn, lsn + len(write.ops))), "a repetition would have a second effect"
        self.check()

    def close(self, clean: bool) -> None:
        """End the process: with the log's mark of a clean shutdown, or by just letting go."""
        self.collection.wal.close(clean)

    def restart(self, is_power_lost: bool) -> None:
        """Kill the process, or the machine, and open again; as often as opening crashes."""
        while True:
            self.close(clean=False)
            if is_power_lost:
                self.disk.power_loss(self.random)
            else:
                self.disk.restart()
            try:
                self.open()
                return
            except Crash:
                continue

    def end(self) -> Tally:
        """Lose power, go on, stop cleanly, lose power again: everything has to be there each time. What was done."""
        self.restart(is_power_lost=True)
        self.step()
        self.close(clean=True)
        self.restart(is_power_lost=True)
        self.tally.injected = len(self.disk.injected)
        return self.tally

    def check(self) -> None:
        """Every record and exact search as the oracle has them."""
        check_same(self.collection, self.oracle, QUERIES)

    def oracle_at(self, last_lsn: int) -> Oracle:
        """The points as they were at an LSN."""
        oracle = Oracle()
        for lsn, write in self.history:
            if lsn <= last_lsn:
                write.effect(oracle, lsn)
        return oracle

    # Making writes

    def _happened(self, lsn: int, write: Write) -> None:
        write.effect(self.oracle, lsn)
        self.history.append((lsn, write))

    def _batch(self):
        self._version += 1
        return batch_of(self._some_keys(), self._version, WIDE_DIM)

    def _some_keys(self) -> list[int]:
        return self.random.choices(KEYS, k=self.random.randint(1, 14))

    def _upsert(self) -> Write:
        batch = self._batch()
        return Write([upsert_op(batch, self._op_id())], lambda oracle, lsn: oracle.upsert(batch, lsn))

    def _delete(self) -> Write:
        keys = self._some_keys()
        return Write([delete_op(keys, self._op_id())], lambda oracle, _: oracle.delete(keys))

    def _op_id(self) -> bytes:
        return self.random.randbytes(16)

    def _prepare(self, load: BulkSession) -> None:
        try:
            load.prepare()
        except ShoalError:
            load.prepare()  # a loader may ask again; what it is told then must be true as well

    def _insist(self, step: Callable[[], T]) -> T:
        """Take a step until it succeeds, as the committer does; in the end somebody makes room."""
        for _ in range(TRIES_MAX):
            try:
                return step()
            except (OSError, ShoalError):
                self.tally.refused += 1
        self.disk.room_bytes = None
        return step()
