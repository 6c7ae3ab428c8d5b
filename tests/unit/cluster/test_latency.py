"""The p95 of what a shard took lately, and the budget of hedges."""

from __future__ import annotations

import pytest

from cluster.hedging import TOKENS_MAX, HedgeBudget
from cluster.latency import OBSERVATIONS_MAX, RENEWED_EVERY, Latency


def observed(*seconds: float) -> Latency:
    latency = Latency()
    for one in seconds:
        latency.observe(one)
    return latency


def test_it_is_not_known_before_there_are_some() -> None:
    assert observed(*[1.0] * (RENEWED_EVERY - 1)).p95_s is None
    assert observed(*[1.0] * RENEWED_EVERY).p95_s is not None


@pytest.mark.parametrize("scale", [20e-6, 1e-3, 0.4])
def test_it_is_within_a_fifth_or_so_of_the_truth(scale: float) -> None:
    values = [scale * (1 + place / 1000) for place in range(1000)]
    p95_s = observed(*values[::7], *values).p95_s
    assert p95_s == pytest.approx(scale * 1.95, rel=0.2)


def test_what_is_rare_does_not_count_what_is_not_does() -> None:
    rare = [0.001] * 97 + [5.0] * 3
    often = [0.001] * 90 + [5.0] * 10
    assert (observed(*rare * 10).p95_s or 9.0) < 0.002
    assert (observed(*often * 10).p95_s or 0.0) > 3.0


def test_it_forgets() -> None:
    latency = observed(*[1.0] * OBSERVATIONS_MAX)
    for _ in range(6 * OBSERVATIONS_MAX):
        latency.observe(0.001)
    assert (latency.p95_s or 9.0) < 0.002
    assert sum(latency.counts) < 2 * OBSERVATIONS_MAX


def test_extremes_have_buckets() -> None:
    assert observed(*[0.0, 1e9] * RENEWED_EVERY).p95_s == pytest.approx(41.9, rel=0.01)


def test_a_hedge_in_twenty_requests() -> None:
    budget = HedgeBudget()
    issued = 0
    for _ in range(1000):
        budget.earn(1)
        issued += budget.take()
    assert 49 <= issued <= 50  # floats


def test_quiet_times_do_not_pay_for_a_flood() -> None:
    budget = HedgeBudget()
    budget.earn(1_000_000)
    assert sum(budget.take() for _ in range(100)) == TOKENS_MAX
