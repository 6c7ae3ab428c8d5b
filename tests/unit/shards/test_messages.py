"""The data plane's bodies: what is encoded is decoded, and a body of the wrong length is refused, never misread."""

from __future__ import annotations

import numpy as np
import pytest

from shards.errors import Corrupt
from shards.filter_query import filter_query
from shards.generations import Stamp
from shards.hits import Hits
from shards.index import SearchPlan
from shards.lookup import Which
from shards.messages import (
    SEARCH_HEAD_BYTES,
    Target,
    decode_hits,
    decode_queries,
    decode_retrieve,
    decode_search_head,
    decode_target,
    encode_hits,
    encode_retrieve,
    encode_search,
    hits_of_query,
    search_head_of,
)
from shards.nearest import Want
from shards.point_ids import UUID_BASE, key_array, key_list

TARGET = Target(bytes(range(16)), 7)
QUERIES = np.arange(6, dtype=np.float32).reshape(2, 3)


def joined(parts: list[object]) -> bytes:
    return b"".join(bytes(part) for part in parts)  # type: ignore[call-overload]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("encoded", [b"", b'{"must":{"key":"a","match":{"value":1}}}'])
@pytest.mark.parametrize("want", [Want(), Want(payloads=True), Want(vectors=True), Want(True, True)])
def test_a_search_comes_back_as_it_was(exact: bool, want: Want, encoded: bytes) -> None:
    plan = SearchPlan(10, 64, exact, 3, filter_query(encoded) if encoded else None, returned=7)
    body = memoryview(joined(encode_search(TARGET, plan, want, QUERIES)))
    head = decode_search_head(search_head_of(body))
    assert head == (TARGET, plan, want, 2, 3, head.byte_count)
    assert head.body_bytes == len(body)
    assert np.array_equal(decode_queries(head, [body]), QUERIES)


def test_searches_that_ask_alike_become_one_array() -> None:
    bodies = [
        memoryview(joined(encode_search(TARGET, SearchPlan(1, 1), Want(), QUERIES[row : row + 1]))) for row in (1, 0)
    ]
    head = decode_search_head(bytes(bodies[0][:SEARCH_HEAD_BYTES]))
    assert bytes(bodies[1][:SEARCH_HEAD_BYTES]) == bytes(bodies[0][:SEARCH_HEAD_BYTES])
    assert np.array_equal(decode_queries(head, bodies), QUERIES[::-1])


@pytest.mark.parametrize("head", [b"", bytes(SEARCH_HEAD_BYTES - 1), bytes(SEARCH_HEAD_BYTES)])
def test_a_head_that_asks_for_nothing_is_refused(head: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_search_head(head)


def hits(key: int) -> Hits:
    return Hits(
        np.array([2, 1], np.int32),
        np.array([[0.25, 0.5], [0.75, np.inf]], np.float32),
        key_array([key, 2, 3, 0]).reshape(2, 2),
        np.array([[4, 5], [6, 0]], np.uint64),
        [b'{"a":1}', b"", b"{}", b""],
        np.arange(12, dtype=np.float32).reshape(2, 2, 3),
    )


@pytest.mark.parametrize("key", [1, 2**64 - 1, UUID_BASE, UUID_BASE + 2**128 - 1])
def test_hits_come_back_as_they_were(key: int) -> None:
    found = decode_hits(memoryview(joined(encode_hits(hits(key)))))
    assert (found.counts, found.width) == ([2, 1], 2)
    assert found.distances == [0.25, 0.5, 0.75, float("inf")]
    assert found.keys == [key, 2, 3, 0]
    assert found.versions == [4, 5, 6, 0]
    assert [found.payload(place) for place in range(4)] == [b'{"a":1}', b"", b"{}", b""]
    assert found.vector(2).tolist() == [6.0, 7.0, 8.0]


@pytest.mark.parametrize("key", [1, UUID_BASE])
def test_an_answer_that_was_cut_anywhere_is_refused(key: int) -> None:
    body = joined(encode_hits(hits(key)))
    for length in range(len(body)):
        with pytest.raises(Corrupt):
            decode_hits(memoryview(body[:length]))


def test_more_hits_than_places_are_refused() -> None:
    lying = hits(1)
    lying.counts[0] = 3
    with pytest.raises(Corrupt, match="places"):
        decode_hits(memoryview(joined(encode_hits(lying))))


@pytest.mark.parametrize("which", [None, Which(filter_query(b'{"must":[]}')), Which(filter_query(b"{}"), True)])
@pytest.mark.parametrize("key", [3, UUID_BASE + 3])
def test_a_retrieve_comes_back_as_it_was(which: Which | None, key: int) -> None:
    body = joined(encode_retrieve(TARGET, key_array([1, key]), Want(True, False), which))
    target, rest = decode_target(memoryview(body))
    keys, want, read = decode_retrieve(rest)
    assert (target, key_list(keys), want) == (TARGET, [1, key], Want(True, False))
    assert (read and (read.filter.encoded.strip(), read.inverted)) == (
        which and (which.filter.encoded, which.inverted)
    )
    for length in range(len(rest)):
        with pytest.raises(Corrupt):
            decode_retrieve(rest[:length])


@pytest.mark.parametrize("key", [1, UUID_BASE])
def test_one_query_of_several_can_be_cut_out(key: int) -> None:
    whole, stamp = hits(key), Stamp(1, 2**64 - 1, 3)
    body = joined(encode_hits(whole, stamp))
    assert decode_hits(memoryview(body)).stamp == stamp
    for query in (0, 1):
        alone = hits_of_query(memoryview(body), query)
        assert alone == joined(encode_hits(whole.slice(query, query + 1), stamp))
        assert hits_of_query(alone, 0) == alone
