"""The indexes of numbers and of dates: values in order, and the row of each.

    integers, integer_rows    int64 and uint32: integers that fit, ascending, and their rows
    large, large_rows         uint64: integers above those
    floats, float_rows        float64
    instants, instant_rows    int64: dates, microseconds since 1970

Integers and floats are kept apart, because a match takes an integer only, and because 2**53 + 1 is not 2**53. A row stands
as often as it has different values. A sort by a field will read the same arrays.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.errors import Corrupt
from shards.filters.answers import Bounds, Estimate, about, exactly
from shards.filters.conditions import ElementTest, InDates, InNumbers, Interval, NoneOf, OneOf
from shards.filters.dates import instant
from shards.filters.rowsets import Bits, RowNumbers, bits_of_rows, count_bits, no_rows, rowset_of, rowset_of_bits
from shards.filters.sections import Arrays, check_ascending, check_bits, check_rows, check_same_length, take_sections

INT64_MAX = 2**63 - 1
_NUMBER_COLUMNS = {
    "integers": ("integer_rows", np.int64),
    "large": ("large_rows", np.uint64),
    "floats": ("float_rows", np.float64),
}
_INSTANT_COLUMN = ("instants", "instant_rows", np.int64)


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one dtype, ascending, and the row of each."""

    values: npt.NDArray[Any]
    rows: RowNumbers

    def places_in(self, interval: Interval) -> slice:
        """Where the values in the interval stand."""
        if self.values.dtype == np.float64:
            start = np.searchsorted(self.values, interval.low, "right" if interval.low_open else "left")
            end = np.searchsorted(self.values, interval.high, "left" if interval.high_open else "right")
            return slice(int(start), max(int(start), int(end)))
        start_at = self._first_from(_whole_above(interval.low, interval.low_open))
        end_at = self._first_from(_whole_below(interval.high, interval.high_open) + 1)
        return slice(start_at, max(start_at, end_at))

    def places_of(self, value: int) -> slice:
        """Where an integer stands; only of a column of integers."""
        return slice(self._first_from(value), self._first_from(value + 1))

    def _first_from(self, value: float) -> int:
        """The first place whose integer is not below `value`, an integer or infinite."""
        limits = np.iinfo(self.values.dtype)
        if value <= limits.min:
            return 0
        if value > limits.max:
            return len(self.values)
        return int(np.searchsorted(self.values, self.values.dtype.type(value), "left"))


def _whole_above(bound: float, is_open: bool) -> float:
    """The least integer above the bound, or the infinite bound."""
    if math.isinf(bound):
        return bound
    return math.floor(bound) + 1 if is_open else math.ceil(bound)


def _whole_below(bound: float, is_open: bool) -> float:
    if math.isinf(bound):
        return bound
    return math.ceil(bound) - 1 if is_open else math.floor(bound)


class Numbers:
    """The index of a field of integers or floats. `others`: bits of the rows with an element that is neither a number
    nor null; `values_max`: how many values a row has at the most.
    """

    def __init__(self, row_count: int, columns: dict[str, Column], others: Bits, values_max: int) -> None:
        self._row_count = row_count
        self._columns = columns
        self._others = others
        self._values_max = values_max

    def bounds(self, test: ElementTest) -> Bounds | None:
        """See FieldContent. Numbers, whole or not, and what they are not."""
        if isinstance(test, InNumbers):
            return exactly(
                self._rows([(column, column.places_in(test.interval)) for column in self._columns.values()])
            )
        if isinstance(test, OneOf) and test.kind is int:
            return exactly(self._rows(self._places(test)))
        if isinstance(test, NoneOf):
            return self._outside(test)
        return Bounds(no_rows(), rowset_of_bits(self._others))

    def estimate(self, test: ElementTest) -> Estimate | None:
        """See FieldContent. Exact where no row has several values."""
        if isinstance(test, InNumbers):
            places = [column.places_in(test.interval) for column in self._columns.values()]
        elif isinstance(test, OneOf) and test.kind is int:
            places = [place for _, place in self._places(test)]
        elif isinstance(test, NoneOf):
            return self._estimate_outside(test)
        else:
            return None
        count = sum(place.stop - place.start for place in places)
        return about(math.ceil(count / max(self._values_max, 1)), count, count, self._row_count)

    def arrays(self) -> Arrays:
        arrays: Arrays = {"others": self._others, "values_max": np.array([self._values_max], np.uint64)}
        for name, (rows_name, _) in _NUMBER_COLUMNS.items():
            arrays |= {name: self._columns[name].values, rows_name: self._columns[name].rows}
        return arrays

    def _places(self, test: OneOf | NoneOf) -> list[tuple[Column, slice]]:
        columns = self._columns["integers"], self._columns["large"]
        return [(column, column.places_of(int(value))) for value in test.values for column in columns]

    def _outside(self, test: NoneOf) -> Bounds:
        others = rowset_of_bits(self._others)
        rows = self._columns["floats"].rows, *map(self._rows_but(test), ("integers", "large"))
        sure = rowset_of(np.concatenate(rows), self._row_count)
        return exactly(sure | others) if test.kind is int else Bounds(sure, sure | others)

    def _estimate_outside(self, test: NoneOf) -> Estimate:
        listed = self._places(test) if test.kind is int else []
        values = sum(len(column.values) for column in self._columns.values())
        count = values - sum(place.stop - place.start for _, place in listed) + count_bits(self._others)
        return about(0, count, count, self._row_count)

    def _rows_but(self, test: NoneOf) -> Any:
        """From a column's name to the rows of its values that the test does not exclude."""
        listed = [int(value) for value in test.values] if test.kind is int else []

        def rows_of(name: str) -> RowNumbers:
            column = self._columns[name]
            kept = np.ones(len(column.values), np.bool_)
            for value in listed:
                kept[column.places_of(value)] = False
            return column.rows[kept]

        return rows_of

    def _rows(self, places: list[tuple[Column, slice]]) -> BitMap:
        parts = [column.rows[place] for column, place in places if place.stop > place.start]
        if not parts:
            return no_rows()
        return rowset_of(parts[0] if len(parts) == 1 else np.concatenate(parts), self._row_count)


