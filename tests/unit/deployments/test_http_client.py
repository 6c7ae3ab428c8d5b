"""An unmodified qdrant-client against the application, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.version_check import is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.http_server import serving
from tests.unit.deployments.fake_cluster import FakeCluster

TEXT_ID = "936da01f-9abd-4d9d-80c7-02af85c822a8"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(HttpApp(FakeCluster(), LimitSettings(), "0")) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[QdrantClient]:
    # Its check runs in a thread that may outlive a test; `test_collections` asks what the check would.
    client = QdrantClient(url=url, check_compatibility=False)
    client.delete_collection("words")
    client.create_collection("words", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    yield client
    client.close()


def test_collections(client: QdrantClient) -> None:
    assert client.info().title == "shoal"
    assert is_compatible(version("qdrant-client"), client.info().version)
    assert client.collection_exists("words")
    assert not client.collection_exists("other")
    assert [collection.name for collection in client.get_collections().collections] == ["words"]
    found = client.get_collection("words")
    assert found.status == models.CollectionStatus.GREEN
    assert found.points_count == 0
    assert found.config.params.vectors == models.VectorParams(size=8, distance=models.Distance.COSINE)
    with pytest.raises(UnexpectedResponse, match="already exists") as conflict:
        client.create_collection("words", vectors_config=models.VectorParams(size=8, distance=models.Distance.DOT))
    assert conflict.value.status_code == 409
    assert client.delete_collection("words")
    with pytest.raises(UnexpectedResponse, match="Not found: Collection `words`"):
        client.get_collection("words")


def test_points_come_and_go(client: QdrantClient) -> None:
    receipt = client.upsert(
        "words",
        [
            models.PointStruct(id=1, vector=[1.0] * 8, payload={"word": "sea", "n": 1}),
            models.PointStruct(id=TEXT_ID, vector={"": [2.0] * 8}),
        ],
    )
    assert receipt.status == models.UpdateStatus.COMPLETED
    client.upsert("words", models.Batch(ids=[2, 3], vectors=[[0.5] * 8, [-1.0] * 8], payloads=[{"word": "lake"}, {}]))
    assert client.count("words").count == 4
    found = client.retrieve("words", [TEXT_ID, 1, 77], with_vectors=True)
    assert [record.id for record in found] == [TEXT_ID, 1]
    assert found[1].payload == {"word": "sea", "n": 1}
    assert found[1].vector == pytest.approx([8**-0.5] * 8)  # Cosine: stored and returned normalised
    client.delete("words", points_selector=[1, TEXT_ID])
    assert client.count("words", exact=False).count == 2
    assert client.retrieve("words", [1]) == []


def test_queries_answer_as_the_reference_does(client: QdrantClient) -> None:
    generator = np.random.default_rng(7)
    vectors, queries = generator.normal(size=(50, 8)), generator.normal(size=(6, 8))
    points = [
        models.PointStruct(id=number, vector=vector.tolist(), payload={"n": number, "half": {"n": number / 2}})
        for number, vector in enumerate(vectors)
    ]
    reference = QdrantClient(":memory:")
    reference.create_collection("words", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    for each in (client, reference):
        each.upsert("words", points)
    requests = [
        models.QueryRequest(query=queries[0].tolist(), limit=5),
        models.QueryRequest(query=queries[1].tolist(), limit=5, offset=3, with_payload=True),
        models.QueryRequest(query=queries[2].tolist(), limit=5, with_payload=["half.n"], with_vector=True),
        models.QueryRequest(query=queries[3].tolist(), score_threshold=0.3, limit=50),
        models.QueryRequest(query=models.NearestQuery(nearest=queries[4].tolist()), using="", limit=1),
    ]
    for found, wanted in zip(
        client.query_batch_points("words", requests), reference.query_batch_points("words", requests), strict=True
    ):
        assert [point.id for point in found.points] == [point.id for point in wanted.points]
        assert [point.score for point in found.points] == pytest.approx([p.score for p in wanted.points], abs=1e-5)
        assert [point.payload for point in found.points] == [point.payload for point in wanted.points]
    parameters = models.SearchParams(exact=True, hnsw_ef=64)
    one = client.query_points("words", query=queries[0], limit=5, search_params=parameters, timeout=5)
    assert [point.id for point in one.points] == [
        point.id for point in reference.query_points("words", query=queries[0], limit=5).points
    ]


def test_refusals_reach_the_caller(client: QdrantClient) -> None:
    with pytest.raises(UnexpectedResponse, match="expected dim: 8, got 2"):
        client.query_points("words", query=[1.0, 2.0])
    with pytest.raises(UnexpectedResponse, match="`prefetch` is not supported yet"):
        client.query_points("words", query=[1.0] * 8, prefetch=models.Prefetch(query=[1.0] * 8))
    with pytest.raises(UnexpectedResponse, match="Not existing vector name error: image"):
        client.query_points("words", query=[1.0] * 8, using="image")
