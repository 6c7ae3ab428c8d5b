"""The shared level over a dictionary: when it is asked, what it believes, and two routers that profit from each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest

from cluster.scope import Scope
from cluster.tenant_guard import guard_of, narrowed
from deployments.cache_counts import CacheCounts
from deployments.cache_level_two import LevelTwo
from deployments.cache_question import Answer
from deployments.cache_settings import CacheSettings
from deployments.result_cache import ResultCache
from tests.unit.deployments.shards_with_stamps import NumberShards, arrival, question

SECRET = b"s" * 32


class Dictionary:
    """A ByteStore. `is_away`: it answers nothing. `is_silent`: its answers never come."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.lifetimes: list[int] = []
        self.asked = 0
        self.trip_s = 0.0
        self.is_away = False
        self.is_silent = False

    def get(self, keys: Sequence[bytes]) -> asyncio.Future[Sequence[bytes | None] | None]:
        self.asked += 1
        waiter: asyncio.Future[Sequence[bytes | None] | None] = asyncio.get_running_loop().create_future()
        if not self.is_silent:
            waiter.set_result(None if self.is_away else [self.held.get(key) for key in keys])
        return waiter

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        self.held[key] = value
        self.lifetimes.append(ttl_ms)

    async def increment(self, key: bytes) -> bool:
        self.held[key] = b"%d" % (int(self.held.get(key, b"0")) + 1)
        return not self.is_away


class Cluster:
    """Two routers over the same shards and the same store."""

    def __init__(self, shard_count: int = 2) -> None:
        self.store = Dictionary()
        self.shards = NumberShards(shard_count)
        settings = CacheSettings(sample_fraction=0, redis_ttl_s=100)
        self.routers = []
        for jitter in (0.0, 1.0):
            counts = CacheCounts()
            level_two = LevelTwo(self.store, settings, counts, SECRET, lambda jitter=jitter: jitter)  # type: ignore[misc]
            self.routers.append(ResultCache(self.shards, settings, counts, level_two))

    async def ask(self, router: int, body: bytes = b"1") -> Answer:
        return await self.routers[router].answer(arrival(self.shards, body), lambda: question(body))

    async def cached(self, router: int, body: bytes = b"1") -> str:
        answer = await self.ask(router, body)
        said: str = orjson.loads(answer.shoal).get("cached", "")
        return said


def run(steps: Callable[[Cluster], Awaitable[Any]], shard_count: int = 2) -> None:
    async def whole() -> None:
        await asyncio.wait_for(steps(Cluster(shard_count)), 30)

    asyncio.run(whole())


def test_what_one_router_has_searched_the_other_has_too() -> None:
    async def steps(cluster: Cluster) -> None:
        assert [await cluster.cached(0), await cluster.cached(1), await cluster.cached(1)] == ["", "l2", "l1"]
        assert len(cluster.shards.searches) == 1
        assert cluster.routers[1].counts.hits_l2 == 1
        await cluster.shards.write(1)
        cluster.routers[1]._level_one.drop(lambda _: True)
        assert await cluster.cached(1) == "shard", "the part of the shard that did not move is shared, too"
        assert cluster.shards.searches[1:] == [(1,)]
        assert (await cluster.ask(1)).points == b"[0,1]"

    run(steps)


def test_lifetimes_are_spread() -> None:
    async def steps(cluster: Cluster) -> None:
        await cluster.ask(0, b"1")
        await cluster.ask(1, b"2")
        assert cluster.store.lifetimes == [90_000, 110_000]

    run(steps)


def test_a_store_that_is_away_silent_or_poisoned_costs_a_search() -> None:
    async def steps(cluster: Cluster) -> None:
        store, counts = cluster.store, cluster.routers[1].counts
        await cluster.ask(0)
        kept = dict(store.held)
        store.held = dict.fromkeys(store.held, b"poison")
        assert await cluster.cached(1) == ""
        assert counts.l2_poisoned == 1
        for number, trouble in enumerate(("is_away", "is_silent"), 1):
            store.held = kept
            setattr(store, trouble, True)
            cluster.routers[1]._level_one.drop(lambda _: True)
            assert await cluster.cached(1) == ""
            setattr(store, trouble, False)
            assert counts.l2_skipped == number
        assert counts.misses == 3

    run(steps)


