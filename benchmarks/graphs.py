"""hnswlib alone: what one core can do without anything around it, over one graph of all points or over the shards'
own.

The graphs of the shards are those that Shoal has built and searches: they are read from its data folder. Every graph
is asked for k with hnswlib's own ef, all queries in one call: its fastest way. Merging several graphs' answers is not
timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import hnswlib
import numpy as np
import numpy.typing as npt

from benchmarks.datasets import Dataset, Floats, Ids, K, recall
from cluster.slots import SLOT_COUNT, slots_of
from shards.schema import HnswSpec
from shards.segment_files import GRAPHS, KEYS, read_header

EF_LADDER = (12, 16, 24, 32, 40, 48, *range(56, 129, 4), 160, 192, 256, 384, 512)
HNSW = HnswSpec()
BUILD_BLOCK = 10_000
SINGLE_FILE = "single.hnsw"


@dataclass(frozen=True)
class Graph:
    """A graph and the ids (rows,) of its labels."""

    index: hnswlib.Index
    ids: Ids


@dataclass(frozen=True)
class Measured:
    """One search of all queries: queries per second, recall@10."""

    rate: float
    recall: float


def search(graphs: Sequence[Graph], data: Dataset, ef: int, threads: int = 1) -> Measured:
    """All queries over all graphs, one graph after the other."""
    found, spent_s = search_ids(graphs, data.queries, ef, threads)
    return Measured(len(data.queries) / spent_s, recall(found, data.truth))


def search_ids(graphs: Sequence[Graph], queries: Floats, ef: int, threads: int = 1) -> tuple[Ids, float]:
    """The ids of the K nearest of all graphs, (nq, K), and the seconds that hnswlib spent."""
    ids, distances = [], []
    spent_s = 0.0
    for graph in graphs:
        graph.index.set_ef(ef)
        began = perf_counter()
        labels, found = graph.index.knn_query(queries, k=K, num_threads=threads)
        spent_s += perf_counter() - began
        ids.append(graph.ids[labels.astype(np.int64)])
        distances.append(found)
    nearest = np.argsort(np.concatenate(distances, axis=1), axis=1, kind="stable")[:, :K]
    return np.take_along_axis(np.concatenate(ids, axis=1), nearest, axis=1), spent_s


def smallest_ef(graphs: Sequence[Graph], data: Dataset, recall_min: float) -> int:
    """The first ef of the ladder that reaches the recall; the last if none does."""
    return next((ef for ef in EF_LADDER if search(graphs, data, ef).recall >= recall_min), EF_LADDER[-1])


def read_shard_graphs(data_folder: Path) -> list[Graph]:
    """Every sealed segment of the only collection in a data folder, as the cluster has written it."""
    graphs = []
    for path in sorted(data_folder.glob(f"shards/*/*/segments/*/{GRAPHS[0]}")):
        header = read_header(path.parent)
        index = hnswlib.Index(space="ip", dim=header.dim)
        index.load_index(str(path), max_elements=header.row_count)
        graphs.append(Graph(index, np.fromfile(path.parent / KEYS, np.uint64)))
    if not graphs:
        raise SystemExit(f"{data_folder} holds no sealed segment; run the part `load` first")
    return graphs


def build(vectors: Floats, threads: int) -> hnswlib.Index:
    """A graph of the vectors with Shoal's default parameters, labels = rows, added in blocks as a load adds them."""
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=HNSW.m, ef_construction=HNSW.ef_construction)
    for start in range(0, len(vectors), BUILD_BLOCK):
        block = np.ascontiguousarray(vectors[start : start + BUILD_BLOCK])
        index.add_items(block, np.arange(start, start + len(block)), num_threads=threads)
    return index


def build_side_by_side(data: Dataset, count: int) -> float:
    """Seconds to build one graph for each of `count` equal runs of slots, all at once, one thread each."""
    owners = slots_of(data.ids).astype(np.int64) * count // SLOT_COUNT
    parts = [np.ascontiguousarray(data.vectors[np.flatnonzero(owners == owner)]) for owner in range(count)]
    began = perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(build, parts, [1] * count))
    return perf_counter() - began


def single_graph(data: Dataset, threads: int) -> Graph:
    """The graph of all points, built once and kept with the data."""
    path = data.folder / SINGLE_FILE
    if not path.exists():
        save_single(data, build(data.vectors, threads))
    index = hnswlib.Index(space="ip", dim=data.spec.dim)
    index.load_index(str(path), max_elements=data.spec.point_count)
    return Graph(index, data.ids)


def save_single(data: Dataset, index: hnswlib.Index) -> None:
    """Keep a graph of all points for the parts that only search it."""
    unfinished = data.folder / (SINGLE_FILE + ".tmp")
    index.save_index(str(unfinished))
    unfinished.rename(data.folder / SINGLE_FILE)


def id_array(graphs: Sequence[Graph]) -> npt.NDArray[np.uint64]:
    """All ids that the graphs hold."""
    return np.concatenate([graph.ids for graph in graphs])
