"""A filter from JSON: its limits, and errors that say the place.

Limits are counted before anything is read into models, so that a filter beyond them costs one walk over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shards.errors import BadFilter, LimitExceeded
from shards.filters.conditions import Node
from shards.filters.grammar import Filter
from shards.filters.normal import normal_form

_CLAUSES = ("must", "should", "must_not")
_MESSAGES = {
    "extra_forbidden": "this key is not known",
    "missing": "this key is missing",
    "model_type": "an object is needed",
    "model_attributes_type": "an object is needed",
    "recursion_loop": "the filter is nested too deeply",
}


class FilterLimits(BaseModel):
    """Both are inclusive. A condition inside a condition counts as well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_conditions_max: int = Field(default=1024, ge=1)
    filter_depth_max: int = Field(default=16, ge=1, le=50)
    """Filters inside each other; one without any has depth 1."""


def parse_filter(raw: Any, limits: FilterLimits, place: str = "filter") -> Filter:
    """The filter that parsed JSON holds. `place` is how an error names it.

    Raises LimitExceeded with the limit's name, and BadFilter with the place of the first thing that is wrong.
    """
    _check_limits(raw, limits, place)
    try:
        return Filter.model_validate(raw)
    except ValidationError as error:
        raise BadFilter(_first_problem(error, place)) from None


def encode_filter(parsed: Filter) -> bytes:
    """JSON bytes, for a shard."""
    return orjson.dumps(parsed.model_dump(by_alias=True, exclude_none=True))


def decode_filter(encoded: bytes | memoryview, limits: FilterLimits) -> Node:
    """The normal form of what `encode_filter` wrote; bytes from elsewhere are checked like a request's.

    Raises BadFilter and LimitExceeded.
    """
    try:
        raw = orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        raise BadFilter(f"the filter is no JSON: {error}") from None
    return normal_form(parse_filter(raw, limits))


def _check_limits(raw: Any, limits: FilterLimits, place: str) -> None:
    count = 0
    waiting = [(raw, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > limits.filter_depth_max:
            raise LimitExceeded(
                f"{place} has filters inside each other more than {limits.filter_depth_max} deep, "
                "the limit filter_depth_max"
            )
        for condition in _conditions_in(value):
            count += 1
            if count > limits.filter_conditions_max:
                raise LimitExceeded(
                    f"{place} has more than {limits.filter_conditions_max} conditions, the limit filter_conditions_max"
                )
            nested = condition.get("nested") if isinstance(condition, dict) else None
            inner = nested.get("filter") if isinstance(nested, dict) else condition
            if isinstance(inner, dict):
                waiting.append((inner, depth + 1 if _has_clauses(inner) else depth))


def _has_clauses(value: dict[str, Any]) -> bool:
    return any(name in value for name in (*_CLAUSES, "min_should"))


def _conditions_in(raw: Any) -> Iterator[Any]:
    """The conditions of a filter's clauses, as far as it has the form of a filter."""
    if not isinstance(raw, dict):
        return
    for name in _CLAUSES:
        clause = raw.get(name)
        if isinstance(clause, list):
            yield from clause
        elif clause is not None:
            yield clause
    min_should = raw.get("min_should")
    conditions = min_should.get("conditions") if isinstance(min_should, dict) else None
    if isinstance(conditions, list):
        yield from conditions


def _first_problem(error: ValidationError, place: str) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    kind, at = problem["type"], place
    for part in _without_tags(problem["loc"], kind):
        at += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = _MESSAGES.get(kind) or problem["msg"].removeprefix("Value error, ")
    return f"{at}: {message}"


def _without_tags(places: tuple[int | str, ...], kind: str) -> list[int | str]:
    """Pydantic names the kind of condition that it tried, too; a key that is not known may look like one of those."""
    last = len(places) - 1 if kind == "extra_forbidden" else len(places)
    return [
        part
        for number, part in enumerate(places)
        if number == last or not (isinstance(part, str) and part.startswith("<"))
    ]
