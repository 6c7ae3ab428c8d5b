"""The routes that ask for neighbours: `points/query`, `points/query/batch`, and the older `points/search`.

A body becomes a SearchRequest; queries of a batch that share their parameters become one, so that a hundred queries
are one call. Everything is validated before anything is searched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from cluster.requests import MissingShard, ScrollRequest, SearchAnswer, SearchRequest
from cluster.search_times import SearchTimes
from cluster.tenant_guard import guard_of, narrowed
from deployments.cache_key import Arrival
from deployments.cache_question import Answer, Question
from deployments.cost import read_cost, search_cost
from deployments.degradation import lowered_ef
from deployments.http_coverage import LESS_WIDTH, coverage_json, degraded_json
from deployments.http_filters import NO_FILTER, encoded_filter
from deployments.http_json import Point, dump, parse_body, records, scored_points, scores_of
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import LegacySearchBody, QueryBatchBody, QueryBody, SearchParameters, Unusual
from deployments.http_vectors import pack_query, pack_vectors, query_vector, searched_vector
from deployments.limits import LimitSettings
from deployments.payload_selection import PayloadSelection, parse_selection
from deployments.vector_selection import VectorSelection, parse_vector_selection
from shards.batch import Vectors
from shards.distance import prepare_vectors
from shards.errors import LimitExceeded
from shards.schema import CollectionSpec
from shards.vector_layout import UNNAMED, VectorColumn

LIMIT_DEFAULT = 10
_NO_PARAMETERS = SearchParameters()


class _Plan(NamedTuple):
    """A SearchRequest without its vectors, fields in its order. Queries with equal plans go out as one.

    A tuple, because it is made for every query and a frozen dataclass of so many fields costs 2 us.
    """

    k: int
    ef: int | None
    exact: bool
    score_threshold: float | None
    with_payload: bool
    with_vectors: bool
    offset: int
    vector: str
    filter: bytes
    min_coverage: float


class _Found(NamedTuple):
    """Points, whatever they were found by; the rest as of a SearchAnswer."""

    points: list[Point]
    coverage: float
    missing: tuple[MissingShard, ...]


class _Shown(NamedTuple):
    """What an answer shows of a point."""

    payload: PayloadSelection
    vectors: VectorSelection


async def query_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/query"""
    answer = await _answer(context, request, _QUERY)
    reply = success(request, b'{"points":%b}' % answer.points, answer.shoal)
    return _timed(context, request, answer.times, reply)


async def search_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/search, the older form of a query by vector"""
    answer = await _answer(context, request, _SEARCH)
    return _timed(context, request, answer.times, success(request, answer.points, answer.shoal))


async def query_points_batch(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/query/batch"""
    bodies = parse_body(QueryBatchBody, request.body).searches
    limits = context.limits
    spec = context.cluster.collection(request.collection).spec
    if len(bodies) > limits.batch_max:
        raise LimitExceeded(f"a batch holds {len(bodies)} queries; the limit batch_max is {limits.batch_max}")
    deadline_s = request.deadline_s(limits)
    shown = [_shown(body, spec) for body in bodies]
    plans = [
        _plan(body, one, limits, f"searches[{place}].")
        for place, (body, one) in enumerate(zip(bodies, shown, strict=True))
    ]
    if (min_coverage := request.min_coverage()) < 1.0:
        plans = [plan._replace(min_coverage=min_coverage) for plan in plans]
    hit_count = sum(plan.k + plan.offset for plan in plans)
    if hit_count > limits.hits_per_request_max:
        raise LimitExceeded(
            f"a batch asks for {hit_count} hits; the limit hits_per_request_max is {limits.hits_per_request_max}"
        )
    queries = [[] if body.query is None else query_vector(body.query) for body in bodies]
    request.charge(sum(_cost(body, plan, spec) for body, plan in zip(bodies, plans, strict=True)))
    groups: dict[_Plan, list[int]] = {}
    for place, asked in enumerate(plans):
        if bodies[place].query is not None:
            plan = _fitted(context, request, asked, spec)
            groups.setdefault(plan, []).append(place)
    requests = []
    for plan, places in groups.items():
        column = searched_vector(spec, plan.vector)
        requests.append(SearchRequest(_pack_group(queries, places, column), *plan))
    answers = await _all_or_none([context.cluster.search(request.collection, one, deadline_s) for one in requests])
    results: list[dict[str, list[Point]]] = [{"points": []} for _ in bodies]
    said = [(answer.coverage, answer.missing) for answer in answers]
    for place in [place for place, body in enumerate(bodies) if body.query is None]:
        first = await _first_points(context, request, plans[place], shown[place])
        results[place]["points"] = first.points
        said.append((first.coverage, first.missing))
    for answer, (plan, places) in zip(answers, groups.items(), strict=True):
        distance = searched_vector(spec, plan.vector).distance
        for hits, found_scores, place in zip(answer.hits, scores_of(answer.hits, distance), places, strict=True):
            results[place]["points"] = scored_points(hits, found_scores, *shown[place])
    reply = success(request, dump(results), _said(request, *_least(said)))
    times = [answer.times for answer in answers if answer.times is not None]
    return _timed(context, request, max(times, key=lambda one: one.merged, default=None), reply)


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


