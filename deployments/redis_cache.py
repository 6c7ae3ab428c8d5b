"""Redis, or Redis Cluster, as a store of bytes that may vanish at any time. The one file that imports redis.

Reads of one turn of the loop leave in one pipeline, writes in another; each is a task of its own, so that a caller who
goes away takes nothing along. A pipeline that is not answered within `redis_timeout_ms` is given up, and its connection
dropped: what it would still have brought must not be taken for the answer to something else. While the breaker
(cache_breaker.py) is open nothing is sent. Nothing here raises: a store that fails has nothing.

The address may hold a password; it is never logged, nor part of an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from deployments.cache_breaker import CacheBreaker
from deployments.cache_counts import CacheCounts
from deployments.cache_settings import CacheSettings
from shards.errors import InvalidRequest

PENDING_WRITES_MAX = 256
"""Values that wait to be written; what comes on top is not kept."""
PIPELINES_MAX = 8
"""Reads that are under way at once."""
SMOOTHING = 0.2
"""Weight of the newest trip in the average."""

log = logging.getLogger(__name__)
Values = Sequence[bytes | None]


class RedisStore:
    """See the module. Lives on one loop. `trip_s`: what a read takes on average, 0 before the first."""

    def __init__(self, settings: CacheSettings, counts: CacheCounts) -> None:
        assert settings.redis_url is not None
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._client: Any = connect(settings)
        self._is_single = isinstance(self._client, Redis)
        self._clock = asyncio.get_running_loop().time
        self._counts = counts
        self.breaker = CacheBreaker(settings.redis_retry_s)
        self.trip_s = 0.0
        self._reads: list[tuple[Sequence[bytes], asyncio.Future[Values | None]]] = []
        self._writes: dict[bytes, tuple[bytes, int]] = {}
        self._reading = 0
        self._is_writing = False
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, keys: Sequence[bytes]) -> asyncio.Future[Values | None]:
        """The values, None for each that is not there; None alone where the store can't be asked."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Values | None] = loop.create_future()
        if self._reading >= PIPELINES_MAX:
            waiter.set_result(None)
            return waiter
        if not self._reads:
            loop.call_soon(self._send_reads)
        self._reads.append((keys, waiter))
        return waiter

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        """Write behind the caller's back, if there is room in the queue."""
        if self.breaker.is_open and len(self._writes) > 0:
            return  # one is enough to find out whether it is back
        if len(self._writes) < PENDING_WRITES_MAX:
            self._writes[key] = value, ttl_ms
            if not self._is_writing:
                self._is_writing = True
                self._start(self._write_all())

    async def increment(self, key: bytes) -> bool:
        """Count a number up; whether that was done."""
        found = await self._call(lambda pipeline: pipeline.incr(key))
        return found is not None and found[0] is not None

    async def close(self) -> None:
        """End what is under way, and close the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _send_reads(self) -> None:
        reads, self._reads = self._reads, []
        self._reading += 1
        self._start(self._read(reads))

    async def _read(self, reads: Sequence[tuple[Sequence[bytes], asyncio.Future[Values | None]]]) -> None:
        wanted = list(dict.fromkeys(key for keys, _ in reads for key in keys))

        def ask(pipeline: Any) -> None:
            for key in wanted:
                pipeline.get(key)

        found: Values | None = None
        try:
            found = await self._call(ask)
        finally:
            self._reading -= 1
            held = {} if found is None else dict(zip(wanted, found, strict=True))
            for keys, waiter in reads:
                if not waiter.done():
                    waiter.set_result(None if found is None else [held[key] for key in keys])

    async def _write_all(self) -> None:
        try:
            while self._writes:
                writes, self._writes = self._writes, {}

                def ask(pipeline: Any, writes: dict[bytes, tuple[bytes, int]] = writes) -> None:
                    for key, (value, ttl_ms) in writes.items():
                        pipeline.set(key, value, px=ttl_ms)

                await self._call(ask)
        finally:
            self._is_writing = False

    async def _call(self, fill: Callable[[Any], object]) -> list[Any] | None:
        """The answers to a pipeline; None where there are none. An error of one command is None in its place."""
        began = self._clock()
        if not self.breaker.allows(began):
            return None
        try:
            pipeline = self._client.pipeline(transaction=False) if self._is_single else self._client.pipeline()
            fill(pipeline)
            async with asyncio.timeout(self._timeout_s):
                found = await pipeline.execute(raise_on_error=False)
        except asyncio.CancelledError:  # the router ends
            self.breaker.on_failure(self._clock(), is_timeout=True)
            raise
        except Exception as error:  # whatever the client raises, a search does not suffer from it
            self._measure(began)
            await self._failed(type(error).__name__, "Timeout" in type(error).__name__)
            return None
        self._measure(began)
        if any(isinstance(one, RedisError) for one in found):
            self._counts.l2_errors += 1
        self.breaker.on_success()
        return [None if isinstance(one, Exception) else one for one in found]

    def _measure(self, began: float) -> None:
        took_s = self._clock() - began
        self.trip_s = took_s if not self.trip_s else self.trip_s + SMOOTHING * (took_s - self.trip_s)

    async def _failed(self, why: str, is_timeout: bool) -> None:
        self._counts.l2_errors += 1
        was_open = self.breaker.is_open
        self.breaker.on_failure(self._clock(), is_timeout)
        if self.breaker.is_open and not was_open:
            log.warning("Redis is not asked for a while (%s); answers are searched", why)
        if self._is_single:  # redis-py drops a connection whose call was cancelled; this drops its neighbours, too
            with contextlib.suppress(RedisError, OSError):
                await self._client.connection_pool.disconnect(inuse_connections=False)

    def _start(self, steps: Awaitable[None]) -> None:
        task = asyncio.ensure_future(steps)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def connect(settings: CacheSettings) -> Redis | RedisCluster:
    """A client of the address, or of a cluster where there are several, with commas between them. It connects when it is
    used. Raises InvalidRequest, without the address, where it is none.
    """
    assert settings.redis_url is not None
    timeout_s = settings.redis_timeout_ms / 1000
    urls = [url.strip() for url in settings.redis_url.split(",")]
    common: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": settings.redis_connections_max,
    }
    try:
        if len(urls) == 1:
            return Redis.from_url(urls[0], **common)
        parsed = [dict(parse_url(url)) for url in urls]
        nodes = [ClusterNode(str(one.pop("host", "localhost")), int(str(one.pop("port", 6379)))) for one in parsed]
        secrets: dict[str, Any] = {
            name: value for name, value in parsed[0].items() if name in ("username", "password")
        }
        return RedisCluster(startup_nodes=nodes, **common, **secrets)
    except ValueError:
        raise InvalidRequest("cache.redis_url is not an address such as redis://host:6379/0") from None
