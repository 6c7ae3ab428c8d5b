"""Costs, buckets, the adaptive factor and the steps of degradation, by value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.adaptive import AdaptiveFactor, percentile
from deployments.cost import EXACT_COST, change_cost, read_cost, search_cost, upsert_cost, weight_of
from deployments.degradation import HOLD_S, Degradation, Level, lowered_ef
from deployments.token_bucket import Buckets, TokenBucket


@pytest.mark.parametrize(
    ("cost", "tokens"),
    [
        (search_cost(80, exact=False, filtered=False), 1),
        (search_cost(10, exact=False, filtered=False), 1),
        (search_cost(400, exact=False, filtered=False), 5),
        (search_cost(400, exact=False, filtered=True), 10),
        (search_cost(80, exact=True, filtered=False), EXACT_COST),
        (upsert_cost(1), 10),
        (upsert_cost(1000), 1009),
        (change_cost(1), 10),
        (change_cost(101), 20),
        (change_cost(None), 20),
        (read_cost(100), 2),
        (read_cost(100, filtered=True), 4),
        (weight_of(1009, writes=True), 2),
        (weight_of(5, writes=False), 5),
    ],
)
def test_costs(cost: float, tokens: float) -> None:
    assert cost == pytest.approx(tokens)


def test_a_bucket_lets_a_burst_through_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=20, now=0.0)
    passed = 0
    for tick in range(1000):  # ten seconds, a try every 10 ms
        if bucket.wait_s(tick / 100) == 0:
            bucket.charge(1)
            passed += 1
    assert 118 <= passed <= 121


def test_debt_is_paid_off_before_the_next_request() -> None:
    bucket = TokenBucket(rate=10, burst=20, now=0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.charge(120)  # one large batch: no request is too large
    assert bucket.wait_s(0.0) == pytest.approx(10.1)
    assert bucket.wait_s(0.0, factor=0.5) == pytest.approx(20.2)
    assert bucket.wait_s(9.9) > 0
    assert bucket.wait_s(10.11) == 0


def test_a_clock_that_stands_still_fills_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=1, now=5.0)
    bucket.charge(1)
    assert bucket.level(5.0) == bucket.level(4.0) == 0


def test_buckets_are_as_many_as_were_used_last() -> None:
    buckets = Buckets(rate=1, burst_s=2, buckets_max=2)
    first = buckets.of("a", 0.0)
    first.charge(5)
    buckets.of("b", 0.0)
    assert buckets.of("a", 0.0) is first
    buckets.of("c", 0.0)
    assert len(buckets) == 2
    assert buckets.of("a", 0.0) is first, "b was used longest ago"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 50)), max_size=100))
def test_nobody_spends_faster_than_the_rate_but_for_one_request(steps: list[tuple[float, float]]) -> None:
    bucket, now, spent, largest = TokenBucket(5, 10, 0.0), 0.0, 0.0, 0.0
    for passed, cost in steps:
        now += passed
        if bucket.wait_s(now) == 0:
            bucket.charge(cost)
            spent, largest = spent + cost, max(largest, cost)
    assert spent <= 10 + 5 * now + largest + 1e-6


def test_the_factor_shrinks_by_a_quarter_and_grows_slowly_near_the_bound() -> None:
    factor = AdaptiveFactor(bound_s=1.0, floor=0.3)
    assert factor.on_window(1.5, pressure=1.0) == 0.75
    assert factor.on_window(1.5, pressure=1.0) == 0.5625
    assert factor.on_window(0.8, pressure=1.0) == pytest.approx(0.5825)
    assert factor.on_window(0.4, pressure=1.0) == pytest.approx(0.6825)
    assert factor.on_window(None, pressure=0.0) == pytest.approx(0.7825)
    for _ in range(20):
        factor.on_window(9.0, pressure=1.0)
    assert factor.value == 0.3
    for _ in range(8):
        factor.on_window(None, pressure=0.0)
    assert factor.value == 1.0


def test_slow_answers_to_few_requests_shrink_nothing() -> None:
    factor = AdaptiveFactor(bound_s=1.0, floor=0.3)
    assert factor.on_window(5.0, pressure=0.2) == 1.0


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_steps_are_taken_at_once_and_taken_back_one_at_a_time() -> None:
    degradation = Degradation(stale_ms_max=500, ef_fraction_min=0.6)
    seen = []
    for tick in range(60):
        now = tick / 10
        level = degradation.observe(0.5 if now < 1 or now >= 2 else 1.0, now)
        if not seen or seen[-1][1] is not level:
            seen.append((now, level))
    assert seen == [
        (0.0, Level.NORMAL),
        (1.0, Level.LOWER_EF),
        (3.0, Level.STALE),
        (4.0, Level.NO_EXTRAS),
        (5.0, Level.NORMAL),
    ]


def test_what_each_step_does_without() -> None:
    degradation = Degradation(stale_ms_max=500, ef_fraction_min=0.6)
    does = []
    for pressure in (0.5, 0.75, 0.9, 1.0):
        degradation.observe(pressure, 0.0)
        does.append((degradation.allows_extras, degradation.allows_stale_ms, degradation.ef_fraction))
    assert does == [(True, 0, 1.0), (False, 0, 1.0), (False, 500, 1.0), (False, 500, 0.6)]


def test_pressure_near_a_step_changes_nothing() -> None:
    degradation = Degradation(0, 0.6)
    levels = {degradation.observe(0.96 if tick % 2 else 0.85, tick / 10) for tick in range(1, 100)}
    assert levels == {Level.LOWER_EF}
    assert HOLD_S > 0


@pytest.mark.parametrize(("ef", "k", "expected"), [(80, 10, 48), (80, 60, 60), (80, 100, 80), (16, 1, 9)])
def test_the_width_is_never_below_what_is_looked_for(ef: int, k: int, expected: int) -> None:
    assert lowered_ef(ef, k, 0.6) == expected
