"""A collection with a tenant field over HTTP, by the unmodified client, against its in-process mode."""

from __future__ import annotations

import json
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.http_server import serving_cluster

NAME, COUNT, DIM = "docs", 200, 4
TENANTS = [f"tenant-{number}" for number in range(6)]
IS_TENANT = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)


def within(tenant: str) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="org", match=models.MatchValue(value=tenant))])


def answers(client: QdrantClient, query: list[float]) -> list[Any]:
    """What the client finds of everything, and within each tenant."""
    found: list[Any] = [client.count(NAME).count, [point.id for point in client.scroll(NAME, limit=COUNT)[0]]]
    for tenant in TENANTS:
        found.append(client.count(NAME, count_filter=within(tenant)).count)
        hits = client.query_points(NAME, query=query, query_filter=within(tenant), limit=20, with_payload=True).points
        found.append([(hit.id, hit.payload, round(hit.score, 4)) for hit in hits])
    return found


@pytest.mark.parametrize("shard_count", [2, 5])
def test_tenants_find_their_points_alone(tmp_path: Path, shard_count: int) -> None:
    random = np.random.default_rng(shard_count)
    with (
        serving_cluster(tmp_path, shard_count) as url,
        closing(QdrantClient(url=url, check_compatibility=False)) as client,
        closing(QdrantClient(":memory:")) as reference,
    ):
        for one in (client, reference):
            one.create_collection(NAME, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.EUCLID))
        client.create_payload_index(NAME, "org", field_schema=IS_TENANT)
        for _ in range(4):
            points = [
                models.PointStruct(id=key, vector=random.random(DIM).tolist(), payload={"org": str(tenant), "n": key})
                for key, tenant in enumerate(random.choice(TENANTS, COUNT))
                if random.random() < 0.7
            ]
            gone: list[Any] = random.choice(COUNT, 10, replace=False).tolist()
            for one in (client, reference):
                one.upsert(NAME, points)
                one.delete(NAME, gone)
                one.set_payload(NAME, {"seen": True}, models.FilterSelector(filter=within(TENANTS[0])))
            query = random.random(DIM).tolist()
            assert answers(client, query) == answers(reference, query)
        with pytest.raises(UnexpectedResponse, match=r"(?s)400.*tenant field.*upsert the point"):
            client.set_payload(NAME, {"org": "x"}, [1])
        with pytest.raises(UnexpectedResponse, match=r"(?s)400.*has the tenant field `org` already"):
            client.create_payload_index(NAME, "team", field_schema=IS_TENANT)
        with urllib.request.urlopen(f"{url}/collections/{NAME}/cluster") as answer:
            assert json.load(answer)["result"]["shoal"]["tenant_field"] == "org"
        assert client.get_collection(NAME).payload_schema["org"].params == IS_TENANT
