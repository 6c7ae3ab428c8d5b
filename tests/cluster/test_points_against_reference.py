"""The points API of a cluster against the client library's in-process mode: the stories of tests/point_story.py.

The cluster is real shards over sockets behind the HTTP API. They seal what they hold as early as they can: of the wide
vectors after 64 writes of a point, so that a story of a crowd goes over sealed segments, their dead rows and their merges;
of the others all stays in growing segments.

    SHOAL_STORIES=100 SHOAL_STORY_SEED=7 python -m pytest tests/cluster/test_points_against_reference.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from qdrant_client import QdrantClient, models

from shards.settings import ShardSettings
from tests.http_server import serving_cluster
from tests.point_calls import NAMED, PLAIN, WIDE
from tests.point_story import tell

STORIES = int(os.environ.get("SHOAL_STORIES", "2"))
SEED = int(os.environ.get("SHOAL_STORY_SEED", "20261125"))
LENGTH = 60
CROWD = 500
SETTINGS = ShardSettings(seal_bytes=64 * 1024)


@pytest.fixture(scope="module", params=[1, 2, 5], ids="{} shards".format)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantClient]:
    with (
        serving_cluster(tmp_path_factory.mktemp("shards"), request.param, SETTINGS) as url,
        closing(QdrantClient(url=url, check_compatibility=False)) as client,
    ):
        yield client


@pytest.mark.parametrize("vectors", [PLAIN, NAMED, WIDE], ids=["unnamed", "named", "wide"])
def test_stories_end_alike(client: QdrantClient, vectors: dict[str, models.VectorParams]) -> None:
    crowd = CROWD if vectors is WIDE else 0
    read_count = sum(tell(client, SEED + number, vectors, LENGTH, crowd) for number in range(STORIES))
    assert read_count > STORIES * LENGTH, "the stories read too little"
