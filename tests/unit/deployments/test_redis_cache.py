"""The store over a real Redis that is killed, paused and lied about: it never raises, and is left alone while it is bad."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.cache_counts import CacheCounts
from deployments.cache_settings import CacheSettings
from deployments.redis_cache import PENDING_WRITES_MAX, RedisStore, connect
from shards.errors import InvalidRequest
from tests.redis_server import PASSWORD, RedisServer, running_redis

DEADLINE_S = 30
Steps = Callable[[RedisStore], Awaitable[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


def run(url: str, steps: Steps, **settings: Any) -> RedisStore:
    async def whole() -> RedisStore:
        chosen = CacheSettings(redis_url=url, **{"redis_timeout_ms": 5_000, "redis_retry_s": 0.05, **settings})
        store = RedisStore(chosen, CacheCounts())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await steps(store)
        finally:
            await store.close()
        return store

    return asyncio.run(whole())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def written(store: RedisStore, key: bytes, value: bytes) -> None:
    store.put(key, value, 60_000)
    await until(lambda: not store._is_writing)


def test_what_is_put_is_got_by_all_who_ask_in_one_pipeline(server: RedisServer) -> None:
    async def steps(store: RedisStore) -> None:
        assert await store.get([b"a", b"b"]) == [None, None]
        await written(store, b"a", b"1\x00\xff")
        one, other = store.get([b"b", b"a"]), store.get([b"a"])
        assert await one == [None, b"1\x00\xff"]
        assert await other == [b"1\x00\xff"]
        assert await store.increment(b"n")
        assert await store.increment(b"n")
        assert await store.get([b"n"]) == [b"2"]
        assert store.trip_s > 0
        with server.client() as client:
            assert 50_000 < client.pttl("a") <= 60_000

    assert run(server.url, steps)._counts.l2_errors == 0


def test_a_value_of_another_type_is_an_error_and_none(server: RedisServer) -> None:
    async def steps(store: RedisStore) -> None:
        with server.client() as client:
            client.rpush("list", 1)
        await written(store, b"x", b"2")
        assert await store.get([b"list", b"x"]) == [None, b"2"]
        assert not store.breaker.is_open

    assert run(server.url, steps)._counts.l2_errors == 1


def test_one_who_goes_away_takes_nobody_along(server: RedisServer) -> None:
    async def steps(store: RedisStore) -> None:
        await written(store, b"y", b"3")
        gone, waiting = store.get([b"y"]), store.get([b"y"])
        gone.cancel()
        assert await waiting == [b"3"]
        assert await store.get([b"y"]) == [b"3"]

    run(server.url, steps)


def test_a_killed_server_is_left_alone_until_it_is_back(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def steps(store: RedisStore) -> None:
            await written(store, b"k", b"1")
            server.kill()
            assert await store.get([b"k"]) is None
            assert store.breaker.is_open
            errors = store._counts.l2_errors
            for _ in range(100):
                assert await store.get([b"k"]) is None
            assert store._counts.l2_errors <= errors + 10, "most were not sent"
            assert not await store.increment(b"n")
            server.start()
            while await store.get([b"k"]) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await store.get([b"k"]) == [None], "it came back empty"
            assert not store.breaker.is_open

        run(server.url, steps)


def test_a_paused_server_is_given_up_and_brings_nothing_late(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:

        async def steps(store: RedisStore) -> None:
            await written(store, b"k", b"1")
            await written(store, b"l", b"2")
            server.pause()
            assert await store.get([b"k"]) is None
            assert not store.breaker.is_open
            assert await store.get([b"k"]) is None
            assert store.breaker.is_open
            server.resume()
            while (found := await store.get([b"l"])) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert found == [b"2"], "and not what was asked for before"

        run(server.url, steps, redis_timeout_ms=200)


def test_what_waits_to_be_written_is_bounded(server: RedisServer) -> None:
    async def steps(store: RedisStore) -> None:
        for number in range(2 * PENDING_WRITES_MAX):
            store.put(b"w%d" % number, b"v", 60_000)
        await until(lambda: not store._is_writing)
        with server.client() as client:
            assert client.exists("w0") == 1
            assert client.exists(f"w{2 * PENDING_WRITES_MAX - 1}") == 0

    run(server.url, steps)


def test_a_redis_cluster_is_asked_over_its_nodes(tmp_path: Path) -> None:
    with running_redis(tmp_path, is_cluster=True) as server:

        async def steps(store: RedisStore) -> None:
            assert await store.get([b"shoal:{1:a}:x", b"shoal:{2:b}:x"]) == [None, None]
            await written(store, b"shoal:{1:a}:x", b"1")
            assert await store.increment(b"shoal:{2:b}:version")
            assert await store.get([b"shoal:{1:a}:x", b"shoal:{2:b}:version"]) == [b"1", b"1"]

        run(f"{server.url},{server.url}", steps)


def test_an_address_that_is_none_is_refused_without_being_told(tmp_path: Path) -> None:
    for url in (f"http://:{PASSWORD}@x", f"redis://:{PASSWORD}@x:port", f"redis://:{PASSWORD}@x,{PASSWORD}"):
        with pytest.raises(InvalidRequest, match="redis_url") as caught:
            connect(CacheSettings(redis_url=url))
        assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(CacheSettings(redis_url=f"redis://:{PASSWORD}@x"))
