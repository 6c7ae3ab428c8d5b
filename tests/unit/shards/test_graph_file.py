"""hnswlib's file without hnswlib: every graph that it writes passes, and every number that it would trust is looked at."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from shards.distance import Distance
from shards.errors import Corrupt
from shards.graph_file import GraphFileShape, check_links, check_parameters, read_graph, write_graph
from shards.hnsw import GraphShape, HnswGraph
from shards.schema import HnswSpec
from tests.shard_oracle import vectors_of

COUNT, DIM, M = 300, 8, 4
SHAPE = GraphFileShape(DIM, M, COUNT)
HEADER_BYTES = 96


def save(path: Path, count: int = COUNT, m: int = M, threads: int = 1) -> bytes:
    graph = HnswGraph.empty(GraphShape(DIM, Distance.EUCLID, HnswSpec(m=m, ef_construction=20)), count)
    graph.add(vectors_of(range(count), DIM), 0, threads)
    graph.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(("count", "m", "threads"), [(1, 4, 1), (2, 2, 1), (300, 4, 1), (300, 4, 3), (2_000, 16, 2)])
def test_every_graph_that_hnswlib_writes_is_right(tmp_path: Path, count: int, m: int, threads: int) -> None:
    save(tmp_path / "graph", count, m, threads)
    check_links(tmp_path / "graph", GraphFileShape(DIM, m, count))


@pytest.mark.parametrize("shape", [GraphFileShape(DIM + 1, M, COUNT), GraphFileShape(DIM, M + 1, COUNT)])
@pytest.mark.parametrize("count", [COUNT - 1, COUNT])
def test_another_shape_is_named(tmp_path: Path, shape: GraphFileShape, count: int) -> None:
    save(tmp_path / "graph")
    wrong = GraphFileShape(shape.dim, shape.m, count)
    with pytest.raises(Corrupt, match=r"another graph than the segment|too few for"):
        check_parameters(tmp_path / "graph", wrong)


def test_a_file_shorter_than_its_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "graph").write_bytes(b"")
    with pytest.raises(Corrupt, match="graph has 0 bytes, too few"):
        check_parameters(tmp_path / "graph", SHAPE)


# Each of hnswlib's numbers but two: the level factor and ef_construction matter to insertions alone.
NUMBERS = [("<Q", place) for place in (0, 8, 16, 24, 32, 40, 56, 64, 72)] + [("<i", 48), ("<I", 52)]


@pytest.mark.parametrize(("kind", "place"), NUMBERS)
def test_every_number_of_the_header_counts(tmp_path: Path, kind: str, place: int) -> None:
    content = bytearray(save(tmp_path / "graph"))
    for value in (0xFFFFFF, 0 if place else 1, -1 if kind == "<i" else 2**31):
        changed = content.copy()
        struct.pack_into(kind, changed, place, value)
        (tmp_path / "graph").write_bytes(changed)
        if changed != content and not (place == 8 and value >= COUNT):  # more room than rows is fine
            with pytest.raises(Corrupt):
                check_links(tmp_path / "graph", SHAPE)


def test_random_words_among_links_are_found_or_lead_to_rows(tmp_path: Path) -> None:
    """Whatever passes, hnswlib can load and search: it never leaves the graph."""
    content = bytearray(save(tmp_path / "graph"))
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        changed = content.copy()
        struct.pack_into(
            "<I", changed, int(random.integers(HEADER_BYTES, len(content) - 4)), int(random.integers(2**32))
        )
        (tmp_path / "graph").write_bytes(changed)
        try:
            check_links(tmp_path / "graph", SHAPE)
        except Corrupt:
            refused += 1
            continue
        spec = GraphShape(DIM, Distance.EUCLID, HnswSpec(m=M, ef_construction=20))
        found = HnswGraph.load(tmp_path / "graph", spec, COUNT).search(vectors_of([1], DIM), 20)
        assert found.rows.max() < COUNT
    assert refused > 50


def test_a_link_above_layer_0_has_to_lead_to_a_row_that_is_there(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "graph"))
    at, low, upper = SHAPE.layers_offset, None, None
    for row in range(COUNT):
        (byte_count,) = struct.unpack_from("<I", content, at)
        if not byte_count:
            low = row
        elif struct.unpack_from("<H", content, at + 4)[0]:
            upper = at + 8
        at += 4 + byte_count
    assert low is not None
    assert upper is not None
    struct.pack_into("<I", content, upper, low)
    (tmp_path / "graph").write_bytes(content)
    with pytest.raises(Corrupt, match=f"a link on layer 1 leads to row {low}, which is not on it"):
        check_links(tmp_path / "graph", SHAPE)


@pytest.mark.parametrize("change", [-1, 1, 4])
def test_another_length_is_named(tmp_path: Path, change: int) -> None:
    content = save(tmp_path / "graph")
    (tmp_path / "graph").write_bytes((content + bytes(8))[: len(content) + change])
    with pytest.raises(Corrupt, match="graph is no graph of 300 rows"):
        check_links(tmp_path / "graph", SHAPE)


def test_a_label_that_comes_twice_is_named(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "graph"))
    label_end = HEADER_BYTES + SHAPE.row_bytes
    content[label_end - 8 : label_end] = (1).to_bytes(8, "little")
    (tmp_path / "graph").write_bytes(content)
    with pytest.raises(Corrupt, match="row 0 has no label"):
        check_links(tmp_path / "graph", SHAPE)


@pytest.mark.parametrize(("count", "m"), [(1, 4), (40, 2), (600, 4), (600, 16)])
def test_what_is_read_is_what_was_written(tmp_path: Path, count: int, m: int) -> None:
    graph = HnswGraph.empty(GraphShape(DIM, Distance.EUCLID, HnswSpec(m=m, ef_construction=20)), count)
    graph.add(vectors_of(range(count), DIM), 0, 1)
    graph.save(tmp_path / "graph")
    shape = GraphFileShape(DIM, m, count)
    read = read_graph(tmp_path / "graph", shape)
    write_graph(tmp_path / "again", read)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "graph").read_bytes()
    given = graph._state()
    labels = dict(zip(given["label_lookup_external"].tolist(), given["label_lookup_internal"].tolist(), strict=True))
    assert labels == dict(
        zip(read["label_lookup_external"].tolist(), read["label_lookup_internal"].tolist(), strict=True)
    )
    for name in ("element_levels", "link_lists", "data_level0"):
        np.testing.assert_array_equal(read[name], given[name])
    same = {name for name in read if not name.startswith("label_lookup") and not isinstance(read[name], np.ndarray)}
    assert {name: read[name] for name in same} == {name: given[name] for name in same}
    with pytest.raises(Corrupt, match=r"too few|another graph"):
        read_graph(tmp_path / "graph", GraphFileShape(DIM + 1, m, count))
