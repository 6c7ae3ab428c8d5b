"""A search that asks each shard for fewer hits ends with the answer that all of them would have given, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.merge import merge_hits
from cluster.requests import SearchRequest
from cluster.shard_search import ShardSearch
from shards.distance import Distance
from shards.hits import HitLists, Hits, no_hits
from shards.index import SearchPlan
from shards.messages import Target, decode_hits, encode_hits
from shards.point_ids import key_array

Found = tuple[float, int]
TIED = st.integers(0, 5).map(float)
"""So few distances that ties are the rule."""


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[list[list[Found]]], int, int, int]:
    """What each shard holds for each query, nearest first and ties in any order; k, offset, and how many each is asked for."""
    shard_count, query_count = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    keys = iter(draw(st.permutations(range(shard_count * query_count * 8))))
    distances = st.lists(draw(st.sampled_from([TIED, st.floats(0, 8, width=32)])), max_size=8)
    shards = [
        [sorted(zip(draw(distances), keys, strict=False), key=lambda found: found[0]) for _ in range(query_count)]
        for _ in range(shard_count)
    ]
    k, offset = draw(st.integers(1, 20)), draw(st.integers(0, 4))
    return shards, k, offset, draw(st.integers(1, k + offset))


def answer(queries: list[list[Found]], count: int) -> HitLists:
    """A shard's answer when it is asked for `count`."""
    kept = [found[:count] for found in queries]
    width = max(map(len, kept))
    if not width:
        return sent(no_hits(len(queries), with_payload=True))
    padded = [found + [(np.inf, 0)] * (width - len(found)) for found in kept]
    keys = [key for found in padded for _, key in found]
    return sent(
        Hits(
            np.array([len(found) for found in kept], np.int32),
            np.array([[distance for distance, _ in found] for found in padded], np.float32),
            key_array(keys).reshape(len(queries), width),
            np.array(keys, np.uint64).reshape(len(queries), width),
            [b'{"key":%d}' % key for key in keys],
        )
    )


def sent(hits: Hits) -> HitLists:
    return decode_hits(memoryview(b"".join(bytes(part) for part in encode_hits(hits))))


@given(situations(), st.randoms())
def test_the_answer_is_that_of_all_k(situation: Any, random: Any) -> None:
    shards, k, offset, fetched = situation
    queries = np.zeros((len(shards[0]), 2), np.float32)
    request = SearchRequest(queries, k, offset=offset, with_payload=True)
    search = ShardSearch(Target(b"u" * 16, 1), request, SearchPlan(fetched, 10), k + offset, Distance.EUCLID)
    order = [*range(len(shards))]
    random.shuffle(order)  # in which the shards answer
    replies = {shard_id: answer(shards[shard_id], fetched) for shard_id in order}
    merged = search.merge(replies)
    shard_ids, short = search.cut_short(replies, merged)
    if short:
        again = {shard_id: answer([shards[shard_id][query] for query in short], k + offset) for shard_id in shard_ids}
        merged = search.complete(merged, short, replies, again)
    assert merged == merge_hits([answer(queries, k + offset) for queries in shards], k, offset)
