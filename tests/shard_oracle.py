"""What a shard should answer: a dict of points, brute force over it, and short ways to make ops for both."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shards.batch import PointBatch, Vectors, encode_batch, encode_keys, make_batch
from shards.collection import ShardCollection
from shards.distance import Distance, normalised
from shards.index import SearchPlan
from shards.log_frame import LogOp, OpKind
from shards.nearest import Want
from shards.point_ids import key_array, key_list
from shards.recovery import create_collection, open_collection
from shards.schema import CollectionSpec, HnswSpec, VectorSpec
from shards.settings import ShardSettings
from shards.vector_layout import VectorColumn

UID = "0123456789abcdef" * 2
DIM = 8
WIDE_DIM = 256
"""So wide that 64 rows fill the smallest growing segment."""
SMALL = ShardSettings(seal_bytes=64 * 1024, exact_scan_bytes=0)
"""Seals after 64 rows of WIDE_DIM, and searches every sealed segment by its graph."""


def spec_of(distance: Distance = Distance.EUCLID, dim: int = DIM) -> CollectionSpec:
    return CollectionSpec(
        vectors={"": VectorSpec(size=dim, distance=distance)}, hnsw=HnswSpec(m=6, ef_construction=40)
    )


NAMED = CollectionSpec(
    vectors={
        "": VectorSpec(size=16, distance=Distance.COSINE),
        "image": VectorSpec(size=200, distance=Distance.EUCLID, hnsw=HnswSpec(m=4, ef_construction=40)),
        "title": VectorSpec(size=40, distance=Distance.MANHATTAN),
    },
    hnsw=HnswSpec(m=6, ef_construction=40),
)
"""Three vectors, WIDE_DIM components together."""


def vectors_of(seeds: Iterable[int], dim: int = DIM, distance: Distance = Distance.EUCLID) -> Vectors:
    """A vector for each seed, the same each time; fit for the distance."""
    rows = [np.random.default_rng(seed).standard_normal(dim, np.float32) for seed in seeds]
    vectors = np.array(rows, np.float32).reshape(len(rows), dim)
    return normalised(vectors) if distance is Distance.COSINE else vectors


def batch_of(
    keys: Sequence[int], version: int = 0, dim: int = DIM, distance: Distance = Distance.EUCLID
) -> PointBatch:
    """Points whose vector and payload follow from key and `version`."""
    vectors = vectors_of([(key * 1_000 + version) % 2**63 for key in keys], dim, distance)
    return make_batch(key_array(keys), vectors, [b'{"v":[%d,%d]}' % (key, version) for key in keys])


def named_batch_of(keys: Sequence[int], version: int = 0) -> PointBatch:
    """The same for NAMED. Of three points two have each vector, one key in seven has none."""
    batch = batch_of(keys, version, WIDE_DIM)
    rows = batch.vectors.copy()
    for row, key in enumerate(keys):
        for number, column in enumerate(NAMED.layout.columns):
            if (key + version + number) % 3 == 0 or (key + version) % 7 == 0:
                column.of(rows)[row] = np.nan
    return PointBatch(batch.keys, NAMED.layout.prepare(rows), batch.payload_offsets, batch.payloads)


def upsert_op(batch: PointBatch, op_id: bytes | None = None) -> LogOp:
    return LogOp(OpKind.UPSERT, op_id or uuid.uuid4().bytes, encode_batch(batch))


def delete_op(keys: Sequence[int], op_id: bytes | None = None) -> LogOp:
    return LogOp(OpKind.DELETE, op_id or uuid.uuid4().bytes, encode_keys(key_array(keys)))


def new_collection(folder: Path, settings: ShardSettings | None = None, spec: CollectionSpec | None = None):
    create_collection(folder, UID, spec or spec_of())
    return reopened(folder, settings)


def reopened(folder: Path, settings: ShardSettings | None = None) -> ShardCollection:
    return open_collection(folder, UID, settings or ShardSettings()).collection


@dataclass(frozen=True)
class OraclePoint:
    vector: Vectors
    payload: bytes
    lsn: int


@dataclass
class Oracle:
    """The points that should live, by key."""

    points: dict[int, OraclePoint] = field(default_factory=dict)

    def upsert(self, batch: PointBatch, lsn: int) -> None:
        for row, key in enumerate(key_list(batch.keys)):
            self.points[key] = OraclePoint(batch.vectors[row].copy(), batch.payload(row), lsn)

    def delete(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.points.pop(key, None)

    def distances(self, query: Vectors, column: VectorColumn) -> dict[int, float]:
        """The distance of one query (size,) to every point that has the vector, in float64."""
        wide = query.astype(np.float64)
        measured = {}
        for key, point in self.points.items():
            vector = column.of(point.vector).astype(np.float64)
            if np.isnan(vector).all():
                continue
            if column.distance in (Distance.COSINE, Distance.DOT):
                measured[key] = 1.0 - float(vector @ wide)
            elif column.distance is Distance.EUCLID:
                measured[key] = float(((vector - wide) ** 2).sum())
            else:
                measured[key] = float(np.abs(vector - wide).sum())
        return measured


def check_same(collection: ShardCollection, oracle: Oracle, queries: Vectors) -> None:
    """Count, every record, and exact search by each vector agree with the oracle. `queries` (nq, row dim)."""
    assert collection.count() == len(oracle.points)
    records = collection.retrieve(key_array([*oracle.points, 2**63 + 11]), Want(payloads=True, vectors=True))
    assert sorted(key_list(records.batch.keys)) == sorted(oracle.points)
    for row, key in enumerate(key_list(records.batch.keys)):
        point = oracle.points[key]
        assert (int(records.versions[row]), records.batch.payload(row)) == (point.lsn, point.payload), key
        np.testing.assert_array_equal(records.batch.vectors[row], point.vector)
    for number in range(len(collection.spec.layout.columns)):
        for k in (1, 5, len(oracle.points) + 3):
            check_search(collection, oracle, queries, SearchPlan(k, 16, exact=True, vector=number))


def check_search(collection: ShardCollection, oracle: Oracle, queries: Vectors, plan: SearchPlan) -> None:
    """The k nearest points, each once, with the right distance, version and payload; equal distances in any order."""
    column = collection.spec.layout.columns[plan.vector]
    asked = np.ascontiguousarray(column.of(queries))
    hits = collection.search(asked, plan, Want(payloads=True, vectors=True))
    all_measured = [oracle.distances(query, column) for query in asked]
    expected_count = min(plan.k, len(all_measured[0]))
    assert hits.counts.tolist() == [expected_count] * len(queries)
    if not expected_count:
        return
    for number, measured in enumerate(all_measured):
        keys = key_list(hits.keys[number, :expected_count])
        assert len(set(keys)) == expected_count
        assert set(keys) <= set(measured), "a dead point was found"
        np.testing.assert_allclose(
            hits.distances[number, :expected_count], [measured[key] for key in keys], rtol=1e-4, atol=1e-4
        )
        if plan.exact:
            nearest = sorted(measured.values())[:expected_count]
            np.testing.assert_allclose(hits.distances[number, :expected_count], nearest, rtol=1e-4, atol=1e-4)
        for place, key in enumerate(keys):
            point = oracle.points[key]
            assert hits.versions[number, place] == point.lsn
            assert hits.payloads[number * hits.width + place] == point.payload
            np.testing.assert_array_equal(hits.vectors[number, place], point.vector)
