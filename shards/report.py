"""What the supervisor and a shard's process tell each other: orders for collections, and how the shard is.

Plain values without a ray or hnswlib behind them, so that the supervisor need not load what only a shard needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from shards.schema import CollectionSpec


@dataclass(frozen=True, slots=True)
class CollectionOrder:
    """Have this collection's part open. `create`: make it where it is missing; else a missing one is lost data, and
    the shard answers Unavailable for it. `restored`: with `create`, its part was restored of a snapshot by the shard
    beforehand and is taken from there; it is never made empty.
    """

    uid: str
    spec: CollectionSpec
    epoch: int
    create: bool
    restored: bool = False


@dataclass(frozen=True, slots=True)
class ShardReport:
    """A running shard's process: `incarnation` differs in each of its lives, `problem` says why it can't serve."""

    host: str
    port: int
    incarnation: str
    problem: str | None
    pid: int
