"""What a filter may look like, as a client sends it and as a router sends it on to shards.

Exactly the grammar below, strictly typed, and unknown keys are refused; null stands for a key that is not there. A model
dumps to what it was read from: a bare condition stays bare. Spellings are the Qdrant REST API's.

    Filter    = {must?, should?, must_not?: Condition | [Condition], min_should?: {conditions, min_count >= 1}}
    Condition = Field | {is_empty: {key}} | {is_null: {key}} | {has_id: [...]} | {has_vector: name}
              | {nested: {key, filter}} | {slice: {total, index}} | Filter
    Field     = {key, one of match, range, geo_bounding_box, geo_radius, geo_polygon, values_count, is_empty, is_null}
    match     = one of value, any, except, text, text_any, phrase, prefix
    range     = {lt?, lte?, gt?, gte?}: all numbers, or all dates

Which kind of condition an object is follows from its keys alone, so that what is wrong in it can be said in its place.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    PlainValidator,
    Tag,
    model_validator,
)
from pydantic import Field as Limits

from shards.errors import InvalidRequest
from shards.filters.dates import instant
from shards.filters.paths import parse_path
from shards.point_ids import parse_point_id

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
"""The integers that JSON readers give as integers."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _check_path(text: str) -> str:
    parse_path(text)
    return text


def _is_integer(value: Any) -> bool:
    return type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX


def _check_value(value: Any) -> Any:
    if value is None or type(value) in (bool, str) or _is_integer(value):
        return value
    raise ValueError(f"a string, an integer of 64 bits or a bool is needed, not {_short(value)}")


def _check_values(values: Any) -> Any:
    if values is None:
        return None
    if isinstance(values, list) and (
        all(type(value) is str for value in values) or all(_is_integer(value) for value in values)
    ):
        return values
    raise ValueError(f"a list is needed, of strings alone or of 64-bit integers alone, not {_short(values)}")


def _check_bound(bound: Any) -> Any:
    if bound is None or (type(bound) is float and bound - bound == 0) or _is_integer(bound):
        return bound
    if type(bound) is str and instant(bound) is not None:
        return bound
    raise ValueError(f"a number, or a date such as 2024-05-17T12:30:00Z, is needed, not {_short(bound)}")


def _check_ids(ids: Any) -> Any:
    if not isinstance(ids, list):
        raise ValueError(f"a list of point ids is needed, not {_short(ids)}")
    for place, value in enumerate(ids):
        try:
            parse_point_id(value)
        except InvalidRequest as error:
            raise ValueError(f"{error.message} (at place {place})") from None
    return ids


def _check_ring(points: list[GeoPoint]) -> list[GeoPoint]:
    if len(points) < 4 or points[0] != points[-1]:
        raise ValueError(f"a ring needs at least 4 points, the last as the first; these are {len(points)}")
    return points


def _exactly_one(model: _Part, names: list[str], what: str) -> None:
    given = [name for name in names if name in _keys_given(model)]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        raise ValueError(f"exactly one of {', '.join(names)} is needed in {what}; there is {found}")


