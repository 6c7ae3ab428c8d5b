"""The only file that imports hnswlib: one graph, and a guard for each of the library's traps.

- Its `ef` is one number for the whole index, but a search uses max(ef, k). So ef is set to 1 once, and a search asks
  for k = its own ef: every query has its own, and none races another.
- `knn_query` throws for the whole batch when one row finds fewer than k. k is clamped to what the graph holds; on a
  throw each row is tried alone, and the rows that still fail come back unfound for the caller to scan.
- `save_index` ignores I/O errors and holds the interpreter: shards/graph_file.py writes the file; its length is compared
  with what the index says of itself; the caller checksums.
- `load_index` trusts its bytes: callers verify length and checksum first (shards/segment_files.py does), and the file's
  own header is compared with the shape that is expected (shards/graph_file.py).
- Adding and searching at once is not allowed: a graph is built by one owner, then only searched.

Cosine vectors arrive normalised, so they use the `ip` space: hnswlib's `cosine` would normalise again at each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from shards.batch import Vectors
from shards.distance import Distance
from shards.errors import Corrupt, StorageFull
from shards.graph_file import GraphFileShape, check_parameters, read_graph, write_graph
from shards.index import SegmentHits
from shards.schema import HnswSpec

_FILLED = {"index_inited": True, "ep_added": True, "ef": 1, "has_deletions": False, "allow_replace_deleted": False}
"""What an index that has rows says of itself, beside what its file tells."""

_SPACES = {Distance.COSINE: "ip", Distance.DOT: "ip", Distance.EUCLID: "l2"}


def has_graph(distance: Distance) -> bool:
    """Whether hnswlib has a space for this distance."""
    return distance in _SPACES


@dataclass(frozen=True, slots=True)
class GraphShape:
    """What a graph is made of; the same shape is needed to load it."""

    dim: int
    distance: Distance
    hnsw: HnswSpec

    def file_shape(self, row_count: int) -> GraphFileShape:
        """What the file of such a graph has to be."""
        return GraphFileShape(self.dim, self.hnsw.m, row_count)


class HnswGraph:
    """A graph whose labels are row numbers."""

    def __init__(self, shape: GraphShape, index: hnswlib.Index) -> None:
        self.shape = shape
        self._index = index
        self._index.set_ef(1)
        self._row_count = int(index.get_current_count())

    @classmethod
    def empty(cls, shape: GraphShape, capacity: int) -> HnswGraph:
        """A graph without rows, with room for `capacity`. Building the same rows in the same order on one thread
        gives the same graph: the level generator has a fixed seed.
        """
        index = hnswlib.Index(space=_SPACES[shape.distance], dim=shape.dim)
        index.init_index(max_elements=max(1, capacity), M=shape.hnsw.m, ef_construction=shape.hnsw.ef_construction)
        return cls(shape, index)

    @classmethod
    def load(cls, path: Path, shape: GraphShape, row_count: int) -> HnswGraph:
        """The graph that `save` wrote. The caller has verified the file's length and checksum.

        Raises Corrupt where it is a graph of another shape, and hnswlib has not seen a byte of it.
        """
        check_parameters(path, shape.file_shape(row_count))
        index = hnswlib.Index(space=_SPACES[shape.distance], dim=shape.dim)
        try:
            index.load_index(str(path), max_elements=row_count)
        except RuntimeError as error:
            raise Corrupt(f"{path} could not be loaded: {error}") from error
        if index.get_current_count() != row_count or index.M != shape.hnsw.m:
            raise Corrupt(
                f"{path} holds {index.get_current_count()} rows with m={index.M}, not {row_count}, {shape.hnsw.m}"
            )
        return cls(shape, index)

    def __len__(self) -> int:
        return self._row_count

    @property
    def capacity(self) -> int:
        return int(self._index.get_max_elements())

    def add(self, vectors: Vectors, first_row: int, threads: int) -> None:
        """Insert rows first_row, first_row + 1, …; room is doubled where it ends. Releases the GIL."""
        needed = len(self) + len(vectors)
        if needed > self.capacity:
            self._index.resize_index(max(needed, 2 * self.capacity))
        self._index.add_items(vectors, np.arange(first_row, first_row + len(vectors)), num_threads=threads)
        self._row_count = int(self._index.get_current_count())

    def search(self, queries: Vectors, ef: int) -> SegmentHits:
        """The ef nearest rows to each prepared query, dead or alive, nearest first. Releases the GIL.

        A row of the answer that the graph could not fill is all -1: scan for that query.
        """
        ef = min(ef, self._row_count)
        try:
            labels, distances = self._index.knn_query(queries, k=ef, num_threads=1)
        except RuntimeError:
            return self._search_each(queries, ef)
        return SegmentHits(labels.view(np.int64), distances, True)

    def _search_each(self, queries: Vectors, ef: int) -> SegmentHits:
        rows = np.full((len(queries), ef), -1, np.int64)
        distances = np.full((len(queries), ef), np.inf, np.float32)
        for number, query in enumerate(queries):
            try:
                labels, found = self._index.knn_query(query, k=ef, num_threads=1)
            except RuntimeError:
                continue
            rows[number], distances[number] = labels[0].view(np.int64), found[0]
        return SegmentHits(rows, distances)

    def copy(self, capacity: int) -> HnswGraph:
        """The same graph with room for `capacity` rows (at least its own)."""
        state = self._state()
        state["max_elements"] = max(capacity, state["max_elements"])
        return HnswGraph(self.shape, hnswlib.Index(params=state))

    @classmethod
    def copied(cls, path: Path, shape: GraphShape, row_count: int, capacity: int) -> HnswGraph:
        """The same from the file that `save` wrote, whose checksum the caller has verified: hnswlib holds the interpreter only
        while it takes the arrays over, half as long as where it has to give them, too. Raises Corrupt as `load` does.
        """
        state = read_graph(path, shape.file_shape(row_count))
        index = hnswlib.Index(space=_SPACES[shape.distance], dim=shape.dim)
        own: dict[str, Any] = dict(index.__getstate__()[0])
        return cls(shape, hnswlib.Index(params={**own, **_FILLED, **state, "max_elements": max(capacity, row_count)}))

    def save(self, path: Path) -> None:
        """Write the graph. Its bytes are not yet durable, nor checked beyond their number."""
        try:
            write_graph(path, self._state())
            written = path.stat().st_size
        except OSError as error:
            raise StorageFull(f"the graph could not be written to {path}: {error}") from error
        expected = int(self._index.index_file_size())
        if written != expected:
            raise StorageFull(f"{path} has {written} bytes instead of {expected}: the disk is full or failing")

    def _state(self) -> dict[str, Any]:
        """Copies of everything that the graph consists of. hnswlib holds the interpreter meanwhile: 30 to 60 ms for 200,000
        rows of 50 dimensions; its own save took 130 to 230, its load as long.
        """
        state: tuple[dict[str, Any]] = self._index.__getstate__()
        return dict(state[0])
