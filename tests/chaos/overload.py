"""Row 19: three times more searches than the cluster can answer, for a while. The rest is refused and told when to come
back; what is accepted is not much slower; memory does not grow; afterwards all is as before.

Full load is as many clients as the router holds requests (`requests_max`), each sending again when it has its answer: what
they get done is the capacity, and their p99 is what the accepted p99 is compared with. The overload offers three times
the capacity over three times as many connections. Normal is half of the capacity, before and after.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from deployments.admission_settings import AdmissionSettings
from deployments.cache_settings import CacheSettings
from deployments.http_client import collection_path
from deployments.lifecycle import cluster_processes
from shards.schema import HnswSpec
from tests.chaos.paced_load import Load, Pace, drive
from tests.chaos.real_cluster import RealCluster, upsert_points
from tests.chaos.report import Report

COLLECTION = "crowded"
EF_SEARCH = 3000
"""Wide searches: the shards are then what is short, and the load generator needs little of the machine."""
BATCH = 500
QUIET_S = 3.0
OVERLOAD = 3.0
OFFERED_MIN = 2.5
"""What part of the capacity has to be offered, or the run has shown nothing."""
ANSWERED_MIN = 0.5
"""What part of the capacity has to be left for those that are accepted."""
NORMAL = 0.5
P99_FACTOR_MAX = 2.0
MEMORY_FACTOR_MAX = 1.10
NORMAL_AFTER_S = 5.0
NOISE_S = 0.05
"""Two shared cores have moments like this under any load."""
ROUTER_TITLE = b"ServeReplica:shoal:Router"
SAMPLE_S = 0.5


Loads = tuple[Load, Load, Load, Load]
"""Full load, normal before, overload, normal after."""


@dataclass(frozen=True)
class OverloadPlan:
    """`seconds`: of overload; `requests_max`: what the router holds."""

    seed: int
    seconds: float = 60.0
    steady_s: float = 15.0
    requests_max: int = 96
    points: int = 20_000
    dim: int = 32
    judges_figures: bool = True
    """False on a machine that others use: only answers are judged, not how long they took."""

    @property
    def sections(self) -> dict[str, object]:
        """What the cluster has to run with. Only the number of requests is limited, so that the run is the same on a slow
        machine; and every search is one.
        """
        admission = AdmissionSettings(
            requests_max=self.requests_max,
            ongoing_cost_max=self.requests_max,
            wait_target_ms=20_000,
            p99_bound_ms=20_000,
        )
        return {"admission": admission, "cache": CacheSettings(l1_bytes=0)}


class _Memory:
    """Samples the resident bytes of the cluster's processes on a thread; a context manager. `peak`: (router, all)."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = (0, 0)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._enough.is_set():
            router, everything = resident_bytes(self._cluster)
            self.peak = (max(self.peak[0], router), max(self.peak[1], everything))
            self._enough.wait(SAMPLE_S)


