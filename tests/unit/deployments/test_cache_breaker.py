"""When Redis is asked: table-driven, time as a number."""

from __future__ import annotations

from deployments.cache_breaker import CacheBreaker


def test_a_lost_connection_opens_it_at_once_and_one_call_tries_again() -> None:
    breaker = CacheBreaker(retry_s=1.0)
    assert breaker.allows(0.0)
    breaker.on_failure(0.0, is_timeout=False)
    assert breaker.is_open
    assert not breaker.allows(0.9)
    assert breaker.allows(1.0)
    assert not breaker.allows(1.0), "one is enough to find out"
    breaker.on_failure(1.1, is_timeout=True)
    assert not breaker.allows(2.0)
    assert breaker.allows(2.1)
    breaker.on_success()
    assert breaker.allows(2.1)
    assert breaker.allows(2.1)
    assert breaker.opened_count == 1


def test_timeouts_open_it_only_in_a_row() -> None:
    breaker = CacheBreaker(retry_s=1.0)
    breaker.on_failure(0.0, is_timeout=True)
    breaker.on_success()
    breaker.on_failure(0.1, is_timeout=True)
    assert not breaker.is_open
    breaker.on_failure(0.2, is_timeout=True)
    assert breaker.is_open
