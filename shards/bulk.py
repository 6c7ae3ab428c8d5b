"""Bulk loads: points that go straight into a segment of their own, and appear all at once.

    begin     a builder is made, with room for the rows to expect
    rows      batches are added, in order: files and graph grow, nobody sees them
    prepare   the segment is made durable under its final name; a crash from here on does not lose it
    commit    one log op attaches it: from that LSN on every search sees all of it, older versions of its points die
    abort     nothing is left

Rows are not acknowledged one by one: the commit is what makes them count. A prepared segment survives a restart and
can still be committed; one that nobody asks for any more is removed by the next load that begins after `ORPHAN_S`.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time

from shards.batch import PointBatch
from shards.collection import BULK_PREFIX, SEGMENTS_FOLDER, ShardCollection
from shards.errors import BadVector, Conflict, DimensionMismatch, InvalidRequest, NotFound
from shards.log_frame import LogOp, OpKind
from shards.memory_account import LoadPermits
from shards.resident import give_back_freed
from shards.sealed import SealedSegment, open_segment
from shards.segment_builder import BUILDING_SUFFIX, SegmentBuilder

ORPHAN_S = 3600.0


class BulkSession:
    """One load into one collection on one shard. Its steps run on a thread of its own, in order."""

    def __init__(self, collection: ShardCollection, session: bytes, expected_rows: int) -> None:
        self.name = BULK_PREFIX + session.hex()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="bulk")
        self._collection = collection
        self._session = session
        self._folder = collection.folder / SEGMENTS_FOLDER / self.name
        self._builder: SegmentBuilder | None = None
        self._sealed: SealedSegment | None = None
        self._is_empty = False
        self.permits: LoadPermits | None = None
        """What the load has reserved; given back when it is closed."""
        self.is_committing = False
        """The attach op is on its way to the log, or may be in it: the segment must stay."""
        if not self._folder.exists():
            threads = collection.settings.build_threads
            self._builder = SegmentBuilder(self._folder, collection.spec, expected_rows, threads, collection.disk)

    def add(self, batch: PointBatch) -> int:
        """Add rows; returns how many there are now. Raises InvalidRequest, and nothing of the batch is kept."""
        if self._builder is None:
            raise InvalidRequest(f"load {self.name} is already prepared and takes no more rows")
        if batch.dim != self._collection.dim:
            raise DimensionMismatch(f"Vector dimension error: expected dim: {self._collection.dim}, got {batch.dim}")
        if (bad_row := self._collection.spec.layout.first_bad_row(batch.vectors)) is not None:
            raise BadVector(f"vector {bad_row} of a load's batch holds a NaN or an infinite component")
        self._builder.add(batch)
        return self._builder.row_count

    def prepare(self) -> dict[str, int]:
        """Make the segment durable; says how many rows it has, and how many were superseded by later ones."""
        superseded = 0
        graphs = None
        if self._builder is not None:
            self._builder.check_whole()
            if not self._builder.row_count:
                self._builder.abort()
                self._builder, self._is_empty = None, True
        if self._is_empty:
            return {"rows": 0, "superseded": 0}
        if self._builder is not None:
            superseded = self._builder.finish(None)
            graphs, self._builder = self._builder.graphs, None
        self._sealed = open_segment(self._folder, 0, graphs)
        self._sealed.exact_scan_bytes = self._collection.settings.exact_scan_bytes
        return {"rows": self._sealed.row_count, "superseded": superseded}

    def attach_op(self) -> LogOp | None:
        """The op that makes the load count, or None where it has no rows; its id, the session's, lets it repeat."""
        if self._sealed is None:
            if not self._is_empty:
                raise InvalidRequest(f"load {self.name} has to be prepared before it is committed")
            return None
        self.is_committing = True
        self._collection.prepared[self.name] = self._sealed
        return LogOp(OpKind.ATTACH, self._session, self.name.encode())

    def check_abortable(self) -> None:
        """Raises Conflict once the load is being committed: the log would name a segment that is gone."""
        if self.is_committing:
            raise Conflict(f"load {self.name} is being committed, and can't be aborted any more")

    def abort(self) -> None:
        """Remove what was built. See `check_abortable`."""
        self.check_abortable()
        if self._builder is not None:
            self._builder.abort()
        self._collection.disk.remove_tree(self._folder)

    def close(self) -> None:
        """End the thread, and give back what was reserved: what was attached is counted with its collection. Once."""
        if self.permits is not None:
            self.permits.release()
        self.thread.submit(give_back_freed)
        self.thread.shutdown(wait=False)


def check_known(sessions: dict[bytes, BulkSession], session: bytes) -> BulkSession:
    """The session, or NotFound: it was never begun, or the shard restarted before it was prepared."""
    if session not in sessions:
        raise NotFound(f"this shard knows no load {session.hex()}: it restarted since; begin the load again")
    return sessions[session]


def remove_orphans(collection: ShardCollection, running: Iterable[str] = ()) -> list[Path]:
    """Remove the leftovers of loads that ended long ago without a commit; returns what was removed.

    `running`: names of the loads that are under way (a folder's time does not change while its files grow).
    """
    attached = {segment.name for segment in collection.sealed} | set(collection.prepared) | set(running)
    removed = []
    for path in (collection.folder / SEGMENTS_FOLDER).glob(BULK_PREFIX + "*"):
        is_attached = path.name.removesuffix(BUILDING_SUFFIX) in attached
        if not is_attached and time() - path.stat().st_mtime > ORPHAN_S:
            collection.disk.remove_tree(path)
            removed.append(path)
    return removed
