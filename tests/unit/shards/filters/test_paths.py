"""JSON paths: what is one, what two spellings share, and where a path leads."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client.local.json_path_parser import parse_json_path

from shards.filters.paths import JsonPath, parse_path, select, unwrap

DOCUMENT = {
    "a": {"b": 1, "c d": 2, "": 3},
    "a.b": 4,
    "list": [{"x": 1}, {"x": [2, 3]}, 5, {"y": 6}],
    "deep": [[1, 2], [3, [4]]],
    "größe_1-x": 7,
}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ('"a.b"', ("a.b",)),
        ('a."c d"[0].e', ("a", "c d", 0, "e")),
        ("a[]", ("a", None)),
        ("a[][12].b[]", ("a", None, 12, "b", None)),
        ("größe_1-x", ("größe_1-x",)),
        ('""', ("",)),
        ("a[18446744073709551615]", ("a", 2**64 - 1)),
    ],
)
def test_a_path_is_its_steps(text: str, steps: tuple[Any, ...]) -> None:
    assert parse_path(text) == JsonPath(steps)
    assert parse_path(str(parse_path(text))) == JsonPath(steps)


@pytest.mark.parametrize(
    "text",
    *[["", ".", "a.", ".a", "a..b", "[0]", "a.[0]", "a[", "a[x]", "a[-1]", "a]", "a b", '"a', 'a"b"', '"a"b', "a[0]b",
       "a[18446744073709551616]", "a[" + "1" * 5000 + "]", "a[٣]", "a$"]],
)  # fmt: skip
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no JSON path"):
        parse_path(text)
    with pytest.raises(ValueError):  # noqa: PT011 - the oracle says the same
        parse_json_path(text)


def test_quotes_that_change_nothing_make_no_other_path() -> None:
    assert parse_path('"a"."b"[]') == parse_path("a.b[]")
    assert str(parse_path('"a"."b c"[2]')) == 'a."b c"[2]'


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b", [1]),
        ('a."c d"', [2]),
        ('a.""', [3]),
        ('"a.b"', [4]),
        ("list[].x", [1, [2, 3]]),
        ("list[1].x[]", [2, 3]),
        ("list[2]", [5]),
        ("list[9]", []),
        ("list.x", []),
        ("a[0]", []),
        ("a[]", []),
        ("a.b.c", []),
        ("deep[]", [[1, 2], [3, [4]]]),
        ("deep[][]", [1, 2, 3, [4]]),
        ("missing", []),
    ],
)
def test_where_a_path_leads(text: str, values: list[Any]) -> None:
    assert select(DOCUMENT, parse_path(text)) == values


def test_arrays_are_unwrapped_one_level() -> None:
    assert unwrap([1, [2, [3]], [], None]) == [1, 2, [3], None]


def test_a_path_inside_an_array_s_elements() -> None:
    assert str(parse_path("x.y").within(parse_path("a.b"))) == "a.b[].x.y"
