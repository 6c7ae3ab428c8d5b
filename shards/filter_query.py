"""A filter as a shard works with it: the bytes that travelled, and what they mean. Searches that ask alike share one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from shards.filters.conditions import And, AtLeast, HasId, Node, Not, Or
from shards.filters.parsing import FilterLimits, decode_filter

LIMITS = FilterLimits(filter_conditions_max=65_536, filter_depth_max=50)
"""A router has its own, which are narrower; these keep a shard from what nobody should send."""
KEPT_BYTES_MAX = 16 * 1024
"""A longer filter is read anew each time: what is kept of filters is bounded in number, and so has to be in size."""


@dataclass(frozen=True, slots=True)
class FilterQuery:
    """Equal where the bytes are. `names_ids`: it asks for ids, so that its answer is about living rows only."""

    encoded: bytes
    node: Node = field(compare=False)
    names_ids: bool = field(compare=False)


def filter_query(encoded: bytes) -> FilterQuery:
    """The filter that `encode_filter` wrote. Raises BadFilter and LimitExceeded."""
    return _kept(encoded) if len(encoded) <= KEPT_BYTES_MAX else _read(encoded)


def _read(encoded: bytes) -> FilterQuery:
    node = decode_filter(encoded, LIMITS)
    return FilterQuery(encoded, node, _names_ids(node))


_kept = lru_cache(maxsize=4096)(_read)


def _names_ids(node: Node) -> bool:
    if isinstance(node, Not):
        return _names_ids(node.child)
    if isinstance(node, And | Or | AtLeast):
        return any(map(_names_ids, node.children))
    return isinstance(node, HasId)
