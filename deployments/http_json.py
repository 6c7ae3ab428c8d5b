"""Between JSON and the engine's values: bodies are parsed with their errors in words, hits and records written.

Payload bytes are spliced into answers unparsed, unless a selector asks for a part of them. Floats are written as the
shortest text that gives the same float32 back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from cluster.requests import QueryHits, Record
from deployments.http_errors import ValidationFailed
from deployments.payload_selection import PayloadSelection
from deployments.vector_selection import VectorSelection
from shards.distance import Distance, Floats, scores
from shards.errors import InvalidRequest
from shards.point_ids import INTEGER_MAX, point_id

Body = TypeVar("Body", bound=BaseModel)
Point = dict[str, Any]

_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "too_short"}
_FLOATS_AS_FLOAT32 = orjson.OPT_SERIALIZE_NUMPY
_EMPTY_PAYLOAD = b"{}"
"""What the API shows of a point that has no payload."""


def parse_body(model: type[Body], body: bytes) -> Body:
    """The body as `model`. Raises InvalidRequest (not that form) or ValidationFailed (a value out of its range)."""
    try:
        # `model_validate_json` does the same and costs 3 us more: as much as reading a vector of 50 numbers.
        return model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise described(error, "JSON body") from None


def described(error: ValidationError, what: str) -> InvalidRequest:
    """The first thing that pydantic found wrong, with its place."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = _place(first["loc"])
    text = f"{place}: {first['msg']}" if place else first["msg"]
    if first["type"] in _OUT_OF_RANGE:
        return ValidationFailed(f"Validation error in {what}: {text}, got {str(first['input'])[:40]}")
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"Format error in {what}: unknown field `{place}`")
    return InvalidRequest(f"Format error in {what}: {text}")


def _place(location: tuple[int | str, ...]) -> str:
    """`("points", 3, "id")` as `points[3].id`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text[:200].removeprefix(".")


def dump(value: Any) -> bytes:
    """JSON of a value that may hold Fragments and float32 arrays or scalars."""
    return orjson.dumps(value, option=_FLOATS_AS_FLOAT32)


def scores_of(found: Sequence[QueryHits], distance: Distance) -> Iterator[Floats]:
    """The API's scores of each query's hits, converted all at once."""
    distances = [one for hits in found for one in hits.distances]
    found_scores = scores(np.array(distances, np.float32), distance)
    end = 0
    for hits in found:
        start, end = end, end + len(hits.distances)
        yield found_scores[start:end]


def scored_points(
    hits: QueryHits, found_scores: Floats, selection: PayloadSelection, vectors: VectorSelection
) -> list[Point]:
    """One query's hits as the API writes them. `found_scores`: theirs, of `scores_of`."""
    # Iterating a float32 array gives float32 scalars, which orjson writes as such; floats would be written as doubles.
    points: list[Point] = [
        {"id": id_, "version": version, "score": score}
        for id_, version, score in zip(_ids(hits.keys), hits.versions, found_scores, strict=True)
    ]
    if selection.wanted and hits.payloads is not None:
        for point, payload in zip(points, _payloads(hits.payloads, selection), strict=True):
            point["payload"] = payload
    if vectors.wanted and hits.vectors is not None:
        for point, row in zip(points, hits.vectors, strict=True):
            point["vector"] = vectors.show(row)
    return points


def records(found: Sequence[Record], selection: PayloadSelection, vectors: VectorSelection) -> list[Point]:
    """Stored points as the API writes them."""
    points: list[Point] = [{"id": point_id(record.key)} for record in found]
    if selection.wanted:
        payloads = _payloads([record.payload for record in found], selection)
        for point, payload in zip(points, payloads, strict=True):
            point["payload"] = payload
    for point, record in zip(points, found, strict=True):
        if record.vector is not None:
            point["vector"] = vectors.show(record.vector)
    return points


def _ids(keys: Sequence[int]) -> Sequence[Any]:
    if not keys or max(keys) <= INTEGER_MAX:
        return keys
    return [point_id(key) for key in keys]


def _payloads(payloads: Sequence[bytes], selection: PayloadSelection) -> list[Any]:
    if selection.whole:
        return [orjson.Fragment(payload or _EMPTY_PAYLOAD) for payload in payloads]
    return [selection.apply(payload or _EMPTY_PAYLOAD) for payload in payloads]
