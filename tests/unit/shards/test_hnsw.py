"""A guard for each of hnswlib's traps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest

from shards import hnsw
from shards.distance import Distance
from shards.errors import Corrupt, StorageFull
from shards.graph_file import write_graph
from shards.hnsw import GraphShape, HnswGraph, has_graph
from shards.schema import HnswSpec
from tests.shard_oracle import DIM, vectors_of

SHAPE = GraphShape(DIM, Distance.EUCLID, HnswSpec(m=6, ef_construction=40))
COUNT = 60


@pytest.fixture
def graph() -> HnswGraph:
    built = HnswGraph.empty(SHAPE, COUNT)
    built.add(vectors_of(range(COUNT)), 0, 1)
    return built


def test_each_vector_is_its_own_nearest_row(graph: HnswGraph) -> None:
    found = graph.search(vectors_of(range(COUNT)), 8)
    assert found.rows[:, 0].tolist() == list(range(COUNT))
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert found.rows.dtype == np.int64


def test_more_than_it_holds_is_clamped(graph: HnswGraph) -> None:
    assert graph.search(vectors_of([1, 2]), 10_000).rows.shape == (2, COUNT)


def test_room_grows_where_it_ends(graph: HnswGraph) -> None:
    assert graph.capacity == COUNT
    graph.add(vectors_of([900]), COUNT, 1)
    assert (len(graph), graph.capacity) == (COUNT + 1, 2 * COUNT)
    assert graph.search(vectors_of([900]), 4).rows[0, 0] == COUNT


class Failing:
    """An index that finds too little for some queries, as hnswlib does: it throws for the whole batch."""

    def __init__(self, index: hnswlib.Index, bad: np.ndarray) -> None:
        self._index = index
        self._bad = bad

    def get_current_count(self) -> int:
        return self._index.get_current_count()

    def knn_query(self, queries: np.ndarray, k: int, num_threads: int) -> tuple[np.ndarray, np.ndarray]:
        if any(np.array_equal(query, self._bad) for query in np.atleast_2d(queries)):
            raise RuntimeError("Cannot return the results in a contiguous 2D array. Probably ef or M is too small")
        return self._index.knn_query(queries, k=k, num_threads=num_threads)


def test_one_query_that_can_not_be_filled_does_not_spoil_the_others(graph: HnswGraph) -> None:
    queries = vectors_of([5, 6, 7])
    graph._index = Failing(graph._index, queries[1])
    found = graph.search(queries, 8)
    assert found.rows[[0, 2], 0].tolist() == [5, 7]
    assert (found.rows[1] == -1).all()
    assert np.isinf(found.distances[1]).all()


def test_saved_and_loaded_it_finds_the_same(graph: HnswGraph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph")
    loaded = HnswGraph.load(tmp_path / "graph", SHAPE, COUNT)
    queries = vectors_of(range(300, 310))
    np.testing.assert_array_equal(loaded.search(queries, 12).rows, graph.search(queries, 12).rows)


@pytest.mark.parametrize(
    ("shape", "row_count"),
    [(SHAPE, COUNT - 1), (SHAPE, COUNT + 1), (GraphShape(DIM, Distance.EUCLID, HnswSpec(m=7)), COUNT)],
)
def test_a_graph_of_other_rows_or_links_is_corrupt(
    graph: HnswGraph, tmp_path: Path, shape: GraphShape, row_count: int
) -> None:
    graph.save(tmp_path / "graph")
    with pytest.raises(Corrupt, match=r"graph is another graph than the segment|graph has .* too few for"):
        HnswGraph.load(tmp_path / "graph", shape, row_count)


def test_a_file_that_is_written_short_is_noticed(
    graph: HnswGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(path: Path, state: dict[str, Any]) -> None:
        write_graph(path, state)
        os.truncate(path, path.stat().st_size - 1)

    monkeypatch.setattr(hnsw, "write_graph", short)
    with pytest.raises(StorageFull, match="instead of"):
        graph.save(tmp_path / "graph")


def test_the_file_is_what_hnswlib_itself_writes(graph: HnswGraph, tmp_path: Path) -> None:
    graph.save(tmp_path / "ours")
    graph._index.save_index(str(tmp_path / "its own"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "its own").read_bytes()


@pytest.mark.parametrize("capacity", [0, COUNT, 2 * COUNT])
def test_a_copy_finds_the_same_and_grows_alone(graph: HnswGraph, capacity: int) -> None:
    copied = graph.copy(capacity)
    assert copied.capacity == max(capacity, graph.capacity)
    queries = vectors_of(range(500, 510))
    for one, other in zip(graph.search(queries, 20), copied.search(queries, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    copied.add(vectors_of([9_000]), len(copied), 1)
    assert (len(graph), len(copied)) == (COUNT, COUNT + 1)
    assert copied.search(vectors_of([9_000]), 5).rows[0, 0] == COUNT


def test_a_folder_that_is_not_there_is_noticed(graph: HnswGraph, tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="could not be written"):
        graph.save(tmp_path / "missing" / "graph")


def test_the_same_rows_make_the_same_graph(tmp_path: Path) -> None:
    for name in ("one", "other"):
        built = HnswGraph.empty(SHAPE, COUNT)
        built.add(vectors_of(range(COUNT)), 0, 1)
        built.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_manhattan_has_no_graph() -> None:
    assert [has_graph(distance) for distance in Distance] == [True, True, True, False]


def test_a_copy_from_the_file_is_the_copy_of_the_graph(graph: HnswGraph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph")
    copies = [graph.copy(COUNT + 5), HnswGraph.copied(tmp_path / "graph", SHAPE, COUNT, COUNT + 5)]
    more = vectors_of(range(5_000, 5_005), DIM)
    for copy in copies:
        assert copy.capacity == COUNT + 5
        copy.add(more, COUNT, 1)
        assert len(copy) == COUNT + 5
    first, second = (copy.search(vectors_of(range(7_000, 7_020), DIM), 20) for copy in copies)
    np.testing.assert_array_equal(first.rows, second.rows)
    assert len(graph) == COUNT
