"""What a filter means for one point: the points of the contract that catch people, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from shards.filters.normal import normal_form
from shards.filters.parsing import FilterLimits, parse_filter
from shards.filters.semantics import Identity, cost_of, matches

POINT = Identity(7, frozenset(["", "image"]))
LIMITS = FilterLimits()
BOX = {"top_left": {"lat": 10, "lon": 0}, "bottom_right": {"lat": 0, "lon": 10}}
ACROSS = {"top_left": {"lat": 10, "lon": 170}, "bottom_right": {"lat": 0, "lon": -170}}
DAY = {"gte": "2024-05-17", "lt": "2024-05-18"}


def holds(condition: dict[str, Any], payload: dict[str, Any], identity: Identity = POINT) -> bool:
    return matches(normal_form(parse_filter({"must": [condition]}, LIMITS)), payload, identity)


def field_holds(test: dict[str, Any], *value: Any, key: str = "a") -> bool:
    """Of a payload whose field `a` is the value, or missing."""
    return holds({"key": key, **test}, {"a": value[0]} if value else {})


@pytest.mark.parametrize(
    ("match", "matching", "others"),
    [
        ({"value": 1}, [1, [1, 2], [True, 1]], [True, 1.0, "1", [1.0], [[1]], None, {}, []]),
        ({"value": True}, [True, [False, True]], [1, 1.0, "true", False]),
        ({"value": "a"}, ["a", ["b", "a"]], ["A", "ab", None, ["ab"]]),
        ({"any": [1, 2]}, [2, [3, 1]], [3, True, 1.0, []]),
        ({"any": []}, [], [1, "", None, []]),
        ({"except": [1, 2]}, [3, [1, 3], 1.0, True, "1", {}, [None, 3], [[1]]], [1, [1, 2], None, [], [None], [1, None]]),
        ({"except": []}, [1, [0]], [None, [], [None]]),
        ({"prefix": "ab"}, ["ab", "abc", ["x", "abc"]], ["Ab", "cab", 1, None]),
        ({"prefix": ""}, ["", "x"], [1, None, True]),
        ({"text": "Fox the"}, ["the quick fox", "FOX, THE"], ["foxes the", "fox", ["the", "fox"], 1, None]),
        ({"text": ""}, [], ["", "x", None]),
        ({"text_any": "fox cat"}, ["a cat", ["dog", "fox!"]], ["foxes", "", 1]),
        ({"text_any": "--"}, [], ["--", "a"]),
        ({"phrase": "quick fox"}, ["the Quick, fox"], ["fox quick", "quick brown fox", ["quick", "fox"], "quick"]),
        ({"phrase": "a b a"}, ["b a b a"], ["a b", "a a b b a"]),
        ({"phrase": "."}, [], ["."]),
    ],
)  # fmt: skip
def test_match(match: dict[str, Any], matching: list[Any], others: list[Any]) -> None:
    assert [value for value in [*matching, *others] if field_holds({"match": match}, value)] == matching
    assert not field_holds({"match": match})


@pytest.mark.parametrize(
    ("bounds", "matching", "others"),
    [
        ({"gt": 1, "lte": 3}, [2, 3, 1.5, [0, 2]], [1, 1.0, 4, True, "2", None, [0, 4], []]),
        ({"gte": 1, "gt": 1}, [2], [1]),
        ({"lt": 2**53}, [2**53 - 1], [2**53, 2**53 + 1]),
        ({"gt": 2**53}, [2**53 + 1], [2**53]),
        ({}, [0, -1.5, [1]], ["1", True, None, "2024-05-17"]),
        (DAY, ["2024-05-17T10:00:00+02:00", ["x", "2024-05-17"]], ["2024-05-18", "2024-05-17T01:00:00+02:00", 5, "x"]),
        ({"lt": "2024-05-17T00:00:00"}, ["2024-05-16T23:59:59.999999Z"], ["2024-05-17", "2024-05-16T23:00:00-01:00"]),
    ],
)  # fmt: skip
def test_range(bounds: dict[str, Any], matching: list[Any], others: list[Any]) -> None:
    assert [value for value in [*matching, *others] if field_holds({"range": bounds}, value)] == matching


def test_is_empty_and_is_null() -> None:
    values: list[Any] = [None, [], [None], [[]], 0, "", {}, [1, None]]
    assert [value for value in values if field_holds({"is_empty": True}, value)] == [None, []]
    assert [value for value in values if field_holds({"is_null": True}, value)] == [None, [None], [1, None]]
    assert field_holds({"is_empty": True})
    assert not field_holds({"is_null": True})
    assert field_holds({"is_null": False})
    assert not field_holds({"is_empty": False})
    assert holds({"is_empty": {"key": "a[]"}}, {"a": [None, []]})
    assert not holds({"is_empty": {"key": "a[]"}}, {"a": [None, 1]})
    assert holds({"is_null": {"key": "a[].x"}}, {"a": [{"x": 1}, {"x": None}, {}]})


def test_values_count() -> None:
    for count, values in {0: [None, []], 1: [5, {}, "ab", [None]], 2: [[1, None]]}.items():
        for value in values:
            assert field_holds({"values_count": {"gte": count, "lte": count}}, value), (count, value)
    assert field_holds({"values_count": {"lt": 1}})
    assert field_holds({"values_count": {}})


def test_one_value_has_to_meet_every_bound_of_a_count() -> None:
    condition = {"key": "a[].x", "values_count": {"gt": 1, "lt": 3}}
    assert not holds(condition, {"a": [{"x": 1}, {"x": [1, 2, 3]}]})
    assert holds(condition, {"a": [{"x": 1}, {"x": [1, 2]}]})


@pytest.mark.parametrize(
    ("test", "matching", "others"),
    [
        ({"geo_bounding_box": BOX}, [(5, 5), (9.9, 0.1)], [(0, 5), (10, 5), (5, 0), (5, 10), (5, -5)]),
        ({"geo_bounding_box": ACROSS}, [(5, 175), (5, -175), (5, 180), (5, -180)], [(5, 170), (5, -170), (5, 0)]),
        ({"geo_radius": {"center": {"lat": 0, "lon": 0}, "radius": 111_196}}, [(0, 1), (1, 0), (0, 0)], [(1, 1), (0, 1.01)]),
        ({"geo_radius": {"center": {"lat": 0, "lon": 0}, "radius": 0}}, [], [(0, 0)]),
        ({"geo_radius": {"center": {"lat": 0, "lon": 179}, "radius": 300_000}}, [(0, -179)], [(0, 176)]),
    ],
)  # fmt: skip
def test_areas(test: dict[str, Any], matching: list[Any], others: list[Any]) -> None:
    points = [(lat, lon) for lat, lon in [*matching, *others] if field_holds(test, {"lat": lat, "lon": lon})]
    assert points == matching


def test_a_polygon_s_edges_are_outside_of_it_and_its_holes_edges_too() -> None:
    square = [(0, 0), (0, 10), (10, 10), (10, 0), (0, 0)]
    hole = [(4, 4), (4, 6), (6, 6), (6, 4), (4, 4)]
    exterior, interior = ({"points": [{"lat": lat, "lon": lon} for lat, lon in ring]} for ring in (square, hole))
    test = {"geo_polygon": {"exterior": exterior, "interiors": [interior]}}
    for lat, lon in [(1, 1), (5, 3.9), (9.9, 9.9)]:
        assert field_holds(test, {"lat": lat, "lon": lon})
    for lat, lon in [(0, 0), (0, 5), (5, 10), (5, 5), (4, 5), (6, 6), (11, 5), (-1, 5)]:
        assert not field_holds(test, {"lat": lat, "lon": lon})


@pytest.mark.parametrize("value", [{"lat": 5}, {"lat": "5", "lon": 5}, {"lat": True, "lon": 5}, [5, 5], "5,5", None])
def test_what_is_no_point_is_in_no_area(value: Any) -> None:
    assert not field_holds({"geo_bounding_box": BOX}, value)


def test_any_of_several_points() -> None:
    assert field_holds({"geo_bounding_box": BOX}, [{"lat": 50, "lon": 5}, {"lat": 5, "lon": 5}])


def test_nested_asks_each_object_by_itself() -> None:
    condition = {"nested": {"key": "a", "filter": {"must": [
        {"key": "x", "match": {"value": 1}}, {"key": "y", "match": {"value": 2}}]}}}  # fmt: skip
    assert holds(condition, {"a": [{"x": 1, "y": 2}]})
    assert not holds(condition, {"a": [{"x": 1}, {"y": 2}]})
    assert not holds(condition, {"a": {"x": 1, "y": 2}})
    assert not holds(condition, {"a": [[{"x": 1, "y": 2}]]})
    assert not holds(condition, {})


def test_nested_objects_have_no_id_and_no_vector() -> None:
    for condition in ({"has_id": [7]}, {"has_vector": ""}, {"slice": {"total": 1, "index": 0}}):
        assert holds(condition, {})
        assert not holds({"nested": {"key": "a", "filter": {"must": condition}}}, {"a": [{}]})
        assert holds({"nested": {"key": "a", "filter": {"must_not": condition}}}, {"a": [{}]})


def test_conditions_on_the_point() -> None:
    assert holds({"has_id": [7, 9]}, {})
    assert not holds({"has_id": [8]}, {})
    assert not holds({"has_id": []}, {})
    assert holds({"has_vector": "image"}, {})
    assert not holds({"has_vector": "text"}, {})
    assert [holds({"slice": {"total": 3, "index": index}}, {}) for index in range(3)].count(True) == 1


def test_clauses_and_together() -> None:
    red, small = {"key": "c", "match": {"value": "red"}}, {"key": "s", "range": {"lt": 3}}
    both = {"must": [red], "should": [small], "must_not": [{"key": "c", "match": {"value": "blue"}}]}
    node = normal_form(parse_filter(both, LIMITS))
    assert matches(node, {"c": "red", "s": 1}, POINT)
    assert not matches(node, {"c": "red", "s": 5}, POINT)
    assert not matches(node, {"c": ["red", "blue"], "s": 1}, POINT)
    two_of_three = {"min_should": {"conditions": [red, small, {"has_id": [7]}], "min_count": 2}}
    assert holds(two_of_three, {"c": "red"})
    assert not holds(two_of_three, {})


def test_cheap_conditions_are_asked_first() -> None:
    def cost(condition: dict[str, Any]) -> int:
        return cost_of(normal_form(parse_filter({"must": condition}, LIMITS)))

    area, word = {"key": "a", "geo_bounding_box": BOX}, {"key": "a", "match": {"value": "x"}}
    assert cost({"has_id": [1]}) < cost(word) < cost({**word, "key": "a[].b"}) < cost(area)
    assert cost(area) < cost({"nested": {"key": "a", "filter": {"must": word}}})
