"""Row 18: a real Redis behind the result cache is killed, paused, slowed, flushed and poisoned, and every answer stays right.

Two routers with a small memory of their own over one cluster of real shards (threads of this process), questions by Zipf's
law, and a writer that gives points new payloads. Every second question goes to one of two routers without a cache, in the
same moment and over the same shards: that is what the times are compared with. (Two, for questions that wait in one router
share a pass over the points: one router with all of them would be the faster one.)

Right means: the ids and scores of an exact search by brute force, in order, and of each point at least the version that was
acknowledged when it was asked for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import uvloop

from deployments.cache_settings import CacheSettings
from tests.chaos.report import Report, Wrong
from tests.local_cluster import LocalCluster
from tests.redis_server import RedisServer, running_redis
from tests.routed import HEADERS, Routed

DIM, K, ASKERS, QUESTIONS = 384, 10, 4, 400
"""So many dimensions that an exact search takes several ms: for less, Redis would not be asked."""
ZIPF_S = 1.1
SLOWER_MAX = 1.3
"""p99 with the cache beside p99 without it."""
BREAKER_OPENS_S = 1.0
WRITE_EVERY_S = 0.2
PATH = "/collections/c/points"
Step = Callable[["_Faults", float], Awaitable[None]]


@dataclass(frozen=True)
class RedisPlan:
    """`phase_s`: how long each fault lasts. `are_times_judged`: not on a machine that does other things meanwhile; then
    Redis is waited for, however long a search takes.
    """

    seed: int
    phase_s: float = 20.0
    points: int = 20_000
    are_times_judged: bool = True


def run(folder: Path, plan: RedisPlan) -> Report:
    """Play it: without a fault, then with each."""
    report = Report(18, "Redis killed, paused, slowed, flushed, poisoned", plan.seed)
    began = time.monotonic()
    with running_redis(folder / "redis") as server:
        uvloop.run(_Faults(plan, report, server).run(folder / "shards"))
    report.duration_s = time.monotonic() - began
    return report


class _Faults:
    def __init__(self, plan: RedisPlan, report: Report, server: RedisServer) -> None:
        self.server = server
        self.report = report
        self._plan = plan
        self._rng = random.Random(plan.seed)
        rng = np.random.default_rng(plan.seed)
        self._vectors = rng.random((plan.points, DIM), np.float32)
        self._questions = rng.random((QUESTIONS, DIM), np.float32)
        self._expected = [self._nearest(question) for question in self._questions]
        self._weights = [rank**-ZIPF_S for rank in range(1, QUESTIONS + 1)]
        self._versions = [0] * plan.points
        self._took: dict[str, list[float]] = {}

    def _nearest(self, question: np.ndarray) -> list[int]:
        return np.argsort(((self._vectors - question) ** 2).sum(axis=1), kind="stable")[:K].tolist()

    async def run(self, folder: Path) -> None:
        cluster = LocalCluster(folder, 2)
        more = {} if self._plan.are_times_judged else {"redis_wait_fraction": 100.0, "redis_timeout_ms": 1_000}
        shared = CacheSettings(l1_bytes=60_000, sample_fraction=0.01, redis_url=self.server.url, **more)
        self._cached = [Routed(await cluster.connect(), shared) for _ in range(2)]
        self._plain = [Routed(await cluster.connect(), CacheSettings(l1_bytes=0)) for _ in range(2)]
        try:
            await self._fill()
            for name, step in PHASES.items():
                await self._phase(name, step)
        finally:
            for router in (*self._cached, *self._plain):
                if router.cache is not None and router.cache._level_two is not None:
                    await router.cache._level_two._store.close()  # type: ignore[attr-defined]
                await router.coordinator.close()
            await asyncio.to_thread(cluster.stop)
        self._tell()

    async def _fill(self) -> None:
        await self._plain[0].result("PUT", "/collections/c", {"vectors": {"size": DIM, "distance": "Euclid"}})
        for router in (*self._cached, *self._plain):
            await router.coordinator.catalogue.refresh()
        for start in range(0, self._plan.points, 1_000):
            await self._put(range(start, min(start + 1_000, self._plan.points)))
        while any(one.is_building for one in await self._plain[0].coordinator.statistics("c", 30.0)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def _put(self, keys: range | list[int]) -> None:
        points = [
            {"id": key, "vector": self._vectors[key].tolist(), "payload": {"v": self._versions[key] + 1}}
            for key in keys
        ]
        await self._plain[0].result("PUT", f"{PATH}?wait=true", {"points": points})
        for key in keys:
            self._versions[key] += 1
        self.report.acknowledged += len(points)

    async def _phase(self, name: str, step: Step) -> None:
        self._took = {"cached": [], "plain": []}
        opened = sum(store.breaker.opened_count for store in self._stores())
        end = time.monotonic() + self._plan.phase_s
        fault = asyncio.create_task(step(self, end))
        await asyncio.gather(fault, self._write(end), *(self._ask_all(end) for _ in range(ASKERS)))
        p99 = {which: float(np.percentile(took, 99)) for which, took in self._took.items()}
        ratio = p99["cached"] / p99["plain"]
        self.report.figures[name] = (
            f"{len(self._took['cached']):,} answers, p50 {1e3 * float(np.median(self._took['cached'])):.1f} ms beside"
            f" {1e3 * float(np.median(self._took['plain'])):.1f}, p99 {1e3 * p99['cached']:.1f} ms beside"
            f" {1e3 * p99['plain']:.1f} ({ratio:.2f} x), breakers opened"
            f" {sum(store.breaker.opened_count for store in self._stores()) - opened} times"
        )
        is_slow = self._plan.are_times_judged and ratio > SLOWER_MAX
        self.report.require(not is_slow, f"{name}: p99 is {ratio:.2f} x that without a cache")

    def _stores(self) -> list[object]:
        return [router.cache._level_two._store for router in self._cached]  # type: ignore[union-attr]

    async def wait_for_breakers(self, what: str) -> None:
        """Both routers have to notice."""
        began = time.monotonic()
        while not all(store.breaker.is_open for store in self._stores()):  # type: ignore[attr-defined]
            if time.monotonic() - began > 11 * BREAKER_OPENS_S:
                break
            await asyncio.sleep(0.005)
        took_s = time.monotonic() - began
        self.report.figures[f"breakers, {what}"] = f"both open after {took_s:.3f} s"
        is_late = took_s > (BREAKER_OPENS_S if self._plan.are_times_judged else 10 * BREAKER_OPENS_S)
        self.report.require(not is_late, f"{what}: breakers opened after {took_s:.2f} s")

    async def _write(self, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(WRITE_EVERY_S)
            await self._put([self._rng.choice(self._expected[self._rng.randrange(QUESTIONS)])])

    async def _ask_all(self, end: float) -> None:
        while time.monotonic() < end:
            (number,) = self._rng.choices(range(QUESTIONS), self._weights)
            for which, routers in (("plain", self._plain), ("cached", self._cached)):
                await self._ask(which, self._rng.choice(routers), number)

    async def _ask(self, which: str, router: Routed, number: int) -> None:
        known = {key: self._versions[key] for key in self._expected[number]}
        body = {
            "query": self._questions[number].tolist(),
            "limit": K,
            "with_payload": True,
            "params": {"exact": True},
        }
        encoded = orjson.dumps(body)
        began = time.perf_counter()
        reply = await router.send("POST", f"{PATH}/query", encoded, HEADERS)
        self._took[which].append(time.perf_counter() - began)
        self.report.operations += 1
        answer = orjson.loads(reply.body)
        points = answer["result"]["points"] if reply.status == 200 else []
        if [point["id"] for point in points] != self._expected[number]:
            self.report.note_wrongs([Wrong("damaged", f"question {number}: {reply.body[:300]!r}")])
        for point in points:
            if point["payload"]["v"] < known.get(point["id"], 0):
                self.report.note_wrongs([Wrong("resurrected", f"{point}, known {known}: {answer['shoal']}")])

    def _tell(self) -> None:
        counts = [router.cache.counts for router in self._cached if router.cache]
        for name in ("hits_l1", "hits_l2", "hits_shard", "misses", "l2_errors", "l2_poisoned", "l2_skipped", "drift"):
            self.report.figures[name] = f"{sum(getattr(one, name) for one in counts):,}"
        self.report.require(sum(one.hits_l2 for one in counts) > 0, "nothing came out of Redis")
        self.report.require(sum(one.l2_poisoned for one in counts) > 0, "no poison was noticed")
        self.report.require(sum(one.drift for one in counts) == 0, "the sampler found drift")


async def _until(end: float) -> None:
    await asyncio.sleep(max(0.0, end - time.monotonic()))


async def _nothing(run: _Faults, end: float) -> None:
    await _until(end)


async def _kill(run: _Faults, end: float) -> None:
    run.server.kill()
    run.report.faults += 1
    await run.wait_for_breakers("killed")
    await _until(end)
    await asyncio.to_thread(run.server.start)


async def _pause(run: _Faults, end: float) -> None:
    run.server.pause()
    run.report.faults += 1
    await run.wait_for_breakers("paused")
    await _until(end)
    run.server.resume()


async def _slow(run: _Faults, end: float) -> None:
    while time.monotonic() < end:
        await asyncio.to_thread(_with_client, run.server, lambda client: client.client_pause(30, all=True))
        run.report.faults += 1
        await asyncio.sleep(0.02)


async def _flush(run: _Faults, end: float) -> None:
    while time.monotonic() < end:
        await asyncio.to_thread(_with_client, run.server, lambda client: client.flushall())
        run.report.faults += 1
        await asyncio.sleep(0.1)


async def _poison(run: _Faults, end: float) -> None:
    rng = random.Random(run.report.seed)

    def spoil(client: object) -> None:
        keys = client.keys("shoal:*")  # type: ignore[attr-defined]
        values = [client.get(key) for key in keys]  # type: ignore[attr-defined]
        for key, value in zip(keys, values, strict=True):
            if value:
                at = rng.randrange(len(value))
                spoilt = rng.choice(
                    (
                        value[:at],
                        value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :],
                        rng.choice(values) or b"",
                        b"\0",
                    )
                )
                client.set(key, spoilt, ex=60)  # type: ignore[attr-defined]

    while time.monotonic() < end:
        await asyncio.to_thread(_with_client, run.server, spoil)
        run.report.faults += 1
        await asyncio.sleep(0.1)


def _with_client(server: RedisServer, step: Callable[[object], object]) -> None:
    with server.client() as client:
        step(client)


PHASES: dict[str, Step] = {
    "no fault": _nothing,
    "killed": _kill,
    "back": _nothing,
    "paused": _pause,
    "slow": _slow,
    "flushed": _flush,
    "poisoned": _poison,
}
