"""What protects a router, as metrics: its breakers and its admission. Each router speaks for itself: samples have its name."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.breaker import BreakerState, BreakerStatus
from deployments.admission import Admission
from deployments.prometheus_text import Metric


def breaker_metric(router: str, breakers: Mapping[int, BreakerStatus]) -> Metric:
    """The state of the breaker of each shard."""
    found = Metric("shoal_shard_breaker_state", "gauge", "1 for the state that a router's breaker of a shard is in.")
    for shard_id, status in sorted(breakers.items()):
        for state in BreakerState:
            found.add(int(status.state is state), {"router": router, "shard": shard_id, "state": state.value})
    return found


def admission_metrics(router: str, admission: Admission) -> list[Metric]:
    """What a router takes on, what it refused, and how far it is from refusing."""
    counts, line, labels = admission.counts, admission.line, {"router": router}
    admitted = Metric("shoal_admission_admitted_total", "counter", "Requests for points that began.")
    admitted.add(counts.admitted, labels)
    waited = Metric("shoal_admission_waited_total", "counter", "Those of them that stood in line before.")
    waited.add(counts.waited, labels)
    refused = Metric("shoal_admission_refused_total", "counter", "Requests for points that were sent away, by why.")
    for reason in ("full", "late"):
        refused.add(getattr(counts, f"refused_{reason}"), {**labels, "reason": reason})
    for kind in ("system", "tenant", "key"):
        refused.add(getattr(counts, f"rate_limited_{kind}"), {**labels, "reason": f"rate_{kind}"})
    lowered = Metric("shoal_admission_lowered_ef_total", "counter", "Searches that got less width, under load.")
    lowered.add(counts.lowered_ef, labels)
    held = Metric(
        "shoal_admission_held", "gauge", "Requests for points that a router holds, in line and in progress."
    )
    held.add(line.waiting_count, {**labels, "state": "waiting"})
    held.add(line.ongoing_count, {**labels, "state": "ongoing"})
    limit = Metric("shoal_admission_held_limit", "gauge", "How many it holds at most, now.")
    limit.add(line.held_max, labels)
    level = Metric("shoal_admission_level", "gauge", "What it does without: 1 extras, 2 fresh answers, 3 width too.")
    level.add(int(admission.degradation.level), labels)
    return [admitted, waited, refused, lowered, held, limit, level]
