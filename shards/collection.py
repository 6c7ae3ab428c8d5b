"""One collection as one shard holds it: a log, a growing segment, frozen ones that wait for their graph, sealed ones.

A write is checked, appended to the log (fsynced: the commit), applied, then acknowledged; `commit` does these in
order. A search sees exactly what was applied. Invariants:

- A point lives in at most one segment: applying a write first kills the older rows of its keys.
- Segments join in the order of their LSNs, so whatever a write finds is older than itself.
- Whatever changes what a search finds moves `generations`, in the same turn.

The object is owned by one thread (shards/host.py's loop), which alone applies writes and swaps segments. A search that
runs on another works on a `snapshot()`, taken by the owner: on live segments an overwrite amid the search would show a
point twice, or not at all. How a frozen segment becomes a sealed one is
shards/sealing.py's affair; how a folder becomes this object, shards/recovery.py's.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.batch import PointBatch, Vectors, decode_batch, decode_keys
from shards.disk import Disk
from shards.filters.paths import parse_path
from shards.generations import Generations
from shards.growing import GrowingSegment, rows_that_fit
from shards.hits import Hits
from shards.index import SearchPlan, VectorIndex
from shards.log_frame import LogOp, OpKind
from shards.lookup import look_up
from shards.nearest import Want, nearest
from shards.op_history import OpHistory
from shards.payload_indexes import Fields, kinds_of, open_indexes
from shards.point_ids import KeyArray
from shards.point_writes import check_vectors
from shards.records import Records
from shards.schema import CollectionSpec
from shards.sealed import SealedSegment, open_segment
from shards.settings import ShardSettings
from shards.touched_slots import touched_slots
from shards.wal import Wal

SEGMENTS_FOLDER = "segments"
BULK_PREFIX = "bulk-"
"""A bulk load's segment is called so, and by its session's id in hex: thus a committed session is known by its segment."""
SESSIONS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class FrozenSegment:
    """A full growing segment that waits for its graph; every op up to `through_lsn` is in it or was sealed before."""

    name: str
    growing: GrowingSegment
    through_lsn: int


class ShardCollection:
    """See the module. Made by shards/recovery.py: `create_collection`, `open_collection`."""

    def __init__(self, folder: Path, spec: CollectionSpec, settings: ShardSettings, wal: Wal) -> None:
        self.folder = folder
        self.spec = spec
        self.settings = settings
        self.wal = wal
        self.manifest_number = 0
        self.sound_manifests: tuple[int, ...] = ()
        """The newest ones that are known to be whole with their segments: what it was opened at, and what it wrote since."""
        self.applied_lsn = 0
        self.generations = Generations(1 + secrets.randbits(63))
        self._fields: Fields = {}
        self.sealed: list[SealedSegment] = []
        self.prepared: dict[str, SealedSegment] = {}
        """Segments that a bulk load has ready, by name: attaching one of them reads nothing from the disk."""
        self.frozen: list[FrozenSegment] = []
        self.growing = self._new_growing(0)
        self.history = OpHistory()
        self.last_lsn = 0
        """The newest op that was applied."""
        self.retired: set[str] = set()
        """Names of segments that were merged away and whose files are not removed yet."""
        self.merged_sessions: dict[bytes, int] = {}
        """Bulk loads whose segments were merged away, and the LSN of their commit; the newest SESSIONS_KEPT."""
        self.sealed_bytes = self.compacted_bytes = 0
        """File bytes that seals and compactions wrote since the collection was opened."""
        self.is_closing = False
        """Set from the owner's thread: builds that are under way stop at their next batch."""

    def __repr__(self) -> str:
        held = f"{self.count()} points, {len(self.segments())} segments"
        return f"<ShardCollection {self.folder.name}: {held}, {self.wal!r}>"

    @property
    def disk(self) -> Disk:
        """Where its files are, as its log has it."""
        return self.wal.disk

    @property
    def dim(self) -> int:
        """Components of a point's row: of all its vectors."""
        return self.spec.layout.dim

    def segments(self) -> list[VectorIndex]:
        """What a search reads, newest first."""
        return [self.growing, *(frozen.growing for frozen in reversed(self.frozen)), *reversed(self.sealed)]

    def snapshot(self) -> list[VectorIndex]:
        """The same as they are now, for a search on another thread."""
        return [segment.snapshot() for segment in self.segments()]

    def count(self) -> int:
        """Living points."""
        return sum(segment.live_count for segment in self.segments())

    def search(self, queries: Vectors, plan: SearchPlan, want: Want) -> Hits:
        """The nearest points to each prepared query (nq, size of the plan's vector)."""
        return nearest(self.segments(), queries, plan, want)

    def retrieve(self, keys: KeyArray, want: Want) -> Records:
        """Those of the points that exist, each once, in no particular order."""
        return look_up(self.segments(), keys, want)

    @property
    def fields(self) -> Fields:
        """The declared payload fields. Those that are set, and no others, are indexed from now on; sealed segments get what
        they miss by and by (shards/upkeep.py).
        """
        return self._fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        """Declare these."""
        self._fields = fields
        self.generations.move()
        for growing in (self.growing, *(frozen.growing for frozen in self.frozen)):
            growing.fields = kinds_of(fields)
        paths = {parse_path(path) for path in fields}
        for segment in self.sealed:
            segment.indexes = {path: index for path, index in segment.indexes.items() if path in paths}

    def check(self, op: LogOp) -> None:
        """Raises InvalidRequest or Corrupt unless the op can be applied. What this refuses is never logged."""
        if op.kind is OpKind.DELETE:
            decode_keys(op.body)
        elif op.kind is OpKind.UPSERT:
            batch = decode_batch(op.body)
            check_vectors(batch, self.spec.layout)

    def commit(self, ops: list[LogOp], epoch: int) -> int:
        """Check, log and apply ops; returns the LSN of the first. For callers that need no loop of their own."""
        for op in ops:
            self.check(op)
        first_lsn = self.wal.append(ops, epoch)
        for lsn, op in enumerate(ops, first_lsn):
            self.apply(op, lsn)
        return first_lsn

    def apply(self, op: LogOp, lsn: int) -> None:
        """Let a logged op take effect in every later search."""
        field = self.generations.field
        self.generations.move(None if field is None else touched_slots(op, field, self.segments()))
        if op.kind is OpKind.UPSERT:
            self._apply_upsert(decode_batch(op.body), lsn)
        elif op.kind is OpKind.DELETE:
            self._kill(decode_keys(op.body), self.segments())
        else:
            self._apply_attach(bytes(op.body).decode(), lsn)
        self.history.add(op.op_id, lsn)
        self.last_lsn = lsn

    def settle(self) -> None:
        """Where no rows wait to be sealed, everything that was applied is in sealed segments: say so."""
        if not self.frozen and not self.growing.row_count:
            self.applied_lsn = self.last_lsn

    def retire(self, segment: SealedSegment) -> None:
        """Let go of a segment that was merged away; its files go when no kept manifest names them."""
        self.retired.add(segment.name)
        session = session_of(segment.name)
        if session is not None:
            self.merged_sessions[session] = segment.lsn
            while len(self.merged_sessions) > SESSIONS_KEPT:
                del self.merged_sessions[next(iter(self.merged_sessions))]

    def freeze(self, through_lsn: int, next_batch_rows: int = 0) -> None:
        """Put the growing segment in the queue for its graph; start a new one, and a new log file."""
        if self.growing.row_count:
            self.frozen.append(FrozenSegment(f"seg-{through_lsn:020d}", self.growing, through_lsn))
        self.growing = self._new_growing(next_batch_rows)
        self.wal.rotate()

    def open_sealed(self, name: str, lsn: int) -> SealedSegment:
        """Open one of this collection's sealed segments by its name."""
        segment = open_segment(self.folder / SEGMENTS_FOLDER / name, lsn)
        segment.exact_scan_bytes = self.settings.exact_scan_bytes
        segment.indexes = open_indexes(self.folder, segment, self.fields)
        return segment

    def _apply_upsert(self, batch: PointBatch, lsn: int) -> None:
        if not self.growing.has_room_for(len(batch)):
            self.freeze(lsn - 1, len(batch))
        self._kill(batch.keys, self.segments()[1:])  # the growing segment sees to its own overwrites
        self.growing.append(batch, lsn)

    def _apply_attach(self, name: str, lsn: int) -> None:
        if any(sealed.name == name for sealed in self.sealed) or session_of(name) in self.merged_sessions:
            return  # repeated: a second time would bring back what was overwritten since
        if self.growing.row_count:
            self.freeze(lsn - 1)  # so that, once it is sealed, nothing before the attach is left to the log
        segment = self.prepared.pop(name, None) or self.open_sealed(name, lsn)
        segment.lsn = lsn
        self._kill(segment.live_keys(), self.segments())
        self.sealed.append(segment)

    @staticmethod
    def _kill(keys: KeyArray, segments: list[VectorIndex]) -> None:
        for segment in segments:
            if segment.live_count:
                rows = segment.find(keys)
                segment.kill(np.unique(rows[rows >= 0]))

    def _new_growing(self, rows_min: int) -> GrowingSegment:
        capacity = max(rows_that_fit(self.settings.seal_bytes, self.dim), rows_min)
        return GrowingSegment(capacity, self.spec.layout, kinds_of(self.fields))


def session_of(segment_name: str) -> bytes | None:
    """The session whose load a segment is, or None for a segment that was sealed."""
    if not segment_name.startswith(BULK_PREFIX):
        return None
    return bytes.fromhex(segment_name.removeprefix(BULK_PREFIX))
