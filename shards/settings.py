"""Settings of one shard. Every limit has its unit in its name; where a number was measured, it says so."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1024 * 1024


class ShardSettings(BaseModel):
    """What a shard may use, and when it seals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seal_bytes: Annotated[int, Field(ge=64 * 1024, le=1024 * MIB)] = 4 * MIB
    """Vector bytes at which the growing segment is sealed into a graph (exact search of 4 MiB takes about 0.4 ms)."""

    exact_scan_bytes: Annotated[int, Field(ge=0)] = 256 * 1024
    """Sealed segments with fewer vector bytes are scanned exactly: faster than their graph, and no recall lost."""

    build_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads that build one graph. One a shard: the shards of a machine build side by side."""

    search_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads that answer batches of queries, beside the loop that answers single ones."""

    inline_queries_max: Annotated[int, Field(ge=0)] = 32
    """Up to so many waiting queries are answered on the loop itself: no thread hop; more go to a search thread."""

    frozen_segments_max: Annotated[int, Field(ge=1)] = 4
    """Full growing segments that may wait for their graph before writers have to wait for a build."""

    frame_bytes_max: Annotated[int, Field(ge=MIB)] = 128 * MIB
    """The largest message that the data plane accepts."""

    memory_bytes_max: Annotated[int, Field(ge=MIB)] | None = None
    """What the collections of a shard may take on the heap, by the model of shards/memory.py; None: no limit. The
    interpreter and its libraries come on top (about 65 MiB in a shard's process), so do queries and messages on their
    way, and what the allocator keeps of freed memory.
    """

    memory_target_fraction: Annotated[float, Field(gt=0)] = 0.7
    """Of memory_bytes_max: what a shard is brought back to when memory has run short."""

    memory_throttle_fraction: Annotated[float, Field(gt=0)] = 0.8
    """Of memory_bytes_max: from here on writers are slowed."""

    memory_refuse_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Of memory_bytes_max: from here on upserts and loads are refused. What is left is for seals, and for the model's
    error, which is below a tenth.
    """

    memory_margin_fraction: Annotated[float, Field(ge=0)] = 0.03
    """How far below its threshold memory has to fall before throttling or refusing ends."""

    @model_validator(mode="after")
    def _thresholds_ascend(self) -> Self:
        target, throttle, refuse = (
            self.memory_target_fraction,
            self.memory_throttle_fraction,
            self.memory_refuse_fraction,
        )
        if not target < throttle < refuse:
            raise ValueError(f"memory fractions must ascend: target {target} < throttle {throttle} < refuse {refuse}")
        if self.memory_margin_fraction >= min(throttle - target, refuse - throttle):
            raise ValueError(
                f"memory_margin_fraction {self.memory_margin_fraction} must be less than the thresholds' distances"
            )
        return self
