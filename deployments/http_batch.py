"""The route `points/query/batch`: queries that share their parameters become one, so that a hundred queries are one call.

Everything is validated before anything is searched. Where answers are kept, each query is a question of its own: those whose
answers are kept and hold are given these, the others are searched together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.requests import MissingShard, SearchAnswer, SearchRequest
from cluster.tenant_guard import guard_of, narrowed
from deployments.cache_key import Arrival
from deployments.cache_question import BatchAnswer, BatchQuery, Searched
from deployments.http_coverage import kept_json
from deployments.http_json import dump, parse_body, scored_points, scores_of
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import QueryBatchBody, QueryBody
from deployments.http_search import first_points, said, timed
from deployments.http_vectors import pack_query, query_vector, searched_vector
from deployments.search_plan import Plan, Shown, cost_of, fitted, plan_of, shown_of
from shards.batch import Vectors
from shards.errors import LimitExceeded
from shards.schema import CollectionSpec


async def query_points_batch(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/query/batch"""
    deadline_s = request.deadline_s(context.limits)
    batch = _read(context, request)
    near = [*batch.vectors]
    if context.cache is None or request.min_coverage() < 1.0:  # as for one query
        searched = await batch.search(near, deadline_s)
        answer = BatchAnswer([one.points for one in searched], searched)
    else:
        state = context.cluster.collection(request.collection)
        arrival = Arrival(state, "batch", request.query_string, request.body, request.headers, request.tenants)
        answer = await context.cache.answer_all(
            arrival,
            [batch.question(place) for place in near],
            lambda numbers, left_s: batch.search([near[number] for number in numbers], left_s),
            deadline_s,
        )
    points = dict(zip(near, answer.points, strict=True))
    parts = [(one.answer.coverage, one.answer.missing) for one in answer.searched]
    for place in [place for place, body in enumerate(batch.bodies) if body.query is None]:
        first = await first_points(context, request, batch.plans[place], batch.shown[place])
        points[place] = dump(first.points)
        parts.append((first.coverage, first.missing))
    result = b",".join([b'{"points":%b}' % points[place] for place in range(len(batch.bodies))])
    shoal = kept_json(said(request, *_least(parts)), answer.kept_count, answer.stale_s)
    times = [one.answer.times for one in answer.searched if one.answer.times is not None]
    latest = max(times, key=lambda one: one.merged, default=None)
    return timed(context, request, latest, success(request, b"[%b]" % result, shoal))


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that was read. `plans` and `shown`: of each query; `vectors`: (1, size), prepared, by the places of those queries
    that ask for something near.
    """

    context: HttpContext
    request: Request
    spec: CollectionSpec
    bodies: Sequence[QueryBody]
    shown: Sequence[Shown]
    plans: Sequence[Plan]
    vectors: dict[int, Vectors]

    def question(self, place: int) -> BatchQuery:
        """What an answer is kept for."""
        body = self.bodies[place]
        request = SearchRequest(self.vectors[place], *self.plans[place])
        return BatchQuery(request, (body.with_payload, body.vectors_shown))

    async def search(self, places: Sequence[int], deadline_s: float) -> list[Searched]:
        """What is found at these places, in their order; queries that are carried out alike go out as one."""
        groups: dict[Plan, list[int]] = {}
        for place in places:
            groups.setdefault(fitted(self.context, self.request, self.plans[place], self.spec), []).append(place)
        requests = [
            SearchRequest(np.concatenate([self.vectors[place] for place in group]), *plan)
            for plan, group in groups.items()
        ]
        cluster, collection = self.context.cluster, self.request.collection
        answers = await _all_or_none([cluster.search(collection, one, deadline_s) for one in requests])
        found: dict[int, Searched] = {}
        for answer, (plan, group) in zip(answers, groups.items(), strict=True):
            distance = searched_vector(self.spec, plan.vector).distance
            for number, (place, found_scores) in enumerate(zip(group, scores_of(answer.hits, distance), strict=True)):
                hits = answer.hits[number]
                origins = answer.origins[number : number + 1]
                alone = SearchAnswer([hits], answer.coverage, answer.times, origins, answer.missing)
                points = dump(scored_points(hits, found_scores, *self.shown[place]))
                found[place] = Searched(alone, points, is_narrowed=plan != self.plans[place])
        return [found[place] for place in places]


def _read(context: HttpContext, request: Request) -> _Batch:
    bodies = parse_body(QueryBatchBody, request.body).searches
    state, limits = context.cluster.collection(request.collection), context.limits
    spec = state.spec
    if len(bodies) > limits.batch_max:
        raise LimitExceeded(f"a batch holds {len(bodies)} queries; the limit batch_max is {limits.batch_max}")
    shown = [shown_of(body, spec) for body in bodies]
    plans = [
        plan_of(body, one, limits, f"searches[{place}].")
        for place, (body, one) in enumerate(zip(bodies, shown, strict=True))
    ]
    if (min_coverage := request.min_coverage()) < 1.0:
        plans = [plan._replace(min_coverage=min_coverage) for plan in plans]
    hit_count = sum(plan.k + plan.offset for plan in plans)
    if hit_count > limits.hits_per_request_max:
        raise LimitExceeded(
            f"a batch asks for {hit_count} hits; the limit hits_per_request_max is {limits.hits_per_request_max}"
        )
    queries = {place: query_vector(body.query) for place, body in enumerate(bodies) if body.query is not None}
    request.charge(sum(cost_of(body, plan, spec) for body, plan in zip(bodies, plans, strict=True)))
    columns = {name: searched_vector(spec, name) for name in {plans[place].vector for place in queries}}
    # One by one as for a single query, so that both have the same bits and with them the same key among what is kept.
    vectors = {
        place: pack_query(values, columns[plans[place].vector], f"searches[{place}].query")
        for place, values in queries.items()
    }
    if request.tenants and vectors:
        guard = guard_of(request.collection, state)
        own = {encoded: narrowed(encoded, guard) for encoded in {plans[place].filter for place in vectors}}
        plans = [
            plan._replace(filter=own[plan.filter]) if place in vectors else plan for place, plan in enumerate(plans)
        ]
    return _Batch(context, request, spec, bodies, shown, plans, vectors)


async def _all_or_none(searches: Sequence[Coroutine[Any, Any, SearchAnswer]]) -> list[SearchAnswer]:
    """The answers, in order. Raises the first error when no search goes on any more: the request's place is given to another
    then.
    """
    tasks = [asyncio.ensure_future(one) for one in searches]
    try:
        return await asyncio.gather(*tasks)
    except Exception:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _least(parts: Iterable[tuple[float, tuple[MissingShard, ...]]]) -> tuple[float, list[MissingShard]]:
    """Of a batch: the worst coverage, and every shard that is missing in some of its answers, once."""
    parts = [*parts]
    missing = {one.shard_id: one for _, missing in parts for one in missing}
    return min((coverage for coverage, _ in parts), default=1.0), [missing[shard_id] for shard_id in sorted(missing)]
