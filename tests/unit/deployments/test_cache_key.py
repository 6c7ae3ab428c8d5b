"""What is the same question, and what the headers say."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.shard_map import even_map
from cluster.state import CollectionState
from deployments.cache_key import Arrival, Directives, canonical_key, directives_of, raw_key
from deployments.cache_settings import CacheSettings
from shards.errors import InvalidRequest
from shards.schema import CollectionSpec

STATE = CollectionState(
    name="c", uid="ab" * 16, spec=CollectionSpec(vectors={}), shard_map=even_map([0], epoch=1), status="ready"
)
ARRIVAL = Arrival(STATE, "query", b"timeout=3", b"{}")
OTHERS = [
    ARRIVAL._replace(collection=STATE.model_copy(update={"uid": "cd" * 16})),
    ARRIVAL._replace(collection=STATE.model_copy(update={"shard_map": even_map([0], epoch=2)})),
    ARRIVAL._replace(tenants=("a",)),
    ARRIVAL._replace(tenants=("a", "b")),
    ARRIVAL._replace(tenants=("a', 'b",)),
]


def test_raw_keys_differ_where_anything_differs() -> None:
    more = [
        ARRIVAL._replace(form="search"),
        ARRIVAL._replace(query_string=b"", body=b"timeout=3{}"),
        ARRIVAL._replace(query_string=b"timeout=3\n", body=b"{}"),
        ARRIVAL._replace(body=b"{} "),
    ]
    keys = {raw_key(arrival, b"secret") for arrival in (ARRIVAL, *OTHERS, *more)}
    assert len(keys) == 1 + len(OTHERS) + len(more)
    assert raw_key(ARRIVAL, b"another") not in keys
    assert raw_key(ARRIVAL._replace(headers=[(b"x", b"y")]), b"secret") in keys


def test_canonical_keys_differ_where_an_answer_might() -> None:
    plan, shown, queries = (10, None, 0.5, "", b"{}"), (True,), b"\0\0\0\0"
    asked: list[tuple[Any, ...]] = [
        (ARRIVAL, plan, shown, queries),
        *((other, plan, shown, queries) for other in OTHERS),
        (ARRIVAL, (10, None, 0.5000000000000001, "", b"{}"), shown, queries),
        (ARRIVAL, (10, 0, 0.5, "", b"{}"), shown, queries),
        (ARRIVAL, (10, None, 0.5, "", "{}"), shown, queries),
        (ARRIVAL, plan, (1,), queries),
        (ARRIVAL, plan, shown, b"\0\0\0\1"),
        (ARRIVAL, plan, shown, b"\0\0\0\0\0\0\0\0"),
    ]
    assert len({canonical_key(*one) for one in asked}) == len(asked)
    same = ARRIVAL._replace(body=b" {}", query_string=b"", form="search")
    assert canonical_key(same, plan, shown, queries) == canonical_key(*asked[0])


def test_headers_are_read_in_any_case() -> None:
    assert directives_of([]) == directives_of([(b"cache-control", b"max-age=3")]) == Directives()
    assert directives_of([(b"Cache-Control", b"no-store, NO-CACHE")]).is_fresh
    assert directives_of([(b"Shoal-Cache-Staleness-MS", b"250"), (b"x", b"y")]) == Directives(staleness_ms=250)


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"1e3", b"\xff", b"9" * 10])
def test_a_staleness_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="staleness"):
        directives_of([(b"shoal-cache-staleness-ms", value)])


def test_staleness_is_cut_at_its_maximum() -> None:
    settings = CacheSettings(staleness_ms=100, staleness_ms_max=500)
    assert [settings.staleness_s(asked) for asked in (None, 0, 400, 900)] == [0.1, 0.0, 0.4, 0.5]
    with pytest.raises(ValueError, match="above staleness_ms_max"):
        CacheSettings(staleness_ms=1)
