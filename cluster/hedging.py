"""When a request is asked of a second replica as well, because the first takes unusually long. Pure.

A hedge goes out when a shard has taken longer than 95 of 100 of its answers lately (cluster/latency.py), for reads alone,
and only where a shard has another replica. A budget keeps them rare: each request to a shard earns a fraction of a token, a
hedge costs a whole one; so hedges are at most that fraction of all requests, also when everything is slow at once and
more load would make it slower still. Tokens are kept up to TOKENS_MAX, so that quiet times don't pay for a flood.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HEDGED_FRACTION = 0.05
TOKENS_MAX = 10.0


@dataclass(slots=True)
class HedgeBudget:
    """Shared by all requests of a router."""

    fraction: float = HEDGED_FRACTION
    tokens: float = 0.0

    def earn(self, requests: float) -> None:
        """So many requests went out to shards (fewer count where the budget is to be smaller)."""
        self.tokens = min(TOKENS_MAX, self.tokens + self.fraction * requests)

    def take(self) -> bool:
        """Whether one hedge may go out; it is paid for."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class Hedging:
    """How a request may use replicas. `replica_count`: of each shard; `first`: the one that is asked first."""

    replica_count: int
    first: int = 0
    budget: HedgeBudget = field(default_factory=HedgeBudget)
