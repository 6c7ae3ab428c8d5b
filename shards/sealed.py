"""A sealed segment: an immutable graph over mapped files, whose rows can only die.

Vectors, keys, versions and payloads are mapped files: read where exact search, `with_vectors` or an answer needs
them, and reclaimable by the system. On the heap: the graph, and one byte a row once a row has died.

A file that the others can replace is done without where it is damaged: without a graph every search is exact, without
the order of the keys they are sorted again, on the heap. `damages` says so, until the segment is built anew.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shards import segment_files as files
from shards.batch import PointBatch, Vectors, make_batch
from shards.errors import Corrupt
from shards.hnsw import HnswGraph
from shards.index import Rows, SearchPlan, SegmentHits
from shards.memory import SealedSize
from shards.point_ids import WIDE, KeyArray, narrow, newest_of_equal, widen
from shards.scan import scan

WIDEN_FACTOR = 4
"""Where dead rows used up a query's candidates, it is asked again for so many times as many, once; then scanned."""


class SealedSegment:
    """One segment. `lsn`: the version of its rows where it has no file for them (an attached segment)."""

    def __init__(
        self,
        folder: Path,
        header: files.SegmentHeader,
        graph: HnswGraph | None,
        lsn: int,
        damages: tuple[files.Damage, ...] = (),
    ) -> None:
        self.folder = folder
        self.header = header
        self.lsn = lsn
        self.damages = damages
        self.needs_rebuild = bool(damages)
        """A file is damaged that this segment does without: it should be built anew from the others."""
        self.exact_scan_bytes = 0
        rows, dim = header.row_count, header.dim
        self._graph = graph
        self._vector_bytes = 4 * rows * dim
        self._vectors = files.map_array(folder / files.VECTORS, np.dtype(np.float32)).reshape(rows, dim)
        self._keys = files.map_keys(folder, header)
        if any(damage.file == files.ORDER for damage in damages):
            self._order = np.argsort(self._keys, kind="stable")
        else:
            self._order = files.map_array(folder / files.ORDER, np.dtype(np.int64))
        self._offsets = files.map_array(folder / files.OFFSETS, np.dtype(np.uint64))
        self._payloads = files.map_array(folder / files.PAYLOAD, np.dtype(np.uint8)).data
        has_versions = files.VERSIONS in header.files
        self._versions = files.map_array(folder / files.VERSIONS, np.dtype(np.uint64)) if has_versions else None
        self._alive: npt.NDArray[np.bool_] | None = None
        self._live_count = header.live_count
        if self._live_count < rows:
            self._alive = np.zeros(rows, np.bool_)
            self._alive[self._order[newest_of_equal(self._keys[self._order])]] = True

    def __repr__(self) -> str:
        return f"<SealedSegment {self.name}: {self.live_count} of {self.row_count} rows live>"

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def graph(self) -> HnswGraph | None:
        """None where the distance has none, or where it was damaged."""
        return self._graph

    @property
    def row_count(self) -> int:
        return self.header.row_count

    @property
    def live_count(self) -> int:
        return self._live_count

    @property
    def file_bytes(self) -> int:
        return sum(seal.byte_count for seal in self.header.files.values())

    @property
    def keys_crc32c(self) -> int:
        """The checksum of its keys, in the order of its rows."""
        return self.header.files[files.KEYS].crc32c

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the files that are mapped: all but the graph's, which is on the heap."""
        return sum(seal.byte_count for name, seal in self.header.files.items() if name != files.GRAPH)

    @property
    def memory_size(self) -> SealedSize:
        """What the memory model has to know."""
        return SealedSize(
            dim=self.header.dim,
            m=self.header.hnsw.m,
            row_count=self.row_count,
            graph_capacity=0 if self._graph is None else self._graph.capacity,
            has_dead=self._alive is not None,
        )

    @property
    def dead(self) -> npt.NDArray[np.bool_] | None:
        """Which rows are dead, or None where none is."""
        return None if self._alive is None else ~self._alive

    def live_keys(self) -> KeyArray:
        """The keys of the living rows."""
        return self._keys if self._alive is None else self._keys[self._alive]

    def restore_dead(self, dead: npt.NDArray[np.bool_]) -> None:
        """Take over the dead rows that a manifest recorded."""
        self.kill(np.flatnonzero(dead & (True if self._alive is None else self._alive)))

    def snapshot(self) -> SealedSegment:
        view = copy.copy(self)
        if view._alive is not None:
            view._alive = view._alive.copy()
        return view

    def search(self, queries: Vectors, plan: SearchPlan) -> SegmentHits:
        """See VectorIndex. Never fewer than k living rows where the segment has them."""
        k, graph = plan.k, self._graph
        if plan.exact or graph is None or self._vector_bytes <= self.exact_scan_bytes or k >= self.header.row_count:
            return self._scan(queries, k)
        candidates = max(plan.ef, k)
        hits = graph.search(queries, candidates)
        if self._alive is None and hits.is_full:
            return SegmentHits(hits.rows[:, :k], hits.distances[:, :k], True)
        hits = self._living(hits, k)
        if not self.live_count:
            return hits
        short = np.flatnonzero(hits.rows[:, min(k, self.live_count) - 1] < 0)
        if len(short):
            self._refill(queries, plan, candidates * WIDEN_FACTOR, hits, short)
        return hits

    def find(self, keys: KeyArray) -> Rows:
        """See VectorIndex. A binary search for each key."""
        found = np.full(len(keys), -1, np.int64)
        wanted, places = keys, np.arange(len(keys))
        if self._keys.dtype == WIDE:
            wanted = widen(keys)
        elif keys.dtype == WIDE:
            wanted, places = narrow(keys)
        at = np.searchsorted(self._keys, wanted, side="right", sorter=self._order) - 1
        rows = self._order[np.maximum(at, 0)]
        hit = self._keys[rows] == wanted
        if self._alive is not None:
            hit &= self._alive[rows]
        found[places] = np.where(hit, rows, -1)
        return found

    def is_live(self, rows: Rows) -> npt.NDArray[np.bool_]:
        return np.ones(rows.shape, np.bool_) if self._alive is None else self._alive[rows]

    def kill(self, rows: Rows) -> None:
        """See VectorIndex. `rows` are living and different."""
        if not len(rows):
            return
        if self._alive is None:
            self._alive = np.ones(self.row_count, np.bool_)
        self._alive[rows] = False
        self._live_count -= len(rows)

    def keys_of(self, rows: Rows) -> KeyArray:
        return self._keys[rows]

    def versions_of(self, rows: Rows) -> npt.NDArray[np.uint64]:
        if self._versions is not None:
            return self._versions[rows]
        versions = np.empty(rows.shape, np.uint64)
        versions.fill(self.lsn)
        return versions

    def vectors_of(self, rows: Rows) -> Vectors:
        return self._vectors[rows]

    def payload(self, row: int) -> bytes:
        return bytes(self._payloads[int(self._offsets[row]) : int(self._offsets[row + 1])])

    def take(self, rows: Rows) -> PointBatch:
        return make_batch(self._keys[rows], self._vectors[rows], [self.payload(row) for row in rows.tolist()])

    def _scan(self, queries: Vectors, k: int) -> SegmentHits:
        return scan(self._vectors, queries, k, self.header.distance, self._alive)

    def _living(self, hits: SegmentHits, k: int) -> SegmentHits:
        """The first k living rows of each query, in order, padded."""
        dead = hits.rows < 0 if self._alive is None else (hits.rows < 0) | ~self._alive[hits.rows]
        distances = np.where(dead, np.float32(np.inf), hits.distances)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(np.where(dead, -1, hits.rows), nearest, axis=1)
        return SegmentHits(rows, np.take_along_axis(distances, nearest, axis=1))

    def _refill(self, queries: Vectors, plan: SearchPlan, ef: int, hits: SegmentHits, short: Rows) -> None:
        assert self._graph is not None
        needed = min(plan.k, self.live_count)
        wider = self._living(self._graph.search(queries[short], ef), plan.k)
        for place, row in enumerate(short):
            filled = SegmentHits(wider.rows[place], wider.distances[place])
            if filled.rows[needed - 1] < 0:
                scanned = self._scan(queries[row : row + 1], plan.k)
                filled = SegmentHits(scanned.rows[0], scanned.distances[0])
            hits.rows[row, : len(filled.rows)] = filled.rows
            hits.distances[row, : len(filled.rows)] = filled.distances


def open_segment(folder: Path, lsn: int, graph: HnswGraph | None = None) -> SealedSegment:
    """Open a segment whose every file is first compared with its header; `graph` where it was just built.

    What is damaged and can be made anew becomes the segment's `damages`. Raises Corrupt, naming folder and file, for any
    other damage. Damaged bytes never reach hnswlib, nor do those of another graph.
    """
    header = files.read_header(folder)
    if graph is not None:
        return SealedSegment(folder, header, graph, lsn)
    damages = files.verify(folder, header)
    for damage in damages:
        if damage.file not in files.REBUILDABLE:
            raise Corrupt(f"{folder / damage.file} is damaged: {damage.reason}")
    if files.GRAPH in header.files and not any(damage.file == files.GRAPH for damage in damages):
        try:
            graph = HnswGraph.load(folder / files.GRAPH, header.shape, header.row_count)
        except Corrupt as error:
            damages.append(files.Damage(files.GRAPH, error.message))
    return SealedSegment(folder, header, graph, lsn, tuple(damages))
