"""What a search finds: for each of `nq` queries the nearest points, nearest first.

Columns, padded to the same width k. `counts[q]` says how many of row q are real; the rest of the row is padding
(distance +inf). Ties are broken by key, so equal data gives equal answers whatever order it arrived in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.point_ids import NARROW, KeyArray


@dataclass(frozen=True, slots=True)
class Hits:
    """counts int32 (nq,); distances float32 (nq, k); keys key array (nq, k); versions uint64 (nq, k), the LSN of each
    point's last write; payloads: nq * k JSON documents in row order (b"" for none) where asked for; vectors
    float32 (nq, k, dim) where asked for.
    """

    counts: npt.NDArray[np.int32]
    distances: npt.NDArray[np.float32]
    keys: KeyArray
    versions: npt.NDArray[np.uint64]
    payloads: list[bytes] | None = None
    vectors: Vectors | None = None

    @property
    def query_count(self) -> int:
        return len(self.counts)

    @property
    def width(self) -> int:
        return int(self.distances.shape[1])

    def slice(self, start: int, end: int) -> Hits:
        """The answers of queries start to end."""
        width = self.width
        return Hits(
            self.counts[start:end],
            self.distances[start:end],
            self.keys[start:end],
            self.versions[start:end],
            None if self.payloads is None else self.payloads[start * width : end * width],
            None if self.vectors is None else self.vectors[start:end],
        )


def no_hits(query_count: int, with_payload: bool = False, dim: int | None = None) -> Hits:
    """The answer of an empty shard; `dim` where vectors were asked for."""
    return Hits(
        np.zeros(query_count, np.int32),
        np.zeros((query_count, 0), np.float32),
        np.zeros((query_count, 0), NARROW),
        np.zeros((query_count, 0), np.uint64),
        [] if with_payload else None,
        None if dim is None else np.zeros((query_count, 0, dim), np.float32),
    )
