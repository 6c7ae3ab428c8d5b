"""Settings of admission: how much one router takes on at once, and how fast callers may spend its tokens."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_Fraction = Annotated[float, Field(gt=0, le=1)]


class AdmissionSettings(BaseModel):
    """Of one router, but for the rates, which all routers share. Costs and tokens: deployments/cost.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_max: _Count = 320
    """Requests for points that a router holds at once, waiting and in progress; what comes then gets 503."""
    ongoing_cost_max: _Count = 256
    """What those in progress may cost together; the others wait in line. A plain search costs 1."""
    body_bytes_max: _Count = 256 * 1024 * 1024
    """Bytes of all bodies that a router holds at once."""
    wait_target_ms: _Positive = 1000.0
    """Where requests wait in line longer than this for half a second on end, those that do are refused."""
    p99_bound_ms: _Positive = 5000.0
    """What the 99th percentile of plain reads may be within a second; beyond it all limits shrink by a quarter."""
    shrunk_fraction_min: _Fraction = 0.1
    """What they shrink to at most."""
    system_tokens_per_s: _Positive | None = None
    """Of all callers together; None: as many as there are."""
    tenant_tokens_per_s: _Positive | None = None
    """Of the keys of one tenant together."""
    key_tokens_per_s: _Positive | None = None
    """Of one API key."""
    burst_s: _Positive = 2.0
    """A bucket holds the tokens of so many seconds."""
    stale_ms_max: Annotated[int, Field(ge=0)] = 0
    """How old a cached answer may be that is given, flagged, while a router is short of time."""
    ef_fraction_min: _Fraction = 0.6
    """What part of a collection's `ef_search` is used, flagged, before searches are refused; 1 keeps it."""

    @model_validator(mode="after")
    def _one_fits(self) -> Self:
        if self.ongoing_cost_max > self.requests_max:
            raise ValueError("ongoing_cost_max must not be above requests_max: a plain search costs 1")
        return self
