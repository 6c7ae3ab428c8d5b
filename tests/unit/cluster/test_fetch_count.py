"""How many hits each shard is asked for: no fewer than is safe, no more than that takes."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from cluster.fetch_count import REFETCH_PROBABILITY, fetch_count
from cluster.shard_map import ShardMap, even_map
from cluster.slots import SLOT_COUNT


def probability_of_more(count: int, k: int, share: Fraction) -> Fraction:
    """P(Binomial(k, share) > count), without rounding."""
    return sum(
        (math.comb(k, hits) * share**hits * (1 - share) ** (k - hits) for hits in range(count + 1, k + 1)),
        Fraction(0),
    )


@pytest.mark.parametrize("k", [1, 2, 10, 37, 100, 1000])
@pytest.mark.parametrize("shard_count", [2, 3, 5, 16])
def test_it_is_the_smallest_count_that_is_safe(k: int, shard_count: int) -> None:
    share, allowed = Fraction(1, shard_count), Fraction(REFETCH_PROBABILITY) / shard_count
    count = fetch_count(k, float(share), shard_count)
    assert 1 <= count <= k
    assert probability_of_more(count, k, share) <= allowed
    assert count == 1 or probability_of_more(count - 1, k, share) > allowed


@pytest.mark.parametrize(
    ("k", "shard_count", "expected"), [(10, 1, 10), (10, 2, 10), (100, 1, 100), (100, 2, 69), (100, 5, 38)]
)
def test_what_that_means(k: int, shard_count: int, expected: int) -> None:
    assert fetch_count(k, 1 / shard_count, shard_count) == expected


def test_large_numbers_neither_overflow_nor_fall_short() -> None:
    assert 5_000 < fetch_count(10_000, 0.5, 2) < 5_300
    assert fetch_count(10_000, 1.0, 2) == 10_000


def test_the_largest_share_counts() -> None:
    assert even_map([3, 7, 9], epoch=1).largest_share == 1366 / SLOT_COUNT
    uneven = ShardMap(epoch=1, runs=((0, 1), (1, SLOT_COUNT - 2), (0, 1)))
    assert uneven.largest_share == (SLOT_COUNT - 2) / SLOT_COUNT
