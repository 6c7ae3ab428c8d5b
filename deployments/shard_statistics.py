"""What the shards say of themselves, asked at most once a second, however many ask.

Statistics cost a shard a walk over its segments for each collection. Scrapes, /readyz and `shoal top` all want them, so
they share one answer (single flight), which is kept for AGE_S, or ten times as long as it took to get where that is longer:
a cluster of thousands of collections spends a tenth of its attention on this at most. A few collections are asked at
once, within DEADLINE_S as a whole; those of which a shard did not answer in time are left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from cluster.requests import CollectionStatistics
from deployments.cluster_api import ClusterApi
from deployments.shared_answer import SharedAnswer
from shards.errors import ShoalError

AGE_S = 1.0
REST_FACTOR = 10.0
DEADLINE_S = 5.0
COLLECTIONS_AT_ONCE = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardStanding:
    """One shard over all its collections. `memory`: as shards/memory_account.py reports it under `shard`; None where nothing
    is known, as of a shard without collections. `recall`: the mean of its probes, None without any.
    """

    points: int = 0
    growing_points: int = 0
    segments: int = 0
    file_bytes: int = 0
    written_bytes: Mapping[str, int] = field(default_factory=dict)
    is_building: bool = False
    memory: Mapping[str, Any] | None = None
    recall: float | None = None


class ShardStatistics:
    """One per router."""

    def __init__(self, cluster: ClusterApi) -> None:
        self._cluster = cluster
        self._shared = SharedAnswer(self._ask, lambda _: AGE_S, REST_FACTOR)

    async def by_collection(self) -> Mapping[str, Sequence[CollectionStatistics]]:
        """By the collection's name, one for each of its shards; at most a second old, or ten times what it took."""
        return await self._shared.get()

    def newest(self) -> Mapping[str, Sequence[CollectionStatistics]]:
        """What was told last, without asking; empty where nothing was."""
        return self._shared.newest or {}

    async def _ask(self) -> Mapping[str, Sequence[CollectionStatistics]]:
        give_up_at = perf_counter() + DEADLINE_S
        turns = asyncio.Semaphore(COLLECTIONS_AT_ONCE)

        async def ask(name: str) -> list[CollectionStatistics] | None:
            async with turns:
                left_s = give_up_at - perf_counter()
                if left_s <= 0:
                    return None
                try:
                    return await self._cluster.statistics(name, left_s)
                except ShoalError:
                    return None
                except Exception:  # a mistake of ours about one collection; the others are still told of
                    _log.exception("asking for the statistics of %s failed", name)
                    return None

        names = sorted(self._cluster.state.collections)
        answers = await asyncio.gather(*(ask(name) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}


def standings(statistics: Mapping[str, Sequence[CollectionStatistics]]) -> dict[int, ShardStanding]:
    """By shard id. A shard tells its memory with each of its collections; the last one counts."""
    by_shard: dict[int, list[CollectionStatistics]] = {}
    for shards in statistics.values():
        for one in shards:
            by_shard.setdefault(one.shard_id, []).append(one)
    return {shard_id: _standing(parts) for shard_id, parts in sorted(by_shard.items())}


def _standing(parts: Sequence[CollectionStatistics]) -> ShardStanding:
    written: dict[str, int] = {}
    for part in parts:
        for what, count in part.written_bytes.items():
            written[what] = written.get(what, 0) + count
    probes = [part.recall for part in parts if part.recall]
    weight = sum(probe["query_count"] for probe in probes)
    memory = [part.memory["shard"] for part in parts if "shard" in part.memory]
    return ShardStanding(
        points=sum(part.point_count for part in parts),
        growing_points=sum(part.growing_count for part in parts),
        segments=sum(part.segment_count for part in parts),
        file_bytes=sum(part.bytes for part in parts),
        written_bytes=written,
        is_building=any(part.is_building for part in parts),
        memory=memory[-1] if memory else None,
        recall=sum(probe["recall"] * probe["query_count"] for probe in probes) / weight if weight else None,
    )
