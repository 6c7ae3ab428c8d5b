"""How many hits each shard is asked for, when all are asked for the k nearest. Pure.

Where points lie by a hash of their ids, each of the k nearest is on a shard with the probability of that shard's share of the
slots, whatever is asked: of 100 a shard of five has 20, and more than 38 of them once in 50,000 times. So each is asked
for the smallest number that none of them exceeds in 9,999 of 10,000 searches, which for a small k is k itself.

Whether the answer is complete, it tells itself (`shards_cut_short`): where a shard gave as many as it was asked for, and its
last hit is not behind the merged k nearest, more of its hits may belong to them; then it is asked for all k. So the
answer is the one that k from each would have given, ties included: a hit that a shard kept back is no nearer than
its last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cluster.requests import QueryHits
from shards.hits import HitLists

REFETCH_PROBABILITY = 1e-4
"""Of one query, over all its shards."""


@lru_cache(maxsize=4096)
def fetch_count(k: int, share: float, shard_count: int) -> int:
    """The smallest count that a shard with `share` of the slots exceeds with a probability of at most REFETCH_PROBABILITY /
    `shard_count`: P(Binomial(k, share) > count). At most k. Cost: some microseconds for each of the hits that it may exceed
    it by, once for the same arguments.
    """
    if shard_count == 1 or share >= 1.0:
        return k
    allowed, tail = REFETCH_PROBABILITY / shard_count, 0.0
    # Terms beyond 15 standard deviations add nothing that a float could show.
    first = min(k, math.ceil(k * share + 15 * math.sqrt(k * share * (1.0 - share)) + 20))
    for count in range(first, 0, -1):
        tail += _probability(count, k, share)
        if tail > allowed:
            return count
    return 1


def shards_cut_short(
    replies: Mapping[int, HitLists], merged: Sequence[QueryHits], k: int, fetched: int
) -> tuple[list[int], list[int]]:
    """Which shards may have kept back hits that belong to the k nearest, and of which queries. Each was asked for `fetched`;
    `merged` are the queries' hits of all replies, up to the k-th, not cut at any threshold.
    """
    shard_ids: set[int] = set()
    queries: list[int] = []
    for query, hits in enumerate(merged):
        farthest = hits.distances[-1] if len(hits.distances) == k else math.inf
        short = [
            shard_id
            for shard_id, part in replies.items()
            if part.counts[query] == fetched and part.distances[query * part.width + fetched - 1] <= farthest
        ]
        if short:
            shard_ids.update(short)
            queries.append(query)
    return sorted(shard_ids), queries


def _probability(count: int, k: int, share: float) -> float:
    """Of exactly `count` of `k`."""
    ways = math.lgamma(k + 1) - math.lgamma(count + 1) - math.lgamma(k - count + 1)
    return math.exp(ways + count * math.log(share) + (k - count) * math.log1p(-share))
