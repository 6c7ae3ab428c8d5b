"""A sealed segment: an immutable graph over mapped files, whose rows can only die.

Vectors, keys, versions and payloads are mapped files: read where exact search, `with_vectors` or an answer needs
them, and reclaimable by the system. On the heap: the graph, and one byte a row once a row has died.

A file that the others can replace is done without where it is damaged: without a graph every search is exact, without
the order of the keys they are sorted again, on the heap. `damages` says so, until the segment is built anew.
"""

from __future__ import annotations

import copy
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards import segment_files as files
from shards.batch import PointBatch, Vectors, make_batch
from shards.errors import Corrupt
from shards.filter_memo import FilterMemo, Matches, matches_of
from shards.filter_plan import candidates_for, is_scan_cheaper
from shards.filters.indexes import Indexes
from shards.hnsw import HnswGraph
from shards.index import Rows, SearchPlan, SegmentHits
from shards.memory import GraphSize, SealedSize
from shards.point_ids import WIDE, KeyArray, narrow, newest_of_equal, widen
from shards.scan import scan
from shards.vector_layout import VectorColumn

WIDEN_FACTOR = 4
"""Where dead rows used up a query's candidates, it is asked again for so many times as many, once; then scanned."""


@dataclass(frozen=True, slots=True)
class _SearchedVector:
    """One of the segment's vectors. `matrix` (rows, size): a view of the mapped file. `rows`: which rows have it, ascending,
    in the order of the graph's labels; None: all.
    """

    column: VectorColumn
    matrix: Vectors
    graph: HnswGraph | None
    row_count: int
    rows: Rows | None

    @property
    def byte_count(self) -> int:
        return 4 * self.row_count * self.column.size


class _Walk(NamedTuple):
    """A graph's search. `alive`: the rows that count, None for all; `living`: how many those are that have the vector, too;
    `candidates`: how many the graph is asked for at first.
    """

    searched: _SearchedVector
    alive: npt.NDArray[np.bool_] | None
    k: int
    living: int
    candidates: int


