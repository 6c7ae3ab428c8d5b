"""Two routers with caches over one real cluster of shard hosts: what one writes, the other's next answer has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from deployments.cache_settings import CacheSettings
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.local_cluster import LocalCluster
from tests.routed import HEADERS, Routed

COUNT, DIM = 300, 8
VECTORS = np.random.default_rng(5).random((COUNT, DIM), np.float32)


def run(folder: Path, steps: Callable[[Routed, Routed], Awaitable[Any]]) -> None:
    async def whole() -> None:
        cluster = LocalCluster(folder, 2)
        settings = CacheSettings(sample_fraction=0)
        routers = [Routed(await cluster.connect(), settings) for _ in range(2)]
        try:
            await routers[0].result("PUT", "/collections/c", {"vectors": {"size": DIM, "distance": "Euclid"}})
            await routers[0].result("PUT", "/collections/c/points?wait=true", {"points": points(range(COUNT))})
            await routers[1].coordinator.catalogue.refresh()
            await steps(*routers)
        finally:
            for router in routers:
                await router.coordinator.close()
            await asyncio.to_thread(cluster.stop)

    uvloop.run(whole())


def points(keys: Any, version: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": key, "vector": VECTORS[key].tolist(), "payload": {"who": f"t{key % 5}", "v": version}} for key in keys
    ]


def query(row: int, **more: Any) -> dict[str, Any]:
    return {"query": VECTORS[row].tolist(), "limit": 5, "with_payload": True, **more}


def test_a_write_through_one_router_is_seen_by_a_kept_answer_of_the_other(tmp_path: Path) -> None:
    async def steps(one: Routed, other: Routed) -> None:
        rng = random.Random(1)
        versions = dict.fromkeys(range(COUNT), 0)
        for turn in range(1, 150):
            row = rng.randrange(4)
            for _ in range(2):
                found = await other.result("POST", "/collections/c/points/query", query(row))
                assert found["points"][0]["payload"]["v"] == versions[row]
            await one.result("PUT", "/collections/c/points?wait=true", {"points": points([row], turn)})
            versions[row] = turn
            one, other = (other, one) if turn % 3 == 0 else (one, other)
        counts = [router.cache.counts for router in (one, other) if router.cache]
        assert sum(count.hits_l1 for count in counts) > 100
        assert sum(count.hits_shard for count in counts) > 20

    run(tmp_path, steps)


def test_every_kind_of_change_is_seen(tmp_path: Path) -> None:
    async def steps(one: Routed, other: Routed) -> None:
        path = "/collections/c/points"
        changes: list[tuple[str, str, Any]] = [
            ("POST", f"{path}/payload?wait=true", {"payload": {"x": 1}, "points": [7]}),
            ("PUT", f"{path}/payload?wait=true", {"payload": {"y": 1, "z": 2}, "points": [7]}),
            ("POST", f"{path}/payload/delete?wait=true", {"keys": ["y"], "points": [7]}),
            ("POST", f"{path}/payload/clear?wait=true", {"points": [7]}),
            ("PUT", f"{path}/vectors?wait=true", {"points": [{"id": 7, "vector": (VECTORS[7] * 0.99).tolist()}]}),
            ("POST", f"{path}/delete?wait=true", {"filter": {"must": [{"has_id": [7]}]}}),
            ("POST", f"{path}/batch?wait=true", {"operations": [{"upsert": {"points": points([7], 3)}}]}),
        ]
        before = await other.result("POST", f"{path}/query", query(7))
        for method, where, body in changes:
            await one.result(method, where, body)
            after = await other.result("POST", f"{path}/query", query(7))
            assert after != before, where
            again = await other.send("POST", f"{path}/query", query(7))
            assert orjson.loads(again.body)["shoal"]["cached"] == "l1"
            assert orjson.loads(again.body)["result"] == after
            before = after
        await one.result("DELETE", "/collections/c")
        assert (await other.send("POST", f"{path}/query", query(7))).status == 404

    run(tmp_path, steps)


def test_forms_and_parameters_are_told_apart_and_share_what_they_can(tmp_path: Path) -> None:
    async def steps(one: Routed, _: Routed) -> None:
        path = "/collections/c/points"
        asked = [
            query(1),
            query(1, limit=4),
            query(1, offset=1),
            query(1, with_payload=["v"]),
            query(1, with_payload={"exclude": ["v"]}),
            query(1, with_payload=False),
            query(1, with_vector=True),
            query(1, score_threshold=0.1),
            query(1, filter={"must": [{"key": "who", "match": {"value": "t1"}}]}),
            query(1, params={"exact": True}),
            query(1, params={"hnsw_ef": 100}),
            {"limit": 3},
        ]
        plain = HttpApp(one.coordinator, LimitSettings(), "0")
        for body in asked * 2:
            call = plain.admit("POST", f"{path}/query", b"", HEADERS, 0.0)
            expected = orjson.loads((await plain.answer(call, orjson.dumps(body))).body)["result"]
            assert await one.result("POST", f"{path}/query", body) == expected
        assert one.cache is not None
        assert one.cache.counts.misses == one.cache.counts.hits_l1 == len(asked) - 1
        legacy = {"vector": VECTORS[1].tolist(), "limit": 5, "with_payload": True}
        found = await one.result("POST", f"{path}/search", legacy)
        assert {"points": found} == await one.result("POST", f"{path}/query", query(1))
        assert one.cache.counts.misses == len(asked) - 1, "the older form asks the same"

    run(tmp_path, steps)


def test_tenants_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def steps(one: Routed, other: Routed) -> None:
        await one.result("PUT", "/collections/t", {"vectors": {"size": DIM, "distance": "Euclid"}})
        schema = {"type": "keyword", "is_tenant": True}
        await one.result("PUT", "/collections/t/index?wait=true", {"field_name": "who", "field_schema": schema})
        await other.coordinator.catalogue.refresh()
        await one.result("PUT", "/collections/t/points?wait=true", {"points": points(range(50))})
        of_t1 = query(1, filter={"must": [{"key": "who", "match": {"value": "t1"}}]})
        before = await other.result("POST", "/collections/t/points/query", of_t1)
        assert await other.result("POST", "/collections/t/points/query", of_t1) == before
        for turn, key in enumerate((2, 3, 4, 7, 8), 1):
            await one.result("PUT", "/collections/t/points?wait=true", {"points": points([key], turn)})
            assert await other.result("POST", "/collections/t/points/query", of_t1) == before
        assert other.cache is not None
        assert other.cache.counts.hits_l1 == 6
        await one.result("PUT", "/collections/t/points?wait=true", {"points": points([1], 9)})
        assert await other.result("POST", "/collections/t/points/query", of_t1) != before
        assert other.cache.counts.cross_shard == 0

    run(tmp_path, steps)


def test_answers_are_cleared_by_collection_and_tenant_and_counted(tmp_path: Path) -> None:
    async def steps(one: Routed, _: Routed) -> None:
        path = "/collections/c/points/query"
        for row in range(3):
            await one.result("POST", path, query(row))
        assert await one.result("POST", "/shoal/cache/clear", {"collection": "c"}) == {"cleared": 3, "shared": None}
        await one.result("POST", path, query(0))
        assert await one.result("POST", "/shoal/cache/clear", {}) == {"cleared": 1, "shared": None}
        assert (await one.send("POST", "/shoal/cache/clear", {"collection": "nothing"})).status == 404
        for body in ({"tenant": "a"}, {"collection": "c", "tenant": "a"}, {"collection": 1}):
            assert (await one.send("POST", "/shoal/cache/clear", body)).status in (400, 422)
        told = (await one.send("GET", "/metrics")).body.decode()
        assert 'shoal_cache_hits_total{level="l1",router="' in told
        missed = next(line for line in told.splitlines() if line.startswith("shoal_cache_misses_total"))
        assert float(missed.split()[-1]) == 4

    run(tmp_path, steps)


def test_batches_take_what_is_kept_and_keep_what_they_search(tmp_path: Path) -> None:
    async def steps(one: Routed, other: Routed) -> None:
        path = "/collections/c/points"
        more: list[dict[str, Any]] = [
            {},
            {"limit": 3},
            {"with_payload": ["v"]},
            {"filter": {"must": [{"key": "who", "match": {"value": "t1"}}]}},
        ]
        searches = [query(row, **one_more) for row in (1, 2) for one_more in more]
        expected = [await one.result("POST", f"{path}/query", body) for body in searches[:4]]
        batch = {"searches": [*searches, {"limit": 2}, searches[7]]}
        reply = orjson.loads((await one.send("POST", f"{path}/query/batch", batch)).body)
        assert reply["result"][:4] == expected
        assert reply["shoal"] == {"coverage": 1.0, "cached_queries": 4}
        assert one.cache is not None
        assert one.cache.counts.misses == 8
        single = [await one.result("POST", f"{path}/query", body) for body in searches]
        assert one.cache.counts.misses == 8, "what a batch has searched is kept for single queries"
        assert reply["result"] == [*single, await one.result("POST", f"{path}/query", {"limit": 2}), single[7]]
        partial = await one.send("POST", f"{path}/query/batch", batch, (*HEADERS, (b"shoal-min-coverage", b"0.5")))
        assert orjson.loads(partial.body)["shoal"] == {"coverage": 1.0}
        await other.result("PUT", f"{path}?wait=true", {"points": points([1], 7)})
        after = orjson.loads((await one.send("POST", f"{path}/query/batch", batch)).body)
        assert [found["points"][0]["payload"]["v"] for found in after["result"][:3]] == [7, 7, 7]
        ids = [
            [[point["id"] for point in found["points"]] for found in answer["result"]] for answer in (reply, after)
        ]
        assert ids[0] == ids[1]
        assert "cached_queries" not in after["shoal"], "one of two shards moved: a batch searches both"

    run(tmp_path, steps)


def test_a_query_is_the_same_question_alone_and_in_batches_of_any_size(tmp_path: Path) -> None:
    async def steps(one: Routed, _: Routed) -> None:
        await one.result("PUT", "/collections/d", {"vectors": {"size": DIM, "distance": "Cosine"}})
        await one.result("PUT", "/collections/d/points?wait=true", {"points": points(range(50))})
        path = "/collections/d/points/query"
        searches = [{"query": (3 * VECTORS[row]).tolist(), "limit": 5} for row in range(20)]
        assert one.cache is not None
        for body in searches[:10]:
            await one.result("POST", path, body)
        for batch, kept in ((searches[:1], 1), (searches, 10), (searches[15:16], 1), (searches[::-1], 20)):
            reply = orjson.loads((await one.send("POST", f"{path}/batch", {"searches": batch})).body)
            assert reply["shoal"]["cached_queries"] == kept
            assert reply["result"] == [await one.result("POST", path, body) for body in batch]
        assert one.cache.counts.misses == 20

    run(tmp_path, steps)
