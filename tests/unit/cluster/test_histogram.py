"""A histogram's quantiles are within a bucket of the true ones, and its differences and sums are those of what went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.histogram import BOUNDS_S, Histogram
from cluster.search_times import PHASES, FanOutTimes, SearchTimes, phase_seconds

TIMES = st.lists(st.floats(0, 60), min_size=1)


def histogram_of(times: list[float]) -> Histogram:
    found = Histogram()
    for seconds in times:
        found.observe(seconds)
    return found


@given(TIMES, st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(times: list[float], fraction: float) -> None:
    found = histogram_of(times).quantile(fraction)
    assert found is not None
    rank = next(rank for rank in range(1, len(times) + 1) if rank >= fraction * len(times))
    true = sorted(times)[rank - 1]
    bounds = zip((0.0, *BOUNDS_S), BOUNDS_S, strict=False)
    low, high = next(one for one in bounds if true <= one[1])
    assert low <= found <= high * 1.000001


@given(TIMES, TIMES)
def test_differences_undo_sums(first: list[float], then: list[float]) -> None:
    whole = histogram_of([*first, *then])
    since = whole.since(histogram_of(first))
    assert since.counts == histogram_of(then).counts
    assert since.plus(histogram_of(first)).counts == whole.counts
    assert whole.sum_s == pytest.approx(sum(first) + sum(then))


def test_nothing_has_no_quantile_and_too_much_has_the_last_bound() -> None:
    assert Histogram().quantile(0.5) is None
    assert histogram_of([1e9]).quantile(0.5) == BOUNDS_S[-1]


def test_a_counter_that_went_back_began_anew() -> None:
    restarted = histogram_of([0.001])
    assert restarted.since(histogram_of([0.001, 0.5])).count == 1


def test_phases_add_up_to_the_whole() -> None:
    fan_out = FanOutTimes(began=13.0)
    fan_out.sent = 15.0
    seconds = phase_seconds(10.0, SearchTimes(12.0, fan_out, answered=19.5, merged=20.5), ended=23.0)
    assert dict(zip(PHASES, seconds, strict=True)) == {
        "parse": 2.0, "queue": 1.0, "scatter": 2.0, "gather": 4.5, "merge": 1.0, "encode": 2.5
    }  # fmt: skip
    assert sum(seconds) == 13.0
    in_line = phase_seconds(10.0, SearchTimes(12.0, fan_out, answered=19.5, merged=20.5), 23.0, in_line_s=1.5)
    assert in_line == (0.5, 2.5, *seconds[2:])
