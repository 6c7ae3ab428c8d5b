"""When a router is ready, who is searched, and what strangers learn of it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import numpy as np
import pytest

from cluster.requests import CollectionStatistics, SearchAnswer, SearchRequest
from cluster.scope import Named, scope_of
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from deployments.metric_sources import Source
from deployments.readiness import COLLECTIONS_MAX, Probe, Readiness, choose, judge
from deployments.shard_statistics import ShardStatistics
from shards.errors import Corrupt, ShardUnavailable
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster


class TroubledCluster(FakeCluster):
    """`troubles` by collection: what a search of it raises, or the coverage that it has. `searched`: names, in order."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.troubles: dict[str, Exception | float] = {}
        self.searched: list[str] = []
        self.level = "normal"
        client = AsgiClient(HttpApp(self, LimitSettings(), "0"))
        for name in names:
            assert client.call("PUT", f"/collections/{name}", {"vectors": {"size": 2, "distance": "Cosine"}}).result

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        name = scope_of(about).name
        self.searched.append(name)
        trouble = self.troubles.get(name, 1.0)
        if isinstance(trouble, Exception):
            raise trouble
        found = await super().search(about, request, deadline_s)
        return SearchAnswer(found.hits, trouble)

    async def statistics(self, about: Named, deadline_s: float) -> list[CollectionStatistics]:
        trouble = self.troubles.get(scope_of(about).name)
        if isinstance(trouble, Exception):
            raise trouble
        memory = {"shard": {"level": self.level}}
        return [CollectionStatistics(7, 0, 0, 0, 0, memory=memory)]


def checked(readiness: Readiness, times: int = 1) -> Any:
    """The verdict of the last of so many checks."""

    async def check() -> Any:
        for _ in range(times):
            verdict = await readiness._shared._ask()
            readiness._shared.newest = verdict
        return verdict

    return asyncio.run(check())


def test_all_is_well() -> None:
    cluster = TroubledCluster(["a", "b"])
    verdict = checked(Readiness(cluster))
    assert verdict.is_ready
    assert cluster.searched == ["a", "b"]
    assert verdict.detail["shards"] == {"count": 1, "silent": []}


def test_collections_are_searched_in_turn_with_ever_new_vectors() -> None:
    cluster = TroubledCluster([f"c{number}" for number in range(COLLECTIONS_MAX + 2)])
    assert checked(Readiness(cluster), times=2).is_ready
    assert set(cluster.searched) == set(cluster.held)
    assert len(cluster.searched) == 2 * COLLECTIONS_MAX
    queries = np.concatenate([request.vectors for request in cluster.requests])
    assert len(np.unique(queries, axis=0)) == 2
    assert np.linalg.norm(queries, axis=1) == pytest.approx(1.0)


def test_what_failed_is_searched_again_until_it_does_not() -> None:
    cluster = TroubledCluster([f"c{number}" for number in range(3 * COLLECTIONS_MAX)])
    cluster.troubles["c1"] = ShardUnavailable("shard 3 lost it")
    readiness = Readiness(cluster)
    for times in range(1, 8):
        verdict = checked(readiness)
        assert verdict.reasons == ("1 of 4 searches failed (shard_unavailable)",)
        assert cluster.searched.count("c1") == times
    del cluster.troubles["c1"]
    assert checked(readiness).is_ready


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Corrupt("words"), "1 of 1 searches failed (corrupt)"),
        (struct.error("argument out of range"), "1 of 1 searches failed (internal)"),
        (0.5, "a search reached 50% of its shards"),
    ],
)
def test_a_search_that_fails_or_misses_shards(trouble: Exception | float, reason: str) -> None:
    cluster = TroubledCluster(["words"])
    cluster.troubles["words"] = trouble
    assert checked(Readiness(cluster)).reasons == (reason,)


def test_statistics_that_fail_are_left_out() -> None:
    cluster = TroubledCluster(["a", "b", "c"])
    cluster.troubles |= {"a": Corrupt("words"), "b": struct.error("argument out of range")}
    assert asyncio.run(ShardStatistics(cluster).by_collection()).keys() == {"c"}


def test_memory_that_is_used_up() -> None:
    cluster = TroubledCluster(["words"])
    cluster.level = "throttle"
    verdict = checked(Readiness(cluster))
    assert verdict.is_ready
    assert verdict.detail["memory"]["throttling_shards"] == [7]
    cluster.level = "refuse"
    assert checked(Readiness(cluster)).reasons == ("shard 7 refuses writes: its memory is used up",)


def test_many_who_ask_are_one_check() -> None:
    cluster = TroubledCluster(["words"])
    readiness = Readiness(cluster)

    async def ask() -> None:
        await asyncio.gather(*(readiness.check() for _ in range(50)))
        await readiness.check()

    asyncio.run(ask())
    assert cluster.searched == ["words"]


def test_strangers_get_numbers_and_no_names() -> None:
    cluster = TroubledCluster(["words"])
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"), headers={"accept": "application/json"})
    assert isinstance(client.app, HttpApp)
    sources = client.app.observed.sources
    assert client.app.observed.readiness.describe(checked(Readiness(cluster)))["hit_rate"] is None
    sources.add(Source("shoal_cache_hits_total", "counter", "Hits.", lambda: {"l1": 2, "l2": 1}, "level"))
    sources.add(Source("shoal_cache_misses_total", "counter", "Misses.", lambda: 9))
    cluster.troubles["words"] = ShardUnavailable("shard 0 has no `words`")
    answer = client.call("GET", "/readyz")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    told = answer.json()
    assert (told["ready"], told["hit_rate"], told["failed_collections"]) == (False, 0.25, 1)
    assert b"words" not in answer.body


def test_the_log_names_what_fails_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = TroubledCluster(["words"])
    readiness = Readiness(cluster)
    checked(readiness)
    cluster.troubles["words"] = Corrupt("bad")
    checked(readiness, times=3)
    assert [record.getMessage() for record in caplog.records] == [
        "not ready: 1 of 1 searches failed (corrupt); collections: ['words']"
    ]
    cluster.troubles.clear()
    checked(readiness, times=2)
    assert [record.getMessage() for record in caplog.records][1:] == ["ready again"]


def test_choosing_ends_with_what_there_is() -> None:
    assert choose([], ["gone"], 3) == []
    assert choose(["a"], ["a", "gone"], 3) == ["a"]
    assert judge([Probe("a")], {2: "x"}, 3, 0.0).reasons == ("shard 2 does not answer (x)",)
