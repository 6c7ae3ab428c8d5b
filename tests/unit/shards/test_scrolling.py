"""Pages of points: every point once, in order, whatever segment holds it; by id and by the values of a field."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from cluster.paging import merge_pages
from cluster.requests import OrderBy, ScrollRequest
from shards import messages, sealing
from shards.batch import make_batch
from shards.collection import ShardCollection
from shards.filter_query import filter_query
from shards.filters.paths import parse_path
from shards.messages import Target
from shards.nearest import Want
from shards.point_ids import UUID_BASE, key_array, key_list
from shards.scrolling import Order, Page, ScrollPlan, scroll
from tests.shard_oracle import SMALL, delete_op, new_collection, upsert_op, vectors_of

UUIDS = [UUID_BASE + (n << 100) for n in range(10)]
KEYS = [*range(0, 60, 3), 2**64 - 1, *UUIDS]
PAYLOADS: dict[int, Any] = {
    0: {"n": 5, "even": True},
    3: {"n": [1, 5, 1], "even": False},
    6: {"n": 2.5},
    9: {"n": "2024-01-01"},
    12: {"n": None},
    15: {"n": True},
    18: {"n": -7},
    UUIDS[3]: {"n": 5},
}


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    made = new_collection(tmp_path / "c", SMALL)

    def write(keys: list[int]) -> None:
        payloads = [orjson.dumps(PAYLOADS[key]) if key in PAYLOADS else b"" for key in keys]
        made.commit([upsert_op(make_batch(key_array(keys), vectors_of([key % 2**63 for key in keys]), payloads))], 1)

    write([key for key in KEYS if key < 2**64][::2])
    sealing.seal_all(made)
    write([key for key in KEYS if key >= 2**64])
    sealing.seal_all(made)
    write([*[key for key in KEYS if key < 2**64][1::2], 1])
    made.commit([delete_op([1])], 1)
    return made


def plan(limit: int, offset: int | None = None, encoded: bytes = b"", order: Order | None = None) -> ScrollPlan:
    made = ScrollPlan(limit, offset, filter_query(encoded) if encoded else None, order, Want(True, True))
    (body,) = messages.encode_scroll(Target(b"u" * 16, 7), made)
    _, rest = messages.decode_target(memoryview(body))
    assert messages.decode_scroll(rest) == made
    return made


def keys_of(page: Page) -> list[int]:
    return key_list(page.records.batch.keys)


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_pages_by_id_hold_every_point_once_in_order(collection: ShardCollection, limit: int) -> None:
    found: list[int] = []
    offset: int | None = None
    while True:
        page = keys_of(scroll(collection.segments(), plan(limit + 1, offset)))
        found += page[:limit]
        if len(page) <= limit:
            break
        offset = page[limit]
    assert found == sorted(KEYS)


def test_an_offset_need_not_be_there(collection: ShardCollection) -> None:
    for offset in (4, 2**64 - 2, UUID_BASE, UUIDS[4] - 1):
        expected = [key for key in sorted(KEYS) if key >= offset][:5]
        assert keys_of(scroll(collection.segments(), plan(5, offset))) == expected


def test_a_page_has_what_it_was_asked_for(collection: ShardCollection) -> None:
    page = scroll(collection.segments(), plan(3))
    body = memoryview(b"".join(messages.encode_page(page)))
    again = messages.decode_page(body)
    assert keys_of(again) == [0, 3, 6]
    assert orjson.loads(again.records.batch.payload(1)) == PAYLOADS[3]
    assert again.records.batch.vectors.shape == (3, 8)
    assert again.records.versions.tolist() == page.records.versions.tolist()
    assert keys_of(scroll([], plan(3))) == []


def test_a_filter_is_kept_to(collection: ShardCollection) -> None:
    five = b'{"must":{"key":"n","match":{"value":5}}}'
    assert keys_of(scroll(collection.segments(), plan(10, None, five))) == [0, 3, UUIDS[3]]
    assert keys_of(scroll(collection.segments(), plan(10, 1, five))) == [3, UUIDS[3]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(parse_path("n")), [(-7, 18), (1, 3), (2.5, 6), (5, 0), (5, 3), (5, UUIDS[3]), (1704067200000000, 9)]),
        (
            Order(parse_path("n"), True),
            [(1704067200000000, 9), (5, 0), (5, 3), (5, UUIDS[3]), (2.5, 6), (1, 3), (-7, 18)],
        ),
        (Order(parse_path("n"), False, 2.5), [(2.5, 6), (5, 0), (5, 3), (5, UUIDS[3]), (1704067200000000, 9)]),
        (Order(parse_path("n"), True, 2.5), [(2.5, 6), (1, 3), (-7, 18)]),
        (Order(parse_path("nothing")), []),
    ],
)
def test_values_order_points(collection: ShardCollection, order: Order, expected: list[tuple[float, int]]) -> None:
    page = scroll(collection.segments(), plan(100, None, b"", order))
    assert list(zip(page.order_values or [], keys_of(page), strict=True)) == expected
    short = scroll(collection.segments(), plan(2, None, b"", order))
    assert keys_of(short) == [key for _, key in expected[:2]]


def test_pages_of_shards_merge_without_gaps(collection: ShardCollection) -> None:
    segments = collection.segments()
    parts = [scroll([segment], plan(6)) for segment in segments]
    merged = merge_pages(parts, ScrollRequest(5, with_vectors=True))
    assert [record.key for record in merged.records] == sorted(KEYS)[:5]
    assert merged.next_key == sorted(KEYS)[5]
    assert merged.records[0].vector is not None
    rest = merge_pages([scroll([segment], plan(100, UUIDS[8])) for segment in segments], ScrollRequest(99))
    assert ([record.key for record in rest.records], rest.next_key) == (UUIDS[8:], None)
    for descends in (False, True):
        order = Order(parse_path("n"), descends)
        ordered = merge_pages(
            [scroll([segment], plan(4, None, b"", order)) for segment in segments],
            ScrollRequest(4, order_by=OrderBy("n", descends)),
        )
        values = ordered.order_values or []
        assert all((a >= b) if descends else (a <= b) for a, b in pairwise(values))
        assert len(values) == 4
        assert ordered.next_key is None
