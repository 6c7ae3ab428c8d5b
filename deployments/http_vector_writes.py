"""The routes that write some of a point's vectors: give it new ones, take some away.

Of an id that occurs twice in one request each vector's last value counts.
"""

from __future__ import annotations

import numpy as np

from cluster.requests import UpsertCondition
from deployments.http_filters import encoded_filter, parse_keys, selected_first
from deployments.http_message import HttpContext, Reply, Request
from deployments.http_models import VectorNamesBody, VectorsBody
from deployments.http_vectors import pack_points
from deployments.http_writes import Change, NewVectors, answer_write
from deployments.limits import LimitSettings
from shards.batch import Vectors, make_batch
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import key_array
from shards.schema import CollectionSpec


async def update_vectors(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/points/vectors"""
    return await answer_write(context, request, VectorsBody, prepare_vectors_update)


async def delete_vectors(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/vectors/delete"""
    return await answer_write(context, request, VectorNamesBody, prepare_vectors_deletion)


def prepare_vectors_update(body: VectorsBody, spec: CollectionSpec, limits: LimitSettings) -> NewVectors:
    """The new vectors, ready to be sent."""
    keys = parse_keys([point.id for point in body.points], "points[{}].id", limits)
    packed = pack_points([point.vector for point in body.points], spec, "points[{}].vector")
    prepared = spec.layout.prepare(packed, "point")
    rows = {key: row for row, key in reversed(list(enumerate(keys)))}
    if len(rows) < len(keys):
        prepared = _merged(prepared, [rows[key] for key in keys])[sorted(rows.values())]
        keys = list(dict.fromkeys(keys))
    update_filter = encoded_filter(body.update_filter, limits, "update_filter")
    batch = make_batch(key_array(keys), prepared, [b""] * len(keys))
    return NewVectors(batch, UpsertCondition(filter=update_filter))


def prepare_vectors_deletion(body: VectorNamesBody, spec: CollectionSpec, limits: LimitSettings) -> Change:
    """Which vectors go, of which points."""
    selection = selected_first(body, limits)
    numbers = tuple(sorted({spec.layout.number_of(name) for name in body.vector}))
    return Change(selection, PointChange(kind=ChangeKind.DROP_VECTORS, numbers=numbers))


def _merged(rows: Vectors, targets: list[int]) -> Vectors:
    """A copy in which each row's vectors are written over those of its target, in order."""
    merged = rows.copy()
    for row, target in zip(rows, targets, strict=True):
        there = ~np.isnan(row)
        merged[target][there] = row[there]
    return merged
