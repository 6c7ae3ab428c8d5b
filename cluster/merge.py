"""One answer from many shards' answers. Pure.

The merged top-k of disjoint shards is the top-k of their union: equal to a search over all points where each shard's
answer is exact. Ties are broken by id, so the order in which answers arrive makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.hits import Hits
from shards.point_ids import same_width

Places = npt.NDArray[np.intp]
"""Places in all parts' hits, side by side: (query count, k)."""


def merge_hits(parts: Sequence[Hits], k: int, offset: int = 0) -> Hits:
    """For each query the hits at places offset to offset + k of all parts together, nearest first.

    At least one part; all of the same number of queries, and all with payloads or vectors where one has them.
    Cost: about 30 us for one query and two shards; one sort of all rows for a batch.
    """
    distances = np.concatenate([part.distances for part in parts], axis=1)
    keys = np.concatenate(same_width([part.keys for part in parts]), axis=1)
    versions = np.concatenate([part.versions for part in parts], axis=1)
    order = np.lexsort((keys, distances), axis=1)[:, offset : offset + k]  # padding is +inf: it sorts last
    lines = np.arange(len(distances))[:, None]
    return Hits(
        _merged_counts(parts, offset, order.shape[1]),
        distances[lines, order],
        keys[lines, order],
        versions[lines, order],
        _merged_payloads(parts, order),
        _merged_vectors(parts, lines, order),
    )


def _merged_counts(parts: Sequence[Hits], offset: int, width: int) -> npt.NDArray[np.int32]:
    counts = parts[0].counts - np.int32(offset)
    for part in parts[1:]:
        counts += part.counts
    np.maximum(counts, 0, out=counts)
    return np.minimum(counts, width, out=counts)


def _merged_payloads(parts: Sequence[Hits], order: Places) -> list[bytes] | None:
    if parts[0].payloads is None:
        return None
    merged: list[bytes] = []
    for query, places in enumerate(order.tolist()):
        line: list[bytes] = []
        for part in parts:
            assert part.payloads is not None, "all shards were asked alike"
            line += part.payloads[query * part.width : (query + 1) * part.width]
        merged += [line[place] for place in places]
    return merged


def _merged_vectors(
    parts: Sequence[Hits],
    lines: Places,
    order: Places,
) -> Vectors | None:
    if parts[0].vectors is None:
        return None
    vectors = [part.vectors for part in parts if part.vectors is not None]
    return np.concatenate(vectors, axis=1)[lines, order]
