"""What can be said of a condition without looking at payloads: which rows surely match, which may, and how many, about."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pyroaring import BitMap

from shards.filters.conditions import ElementTest
from shards.filters.sections import Arrays


class Bounds(NamedTuple):
    """`sure` rows match, rows outside `possible` don't; `sure` is a subset of `possible`.

    Both may be shared with others: neither is ever changed in place.
    """

    sure: BitMap
    possible: BitMap

    @property
    def is_exact(self) -> bool:
        return self.sure is self.possible or len(self.sure) == len(self.possible)


class Estimate(NamedTuple):
    """Numbers of matching rows: `least` <= the truth <= `most`; `expected` is a guess between them."""

    least: int
    expected: int
    most: int


def exactly(rows: BitMap) -> Bounds:
    """The bounds of what is known."""
    return Bounds(rows, rows)


def about(least: float, expected: float, most: float, row_count: int) -> Estimate:
    """An estimate in order, and within the number of rows."""
    top = min(max(0, round(most)), row_count)
    bottom = min(max(0, round(least)), top)
    return Estimate(bottom, min(max(round(expected), bottom), top), top)


class FieldContent(Protocol):
    """One kind of payload index: what the elements of a field are, of every row of a segment."""

    def bounds(self, test: ElementTest) -> Bounds | None:
        """The rows with an element that passes; None where this kind of index says nothing of the test."""

    def estimate(self, test: ElementTest) -> Estimate | None:
        """How many rows those are, without making the sets; None where `bounds` is None, or only `bounds` can tell."""

    def arrays(self) -> Arrays:
        """All that it is made of; its kind reads it again from them."""
