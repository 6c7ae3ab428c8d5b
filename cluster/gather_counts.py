"""What a router's requests to shards came to, as plain counters that only grow. Pure.

`coordinator.gather_counts` is the router's own; whoever shows them reads the fields, by their names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class GatherCounts:
    """See the module."""

    retries: int = 0
    """Tries beyond the first, of a shard that was away."""
    hedges_issued: int = 0
    """Requests that were sent to a second replica because the first took unusually long."""
    hedges_won: int = 0
    """Hedges that answered first."""
    hedges_wasted: int = 0
    """Hedges that the first replica forestalled, or that failed."""
    hedges_refused: int = 0
    """Hedges that were due, and for which the budget had no room."""
    cancels_sent: int = 0
    """Requests that a shard was told to forget: nobody waited for their answer any more."""
    deadlines: int = 0
    """Requests (not shards) whose deadline passed before every shard had answered."""
    partial_answers: int = 0
    """Requests that were answered without every shard, because their caller allowed it."""
    refetches: int = 0
    """Requests whose shards were first asked for fewer hits, and then some of them for all (cluster/fetch_count.py)."""
