"""What a router's requests to shards came to, as metrics (deployments/metric_sources.py)."""

from __future__ import annotations

from collections.abc import Callable

from cluster.gather_counts import GatherCounts
from deployments.metric_sources import MetricSources, Source


def add_gather_metrics(sources: MetricSources, counts: GatherCounts) -> None:
    """Show them from now on."""

    def hedges() -> dict[str, float]:
        return {
            "issued": counts.hedges_issued,
            "won": counts.hedges_won,
            "wasted": counts.hedges_wasted,
            "refused": counts.hedges_refused,
        }

    sources.add(
        Source("shoal_hedges_total", "counter", "Second replicas that were asked, or not.", hedges, "outcome")
    )
    told: tuple[tuple[str, str, Callable[[], int]], ...] = (
        ("shard_retries_total", "Tries beyond the first, of shards that were away.", lambda: counts.retries),
        ("shard_cancels_total", "Requests that shards were told to forget.", lambda: counts.cancels_sent),
        ("deadlines_total", "Requests that not every shard answered in time.", lambda: counts.deadlines),
        ("partial_answers_total", "Answers without every shard.", lambda: counts.partial_answers),
        ("refetches_total", "Searches that asked shards for all hits after all.", lambda: counts.refetches),
    )
    for name, help_, read in told:
        sources.add(Source(f"shoal_{name}", "counter", help_, read))
