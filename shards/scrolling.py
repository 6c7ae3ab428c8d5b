"""Points in an order: of their ids from one on, or of the numbers or dates in a payload field. One page of one shard.

A router merges the pages of several shards and cuts them (cluster/scrolling.py): the first `limit` of all are among the
first `limit` of each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shards.batch import PointBatch, concatenate, make_batch
from shards.filter_memo import matching
from shards.filter_query import FilterQuery
from shards.filters.dates import instant
from shards.filters.indexes import document_of
from shards.filters.paths import JsonPath, select, unwrap
from shards.index import Rows, VectorIndex, live_rows
from shards.nearest import Want
from shards.point_ids import KeyArray, key_array, key_list
from shards.records import Records

OrderValue = int | float


class Order(NamedTuple):
    """Ascending unless `descends`; what comes before `start_from` is left out."""

    field: JsonPath
    descends: bool = False
    start_from: OrderValue | None = None


class ScrollPlan(NamedTuple):
    """At most `limit` points that match, from the id `offset` (a key) on, or in an order of their values."""

    limit: int
    offset: int | None
    filter: FilterQuery | None
    order: Order | None
    want: Want


@dataclass(frozen=True, slots=True)
class Page:
    """The records in their order; with an Order what each stands there for, once for each different value."""

    records: Records
    order_values: list[OrderValue] | None = None


class _Place(NamedTuple):
    """Where a point is; compared by what it is ordered by, then by id."""

    value: OrderValue
    key: int
    segment: int
    row: int


def scroll(segments: Sequence[VectorIndex], plan: ScrollPlan) -> Page:
    """The page. By id it costs the rows that are passed over; by value a look at the payload of every point that matches."""
    find = _by_id if plan.order is None else _by_value
    parts = [find(segment, number, plan) for number, segment in enumerate(segments) if segment.live_count]
    descends = plan.order is not None and plan.order.descends
    places = heapq.nsmallest(plan.limit, (place for part in parts for place in part), key=_sort_key(descends))
    records = _records(segments, places, plan.want)
    return Page(records, None if plan.order is None else [place.value for place in places])


def order_value_of(value: Any) -> OrderValue | None:
    """What a payload's value is ordered by: a number as it is, a date as microseconds; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return instant(value) if isinstance(value, str) else None


def _sort_key(descends: bool) -> Any:
    return (lambda place: (-place.value, place.key)) if descends else (lambda place: (place.value, place.key))


def _matching_rows(segment: VectorIndex, plan: ScrollPlan) -> Rows:
    return live_rows(segment) if plan.filter is None else np.flatnonzero(matching(segment, plan.filter))


def _by_id(segment: VectorIndex, number: int, plan: ScrollPlan) -> list[_Place]:
    rows = _matching_rows(segment, plan)
    keys = segment.keys_of(rows)
    if plan.offset is not None:
        kept = _from(keys, plan.offset)
        rows, keys = rows[kept], keys[kept]
    if len(rows) > plan.limit:
        first = np.argsort(keys, kind="stable")[: plan.limit]
        rows, keys = rows[first], keys[first]
    return [_Place(0, key, number, row) for key, row in zip(key_list(keys), rows.tolist(), strict=True)]


def _from(keys: KeyArray, offset: int) -> Any:
    """Which keys are `offset` or behind it."""
    bound = key_array([offset])
    if bound.dtype != keys.dtype and keys.dtype == np.uint64:
        return np.zeros(len(keys), np.bool_)  # integers, and the offset is a UUID: they stand before all of those
    if bound.dtype != keys.dtype:
        bound = np.array([offset.to_bytes(keys.dtype.itemsize, "big")], keys.dtype)
    return keys >= bound[0]


def _by_value(segment: VectorIndex, number: int, plan: ScrollPlan) -> list[_Place]:
    assert plan.order is not None
    rows = _matching_rows(segment, plan)
    places = (
        _Place(value, key, number, row)
        for key, row in zip(key_list(segment.keys_of(rows)), rows.tolist(), strict=True)
        for value in _values(segment.payload(row), plan.order)
    )
    return heapq.nsmallest(plan.limit, places, key=_sort_key(plan.order.descends))


def _values(payload: bytes, order: Order) -> Iterator[OrderValue]:
    """The different values of a point that it is ordered by."""
    found = (order_value_of(value) for value in unwrap(select(document_of(payload), order.field)))
    for value in dict.fromkeys(value for value in found if value is not None):
        if order.start_from is None or (value <= order.start_from if order.descends else value >= order.start_from):
            yield value


def _records(segments: Sequence[VectorIndex], places: list[_Place], want: Want) -> Records:
    versions = np.array(
        [segments[place.segment].versions_of(np.array([place.row]))[0] for place in places], np.uint64
    )
    batches: list[PointBatch] = [
        make_batch(
            key_array([place.key]),
            segments[place.segment].vectors_of(np.array([place.row]))
            if want.vectors
            else np.zeros((1, 0), np.float32),
            [segments[place.segment].payload(place.row) if want.payloads else b""],
        )
        for place in places
    ]
    empty = make_batch(key_array([]), np.zeros((0, 0), np.float32), [])
    return Records(versions, concatenate(batches) if batches else empty)
