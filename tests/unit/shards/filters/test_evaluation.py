"""The rows of a segment that match: which payloads are read for it, and what is known without reading any."""

from __future__ import annotations

from typing import Any

import pytest
from pyroaring import BitMap

from shards.filters.answers import Estimate
from shards.filters.conditions import Node
from shards.filters.estimate import estimate
from shards.filters.evaluation import RowFilter, Searched, matching_rows
from shards.filters.indexes import FieldKind, Indexes, build_indexes
from shards.filters.normal import normal_form
from shards.filters.parsing import FilterLimits, parse_filter
from shards.filters.rowsets import all_rows
from tests.filter_cases import ListedRows

COUNT = 100
DOCUMENTS: list[dict[str, Any]] = [
    {
        "color": ["red", "green", "blue"][row % 3],
        "size": row,
        "note": f"row {row}",
        "parts": [{"n": row % 5, "m": row % 2}],
    }
    for row in range(COUNT)
]
FIELDS = {"color": FieldKind.KEYWORD, "size": FieldKind.INTEGER, "parts[].n": FieldKind.INTEGER}
RED = {"key": "color", "match": {"value": "red"}}
BLUE = {"key": "color", "match": {"value": "blue"}}
UNDER_30 = {"key": "size", "range": {"lt": 30}}
NOTED = {"key": "note", "match": {"text": "row 7"}}
IDS = {"has_id": [3, 4, 1000]}
NOWHERE = {"has_id": []}


def segment(indexed_count: int = COUNT, fields: dict[str, FieldKind] = FIELDS) -> tuple[Searched, ListedRows]:
    rows = ListedRows(list(range(COUNT)), DOCUMENTS)
    indexes: Indexes = build_indexes(fields, rows.payloads[:indexed_count])
    return Searched(rows, indexes, {"": None, "image": BitMap(range(10))}), rows


def node_of(raw: dict[str, Any]) -> Node:
    return normal_form(parse_filter(raw, FilterLimits()))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, range(COUNT)),
        ({"must": [RED, UNDER_30]}, range(0, 30, 3)),
        ({"must_not": [RED, BLUE]}, range(1, COUNT, 3)),
        ({"should": [UNDER_30, {"key": "size", "range": {"gte": 90}}]}, [*range(30), *range(90, COUNT)]),
        ({"min_should": {"conditions": [RED, UNDER_30, IDS], "min_count": 2}}, [0, 3, 4, *range(6, 30, 3)]),
        ({"must": [IDS]}, [3, 4]),
        ({"must": [{"has_vector": "image"}], "must_not": [RED]}, [1, 2, 4, 5, 7, 8]),
        ({"must": [{"has_vector": ""}, IDS]}, [3, 4]),
        ({"must": [{"has_vector": "other"}]}, []),
        ({"must": [{"key": "size", "is_null": True}]}, []),
    ],
)
def test_what_indexes_hold_is_answered_without_reading(raw: dict[str, Any], expected: Any) -> None:
    searched, rows = segment()
    assert list(matching_rows(node_of(raw), searched, all_rows(COUNT))) == list(expected)
    assert rows.read_count == 0


@pytest.mark.parametrize(
    ("raw", "expected", "read_count"),
    [
        ({"must": [NOTED]}, [7], 100),
        ({"must": [NOTED, RED]}, [], 34),
        ({"must": [NOTED, UNDER_30, {"key": "color", "match": {"value": "green"}}]}, [7], 10),
        ({"should": [NOTED, UNDER_30]}, range(30), 70),
        ({"must": [NOTED], "must_not": [UNDER_30]}, [], 70),
        ({"must": [IDS], "should": [NOTED, RED]}, [3], 1),
        ({"min_should": {"conditions": [RED, UNDER_30, NOTED], "min_count": 3}}, [], 10),
        ({"must": [NOTED, {"key": "color", "match": {"value": "pink"}}]}, [], 0),
        ({"should": [{"must": [NOWHERE, NOTED, IDS]}, {"must": [NOTED]}]}, [7], 100),
        ({"must": {"nested": {"key": "parts", "filter": {"must": [
            {"key": "n", "match": {"value": 3}}, {"key": "m", "match": {"value": 1}}]}}}}, range(3, COUNT, 10), 20),
        ({"must": {"nested": {"key": "parts", "filter": {"must_not": {"key": "n", "range": {"lt": 4}}}}}},
         range(4, COUNT, 5), 100),
        ({"must": {"nested": {"key": "parts", "filter": {"must": IDS}}}}, [], 0),
    ],
)  # fmt: skip
def test_only_what_indexes_leave_open_is_read(raw: dict[str, Any], expected: Any, read_count: int) -> None:
    searched, rows = segment()
    assert list(matching_rows(node_of(raw), searched, all_rows(COUNT))) == list(expected)
    assert rows.read_count == read_count