def run(cluster: RealCluster, plan: OverloadPlan) -> Report:
    """One run on a cluster that is up with the plan's admission; its collection must not exist yet."""
    report = Report(19, "three times more searches than can be answered", plan.seed)
    began = time.monotonic()
    bodies = _fill(cluster, plan)
    assert cluster.info is not None
    url, path = cluster.info.url, f"{collection_path(COLLECTION)}/points/query"
    full = drive(url, path, bodies, Pace(plan.requests_max, plan.steady_s))
    crowd = Pace(3 * plan.requests_max, plan.seconds, OVERLOAD * full.rate)
    normal = Pace(plan.requests_max // 4, plan.steady_s, NORMAL * full.rate)
    before = drive(url, path, bodies, normal)
    resident = resident_bytes(cluster)
    with _Memory(cluster) as memory:
        over = drive(url, path, bodies, crowd)
    after = drive(url, path, bodies, normal)
    loads = (full, before, over, after)
    report.operations = sum(load.statuses.total() for load in loads)
    report.faults = over.refused
    report.duration_s = time.monotonic() - began
    report.figures = _figures(loads, resident, memory.peak)
    _judge_answers(report, loads)
    if plan.judges_figures:
        _judge_figures(report, loads)
        for name, held, peak in zip(("router", "cluster"), resident, memory.peak, strict=True):
            report.require(peak <= MEMORY_FACTOR_MAX * held, f"the memory of the {name} grew by more than a tenth")
    return report


def _figures(loads: Loads, resident: tuple[int, int], peak: tuple[int, int]) -> dict[str, str]:
    full, before, over, after = loads
    by_second = ", ".join(f"{after.p99_s(second, second + 1) * 1e3:.0f}" for second in range(8))
    return {
        "full load": f"{full.rate:.0f}/s, p99 {full.p99_s() * 1e3:.0f} ms",
        "overload": f"offered {over.offered:.0f}/s ({over.offered / full.rate:.1f} x), accepted {over.rate:.0f}/s, p99"
        f" {over.p99_s() * 1e3:.0f} ms ({over.p99_s() / full.p99_s():.2f} x), refused {over.refused}, with less width"
        f" {over.degraded}",
        "resident": f"router {resident[0] >> 20} MiB, {peak[0] >> 20} at most; all {resident[1] >> 20}, {peak[1] >> 20}",
        "half load": f"p99 {before.p99_s() * 1e3:.0f} ms before; after it, second by second: {by_second}",
    }


def _judge_answers(report: Report, loads: Loads) -> None:
    """What has to hold on any machine."""
    full, _, _, after = loads
    bad = [one for load in loads for one in load.bad]
    report.require(not bad, f"{len(bad)} answers are neither a success nor a refusal with Retry-After: {bad[:1]}")
    report.require(not full.refused, f"{full.refused} requests were refused at full load")
    late = sum(sample.status != 200 for sample in after.samples if sample.at_s >= NORMAL_AFTER_S)
    report.require(not late, f"{late} requests were refused later than {NORMAL_AFTER_S:g} s after it")


def _judge_figures(report: Report, loads: Loads) -> None:
    full, before, over, after = loads
    report.require(
        over.offered >= OFFERED_MIN * full.rate,
        f"only {over.offered:.0f}/s were offered: no overload, nothing was shown",
    )
    report.require(
        over.rate >= ANSWERED_MIN * full.rate,
        f"{over.rate:.0f}/s were answered under overload, {full.rate:.0f}/s before",
    )
    factor = over.p99_s() / full.p99_s()
    report.require(factor <= P99_FACTOR_MAX, f"the accepted p99 is {factor:.2f} times that of full load")
    late = after.p99_s(first_s=NORMAL_AFTER_S)
    report.require(
        late <= P99_FACTOR_MAX * before.p99_s() + NOISE_S,
        f"p99 is {late * 1e3:.0f} ms, {NORMAL_AFTER_S:g} s after it",
    )


def _fill(cluster: RealCluster, plan: OverloadPlan) -> list[bytes]:
    """Points, at rest, and the bodies of searches."""
    random = np.random.default_rng(plan.seed)
    vectors = random.standard_normal((plan.points, plan.dim), np.float32)
    cluster.create(COLLECTION, plan.dim, HnswSpec(ef_search=EF_SEARCH))
    with cluster.client() as client:
        for start in range(0, plan.points, BATCH):
            rows = vectors[start : start + BATCH].tolist()
            upsert_points(client, COLLECTION, [{"id": at, "vector": row} for at, row in enumerate(rows, start)])
    cluster.await_rest(COLLECTION, QUIET_S)
    queries = random.standard_normal((500, plan.dim), np.float32).tolist()
    return [orjson.dumps({"query": query, "limit": 10}) for query in queries]


def resident_bytes(cluster: RealCluster) -> tuple[int, int]:
    """Of the routers, and of all processes of the cluster."""
    assert cluster.info is not None
    router = everything = 0
    for pid in cluster_processes(cluster.info):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except (OSError, IndexError):  # it ended meanwhile
            continue
        everything += resident
        router += resident * (ROUTER_TITLE in title)
    return router, everything
