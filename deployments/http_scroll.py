"""The route that pages through points: in the order of their ids, or of a payload field's numbers and dates."""

from __future__ import annotations

import sys
from typing import Any

import orjson

from cluster.requests import OrderBy, ScrollRequest
from deployments.cost import read_cost
from deployments.http_coverage import coverage_json
from deployments.http_filters import encoded_filter, parse_key
from deployments.http_json import dump, parse_body, records
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import OrderByBody, ScrollBody
from deployments.http_payloads import canonical_path
from deployments.limits import LimitSettings
from deployments.payload_selection import parse_selection
from deployments.vector_selection import parse_vector_selection
from shards.errors import InvalidRequest, LimitExceeded
from shards.filters.dates import instant
from shards.point_ids import point_id

LIMIT_DEFAULT = 10


async def scroll_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/scroll"""
    body = parse_body(ScrollBody, request.body or b"{}")
    spec = context.cluster.collection(request.collection).spec
    selection = parse_selection(body.with_payload, default=True)
    vectors = parse_vector_selection(spec, body.vectors_shown)
    asked = _asked(body, context.limits)._replace(
        with_payload=selection.wanted, with_vectors=vectors.wanted, min_coverage=request.min_coverage()
    )
    request.charge(read_cost(asked.limit, bool(asked.filter) or asked.order_by is not None))
    page = await context.cluster.scroll(request.collection, asked, request.deadline_s(context.limits))
    points = records(page.records, selection, vectors)
    if page.order_values is not None:
        for point, value in zip(points, page.order_values, strict=True):
            point["order_value"] = value
    following = None if page.next_key is None else point_id(page.next_key)
    partial = coverage_json(page.coverage, page.missing) if page.missing else b""
    result = b'{"points":%b,"next_page_offset":%b}' % (dump(points), orjson.dumps(following))
    return success(request, result, partial)


def _asked(body: ScrollBody, limits: LimitSettings) -> ScrollRequest:
    limit = LIMIT_DEFAULT if body.limit is None else body.limit
    if limit > limits.scroll_limit_max:
        raise LimitExceeded(f"limit is {limit}; the limit scroll_limit_max is {limits.scroll_limit_max}")
    if body.order_by is not None and body.offset is not None:
        raise InvalidRequest("`offset` can't be combined with `order_by`; give `order_by.start_from` instead")
    return ScrollRequest(
        limit,
        encoded_filter(body.filter, limits),
        None if body.offset is None else parse_key(body.offset, "offset"),
        None if body.order_by is None else _order(body.order_by),
    )


def _order(order_by: OrderByBody | str) -> OrderBy:
    if isinstance(order_by, str):
        return OrderBy(canonical_path(order_by, "order_by"))
    start_from = None if order_by.start_from is None else _start(order_by.start_from)
    return OrderBy(canonical_path(order_by.key, "order_by.key"), order_by.direction == "desc", start_from)


def _start(value: Any) -> float:
    """Where to start: a number, or a date in microseconds since 1970."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:  # no NaN
        return value
    if isinstance(value, str) and (at := instant(value)) is not None:
        return at
    raise InvalidRequest(
        "Format error in JSON body: order_by.start_from is neither a number nor a date such as 2024-05-17T12:30:00Z: "
        f"{value!r:.40}"
    )
