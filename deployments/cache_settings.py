"""What can be set about a router's result cache. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1024 * 1024


class CacheSettings(BaseModel):
    """`l1_bytes` 0: there is no cache. Answers are checked with the shards before they are given, but for
    `staleness_ms`: an answer that was checked so lately is given as it is, and says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    l1_bytes: Annotated[int, Field(ge=0)] = 64 * MIB
    staleness_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    """Of requests that don't say."""
    staleness_ms_max: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    """The most that a request may ask for; what it asks beyond is cut."""
    sample_fraction: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Hits that are compared with a fresh answer."""
    redis_url: Annotated[str | None, Field(repr=False)] = None
    """`redis://host:6379/0`, or several nodes of a Redis Cluster with commas between them; None: routers share nothing. May
    hold a password.
    """
    redis_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 50
    redis_retry_s: Annotated[float, Field(gt=0)] = 1.0
    """How long Redis is left alone after it failed."""
    redis_wait_fraction: Annotated[float, Field(gt=0)] = 0.25
    """Of what a search takes: so long Redis is waited for, and asked only where its trip takes half of that. With Redis slow or
    gone, p99 has to stay below 1.3 times that of a router without it.
    """
    redis_ttl_s: Annotated[float, Field(gt=0)] = 600.0
    redis_ttl_jitter_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """So that answers kept together don't expire together."""
    redis_connections_max: Annotated[int, Field(ge=1, le=1024)] = 16
    redis_value_bytes_max: Annotated[int, Field(ge=1024)] = MIB

    @model_validator(mode="after")
    def _default_within_max(self) -> CacheSettings:
        if self.staleness_ms > self.staleness_ms_max:
            raise ValueError(
                f"staleness_ms is {self.staleness_ms}, above staleness_ms_max, which is {self.staleness_ms_max}"
            )
        return self

    def staleness_s(self, asked_ms: int | None) -> float:
        """How long ago an answer may have been checked, for a request that asked for so much."""
        return (self.staleness_ms if asked_ms is None else min(asked_ms, self.staleness_ms_max)) / 1000