def test_it_is_asked_only_where_a_search_takes_longer_than_the_way_to_it() -> None:
    async def steps(cluster: Cluster) -> None:
        await cluster.ask(0, b"1")
        assert cluster.store.asked == 1, "nothing is known yet"
        cluster.store.trip_s = 100.0
        await cluster.ask(0, b"2")
        assert cluster.store.asked == 1
        assert cluster.routers[0].counts.l2_skipped == 1
        cluster.store.trip_s = 0.0
        await cluster.ask(0, b"3")
        assert cluster.store.asked == 2

    run(steps)


def test_what_was_cleared_counts_no_more_for_anybody() -> None:
    async def steps(cluster: Cluster) -> None:
        state = cluster.shards.state
        for which in (None, state):
            await cluster.ask(0)
            await cluster.ask(1)
            cluster.routers[1]._level_one.drop(lambda _: True)
            assert await cluster.cached(1) == "l2"
            assert await cluster.routers[0].clear(which, None) == (1, True)
            cluster.routers[1]._level_one.drop(lambda _: True)
            assert await cluster.cached(1) == ""
            assert await cluster.cached(0) == "l2"
        cluster.store.is_away = True
        assert await cluster.routers[0].clear(state, None) == (1, False)

    run(steps)


def test_a_tenants_answers_are_cleared_wherever_its_points_may_be_and_no_others() -> None:
    async def steps(cluster: Cluster) -> None:
        shards = cluster.shards
        shards.state = shards.state.model_copy(update={"tenant_field": "t"})
        own, other = (narrowed(b"", guard_of(Scope("c", shards.state.uid, (name,)), shards.state)) for name in "ab")
        filters = {b"own": own, b"other": other, b"all": b""}

        async def cached() -> list[str]:
            cluster.routers[1]._level_one.drop(lambda _: True)
            found = []
            for body, encoded in filters.items():
                asked = question(b"1")
                asked = asked._replace(request=asked.request._replace(filter=encoded))
                answer = await cluster.routers[1].answer(arrival(shards, body), lambda asked=asked: asked)
                found.append(orjson.loads(answer.shoal).get("cached", ""))
            return found

        assert await cached() == ["", "", ""]
        assert await cached() == ["l2", "l2", "l2"]
        assert await cluster.routers[0].clear(shards.state, "a") == (0, True)
        assert await cached() == ["", "l2", ""]
        assert await cached() == ["l2", "l2", "l2"]

    run(steps, shard_count=1)


def test_widths_that_callers_choose_do_not_take_the_bound_off_the_wait() -> None:
    async def steps(cluster: Cluster) -> None:
        store, cache = cluster.store, cluster.routers[0]

        async def ask(ef: int | None, exact: bool = False) -> None:
            asked = question(b"1")
            asked = asked._replace(request=asked.request._replace(ef=ef, exact=exact))
            await cache.answer(arrival(cluster.shards, b"%d %d" % (ef or 0, exact)), lambda: asked)

        await ask(100)
        assert store.asked == 1, "nothing is known yet"
        store.trip_s = 100.0
        for ef in (101, 127, 70):
            await ask(ef)
        assert store.asked == 1, "they take about as long as the first"
        await ask(400)
        await ask(None, exact=True)
        assert store.asked == 1, "of such nothing is known, but of others"
        assert cache.counts.l2_skipped == 5

    run(steps)


def test_a_kind_that_was_never_searched_takes_the_mean_of_all() -> None:
    level_two = LevelTwo(Dictionary(), CacheSettings(), CacheCounts(), SECRET, lambda: 0.0)
    assert level_two._usual_s("new") is None
    level_two.observe("slow", 0.9)
    level_two.observe("fast", 0.1)
    assert [level_two._usual_s(kind) for kind in ("slow", "fast", "new")] == pytest.approx([0.9, 0.1, 0.5])
