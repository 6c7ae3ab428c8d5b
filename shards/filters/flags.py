"""The index of bools: a bit a row for true, another for false."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from shards.filters.answers import Bounds, Estimate, about, exactly
from shards.filters.conditions import ElementTest, OneOf
from shards.filters.rowsets import Bits, bits_of_rows, count_bits, no_rows, rowset_of_bits
from shards.filters.sections import Arrays, check_bits, take_sections


class Flags:
    """The index of a field of bools."""

    def __init__(self, row_count: int, true: Bits, false: Bits) -> None:
        self._row_count = row_count
        self._bits = {True: true, False: false}

    def bounds(self, test: ElementTest) -> Bounds | None:
        """See FieldContent. Which bool it is."""
        if not isinstance(test, OneOf) or test.kind is not bool:
            return None
        rows = no_rows()
        for value, bits in self._bits.items():
            if value in test.values:
                rows = rows | rowset_of_bits(bits)
        return exactly(rows)

    def estimate(self, test: ElementTest) -> Estimate | None:
        if not isinstance(test, OneOf) or test.kind is not bool:
            return None
        counts = [count_bits(bits) for value, bits in self._bits.items() if value in test.values]
        return about(max(counts, default=0), sum(counts), sum(counts), self._row_count)

    def arrays(self) -> Arrays:
        return {"true": self._bits[True], "false": self._bits[False]}


def read_flags(arrays: Arrays, row_count: int) -> Flags:
    """The index that `arrays` holds. Raises Corrupt."""
    true, false = take_sections(arrays, {"true": np.uint8, "false": np.uint8})
    check_bits(true, row_count)
    check_bits(false, row_count)
    return Flags(row_count, true, false)


class FlagsBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._rows = {True: array("I"), False: array("I")}

    def add(self, row: int, elements: list[Any]) -> None:
        for value in {element for element in elements if type(element) is bool}:
            self._rows[value].append(row)

    def finish(self, row_count: int) -> Flags:
        return Flags(row_count, *(bits_of_rows(self._rows[value], row_count) for value in (True, False)))
