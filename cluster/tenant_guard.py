"""Keeping a request within some tenants: the filter that their points match, put where everything goes through. Pure.

The guard is an encoded filter, because every way to points knows filters: a search, a page and a count are narrowed by it
before they leave; a look-up by ids and a write take it beside the ids, and the shard decides when it is their turn
(shards/point_writes.py). So a point of another tenant is, for such a request, not there. Upserts alone can tell: an id names
one point of a collection, whoever's it is, so one that another tenant has is refused.

Whose a point is says the collection's tenant field. Where that was declared late, points may hold several names; such a
point is a request's own only if it may touch every one of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from cluster.scope import Scope
from cluster.state import CollectionState
from shards.batch import PointBatch
from shards.errors import Forbidden
from shards.filter_query import KEPT_BYTES_MAX, LIMITS, filter_query
from shards.filters.parsing import encode_filter, parse_filter
from shards.filters.semantics import NOBODY, check_of_leaf, compile_check
from shards.point_ids import key_list, point_id


def guard_of(scope: Scope, collection: CollectionState) -> bytes:
    """The encoded filter that matches what the request may touch; b"": everything. Raises Forbidden where the collection does
    not say whose its points are.
    """
    if not scope.tenants:
        return b""
    if collection.owner_field is None:
        raise Forbidden(
            f"Forbidden: this key is for points of {in_words(scope.tenants)} alone, and collection `{scope.name}` has no tenant"
            " field that says whose a point is: declare it, a keyword index with `is_tenant`, or use a key without a tenant"
        )
    return _guard(collection.owner_field, scope.tenants, collection.tenant_field is None)


@lru_cache(maxsize=4096)
def _guard(field: str, tenants: tuple[str, ...], may_have_several: bool) -> bytes:
    raw: dict[str, Any] = {"must": [{"key": field, "match": {"any": [*tenants]}}]}
    if may_have_several:
        raw["must_not"] = [{"key": field, "match": {"except": [*tenants]}}]
    return encode_filter(parse_filter(raw, LIMITS))


def narrowed(encoded_filter: bytes, guard: bytes) -> bytes:
    """The filter of what matches both; either may be b""."""
    if not encoded_filter or not guard:
        return encoded_filter or guard
    is_short = len(encoded_filter) + len(guard) <= KEPT_BYTES_MAX
    return _both_kept(encoded_filter, guard) if is_short else _both(encoded_filter, guard)


def _both(encoded_filter: bytes, guard: bytes) -> bytes:
    """Clauses stand side by side, so that the filter gets no deeper. One that is narrowed already stays as it is."""
    whole: dict[str, Any] = orjson.loads(encoded_filter)
    for clause, conditions in orjson.loads(guard).items():
        given = whole.get(clause) or []
        given = given if isinstance(given, list) else [given]
        whole[clause] = given if given[: len(conditions)] == conditions else [*conditions, *given]
    return orjson.dumps(whole)


_both_kept = lru_cache(maxsize=1024)(_both)


def check_own(batch: PointBatch, guard: bytes, scope: Scope) -> None:
    """Raises Forbidden with the first point of an upsert that would not be the request's own."""
    is_own = compile_check(filter_query(guard).node, check_of_leaf)
    for row, key in enumerate(key_list(batch.keys)):
        if not is_own(orjson.loads(batch.payload(row) or b"{}"), NOBODY):
            raise Forbidden(
                f"Forbidden: this key may write points of {in_words(scope.tenants)} alone, and the payload of point"
                f" {point_id(key)} says otherwise"
            )


def check_whole(scope: Scope) -> None:
    """Raises Forbidden where the request is kept within tenants, for what concerns everybody's points."""
    if scope.tenants:
        raise Forbidden(
            f"Forbidden: this key is for points of {in_words(scope.tenants)} alone, and this concerns all of"
            f" collection `{scope.name}`"
        )


def in_words(tenants: tuple[str, ...]) -> str:
    """How an error names them."""
    first = f"tenant `{tenants[0][:40]}`"
    return first if len(tenants) == 1 else f"{first} and {len(tenants) - 1} more"
