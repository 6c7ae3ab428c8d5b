"""A cluster in memory for tests of the HTTP layer: brute force, one shard, nothing durable.

It keeps the promises of `ClusterApi` one point at a time, with dictionaries, so that a test compares two implementations.
`requests` holds what was searched; `problem` makes every call fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import orjson

from cluster.aliases import AliasAction, change_aliases
from cluster.api_keys import KeyChange, Keys, apply_change
from cluster.breaker import Breaker, BreakerStatus
from cluster.collection_settings import encode_settings, merge_settings
from cluster.gather_counts import GatherCounts
from cluster.requests import (
    ANY_POINT,
    CollectionStatistics,
    MissingShard,
    OrderBy,
    PointCount,
    QueryHits,
    Record,
    ScrollPage,
    ScrollRequest,
    SearchAnswer,
    SearchRequest,
    Selection,
    UpsertCondition,
    WriteReceipt,
)
from cluster.scope import Named, check_same, scope_of
from cluster.shard_map import even_map
from cluster.snapshot_model import SnapshotContent, SnapshotDescription, content_of
from cluster.snapshot_recovery import Recovery
from cluster.state import ClusterState, CollectionState, ShardAddress, ShardState
from cluster.tenant_guard import check_own, check_whole, guard_of, narrowed
from cluster.tenants import checked_change
from shards.batch import PointBatch, Vectors
from shards.distance import exact_distances, passes_threshold, scores
from shards.errors import Conflict, InvalidRequest, NotFound, ShardUnavailable, ShoalError
from shards.field_schema import FieldSchema
from shards.filters.dates import instant
from shards.filters.parsing import FilterLimits, decode_filter
from shards.filters.paths import parse_path, select, unwrap
from shards.filters.semantics import Identity, matches
from shards.point_change import ChangeKind, PointChange, changed_payload, decode_change
from shards.point_ids import key_list
from shards.point_writes import foreign_id
from shards.schema import CollectionSpec
from shards.tenant_names import names_in
from shards.vector_layout import VectorColumn, VectorLayout

_LIMITS = FilterLimits(filter_conditions_max=100_000, filter_depth_max=50)


@dataclass
class FakePoint:
    vector: Vectors
    payload: bytes
    version: int

    @property
    def document(self) -> dict[str, Any]:
        return orjson.loads(self.payload) if self.payload else {}

    def has(self, column: VectorColumn) -> bool:
        return not np.isnan(column.of(self.vector)[0])


Points = dict[int, FakePoint]


class FakePointReads:
    """The part that reads points. `points` by collection and key; `fields` that are declared, by collection and path."""

    problem: Exception | None
    requests: list[SearchRequest]
    deadlines: list[float]
    points: dict[str, Points]
    fields: dict[str, dict[str, FieldSchema]]
    held: dict[str, CollectionState]
    missing: tuple[MissingShard, ...]

    def collection(self, about: Named) -> CollectionState:
        scope = scope_of(about)
        if scope.name not in self.held:
            raise NotFound(f"Not found: Collection `{scope.name}` doesn't exist!")
        check_same(scope, self.held[scope.name])
        return self.held[scope.name]

    async def retrieve(
        self, about: Named, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        self._called(about, deadline_s)
        points = self._matching(about, b"")
        return [_record(key, points[key], with_payload, with_vectors) for key in keys if key in points]

    async def count(
        self, about: Named, deadline_s: float, encoded_filter: bytes = b"", min_coverage: float = 1.0
    ) -> PointCount:
        self._called(about, deadline_s)
        coverage, missing = self._coverage(min_coverage)
        return PointCount(len(self._matching(about, encoded_filter)), coverage, missing)

    async def scroll(self, about: Named, request: ScrollRequest, deadline_s: float) -> ScrollPage:
        self._called(about, deadline_s)
        found = self._matching(about, request.filter)
        order_values, next_key = None, None
        if request.order_by is None:
            ordered = [(key, found[key]) for key in sorted(found) if key >= (request.offset or 0)]
            next_key = ordered[request.limit][0] if len(ordered) > request.limit else None
        else:
            valued = _in_order(found, request.order_by)[: request.limit]
            ordered, order_values = [(key, found[key]) for _, key in valued], [value for value, _ in valued]
        page = [
            _record(key, point, request.with_payload, request.with_vectors) for key, point in ordered[: request.limit]
        ]
        return ScrollPage(page, next_key, order_values, *self._coverage(request.min_coverage))

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        _, layout = self._called(about, deadline_s)
        self.requests.append(request)
        column = layout.columns[layout.number_of(request.vector)]
        held = [one for one in sorted(self._matching(about, request.filter).items()) if one[1].has(column)]
        rows = np.array([point.vector for _, point in held], np.float32).reshape(len(held), layout.dim)
        found = []
        for query in request.vectors:
            distances = exact_distances(column.of(rows), query, column.distance)
            order = np.argsort(distances, kind="stable")
            if request.score_threshold is not None:
                found_scores = scores(distances[order], column.distance)
                order = order[passes_threshold(found_scores, request.score_threshold, column.distance)]
            order = order[request.offset : request.offset + request.k]
            found.append(_query_hits([held[row] for row in order.tolist()], distances[order].tolist(), request))
        coverage, missing = self._coverage(request.min_coverage)
        return SearchAnswer(found, coverage, missing=missing)

    async def statistics(self, about: Named, deadline_s: float) -> list[CollectionStatistics]:
        check_whole(scope_of(about))
        points, _ = self._called(about, deadline_s)
        count = len(points)
        fields = {
            path: {
                "schema": schema.model_dump(mode="json"),
                "points": sum(bool(unwrap(select(point.document, parse_path(path)))) for point in points.values()),
            }
            for path, schema in self.fields[scope_of(about).name].items()
        }
        return [
            CollectionStatistics(0, count, 1, count, 4 * count, fields=fields, memory={"shard": {"used_bytes": 7}})
        ]

    def _coverage(self, min_coverage: float) -> tuple[float, tuple[MissingShard, ...]]:
        """As of a cluster whose shards `missing` are away."""
        coverage = 1.0 - len(self.missing) / 4
        if coverage < min_coverage:
            raise ShardUnavailable(f"coverage {coverage}, {min_coverage} was asked for", 1.0)
        return coverage, self.missing

    async def silent_shards(self, deadline_s: float) -> dict[int, ShoalError]:
        self.deadlines.append(deadline_s)
        return {0: self.problem} if isinstance(self.problem, ShoalError) else {}

    def _called(self, about: Named | None, deadline_s: float) -> tuple[Points, VectorLayout]:
        self.deadlines.append(deadline_s)
        if self.problem is not None:
            raise self.problem
        if about is None:
            return {}, VectorLayout.of([])
        layout = self.collection(about).spec.layout
        return self.points[scope_of(about).name], layout

    def _matching(self, about: Named, encoded_filter: bytes) -> Points:
        """The points that match, of those that the scope may touch."""
        points = self.points[scope_of(about).name]
        narrow = narrowed(encoded_filter, guard_of(scope_of(about), self.collection(about)))
        return {key: point for key, point in points.items() if self._matches(about, narrow, key)}

    def _matches(self, about: Named, encoded_filter: bytes, key: int) -> bool:
        if not encoded_filter:
            return True
        point = self.points[scope_of(about).name][key]
        names = {column.name for column in self.collection(about).spec.layout.columns if point.has(column)}
        return matches(decode_filter(encoded_filter, _LIMITS), point.document, Identity(key, names))


class FakePointWrites(FakePointReads):
    """The part that writes points. `lsn` counts writes."""

    lsn: int

    async def upsert(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        points, _ = self._called(about, deadline_s)
        foreign: set[int] = set()
        if guard := guard_of(scope_of(about), self.collection(about)):
            check_own(batch, guard, scope_of(about))
            own = self._matching(about, b"")
            foreign = {key for key in key_list(batch.keys) if key in points and key not in own}
            if foreign and condition.mode != "update_only":
                raise foreign_id(min(foreign))
        self.lsn += 1
        for row, key in enumerate(key_list(batch.keys)):
            if key in foreign or condition.mode == ("insert_only" if key in points else "update_only"):
                continue
            if key not in points or self._matches(about, condition.filter, key):
                points[key] = FakePoint(batch.vectors[row], batch.payload(row), self.lsn)
        return WriteReceipt(self.lsn)

    async def delete(self, about: Named, selection: Selection, deadline_s: float) -> WriteReceipt:
        self._called(about, deadline_s)
        self.lsn += 1
        for key in self._selected(about, selection):
            del self.points[scope_of(about).name][key]
        return WriteReceipt(self.lsn)

    async def change(
        self, about: Named, selection: Selection, change: PointChange, deadline_s: float
    ) -> WriteReceipt:
        points, layout = self._called(about, deadline_s)
        state = self.collection(about)
        field = state.owner_field if scope_of(about).tenants else state.tenant_field
        change = decode_change(checked_change(change, field).encode())
        for key in self._selected(about, selection) if change.keeps else []:
            if changes_owner(points[key].payload, change):
                raise InvalidRequest(f"`{change.keeps}` of point {key} is another")
        self.lsn += 1
        for key in self._selected(about, selection):
            vector = points[key].vector.copy()
            if change.kind is ChangeKind.DROP_VECTORS:
                for number in change.numbers:
                    layout.columns[number].of(vector)[:] = np.nan
            points[key] = FakePoint(vector, changed_payload(points[key].payload, change), self.lsn)
        return WriteReceipt(self.lsn)

    async def update_vectors(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        self._called(about, deadline_s)
        points = self.points[scope_of(about).name]
        own = self._matching(about, b"")
        self.lsn += 1
        for row, key in enumerate(key_list(batch.keys)):
            if key in own and self._matches(about, condition.filter, key):
                given, point = batch.vectors[row], points[key]
                points[key] = FakePoint(np.where(np.isnan(given), point.vector, given), point.payload, self.lsn)
        return WriteReceipt(self.lsn)

    async def create_index(self, about: Named, field: str, schema: FieldSchema, deadline_s: float) -> None:
        check_whole(scope_of(about))
        self._called(about, deadline_s)
        name = scope_of(about).name
        if schema.is_tenant:
            declared = "late_tenant_field" if self.points[name] else "tenant_field"
            self.held[name] = self.held[name].model_copy(update={declared: field})
        self.fields[name][field] = schema

    async def delete_index(self, about: Named, field: str, deadline_s: float) -> bool:
        check_whole(scope_of(about))
        self._called(about, deadline_s)
        return self.fields[scope_of(about).name].pop(field, None) is not None

    def _selected(self, about: Named, selection: Selection) -> list[int]:
        if selection.keys is not None:
            own = self._matching(about, b"")
            return [key for key in selection.keys if key in own]
        assert selection.filter is not None
        return list(self._matching(about, selection.filter))


@dataclass
class FakeCluster(FakePointWrites):
    """See the module."""

    lsn: int = 0
    problem: Exception | None = None
    requests: list[SearchRequest] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    points: dict[str, Points] = field(default_factory=dict)
    fields: dict[str, dict[str, FieldSchema]] = field(default_factory=dict)
    held: dict[str, CollectionState] = field(default_factory=dict)
    keys: Keys = ()
    missing: tuple[MissingShard, ...] = ()
    gather_counts: GatherCounts = field(default_factory=GatherCounts)
    aliases: dict[str, str] = field(default_factory=dict)
    uids: Iterator[int] = field(default_factory=count)
    unseen: dict[str, str] = field(default_factory=dict)
    taken: list[SnapshotDescription] = field(default_factory=list)
    recovered: list[tuple[str, bytes]] = field(default_factory=list)
    """Collections, and what they were recovered of: a snapshot's name, or a file's bytes."""

    guarded: Breaker = field(default_factory=Breaker)
    """The breaker of shard 0."""

    extras_allowed: bool = True

    def allow_extras(self, allowed: bool) -> None:
        self.extras_allowed = allowed

    def breakers(self) -> dict[int, BreakerStatus]:
        return {0: self.guarded.status(0.0)}

    @property
    def state(self) -> ClusterState:
        address = ShardAddress(host="127.0.0.1", port=7)
        shard = ShardState(shard_id=0, node_id="node", address=address, incarnation="a")
        return ClusterState(
            version=1,
            cluster_id="fake",
            shards=(shard,),
            collections=dict(self.held),
            keys=self.keys,
            aliases=dict(self.aliases),
        )

    @property
    def catalogue(self) -> FakeCatalogue:
        return FakeCatalogue(self)

    @property
    def snapshots(self) -> FakeSnapshots:
        return FakeSnapshots(self)

    async def create_collection(
        self,
        name: str,
        spec: CollectionSpec,
        shard_count: int | None,
        deadline_s: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._called(None, deadline_s)
        if name in self.held:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        if name in self.aliases:
            raise InvalidRequest(f"`{name}` is an alias")
        self.held[name] = CollectionState(
            name=name,
            uid=f"{next(self.uids):032x}",
            spec=spec,
            shard_map=even_map([0], epoch=1),
            status="ready",
            settings=encode_settings(settings or {}),
        )
        self.points[name], self.fields[name] = {}, {}

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        self._called(None, deadline_s)
        self.points.pop(name, None)
        self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}
        return self.held.pop(name, None) is not None


class FakeSnapshots:
    """What `ClusterApi.snapshots` promises, of snapshots that hold nothing. `EXAMPLE` can be recovered at any time."""

    EXAMPLE = "snapshot-2026-11-28-09-30-00-a1b2c3"
    DATA = b"a file" * 1000

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def create(self, about: Named, deadline_s: float) -> SnapshotDescription:
        self._cluster._called(about, deadline_s)
        taken = self._cluster.taken
        content = content_of(self._cluster.collection(about), f"snapshot-{len(taken)}", 1.0 + len(taken), {})
        taken.append(SnapshotDescription(content=content, byte_count=len(self.DATA), sha256="ab" * 32))
        return taken[-1]

    async def list_of(self, collection: str, deadline_s: float) -> list[SnapshotDescription]:
        self._cluster._called(None, deadline_s)
        found = [one for one in self._cluster.taken if one.content.collection == collection]
        if not found:
            self._cluster.collection(collection)
        return found

    async def find(self, collection: str, name: str, deadline_s: float) -> SnapshotDescription:
        for one in await self.list_of(collection, deadline_s):
            if one.content.name == name:
                return one
        raise NotFound(f"Not found: Snapshot `{name}`")

    async def archive(self, content: SnapshotContent, deadline_s: float) -> AsyncIterator[bytes]:
        for start in range(0, len(self.DATA), 999):
            yield self.DATA[start : start + 999]

    async def delete(self, collection: str, name: str, deadline_s: float) -> None:
        self._cluster.taken.remove(await self.find(collection, name, deadline_s))

    async def recover(self, recovery: Recovery, name: str, deadline_s: float) -> None:
        self._cluster._called(None, deadline_s)
        sources = {one.content.name: one.content.collection for one in self._cluster.taken}
        if name not in sources and name != self.EXAMPLE:
            raise NotFound(f"Not found: Snapshot `{name}`")
        recovery.check_source(sources.get(name, recovery.collection))
        self._cluster.recovered.append((recovery.collection, name.encode()))

    async def recover_archive(self, recovery: Recovery, chunks: AsyncIterator[bytes], deadline_s: float) -> None:
        self._cluster._called(None, deadline_s)
        data = b"".join([chunk async for chunk in chunks])
        self._cluster.recovered.append((recovery.collection, data))


def changes_owner(payload: bytes, change: PointChange) -> bool:
    """Whether the change gives the point other names than it has in what the change has to keep."""
    field = parse_path(change.keeps or "")
    return names_in(changed_payload(payload, change), field) != names_in(payload, field)


def _record(key: int, point: FakePoint, with_payload: bool, with_vectors: bool) -> Record:
    return Record(key, point.version, point.payload if with_payload else b"", point.vector if with_vectors else None)


def _in_order(points: Points, order_by: OrderBy) -> list[tuple[float, int]]:
    """Each point with each of its different values, in order; of equal ones the lower key first."""
    path, valued = parse_path(order_by.field), set()
    for key, point in points.items():
        for element in unwrap(select(point.document, path)):
            value = instant(element) if isinstance(element, str) else element
            if isinstance(value, int | float) and not isinstance(value, bool):
                valued.add((value, key))
    start = order_by.start_from
    if start is not None:
        valued = {(value, key) for value, key in valued if (value <= start if order_by.descends else value >= start)}
    return sorted(valued, key=lambda one: (-one[0] if order_by.descends else one[0], one[1]))


class FakeCatalogue:
    """What `ClusterApi.catalogue` promises, on the cluster's own aliases and collections."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def refresh(self) -> None:
        """There is one state, and it is the newest; `unseen` is what another router made."""
        self._cluster.aliases.update(self._cluster.unseen)

    async def change_aliases(self, actions: Sequence[AliasAction], deadline_s: float) -> None:
        cluster = self._cluster
        cluster._called(None, deadline_s)
        cluster.aliases = change_aliases(cluster.aliases, actions, cluster.held, cluster.held)

    async def update_collection(self, name: str, changes: Mapping[str, Any], deadline_s: float) -> None:
        cluster = self._cluster
        cluster._called(None, deadline_s)
        found = cluster.collection(name)
        settings = merge_settings(found.settings, changes)
        cluster.held[found.name] = found.model_copy(update={"settings": settings})

    async def change_keys(self, change: KeyChange, deadline_s: float) -> None:
        self._cluster._called(None, deadline_s)
        self._cluster.keys = apply_change(self._cluster.keys, change)


def _query_hits(held: list[tuple[int, FakePoint]], distances: list[float], request: SearchRequest) -> QueryHits:
    points = [point for _, point in held]
    return QueryHits(
        distances,
        [key for key, _ in held],
        [point.version for point in points],
        [point.payload for point in points] if request.with_payload else None,
        [point.vector for point in points] if request.with_vectors else None,
    )
