"""Settings of one shard. Every limit has its unit in its name; where a number was measured, it says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