class Instants:
    """The index of a field of dates. What is no date's text is not in it: no condition on dates takes it."""

    def __init__(self, row_count: int, column: Column, values_max: int) -> None:
        self._row_count = row_count
        self._column = column
        self._values_max = values_max

    def bounds(self, test: ElementTest) -> Bounds | None:
        if not isinstance(test, InDates):
            return None
        return exactly(rowset_of(self._column.rows[self._column.places_in(test.interval)], self._row_count))

    def estimate(self, test: ElementTest) -> Estimate | None:
        if not isinstance(test, InDates):
            return None
        place = self._column.places_in(test.interval)
        count = place.stop - place.start
        return about(math.ceil(count / max(self._values_max, 1)), count, count, self._row_count)

    def arrays(self) -> Arrays:
        name, rows_name, _ = _INSTANT_COLUMN
        values_max = np.array([self._values_max], np.uint64)
        return {name: self._column.values, rows_name: self._column.rows, "values_max": values_max}


def read_numbers(arrays: Arrays, row_count: int) -> Numbers:
    """The index that `arrays` holds. Raises Corrupt."""
    (others,) = take_sections(arrays, {"others": np.uint8})
    check_bits(others, row_count)
    columns = {
        name: _read_column(arrays, name, rows_name, dtype, row_count)
        for name, (rows_name, dtype) in _NUMBER_COLUMNS.items()
    }
    return Numbers(row_count, columns, others, _read_values_max(arrays))


def read_instants(arrays: Arrays, row_count: int) -> Instants:
    """The index that `arrays` holds. Raises Corrupt."""
    return Instants(row_count, _read_column(arrays, *_INSTANT_COLUMN, row_count), _read_values_max(arrays))


def _read_column(arrays: Arrays, name: str, rows_name: str, dtype: type[Any], row_count: int) -> Column:
    values, rows = take_sections(arrays, {name: dtype, rows_name: np.uint32})
    check_rows(rows, row_count)
    check_same_length(values, rows)
    check_ascending(values, name)
    return Column(values, rows)


def _read_values_max(arrays: Arrays) -> int:
    (values_max,) = take_sections(arrays, {"values_max": np.uint64})
    if len(values_max) != 1:
        raise Corrupt(f"a payload index has {len(values_max)} numbers in its section 'values_max', not one")
    return int(values_max[0])


class _ColumnBuilder:
    """Values and their rows, in the order of the rows."""

    def __init__(self, typecode: str, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._values: array[Any] = array(typecode)
        self._rows = array("I")

    def add(self, row: int, value: float) -> None:
        self._values.append(value)
        self._rows.append(row)

    def finish(self) -> Column:
        values = np.array(self._values, self._dtype)
        order = np.argsort(values, kind="stable")
        return Column(values[order], np.array(self._rows, np.uint32)[order])


class NumbersBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._integers = _ColumnBuilder("q", np.int64)
        self._large = _ColumnBuilder("Q", np.uint64)
        self._floats = _ColumnBuilder("d", np.float64)
        self._others = array("I")
        self._values_max = 0

    def add(self, row: int, elements: list[Any]) -> None:
        """`row` is not below those before it."""
        integers = {element for element in elements if type(element) is int}
        floats = {element for element in elements if type(element) is float}
        for value in integers:
            (self._integers if value <= INT64_MAX else self._large).add(row, value)
        for number in floats:
            self._floats.add(row, number)
        self._values_max = max(self._values_max, len(integers) + len(floats))
        if any(element is not None and type(element) not in (int, float) for element in elements):
            self._others.append(row)

    def finish(self, row_count: int) -> Numbers:
        """The index of the rows so far, which shares nothing with the builder."""
        columns = {
            "integers": self._integers.finish(),
            "large": self._large.finish(),
            "floats": self._floats.finish(),
        }
        return Numbers(row_count, columns, bits_of_rows(self._others, row_count), self._values_max)


class InstantsBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._instants = _ColumnBuilder("q", np.int64)
        self._values_max = 0

    def add(self, row: int, elements: list[Any]) -> None:
        instants = {instant(element) for element in elements if type(element) is str} - {None}
        for at in instants:
            assert at is not None
            self._instants.add(row, at)
        self._values_max = max(self._values_max, len(instants))

    def finish(self, row_count: int) -> Instants:
        return Instants(row_count, self._instants.finish(), self._values_max)
