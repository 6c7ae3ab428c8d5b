"""The points API against the client library's in-process mode: stories at random, told to both by the unmodified client.

Here the application stands on a cluster in memory, so that what is compared is the API, its filters and its changes of
payloads. The story itself (tests/point_story.py) needs nothing but a client.

    SHOAL_STORIES=500 SHOAL_STORY_SEED=7 python -m pytest tests/property/test_points_against_oracle.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient, models

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.http_server import serving
from tests.point_calls import NAMED, PLAIN
from tests.point_story import tell
from tests.unit.deployments.fake_cluster import FakeCluster

STORIES = int(os.environ.get("SHOAL_STORIES", "6"))
SEED = int(os.environ.get("SHOAL_STORY_SEED", "20261125"))
LENGTH = 60


@pytest.fixture(scope="module")
def client() -> Iterator[QdrantClient]:
    with serving(HttpApp(FakeCluster(), LimitSettings(), "0")) as url:
        client = QdrantClient(url=url, check_compatibility=False)
        yield client
        client.close()


@pytest.mark.parametrize("vectors", [PLAIN, NAMED], ids=["unnamed", "named"])
def test_stories_end_alike(client: QdrantClient, vectors: dict[str, models.VectorParams]) -> None:
    read_count = sum(tell(client, SEED + number, vectors, LENGTH) for number in range(STORIES))
    assert read_count > STORIES * LENGTH, "the stories read too little"
