"""mem0's vector store in short: the calls that its memory makes, with their answers.

The collection is made before: mem0 goes on without keyword search where it finds one without the sparse vector `bm25`,
and it can't be told to make such a one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mem0.vector_stores.qdrant import Qdrant
from qdrant_client import models

from tests.suites.target import empty_client

COLLECTION = "mem0"
IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(4)]
VECTORS = [[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
MEMORIES = [
    {"data": "likes tea", "user_id": "ann", "at": "2026-01-01T00:00:00+00:00", "weight": 1},
    {"data": "likes cake", "user_id": "ann", "at": "2026-02-01T00:00:00+00:00", "weight": 2},
    {"data": "likes cake", "user_id": "bob", "at": "2026-03-01T00:00:00+00:00", "weight": 3},
    {"data": "has a dog", "user_id": "bob", "at": "2026-04-01T00:00:00+00:00", "weight": 4},
]


@pytest.fixture
def store() -> Iterator[Qdrant]:
    client = empty_client(COLLECTION)
    client.create_collection(COLLECTION, models.VectorParams(size=3, distance=models.Distance.COSINE))
    store = Qdrant(COLLECTION, 3, client=client)
    store.insert(VECTORS, MEMORIES, IDS)
    yield store
    client.close()


def _listed(store: Qdrant, filters: dict[str, Any] | None = None) -> list[str]:
    return sorted(point.id for point in store.list(filters)[0])


def test_the_nearest_come_first(store: Qdrant) -> None:
    hits = store.search("tea", VECTORS[0], top_k=2)
    assert [(hit.id, hit.payload) for hit in hits] == [(IDS[0], MEMORIES[0]), (IDS[1], MEMORIES[1])]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.8], abs=1e-5)


def test_a_batch_is_searched(store: Qdrant) -> None:
    found = store.search_batch(["cake", "dog"], VECTORS[2:], filters={"user_id": "bob"})
    assert [[hit.id for hit in hits] for hits in found] == [[IDS[2]], [IDS[3]]]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (None, [0, 1, 2, 3]),
        ({"user_id": "ann"}, [0, 1]),
        ({"user_id": "ann", "weight": 2}, [1]),
        ({"user_id": "nobody"}, []),
        ({"user_id": {"ne": "ann"}}, [2, 3]),
        ({"user_id": {"in": ["ann", "eve"]}}, [0, 1]),
        ({"user_id": {"nin": ["ann"]}}, [2, 3]),
        ({"weight": {"gte": 2, "lt": 4}}, [1, 2]),
        ({"at": {"gte": "2026-02-01T00:00:00Z", "lt": "2026-04-01"}}, [1, 2]),
        ({"data": {"contains": "cake"}}, [1, 2]),
        ({"user_id": "*"}, [0, 1, 2, 3]),
        ({"$or": [{"user_id": "ann"}, {"weight": 4}]}, [0, 1, 3]),
        ({"$not": [{"user_id": "ann"}]}, [2, 3]),
    ],
)
def test_filters(store: Qdrant, filters: dict[str, Any] | None, numbers: list[int]) -> None:
    assert _listed(store, filters) == [IDS[number] for number in numbers]
    assert sorted(hit.id for hit in store.search("", VECTORS[0], filters=filters)) == _listed(store, filters)


def test_a_memory_is_read_by_its_id(store: Qdrant) -> None:
    assert store.get(IDS[3]).payload == MEMORIES[3]
    assert store.get("00000000-0000-0000-0000-0000000000ff") is None


def test_a_memory_is_deleted(store: Qdrant) -> None:
    store.delete(IDS[0])
    assert _listed(store) == IDS[1:]


def test_a_memory_changes_whole_and_in_part(store: Qdrant) -> None:
    store.update(IDS[0], VECTORS[3], {"data": "hates tea"})
    assert store.get(IDS[0]).payload == {"data": "hates tea"}
    store.update(IDS[1], payload={"data": "hates cake"})
    assert store.get(IDS[1]).payload == {**MEMORIES[1], "data": "hates cake"}
    store.update(IDS[1], vector=VECTORS[3])
    near = store.search("", VECTORS[3], top_k=3)
    assert {hit.id for hit in near} == {IDS[0], IDS[1], IDS[3]}


def test_the_collection_is_shown_and_deleted(store: Qdrant) -> None:
    assert store.col_info().points_count == len(IDS)
    assert COLLECTION in [one.name for one in store.list_cols().collections]
    store.delete_col()
    assert COLLECTION not in [one.name for one in store.list_cols().collections]
