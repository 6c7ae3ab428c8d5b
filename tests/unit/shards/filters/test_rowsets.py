"""Sets of rows from arrays: the same as from row numbers one by one, on both sides of every edge of the format."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap

from shards.filters.rowsets import all_rows, bits_of_mask, mask_of, rows_in, rowset_of, rowset_of_bits, rowset_of_mask

COUNTS = [0, 1, 7, 8, 9, 4096, 65535, 65536, 65537, 200_003]


@pytest.mark.parametrize("row_count", COUNTS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.0625, 0.5, 1.0])
def test_a_mask_is_its_rows(row_count: int, share: float) -> None:
    mask = np.random.default_rng(row_count).random(row_count) < share
    rows = np.flatnonzero(mask).astype(np.uint32)
    expected = BitMap(rows.tolist())
    assert rowset_of_mask(mask) == expected
    assert rowset_of_bits(bits_of_mask(mask)) == expected
    assert rowset_of(np.random.default_rng(1).permutation(np.concatenate([rows, rows[:5]])), row_count) == expected
    assert (rows_in(expected) == rows).all()
    assert (mask_of(expected, row_count) == mask).all()


@pytest.mark.parametrize("count", [4095, 4096, 4097])
def test_a_chunk_around_the_size_where_lists_become_bits(count: int) -> None:
    mask = np.zeros(3 * 65536, np.bool_)
    mask[65536 : 65536 + 2 * count : 2] = True
    assert rowset_of_mask(mask) == BitMap(range(65536, 65536 + 2 * count, 2))


def test_all_rows() -> None:
    assert all_rows(3) == BitMap([0, 1, 2])
    assert not all_rows(0)
