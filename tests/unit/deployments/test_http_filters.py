"""Filters are kept where they are short, and read anew where they are long: what callers send must not fill the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from cluster import tenant_guard
from cluster.tenant_guard import narrowed
from deployments import http_filters
from deployments.http_filters import encoded_filter
from deployments.limits import LimitSettings
from shards import filter_query as filters
from shards import messages
from shards.filter_query import KEPT_BYTES_MAX, FilterQuery, filter_query
from shards.index import SearchPlan
from shards.nearest import Want

LIMITS = LimitSettings()
TARGET = messages.Target(b"c" * 16, 1)
QUERIES = np.zeros((1, 2), np.float32)
CACHES = (http_filters._encoded, tenant_guard._both_kept, filters._kept, messages._head_kept)
GUARD = b'{"must":[{"key":"org","match":{"any":["kept apart"]}}]}'


def kept_counts() -> tuple[int, ...]:
    return tuple(cache.cache_info().currsize for cache in CACHES)


def read_by_shard(encoded: bytes) -> FilterQuery | None:
    """What a shard reads out of a search with this filter."""
    parts = messages.encode_search(TARGET, SearchPlan(1, 10, filter=filter_query(encoded)), Want(), QUERIES)
    body = memoryview(b"".join(bytes(part) for part in parts))
    return messages.decode_search_head(messages.search_head_of(body)).plan.filter


def filter_of(text_bytes: int, name: str) -> dict[str, Any]:
    return {"must": [{"key": name, "match": {"value": "y" * text_bytes}}]}


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    for cache in CACHES:
        cache.cache_clear()


def test_short_filters_are_kept() -> None:
    first, again = (narrowed(encoded_filter(filter_of(100, "short"), LIMITS), GUARD) for _ in range(2))
    assert first is again
    assert read_by_shard(first) is read_by_shard(again)
    assert filter_query(first) is filter_query(again)
    assert kept_counts()[:2] == (1, 1)
    assert kept_counts()[3] == 1


def test_long_filters_are_not_and_mean_the_same() -> None:
    raw = filter_of(KEPT_BYTES_MAX, "long")
    both = narrowed(encoded_filter(raw, LIMITS), GUARD)
    assert [one["key"] for one in orjson.loads(both)["must"]] == ["org", "long"]
    read = read_by_shard(both)
    assert read is not None
    assert read.encoded.rstrip() == filter_query(both).encoded == both
    assert kept_counts() == (0, 0, 0, 0)


def test_a_name_of_a_field_counts_as_well() -> None:
    encoded = encoded_filter(filter_of(1, "k" * KEPT_BYTES_MAX), LIMITS)
    assert filter_query(encoded).encoded == encoded
    assert kept_counts() == (0, 0, 0, 0)
