"""What one router observes of itself, in one place: counters, times, and what the shards told.

Made by the application (deployments/http_app.py) and handed to every handler. Other parts of a router that count
something show it by a source (deployments/metric_sources.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.cluster_api import ClusterApi
from deployments.metric_sources import MetricSources
from deployments.readiness import Readiness
from deployments.request_counts import RequestCounts
from deployments.search_phases import SearchPhases
from deployments.shard_statistics import ShardStatistics


@dataclass(frozen=True, slots=True)
class Observed:
    """One per router, on its loop."""

    requests: RequestCounts
    phases: SearchPhases
    sources: MetricSources
    statistics: ShardStatistics
    readiness: Readiness


def observe(cluster: ClusterApi) -> Observed:
    """Begin to observe."""
    requests = RequestCounts()
    return Observed(
        requests, SearchPhases(), MetricSources(requests.router), ShardStatistics(cluster), Readiness(cluster)
    )
