"""A search as shards are asked it, and what becomes of their answers: the part of it that needs no shard.

Where points lie by the hash of their ids, each shard is asked for fewer hits than the caller wants (fetch_count.py). Not where
a tenant field says where they lie: then they are not spread by chance. Nor where there is a filter: what a shard does when it
finds too few depends on how many it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cluster.fetch_count import fetch_count, shards_cut_short
from cluster.merge import merge_hits
from cluster.requests import QueryHits, SearchRequest
from cluster.state import CollectionState
from shards import messages
from shards.distance import Distance, passes_threshold, scores
from shards.filter_query import filter_query
from shards.hits import HitLists
from shards.index import SearchPlan
from shards.messages import Target
from shards.nearest import Want

Replies = Mapping[int, HitLists]


class ShardSearch(NamedTuple):
    """`plan`: what each shard is asked; `k`: how many hits of all shards together count; `distance`: of the vector."""

    target: Target
    request: SearchRequest
    plan: SearchPlan
    k: int
    distance: Distance

    def body(self) -> list[Any]:
        """Of the frame that each shard gets."""
        return self._body(self.plan, self.request)

    def merge(self, replies: Replies) -> list[QueryHits]:
        """What each query found on all shards that answered. Not cut at the threshold yet."""
        if not replies:
            nothing = QueryHits((), (), (), [] if self.request.with_payload else None)
            return [nothing] * len(self.request.vectors)
        return merge_hits(list(replies.values()), self.request.k, self.request.offset)

    def cut_short(self, replies: Replies, merged: Sequence[QueryHits]) -> tuple[list[int], list[int]]:
        """Shards that may have kept hits back, and the queries that they matter for."""
        if self.plan.k == self.k:
            return [], []
        return shards_cut_short(replies, merged, self.request.k, self.plan.k)

    def whole_body(self, queries: Sequence[int]) -> list[Any]:
        """Of the frame that asks for all k hits of some of the queries."""
        request = self.request._replace(vectors=self.request.vectors[list(queries)])
        return self._body(self.plan._replace(k=self.k), request)

    def complete(
        self, merged: list[QueryHits], queries: Sequence[int], replies: Replies, whole: Replies
    ) -> list[QueryHits]:
        """`merged` with what some of the queries found when `whole` replies replace those that were cut short."""
        parts = {shard_id: reply.take(queries) for shard_id, reply in replies.items() if shard_id not in whole}
        found = list(merged)
        for query, hits in zip(queries, self.merge({**parts, **whole}), strict=True):
            found[query] = hits
        return found

    def cut_at_threshold(self, merged: list[QueryHits]) -> list[QueryHits]:
        """What of the merged hits passes the request's threshold."""
        threshold = self.request.score_threshold
        if threshold is None:
            return merged
        return [_cut(hits, threshold, self.distance) for hits in merged]

    def _body(self, plan: SearchPlan, request: SearchRequest) -> list[Any]:
        want = Want(request.with_payload, request.with_vectors)
        return messages.encode_search(self.target, plan, want, request.vectors)


def shard_search(collection: CollectionState, request: SearchRequest, target: Target) -> ShardSearch:
    """How a collection's shards are asked. Raises InvalidRequest, BadFilter."""
    spec = collection.spec
    number = spec.layout.number_of(request.vector)
    column = spec.layout.columns[number]
    ef = request.ef or spec.hnsw_of(column).ef_search
    query = filter_query(request.filter) if request.filter else None
    k = fetched = request.k + request.offset
    if query is None and collection.tenant_field is None:
        shard_map = collection.shard_map
        fetched = fetch_count(k, shard_map.largest_share, len(shard_map.shard_ids))
        if fetched < k:
            ef = max(ef, k)  # so that what a shard finds is the beginning of what it would find for all k
    return ShardSearch(target, request, SearchPlan(fetched, ef, request.exact, number, query), k, column.distance)


def _cut(hits: QueryHits, threshold: float, distance: Distance) -> QueryHits:
    found = scores(np.array(hits.distances, np.float32), distance)
    return hits.first(int(passes_threshold(found, threshold, distance).sum()))
