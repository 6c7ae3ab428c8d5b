"""How many rows of a segment match a filter, about, from its indexes: what a plan for a search is chosen by.

Bounds are kept apart from the guess: `least` and `most` hold whatever the data is, `expected` takes conditions to be
independent of each other. No payload is read, and no set of rows is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Protocol

from pyroaring import BitMap

from shards.filters.answers import Estimate, about
from shards.filters.conditions import And, AtLeast, Field, HasId, HasVector, InSlice, Leaf, Nested, Node, Not, Or
from shards.filters.indexes import Indexes

UNKNOWN_FRACTION = 1 / 3
"""What a condition without an index is guessed to let through."""


class Described(Protocol):
    """What is asked of a segment (see evaluation.Searched)."""

    @property
    def indexes(self) -> Indexes:
        """By field."""

    @property
    def vectors(self) -> Mapping[str, BitMap | None]:
        """The rows that have each named vector, None for all."""

    @property
    def row_count(self) -> int:
        """Rows, the dead included."""


def estimate(node: Node, segment: Described) -> Estimate:
    """How many rows match, the dead included."""
    rows = segment.row_count
    if isinstance(node, Not):
        inner = estimate(node.child, segment)
        return about(rows - inner.most, rows - inner.expected, rows - inner.least, rows)
    if not isinstance(node, And | Or | AtLeast):
        return _of_leaf(node, segment)
    parts = [estimate(child, segment) for child in node.children]
    shares = [part.expected / max(rows, 1) for part in parts]
    if isinstance(node, And):
        missing = sum(rows - part.least for part in parts)
        most = min((part.most for part in parts), default=rows)
        return about(rows - missing, rows * prod(shares), most, rows)
    most = sum(part.most for part in parts)
    if isinstance(node, Or):
        expected = rows * (1 - prod(1 - share for share in shares))
        return about(max((part.least for part in parts), default=0), expected, most, rows)
    return about(0, rows * _chance_of_so_many(node.count, shares), most / node.count, rows)


def _of_leaf(leaf: Leaf | Nested, segment: Described) -> Estimate:
    rows = segment.row_count
    if isinstance(leaf, Field) and leaf.path in segment.indexes:
        index = segment.indexes[leaf.path]
        found, behind = index.estimate(leaf.test), rows - index.row_count
        return about(found.least, found.expected + behind * UNKNOWN_FRACTION, found.most + behind, rows)
    if isinstance(leaf, HasId):
        return about(0, len(leaf.keys), len(leaf.keys), rows)
    if isinstance(leaf, HasVector):
        having = segment.vectors.get(leaf.name, BitMap())
        count = rows if having is None else len(having)
        return Estimate(count, count, count)
    if isinstance(leaf, InSlice):
        return about(0, rows / leaf.total, rows, rows)
    return about(0, rows * UNKNOWN_FRACTION, rows, rows)


def _chance_of_so_many(count: int, chances: list[float]) -> float:
    """That at least `count` of independent events happen."""
    of_count = [1.0] + [0.0] * len(chances)  # the chance that exactly so many happen, of those seen so far
    for chance in chances:
        of_count = [
            here * (1 - chance) + before * chance for here, before in zip(of_count, [0.0, *of_count], strict=False)
        ]
    return sum(of_count[count:])
