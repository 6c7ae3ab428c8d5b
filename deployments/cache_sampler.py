"""Compares some kept answers with fresh ones: the watch over the cache's own promise.

A sample counts only if the shards stand exactly where they stood when the answer was kept, layout included: then the
same search over the same graphs must find the same points. A difference is drift, counted and logged: it means that
something changed answers without moving a generation. Scores may differ in their last digits (searches that leave
together are computed together), so points that are as near as the last one may take each other's place.

One sample at a time, behind the answer that was given; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from cluster.requests import SearchAnswer
from deployments.cache_counts import CacheCounts
from deployments.cache_entry import Entry
from shards.errors import ShoalError

SCORE_TOLERANCE = 1e-4
"""Relative; float32 sums of some thousand terms in another order are within a tenth of it."""

log = logging.getLogger(__name__)


class Sampler:
    """`random` gives numbers from 0 to 1; of them those below `fraction` are samples."""

    def __init__(self, fraction: float, counts: CacheCounts, random: Callable[[], float]) -> None:
        self._fraction = fraction
        self._counts = counts
        self._random = random
        self._task: asyncio.Task[None] | None = None
        self.is_paused = False
        """While the router is short of time: nobody waits for a sample."""

    def picks(self) -> bool:
        """Whether this hit is to be compared."""
        return self._fraction > 0 and not self.is_paused and self._task is None and self._random() < self._fraction

    def compare(
        self, entry: Entry, search: Callable[[], Awaitable[SearchAnswer]], write: Callable[[SearchAnswer], bytes]
    ) -> None:
        """Search once more, and see."""
        self._task = asyncio.get_running_loop().create_task(self._compare(entry, search, write))
        self._task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        self._task = None

    async def _compare(
        self, entry: Entry, search: Callable[[], Awaitable[SearchAnswer]], write: Callable[[SearchAnswer], bytes]
    ) -> None:
        kept, stamps = entry.points, entry.stamps
        try:
            fresh = await search()
        except ShoalError:
            return
        origin = fresh.origins[0] if fresh.origins else None
        if origin is None or stamps != {shard_id: reply.stamp for shard_id, reply in origin.replies.items()}:
            return
        self._counts.sampled += 1
        difference = difference_of(orjson.loads(kept), orjson.loads(write(fresh)))
        if difference is not None:
            self._counts.drift += 1
            log.error(
                "the result cache kept an answer that a search of the same generation does not give: %s", difference
            )


def difference_of(kept: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> str | None:
    """What two lists of scored points differ in, beyond the last digits of scores; None where they are the same."""
    kept_by_id, fresh_by_id = ({point["id"]: point for point in points} for points in (kept, fresh))
    if len(kept_by_id) != len(fresh_by_id):
        return f"it has {len(kept_by_id)} points, a fresh one {len(fresh_by_id)}"
    for id_, point in kept_by_id.items():
        other = fresh_by_id.get(id_)
        if other is not None:
            for name in point.keys() | other.keys() - {"score"}:
                if name != "score" and point.get(name) != other.get(name):
                    return f"point {id_}: its {name} is another"
            if not _is_near(point["score"], other["score"]):
                return f"point {id_} has score {point['score']}, fresh {other['score']}"
        elif not _is_near(point["score"], fresh[-1]["score"]):
            return f"point {id_} is not in a fresh one"
    return None


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(one), abs(other))
