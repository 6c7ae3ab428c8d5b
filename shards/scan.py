"""Exact search: every row is measured.

Used by the growing segment, by small sealed segments, by collections whose distance has no graph (Manhattan), and by
requests that ask for it. The distances of one query take 4 bytes a row; rows are taken in blocks, so that the scratch
memory stays bounded whatever the segment's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.distance import Distance, exact_distances
from shards.index import SegmentHits

BLOCK_BYTES = 32 * 1024 * 1024
"""Vector bytes measured at a time; L1 and L2 distances need as much scratch."""

SAMPLE_FRACTION = 16
"""One value of so many says where the k smallest end: 10 of 20,000 take 20 us, a partition of all 148."""

SPARSE_FRACTION_MAX = 0.3
"""Where fewer of the rows count, copying them together is faster than measuring all."""


def scan(
    matrix: Vectors, queries: Vectors, k: int, distance: Distance, alive: npt.NDArray[np.bool_] | None
) -> SegmentHits:
    """The k nearest living rows of `matrix` (count, dim) to each of `queries` (nq, dim), nearest first.

    `alive` (count,) says which rows count; None means all. Rows short of k are padded with row -1, distance +inf.
    """
    row_count = len(matrix)
    if alive is not None and np.count_nonzero(alive) < row_count * SPARSE_FRACTION_MAX:
        return scan_rows(matrix, np.flatnonzero(alive), queries, k, distance)
    width = min(k, row_count)
    rows = np.full((len(queries), width), -1, np.int64)
    distances = np.full((len(queries), width), np.inf, np.float32)
    block_rows = max(1, BLOCK_BYTES // max(1, matrix.shape[1] * 4))
    for number, query in enumerate(queries):
        measured = np.empty(row_count, np.float32)
        for start in range(0, row_count, block_rows):
            block = matrix[start : start + block_rows]
            measured[start : start + len(block)] = exact_distances(block, query, distance)
        if alive is not None:
            measured[~alive] = np.inf
        nearest = smallest(measured, width)
        distances[number] = measured[nearest]
        rows[number] = np.where(np.isinf(distances[number]), -1, nearest)
    return SegmentHits(rows, distances)


def scan_rows(
    matrix: Vectors, living: npt.NDArray[np.int64], queries: Vectors, k: int, distance: Distance
) -> SegmentHits:
    """The same with the numbers of the rows that count, `living`. Where they are few they are copied together first."""
    row_count = len(matrix)
    if len(living) >= max(1, row_count * SPARSE_FRACTION_MAX):
        alive = np.zeros(row_count, np.bool_)
        alive[living] = True
        return scan(matrix, queries, k, distance, alive)
    rows = np.full((len(queries), min(k, row_count)), -1, np.int64)
    distances = np.full(rows.shape, np.inf, np.float32)
    if len(living):
        found = scan(matrix[living], queries, k, distance, None)
        count = found.rows.shape[1]
        rows[:, :count], distances[:, :count] = living[found.rows], found.distances
    return SegmentHits(rows, distances)


def smallest(values: npt.NDArray[np.float32], k: int) -> npt.NDArray[Any]:
    """Indices of the k smallest values, ascending; of equal ones any."""
    count = len(values)
    if k >= count:
        return np.argsort(values, kind="stable")
    if k < count // SAMPLE_FRACTION**2:
        # k + 1 values of the sample are at most `bound`, so at least as many of all are: the k smallest are among those.
        bound = np.partition(values[::SAMPLE_FRACTION], k)[k]
        few = np.flatnonzero(values <= bound)
        if len(few) < count // 2:  # else most are equal, infinite perhaps
            return few[np.argsort(values[few], kind="stable")[:k]]
    part = np.argpartition(values, k)[:k]
    return part[np.argsort(values[part], kind="stable")]
