"""The limits on one request. What passes one is refused with the limit named, before anything else is done.

They bound the memory and the time that a single request can take; admission (how many requests at once) is another
matter and lives elsewhere.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shards.filters.parsing import FilterLimits

_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class LimitSettings(BaseModel):
    """Every field is inclusive: a request that just reaches it passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes_max: _Count = 32 * 1024 * 1024
    """A request's body. 32 MiB is what the API's other server allows."""
    k_max: _Count = 10_000
    """`limit` + `offset` of one query: that many candidates are gathered from every shard."""
    ef_max: _Count = 10_000
    batch_max: _Count = 1_000
    """Queries or operations in one batch."""
    hits_per_request_max: _Count = 1_000_000
    """The sum of `limit` + `offset` over a batch: what the router holds at once for it."""
    points_per_request_max: _Count = 100_000
    """Points or ids in one request."""
    scroll_limit_max: _Count = 100_000
    """Points on one page of a scroll."""
    filter_conditions_max: _Count = 1024
    """Conditions of one filter, those inside others too."""
    filter_depth_max: Annotated[int, Field(ge=1, le=50)] = 16
    """Filters inside each other."""
    payload_depth_max: _Count = 64
    """Objects and arrays inside each other; a payload that is one flat object has depth 1."""
    name_length_max: _Count = 255
    """Characters of a collection's name, or of the path of an indexed field."""
    timeout_default_s: _Seconds = 60.0
    """The deadline of a request that names none."""
    timeout_s_max: _Seconds = 3600.0

    @cached_property
    def of_filters(self) -> FilterLimits:
        """Those that a filter is checked against."""
        return FilterLimits(filter_conditions_max=self.filter_conditions_max, filter_depth_max=self.filter_depth_max)
