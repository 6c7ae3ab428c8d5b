"""A payload index's bytes: what was written comes back, and nothing that is damaged is believed."""

from __future__ import annotations

import mmap
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest

from shards.errors import Corrupt
from shards.filters.conditions import Field
from shards.filters.indexes import FieldIndex, FieldKind, build_indexes, decode_index, encode_index
from shards.filters.parsing import FilterLimits, decode_filter
from shards.filters.sections import (
    check_ascending,
    check_bits,
    check_rows,
    check_starts,
    decode_sections,
    encode_sections,
)
from tests.filter_cases import KINDS, random_documents

VALUES: dict[str, list[Any]] = {
    "k": ["red", ["green", "red"], None, 5, "", "grün"],
    "i": [1, [2, 2**63 + 5], -3, "x", 1.5, None],
    "f": [1.5, [2, -0.5], None, True, 3, 1e300],
    "b": [True, [True, False], None, 1, False, []],
    "d": ["2024-05-17", ["2024-05-17T10:00:00Z", "x"], None, 5, "0001-01-01", []],
    "u": ["550e8400-e29b-41d4-a716-446655440000", None, [], "x", 1, "y"],
    "t": ["the fox", ["the", "fox"], "", None, 1, "quick fox"],
    "g": [
        {"lat": 1, "lon": 2},
        [{"lat": 3, "lon": 4}, {"lat": 1, "lon": 2}],
        {"lat": 95, "lon": 0},
        None,
        1,
        {"lat": 1},
    ],
}
ROW_COUNT = 6
CONDITIONS: dict[str, list[dict[str, Any]]] = {
    "k": [{"match": {"any": ["red", "zzz"]}}, {"match": {"except": ["red"]}}, {"match": {"prefix": "r"}}],
    "i": [{"match": {"value": 2}}, {"match": {"except": [2]}}, {"range": {"gt": 0}}],
    "f": [{"range": {"lt": 2}}, {"match": {"value": 3}}],
    "b": [{"match": {"value": True}}],
    "d": [{"range": {"lt": "2024-05-17T05:00:00Z"}}],
    "u": [{"match": {"value": "x"}}],
    "t": [{"match": {"text": "the fox"}}, {"match": {"text_any": "fox quick"}}, {"match": {"phrase": "the fox"}}],
    "g": [{"geo_radius": {"center": {"lat": 1, "lon": 2}, "radius": 1000}}],
}
ALWAYS: list[dict[str, Any]] = [{"is_empty": True}, {"is_null": True}, {"values_count": {"gt": 1}}]


def index_of(name: str) -> FieldIndex:
    payloads = [orjson.dumps({name: value}) for value in VALUES[name]]
    (index,) = build_indexes({name: KINDS[name]}, payloads).values()
    return index


def answers(name: str, index: FieldIndex) -> list[Any]:
    """What the index says of its field's conditions."""
    said: list[Any] = []
    for condition in [*CONDITIONS[name], *ALWAYS]:
        node = decode_filter(orjson.dumps({"must": {"key": name, **condition}}), FilterLimits())
        leaf = node if isinstance(node, Field) else pytest.fail("one condition is one leaf")
        bounds = index.bounds(leaf.test)
        said.append((list(bounds.sure), list(bounds.possible), index.estimate(leaf.test)))
    return said


@pytest.mark.parametrize("name", [*VALUES])
def test_an_index_comes_back_from_its_bytes(name: str) -> None:
    index = index_of(name)
    encoded = encode_index(index)
    decoded = decode_index(encoded, ROW_COUNT)
    assert decoded.kind == index.kind
    assert encode_index(decoded) == encoded
    assert answers(name, decoded) == answers(name, index)
    assert len(encoded) % 8 == 0


def test_an_index_may_be_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "k.index"
    path.write_bytes(encode_index(index_of("k")))
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    index = decode_index(memoryview(mapped), ROW_COUNT)
    assert answers("k", index) == answers("k", index_of("k"))
    assert not any(
        values.flags.owndata or values.flags.writeable for values in index.content.arrays().values() if len(values)
    )


