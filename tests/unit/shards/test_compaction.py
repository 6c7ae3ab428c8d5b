"""The ladder of sealed segments: what is merged, when, and what that costs over a long life."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shards.compaction import LARGEST_FRACTION, OTHER_FRACTION, Merge, SegmentWeight, plan_merge, plan_seal

SEAL_ROWS = 100


def weights(*row_counts: int) -> list[SegmentWeight]:
    return [SegmentWeight(f"s{number}", rows, rows) for number, rows in enumerate(row_counts)]


@pytest.mark.parametrize(
    ("row_counts", "base", "parts"),
    [
        ((), None, None),
        ((100,), None, None),
        ((1000, 249), None, None),
        ((1000, 250), "s0", ("s1",)),
        ((1000, 230, 14), None, None),
        ((1000, 230, 15), "s1", ("s2",)),
        ((1000, 200, 30, 30), "s0", ("s1", "s2", "s3")),
        ((10, 200, 10), "s0", ("s2",)),
        ((10_000, 10, 5), "s1", ("s2",)),
    ],
)
def test_who_takes_whom_in(row_counts: tuple[int, ...], base: str | None, parts: tuple[str, ...] | None) -> None:
    merge = plan_merge(weights(*row_counts))
    assert (merge and merge.base, merge and merge.parts) == (base, parts)


def test_many_dead_rows_or_a_damaged_graph_are_a_reason_to_build_anew() -> None:
    assert plan_merge([SegmentWeight("s", 100, 80)]) is None
    assert plan_merge([SegmentWeight("s", 100, 79)]) == Merge(None, ("s",), "21 of 100 rows of s are dead")
    damaged = plan_merge([SegmentWeight("a", 100, 100), SegmentWeight("s", 10, 10, needs_rebuild=True)])
    assert damaged is not None
    assert (damaged.base, damaged.parts) == (None, ("s",))
    assert plan_merge([SegmentWeight("s", 100, 0)]) is not None


def test_a_quiet_shard_is_merged_further() -> None:
    assert plan_merge(weights(6400, 100), is_quiet=False) is None
    merge = plan_merge(weights(6400, 100), is_quiet=True)
    assert merge is not None
    assert merge.base == "s0"
    assert plan_merge(weights(6400, 99), is_quiet=True) is None


def test_what_is_small_is_merged_whatever_its_share() -> None:
    assert plan_merge(weights(1000, 1), rows_floor=1000) is None
    merge = plan_merge(weights(1000, 1), rows_floor=1001)
    assert merge is not None
    assert merge.base == "s0"


@pytest.mark.parametrize(
    ("row_counts", "base"),
    [
        ((), None),
        ((1600,), None),
        ((100,), "s0"),
        ((400,), "s0"),
        ((10_000, 1600), "s1"),
        ((10_000, 1601), None),
        ((1000, 200), None),
    ],
)
def test_rows_are_sealed_into_the_segment_that_would_take_them_in_next(
    row_counts: tuple[int, ...], base: str | None
) -> None:
    assert plan_seal(weights(*row_counts), SEAL_ROWS) == base


def test_a_segment_that_is_to_be_built_anew_is_no_base() -> None:
    assert plan_seal([SegmentWeight("s", 400, 400, needs_rebuild=True)], SEAL_ROWS) is None
    assert plan_seal([SegmentWeight("s", 400, 300)], SEAL_ROWS) is None


def test_a_long_life_keeps_few_segments_and_copies_each_row_a_bounded_number_of_times() -> None:
    segments: list[int] = []
    copied = inserted = 0
    for _ in range(10_000):
        named = weights(*segments)
        base = plan_seal(named, SEAL_ROWS)
        inserted += SEAL_ROWS
        if base is None:
            segments.append(SEAL_ROWS)
        else:
            copied += segments[int(base[1:])]
            segments[int(base[1:])] += SEAL_ROWS
        while (merge := plan_merge(weights(*segments))) is not None:
            assert merge.base is not None
            rows = [segments[int(name[1:])] for name in merge.parts]
            copied += segments[int(merge.base[1:])]
            inserted += sum(rows)
            gone = {int(name[1:]) for name in (merge.base, *merge.parts)}
            united = segments[int(merge.base[1:])] + sum(rows)
            segments = [rows for number, rows in enumerate(segments) if number not in gone] + [united]
        assert len(segments) <= 5
        largest_first = sorted(segments, reverse=True)
        for place, (larger, smaller) in enumerate(pairwise(largest_first)):
            assert smaller < (LARGEST_FRACTION if place == 0 else OTHER_FRACTION) * larger
    total = sum(segments)
    assert total == 10_000 * SEAL_ROWS
    assert inserted / total <= 4
    assert copied / total <= 30
    print(f"inserted {inserted / total:.2f} times, copied {copied / total:.2f} times, {len(segments)} segments")
