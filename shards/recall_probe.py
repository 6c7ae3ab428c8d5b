"""How right the graphs are, measured on real queries: some of them are answered once more, exactly, in idle time.

Takes every `SAMPLE_EVERY`-th query that a shard answers, and when the shard has been quiet for `IDLE_S` compares what its
graphs find with an exact search of the same segments. It reports the mean recall@10 of the last `RESULTS_KEPT` per
collection. What is exact anyway (exact queries, collections without a graph) is not sampled.

An exact search reads every vector. So a probe takes at most `TIME_FRACTION_MAX` of the time, on a thread that gives way
to searches, and none is made where the vectors have more than `VECTOR_BYTES_MAX`: that would push what searches need out
of the page cache. A shard that is never quiet is not probed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from shards.batch import Vectors
from shards.collection import ShardCollection
from shards.hnsw import has_graph
from shards.index import SearchPlan, VectorIndex
from shards.nearest import Want, nearest

SAMPLE_EVERY = 100
IDLE_S = 0.2
TIME_FRACTION_MAX = 0.01
RESULTS_KEPT = 200
K_MAX = 10
VECTOR_BYTES_MAX = 1024 * 1024 * 1024

log = logging.getLogger(__name__)
Clock = Callable[[], float]


class LiveRecall(NamedTuple):
    """`recall`: mean recall@10 (at k where fewer were asked for), 0 to 1, of the last `query_count` sampled queries."""

    recall: float
    query_count: int


@dataclass(slots=True)
class _Sample:
    collection: ShardCollection
    query: Vectors
    plan: SearchPlan


@dataclass(slots=True)
class RecallProbe:
    """One per shard, on its loop; `clock` gives seconds and never goes back."""

    executor: Executor
    clock: Clock
    sampled_count: int = 0
    _countdown: int = 1
    _last_query_at: float = 0.0
    _sample: _Sample | None = None
    _results: dict[str, deque[float]] = field(default_factory=dict)

    def saw(self, collection: ShardCollection, queries: Vectors, plan: SearchPlan) -> None:
        """Queries (nq, dim) were answered. Costs next to nothing."""
        self._last_query_at = self.clock()
        self._countdown -= len(queries)
        if (
            self._countdown <= 0
            and not plan.exact
            and has_graph(collection.spec.layout.columns[plan.vector].distance)
        ):
            self._countdown = SAMPLE_EVERY
            self.sampled_count += 1
            self._sample = _Sample(collection, queries[:1].copy(), plan)

    def recall_of(self, collection: ShardCollection) -> LiveRecall | None:
        """What was measured lately, or None where nothing was."""
        results = self._results.get(collection.folder.name)
        return LiveRecall(fmean(results), len(results)) if results else None

    def forget(self, collection: ShardCollection) -> None:
        """The collection is gone."""
        self._results.pop(collection.folder.name, None)
        if self._sample is not None and self._sample.collection is collection:
            self._sample = None

    async def run(self) -> None:
        """Probe until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(IDLE_S)
            sample = self._sample
            if sample is None or self.clock() - self._last_query_at < IDLE_S:
                continue
            self._sample = None
            began = self.clock()
            try:
                found = await loop.run_in_executor(
                    self.executor, measure_recall, sample.collection.snapshot(), sample.query, sample.plan
                )
            except Exception:
                log.exception("a recall probe of %s failed", sample.collection)
                continue
            if found is not None:
                name = sample.collection.folder.name
                self._results.setdefault(name, deque(maxlen=RESULTS_KEPT)).append(found)
            await asyncio.sleep((self.clock() - began) / TIME_FRACTION_MAX)


def measure_recall(segments: Sequence[VectorIndex], query: Vectors, plan: SearchPlan) -> float | None:
    """Recall@min(k, 10) of one query (1, dim) over a snapshot; None where it would say nothing, or cost too much."""
    row_count = sum(segment.row_count for segment in segments)
    if not row_count or 4 * row_count * query.shape[1] > VECTOR_BYTES_MAX:
        return None
    k = min(plan.k, K_MAX)
    found = nearest(segments, query, SearchPlan(k, max(plan.ef, plan.k), vector=plan.vector), Want())
    exact = nearest(segments, query, SearchPlan(k, plan.ef, exact=True, vector=plan.vector), Want())
    wanted = exact.keys[0, : exact.counts[0]]
    if not len(wanted):
        return None
    hits = set(found.keys[0, : found.counts[0]].tolist()).intersection(wanted.tolist())
    return len(hits) / len(wanted)
