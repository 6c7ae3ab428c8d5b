"""Row 14: recall@10 before and after a series of kill -9 and of `down` and `up`: it drops by half a point at most.

The graphs are thin and the searches narrow on purpose: with recall near 1 a graph that had suffered would not show.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.schema import HnswSpec
from tests.chaos.real_cluster import SHARD_COUNT, RealCluster, upsert_points
from tests.chaos.report import Report

COLLECTION = "recalled"
K = 10
HNSW = HnswSpec(m=4, ef_construction=24, ef_search=K)
DROP_MAX = 0.005
BATCH = 250
QUIET_S = 12.0
"""Longer than a shard waits until it seals what is left after the last write (shards/upkeep.py): that changes recall."""
CENTRES, SPREAD = 40, 0.3

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RecallPlan:
    """`restart_every`: how many cycles apart `down` and `up` take the place of a kill; 0 for never."""

    seed: int
    cycles: int = 50
    restart_every: int = 10
    points: int = 6_000
    queries: int = 500
    dim: int = 24


@dataclass(frozen=True)
class _Data:
    vectors: Floats
    queries: Floats
    truth: npt.NDArray[np.int64]


def run(cluster: RealCluster, plan: RecallPlan) -> Report:
    """One run on a cluster that is up; its collection must not exist yet."""
    report = Report(14, "recall@10 before and after kill -9, down and up", plan.seed)
    began = time.monotonic()
    data = _make_data(plan)
    cluster.create(COLLECTION, plan.dim, HNSW)
    _load(cluster, data)
    report.acknowledged = len(data.vectors)
    report.operations = -(-len(data.vectors) // BATCH)
    segments = cluster.await_rest(COLLECTION, QUIET_S)
    first = _recall(cluster, data)
    found = []
    for cycle in range(1, plan.cycles + 1):
        _disturb(cluster, plan, cycle, report)
        found.append(_recall(cluster, data))
        report.operations += -(-plan.queries // BATCH)
        report.require(
            found[-1] >= first - DROP_MAX, f"recall {found[-1]:.4f} after cycle {cycle}, {first:.4f} before all"
        )
    with cluster.client() as client:
        count = cluster.insist(lambda: client.describe(COLLECTION))["points_count"]
    report.require(count == plan.points, f"{count} points are counted, {plan.points} were written")
    report.duration_s = time.monotonic() - began
    report.figures = {
        "recall@10": f"{first:.4f} before, {min(found):.4f} at the least and {found[-1]:.4f} at the end of"
        f" {plan.cycles} cycles",
        "segments": f"{segments} before, {cluster.segment_count(COLLECTION)} at the end",
    }
    return report


def _disturb(cluster: RealCluster, plan: RecallPlan, cycle: int, report: Report) -> None:
    if plan.restart_every and cycle % plan.restart_every == 0:
        cluster.down()
        cluster.up()
        report.faults += 1
    else:
        shard_id = cycle % SHARD_COUNT
        report.faults += cluster.kill(shard_id)
        cluster.await_answer(COLLECTION, shard_id)


def _make_data(plan: RecallPlan) -> _Data:
    random = np.random.default_rng(plan.seed)
    centres = random.standard_normal((CENTRES, plan.dim), np.float32)
    everything = centres[random.integers(CENTRES, size=plan.points + plan.queries)]
    everything += np.float32(SPREAD) * random.standard_normal(everything.shape, np.float32)
    vectors, queries = everything[: plan.points], everything[plan.points :]
    squares = (vectors**2).sum(axis=1)
    truth = np.argsort(squares - 2 * queries @ vectors.T, axis=1, kind="stable")[:, :K]
    return _Data(vectors, queries, truth)


def _load(cluster: RealCluster, data: _Data) -> None:
    with cluster.client() as client:
        for start in range(0, len(data.vectors), BATCH):
            rows = data.vectors[start : start + BATCH].tolist()
            bodies = [{"id": point_id, "vector": row} for point_id, row in enumerate(rows, start)]
            upsert_points(client, COLLECTION, bodies)


def _recall(cluster: RealCluster, data: _Data) -> float:
    hits = 0
    with cluster.client() as client:
        for start in range(0, len(data.queries), BATCH):
            rows = data.queries[start : start + BATCH].tolist()
            bodies = [{"query": row, "limit": K, "params": {"hnsw_ef": K}} for row in rows]
            answers = cluster.insist(lambda bodies=bodies: client.query_batch(COLLECTION, bodies))
            for answer, truth in zip(answers, data.truth[start:], strict=False):
                hits += len({hit["id"] for hit in answer} & set(truth.tolist()))
    return hits / data.truth.size
