"""Where the time of this router's searches goes: by phase, and by shard.

Every search that is answered counts (cluster/search_times.py says what the phases are); one that fails has no phases. Six
phases and two shards cost about 3 us a search, the moments taken on the way included, so nothing is sampled. A batch of
queries counts once, with the group that was merged last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from time import perf_counter

from cluster.histogram import BOUNDS_S, Histogram
from cluster.search_times import PHASES, SearchTimes, phase_seconds

SHARDS_MAX = 128
"""Shards that have a histogram of their own; more share one, so that /metrics stays readable."""
OTHER_SHARDS = -1


class SearchPhases:
    """One per router."""

    def __init__(self) -> None:
        self._phases = tuple(Histogram() for _ in PHASES)
        self._shards: dict[int, Histogram] = {}

    def observe(self, started: float, times: SearchTimes, in_line_s: float = 0.0) -> None:
        """One search whose reply is made now; `started` is a perf_counter value, `in_line_s` as of `phase_seconds`."""
        # Histogram.observe, spelled out: the calls would cost as much again.
        bucket_of, bounds = bisect_left, BOUNDS_S
        seconds = phase_seconds(started, times, perf_counter(), in_line_s)
        for held, spent in zip(self._phases, seconds, strict=True):
            held.counts[bucket_of(bounds, spent)] += 1
            held.sum_s += spent
        began = times.fan_out.began
        for shard_id, at in times.fan_out.shards:
            held = self._shards.get(shard_id) or self._of_new_shard(shard_id)
            spent = at - began
            held.counts[bucket_of(bounds, spent)] += 1
            held.sum_s += spent

    def phases(self) -> Iterator[tuple[str, Histogram]]:
        """By name."""
        return zip(PHASES, self._phases, strict=True)

    def shards(self) -> Iterator[tuple[str, Histogram]]:
        """By shard id; `other` holds those beyond SHARDS_MAX."""
        for shard_id, held in sorted(self._shards.items()):
            yield ("other" if shard_id == OTHER_SHARDS else str(shard_id)), held

    def _of_new_shard(self, shard_id: int) -> Histogram:
        key = shard_id if len(self._shards) < SHARDS_MAX else OTHER_SHARDS
        return self._shards.setdefault(key, Histogram())
