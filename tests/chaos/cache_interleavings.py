"""Row 23: what one router writes, a kept answer of another shows at once.

Two routers with caches over one cluster of real shards (threads of this process, real sockets, real logs). Every client owns
a few points, whose payload says which version they are. An interleaving is a write through one router while the same
question is asked through both, and the question once more, through the other router, as soon as the write is acknowledged:
no answer may show less than was acknowledged when it was asked. Now and then a shard restarts.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import uvloop

from deployments.cache_settings import CacheSettings
from tests.chaos.report import Report, Wrong
from tests.local_cluster import LocalCluster
from tests.routed import Routed

DIM, CLIENTS, POINTS_A_CLIENT = 8, 24, 2
HIT_SHARE_MIN = 0.05
"""Everybody writes all the time, so most kept answers have moved when they are asked for again."""
PATIENCE_S = 60.0
"""A shard that restarts is waited for, however busy the machine is."""
PATH = "/collections/c/points"
BATCHES = 0.25
"""How many of the questions come in a batch."""


@dataclass(frozen=True)
class InterleavingPlan:
    """`restarts`: of shards, spread over the run."""

    seed: int
    interleavings: int = 100_000
    restarts: int = 4


def run(folder: Path, plan: InterleavingPlan) -> Report:
    """Play it; the report's faults are the writes amid questions."""
    report = Report(23, "a write through one router, a kept answer of another", plan.seed)
    began = time.monotonic()
    uvloop.run(_Interleavings(plan, report).run(folder))
    report.duration_s = time.monotonic() - began
    return report


class _Interleavings:
    def __init__(self, plan: InterleavingPlan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._rng = random.Random(plan.seed)
        count = CLIENTS * POINTS_A_CLIENT
        self._vectors = np.random.default_rng(plan.seed).random((count, DIM), np.float32)
        self._versions = [0] * count
        """What is acknowledged of each point, counting up over all of its lives; 0 or less: it is not there."""
        self._begun, self._ended = [0] * count, [0] * count
        """Writes of each point."""
        self._left = plan.interleavings
        self._answers = 0

    async def run(self, folder: Path) -> None:
        cluster = LocalCluster(folder, 2)
        settings = CacheSettings(sample_fraction=0.01)
        self._routers = [Routed(await cluster.connect(PATIENCE_S), settings) for _ in range(2)]
        try:
            await self._routers[0].result("PUT", "/collections/c", {"vectors": {"size": DIM, "distance": "Euclid"}})
            await self._routers[1].coordinator.catalogue.refresh()
            clients = [self._client(number) for number in range(CLIENTS)]
            await asyncio.gather(*clients, self._restart(cluster))
        finally:
            for router in self._routers:
                await router.coordinator.close()
            await asyncio.to_thread(cluster.stop)
        self._tell()

    def _tell(self) -> None:
        report, counts = self._report, [router.cache.counts for router in self._routers if router.cache]
        hits = sum(one.hits_l1 for one in counts)
        parts = sum(one.hits_shard for one in counts)
        report.figures = {
            "answers": f"{self._answers:,}, stale {report.wrongs['resurrected'] + report.wrongs['lost']}",
            "of them kept": f"{hits:,} whole, {parts:,} but for the shards that moved",
            "sampled": f"{sum(one.sampled for one in counts)}, drift {sum(one.drift for one in counts)}",
        }
        report.require(sum(one.drift for one in counts) == 0, "the sampler found drift")
        share = (hits + parts) / max(1, self._answers)
        report.require(share >= HIT_SHARE_MIN, f"only {share:.0%} of the answers came out of a cache")

    async def _client(self, number: int) -> None:
        first = number * POINTS_A_CLIENT
        while self._left > 0:
            self._left -= 1
            point = first + self._rng.randrange(POINTS_A_CLIENT)
            writer = self._rng.randrange(2)
            early = [
                asyncio.create_task(self._ask(self._rng.randrange(2), point)) for _ in range(self._rng.randrange(3))
            ]
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
            written = asyncio.create_task(self._write(writer, point))
            late = [
                asyncio.create_task(self._ask(self._rng.randrange(2), point)) for _ in range(self._rng.randrange(2))
            ]
            await written
            await self._ask(1 - writer, point)
            await asyncio.gather(*early, *late)
            self._report.faults += 1

    async def _write(self, router: int, point: int) -> None:
        held, send = self._versions[point], self._routers[router].result
        self._report.operations += 1
        self._begun[point] += 1
        version = abs(held) + 1
        draw = self._rng.random()
        if held <= 0 or draw < 0.5:
            body = {"id": point, "vector": self._vectors[point].tolist(), "payload": {"v": version}}
            await send("PUT", f"{PATH}?wait=true", {"points": [body]})
        elif draw < 0.9:
            await send("POST", f"{PATH}/payload?wait=true", {"payload": {"v": version}, "points": [point]})
        else:
            await send("POST", f"{PATH}/delete?wait=true", {"points": [point]})
            version = -version
        self._versions[point] = version
        self._ended[point] += 1
        self._report.acknowledged += 1

    async def _ask(self, router: int, point: int) -> None:
        """The point's own place is asked for, so it is the nearest, if it is there."""
        known, begun = self._versions[point], self._begun[point]
        is_at_rest = begun == self._ended[point]
        body = {"query": self._vectors[point].tolist(), "limit": 2, "with_payload": True}
        is_batch = self._rng.random() < BATCHES
        path, sent = ("query/batch", {"searches": [body, body | {"limit": 3}]}) if is_batch else ("query", body)
        reply = await self._routers[router].send("POST", f"{PATH}/{path}", sent)
        self._report.operations += 1
        self._answers += 1
        if reply.status != 200:
            self._report.complaints.append(f"an answer has status {reply.status}: {reply.body[:200]!r}")
            return
        answer = orjson.loads(reply.body)
        is_at_rest = is_at_rest and begun == self._begun[point]
        for result in answer["result"] if is_batch else [answer["result"]]:
            shown = next((hit["payload"]["v"] for hit in result["points"] if hit["id"] == point), None)
            if wrong := _wrong(known, shown, is_at_rest):
                self._report.note_wrongs([Wrong(wrong, f"point {point}: {shown}, known {known}: {answer['shoal']}")])

    async def _restart(self, cluster: LocalCluster) -> None:
        every = self._plan.interleavings // (self._plan.restarts + 1)
        for number in range(1, self._plan.restarts + 1):
            while self._plan.interleavings - self._left < number * every:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            shard = number % 2
            await asyncio.to_thread(cluster.stop_shard, shard)
            await asyncio.to_thread(cluster.start_shard, shard)
            for router in self._routers:
                await router.coordinator.catalogue.refresh()
            self._report.faults += 1


def _wrong(known: int, shown: int | None, is_at_rest: bool) -> str | None:
    """What an answer that shows version `shown` (None: no point) is guilty of, where `known` was acknowledged when it was asked
    for; `is_at_rest`: nobody wrote meanwhile.
    """
    if shown is None:
        return "lost" if known > 0 and is_at_rest else None
    return "resurrected" if shown < abs(known) or known == -shown else None