@pytest.mark.parametrize("name", [*VALUES])
def test_bytes_cut_anywhere_are_refused(name: str) -> None:
    encoded = encode_index(index_of(name))
    for length in range(len(encoded)):
        with pytest.raises(Corrupt):
            decode_index(encoded[:length], ROW_COUNT)
    with pytest.raises(Corrupt):
        decode_index(encoded + bytes(8), ROW_COUNT)


@pytest.mark.parametrize("name", [*VALUES])
def test_bytes_changed_anywhere_are_refused_or_answer_with_rows_of_the_segment(name: str) -> None:
    encoded = encode_index(index_of(name))
    random = Random(name)
    refused = 0
    for at in range(len(encoded)):
        for value in (0, 255, random.randrange(256)):
            damaged = bytearray(encoded)
            damaged[at] = value
            try:
                index = decode_index(bytes(damaged), ROW_COUNT)
            except Corrupt:
                refused += 1
                continue
            for sure, possible, guess in answers(name, index):
                assert all(row < ROW_COUNT for row in [*sure, *possible])
                assert 0 <= guess.least <= guess.most <= ROW_COUNT
    assert refused > len(encoded) / 2


@pytest.mark.parametrize("row_count", [0, 5, 7, 2**40])
def test_an_index_of_another_number_of_rows_is_refused(row_count: int) -> None:
    with pytest.raises(Corrupt, match=f"of 6 rows, not of {row_count}"):
        decode_index(encode_index(index_of("k")), row_count)


def test_an_index_of_no_rows() -> None:
    indexes = build_indexes(KINDS, [])
    for (path, index), name in zip(indexes.items(), KINDS, strict=True):
        assert str(path) == name
        assert all(said[:2] == ([], []) for said in answers(name, decode_index(encode_index(index), 0)))


def test_an_index_without_any_value() -> None:
    for name, kind in KINDS.items():
        (index,) = build_indexes({name: kind}, [b"", b"{}"]).values()
        assert index.valued_count == 0
        decoded = decode_index(encode_index(index), 2)
        assert answers(name, decoded) == answers(name, index)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_rows(np.array([3], np.uint32), 3), "of 3 rows names row 3"),
        (lambda: check_bits(np.array([255], np.uint8), 7), "bits behind the last row"),
        (lambda: check_bits(np.array([1, 0], np.uint8), 7), "has 2 bytes of bits"),
        (lambda: check_starts(np.array([], np.uint64), -1, 0), "do not ascend"),
        (lambda: check_starts(np.array([0, 3, 2], np.uint64), 2, 2), "do not ascend"),
        (lambda: check_starts(np.array([0, 1], np.uint64), 1, 2), "do not ascend"),
        (lambda: check_ascending(np.array([1.0, np.nan]), "values"), "the values of a payload index do not ascend"),
        (lambda: check_ascending(np.array([np.nan]), "values"), "do not ascend"),
        (lambda: decode_sections(b"short"), "fewer than its header"),
        (lambda: decode_sections(bytes(64)), "begins with"),
        (lambda: decode_sections(encode_sections("k", 1, {"x": np.zeros(1, np.float32)})), "type '<f4'"),
        (lambda: decode_index(encode_sections("tree", 1, {}), 1), "kind 'tree'"),
        (lambda: decode_index(encode_sections("keyword", 1, {}), 1), "section 'empty' is nothing"),
    ],
)  # fmt: skip
def test_contradictions_are_named(check: Any, message: str) -> None:
    with pytest.raises(Corrupt, match=message):
        check()


def test_random_payloads_come_back() -> None:
    random = Random(3)
    payloads = [orjson.dumps(document) for document in random_documents(random, 200)]
    for name, kind in KINDS.items():
        for declared in {kind, random.choice(list(FieldKind))}:
            (index,) = build_indexes({name: declared}, payloads).values()
            assert answers(name, decode_index(encode_index(index), 200)) == answers(name, index)
