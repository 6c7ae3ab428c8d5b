"""The short way to read a query, and to write hits, beside the long one: whatever the short one takes, both agree on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.requests import QueryHits
from deployments.http_json import _scored_points, dump, parse_body, scored_json
from deployments.http_models import NearestBody, QueryBatchBody, QueryBody
from deployments.payload_selection import NO_PAYLOAD, WHOLE_PAYLOAD
from deployments.plain_query import PlainQuery, plain_batch, plain_query
from deployments.vector_selection import NO_VECTORS
from shards.point_ids import INTEGER_MAX, UUID_BASE

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
odd = st.sampled_from([None, True, False, 0, -1, 3, 2**70, 1.5, "", "x", [], ["a"], {}, {"a": 1}])
vectors = st.lists(numbers, max_size=5) | st.lists(numbers | odd, max_size=3)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "hnsw_ef": st.integers(-1, 200) | odd,
        "exact": st.booleans() | odd,
        "indexed_only": odd,
        "acorn": odd,
        "unknown": odd,
    },
)
queries = st.fixed_dictionaries(
    {"query": vectors | st.fixed_dictionaries({"nearest": vectors}, optional={"mmr": odd}) | odd},
    optional={
        "limit": st.integers(-1, 20) | odd,
        "offset": st.integers(-1, 20) | odd,
        "params": parameters | odd,
        "with_payload": st.booleans() | odd,
        "with_vector": st.booleans() | odd,
        "with_vectors": odd,
        "using": st.text(max_size=3) | odd,
        "score_threshold": odd,
        "filter": odd,
        "prefetch": odd,
        "unknown": odd,
    },
)
bodies = queries | odd


def agree(short: PlainQuery, long: QueryBody) -> bool:
    """Whether both say the same."""
    asked = long.query.nearest if isinstance(long.query, NearestBody) else long.query
    assert isinstance(asked, list)
    pairs: list[tuple[Any, Any]] = [
        (short.query, asked),
        (short.params and short.params.hnsw_ef, long.params and long.params.hnsw_ef),
        (short.params and short.params.exact, long.params and long.params.exact),
        *(
            (getattr(short, name), getattr(long, name))
            for name in PlainQuery._fields
            if name not in ("query", "params")
        ),
    ]
    return all(one == other and (type(one) is type(other) or one is asked or one == other) for one, other in pairs)


@given(bodies)
def test_a_query_that_is_read_the_short_way_is_read_equally_the_long_way(document: Any) -> None:
    body = json.dumps(document).encode()
    short = plain_query(body)
    if short is not None:
        assert agree(short, parse_body(QueryBody, body))


@given(st.fixed_dictionaries({"searches": st.lists(bodies, max_size=4) | odd}, optional={"unknown": odd}) | odd)
def test_a_batch_that_is_read_the_short_way_is_read_equally_the_long_way(document: Any) -> None:
    body = json.dumps(document).encode()
    short = plain_batch(body)
    if short is not None:
        long = parse_body(QueryBatchBody, body).searches
        assert all(agree(*both) for both in zip(short, long, strict=True))


@pytest.mark.parametrize(
    "document",
    [
        {"query": [0.5, 1]},
        {"query": {"nearest": [0.5]}, "limit": 3, "offset": 0, "params": {"hnsw_ef": 64, "exact": False}},
        {"query": [1.0], "with_payload": True, "with_vector": False, "using": "a", "filter": None, "params": None},
    ],
)
def test_what_clients_usually_send_takes_the_short_way(document: Any) -> None:
    assert plain_query(orjson.dumps(document)) is not None
    assert plain_batch(orjson.dumps({"searches": [document] * 2})) is not None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[NaN]", b'{"query":[1e999]}', b'{"query":[NaN]}', b'{"query":[1],"a":1}']
)
def test_what_is_wrong_is_left_to_the_long_way(body: bytes) -> None:
    assert plain_query(body) is None


ids = st.integers(0, INTEGER_MAX) | st.integers(UUID_BASE, UUID_BASE + 2**100)
rows = st.lists(
    st.tuples(st.floats(width=32), ids, st.integers(0, 2**63), st.sampled_from([b"", b'{"a":1}'])), max_size=4
)


@given(rows, st.booleans(), st.booleans())
def test_hits_are_written_alike_on_both_ways(
    found: list[tuple[float, int, int, bytes]], has: bool, wants: bool
) -> None:
    distances, keys, versions, payloads = zip(*found, strict=True) if found else ((),) * 4
    hits = QueryHits(distances, keys, versions, list(payloads) if has else None)
    shown = WHOLE_PAYLOAD if wants else NO_PAYLOAD, NO_VECTORS
    scores = np.array(distances, np.float32)
    assert scored_json(hits, scores, *shown) == dump(_scored_points(hits, scores, *shown))
