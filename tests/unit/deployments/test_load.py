"""Loads into shards on threads, without Ray: what is in the collection afterwards, and that a refused load leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvloop

from cluster.coordinator import Coordinator
from cluster.requests import SearchRequest
from deployments.loading.load import LoadOrder, LoadReport, load
from deployments.loading.schema import ColumnChoice
from deployments.loading.source import open_source
from deployments.loading.target import NewCollection
from shards.distance import Distance
from shards.errors import DimensionMismatch, NotFound
from shards.schema import CollectionSpec, VectorSpec
from tests.local_cluster import SECRET, LocalCluster

COUNT, DEADLINE_S = 40, 30.0
NEWS = CollectionSpec(
    vectors={
        "title": VectorSpec(size=3, distance=Distance.COSINE),
        "image": VectorSpec(size=2, distance=Distance.EUCLID),
        "audio": VectorSpec(size=1, distance=Distance.DOT),
    }
)
NAN = float("nan")
Steps = Callable[[LocalCluster, Coordinator], Awaitable[Any]]


def image_of(row: int) -> list[float] | None:
    return None if row % 4 == 0 else [row, -row]


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """Every row has a title, three of four an image."""
    table = pa.table(
        {
            "id": range(COUNT),
            "title_emb": pa.array([[3, 4, 0]] * COUNT, pa.list_(pa.float32(), 3)),
            "image": pa.array([image_of(row) for row in range(COUNT)], pa.list_(pa.float64())),
        }
    )
    pq.write_table(table, tmp_path / "articles.parquet", row_group_size=16)
    return tmp_path / "articles.parquet"


def run(folder: Path, steps: Steps) -> Any:
    """The steps on a cluster of two shards."""

    async def whole() -> Any:
        cluster = LocalCluster(folder / "data", 2)
        coordinator = await cluster.connect()
        try:
            return await steps(cluster, coordinator)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    return uvloop.run(whole())


async def rows_of(coordinator: Coordinator, name: str, *keys: int) -> list[list[float]]:
    found = await coordinator.retrieve(name, list(keys), False, True, DEADLINE_S)
    return [record.vector.tolist() for record in found if record.vector is not None]


def test_named_vectors_into_a_collection_that_has_more(tmp_path: Path, articles: Path) -> None:
    source = open_source(articles, ColumnChoice(vectors={"title": "title_emb", "image": "image"}), NEWS)

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("news", NEWS, None, DEADLINE_S)
        report = await load(LoadOrder(source, "news", batch_rows=7), cluster, SECRET)
        assert report == LoadReport(rows=COUNT, replaced=0, rejected=0, nulled=0)
        found = await rows_of(coordinator, "news", 4, 5)  # audio, image, title
        np.testing.assert_allclose(found, [[NAN, NAN, NAN, 0.6, 0.8, 0], [NAN, 5, -5, 0.6, 0.8, 0]], rtol=1e-6)
        query = SearchRequest(np.array([[4, -4]], np.float32), COUNT, vector="image")
        nearest = (await coordinator.search("news", query, DEADLINE_S)).hits[0].keys
        assert sorted(nearest) == [row for row in range(COUNT) if image_of(row)]
        assert set(nearest[:2]) == {3, 5}

    run(tmp_path, steps)


def test_a_new_collection_has_the_file_s_named_vectors(tmp_path: Path, articles: Path) -> None:
    source = open_source(articles, ColumnChoice(vectors={"title": "title_emb", "": "image"}))

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await load(LoadOrder(source, "made", NewCollection(Distance.EUCLID)), cluster, SECRET)
        assert {name: vector.size for name, vector in cluster.collections["made"].spec.vectors.items()} == {
            "": 2,
            "title": 3,
        }
        np.testing.assert_equal(await rows_of(coordinator, "made", 8, 9), [[NAN, NAN, 3, 4, 0], [9, -9, 3, 4, 0]])

    run(tmp_path, steps)


def test_what_does_not_fit_is_refused_before_anything_is_sent(tmp_path: Path, articles: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("news", NEWS, None, DEADLINE_S)
        source = open_source(articles, ColumnChoice(vectors={"title": "image"}), NEWS)
        with pytest.raises(DimensionMismatch, match="as vector `title` 3; nothing was sent"):
            await load(LoadOrder(source, "news"), cluster, SECRET)
        assert (await coordinator.count("news", DEADLINE_S)).count == 0
        with pytest.raises(NotFound, match="there is no collection `old`"):
            await load(LoadOrder(source, "old"), cluster, SECRET)

    run(tmp_path, steps)
