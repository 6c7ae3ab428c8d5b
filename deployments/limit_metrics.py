"""What protects a router, as metrics: its breakers. Each router speaks for itself, so every sample has its name."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.breaker import BreakerState, BreakerStatus
from deployments.prometheus_text import Metric


def breaker_metric(router: str, breakers: Mapping[int, BreakerStatus]) -> Metric:
    """The state of the breaker of each shard."""
    found = Metric("shoal_shard_breaker_state", "gauge", "1 for the state that a router's breaker of a shard is in.")
    for shard_id, status in sorted(breakers.items()):
        for state in BreakerState:
            found.add(int(status.state is state), {"router": router, "shard": shard_id, "state": state.value})
    return found
