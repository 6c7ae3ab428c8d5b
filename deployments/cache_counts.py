"""What one router's result cache has done since it started, as plain numbers for the metrics. Pure.

`lookups` = hits (by level) + misses + what callers wanted fresh (`bypassed`). A hit is answered without a search of
every shard: from this router's memory (`l1`), from Redis (`l2`), or with a search of the moved shards alone (`shard`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Level = Literal["l1", "l2", "shard"]


@dataclass(slots=True)
class CacheCounts:
    """Counters, but for `l1_bytes` and `l1_entries`, which are what is held now."""

    hits_l1: int = 0
    hits_l2: int = 0
    hits_shard: int = 0
    misses: int = 0
    bypassed: int = 0
    """Requests with Cache-Control: no-cache."""
    validated: int = 0
    """Hits whose generations were asked for."""
    unvalidated: int = 0
    """Hits that were answered as the caller's staleness allows."""
    moved_shards: int = 0
    """Shards that were searched again for a `shard` hit."""
    shared_searches: int = 0
    """Requests that waited for the same question's search, and queries that came again in their batch."""
    cross_shard: int = 0
    """Lookups whose question is for more than one shard."""
    evictions: int = 0
    refused: int = 0
    """Answers that were not admitted, or are larger than the cache."""
    sampled: int = 0
    drift: int = 0
    """Samples in which a fresh answer of the same generation differed."""
    l2_errors: int = 0
    """Calls of Redis that failed or took too long."""
    l2_poisoned: int = 0
    """Values in Redis that were not what their key says."""
    l2_skipped: int = 0
    """Lookups for which Redis was not asked: its breaker is open, or a search costs less."""
    l1_bytes: int = 0
    l1_entries: int = 0

    def hit(self, level: Level) -> None:
        """One more of that level."""
        if level == "l1":
            self.hits_l1 += 1
        elif level == "l2":
            self.hits_l2 += 1
        else:
            self.hits_shard += 1

    @property
    def lookups(self) -> int:
        """Requests that could have been hits."""
        return self.hits_l1 + self.hits_l2 + self.hits_shard + self.misses + self.bypassed

    def items(self) -> list[tuple[str, int]]:
        """Every number by its name."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]