def _keys_given(model: _Part) -> dict[str, Any]:
    fields = type(model).model_fields
    return {
        fields[name].alias or name: value
        for name in model.model_fields_set
        if (value := getattr(model, name)) is not None
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


Count = Annotated[int, Limits(ge=0, le=INTEGER_MAX)]
Path = Annotated[str, AfterValidator(_check_path)]
# The types beside the validators describe what these take, for the API's description of itself.
Scalar = Annotated[Any, PlainValidator(_check_value, json_schema_input_type=bool | int | str | None)]
Scalars = Annotated[Any, PlainValidator(_check_values, json_schema_input_type=list[int] | list[str] | None)]
Bound = Annotated[Any, PlainValidator(_check_bound, json_schema_input_type=float | datetime | None)]
Ids = Annotated[Any, PlainValidator(_check_ids, json_schema_input_type=list[Count | UUID])]


class Match(_Part):
    """One of its keys. `except` is called `except_` here."""

    value: Scalar = None
    any: Scalars = None
    except_: Annotated[Scalars, Limits(alias="except")] = None
    text: str | None = None
    text_any: str | None = None
    phrase: str | None = None
    prefix: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Match:
        _exactly_one(self, ["value", "any", "except", "text", "text_any", "phrase", "prefix"], "`match`")
        return self


class Range(_Part):
    """Numbers or dates, not both. Without a bound: any number."""

    lt: Bound = None
    lte: Bound = None
    gt: Bound = None
    gte: Bound = None

    @property
    def is_of_dates(self) -> bool:
        return any(isinstance(bound, str) for bound in self.bounds)

    @property
    def bounds(self) -> list[float | str]:
        return [bound for bound in (self.lt, self.lte, self.gt, self.gte) if bound is not None]

    @model_validator(mode="after")
    def _of_one_kind(self) -> Range:
        if self.is_of_dates and not all(isinstance(bound, str) for bound in self.bounds):
            raise ValueError("the bounds of a range are numbers or dates, not both")
        return self


class ValuesCount(_Part):
    """Bounds on a number of values."""

    lt: Count | None = None
    lte: Count | None = None
    gt: Count | None = None
    gte: Count | None = None


class GeoPoint(_Part):
    """Degrees."""

    lon: Annotated[float, Limits(ge=-180, le=180)]
    lat: Annotated[float, Limits(ge=-90, le=90)]


class GeoBoundingBox(_Part):
    """Two corners; one whose left edge is east of its right edge crosses the 180th meridian."""

    top_left: GeoPoint
    bottom_right: GeoPoint


class GeoRadius(_Part):
    """A circle; `radius` in metres."""

    center: GeoPoint
    radius: Annotated[float, Limits(ge=0)]


class GeoRing(_Part):
    """A closed line."""

    points: Annotated[list[GeoPoint], AfterValidator(_check_ring)]


class GeoPolygonBody(_Part):
    """A ring and holes in it."""

    exterior: GeoRing
    interiors: list[GeoRing] | None = None


class FieldCondition(_Part):
    """A path and one test of what it leads to."""

    key: Path
    match: Match | None = None
    range: Range | None = None
    geo_bounding_box: GeoBoundingBox | None = None
    geo_radius: GeoRadius | None = None
    geo_polygon: GeoPolygonBody | None = None
    values_count: ValuesCount | None = None
    is_empty: bool | None = None
    is_null: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> FieldCondition:
        tests = [name for name in FieldCondition.model_fields if name != "key"]
        _exactly_one(self, tests, "a condition with `key`")
        return self


class PayloadField(_Part):
    key: Path


class IsEmptyCondition(_Part):
    is_empty: PayloadField


class IsNullCondition(_Part):
    is_null: PayloadField


class HasIdCondition(_Part):
    has_id: Ids


class HasVectorCondition(_Part):
    has_vector: str


class SliceBody(_Part):
    """`index` is one of 0 ... total - 1."""

    total: Annotated[int, Limits(ge=1, le=2**63)]
    index: Annotated[int, Limits(ge=0)]

    @model_validator(mode="after")
    def _is_there(self) -> SliceBody:
        if self.index >= self.total:
            raise ValueError(f"index {self.index} is no slice of {self.total}; the last is {self.total - 1}")
        return self


class SliceCondition(_Part):
    slice: SliceBody


class NestedBody(_Part):
    """`key`: an array of objects, written with or without `[]` behind it."""

    key: Path
    filter: Filter


class NestedCondition(_Part):
    nested: NestedBody


_KINDS: dict[str, type[_Part]] = {
    "key": FieldCondition,
    "is_empty": IsEmptyCondition,
    "is_null": IsNullCondition,
    "has_id": HasIdCondition,
    "has_vector": HasVectorCondition,
    "nested": NestedCondition,
    "slice": SliceCondition,
}
"""The key that tells a kind of condition; an object with none of them is a filter."""


def _kind_of(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"<{type(value).__name__}>"
    names = value if isinstance(value, dict) else ()
    return f"<{next((kind.__name__ for name, kind in _KINDS.items() if name in names), 'Filter')}>"


def _is_list(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<bare>"


Condition = Annotated[
    Annotated[FieldCondition, Tag("<FieldCondition>")]
    | Annotated[IsEmptyCondition, Tag("<IsEmptyCondition>")]
    | Annotated[IsNullCondition, Tag("<IsNullCondition>")]
    | Annotated[HasIdCondition, Tag("<HasIdCondition>")]
    | Annotated[HasVectorCondition, Tag("<HasVectorCondition>")]
    | Annotated[NestedCondition, Tag("<NestedCondition>")]
    | Annotated[SliceCondition, Tag("<SliceCondition>")]
    | Annotated["Filter", Tag("<Filter>")],
    Discriminator(_kind_of),
]
Clause = Annotated[
    Annotated[list[Condition], Tag("<list>")] | Annotated[Condition, Tag("<bare>")], Discriminator(_is_list)
]


class MinShould(_Part):
    """At least `min_count` of the conditions."""

    conditions: list[Condition]
    min_count: Annotated[int, Limits(ge=1, le=INTEGER_MAX)]


class Filter(_Part):
    """Clauses, all of which have to hold. An empty `should` constrains nothing, as does a filter without clauses."""

    must: Clause | None = None
    should: Clause | None = None
    must_not: Clause | None = None
    min_should: MinShould | None = None


for _model in (NestedBody, NestedCondition, MinShould, Filter):
    _model.model_rebuild()
