"""Columns of numbers: an interval's run of values is what the interval says of each, at the edges of every dtype, too."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from shards.filters.conditions import Interval
from shards.filters.numbers import Column

INTEGERS = [-(2**63), -5, -1, 0, 1, 2, 2, 2**53, 2**53 + 1, 2**63 - 1]
LARGE = [2**63, 2**63 + 5, 2**64 - 1]
FLOATS = [-1e300, -1.5, -0.0, 0.0, 0.5, 1.0, 2.0, 2.0, 2.5, 9007199254740992.0, 1e300]
BOUNDS = [-math.inf, math.inf, -1e300, -(2.0**63), -1.5, -1.0, 0.0, 0.5, 1.0, 2.0, 2.0**53, 2.0**63, 2.0**64, 1e300]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(INTEGERS, np.int64), (LARGE, np.uint64), (FLOATS, np.float64), ([], np.int64), ([], np.float64)],
)
def test_the_run_of_an_interval(values: list[Any], dtype: type[np.generic]) -> None:
    column = Column(np.array(values, dtype), np.arange(len(values), dtype=np.uint32))
    for low, high, low_open, high_open in product(BOUNDS, BOUNDS, (False, True), (False, True)):
        interval = Interval(low, high, low_open, high_open)
        expected = [value for value in values if interval.contains(value)]
        assert column.values[column.places_in(interval)].tolist() == expected, interval


def test_where_an_integer_stands() -> None:
    for values, dtype in ((INTEGERS, np.int64), (LARGE, np.uint64)):
        column = Column(np.array(values, dtype), np.arange(len(values), dtype=np.uint32))
        for value in [*INTEGERS, *LARGE, -7, 3, 2**63 + 1]:
            found = column.values[column.places_of(value)].tolist()
            assert found == [each for each in values if each == value]
