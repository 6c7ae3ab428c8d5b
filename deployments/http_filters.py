"""Which points a body is about: by their ids, or by a filter that goes to the shards encoded.

A filter is read here only to be checked (shards/filters/parsing.py): what it means, shards find out. An empty one is sent
as none. An empty list of ids is refused, as the API does: who means every point says `{"filter": {}}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from cluster.requests import Selection
from deployments.http_models import SelectionBody
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest, LimitExceeded
from shards.filter_query import KEPT_BYTES_MAX
from shards.filters.parsing import FilterLimits, encode_filter, parse_filter
from shards.point_ids import INTEGER_MAX, parse_point_id

NO_FILTER = b""
EMPTY_UPDATE = "Wrong input: Empty update request: it names no point"


def encoded_filter(raw: Any, limits: LimitSettings, place: str = "filter") -> bytes:
    """The filter of a body as shards take it; b"" for none. Raises BadFilter and LimitExceeded."""
    if raw is None or raw == {}:
        return NO_FILTER
    try:
        text = orjson.dumps(raw)
    except TypeError:  # an integer beyond 64 bits
        text = None
    if text is None or len(text) > KEPT_BYTES_MAX:
        return encode_filter(parse_filter(raw, limits.of_filters, place))
    return _encoded(text, limits.of_filters, place)


@lru_cache(maxsize=4096)
def _encoded(text: bytes, limits: FilterLimits, place: str) -> bytes:
    """The same of a filter that many requests have: reading it takes 50 us. What is wrong is not kept."""
    return encode_filter(parse_filter(orjson.loads(text), limits, place))


def parse_keys(ids: Sequence[Any], place: str, limits: LimitSettings) -> list[int]:
    """The keys of ids as JSON spells them. `place` is how errors name one, with `{}` for its number."""
    if len(ids) > limits.points_per_request_max:
        raise LimitExceeded(
            f"a request names {len(ids)} points; the limit points_per_request_max is {limits.points_per_request_max}"
        )
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) <= INTEGER_MAX)):
        return list(ids)
    return [parse_key(value, place.format(index)) for index, value in enumerate(ids)]


def selected_points(body: SelectionBody, limits: LimitSettings) -> Selection:
    """The points of a write. Raises InvalidRequest where it names none, or in two ways."""
    if (body.points is None) == (body.filter is None):
        raise InvalidRequest("Format error in JSON body: exactly one of `points` and `filter` is needed")
    return selected_first(body, limits)


def selected_first(body: SelectionBody, limits: LimitSettings) -> Selection:
    """The same where ids come before a filter that stands beside them, as the API has it for some writes. That filter has to
    be one all the same.
    """
    encoded = encoded_filter(body.filter, limits)
    if body.points is not None:
        if not body.points:
            raise InvalidRequest(EMPTY_UPDATE)
        return Selection(keys=list(dict.fromkeys(parse_keys(body.points, "points[{}]", limits))))
    if body.filter is None:
        raise InvalidRequest("Format error in JSON body: No filter or points provided; one of them is needed")
    return Selection(filter=encoded)


def parse_key(value: Any, place: str) -> int:
    """The key of one id. `place` is how an error names it."""
    try:
        return parse_point_id(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"Format error in JSON body: {place}: {error.message}") from None