class SealedSegment:
    """One segment. `lsn`: the version of its rows where it has no file for them (an attached segment)."""

    def __init__(
        self,
        folder: Path,
        header: files.SegmentHeader,
        graphs: tuple[HnswGraph | None, ...],
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
        self.indexes: Indexes = {}
        """Of its payloads, by field: what is not there is looked up in the payloads themselves."""
        self.memo = FilterMemo()
        rows, dim = header.row_count, header.dim
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
        self._searched = [
            _SearchedVector(
                column, column.of(self._vectors), graph, vector.row_count, self._rows_with(column, vector)
            )
            for column, vector, graph in zip(header.layout.columns, header.vectors, graphs, strict=True)
        ]
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
    def graphs(self) -> tuple[HnswGraph | None, ...]:
        """By the number of their vector; None where the distance has none, no row has the vector, or it was damaged."""
        return tuple(searched.graph for searched in self._searched)

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
        """Bytes of the files that are mapped: all but the graphs', which are on the heap."""
        return sum(seal.byte_count for name, seal in self.header.files.items() if name not in files.GRAPHS)

    @property
    def memory_size(self) -> SealedSize:
        """What the memory model has to know."""
        return SealedSize(
            graphs=tuple(
                GraphSize(vector.size, vector.hnsw.m, searched.graph.capacity, vector.row_count)
                for vector, searched in zip(self.header.vectors, self._searched, strict=True)
                if searched.graph is not None
            ),
            row_count=self.row_count,
            named_row_count=sum(len(searched.rows) for searched in self._searched if searched.rows is not None),
            has_dead=self._alive is not None,
            filter_bytes=self.memo.byte_count,
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
        """See VectorIndex. Never fewer than k rows where the segment has them."""
        if plan.filter is not None:
            return self._search_matching(queries, plan, matches_of(self, plan.filter))
        k, searched = plan.k, self._searched[plan.vector]
        if plan.exact or searched.graph is None or searched.byte_count <= self.exact_scan_bytes:
            return self._scan(queries, k, searched)
        if k >= searched.row_count:
            return self._scan(queries, k, searched)
        living = self._living_with(searched, self._alive)
        return self._by_graph(queries, _Walk(searched, self._alive, k, living, max(plan.ef, k)))

    def _search_matching(self, queries: Vectors, plan: SearchPlan, matches: Matches) -> SegmentHits:
        """The same among the rows that match a filter; how, shards/filter_plan.py says."""
        k, searched = plan.k, self._searched[plan.vector]
        alive = None if self._alive is None else self._alive[matches.rows]
        if searched.rows is not None:
            having = ~np.isnan(self._vectors[matches.rows, searched.column.start])
            alive = having if alive is None else alive & having
        living = len(matches.rows) if alive is None else int(np.count_nonzero(alive))
        candidates = candidates_for(max(plan.ef, k), living, searched.row_count)
        if plan.exact or searched.graph is None or is_scan_cheaper(candidates, living, searched.row_count):
            matrix = self.memo.gather(matches, plan.vector, searched.matrix)
            found = scan(matrix, queries, k, searched.column.distance, alive)
            if not len(matches.rows):
                return found
            return SegmentHits(np.where(found.rows < 0, -1, matches.rows[found.rows]), found.distances)
        mask = matches.mask if self._alive is None else matches.mask & self._alive
        return self._by_graph(queries, _Walk(searched, mask, k, living, candidates))

    def _by_graph(self, queries: Vectors, walk: _Walk) -> SegmentHits:
        hits = self._walk(queries, walk.candidates, walk.searched)
        if walk.alive is None and hits.is_full:
            return SegmentHits(hits.rows[:, : walk.k], hits.distances[:, : walk.k], True)
        hits = self._living(hits, walk.k, walk.alive)
        if walk.living:
            self._refill(queries, walk, hits, np.flatnonzero(hits.rows[:, min(walk.k, walk.living) - 1] < 0))
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

    def _rows_with(self, column: VectorColumn, vector: files.SegmentVector) -> Rows | None:
        """Which rows have a vector, None for all. Raises Corrupt where the file and the header do not agree."""
        if vector.row_count == self.row_count:
            return None
        rows = np.flatnonzero(~np.isnan(self._vectors[:, column.start]))
        if len(rows) != vector.row_count:
            raise Corrupt(
                f"{self.folder / files.VECTORS} has {len(rows)} rows with vector {column.name!r}, the header says"
                f" {vector.row_count}"
            )
        return rows

    @property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        return self._alive

    @property
    def vector_rows(self) -> dict[str, BitMap | None]:
        """See Filtered."""
        return {
            searched.column.name: None if searched.rows is None else BitMap(array("I", searched.rows.tolist()))
            for searched in self._searched
        }

    def _living_with(self, searched: _SearchedVector, alive: npt.NDArray[np.bool_] | None) -> int:
        """How many rows count and have a vector. Cost: a pass over them where not all count."""
        if alive is None:
            return searched.row_count
        if searched.rows is not None:
            return int(np.count_nonzero(alive[searched.rows]))
        return self.live_count if alive is self._alive else int(np.count_nonzero(alive))

    def _walk(self, queries: Vectors, candidates: int, searched: _SearchedVector) -> SegmentHits:
        """What the graph finds, by row numbers."""
        assert searched.graph is not None
        hits = searched.graph.search(queries, candidates)
        if searched.rows is None:
            return hits
        return hits._replace(rows=np.where(hits.rows < 0, -1, searched.rows[hits.rows]))

    def _scan(
        self, queries: Vectors, k: int, searched: _SearchedVector, alive: npt.NDArray[np.bool_] | None = None
    ) -> SegmentHits:
        """Every row that counts and has the vector; `alive` None: those that live."""
        alive = self._alive if alive is None else alive
        if searched.rows is not None:
            having = np.zeros(self.row_count, np.bool_)
            having[searched.rows if alive is None else searched.rows[alive[searched.rows]]] = True
            alive = having
        return scan(searched.matrix, queries, k, searched.column.distance, alive)

    @staticmethod
    def _living(hits: SegmentHits, k: int, alive: npt.NDArray[np.bool_] | None) -> SegmentHits:
        """The first k rows of each query that count, in order, padded."""
        dead = hits.rows < 0 if alive is None else (hits.rows < 0) | ~alive[hits.rows]
        if not dead.any():
            return SegmentHits(hits.rows[:, :k], hits.distances[:, :k], True)
        distances = np.where(dead, np.float32(np.inf), hits.distances)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return SegmentHits(np.where(dead, -1, hits.rows), distances).picked(nearest)

    def _refill(self, queries: Vectors, plan: _Walk, hits: SegmentHits, short: Rows) -> None:
        """Ask for more where too many candidates did not count; scan where that does not help either."""
        candidates, wider = WIDEN_FACTOR * plan.candidates, None
        if len(short) and not is_scan_cheaper(candidates, plan.living, plan.searched.row_count):
            wider = self._living(self._walk(queries[short], candidates, plan.searched), plan.k, plan.alive)
        for place, row in enumerate(short):
            filled = None if wider is None else SegmentHits(wider.rows[place], wider.distances[place])
            if filled is None or filled.rows[min(plan.k, plan.living) - 1] < 0:
                scanned = self._scan(queries[row : row + 1], plan.k, plan.searched, plan.alive)
                filled = SegmentHits(scanned.rows[0], scanned.distances[0])
            hits.rows[row, : len(filled.rows)] = filled.rows
            hits.distances[row, : len(filled.rows)] = filled.distances


def open_segment(folder: Path, lsn: int, graphs: tuple[HnswGraph | None, ...] | None = None) -> SealedSegment:
    """Open a segment whose every file is first compared with its header; `graphs` where they were just built.

    What is damaged and can be made anew becomes the segment's `damages`. Raises Corrupt, naming folder and file, for any
    other damage. Damaged bytes never reach hnswlib, nor do those of another graph.
    """
    header = files.read_header(folder)
    if graphs is not None:
        return SealedSegment(folder, header, graphs, lsn)
    damages = files.verify(folder, header)
    for damage in damages:
        if damage.file not in files.REBUILDABLE:
            raise Corrupt(f"{folder / damage.file} is damaged: {damage.reason}")
    damaged = {damage.file for damage in damages}
    loaded: list[HnswGraph | None] = []
    for name, vector in zip(files.GRAPHS, header.vectors, strict=False):
        graph = None
        if name in header.files and name not in damaged:
            try:
                graph = HnswGraph.load(folder / name, vector.shape, vector.row_count)
            except Corrupt as error:
                damages.append(files.Damage(name, error.message))
        loaded.append(graph)
    return SealedSegment(folder, header, tuple(loaded), lsn, tuple(damages))
