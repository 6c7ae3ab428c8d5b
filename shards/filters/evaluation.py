"""Which rows of a segment match a filter: bounds from what is known of all rows, then a look at what they leave open.

Every condition gives two sets, the rows that surely match and those that may (`Bounds`). And, Or, Not and AtLeast work on
both, so that one pass over the tree says which rows match, which don't, and which have to be looked at. A condition
without an index leaves every row open. Then the payloads of the open rows, and of no other, are read, once.

Rows are those of one segment, dead ones included: whoever asks says which count (`within`).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.filters.answers import Bounds, exactly
from shards.filters.conditions import (
    And,
    AtLeast,
    Field,
    HasCount,
    HasId,
    HasVector,
    InSlice,
    IsEmpty,
    IsNull,
    Leaf,
    Nested,
    Node,
    Not,
    Or,
)
from shards.filters.estimate import estimate
from shards.filters.indexes import Indexes, document_of
from shards.filters.paths import JsonPath
from shards.filters.rowsets import all_rows, no_rows, rows_in, rowset_of_mask
from shards.filters.semantics import Check, check_of_payload, compile_check
from shards.filters.slices import slices_of
from shards.point_ids import KeyArray, key_array

Rows = npt.NDArray[Any]


class SegmentRows(Protocol):
    """What is asked of a segment."""

    @property
    def row_count(self) -> int:
        """Rows, the dead included."""

    def payload(self, row: int) -> bytes:
        """The stored JSON bytes of one row, b"" for none."""

    def find(self, keys: KeyArray) -> Rows:
        """The living row of each key, -1 where the segment has none."""

    def keys_of(self, rows: Rows) -> KeyArray:
        """The keys of rows."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A segment and what is known of its rows.

    indexes: of fewer rows than the segment has, perhaps (it grows); the rows behind are looked at.
    vectors: the rows that have each named vector; None where all have it. A name that is not there: no row has it.
    """

    rows: SegmentRows
    indexes: Indexes
    vectors: Mapping[str, BitMap | None]

    @property
    def row_count(self) -> int:
        return self.rows.row_count


class RowFilter:
    """A filter over one segment. Making it computes the bounds; payloads are read when `matching` or `confirm` is asked.

    sure, possible: see Bounds; both within `within`, the rows that count.
    """

    def __init__(self, node: Node, searched: Searched, within: BitMap) -> None:
        self._searched = searched
        self._known: dict[int, Bounds] = {}
        """By the identity of a node, which the filter holds."""
        self._node = node
        bounds = self._bounds(node, within)
        self.sure = bounds.sure & within
        self.possible = self.sure if bounds.is_exact else bounds.possible & within
        self._check: Check[int] | None = None

    @property
    def is_decided(self) -> bool:
        """No payload has to be read."""
        return self.sure is self.possible or len(self.sure) == len(self.possible)

    def matching(self) -> BitMap:
        """All rows that match. About two microseconds for each row between `sure` and `possible`."""
        if self.is_decided:
            return self.sure
        return self.sure | self._looked_at(rows_in(self.possible - self.sure).tolist())

    def confirm(self, rows: BitMap) -> BitMap:
        """Those of the given rows that match: for a few rows of a filter that leaves many open."""
        sure = self.sure & rows
        if self.is_decided:
            return sure
        return sure | self._looked_at(rows_in((self.possible & rows) - sure).tolist())

    def _looked_at(self, rows: list[int]) -> BitMap:
        if self._check is None:
            self._check = compile_check(self._open_part(), self._check_of_leaf)
        check, payload = self._check, self._searched.rows.payload
        return BitMap(array("I", [row for row in rows if check(document_of(payload(row)), row)]))

    def _open_part(self) -> Node:
        """The filter without those conditions that every possible row is known to fulfil."""
        node = self._node
        if not isinstance(node, And):
            return node
        return And(tuple(child for child in node.children if not self._is_exact(child)))

    def _is_exact(self, node: Node) -> bool:
        known = self._known.get(id(node))
        return known is not None and known.is_exact

    def _check_of_leaf(self, leaf: Leaf | Nested) -> Check[int]:
        """How a leaf is checked for a row: by what is known of it, else by the payload."""
        known = self._bounds_of_leaf(leaf)
        if known.is_exact:
            rows = known.sure
            return lambda _, row: row in rows
        assert isinstance(leaf, Field | Nested), "ids and vectors are always known"
        check = check_of_payload(leaf)
        return lambda payload, _: check(payload)

    def _bounds(self, node: Node, within: BitMap) -> Bounds:
        """Of a node, right for the rows of `within`; outside of it anything."""
        if isinstance(node, And):
            return self._bounds_of_and(node, within)
        if isinstance(node, Or):
            parts = [self._bounds(child, within) for child in node.children]
            sure = BitMap().union(*(part.sure for part in parts))
            if all(part.is_exact for part in parts):
                return exactly(sure)
            return Bounds(sure, BitMap().union(*(part.possible for part in parts)))
        if isinstance(node, Not):
            inner = self._bounds(node.child, within)
            sure = within - inner.possible
            return exactly(sure) if inner.is_exact else Bounds(sure, within - inner.sure)
        if isinstance(node, AtLeast):
            parts = [self._bounds(child, within) for child in node.children]
            return Bounds(
                self._in_so_many(node.count, [part.sure for part in parts]),
                self._in_so_many(node.count, [part.possible for part in parts]),
            )
        return self._bounds_of_leaf(node)

    def _bounds_of_and(self, node: And, within: BitMap) -> Bounds:
        sure = possible = within
        is_exact = True
        for child in sorted(node.children, key=lambda child: estimate(child, self._searched).most):
            bounds = self._bounds(child, possible)
            is_exact = is_exact and bounds.is_exact
            possible = possible & bounds.possible
            sure = possible if is_exact else sure & bounds.sure
            if not possible:
                break
        return Bounds(sure, possible)

    def _in_so_many(self, count: int, rowsets: list[BitMap]) -> BitMap:
        counts = np.zeros(self._searched.rows.row_count, np.uint32)
        for rowset in rowsets:
            counts[rows_in(rowset)] += 1
        return rowset_of_mask(counts >= count)

    def _bounds_of_leaf(self, leaf: Leaf | Nested) -> Bounds:
        """Of all rows of the segment; computed once."""
        if id(leaf) not in self._known:
            self._known[id(leaf)] = self._ask_about(leaf)
        return self._known[id(leaf)]

    def _ask_about(self, leaf: Leaf | Nested) -> Bounds:
        rows = self._searched.rows
        if isinstance(leaf, Field):
            return self._bounds_of_field(leaf)
        if isinstance(leaf, Nested):
            return Bounds(no_rows(), self._possible_in_nested(leaf.array, leaf.node))
        if isinstance(leaf, HasId):
            found = rows.find(key_array(sorted(leaf.keys)))
            return exactly(BitMap(array("I", found[found >= 0].tolist())))
        if isinstance(leaf, HasVector):
            having = self._searched.vectors.get(leaf.name, no_rows())
            return exactly(all_rows(rows.row_count) if having is None else having)
        assert isinstance(leaf, InSlice)
        keys = rows.keys_of(np.arange(rows.row_count))
        return exactly(rowset_of_mask(slices_of(keys, leaf.total) == leaf.index))

    def _bounds_of_field(self, leaf: Field) -> Bounds:
        row_count = self._searched.rows.row_count
        index = self._searched.indexes.get(leaf.path)
        if index is None:
            return Bounds(no_rows(), all_rows(row_count))
        bounds = index.bounds(leaf.test)
        if index.row_count >= row_count:
            return bounds
        return Bounds(bounds.sure, bounds.possible | BitMap(range(index.row_count, row_count)))

    def _possible_in_nested(self, array_path: JsonPath, node: Node) -> BitMap:
        """Rows that may hold an object that matches, from the indexes of what is inside the array.

        An element that passes inside one object passes among all of them, too. That says nothing of what is not there
        (IsEmpty, Not), and conditions on a point itself hold of no object.
        """
        if isinstance(node, HasId | HasVector | InSlice):
            return no_rows()
        if isinstance(node, Field) and not isinstance(node.test, IsEmpty | IsNull | HasCount):
            return self._bounds_of_field(Field(node.path.within(array_path), node.test)).possible
        possible = all_rows(self._searched.rows.row_count)
        for child in node.children if isinstance(node, And) else ():
            possible = possible & self._possible_in_nested(array_path, child)
        return possible


def matching_rows(node: Node, searched: Searched, within: BitMap) -> BitMap:
    """The rows of a segment, of those in `within`, that match a filter."""
    return RowFilter(node, searched, within).matching()
