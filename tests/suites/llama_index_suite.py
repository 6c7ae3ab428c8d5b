"""LlamaIndex's vector store in short: its suite is not published, so these are some calls of each kind, with their answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient

from tests.suites.target import LOCATION, empty_client

COLLECTION = "llama-index"
IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(4)]
VECTORS = [[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def _node(number: int) -> TextNode:
    source = RelatedNodeInfo(node_id=f"document-{number // 2}")
    return TextNode(
        id_=IDS[number],
        text=f"text {number}",
        embedding=VECTORS[number],
        metadata={"number": number, "kind": "even" if number % 2 == 0 else "odd", "tags": ["all", f"t{number}"]},
        relationships={NodeRelationship.SOURCE: source},
    )


@pytest.fixture
def store() -> Iterator[QdrantVectorStore]:
    client = empty_client(COLLECTION)
    store = QdrantVectorStore(COLLECTION, client=client)
    store.add([_node(number) for number in range(4)])
    yield store
    client.close()


def _found(store: QdrantVectorStore, filters: MetadataFilters | None = None, limit: int = 4) -> list[str]:
    """The numbers of the nodes nearest to the first vector, in one text each."""
    query = VectorStoreQuery(query_embedding=VECTORS[0], similarity_top_k=limit, filters=filters)
    return [node.text for node in store.query(query).nodes]


def _where(key: str, operator: FilterOperator, value: object) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


def test_the_nearest_come_first(store: QdrantVectorStore) -> None:
    answer = store.query(VectorStoreQuery(query_embedding=VECTORS[0], similarity_top_k=2))
    assert answer.ids == IDS[:2]
    assert answer.similarities == pytest.approx([1.0, 0.8], abs=1e-5)
    assert answer.nodes[0].metadata == _node(0).metadata


@pytest.mark.parametrize(
    ("key", "operator", "value", "numbers"),
    [
        ("kind", FilterOperator.EQ, "odd", [1, 3]),
        ("kind", FilterOperator.NE, "odd", [0, 2]),
        ("number", FilterOperator.EQ, 2, [2]),
        ("number", FilterOperator.GT, 1, [2, 3]),
        ("number", FilterOperator.LTE, 1, [0, 1]),
        ("number", FilterOperator.IN, [0, 3], [0, 3]),
        ("kind", FilterOperator.IN, ["odd", "none"], [1, 3]),
        ("kind", FilterOperator.NIN, ["odd"], [0, 2]),
        ("tags", FilterOperator.IN, ["t1", "t2"], [1, 2]),
        ("tags", FilterOperator.NIN, ["t1", "t2"], [0, 1, 2, 3]),
        ("kind", FilterOperator.TEXT_MATCH, "odd", [1, 3]),
        ("kind", FilterOperator.IS_EMPTY, None, []),
    ],
)
def test_filters(
    store: QdrantVectorStore, key: str, operator: FilterOperator, value: object, numbers: list[int]
) -> None:
    assert sorted(_found(store, _where(key, operator, value))) == [f"text {number}" for number in numbers]


def test_conditions_are_joined(store: QdrantVectorStore) -> None:
    filters = _where("kind", FilterOperator.EQ, "odd").filters + _where("number", FilterOperator.EQ, 0).filters
    assert _found(store, MetadataFilters(filters=filters)) == []
    either = _found(store, MetadataFilters(filters=filters, condition=FilterCondition.OR))
    assert sorted(either) == ["text 0", "text 1", "text 3"]


def test_nodes_are_read_by_ids_and_by_filter(store: QdrantVectorStore) -> None:
    assert {node.text for node in store.get_nodes(IDS[:2])} == {"text 0", "text 1"}
    odd = store.get_nodes(filters=_where("kind", FilterOperator.EQ, "odd"))
    assert {node.text for node in odd} == {"text 1", "text 3"}


def test_a_document_is_deleted_with_its_nodes(store: QdrantVectorStore) -> None:
    store.delete("document-0")
    assert sorted(_found(store)) == ["text 2", "text 3"]


def test_nodes_are_deleted_by_ids_and_by_filter(store: QdrantVectorStore) -> None:
    store.delete_nodes(IDS[:1])
    assert sorted(_found(store)) == ["text 1", "text 2", "text 3"]
    store.delete_nodes(filters=_where("kind", FilterOperator.EQ, "odd"))
    assert _found(store) == ["text 2"]


def test_a_node_is_overwritten(store: QdrantVectorStore) -> None:
    store.add([TextNode(id_=IDS[3], text="anew", embedding=VECTORS[0])])
    assert set(_found(store, limit=2)) == {"text 0", "anew"}


def test_a_store_that_exists_is_opened(store: QdrantVectorStore) -> None:
    assert _found(QdrantVectorStore(COLLECTION, client=store.client), limit=1) == ["text 0"]


def test_a_cleared_store_is_gone(store: QdrantVectorStore) -> None:
    store.clear()
    assert not store.client.collection_exists(COLLECTION)


async def test_the_same_awaited() -> None:
    client = AsyncQdrantClient(LOCATION)
    await client.delete_collection(COLLECTION)
    store = QdrantVectorStore(COLLECTION, aclient=client)
    assert await store.async_add([_node(number) for number in range(4)]) == IDS
    odd = _where("kind", FilterOperator.EQ, "odd")
    query = VectorStoreQuery(query_embedding=VECTORS[0], similarity_top_k=4, filters=odd)
    assert (await store.aquery(query)).ids == [IDS[1], IDS[3]]
    await store.adelete("document-0")
    assert [node.text for node in await store.aget_nodes(filters=odd)] == ["text 3"]
    await store.adelete_nodes(IDS[2:3])
    assert (await client.count(COLLECTION)).count == 1
    await store.aclear()
    assert not await client.collection_exists(COLLECTION)
    await client.close()
