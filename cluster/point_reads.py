"""Reading points from a collection's shards: fan out, merge. Which shards is told in cluster/tenants.py; how answers are
merged is pure: cluster/merge.py, cluster/paging.py. Each request has one deadline for all its steps, and a read whose caller is
content with less than every shard (`min_coverage`) may be answered without some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from cluster.batching import Answered, SearchBatcher
from cluster.coverage import missing_of, needed_again
from cluster.fan_out import ShardRequest
from cluster.gather import Outcome
from cluster.paging import merge_pages
from cluster.requests import (
    CollectionStatistics,
    Origin,
    PointCount,
    QueryHits,
    Record,
    ScrollPage,
    ScrollRequest,
    SearchAnswer,
    SearchRequest,
)
from cluster.scope import Named, Scope, scope_of
from cluster.search_times import FanOutTimes, SearchTimes
from cluster.shard_calls import PATIENCE, Patience, ShardCalls, countdown, target_of
from cluster.shard_search import ShardSearch, shard_search
from cluster.state import CatalogueControl, CollectionState
from cluster.tenant_guard import narrowed
from cluster.tenants import shards_asked, split_ids
from shards import messages
from shards.batch import Vectors
from shards.errors import ShoalError
from shards.filter_query import filter_query
from shards.filters.paths import parse_path
from shards.lookup import Which
from shards.nearest import Want
from shards.point_ids import key_array, key_list
from shards.scrolling import Order, ScrollPlan
from shards.wire import Kind


class _SearchKey(NamedTuple):
    """What searches have in common that leave together. `parameters`: a SearchRequest without its vectors."""

    scope: Scope
    dim: int
    parameters: tuple[Any, ...]
    deadline_s: float


class _Found(NamedTuple):
    """What one query found, from what it was merged (None where that can't be told), and when; `outcome` and `times` are shared
    by all queries that left together.
    """

    hits: QueryHits
    origin: Origin | None
    outcome: Outcome
    times: tuple[FanOutTimes, float, float]


class _Way(NamedTuple):
    """How a group of searches goes: the time it has left, and what to call when the shards have answered."""

    left_s: Callable[[], float]
    answered: Answered


class PointReads(ShardCalls):
    """Every method raises ShoalErrors; deadlines are in seconds from now."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience: Patience = PATIENCE) -> None:
        super().__init__(control, secret, patience)
        self._searches: SearchBatcher[_SearchKey, _Found] = SearchBatcher(self._search_alike)

    async def retrieve(
        self, about: Named, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        """The points of the ids, in the order asked; missing ones are left out."""
        array = key_array(keys)
        want = Want(with_payload, with_vectors)
        left_s = countdown(deadline_s)

        async def ask(collection: CollectionState, guard: bytes) -> list[Record]:
            target, which = target_of(collection), Which(filter_query(guard)) if guard else None
            bodies = {
                shard_id: messages.encode_retrieve(target, array[rows], want, which)
                for shard_id, rows in split_ids(collection, array, guard).items()
            }
            replies = await self._ask(ShardRequest(Kind.RETRIEVE, bodies, messages.decode_records), left_s())
            return _records_in_order(replies, keys, with_vectors)

        return await self._on_current_state(about, ask, left_s) if keys else []

    async def scroll(self, about: Named, request: ScrollRequest, deadline_s: float) -> ScrollPage:
        """A page of points in the order of their ids, or of a payload field."""
        wanted = request.order_by
        order = wanted and Order(parse_path(wanted.field), wanted.descends, wanted.start_from)
        # One more than the page has, by id, tells where the next begins.
        limit = request.limit + 1 if order is None else request.limit
        want = Want(request.with_payload, request.with_vectors)
        left_s = countdown(deadline_s)

        async def ask(collection: CollectionState, guard: bytes) -> ScrollPage:
            encoded = narrowed(request.filter, guard)
            plan = ScrollPlan(limit, request.offset, filter_query(encoded) if encoded else None, order, want)
            body = messages.encode_scroll(target_of(collection), plan)
            bodies = dict.fromkeys(shards_asked(collection, encoded), body)
            shard_request = ShardRequest(Kind.SCROLL, bodies, messages.decode_page)
            outcome = await self._ask_for_enough(shard_request, left_s(), request.min_coverage)
            page = merge_pages(list(outcome.replies.values()), request)
            if not outcome.failures:
                return page
            return replace(page, coverage=outcome.coverage, missing=missing_of(outcome))

        return await self._on_current_state(about, ask, left_s)

    async def count(
        self, about: Named, deadline_s: float, encoded_filter: bytes = b"", min_coverage: float = 1.0
    ) -> PointCount:
        """Points of a collection, or those of them that match, exactly."""
        left_s = countdown(deadline_s)

        async def ask(collection: CollectionState, guard: bytes) -> PointCount:
            encoded = narrowed(encoded_filter, guard)
            body = [target_of(collection).encode() + encoded]
            bodies = dict.fromkeys(shards_asked(collection, encoded), body)
            shard_request = ShardRequest(Kind.COUNT, bodies, messages.decode_written)
            outcome = await self._ask_for_enough(shard_request, left_s(), min_coverage)
            return PointCount(sum(outcome.replies.values()), outcome.coverage, missing_of(outcome))

        return await self._on_current_state(about, ask, left_s)

    async def statistics(self, about: Named, deadline_s: float) -> list[CollectionStatistics]:
        """What each shard says of its part, by shard id."""
        replies = await self._ask_all(about, Kind.STATISTICS, messages.decode_json, deadline_s)
        return [CollectionStatistics(**replies[shard_id]) for shard_id in sorted(replies)]

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        """The nearest points to each query. Searches that ask alike share their way (cluster/batching.py)."""
        key = _SearchKey(scope_of(about), request.vectors.shape[1], request[1:], deadline_s)
        entered = perf_counter()
        found = await self._searches.search(key, request.vectors)
        _, _, outcome, times = found[0]  # all of them left together
        origins = [one.origin for one in found]
        return SearchAnswer(
            [one.hits for one in found],
            outcome.coverage,
            SearchTimes(entered, *times),
            origins if any(origins) else (),
            missing_of(outcome),
        )

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

    async def _search_alike(
        self, key: _SearchKey, vectors: Vectors, answered: Answered, waited_s: float
    ) -> list[_Found]:
        request = SearchRequest(vectors, *key.parameters)
        left_s = countdown(key.deadline_s - waited_s)
        return await self._on_current_state(key.scope, partial(self._search, request, _Way(left_s, answered)), left_s)

    async def _search(
        self, request: SearchRequest, way: _Way, collection: CollectionState, guard: bytes
    ) -> list[_Found]:
        times = FanOutTimes(perf_counter())
        if guard:
            request = request._replace(filter=narrowed(request.filter, guard))
        search = shard_search(collection, request, target_of(collection))
        bodies = dict.fromkeys(shards_asked(collection, request.filter), search.body())
        asked = ShardRequest(Kind.SEARCH, bodies, messages.decode_hits, times)
        outcome = await self._ask_for_enough(asked, way.left_s(), request.min_coverage)
        answered_at = perf_counter()
        way.answered()
        hits, refetched, whole = await self._merged(search, outcome, way.left_s)
        common = (whole, (times, answered_at, perf_counter()))
        has_origin = whole is outcome
        return [
            _Found(one, Origin(outcome.replies, query) if has_origin and query not in refetched else None, *common)
            for query, one in enumerate(hits)
        ]

    async def _merged(
        self, search: ShardSearch, outcome: Outcome, left_s: Callable[[], float]
    ) -> tuple[list[QueryHits], Sequence[int], Outcome]:
        """What each query found over all of its shards, for which queries shards that were cut short were asked again, and the
        outcome without those that did not answer then: what they said first is no whole answer.
        """
        merged = search.merge(outcome.replies)
        shard_ids, queries = search.cut_short(outcome.replies, merged)
        if queries:
            self.gather_counts.refetches += 1
            bodies = dict.fromkeys(shard_ids, search.whole_body(queries))
            enough = needed_again(outcome, len(shard_ids), search.request.min_coverage)
            whole = await self._ask_for_enough(
                ShardRequest(Kind.SEARCH, bodies, messages.decode_hits), left_s(), enough
            )
            outcome = outcome.without(whole.failures)
            merged = search.complete(merged, queries, outcome.replies, whole.replies)
        return search.cut_at_threshold(merged), queries, outcome


def _records_in_order(replies: Mapping[int, Any], keys: list[int], with_vectors: bool) -> list[Record]:
    found: dict[int, Record] = {}
    for records in replies.values():
        batch = records.batch
        versions = records.versions.tolist()
        for row, key in enumerate(key_list(batch.keys)):
            vector = batch.vectors[row] if with_vectors else None
            found[key] = Record(key, versions[row], batch.payload(row), vector)
    return [found[key] for key in keys if key in found]