def _pack_group(queries: list[list[float]], places: list[int], column: VectorColumn) -> Vectors:
    packed = pack_vectors([queries[place] for place in places], column, "searches[{}].query", places)
    return prepare_vectors(packed, column.distance, column.size, "query")


async def _answer(context: HttpContext, request: Request, form: _Form) -> Answer:
    """The answer to one query, kept or searched."""
    cache = context.cache
    state = context.cluster.collection(request.collection)
    if cache is None or request.min_coverage() < 1.0:  # what is kept is whole, and may have to wait for a shard
        return await _searched(context, request, form.read(request.body))
    arrival = Arrival(state, form.name, request.query_string, request.body, request.headers, request.tenants)
    try:
        return await cache.answer(arrival, lambda: _question_to_keep(context, request, form.read(request.body)))
    except _NotKept as found:
        return await _searched(context, request, found.body)


class _NotKept(Exception):
    """The answer is none for the cache: the body asks for nothing near."""

    def __init__(self, body: QueryBody) -> None:
        super().__init__()
        self.body = body


def _question_to_keep(context: HttpContext, request: Request, body: QueryBody) -> Question:
    if body.query is None:
        raise _NotKept(body)
    return _question(context, request, body)


def _question(context: HttpContext, request: Request, body: QueryBody) -> Question:
    state = context.cluster.collection(request.collection)
    spec = state.spec
    shown = _shown(body, spec)
    plan = _plan(body, shown, context.limits)._replace(min_coverage=request.min_coverage())
    request.charge(_cost(body, plan, spec))
    if request.tenants:
        # Here already, not only where shards are asked: what an answer depends on is less then.
        plan = plan._replace(filter=narrowed(plan.filter, guard_of(request.collection, state)))
    column = searched_vector(spec, plan.vector)
    vectors = pack_query(query_vector(body.query), column, "query")

    def write(answer: SearchAnswer) -> bytes:
        (found_scores,) = scores_of(answer.hits, column.distance)
        return dump(scored_points(answer.hits[0], found_scores, *shown))

    def narrow() -> SearchRequest:
        return SearchRequest(vectors, *_fitted(context, request, plan, spec))

    asked = body.with_payload, body.vectors_shown
    deadline_s = request.deadline_s(context.limits)
    is_narrowed = _fitted_ef(context, plan, spec) != plan.ef
    return Question(SearchRequest(vectors, *plan), asked, write, deadline_s, narrow if is_narrowed else None)


async def _searched(context: HttpContext, request: Request, body: QueryBody) -> Answer:
    """The answer without a cache."""
    if body.query is None:
        spec = context.cluster.collection(request.collection).spec
        shown = _shown(body, spec)
        plan = _plan(body, shown, context.limits)._replace(min_coverage=request.min_coverage())
        request.charge(_cost(body, plan, spec))
        first = await _first_points(context, request, plan, shown)
        return Answer(dump(first.points), coverage_json(first.coverage, first.missing), None)
    question = _question(context, request, body)
    answer = await context.cluster.search(request.collection, question.searched(), question.deadline_s)
    return Answer(question.write(answer), _said(request, answer.coverage, answer.missing), answer.times)


class _Form(NamedTuple):
    """A form of a query's body."""

    name: str
    read: Callable[[bytes], QueryBody]


def _timed(context: HttpContext, request: Request, times: SearchTimes | None, reply: Reply) -> Reply:
    """The reply, which is made now; where its time went is counted, if anything was searched for it (and not before it
    came, for another request whose search it shares).
    """
    if times is not None and times.entered >= request.started + request.waited_s:
        request.times = times
        context.observed.phases.observe(request.started, times, request.waited_s)
    return reply


