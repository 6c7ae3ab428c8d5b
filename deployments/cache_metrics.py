"""The result cache's numbers as metrics (deployments/metric_sources.py): hits by level, what was checked, what had to go."""

from __future__ import annotations

from collections.abc import Callable

from deployments.cache_counts import CacheCounts
from deployments.metric_sources import MetricSources, Source


def add_cache_metrics(sources: MetricSources, counts: CacheCounts) -> None:
    """Show them from now on."""

    def hits() -> dict[str, float]:
        return {"l1": counts.hits_l1, "l2": counts.hits_l2, "shard": counts.hits_shard}

    sources.add(
        Source(
            "shoal_cache_hits_total", "counter", "Queries answered without a search of every shard.", hits, "level"
        )
    )
    told: tuple[tuple[str, str, Callable[[], int]], ...] = (
        ("misses_total", "Queries that searched every shard they are for.", lambda: counts.misses),
        ("bypassed_total", "Queries with Cache-Control: no-cache.", lambda: counts.bypassed),
        ("validated_total", "Kept answers that a probe of generations vouched for.", lambda: counts.validated),
        ("unvalidated_total", "Kept answers given unchecked, as staleness allows.", lambda: counts.unvalidated),
        ("moved_shards_total", "Shards searched anew beside the kept parts of others.", lambda: counts.moved_shards),
        ("shared_searches_total", "Queries that shared another's search.", lambda: counts.shared_searches),
        ("cross_shard_total", "Queries for more than one shard, kept or searched.", lambda: counts.cross_shard),
        ("evictions_total", "Answers that had to go for others.", lambda: counts.evictions),
        ("refused_total", "Answers that were not worth the room.", lambda: counts.refused),
        ("sampled_total", "Kept answers compared with fresh ones.", lambda: counts.sampled),
        ("drift_total", "Samples that differed at the same generation: a mistake of ours.", lambda: counts.drift),
        ("l2_errors_total", "Calls of Redis that failed or took too long.", lambda: counts.l2_errors),
        ("l2_poisoned_total", "Values in Redis that were not what their key says.", lambda: counts.l2_poisoned),
        ("l2_skipped_total", "Misses for which Redis was not asked.", lambda: counts.l2_skipped),
        ("l1_bytes", "Memory that kept answers take.", lambda: counts.l1_bytes),
        ("l1_entries", "Kept answers.", lambda: counts.l1_entries),
    )
    for name, help_, read in told:
        sources.add(Source(f"shoal_cache_{name}", "counter" if name.endswith("_total") else "gauge", help_, read))
