"""What protects a router, as metrics: its breakers and its admission. See deployments/metric_sources.py."""

from __future__ import annotations

from cluster.breaker import BreakerState
from deployments.admission import Admission
from deployments.cluster_api import ClusterApi
from deployments.metric_sources import MetricSources, Source


def show_limits(sources: MetricSources, admission: Admission, cluster: ClusterApi) -> None:
    """From now on."""
    counts, line = admission.counts, admission.line

    def breakers_open() -> dict[str, float]:
        return {
            str(shard_id): float(status.state is not BreakerState.CLOSED)
            for shard_id, status in cluster.breakers().items()
        }

    def breakers_opened() -> dict[str, float]:
        return {str(shard_id): status.opened_count for shard_id, status in cluster.breakers().items()}

    def refused() -> dict[str, float]:
        return {
            "full": counts.refused_full,
            "late": counts.refused_late,
            "rate_system": counts.rate_limited_system,
            "rate_tenant": counts.rate_limited_tenant,
            "rate_key": counts.rate_limited_key,
        }

    for source in (
        Source("shoal_shard_breaker_open", "gauge", "0 where a shard's breaker is closed.", breakers_open, "shard"),
        Source("shoal_shard_breaker_opened_total", "counter", "How often it opened.", breakers_opened, "shard"),
        Source(
            "shoal_admission_admitted_total", "counter", "Requests for points that began.", lambda: counts.admitted
        ),
        Source(
            "shoal_admission_waited_total",
            "counter",
            "Those of them that stood in line before.",
            lambda: counts.waited,
        ),
        Source("shoal_admission_refused_total", "counter", "Requests that were sent away.", refused, "reason"),
        Source(
            "shoal_admission_lowered_ef_total",
            "counter",
            "Searches that got less width, under load.",
            lambda: counts.lowered_ef,
        ),
        Source(
            "shoal_admission_held",
            "gauge",
            "Requests for points in line and in progress.",
            lambda: {"waiting": line.waiting_count, "ongoing": line.ongoing_count},
            "state",
        ),
        Source("shoal_admission_held_limit", "gauge", "How many may be held, now.", lambda: line.held_max),
        Source(
            "shoal_admission_level",
            "gauge",
            "What is done without: 1 extras, 2 fresh answers, 3 width, too.",
            lambda: int(admission.degradation.level),
        ),
    ):
        sources.add(source)
