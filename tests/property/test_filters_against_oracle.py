"""Filters at random over payloads at random: every way to evaluate one agrees with the client library's in-process mode.

The oracle is `qdrant_client.local.payload_filters`. Compared with it are the rule for one point (semantics.py), and the rows
of a segment by indexes and scan, with indexes as they were built, read again from their bytes, and of a segment that has
grown since. Bounds and estimates have to hold the truth between them.

    SHOAL_FILTER_CASES=200000 SHOAL_FILTER_SEED=7 python -m pytest tests/property/test_filters_against_oracle.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest
from pyroaring import BitMap
from qdrant_client.http import models
from qdrant_client.local.payload_filters import calculate_payload_mask, validate_filter

from shards.filters.conditions import Node
from shards.filters.estimate import estimate
from shards.filters.evaluation import RowFilter, Searched, matching_rows
from shards.filters.indexes import Indexes, build_indexes, decode_index, encode_index
from shards.filters.normal import normal_form
from shards.filters.parsing import FilterLimits, decode_filter, encode_filter, parse_filter
from shards.filters.rowsets import all_rows
from shards.filters.semantics import Identity, matches
from shards.point_ids import point_id
from tests.filter_cases import FilterWriter, ListedRows, random_documents, random_fields, random_keys

CASES = int(os.environ.get("SHOAL_FILTER_CASES", "5000"))
SEED = int(os.environ.get("SHOAL_FILTER_SEED", "20261125"))
FILTERS_A_SEGMENT = 50
ROWS_MAX = 40
LIMITS = FilterLimits()


@dataclass
class Segment:
    """Points at random, and which vectors they have."""

    seed: int
    keys: list[int]
    documents: list[dict[str, Any]]
    vectors: dict[str, BitMap | None]
    rows: ListedRows
    indexes: Indexes

    @property
    def searched(self) -> Searched:
        return Searched(self.rows, self.indexes, self.vectors)

    def identity(self, row: int) -> Identity:
        return Identity(self.keys[row], {name for name, rows in self.vectors.items() if rows is None or row in rows})

    def oracle_rows(self, raw: dict[str, Any]) -> list[int]:
        everywhere = range(len(self.keys))
        deleted = {
            name: np.array([rows is not None and row not in rows for row in everywhere])
            for name, rows in self.vectors.items()
        }
        parsed = models.Filter.model_validate(raw)
        validate_filter(parsed)
        ids = [point_id(key) for key in self.keys]
        return np.flatnonzero(calculate_payload_mask(self.documents, parsed, ids, deleted)).tolist()


def random_segment(seed: int) -> Segment:
    random = Random(seed)
    count = random.randint(1, ROWS_MAX)
    keys, documents = random_keys(random, count), random_documents(random, count)
    rows = ListedRows(keys, documents)
    covered = count if random.random() < 0.7 else random.randint(0, count)
    indexes = build_indexes(random_fields(random), rows.payloads[:covered])
    if random.random() < 0.5:
        indexes = {path: decode_index(encode_index(index), covered) for path, index in indexes.items()}
    vectors = {"": None, "image": BitMap(random.sample(range(count), count // 2))}
    return Segment(seed, keys, documents, vectors, rows, indexes)


def cases() -> Iterator[tuple[Segment, dict[str, Any], Node]]:
    for number in range(-(-CASES // FILTERS_A_SEGMENT)):
        segment = random_segment(SEED + number)
        random = Random(-segment.seed)
        writer = FilterWriter(
            random, [point_id(key) for key in segment.keys], [str(path) for path in segment.indexes]
        )
        for _ in range(FILTERS_A_SEGMENT):
            raw = writer.filter()
            encoded = encode_filter(parse_filter(raw, LIMITS))
            yield segment, raw, decode_filter(encoded, LIMITS)


def test_every_way_agrees_with_the_oracle() -> None:
    hit_count = row_count = 0
    for segment, raw, node in cases():
        expected = segment.oracle_rows(raw)
        hit_count, row_count = hit_count + len(expected), row_count + len(segment.keys)
        context = f"seed {segment.seed}, filter {raw}"
        found = [
            row for row, document in enumerate(segment.documents) if matches(node, document, segment.identity(row))
        ]
        _assert_same(segment, found, expected, f"one by one, {context}")
        every_row = all_rows(len(segment.keys))
        _assert_same(segment, list(matching_rows(node, segment.searched, every_row)), expected, f"by rows, {context}")
        within = BitMap(range(0, len(segment.keys), 2))
        row_filter = RowFilter(node, segment.searched, within)
        truth = BitMap(expected) & within
        assert row_filter.sure <= truth <= row_filter.possible <= within, context
        assert row_filter.confirm(BitMap(range(0, len(segment.keys), 4))) == truth & BitMap(
            range(0, len(segment.keys), 4)
        )
        guess = estimate(node, segment.searched)
        assert guess.least <= len(expected) <= guess.most, f"{guess} of {len(expected)}, {context}"
        assert guess.least <= guess.expected <= guess.most <= len(segment.keys), context
    assert 0.1 < hit_count / row_count < 0.9, "the filters tell too little"


def test_what_the_client_library_sends_is_what_was_meant() -> None:
    for number, (_, raw, node) in enumerate(cases()):
        if number >= 1000:
            break
        sent = orjson.loads(models.Filter.model_validate(raw).model_dump_json(by_alias=True))
        assert normal_form(parse_filter(sent, LIMITS)) == node, raw


def _assert_same(segment: Segment, found: list[int], expected: list[int], context: str) -> None:
    for row in set(found) ^ set(expected):
        pytest.fail(f"row {row} {'found' if row in found else 'missed'}: {segment.documents[row]}; {context}")
