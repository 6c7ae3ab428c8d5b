"""The grammar: what is accepted comes back as it was sent; what is not is refused in its place, limits by their name."""

from __future__ import annotations

from typing import Any

import pytest

from shards.errors import BadFilter, LimitExceeded, from_wire
from shards.filters.conditions import (
    EVERYTHING,
    NOTHING,
    And,
    AtLeast,
    Field,
    HasCount,
    HasId,
    HasPhrase,
    HasWords,
    InDates,
    InNumbers,
    InSlice,
    Interval,
    IsEmpty,
    IsNull,
    Nested,
    NoneOf,
    Not,
    OneOf,
    Or,
    StartsWith,
)
from shards.filters.grammar import Filter
from shards.filters.normal import normal_form
from shards.filters.parsing import FilterLimits, decode_filter, encode_filter, parse_filter
from shards.filters.paths import parse_path

LIMITS = FilterLimits()
RED = {"key": "color", "match": {"value": "red"}}
SMALL = {"key": "size", "range": {"lt": 3}}
IS_RED = Field(parse_path("color"), OneOf(str, frozenset(["red"])))
IS_SMALL = Field(parse_path("size"), InNumbers(Interval(high=3, high_open=True)))
IS_EMPTY = Field(parse_path("a"), IsEmpty())
RING = {"points": [{"lat": 0, "lon": 0}, {"lat": 0, "lon": 1}, {"lat": 1, "lon": 1}, {"lat": 0, "lon": 0}]}


def parsed(raw: Any) -> Filter:
    return parse_filter(raw, LIMITS)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"must": RED},
        {"must": [RED, SMALL], "should": [], "must_not": {"has_id": [1, "550e8400-e29b-41d4-a716-446655440000"]}},
        {"min_should": {"conditions": [RED, {"must": [SMALL]}], "min_count": 1}},
        {"must": [{"is_empty": {"key": "a"}}, {"key": "a", "is_null": False}, {"has_vector": ""}]},
        {"must": [{"nested": {"key": "a[]", "filter": {"must": [RED]}}}, {"slice": {"total": 3, "index": 0}}]},
        {"must": [{"key": "a", "match": {"except": [1, 2]}}, {"key": "a", "match": {"any": []}}]},
        {"must": [{"key": "d", "range": {"gte": "2024-05-17", "lt": "2024-05-18T00:00:00Z"}}]},
        {"must": [{"key": "g", "geo_polygon": {"exterior": RING, "interiors": [RING]}}]},
        {"must": [{"key": "g", "geo_radius": {"center": {"lat": 1, "lon": 2.5}, "radius": 3}}]},
        {"must": [{"key": "a", "values_count": {"gte": 2}}, {"key": "a", "match": {"value": 2**64 - 1}}]},
    ],
)
def test_a_filter_dumps_to_what_it_was_read_from(raw: dict[str, Any]) -> None:
    assert parsed(raw).model_dump(by_alias=True, exclude_none=True) == raw
    assert decode_filter(encode_filter(parsed(raw)), LIMITS) == normal_form(parsed(raw))


