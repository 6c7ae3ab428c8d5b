"""Payload indexes: what each kind answers by itself, what it leaves open, and how one grows with its segment."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pyroaring import BitMap

from shards.filters.conditions import Field
from shards.filters.evaluation import Searched, matching_rows
from shards.filters.indexes import TAIL_ROWS, FieldKind, GrowingIndexes, build_indexes
from shards.filters.normal import normal_form
from shards.filters.parsing import FilterLimits, parse_filter
from shards.filters.paths import parse_path
from shards.filters.rowsets import all_rows
from tests.filter_cases import ListedRows

MIXED: list[Any] = [
    *("red", "redder", ["red", "blue"], 1, [1, "red"], 1.0, True, None, [], {}, "2024-05-17", "the red fox"),
    *(
        ["the red", "fox"],
        2**63 + 1,
        -5,
        [2, 2.5],
        {"lat": 1, "lon": 1},
        [{"lat": 95, "lon": 1}, "x"],
        [None],
        [["red"]],
    ),
]
"""Of row 0, 1, ... the value of the field."""

TESTS: dict[str, dict[str, Any]] = {
    "text value": {"match": {"value": "red"}},
    "some texts": {"match": {"any": ["red", "blue", "none"]}},
    "other texts": {"match": {"except": ["red"]}},
    "other integers": {"match": {"except": [1]}},
    "prefix": {"match": {"prefix": "red"}},
    "integer": {"match": {"value": 1}},
    "large integer": {"match": {"value": 2**63 + 1}},
    "bool": {"match": {"value": True}},
    "numbers": {"range": {"gt": -5, "lte": 2}},
    "dates": {"range": {"gte": "2024-01-01"}},
    "words": {"match": {"text": "red the"}},
    "one word": {"match": {"text": "fox"}},
    "some word": {"match": {"text_any": "fox blue"}},
    "phrase": {"match": {"phrase": "red fox"}},
    "circle": {"geo_radius": {"center": {"lat": 1, "lon": 1.5}, "radius": 100_000}},
    "box": {"geo_bounding_box": {"top_left": {"lat": 90, "lon": 0}, "bottom_right": {"lat": 0, "lon": 5}}},
    "empty": {"is_empty": True},
    "null": {"is_null": True},
    "count": {"values_count": {"gte": 2}},
}
ALWAYS = {"empty", "null", "count"}
ANSWERED: dict[FieldKind, set[str]] = {
    FieldKind.KEYWORD: {"text value", "some texts", "other texts", "prefix"},
    FieldKind.UUID: {"text value", "some texts", "other texts", "prefix"},
    FieldKind.INTEGER: {"integer", "large integer", "other integers", "numbers"},
    FieldKind.FLOAT: {"integer", "large integer", "other integers", "numbers"},
    FieldKind.BOOL: {"bool"},
    FieldKind.DATETIME: {"dates"},
    FieldKind.TEXT: {"one word", "some word"},
    FieldKind.GEO: set(),
}
"""What each kind answers without a look at a payload, of these values (those of GEO have a point beyond the pole)."""


@pytest.mark.parametrize("kind", list(FieldKind))
@pytest.mark.parametrize("name", [*TESTS])
def test_an_index_says_what_a_scan_says(kind: FieldKind, name: str) -> None:
    rows = ListedRows(list(range(len(MIXED))), [{"a": value} for value in MIXED])
    node = normal_form(parse_filter({"must": {"key": "a", **TESTS[name]}}, FilterLimits()))
    every_row = all_rows(len(MIXED))
    scanned = matching_rows(node, Searched(rows, {}, {}), every_row)
    indexes = build_indexes({"a": kind}, rows.payloads)
    rows.read_count = 0
    assert matching_rows(node, Searched(rows, indexes, {}), every_row) == scanned
    assert scanned
    assert (rows.read_count == 0) == (name in ANSWERED[kind] | ALWAYS)
    assert isinstance(node, Field)
    bounds, guess = indexes[node.path].bounds(node.test), indexes[node.path].estimate(node.test)
    assert bounds.sure <= scanned <= bounds.possible
    assert guess.least <= len(scanned) <= guess.most


def test_a_prefix_takes_whatever_follows_it() -> None:
    texts = ["gr", "gra", "grz", "grün", "gr\U0001f431", "gs", "g", "Gr"]
    rows = ListedRows(list(range(len(texts))), [{"a": text} for text in texts])
    indexes = build_indexes({"a": FieldKind.KEYWORD}, rows.payloads)
    node = normal_form(parse_filter({"must": {"key": "a", "match": {"prefix": "gr"}}}, FilterLimits()))
    assert list(matching_rows(node, Searched(rows, indexes, {}), all_rows(len(texts)))) == [0, 1, 2, 3, 4]


def test_a_phrase_of_one_word_repeated_is_not_that_word() -> None:
    rows = ListedRows([0, 1], [{"a": "quick fox"}, {"a": "quick, quick fox"}])
    indexes = build_indexes({"a": FieldKind.TEXT}, rows.payloads)
    node = normal_form(parse_filter({"must": {"key": "a", "match": {"phrase": "quick quick"}}}, FilterLimits()))
    assert list(matching_rows(node, Searched(rows, indexes, {}), all_rows(2))) == [1]
    assert isinstance(node, Field)
    guess = indexes[node.path].estimate(node.test)
    assert (guess.least, guess.most) == (0, 2)


def test_rows_without_a_value_are_never_read() -> None:
    documents: list[dict[str, Any]] = [{"a": "x"} if row == 5 else {"b": row} for row in range(50)]
    rows = ListedRows(list(range(50)), documents)
    indexes = build_indexes({"a": FieldKind.KEYWORD}, rows.payloads)
    node = normal_form(parse_filter({"must": {"key": "a", "match": {"text": "x"}}}, FilterLimits()))
    rows.read_count = 0
    assert list(matching_rows(node, Searched(rows, indexes, {}), all_rows(50))) == [5]
    assert rows.read_count == 1
    assert indexes[parse_path("a")].valued_count == 1


def test_two_spellings_of_a_path_are_one_field() -> None:
    rows = ListedRows([0], [{"a": {"b": 1}}])
    indexes = build_indexes({'"a".b': FieldKind.INTEGER}, rows.payloads)
    node = normal_form(parse_filter({"must": {"key": "a.b", "match": {"value": 1}}}, FilterLimits()))
    assert list(matching_rows(node, Searched(rows, indexes, {}), all_rows(1))) == [0]
    assert rows.read_count == 0


def test_a_field_that_is_no_path_is_refused() -> None:
    with pytest.raises(ValueError, match="is no JSON path"):
        build_indexes({"a..b": FieldKind.TEXT}, [])


def test_a_growing_index_leaves_only_its_tail_to_a_scan() -> None:
    documents = [{"n": row % 7} for row in range(3 * TAIL_ROWS + 10)]
    payloads = [orjson.dumps(document) for document in documents]
    growing = GrowingIndexes({"n": FieldKind.INTEGER})
    node = normal_form(parse_filter({"must": {"key": "n", "match": {"value": 3}}}, FilterLimits()))
    for count in (1, TAIL_ROWS - 1, TAIL_ROWS, TAIL_ROWS + 5, 3 * TAIL_ROWS, len(documents)):
        growing.append(payloads[growing.row_count : count])
        rows = ListedRows(list(range(count)), documents[:count])
        found = matching_rows(node, Searched(rows, growing.current, {}), all_rows(count))
        assert found == BitMap(row for row in range(count) if row % 7 == 3)
        assert rows.read_count < TAIL_ROWS


def test_what_a_growing_index_gave_does_not_change() -> None:
    payloads = [b'{"n":%d}' % row for row in range(2 * TAIL_ROWS)]
    growing = GrowingIndexes({"n": FieldKind.INTEGER})
    growing.append(payloads[:TAIL_ROWS])
    given = growing.current[parse_path("n")]
    before = {name: values.tolist() for name, values in given.content.arrays().items()}
    growing.append(payloads[TAIL_ROWS:])
    assert given.row_count == TAIL_ROWS
    assert {name: values.tolist() for name, values in given.content.arrays().items()} == before
    assert growing.current[parse_path("n")].row_count == 2 * TAIL_ROWS


def test_a_growing_segment_without_declared_fields_indexes_nothing() -> None:
    growing = GrowingIndexes({})
    growing.append([b"not even JSON"])
    assert growing.current == {}
