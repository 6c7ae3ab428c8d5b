"""Builds one sealed segment, batch by batch: for a seal (one batch) and for a bulk load (many).

Vectors and payloads go to their files as they come; the graph grows in memory; keys wait on the heap. `finish` makes
everything durable and renames the folder. Not for two threads at once. Cost: hnswlib's insertion, plus one sequential
write.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from shards import segment_files as files
from shards.batch import PointBatch, Vectors
from shards.disk import REAL_DISK, Disk
from shards.errors import StorageFull
from shards.hnsw import GraphShape, HnswGraph, has_graph
from shards.point_ids import KeyArray, newest_of_equal, same_width
from shards.schema import CollectionSpec
from shards.vector_layout import VectorColumn

Graphs = tuple[HnswGraph | None, ...]
"""By the number of their vector; None where it has none."""

BUILDING_SUFFIX = ".building"
_COPY_BYTES = 4 * 1024 * 1024


class SegmentBuilder:
    """One segment in the making, at `<folder>.building`."""

    def __init__(
        self, folder: Path, spec: CollectionSpec, capacity: int, threads: int = 1, disk: Disk = REAL_DISK
    ) -> None:
        self.folder = folder
        self.row_count = 0
        self._layout = spec.layout
        self._shapes = [
            GraphShape(column.size, column.distance, spec.hnsw_of(column)) for column in spec.layout.columns
        ]
        self._failure: StorageFull | None = None
        self._threads = threads
        self._disk = disk
        self._building = folder.with_name(folder.name + BUILDING_SUFFIX)
        self._graphs = [
            HnswGraph.empty(shape, capacity) if has_graph(shape.distance) else None for shape in self._shapes
        ]
        self._vector_counts = [0] * len(self._shapes)
        """How many rows have each vector."""
        self._keys: list[KeyArray] = []
        self._payload_lengths: list[npt.NDArray[np.uint64]] = []
        try:
            disk.remove_tree(self._building)
            disk.make_folder(self._building)
            self._vectors: BinaryIO = open(self._building / files.VECTORS, "wb")  # noqa: SIM115 (finish or abort)
            self._payloads: BinaryIO = open(self._building / files.PAYLOAD, "wb")  # noqa: SIM115
        except OSError as error:
            raise self._fail(error) from error

    def add(self, batch: PointBatch) -> None:
        """Append prepared points. Of a key that comes twice the last row lives. Releases the GIL for the graph.

        Raises StorageFull; from then on the segment can't be finished, for nobody knows what of the batch is in the files.
        """
        self.check_whole()
        try:
            self._vectors.write(np.ascontiguousarray(batch.vectors).data)
            self._payloads.write(batch.payloads)
        except OSError as error:
            raise self._fail(error) from error
        for number, column in enumerate(self._layout.columns):
            self._insert(number, column, batch.vectors)
        self._keys.append(batch.keys.copy())
        self._payload_lengths.append(np.diff(batch.payload_offsets))
        self.row_count += len(batch)

    def _insert(self, number: int, column: VectorColumn, rows: Vectors) -> None:
        """Add the rows that have a vector to its graph, under the next labels."""
        gaps = column.missing(rows)
        vectors = column.of(rows) if gaps is None else column.of(rows)[~gaps]
        if (graph := self._graphs[number]) is not None and len(vectors):
            graph.add(vectors, self._vector_counts[number], self._threads)
        self._vector_counts[number] += len(vectors)

    def copy(self, source: Path, header: files.SegmentHeader, graphs: Graphs) -> None:
        """Begin with all rows of a sealed segment in the folder `source`, before any are added: its files and its graphs.

        The caller has compared the files with their checksums. Raises StorageFull.
        """
        assert self.row_count == 0, "a copied segment's rows come first"
        try:
            for name, target in ((files.VECTORS, self._vectors), (files.PAYLOAD, self._payloads)):
                with open(source / name, "rb") as file:
                    shutil.copyfileobj(file, target, _COPY_BYTES)
        except OSError as error:
            raise self._fail(error) from error
        for number, graph in enumerate(graphs):
            if graph is not None and (empty := self._graphs[number]) is not None:
                self._graphs[number] = self._copied(source, header, number, graph, empty.capacity)
        self._vector_counts = [vector.row_count for vector in header.vectors]
        self._keys.append(np.array(files.map_keys(source, header)))
        offsets = files.map_array(source / files.OFFSETS, np.dtype(np.uint64))
        self._payload_lengths.append(np.diff(offsets))
        self.row_count = header.row_count

    @staticmethod
    def _copied(source: Path, header: files.SegmentHeader, number: int, graph: HnswGraph, capacity: int) -> HnswGraph:
        """From its file where that is whole: that disturbs searches less than copying what they search."""
        name, vector = files.GRAPHS[number], header.vectors[number]
        if name in header.files and files.damage_of(source, header, name) is None:
            return HnswGraph.copied(source / name, vector.shape, vector.row_count, capacity)
        return graph.copy(capacity)

    def finish(self, versions: npt.NDArray[np.uint64] | None) -> int:
        """Make the segment durable under its final name; `versions` (rows,) where rows differ in theirs.

        Returns how many rows were superseded by a later row of the same key. Raises StorageFull; after an error of
        the disk for good, for what a failed fsync was for may be lost, although a second one succeeds.
        """
        self.check_whole()
        try:
            return self._finish(versions)
        except OSError as error:
            raise self._fail(error) from error

    def _finish(self, versions: npt.NDArray[np.uint64] | None) -> int:
        self._close_files()
        keys = np.concatenate(same_width(self._keys))
        order = np.argsort(keys, kind="stable")
        live_count = int(newest_of_equal(keys[order]).sum())
        self._write(files.KEYS, keys)
        self._write(files.ORDER, order)
        offsets = np.zeros(self.row_count + 1, np.uint64)
        np.cumsum(np.concatenate(self._payload_lengths), out=offsets[1:])
        self._check_length(files.VECTORS, 4 * self.row_count * self._layout.dim)
        self._check_length(files.PAYLOAD, int(offsets[-1]))
        self._write(files.OFFSETS, offsets)
        if versions is not None:
            self._write(files.VERSIONS, versions)
        for name, graph in zip(files.GRAPHS, self._graphs, strict=False):
            if graph is not None and len(graph):
                graph.save(self._building / name)
        seals = {path.name: files.seal_file(path, self._disk) for path in sorted(self._building.iterdir())}
        files.write_header(
            self._building,
            files.SegmentHeader(
                row_count=self.row_count,
                live_count=live_count,
                key_bytes=keys.dtype.itemsize,
                vectors=self._described(),
                files=seals,
            ),
            self._disk,
        )
        self._disk.fsync_folder(self._building)
        # What stands there already is a crash's leftover that no manifest names, or one that is to be replaced.
        self._disk.remove_tree(self.folder)
        self._disk.rename_durably(self._building, self.folder)
        return self.row_count - live_count

    def check_whole(self) -> None:
        """Raises the StorageFull that an earlier write met: then the files hold nobody knows what."""
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            self._close_files()
        self._disk.remove_tree(self._building)

    @property
    def graphs(self) -> Graphs:
        """The graphs that were built; once finished, they may be searched instead of being loaded again."""
        return tuple(None if graph is None or not len(graph) else graph for graph in self._graphs)

    def _described(self) -> tuple[files.SegmentVector, ...]:
        return tuple(
            files.SegmentVector(
                name=column.name, size=column.size, distance=column.distance, hnsw=shape.hnsw, row_count=count
            )
            for column, shape, count in zip(self._layout.columns, self._shapes, self._vector_counts, strict=True)
        )

    def _close_files(self) -> None:
        try:
            self._vectors.close()
        finally:
            self._payloads.close()

    def _fail(self, error: OSError) -> StorageFull:
        self._failure = StorageFull(f"writing a segment to {self._building} failed: {error}; begin it again")
        return self._failure

    def _check_length(self, name: str, expected: int) -> None:
        written = (self._building / name).stat().st_size
        if written != expected:
            raise StorageFull(f"{self._building / name} has {written} bytes instead of {expected}; begin it again")

    def _write(self, name: str, array: npt.NDArray[np.generic]) -> None:
        try:
            with open(self._building / name, "wb") as file:
                file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        except OSError as error:
            raise StorageFull(f"writing {name} of a segment to {self._building} failed: {error}") from error


assert np.dtype(np.intp).itemsize == 8, "order.i64 is used as numpy's own index type, without a copy"