def test_null_stands_for_what_is_not_there() -> None:
    field = {**RED, "range": None, "match": {"value": "red", "text": None}}
    assert normal_form(parsed({"must": [field], "should": None, "min_should": None})) == IS_RED


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "filter: an object is needed"),
        ({"most": []}, "filter.most: this key is not known"),
        ({"must": ["x"]}, "filter.must[0]: an object is needed"),
        ({"must": 3}, "filter.must: an object is needed"),
        ({"must": {"has": 1}}, "filter.must.has: this key is not known"),
        ({"must": [RED, {"key": "a"}]}, "filter.must[1]: exactly one of match, range, .* there is none"),
        ({"must": [{**RED, "range": {}}]}, "filter.must[0]: exactly one of .* there is match and range"),
        ({"must": [{**RED, "<Filter>": 1}]}, "filter.must[0].<Filter>: this key is not known"),
        ({"must": [{**RED, "key": "a..b"}]}, "filter.must[0].key: 'a..b' is no JSON path: .* character 3"),
        ({"must": [{"key": "a", "match": {}}]}, "filter.must[0].match: exactly one of value, any, except"),
        ({"must": [{"key": "a", "match": {"substring": "x"}}]}, "filter.must[0].match.substring: this key is not known"),
        ({"must": [{"key": "a", "match": {"value": 1.5}}]}, "filter.must[0].match.value: a string, an integer"),
        ({"must": [{"key": "a", "match": {"value": 2**64}}]}, "filter.must[0].match.value: .* of 64 bits"),
        ({"must": [{"key": "a", "match": {"any": [1, "a"]}}]}, "filter.must[0].match.any: a list is needed"),
        ({"must": [{"key": "a", "match": {"except": [True]}}]}, "filter.must[0].match.except: a list is needed"),
        ({"must": [RED, SMALL, {"key": "a", "range": {"gt": True}}]}, "filter.must[2].range.gt: a number, or a date"),
        ({"must": [{"key": "a", "range": {"gt": "soon"}}]}, "filter.must[0].range.gt: .* not 'soon'"),
        ({"must": [{"key": "a", "range": {"gt": 1, "lt": "2024-05-17"}}]}, "filter.must[0].range: .* not both"),
        ({"must": [{"key": "a", "range": {"gt": float("inf")}}]}, "filter.must[0].range.gt: a number"),
        ({"must": [{"key": "a", "values_count": {"gt": -1}}]}, "filter.must[0].values_count.gt: .* greater"),
        ({"must": [{"key": "a", "values_count": {"gt": 1.0}}]}, "filter.must[0].values_count.gt: .* integer"),
        ({"must": [{"key": "a", "is_null": "yes"}]}, "filter.must[0].is_null: .* boolean"),
        ({"must": [{"is_null": True}]}, "filter.must[0].is_null: an object is needed"),
        ({"must": [{"has_id": [1, -1]}]}, r"filter.must[0].has_id: value -1 is not a valid point ID.*\(at place 1\)"),
        ({"must": [{"has_id": 1}]}, "filter.must[0].has_id: a list of point ids is needed, not 1"),
        ({"must": [{"has_vector": 1}]}, "filter.must[0].has_vector: .* string"),
        ({"must": [{"slice": {"total": 0, "index": 0}}]}, "filter.must[0].slice.total: .* greater"),
        ({"must": [{"slice": {"total": 2, "index": 2}}]}, "filter.must[0].slice: index 2 is no slice of 2"),
        ({"must": [{"nested": {"key": "a"}}]}, "filter.must[0].nested.filter: this key is missing"),
        ({"must": [{"nested": {"key": "a", "filter": {"must": {"x": 1}}}}]}, "filter.must[0].nested.filter.must.x: "),
        ({"min_should": {"conditions": [], "min_count": 0}}, "filter.min_should.min_count: .* greater"),
        ({"min_should": {"conditions": [{"x": 1}], "min_count": 1}}, "filter.min_should.conditions[0].x: "),
        ({"must": [{"key": "g", "geo_radius": {"center": {"lat": 91, "lon": 0}, "radius": 1}}]}, "filter.must[0].geo_rad"),
        ({"must": [{"key": "g", "geo_polygon": {"exterior": {"points": RING["points"][:3]}}}]},
         "filter.must[0].geo_polygon.exterior.points: a ring needs at least 4 points"),
        ({"must": [{"key": "g", "geo_polygon": {"exterior": {"points": [*RING["points"][:3]] * 2}}}]}, "the last as the f"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_its_place(raw: Any, message: str) -> None:
    with pytest.raises(BadFilter, match=message.replace("[", r"\[").replace("]", r"\]")):
        parsed(raw)


def test_the_place_is_the_caller_s() -> None:
    with pytest.raises(BadFilter, match=r"^searches\[3\]\.filter\.x: "):
        parse_filter({"x": 1}, LIMITS, "searches[3].filter")


def test_a_bad_filter_survives_the_wire() -> None:
    assert type(from_wire("bad_filter", "m")) is BadFilter


def test_limits_are_inclusive_and_named() -> None:
    limits = FilterLimits(filter_conditions_max=3, filter_depth_max=2)
    parse_filter({"must": [RED, {"should": [RED]}]}, limits)
    with pytest.raises(LimitExceeded, match="filter has more than 3 conditions, the limit filter_conditions_max"):
        parse_filter({"must": [RED, {"should": [RED]}], "min_should": {"conditions": [RED], "min_count": 1}}, limits)
    with pytest.raises(LimitExceeded, match="more than 2 deep, the limit filter_depth_max"):
        parse_filter({"must": {"nested": {"key": "a", "filter": {"must_not": {"must": RED}}}}}, limits)


@pytest.mark.parametrize(
    "wrap", [lambda raw: {"must": [raw]}, lambda raw: {"must": {"nested": {"key": "a", "filter": raw}}}]
)
def test_the_deepest_filter_that_a_limit_may_allow_is_read(wrap: Any) -> None:
    limits = FilterLimits(filter_depth_max=50)
    raw: dict[str, Any] = {"must_not": RED}
    for _ in range(49):
        raw = wrap(raw)
    decode_filter(encode_filter(parse_filter(raw, limits)), limits)
    with pytest.raises(LimitExceeded, match="more than 50 deep"):
        parse_filter(wrap(raw), limits)


def test_a_very_deep_filter_is_refused_by_its_limit() -> None:
    raw: dict[str, Any] = {}
    for _ in range(100_000):
        raw = {"must": [raw]}
    with pytest.raises(LimitExceeded, match="filter_depth_max"):
        parsed(raw)
    while raw:  # freed one by one: Python frees nested objects recursively
        raw = raw["must"][0]


@pytest.mark.parametrize("encoded", [b"", b"{", b"[" * 5000, b'{"must": NaN}', b"\xff"])
def test_bytes_that_are_no_json_are_refused(encoded: bytes) -> None:
    with pytest.raises(BadFilter, match="the filter is no JSON"):
        decode_filter(encoded, LIMITS)


@pytest.mark.parametrize(
    ("raw", "node"),
    [
        ({}, EVERYTHING),
        ({"must": [], "should": [], "must_not": []}, EVERYTHING),
        ({"must": [{}]}, EVERYTHING),
        ({"must_not": [{}]}, NOTHING),
        ({"should": [RED, {}]}, EVERYTHING),
        ({"must": [RED, {"must_not": {}}]}, NOTHING),
        ({"must": RED}, IS_RED),
        ({"should": [RED]}, IS_RED),
        ({"should": [RED, {"should": [SMALL, RED]}]}, Or((IS_RED, IS_SMALL, IS_RED))),
        ({"must": [RED, {"must": [SMALL]}]}, And((IS_RED, IS_SMALL))),
        ({"must": RED, "must_not": [SMALL]}, And((IS_RED, Not(IS_SMALL)))),
        ({"must_not": [{"must_not": [RED]}]}, IS_RED),
        ({"must_not": {"key": "a", "is_empty": False}}, IS_EMPTY),
        ({"must": {"key": "a", "is_empty": True}}, IS_EMPTY),
        ({"must": {"is_empty": {"key": "a"}}}, IS_EMPTY),
        ({"must": {"key": "a", "is_null": False}}, Not(Field(parse_path("a"), IsNull()))),
        ({"min_should": {"conditions": [RED, SMALL], "min_count": 1}}, Or((IS_RED, IS_SMALL))),
        ({"min_should": {"conditions": [RED, SMALL], "min_count": 2}}, And((IS_RED, IS_SMALL))),
        ({"min_should": {"conditions": [RED, SMALL], "min_count": 3}}, NOTHING),
        ({"min_should": {"conditions": [], "min_count": 1}}, NOTHING),
        ({"min_should": {"conditions": [RED, SMALL, RED], "min_count": 2}}, AtLeast(2, (IS_RED, IS_SMALL, IS_RED))),
        ({"must": {"has_id": [7, "550E8400E29B41D4A716446655440000"]}},
         HasId(frozenset([7, (1 << 128) + 0x550E8400E29B41D4A716446655440000]))),
        ({"must": {"nested": {"key": "a[]", "filter": {"must": RED}}}}, Nested(parse_path("a"), IS_RED)),
        ({"must": {"nested": {"key": "a", "filter": {"must": RED}}}}, Nested(parse_path("a"), IS_RED)),
        ({"must": {"slice": {"total": 3, "index": 2}}}, InSlice(3, 2)),
    ],
)  # fmt: skip
def test_the_normal_form(raw: dict[str, Any], node: Any) -> None:
    assert normal_form(parsed(raw)) == node


@pytest.mark.parametrize(
    ("condition", "test"),
    [
        ({"match": {"value": True}}, OneOf(bool, frozenset([True]))),
        ({"match": {"value": 1}}, OneOf(int, frozenset([1]))),
        ({"match": {"any": []}}, OneOf(str, frozenset())),
        ({"match": {"except": [3, 3]}}, NoneOf(int, frozenset([3]))),
        ({"match": {"text": "The fox the"}}, HasWords(("the", "fox"))),
        ({"match": {"phrase": "The, fox the"}}, HasPhrase(("the", "fox", "the"))),
        ({"match": {"prefix": "Ab"}}, StartsWith("Ab")),
        ({"range": {}}, InNumbers(Interval())),
        ({"range": {"gt": 1, "gte": 1, "lt": 5, "lte": 4}}, InNumbers(Interval(1, 4, low_open=True))),
        ({"range": {"gt": 0, "gte": 1}}, InNumbers(Interval(low=1))),
        ({"range": {"gt": "1970-01-01T00:00:01Z"}}, InDates(Interval(low=1_000_000, low_open=True))),
        ({"values_count": {"lte": 2}}, HasCount(Interval(high=2))),
    ],
)
def test_the_normal_form_of_a_test(condition: dict[str, Any], test: Any) -> None:
    node = normal_form(parsed({"must": {"key": "a", **condition}}))
    assert isinstance(node, Field)
    assert node.test == test
