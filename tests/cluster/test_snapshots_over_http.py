"""Snapshots by the unmodified client over real shards: one cluster's collection comes back, and moves to another cluster."""

from __future__ import annotations

import hashlib
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from deployments.snapshot_settings import SnapshotSettings
from tests.http_server import Entrance, serving_cluster

NAME, COUNT, DIM = "docs", 300, 4
OF_ANNA = models.Filter(must=[models.FieldCondition(key="author", match=models.MatchValue(value="anna"))])


def client_of(url: str) -> QdrantClient:
    return QdrantClient(url=url, check_compatibility=False, timeout=60)


def fill(client: QdrantClient) -> None:
    chance = np.random.default_rng(11)
    vectors = {
        "text": models.VectorParams(size=DIM, distance=models.Distance.COSINE),
        "image": models.VectorParams(size=2, distance=models.Distance.EUCLID),
    }
    client.create_collection(NAME, vectors_config=vectors)
    client.create_payload_index(NAME, "author", models.PayloadSchemaType.KEYWORD)
    points = []
    for key in range(COUNT):
        vector: Any = {"text": chance.random(DIM).tolist()}
        if key % 3:
            vector["image"] = chance.random(2).tolist()
        payload = {"author": ["anna", "ben"][key % 2], "n": key, "deep": {"é": [1.5, None, "x"]}}
        points.append(models.PointStruct(id=key, vector=vector, payload=payload))
    client.upsert(NAME, points, wait=True)


def everything(client: QdrantClient, name: str = NAME) -> list[Any]:
    points = client.scroll(name, limit=1000, with_payload=True, with_vectors=True)[0]
    hits = client.query_points(name, query=[0.4] * DIM, using="text", query_filter=OF_ANNA, limit=20).points
    described = client.get_collection(name)
    return [points, hits, client.count(name, OF_ANNA).count, described.payload_schema, described.config]


@pytest.mark.parametrize("is_short", [True, False], ids=["as behind HAProxy", "as ASGI"])
def test_a_collection_comes_back_and_moves(tmp_path: Path, is_short: bool) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    entrance = Entrance(is_short=is_short, snapshots=SnapshotSettings(folder=folder))
    with serving_cluster(tmp_path / "one", 2, entrance=entrance) as url, closing(client_of(url)) as client:
        fill(client)
        before = everything(client)
        taken = client.create_snapshot(NAME)
        assert taken is not None
        assert client.list_snapshots(NAME) == [taken]
        client.delete(NAME, OF_ANNA, wait=True)
        assert client.recover_snapshot(NAME, taken.name, checksum=taken.checksum, wait=True) is True
        assert everything(client) == before
        client.delete_collection(NAME)
        assert client.recover_snapshot(NAME, taken.name, wait=True) is True
        assert everything(client) == before
        with urllib.request.urlopen(f"{url}/collections/{NAME}/snapshots/{taken.name}") as answer:
            data = answer.read()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (taken.size, taken.checksum)
        assert client.delete_snapshot(NAME, taken.name) is True
        assert client.list_snapshots(NAME) == []
    (folder / "moved.snapshot").write_bytes(data)
    location = (folder / "moved.snapshot").as_uri()
    with serving_cluster(tmp_path / "two", 3, entrance=entrance) as url, closing(client_of(url)) as client:
        assert client.recover_snapshot(NAME, location, checksum=taken.checksum, wait=True) is True
        assert everything(client)[:3] == before[:3]
        with pytest.raises(UnexpectedResponse, match=r"(?s)400.*SHA-256"):
            client.recover_snapshot("other", location, checksum="0" * 64, wait=True)
        assert not client.collection_exists("other")
    with (
        serving_cluster(tmp_path / "three", 1, entrance=entrance) as url,
        closing(client_of(url)) as client,
        pytest.raises(UnexpectedResponse, match=r"(?s)400.*over 2 shards, this cluster has 1"),
    ):
        client.recover_snapshot(NAME, location, wait=True)
