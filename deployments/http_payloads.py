"""The routes on payloads (set, overwrite, delete, clear), and payloads of bodies as they are stored.

Payloads are stored as the JSON text of the parsed object, so that an answer can carry their bytes unparsed; what JSON text
can't keep exactly is refused, not rounded: integers beyond 64 bits, NaN and infinities, text that is no Unicode.
How a change changes a payload is told in shards/point_change.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from deployments.http_filters import selected_first, selected_points
from deployments.http_message import HttpContext, Reply, Request
from deployments.http_models import PayloadBody, PayloadKeysBody, SelectionBody
from deployments.http_writes import Change, answer_write
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest, NotSupported
from shards.filters.paths import parse_path
from shards.point_change import ChangeKind, PointChange
from shards.schema import CollectionSpec


async def set_payload(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/payload"""
    return await answer_write(context, request, PayloadBody, prepare_set)


async def overwrite_payload(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/points/payload"""
    return await answer_write(context, request, PayloadBody, prepare_overwrite)


async def delete_payload(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/payload/delete"""
    return await answer_write(context, request, PayloadKeysBody, prepare_delete)


async def clear_payload(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/payload/clear"""
    return await answer_write(context, request, SelectionBody, prepare_clear)


def prepare_set(body: PayloadBody, spec: CollectionSpec, limits: LimitSettings) -> Change:
    """What `set_payload` changes."""
    encode_payloads([body.payload], "payload", limits)
    path = None
    if body.key is not None:
        path = canonical_path(body.key, "key")
        if _payload_problem(body.payload, limits.payload_depth_max - len(parse_path(path).steps)):
            raise InvalidRequest(f"payload below key {path[:80]!r} is nested deeper than the limit payload_depth_max")
    change = PointChange(kind=ChangeKind.SET, payload=body.payload, path=path)
    return Change(selected_first(body, limits), change)


def prepare_overwrite(body: PayloadBody, spec: CollectionSpec, limits: LimitSettings) -> Change:
    """What `overwrite_payload` changes."""
    if body.key is not None:
        raise NotSupported("`key` is not supported where the whole payload is overwritten; set the payload instead")
    encode_payloads([body.payload], "payload", limits)
    return Change(selected_first(body, limits), PointChange(kind=ChangeKind.OVERWRITE, payload=body.payload))


def prepare_delete(body: PayloadKeysBody, spec: CollectionSpec, limits: LimitSettings) -> Change:
    """What `delete_payload` changes."""
    paths = tuple(canonical_path(text, f"keys[{number}]") for number, text in enumerate(body.keys))
    return Change(selected_first(body, limits), PointChange(kind=ChangeKind.DELETE, paths=paths))


def prepare_clear(body: SelectionBody, spec: CollectionSpec, limits: LimitSettings) -> Change:
    """What `clear_payload` changes."""
    return Change(selected_points(body, limits), PointChange(kind=ChangeKind.CLEAR))


def canonical_path(text: str, place: str) -> str:
    """A path in the spelling that is stored and sent. Raises InvalidRequest. `place` is how an error names it."""
    try:
        return str(parse_path(text))
    except ValueError as error:
        raise InvalidRequest(f"Format error in JSON body: {place}: {str(error)[:200]}") from None


def encode_payloads(payloads: Sequence[dict[str, Any] | None], place: str, limits: LimitSettings) -> list[bytes]:
    """The stored bytes of each payload; empty for none. `place` is how an error names one, with `{}` for its number.

    Raises InvalidRequest.
    """
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
    if depth_left <= 0:
        return "is nested deeper than the limit payload_depth_max"
    children = value.values() if isinstance(value, dict) else value
    problems = (_payload_problem(child, depth_left - 1) for child in children)
    return next((problem for problem in problems if problem), None)
