"""What users of Haystack and LangChain do and the published suites don't: retrieve by an embedding, with filters, thresholds
and diversity, and make a store from texts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from haystack.dataclasses import Document
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_qdrant import QdrantVectorStore
from qdrant_client import models

from tests.suites.target import LOCATION

SIZE = 32
EMBEDDING = DeterministicFakeEmbedding(size=SIZE)
TEXTS = [f"text {number}" for number in range(20)]
COLLECTION = "retrieval"
ODD = {"field": "meta.parity", "operator": "==", "value": 1}


@pytest.fixture(params=["cosine", "dot_product", "l2"])
def documents(request: pytest.FixtureRequest) -> Iterator[QdrantDocumentStore]:
    store = QdrantDocumentStore(
        LOCATION,
        index=COLLECTION,
        recreate_index=True,
        embedding_dim=SIZE,
        similarity=request.param,
        progress_bar=False,
        payload_fields_to_index=[{"field_name": "meta.parity", "field_schema": "integer"}],
        write_batch_size=7,
        scroll_size=3,
    )
    store.write_documents(
        [
            Document(content=text, embedding=EMBEDDING.embed_query(text), meta={"parity": number % 2})
            for number, text in enumerate(TEXTS)
        ]
    )
    yield store
    store.close()


def test_haystack_retrieves(documents: QdrantDocumentStore) -> None:
    retriever = QdrantEmbeddingRetriever(documents, top_k=5, scale_score=False, return_embedding=True)
    found = retriever.run(EMBEDDING.embed_query(TEXTS[3]))["documents"]
    assert (len(found), found[0].content, len(found[0].embedding)) == (5, TEXTS[3], SIZE)
    odd = retriever.run(EMBEDDING.embed_query(TEXTS[4]), filters=ODD, top_k=20)["documents"]
    assert {one.content for one in odd} == set(TEXTS[1::2])
    above = retriever.run(EMBEDDING.embed_query(TEXTS[4]), score_threshold=odd[0].score)["documents"]
    is_distance = documents.similarity == "l2"
    assert all((one.score <= odd[0].score) if is_distance else (one.score >= odd[0].score) for one in above)


def test_haystack_reads_pages(documents: QdrantDocumentStore) -> None:
    assert {one.content for one in documents.filter_documents()} == set(TEXTS)
    assert documents.count_documents_by_filter(ODD) == 10
    assert documents.delete_by_filter(ODD) == 10
    assert {one.content for one in documents.filter_documents()} == set(TEXTS[::2])


@pytest.fixture(params=[models.Distance.COSINE, models.Distance.DOT, models.Distance.EUCLID])
def texts(request: pytest.FixtureRequest) -> Iterator[QdrantVectorStore]:
    store = QdrantVectorStore.from_texts(
        TEXTS,
        EMBEDDING,
        [{"number": number} for number in range(20)],
        list(range(20)),
        collection_name=COLLECTION,
        location=LOCATION,
        distance=request.param,
        force_recreate=True,
        batch_size=7,
    )
    yield store
    store.client.close()


def test_langchain_retrieves(texts: QdrantVectorStore) -> None:
    found = texts.similarity_search_with_score(TEXTS[3], k=5)
    assert (len(found), found[0][0].page_content, found[0][0].metadata["_id"]) == (5, TEXTS[3], 3)
    small = models.Filter(must=[models.FieldCondition(key="metadata.number", range=models.Range(lt=4))])
    assert {one.page_content for one in texts.similarity_search(TEXTS[9], k=20, filter=small)} == set(TEXTS[:4])
    assert len(texts.similarity_search(TEXTS[9], k=20, offset=15)) == 5
    assert texts.as_retriever(search_kwargs={"k": 1}).invoke(TEXTS[7])[0].page_content == TEXTS[7]


def test_langchain_wants_them_diverse(texts: QdrantVectorStore) -> None:
    found = texts.max_marginal_relevance_search(TEXTS[3], k=4, fetch_k=10)
    assert found[0].page_content == TEXTS[3]
    assert len({one.page_content for one in found}) == 4


def test_langchain_opens_what_exists(texts: QdrantVectorStore) -> None:
    again = QdrantVectorStore(texts.client, COLLECTION, EMBEDDING, distance=texts.distance)
    assert again.get_by_ids([3, 99])[0].page_content == TEXTS[3]
    assert again.delete([3])
    assert again.get_by_ids([3]) == []
