"""The merge of shards' answers, through the bytes that travel: equal to one sort of everything, whatever came first."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.merge import merge_hits
from shards.hits import HitLists, Hits, no_hits
from shards.messages import decode_hits, encode_hits
from shards.point_ids import UUID_BASE, key_array

DIM = 3
Found = tuple[float, int]
DISTANCES = st.floats(0, 8, width=32)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[list[list[Found]]], int, int]:
    """For each shard and query its hits, nearest first; keys are different over all shards. Then k and offset."""
    shard_count, query_count = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    base = draw(st.sampled_from([0, UUID_BASE]))
    keys = iter(draw(st.permutations(range(shard_count * query_count * 6))))
    shards = [
        [
            sorted((distance, base * (key % 2) + key) for distance, key in zip(found, keys, strict=False))
            for found in (draw(st.lists(DISTANCES, max_size=6)) for _ in range(query_count))
        ]
        for _ in range(shard_count)
    ]
    return shards, draw(st.integers(1, 30)), draw(st.integers(0, 5))


def as_sent(queries: list[list[Found]]) -> HitLists:
    """One shard's answer with payloads and vectors that tell the key, encoded and decoded."""
    width = max(len(found) for found in queries)
    if width == 0:
        return received(no_hits(len(queries), with_payload=True, dim=DIM))
    padded = [found + [(np.inf, 0)] * (width - len(found)) for found in queries]
    keys = [[key for _, key in found] for found in padded]
    hits = Hits(
        np.array([len(found) for found in queries], np.int32),
        np.array([[distance for distance, _ in found] for found in padded], np.float32),
        key_array([key for line in keys for key in line]).reshape(len(queries), width),
        np.array([[key % 97 for key in line] for line in keys], np.uint64),
        [b'{"key":%d}' % key for line in keys for key in line],
        np.array([[[key % 97] * DIM for key in line] for line in keys], np.float32),
    )
    return received(hits)


def received(hits: Hits) -> HitLists:
    return decode_hits(memoryview(b"".join(bytes(part) for part in encode_hits(hits))))


@given(answers(), st.randoms())
def test_the_merge_is_one_sort_of_everything(given_answers: Any, random: Any) -> None:
    shards, k, offset = given_answers
    parts = [as_sent(queries) for queries in shards]
    random.shuffle(parts)
    merged = merge_hits(parts, k, offset)
    for query, hits in enumerate(merged):
        expected = sorted(found for queries in shards for found in queries[query])[offset : offset + k]
        assert [*zip(hits.distances, hits.keys, strict=True)] == expected
        assert [*hits.versions] == [key % 97 for key in hits.keys]
        assert hits.payloads == [b'{"key":%d}' % key for key in hits.keys]
        assert hits.vectors is not None
        assert [vector.tolist() for vector in hits.vectors] == [[key % 97] * DIM for key in hits.keys]


def test_what_was_not_asked_for_is_not_there() -> None:
    (hits,) = merge_hits([received(no_hits(1)), received(no_hits(1))], 10)
    assert (*hits.distances,) == (*hits.keys,) == (*hits.versions,) == ()
    assert hits.payloads is None
    assert hits.vectors is None