def test_what_is_missing_in_one_object_is_not_missing_in_all() -> None:
    rows = ListedRows([0, 1], [{"parts": [{"n": 1}, {}]}, {"parts": [{"n": 1}]}])
    searched = Searched(rows, build_indexes(FIELDS, rows.payloads), {})
    empty = {"nested": {"key": "parts", "filter": {"must": {"is_empty": {"key": "n"}}}}}
    assert list(matching_rows(node_of({"must": empty}), searched, all_rows(2))) == [0]


def test_rows_that_do_not_count_are_neither_read_nor_found() -> None:
    searched, rows = segment()
    assert list(matching_rows(node_of({"must": [NOTED]}), searched, BitMap(range(5, 9)))) == [7]
    assert rows.read_count == 4
    assert list(matching_rows(node_of({"must_not": [RED]}), searched, BitMap([0, 1]))) == [1]
    assert not matching_rows(node_of({}), searched, BitMap())


def test_rows_behind_an_index_are_read() -> None:
    searched, rows = segment(indexed_count=90)
    assert list(matching_rows(node_of({"must": [RED]}), searched, all_rows(COUNT))) == list(range(0, COUNT, 3))
    assert rows.read_count == 10
    assert estimate(node_of({"must": [RED]}), searched) == Estimate(30, 33, 40)


def test_a_few_rows_are_confirmed_without_looking_at_others() -> None:
    searched, rows = segment()
    row_filter = RowFilter(node_of({"must": [NOTED, UNDER_30]}), searched, all_rows(COUNT))
    assert not row_filter.is_decided
    assert (list(row_filter.sure), list(row_filter.possible)) == ([], list(range(30)))
    assert list(row_filter.confirm(BitMap([6, 7, 99]))) == [7]
    assert rows.read_count == 2
    decided = RowFilter(node_of({"must": [UNDER_30]}), searched, all_rows(COUNT))
    assert decided.is_decided
    assert list(decided.confirm(BitMap([29, 30]))) == [29]
    assert rows.read_count == 2


def test_what_a_filter_gave_is_not_changed_by_the_next() -> None:
    searched, _ = segment()
    every_row = all_rows(COUNT)
    first = RowFilter(node_of({"must": [{"has_vector": "image"}]}), searched, every_row)
    found = first.matching()
    RowFilter(node_of({"must_not": [{"has_vector": "image"}], "should": [RED, BLUE]}), searched, every_row).matching()
    assert list(found) == list(range(10)) == list(searched.vectors["image"] or [])
    assert every_row == all_rows(COUNT)


@pytest.mark.parametrize(
    ("raw", "guess"),
    [
        ({}, Estimate(100, 100, 100)),
        ({"must": [RED]}, Estimate(34, 34, 34)),
        ({"must": [UNDER_30]}, Estimate(30, 30, 30)),
        ({"must_not": [UNDER_30]}, Estimate(70, 70, 70)),
        ({"must": [RED, UNDER_30]}, Estimate(0, 10, 30)),
        (
            {"must": [{"key": "size", "range": {"lt": 80}}, {"key": "size", "range": {"gte": 10}}]},
            Estimate(70, 72, 80),
        ),
        ({"should": [RED, UNDER_30]}, Estimate(34, 54, 64)),
        ({"must": [NOTED]}, Estimate(0, 33, 100)),
        ({"must": [NOTED, UNDER_30]}, Estimate(0, 10, 30)),
        ({"must": [IDS]}, Estimate(0, 3, 3)),
        ({"must": [{"has_vector": "image"}]}, Estimate(10, 10, 10)),
        ({"must": [{"slice": {"total": 4, "index": 0}}]}, Estimate(0, 25, 100)),
        ({"must": [{"key": "color", "match": {"except": ["red"]}}]}, Estimate(0, 66, 66)),
        ({"min_should": {"conditions": [RED, BLUE, UNDER_30], "min_count": 2}}, Estimate(0, 25, 48)),
        ({"must": [{"key": "size", "is_empty": True}]}, Estimate(0, 0, 0)),
        ({"must": [{"key": "size", "match": {"text": "x"}}]}, Estimate(0, 33, 100)),
    ],
)
def test_estimates(raw: dict[str, Any], guess: Estimate) -> None:
    searched, rows = segment()
    assert estimate(node_of(raw), searched) == guess
    assert rows.read_count == 0
