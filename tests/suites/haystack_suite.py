"""Haystack's tests of a document store, all that it has: the base, the extended, and what is asked of metadata; then the same
awaited.

Left as they are but for how documents are compared: in any order, since a server gives points in the order of their ids,
and embeddings by their direction (qdrant-haystack's own tests compare less: the ids alone).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as tests
from haystack.testing import document_store_async as awaited
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from tests.suites.target import LOCATION

SIZE = 768


def _new_store() -> QdrantDocumentStore:
    return QdrantDocumentStore(
        LOCATION,
        index="Haystack",
        recreate_index=True,
        embedding_dim=SIZE,
        return_embedding=True,
        progress_bar=False,
    )


class AsQdrantKeepsThem:
    """How documents are compared."""

    def assert_documents_are_equal(self, received: list[Document], expected: list[Document]) -> None:
        """In any order; an embedding, which the collection normalises, has to have the same direction."""
        assert len(received) == len(expected)
        for ours, theirs in zip(
            *(sorted(side, key=lambda one: one.id) for side in (received, expected)), strict=True
        ):
            assert (ours.id, ours.content, ours.meta) == (theirs.id, theirs.content, theirs.meta)
            if theirs.embedding is not None:
                assert _cosine(ours.embedding, theirs.embedding) == pytest.approx(1.0, abs=1e-5)


def _cosine(one: list[float], other: list[float]) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


class TestHaystack(
    AsQdrantKeepsThem,
    tests.DocumentStoreBaseExtendedTests,
    tests.CountDocumentsByFilterTest,
    tests.CountUniqueMetadataByFilterTest,
    tests.GetMetadataFieldsInfoTest,
    tests.GetMetadataFieldMinMaxTest,
    tests.GetMetadataFieldUniqueValuesTest,
):
    """The synchronous store."""

    @pytest.fixture
    def document_store(self) -> Iterator[QdrantDocumentStore]:
        store = _new_store()
        yield store
        store.close()

    def test_write_documents(self, document_store: QdrantDocumentStore) -> None:
        """What a second write without a policy does is a store's own choice; the suite asks for this test."""
        assert document_store.write_documents([Document(id="1")]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([Document(id="1")])


class TestHaystackAsync(
    AsQdrantKeepsThem,
    awaited.DeleteAllAsyncTest,
    awaited.CountDocumentsAsyncTest,
    awaited.CountDocumentsByFilterAsyncTest,
    awaited.CountUniqueMetadataByFilterAsyncTest,
    awaited.DeleteByFilterAsyncTest,
    awaited.UpdateByFilterAsyncTest,
    awaited.WriteDocumentsAsyncTest,
    awaited.DeleteDocumentsAsyncTest,
    awaited.GetMetadataFieldsInfoAsyncTest,
    awaited.GetMetadataFieldMinMaxAsyncTest,
    awaited.GetMetadataFieldUniqueValuesAsyncTest,
    awaited.FilterDocumentsAsyncTest,
):
    """The asynchronous one."""

    @pytest.fixture
    async def document_store(self) -> AsyncIterator[QdrantDocumentStore]:
        store = _new_store()
        yield store
        await store.close_async()

    async def test_write_documents_async(self, document_store: QdrantDocumentStore) -> None:
        """The same, awaited."""
        assert await document_store.write_documents_async([Document(id="1")]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([Document(id="1")])
