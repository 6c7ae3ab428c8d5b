"""What one router observes of itself, in one place: counters, times, its log and traces, and what the shards told.

Made by the application (deployments/http_app.py) and handed to every handler. Other parts of a router that count
something show it by a source (deployments/metric_sources.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deployments.cluster_api import ClusterApi
from deployments.log_settings import LogSettings, TracingSettings
from deployments.metric_sources import MetricSources
from deployments.readiness import Readiness
from deployments.request_counts import RequestCounts
from deployments.router_log import RequestLog
from deployments.search_phases import SearchPhases
from deployments.shard_statistics import ShardStatistics
from deployments.tracing import Tracing, start_tracing


class ObserveSettings(NamedTuple):
    """What can be set about it."""

    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()


OBSERVE_DEFAULTS = ObserveSettings()


@dataclass(frozen=True, slots=True)
class Observed:
    """One per router, on its loop."""

    requests: RequestCounts
    phases: SearchPhases
    sources: MetricSources
    statistics: ShardStatistics
    readiness: Readiness
    log: RequestLog
    tracing: Tracing | None


def observe(cluster: ClusterApi, settings: ObserveSettings, shoal_version: str) -> Observed:
    """Begin to observe. Raises InvalidRequest where traces are wanted and can't be sent."""
    requests = RequestCounts()
    router = requests.router
    sources, readiness = MetricSources(router), Readiness(cluster)
    readiness.report("hit_rate", lambda: cache_hit_rate(sources))
    return Observed(
        requests=requests,
        phases=SearchPhases(),
        sources=sources,
        statistics=ShardStatistics(cluster),
        readiness=readiness,
        log=RequestLog(settings.log, router),
        tracing=start_tracing(settings.tracing, router, shoal_version),
    )


def cache_hit_rate(sources: MetricSources) -> float | None:
    """The fraction of this router's searches that kept answers served, since it began; None where it keeps none, or
    nobody has asked.
    """
    hits, misses = (sources.total(f"shoal_cache_{what}_total") for what in ("hits", "misses"))
    if hits is None or misses is None or not hits + misses:
        return None
    return round(hits / (hits + misses), 4)
