"""What every payload index knows of its field: in which rows it is empty or null, has values, and how many.

One bit a row for each of three questions, and one byte for the count.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import Corrupt
from shards.filters.answers import Bounds, Estimate, about, exactly
from shards.filters.conditions import HasCount, IsEmpty, IsNull
from shards.filters.rowsets import Bits, bits_of_mask, count_bits, rowset_of_bits, rowset_of_mask
from shards.filters.sections import Arrays, check_bits, take_sections
from shards.filters.semantics import is_empty, is_null, value_counts

UNSURE = 255
"""In place of a count: it is that or above, or the path leads to several values with different counts."""

_EMPTY, _NULL, _VALUED = 1, 2, 4
_SECTIONS = {"empty": np.uint8, "null": np.uint8, "valued": np.uint8, "counts": np.uint8}
PresenceTest = IsEmpty | IsNull | HasCount


@dataclass(frozen=True, slots=True)
class Presence:
    """empty, null, valued (some element is not null): bits; counts: uint8 (rows,)."""

    row_count: int
    empty: Bits
    null: Bits
    valued: Bits
    counts: npt.NDArray[np.uint8]

    def bounds(self, test: PresenceTest) -> Bounds:
        """The rows that pass."""
        if isinstance(test, IsEmpty):
            return exactly(rowset_of_bits(self.empty))
        if isinstance(test, IsNull):
            return exactly(rowset_of_bits(self.null))
        fitting = np.array([test.interval.contains(count) for count in range(UNSURE)] + [False])
        sure = rowset_of_mask(fitting[self.counts])
        unsure = self.counts == UNSURE
        return Bounds(sure, sure | rowset_of_mask(unsure)) if unsure.any() else exactly(sure)

    def estimate(self, test: PresenceTest) -> Estimate:
        """How many rows pass; of counts a guess."""
        if isinstance(test, HasCount):
            return about(0, self.row_count / 3, self.row_count, self.row_count)
        count = count_bits(self.empty if isinstance(test, IsEmpty) else self.null)
        return Estimate(count, count, count)

    def arrays(self) -> Arrays:
        return {"empty": self.empty, "null": self.null, "valued": self.valued, "counts": self.counts}


def read_presence(arrays: Arrays, row_count: int) -> Presence:
    """The presence that `arrays` holds. Raises Corrupt where it is not one of `row_count` rows."""
    empty, null, valued, counts = take_sections(arrays, _SECTIONS)
    for bits in (empty, null, valued):
        check_bits(bits, row_count)
    if len(counts) != row_count:
        raise Corrupt(f"a payload index of {row_count} rows has counts for {len(counts)}")
    return Presence(row_count, empty, null, valued, counts)


class PresenceBuilder:
    """Takes row after row. Two bytes a row until `finish`, which may be asked again after more rows."""

    def __init__(self) -> None:
        self._flags = array("B")
        self._counts = array("B")

    def add(self, values: list[Any], elements: list[Any]) -> None:
        """The next row: what its path leads to, and the elements of that."""
        if len(values) == 1 and type(values[0]) is not list and values[0] is not None:
            self._flags.append(_VALUED)  # one scalar, nearly always
            self._counts.append(1)
            return
        has_value = any(element is not None for element in elements)
        self._flags.append(_EMPTY * is_empty(values) + _NULL * is_null(values) + _VALUED * has_value)
        counts = set(value_counts(values))
        self._counts.append(min(counts.pop(), UNSURE) if len(counts) == 1 else UNSURE)

    def finish(self) -> Presence:
        """The presence of the rows so far, which shares nothing with the builder."""
        flags = np.array(self._flags, np.uint8)
        empty, null, valued = (bits_of_mask((flags & flag) != 0) for flag in (_EMPTY, _NULL, _VALUED))
        return Presence(len(flags), empty, null, valued, np.array(self._counts, np.uint8))
