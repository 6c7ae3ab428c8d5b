"""The routes on points by id: upsert, retrieve, delete, count.

A write is validated as a whole before any of it is sent: it is done entirely or refused. Of an id that occurs twice
in one request the last point counts. Payloads are stored as the JSON text of the parsed object, so that an answer can
carry their bytes unparsed; what JSON text can't keep exactly is refused, not rounded: integers beyond 64 bits,
NaN and infinities, text that is no Unicode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from cluster.requests import WriteReceipt
from deployments.http_json import dump, parse_body, records
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import BatchBody, CountBody, DeleteBody, PointBody, RetrieveBody, UpsertBody
from deployments.http_vectors import pack_columns, pack_points
from deployments.limits import LimitSettings
from deployments.payload_selection import WHOLE_PAYLOAD, parse_selection
from deployments.vector_selection import all_vectors, parse_vector_selection
from shards.batch import PointBatch, Vectors, make_batch
from shards.errors import InvalidRequest, LimitExceeded, NotFound, NotSupported
from shards.point_ids import INTEGER_MAX, key_array, parse_point_id, point_id
from shards.schema import CollectionSpec

_NOTHING_DONE = WriteReceipt(lsn=0)


async def upsert_points(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/points"""
    body = parse_body(UpsertBody, request.body)
    spec = context.cluster.collection(request.collection).spec
    deadline_s, wait = request.deadline_s(context.limits), request.wait()
    if body.update_mode not in (None, "upsert"):
        raise NotSupported(f"`update_mode` {body.update_mode[:40]!r} is not supported yet")
    if (body.points is None) == (body.batch is None):
        raise InvalidRequest("Format error in JSON body: exactly one of `points` and `batch` is needed")
    if body.points is not None:
        batch = _batch_of_points(body.points, spec, context.limits)
    else:
        assert body.batch is not None
        batch = _batch_of_columns(body.batch, spec, context.limits)
    receipt = _NOTHING_DONE
    if len(batch):
        receipt = await context.cluster.upsert(request.collection, batch, deadline_s)
    return _written(request, receipt, wait)


async def delete_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/delete"""
    body = parse_body(DeleteBody, request.body)
    context.cluster.collection(request.collection)
    deadline_s, wait = request.deadline_s(context.limits), request.wait()
    if body.points is None:
        raise InvalidRequest("Format error in JSON body: `points`, a list of ids, is needed")
    keys = _parse_keys(body.points, "points[{}]", context.limits)
    receipt = _NOTHING_DONE
    if keys:
        receipt = await context.cluster.delete(request.collection, list(dict.fromkeys(keys)), deadline_s)
    return _written(request, receipt, wait)


async def retrieve_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points"""
    body = parse_body(RetrieveBody, request.body)
    selection = parse_selection(body.with_payload, default=True)
    spec = context.cluster.collection(request.collection).spec
    vectors = parse_vector_selection(spec, body.with_vector if body.with_vectors is None else body.with_vectors)
    keys = _parse_keys(body.ids, "ids[{}]", context.limits)
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
    parse_body(CountBody, request.body or b"{}")
    counted = await context.cluster.count(request.collection, request.deadline_s(context.limits))
    return success(request, b'{"count":%d}' % counted)


def _written(request: Request, receipt: WriteReceipt, wait: bool) -> Reply:
    status = b"completed" if wait else b"acknowledged"
    result = b'{"operation_id":%d,"status":"%b"}' % (receipt.lsn, status)
    return success(request, result, b'{"lsn":%d}' % receipt.lsn)


def _batch_of_points(points: list[PointBody], spec: CollectionSpec, limits: LimitSettings) -> PointBatch:
    keys = _parse_keys([point.id for point in points], "points[{}].id", limits)
    vectors = pack_points([point.vector for point in points], spec, "points[{}].vector")
    payloads = _encode_payloads([point.payload for point in points], "points[{}].payload", limits)
    return _prepared_batch(keys, vectors, payloads, spec)


def _batch_of_columns(batch: BatchBody, spec: CollectionSpec, limits: LimitSettings) -> PointBatch:
    keys = _parse_keys(batch.ids, "batch.ids[{}]", limits)
    given_payloads = [None] * len(keys) if batch.payloads is None else batch.payloads
    if len(given_payloads) != len(keys):
        raise InvalidRequest(
            f"batch.payloads holds {len(given_payloads)} items, batch.ids {len(keys)}; they must be as many"
        )
    vectors = pack_columns(batch.vectors, len(keys), spec, "batch.vectors")
    payloads = _encode_payloads(given_payloads, "batch.payloads[{}]", limits)
    return _prepared_batch(keys, vectors, payloads, spec)


def _prepared_batch(keys: list[int], vectors: Vectors, payloads: list[bytes], spec: CollectionSpec) -> PointBatch:
    last = {key: row for row, key in enumerate(keys)}
    if len(last) < len(keys):
        rows = sorted(last.values())
        keys, payloads = [keys[row] for row in rows], [payloads[row] for row in rows]
        vectors = vectors[rows]
    return make_batch(key_array(keys), spec.layout.prepare(vectors, "point"), payloads)


def _parse_keys(ids: Sequence[Any], place: str, limits: LimitSettings) -> list[int]:
    """The keys of ids as JSON spells them. `place` is how errors name one, with `{}` for its number."""
    if len(ids) > limits.points_per_request_max:
        raise LimitExceeded(
            f"a request names {len(ids)} points; the limit points_per_request_max is {limits.points_per_request_max}"
        )
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) <= INTEGER_MAX)):
        return list(ids)
    keys = []
    for index, value in enumerate(ids):
        try:
            keys.append(parse_point_id(value))
        except InvalidRequest as error:
            raise InvalidRequest(f"Format error in JSON body: {place.format(index)}: {error.message}") from None
    return keys


def _encode_payloads(payloads: Sequence[dict[str, Any] | None], place: str, limits: LimitSettings) -> list[bytes]:
    """The stored bytes of each payload; empty for none."""
    depth_max = limits.payload_depth_max
    encoded = []
    for index, payload in enumerate(payloads):
        if not payload:
            encoded.append(b"")
            continue
        try:
            text = orjson.dumps(payload)
        except TypeError as error:
            raise InvalidRequest(f"{place.format(index)} can't be stored: {error}") from None
        # Both looks are rare: orjson writes NaN and infinities as null, and depth needs as many brackets.
        if (b"null" in text or text.count(b"{") + text.count(b"[") > depth_max) and (
            problem := _payload_problem(payload, depth_max)
        ):
            raise InvalidRequest(f"{place.format(index)} {problem}")
        encoded.append(text)
    return encoded


def _payload_problem(value: Any, depth_left: int) -> str | None:
    """Why a payload can't be stored, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "holds a number that is NaN or beyond the range of a 64-bit float"
    if not isinstance(value, dict | list):
        return None
    if depth_left == 0:
        return "is nested deeper than the limit payload_depth_max"
    children = value.values() if isinstance(value, dict) else value
    problems = (_payload_problem(child, depth_left - 1) for child in children)
    return next((problem for problem in problems if problem), None)
