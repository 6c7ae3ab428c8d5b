"""What a search finds: for each of `nq` queries the nearest points, nearest first.

Columns, padded to the same width k. `counts[q]` says how many of row q are real; the rest of the row is padding
(distance +inf, the others anything). A shard works on whole arrays (Hits); whoever gathers from shards reads the same
columns as flat lists (HitLists), because a merge of a few dozen hits costs a fraction of what as many array operations cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.generations import NO_STAMP, Stamp
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


@dataclass(slots=True)
class HitLists:
    """The same columns as plain lists, query after query, `width` places each, padding included.

    payload_offsets: where each place's payload starts and ends in `payloads`; vectors float32 (nq, width, dim); both
    only where they were asked for. `stamp`: the moment that they are of; `body`: as they travelled, if they did.
    """

    counts: list[int]
    width: int
    distances: list[float]
    keys: list[int]
    versions: list[int]
    payload_offsets: list[int] | None = None
    payloads: memoryview | bytes = b""
    vectors: Vectors | None = None
    stamp: Stamp = NO_STAMP
    body: memoryview | bytes = b""

    def take(self, queries: Sequence[int]) -> HitLists:
        """The hits of these queries, in their order; copies."""
        places = [place for query in queries for place in range(query * self.width, (query + 1) * self.width)]
        taken = HitLists(
            [self.counts[query] for query in queries],
            self.width,
            [self.distances[place] for place in places],
            [self.keys[place] for place in places],
            [self.versions[place] for place in places],
        )
        if self.payload_offsets is not None:
            payloads = [self.payload(place) for place in places]
            taken.payload_offsets = [0, *accumulate(map(len, payloads))]
            taken.payloads = b"".join(payloads)
        if self.vectors is not None:
            taken.vectors = self.vectors[list(queries)]
        return taken

    def payload(self, place: int) -> bytes:
        """The JSON document of one place, b"" for none. Only where payloads were asked for."""
        assert self.payload_offsets is not None
        return bytes(self.payloads[self.payload_offsets[place] : self.payload_offsets[place + 1]])

    def vector(self, place: int) -> Vectors:
        """The vector of one place, (dim,). Only where vectors were asked for."""
        assert self.vectors is not None
        return self.vectors[place // self.width, place % self.width]


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