async def _first_points(context: HttpContext, request: Request, plan: _Plan, shown: _Shown) -> _Found:
    """A query that asks for nothing near: points in the order of their ids, which all score 1, as the API has it."""
    asked = ScrollRequest(
        plan.k + plan.offset,
        plan.filter,
        with_payload=plan.with_payload,
        with_vectors=plan.with_vectors,
        min_coverage=plan.min_coverage,
    )
    page = await context.cluster.scroll(request.collection, asked, request.deadline_s(context.limits))
    points = records(page.records[plan.offset :], *shown)
    for point, record in zip(points, page.records[plan.offset :], strict=True):
        point |= {"version": record.version, "score": 1.0}
    return _Found(points, page.coverage, page.missing)


def _shown(body: QueryBody, spec: CollectionSpec) -> _Shown:
    return _Shown(parse_selection(body.with_payload, default=False), parse_vector_selection(spec, body.vectors_shown))


def _plan(body: QueryBody, shown: _Shown, limits: LimitSettings, place: str = "") -> _Plan:
    """The body's parameters; `place` is where it stands. Raises LimitExceeded and BadFilter."""
    parameters = body.params or _NO_PARAMETERS
    k = LIMIT_DEFAULT if body.limit is None else body.limit
    offset = body.offset or 0
    if k + offset > limits.k_max:
        raise LimitExceeded(f"limit + offset is {k + offset}; the limit k_max is {limits.k_max}")
    ef = parameters.hnsw_ef
    if ef is not None and ef > limits.ef_max:
        raise LimitExceeded(f"params.hnsw_ef is {ef}; the limit ef_max is {limits.ef_max}")
    exact, vector = parameters.exact is True, body.using or UNNAMED
    encoded = NO_FILTER if body.filter is None else encoded_filter(body.filter, limits, f"{place}filter")
    payload, vectors = shown.payload.wanted, shown.vectors.wanted
    return _Plan(k, ef, exact, body.score_threshold, payload, vectors, offset, vector, encoded, 1.0)


def _cost(body: QueryBody, plan: _Plan, spec: CollectionSpec) -> float:
    if body.query is None:
        return read_cost(plan.k + plan.offset, bool(plan.filter))
    ef = plan.ef or spec.hnsw_of(searched_vector(spec, plan.vector)).ef_search
    return search_cost(max(ef, plan.k + plan.offset), plan.exact, bool(plan.filter))


def _fitted(context: HttpContext, request: Request, plan: _Plan, spec: CollectionSpec) -> _Plan:
    """The plan as it is carried out: a router that is short of time gives less width to who asks for none, and says so."""
    ef = _fitted_ef(context, plan, spec)
    if ef == plan.ef:
        return plan
    context.admission.counts.lowered_ef += 1
    request.degraded = LESS_WIDTH
    return plan._replace(ef=ef)


def _fitted_ef(context: HttpContext, plan: _Plan, spec: CollectionSpec) -> int | None:
    """The width that a search gets now: the plan's own, or a lower one than its collection has."""
    fraction = context.admission.degradation.ef_fraction
    if fraction == 1.0 or plan.ef is not None or plan.exact:
        return plan.ef
    usual = spec.hnsw_of(searched_vector(spec, plan.vector)).ef_search
    ef = lowered_ef(usual, plan.k + plan.offset, fraction)
    return plan.ef if ef == usual else ef


def _said(request: Request, coverage: float, missing: Sequence[MissingShard]) -> bytes:
    """What an answer says of itself."""
    return degraded_json(coverage_json(coverage, missing), request.degraded)


def _as_query(legacy: LegacySearchBody) -> QueryBody:
    vector, name = legacy.vector, UNNAMED
    if isinstance(vector, Unusual) and isinstance(vector.value, dict) and vector.value.keys() == {"name", "vector"}:
        name, vector = str(vector.value["name"]), Unusual(vector.value["vector"])
    common = {field: getattr(legacy, field) for field in QueryBody.model_fields if field in type(legacy).model_fields}
    return QueryBody.model_construct(query=vector, using=name, **common)


def _least(said: list[tuple[float, tuple[MissingShard, ...]]]) -> tuple[float, list[MissingShard]]:
    """Of a batch: the worst coverage, and every shard that is missing in some of its answers, once."""
    missing = {one.shard_id: one for _, missing in said for one in missing}
    return min((coverage for coverage, _ in said), default=1.0), [missing[shard_id] for shard_id in sorted(missing)]


_QUERY = _Form("query", lambda body: parse_body(QueryBody, body))
_SEARCH = _Form("search", lambda body: _as_query(parse_body(LegacySearchBody, body)))
