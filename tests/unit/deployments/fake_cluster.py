"""A cluster in memory for tests of the HTTP layer: brute force, one shard, nothing durable.

It keeps the promises of `ClusterApi` with its own code, so that a test compares two implementations. `requests` holds
what was searched; `problem` makes every call fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.aliases import AliasAction, change_aliases
from cluster.collection_settings import encode_settings, merge_settings
from cluster.requests import CollectionStatistics, QueryHits, Record, SearchAnswer, SearchRequest, WriteReceipt
from cluster.shard_map import even_map
from cluster.state import ClusterState, CollectionState, ShardAddress, ShardState
from shards.batch import PointBatch, Vectors
from shards.distance import exact_distances, passes_threshold, scores
from shards.errors import Conflict, InvalidRequest, NotFound
from shards.point_ids import key_list
from shards.schema import CollectionSpec


@dataclass
class FakePoint:
    vector: Vectors
    payload: bytes
    version: int


@dataclass
class FakeCluster:
    """See the module. `lsn` counts writes."""

    lsn: int = 0
    problem: Exception | None = None
    requests: list[SearchRequest] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    points: dict[str, dict[int, FakePoint]] = field(default_factory=dict)
    held: dict[str, CollectionState] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> ClusterState:
        address = ShardAddress(host="127.0.0.1", port=7)
        shard = ShardState(shard_id=0, node_id="node", address=address, incarnation="a")
        return ClusterState(
            version=1, cluster_id="fake", shards=(shard,), collections=dict(self.held), aliases=dict(self.aliases)
        )

    @property
    def catalogue(self) -> FakeCatalogue:
        return FakeCatalogue(self)

    def collection(self, name: str) -> CollectionState:
        found = self.held.get(self.aliases.get(name, name))
        if found is None:
            raise NotFound(f"Not found: Collection `{name}` doesn't exist!")
        return found

    async def create_collection(
        self,
        name: str,
        spec: CollectionSpec,
        shard_count: int | None,
        deadline_s: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._called(deadline_s)
        if name in self.held:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        if name in self.aliases:
            raise InvalidRequest(f"`{name}` is an alias")
        self.held[name] = CollectionState(
            name=name,
            uid="0" * 32,
            spec=spec,
            shard_map=even_map([0], epoch=1),
            status="ready",
            settings=encode_settings(settings or {}),
        )
        self.points[name] = {}

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        self._called(deadline_s)
        self.points.pop(name, None)
        self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}
        return self.held.pop(name, None) is not None

    async def upsert(self, name: str, batch: PointBatch, deadline_s: float) -> WriteReceipt:
        self._called(deadline_s)
        self.collection(name)
        self.lsn += 1
        for row, key in enumerate(key_list(batch.keys)):
            self.points[name][key] = FakePoint(batch.vectors[row], batch.payload(row), self.lsn)
        return WriteReceipt(self.lsn)

    async def delete(self, name: str, keys: list[int], deadline_s: float) -> WriteReceipt:
        self._called(deadline_s)
        self.collection(name)
        self.lsn += 1
        for key in keys:
            self.points[name].pop(key, None)
        return WriteReceipt(self.lsn)

    async def retrieve(
        self, name: str, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        self._called(deadline_s)
        self.collection(name)
        found = [(key, self.points[name][key]) for key in keys if key in self.points[name]]
        return [
            Record(key, point.version, point.payload if with_payload else b"", point.vector if with_vectors else None)
            for key, point in found
        ]

    async def count(self, name: str, deadline_s: float) -> int:
        self._called(deadline_s)
        self.collection(name)
        return len(self.points[name])

    async def search(self, name: str, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        self._called(deadline_s)
        self.requests.append(request)
        spec = self.collection(name).spec.vector
        held = sorted(self.points[name].items())
        matrix = np.array([point.vector for _, point in held], np.float32).reshape(len(held), spec.size)
        found = []
        for query in request.vectors:
            distances = exact_distances(matrix, query, spec.distance)
            order = np.argsort(distances, kind="stable")
            if request.score_threshold is not None:
                found_scores = scores(distances[order], spec.distance)
                order = order[passes_threshold(found_scores, request.score_threshold, spec.distance)]
            order = order[request.offset : request.offset + request.k]
            found.append(_query_hits([held[row] for row in order.tolist()], distances[order].tolist(), request))
        return SearchAnswer(found, 1.0)

    async def statistics(self, name: str, deadline_s: float) -> list[CollectionStatistics]:
        self._called(deadline_s)
        count = len(self.points[self.collection(name).name])
        return [CollectionStatistics(0, count, 1, count, 4 * count, memory={"shard": {"used_bytes": 7}})]

    async def probe(self, deadline_s: float) -> None:
        self._called(deadline_s)

    def _called(self, deadline_s: float) -> None:
        self.deadlines.append(deadline_s)
        if self.problem is not None:
            raise self.problem


class FakeCatalogue:
    """What `ClusterApi.catalogue` promises, on the cluster's own aliases and collections."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def refresh(self) -> None:
        """There is one state, and it is the newest; `unseen` is what another router made."""
        self._cluster.aliases.update(self._cluster.unseen)

    async def change_aliases(self, actions: Sequence[AliasAction], deadline_s: float) -> None:
        cluster = self._cluster
        cluster._called(deadline_s)
        cluster.aliases = change_aliases(cluster.aliases, actions, cluster.held, cluster.held)

    async def update_collection(self, name: str, changes: Mapping[str, Any], deadline_s: float) -> None:
        cluster = self._cluster
        cluster._called(deadline_s)
        found = cluster.collection(name)
        settings = merge_settings(found.settings, changes)
        cluster.held[found.name] = found.model_copy(update={"settings": settings})


def _query_hits(held: list[tuple[int, FakePoint]], distances: list[float], request: SearchRequest) -> QueryHits:
    points = [point for _, point in held]
    return QueryHits(
        distances,
        [key for key, _ in held],
        [point.version for point in points],
        [point.payload for point in points] if request.with_payload else None,
        [point.vector for point in points] if request.with_vectors else None,
    )
