"""The routes that ask for neighbours of one vector: `points/query`, and the older `points/search`.

A body becomes a SearchRequest. Everything is validated before anything is searched. Batches: deployments/http_batch.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cluster.requests import MissingShard, ScrollRequest, SearchAnswer, SearchRequest
from cluster.search_times import SearchTimes
from cluster.tenant_guard import guard_of, narrowed
from deployments.cache_key import Arrival
from deployments.cache_question import Answer, Question
from deployments.http_coverage import coverage_json, degraded_json
from deployments.http_json import Point, dump, parse_body, records, scored_points, scores_of
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import LegacySearchBody, QueryBody, Unusual
from deployments.http_vectors import pack_query, query_vector, searched_vector
from deployments.search_plan import Plan, Shown, cost_of, fitted, fitted_ef, plan_of, shown_of
from shards.vector_layout import UNNAMED


class FirstPoints(NamedTuple):
    """Points in the order of their ids; the rest as of a SearchAnswer."""

    points: list[Point]
    coverage: float
    missing: tuple[MissingShard, ...]


async def query_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/query"""
    answer = await _answer(context, request, _QUERY)
    reply = success(request, b'{"points":%b}' % answer.points, answer.shoal)
    return timed(context, request, answer.times, reply)


async def search_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/search, the older form of a query by vector"""
    answer = await _answer(context, request, _SEARCH)
    return timed(context, request, answer.times, success(request, answer.points, answer.shoal))


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
    shown = shown_of(body, spec)
    plan = plan_of(body, shown, context.limits)._replace(min_coverage=request.min_coverage())
    request.charge(cost_of(body, plan, spec))
    if request.tenants:
        # Here already, not only where shards are asked: what an answer depends on is less then.
        plan = plan._replace(filter=narrowed(plan.filter, guard_of(request.collection, state)))
    column = searched_vector(spec, plan.vector)
    vectors = pack_query(query_vector(body.query), column, "query")

    def write(answer: SearchAnswer) -> bytes:
        (found_scores,) = scores_of(answer.hits, column.distance)
        return dump(scored_points(answer.hits[0], found_scores, *shown))

    def narrow() -> SearchRequest:
        return SearchRequest(vectors, *fitted(context, request, plan, spec))

    asked = body.with_payload, body.vectors_shown
    deadline_s = request.deadline_s(context.limits)
    is_narrowed = fitted_ef(context, plan, spec) != plan.ef
    return Question(SearchRequest(vectors, *plan), asked, write, deadline_s, narrow if is_narrowed else None)


async def _searched(context: HttpContext, request: Request, body: QueryBody) -> Answer:
    """The answer without a cache."""
    if body.query is None:
        spec = context.cluster.collection(request.collection).spec
        shown = shown_of(body, spec)
        plan = plan_of(body, shown, context.limits)._replace(min_coverage=request.min_coverage())
        request.charge(cost_of(body, plan, spec))
        first = await first_points(context, request, plan, shown)
        return Answer(dump(first.points), coverage_json(first.coverage, first.missing), None)
    question = _question(context, request, body)
    answer = await context.cluster.search(request.collection, question.searched(), question.deadline_s)
    return Answer(question.write(answer), said(request, answer.coverage, answer.missing), answer.times)


class _Form(NamedTuple):
    """A form of a query's body."""

    name: str
    read: Callable[[bytes], QueryBody]


def timed(context: HttpContext, request: Request, times: SearchTimes | None, reply: Reply) -> Reply:
    """The reply, which is made now; where its time went is counted, if anything was searched for it (and not before it
    came, for another request whose search it shares).
    """
    if times is not None and times.entered >= request.started + request.waited_s:
        request.times = times
        context.observed.phases.observe(request.started, times, request.waited_s)
    return reply


async def first_points(context: HttpContext, request: Request, plan: Plan, shown: Shown) -> FirstPoints:
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
    return FirstPoints(points, page.coverage, page.missing)


def said(request: Request, coverage: float, missing: Sequence[MissingShard]) -> bytes:
    """What an answer says of itself."""
    return degraded_json(coverage_json(coverage, missing), request.degraded)


def _as_query(legacy: LegacySearchBody) -> QueryBody:
    vector, name = legacy.vector, UNNAMED
    if isinstance(vector, Unusual) and isinstance(vector.value, dict) and vector.value.keys() == {"name", "vector"}:
        name, vector = str(vector.value["name"]), Unusual(vector.value["vector"])
    common = {field: getattr(legacy, field) for field in QueryBody.model_fields if field in type(legacy).model_fields}
    return QueryBody.model_construct(query=vector, using=name, **common)


_QUERY = _Form("query", lambda body: parse_body(QueryBody, body))
_SEARCH = _Form("search", lambda body: _as_query(parse_body(LegacySearchBody, body)))
