"""The routes on whole points: upsert, retrieve, delete, count.

A write is validated as a whole before any of it is sent: it is done entirely or refused. Of an id that occurs twice
in one request the last point counts; conditions are about points as they were before the request.
"""

from __future__ import annotations

from cluster.requests import UpsertCondition
from deployments.cost import read_cost
from deployments.http_coverage import coverage_json
from deployments.http_filters import EMPTY_UPDATE, encoded_filter, parse_keys, selected_points
from deployments.http_json import dump, parse_body, records
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import BatchBody, CountBody, PointBody, RetrieveBody, SelectionBody, UpsertBody
from deployments.http_payloads import encode_payloads
from deployments.http_vectors import pack_columns, pack_points
from deployments.http_writes import Deletion, Upsert, answer_write
from deployments.limits import LimitSettings
from deployments.payload_selection import WHOLE_PAYLOAD, parse_selection
from deployments.vector_selection import all_vectors, parse_vector_selection
from shards.batch import PointBatch, Vectors, make_batch
from shards.errors import InvalidRequest, NotFound
from shards.point_ids import key_array, parse_point_id, point_id
from shards.schema import CollectionSpec


async def upsert_points(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/points"""
    return await answer_write(context, request, UpsertBody, prepare_upsert)


async def delete_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/delete"""
    return await answer_write(context, request, SelectionBody, prepare_deletion)


async def retrieve_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points"""
    body = parse_body(RetrieveBody, request.body)
    selection = parse_selection(body.with_payload, default=True)
    spec = context.cluster.collection(request.collection).spec
    vectors = parse_vector_selection(spec, body.vectors_shown)
    keys = parse_keys(body.ids, "ids[{}]", context.limits)
    request.charge(read_cost(len(keys)))
    deadline_s = request.deadline_s(context.limits)
    found = await context.cluster.retrieve(request.collection, keys, selection.wanted, vectors.wanted, deadline_s)
    return success(request, dump(records(found, selection, vectors)))


async def get_point(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/points/{id}"""
    text = request.point
    key = parse_point_id(int(text) if text.isdecimal() and text.isascii() and len(text) <= 20 else text)
    deadline_s = request.deadline_s(context.limits)
    found = await context.cluster.retrieve(request.collection, [key], True, True, deadline_s)
    if not found:
        raise NotFound(f"Not found: Point with id {point_id(key)} does not exists!")
    spec = context.cluster.collection(request.collection).spec
    return success(request, dump(records(found, WHOLE_PAYLOAD, all_vectors(spec))[0]))


async def count_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/count; exact and not are the same here"""
    body = parse_body(CountBody, request.body or b"{}")
    encoded = encoded_filter(body.filter, context.limits)
    request.charge(read_cost(0, bool(encoded)))
    deadline_s, min_coverage = request.deadline_s(context.limits), request.min_coverage()
    counted = await context.cluster.count(request.collection, deadline_s, encoded, min_coverage)
    partial = coverage_json(counted.coverage, counted.missing) if counted.missing else b""
    return success(request, b'{"count":%d}' % counted.count, partial)


def prepare_upsert(body: UpsertBody, spec: CollectionSpec, limits: LimitSettings) -> Upsert:
    """The points of an upsert, ready to be sent."""
    if (body.points is None) == (body.batch is None):
        raise InvalidRequest("Format error in JSON body: exactly one of `points` and `batch` is needed")
    if body.points is not None:
        batch = _batch_of_points(body.points, spec, limits)
    else:
        assert body.batch is not None
        batch = _batch_of_columns(body.batch, spec, limits)
    if not len(batch):
        raise InvalidRequest(EMPTY_UPDATE)
    update_filter = encoded_filter(body.update_filter, limits, "update_filter")
    return Upsert(batch, UpsertCondition(body.update_mode or "upsert", update_filter))


def prepare_deletion(body: SelectionBody, spec: CollectionSpec, limits: LimitSettings) -> Deletion:
    """Which points a deletion is about."""
    return Deletion(selected_points(body, limits))


def _batch_of_points(points: list[PointBody], spec: CollectionSpec, limits: LimitSettings) -> PointBatch:
    keys = parse_keys([point.id for point in points], "points[{}].id", limits)
    vectors = pack_points([point.vector for point in points], spec, "points[{}].vector")
    payloads = encode_payloads([point.payload for point in points], "points[{}].payload", limits)
    return _prepared_batch(keys, vectors, payloads, spec)


def _batch_of_columns(batch: BatchBody, spec: CollectionSpec, limits: LimitSettings) -> PointBatch:
    keys = parse_keys(batch.ids, "batch.ids[{}]", limits)
    given_payloads = [None] * len(keys) if batch.payloads is None else batch.payloads
    if len(given_payloads) != len(keys):
        raise InvalidRequest(
            f"batch.payloads holds {len(given_payloads)} items, batch.ids {len(keys)}; they must be as many"
        )
    vectors = pack_columns(batch.vectors, len(keys), spec, "batch.vectors")
    payloads = encode_payloads(given_payloads, "batch.payloads[{}]", limits)
    return _prepared_batch(keys, vectors, payloads, spec)


def _prepared_batch(keys: list[int], vectors: Vectors, payloads: list[bytes], spec: CollectionSpec) -> PointBatch:
    last = {key: row for row, key in enumerate(keys)}
    if len(last) < len(keys):
        rows = sorted(last.values())
        keys, payloads = [keys[row] for row in rows], [payloads[row] for row in rows]
        vectors = vectors[rows]
    return make_batch(key_array(keys), spec.layout.prepare(vectors, "point"), payloads)
