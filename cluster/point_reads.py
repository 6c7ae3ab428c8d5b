"""Reading points from a collection's shards: fan out, merge. Which shards is told in cluster/tenants.py; how answers are
merged is pure: cluster/merge.py, cluster/paging.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from cluster.batching import Answered, SearchBatcher
from cluster.fan_out import ShardRequest
from cluster.merge import merge_hits
from cluster.paging import merge_pages
from cluster.requests import (
    CollectionStatistics,
    Origin,
    QueryHits,
    Record,
    ScrollPage,
    ScrollRequest,
    SearchAnswer,
    SearchRequest,
)
from cluster.scope import Named, Scope, scope_of
from cluster.search_times import FanOutTimes, SearchTimes
from cluster.shard_calls import PATIENCE_S, ShardCalls, target_of
from cluster.state import CatalogueControl, CollectionState
from cluster.tenant_guard import narrowed
from cluster.tenants import shards_asked, split_ids
from shards import messages
from shards.batch import Vectors
from shards.distance import Distance, passes_threshold, scores
from shards.errors import ShoalError
from shards.filter_query import filter_query
from shards.filters.paths import parse_path
from shards.hits import HitLists
from shards.index import SearchPlan
from shards.lookup import Which
from shards.nearest import Want
from shards.point_ids import key_array, key_list
from shards.scrolling import Order, ScrollPlan
from shards.vector_layout import VectorColumn
from shards.wire import Kind


class _SearchKey(NamedTuple):
    """What searches have in common that leave together. `parameters`: a SearchRequest without its vectors."""

    scope: Scope
    dim: int
    parameters: tuple[Any, ...]
    deadline_s: float


class _Found(NamedTuple):
    """What one query found, from what it was merged, and when; `times` is shared by all queries that left together."""

    hits: QueryHits
    origin: Origin
    times: tuple[FanOutTimes, float, float]


class PointReads(ShardCalls):
    """Every method raises ShoalErrors; deadlines are in seconds from now."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience_s: float = PATIENCE_S) -> None:
        super().__init__(control, secret, patience_s)
        self._searches: SearchBatcher[_SearchKey, _Found] = SearchBatcher(self._search_alike)

    async def retrieve(
        self, about: Named, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        """The points of the ids, in the order asked; missing ones are left out."""
        array = key_array(keys)
        want = Want(with_payload, with_vectors)

        async def ask(collection: CollectionState, guard: bytes) -> list[Record]:
            target, which = target_of(collection), Which(filter_query(guard)) if guard else None
            bodies = {
                shard_id: messages.encode_retrieve(target, array[rows], want, which)
                for shard_id, rows in split_ids(collection, array, guard).items()
            }
            replies = await self._ask(ShardRequest(Kind.RETRIEVE, bodies, messages.decode_records), deadline_s)
            return _records_in_order(replies, keys, with_vectors)

        return await self._on_current_state(about, ask) if keys else []

    async def scroll(self, about: Named, request: ScrollRequest, deadline_s: float) -> ScrollPage:
        """A page of points in the order of their ids, or of a payload field."""
        wanted = request.order_by
        order = wanted and Order(parse_path(wanted.field), wanted.descends, wanted.start_from)
        # One more than the page has, by id, tells where the next begins.
        limit = request.limit + 1 if order is None else request.limit
        want = Want(request.with_payload, request.with_vectors)

        async def ask(collection: CollectionState, guard: bytes) -> ScrollPage:
            encoded = narrowed(request.filter, guard)
            plan = ScrollPlan(limit, request.offset, filter_query(encoded) if encoded else None, order, want)
            body = messages.encode_scroll(target_of(collection), plan)
            bodies = dict.fromkeys(shards_asked(collection, encoded), body)
            replies = await self._ask(ShardRequest(Kind.SCROLL, bodies, messages.decode_page), deadline_s)
            return merge_pages(list(replies.values()), request)

        return await self._on_current_state(about, ask)

    async def count(self, about: Named, deadline_s: float, encoded_filter: bytes = b"") -> int:
        """Points of a collection, or those of them that match, exactly."""

        async def ask(collection: CollectionState, guard: bytes) -> int:
            encoded = narrowed(encoded_filter, guard)
            body = [target_of(collection).encode() + encoded]
            bodies = dict.fromkeys(shards_asked(collection, encoded), body)
            replies = await self._ask(ShardRequest(Kind.COUNT, bodies, messages.decode_written), deadline_s)
            return sum(replies.values())

        return await self._on_current_state(about, ask)

    async def statistics(self, about: Named, deadline_s: float) -> list[CollectionStatistics]:
        """What each shard says of its part, by shard id."""
        replies = await self._ask_all(about, Kind.STATISTICS, messages.decode_json, deadline_s)
        return [CollectionStatistics(**replies[shard_id]) for shard_id in sorted(replies)]

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        """The nearest points to each query. Searches that ask alike share their way (cluster/batching.py)."""
        key = _SearchKey(scope_of(about), request.vectors.shape[1], request[1:], deadline_s)
        entered = perf_counter()
        found = await self._searches.search(key, request.vectors)
        times = SearchTimes(entered, *found[0].times)
        return SearchAnswer([one.hits for one in found], 1.0, times, [one.origin for one in found])

    async def silent_shards(self, deadline_s: float) -> dict[int, ShoalError]:
        """What became of a ping of every shard, of those that did not answer it."""

        async def ping(shard_id: int) -> None:
            await self._ask(ShardRequest(Kind.PING, {shard_id: []}, bytes), deadline_s)

        shard_ids = [shard.shard_id for shard in self.state.shards]
        found = await asyncio.gather(*map(ping, shard_ids), return_exceptions=True)
        failed = {}
        for shard_id, result in zip(shard_ids, found, strict=True):
            if isinstance(result, ShoalError):
                failed[shard_id] = result
            elif result is not None:
                raise result
        return failed

    async def _search_alike(self, key: _SearchKey, vectors: Vectors, answered: Answered) -> list[_Found]:
        request = SearchRequest(vectors, *key.parameters)
        return await self._on_current_state(key.scope, partial(self._search, request, key.deadline_s, answered))

    async def _search(
        self, request: SearchRequest, deadline_s: float, answered: Answered, collection: CollectionState, guard: bytes
    ) -> list[_Found]:
        times = FanOutTimes(perf_counter())
        encoded = narrowed(request.filter, guard) if guard else request.filter
        column, body = search_of(collection, request._replace(filter=encoded) if guard else request)
        bodies = dict.fromkeys(shards_asked(collection, encoded), body)
        replies = await self._ask(ShardRequest(Kind.SEARCH, bodies, messages.decode_hits, times), deadline_s)
        answered_at = perf_counter()
        answered()
        hits = merged(replies, request, column.distance)
        common = (times, answered_at, perf_counter())
        return [_Found(one, Origin(replies, query), common) for query, one in enumerate(hits)]


def search_of(collection: CollectionState, request: SearchRequest) -> tuple[VectorColumn, list[Any]]:
    """The vector that a search compares, and its frame's body, the same for every shard. Raises InvalidRequest, BadFilter."""
    spec = collection.spec
    number = spec.layout.number_of(request.vector)
    column = spec.layout.columns[number]
    ef = request.ef or spec.hnsw_of(column).ef_search
    query = filter_query(request.filter) if request.filter else None
    plan = SearchPlan(request.k + request.offset, ef, request.exact, number, query)
    want = Want(request.with_payload, request.with_vectors)
    return column, messages.encode_search(target_of(collection), plan, want, request.vectors)


def merged(replies: Mapping[int, HitLists], request: SearchRequest, distance: Distance) -> list[QueryHits]:
    """What each query of a search found over all of its shards."""
    hits = merge_hits(list(replies.values()), request.k, request.offset)
    if request.score_threshold is None:
        return hits
    return [_cut_at_threshold(one, request.score_threshold, distance) for one in hits]


def _records_in_order(replies: Mapping[int, Any], keys: list[int], with_vectors: bool) -> list[Record]:
    found: dict[int, Record] = {}
    for records in replies.values():
        batch = records.batch
        versions = records.versions.tolist()
        for row, key in enumerate(key_list(batch.keys)):
            vector = batch.vectors[row] if with_vectors else None
            found[key] = Record(key, versions[row], batch.payload(row), vector)
    return [found[key] for key in keys if key in found]


def _cut_at_threshold(hits: QueryHits, score_threshold: float, distance: Distance) -> QueryHits:
    found = scores(np.array(hits.distances, np.float32), distance)
    return hits.first(int(passes_threshold(found, score_threshold, distance).sum()))
