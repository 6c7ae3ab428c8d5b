"""What can be set about a router's log and its traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogSettings(_Frozen):
    """Of `logs/routers.log` in the data folder."""

    format: Literal["text", "json"] = "text"
    slow_ms: Annotated[float, Field(gt=0)] | None = 1000.0
    """Requests that take longer are logged, with their phases; None logs none."""


class TracingSettings(_Frozen):
    """OpenTelemetry spans, sent by OTLP over HTTP."""

    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where a collector takes traces, such as http://127.0.0.1:4318/v1/traces; None: no traces, and no cost."""
    sample_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Of the requests that come without a `traceparent` header; those with one are traced where it says so."""
