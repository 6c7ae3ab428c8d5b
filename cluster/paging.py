"""One page from many shards' pages. Pure. Nothing is repeated or skipped: shards are disjoint, and each has given at least as
many of its first points as the page holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from cluster.requests import Record, ScrollPage, ScrollRequest
from shards.point_ids import key_list
from shards.scrolling import OrderValue, Page


def merge_pages(pages: Sequence[Page], request: ScrollRequest) -> ScrollPage:
    """The first `limit` of all pages together, each in the request's order; by id each may hold one more than that."""
    order = request.order_by
    sign = -1 if order is not None and order.descends else 1
    streams = (_entries(page, sign, request.with_vectors) for page in pages)
    # Ties of a value are broken by id, so that the order in which shards answer makes no difference.
    merged = list(heapq.merge(*streams, key=lambda entry: (entry[0], entry[1])))
    kept = merged[: request.limit]
    records = [record for _, _, record in kept]
    if order is not None:
        return ScrollPage(records, None, [sign * value for value, _, _ in kept])
    return ScrollPage(records, merged[request.limit][1] if len(merged) > request.limit else None)


def _entries(page: Page, sign: int, with_vectors: bool) -> Iterator[tuple[OrderValue, int, Record]]:
    batch = page.records.batch
    keys, versions = key_list(batch.keys), page.records.versions.tolist()
    values = page.order_values or [0] * len(keys)
    for row, (value, key, version) in enumerate(zip(values, keys, versions, strict=True)):
        record = Record(key, version, batch.payload(row), batch.vectors[row] if with_vectors else None)
        yield sign * value, key, record
