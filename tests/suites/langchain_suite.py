"""LangChain's standard tests of a vector store, synchronous and awaited, as they are.

qdrant's store awaits by running its synchronous methods on a thread. The vectors are not named, and named, since
the store makes other requests for each.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_qdrant import QdrantVectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE
from qdrant_client import models

from tests.suites.target import empty_client

COLLECTION = "langchain"


def _point_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


class AnyIds(QdrantVectorStore):
    """A store for ids that are any text: of points it has UUIDs made from them. Metadata come back as they were given."""

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict] | None = None, ids: Any = None, **options: Any
    ) -> list[str]:
        texts = list(texts)
        names = [name or str(uuid.uuid4()) for name in ids or [None] * len(texts)]
        with_names = [
            {**given, "name": name} for given, name in zip(metadatas or [{}] * len(texts), names, strict=True)
        ]
        super().add_texts(texts, with_names, [_point_id(name) for name in names], **options)
        return names

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool | None:
        return super().delete([_point_id(name) for name in ids or []], **options)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return super().get_by_ids([_point_id(name) for name in ids])

    @classmethod
    def _document_from_point(cls, *arguments: Any, **options: Any) -> Document:
        found = super()._document_from_point(*arguments, **options)
        kept = {key: value for key, value in found.metadata.items() if key not in ("_id", "_collection_name")}
        return Document(id=kept.pop("name"), page_content=found.page_content, metadata=kept)


class TestLangChain(VectorStoreIntegrationTests):
    """A store whose collection has one vector without a name."""

    vector_name = ""
    store_class = QdrantVectorStore

    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        client = empty_client(COLLECTION)
        params = models.VectorParams(size=EMBEDDING_SIZE, distance=models.Distance.COSINE)
        client.create_collection(COLLECTION, {self.vector_name: params} if self.vector_name else params)
        yield self.store_class(client, COLLECTION, self.get_embeddings(), vector_name=self.vector_name)
        client.close()


class TestLangChainNamed(TestLangChain):
    """A store whose collection has a named vector."""

    vector_name = "text"


class TestLangChainAnyIds(TestLangChain):
    """As the suite wants it: most of its tests use ids that are no UUIDs, which the plain store refuses in the client."""

    store_class = AnyIds


class TestLangChainAnyIdsNamed(TestLangChainAnyIds):
    """The same with a named vector."""

    vector_name = "text"
