"""The points API of a cluster against the client library's in-process mode: the stories of tests/point_story.py.

The cluster is real shards over sockets behind the HTTP API. Shards seal what they hold between two stories' halves only by
their own rules, so most of it is in growing segments here; tests/property compares filters on sealed ones.

    SHOAL_STORIES=100 SHOAL_STORY_SEED=7 python -m pytest tests/cluster/test_points_against_reference.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from qdrant_client import QdrantClient, models

from tests.http_server import serving_cluster
from tests.point_calls import NAMED, PLAIN
from tests.point_story import tell

STORIES = int(os.environ.get("SHOAL_STORIES", "3"))
SEED = int(os.environ.get("SHOAL_STORY_SEED", "20261125"))
LENGTH = 60


@pytest.fixture(scope="module", params=[1, 2, 5], ids="{} shards".format)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantClient]:
    with (
        serving_cluster(tmp_path_factory.mktemp("shards"), request.param) as url,
        closing(QdrantClient(url=url, check_compatibility=False)) as client,
    ):
        yield client


@pytest.mark.parametrize("vectors", [PLAIN, NAMED], ids=["unnamed", "named"])
def test_stories_end_alike(client: QdrantClient, vectors: dict[str, models.VectorParams]) -> None:
    read_count = sum(tell(client, SEED + number, vectors, LENGTH) for number in range(STORIES))
    assert read_count > STORIES * LENGTH, "the stories read too little"
