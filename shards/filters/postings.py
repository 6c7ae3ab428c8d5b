"""Which rows hold which text: sorted terms, and the rows of each. The index of keywords and UUIDs, and of words.

    terms         uint8: the terms' UTF-8, one behind the other, sorted by their bytes
    term_starts   uint64 (terms + 1,): where each begins
    row_starts    uint64 (terms + 1,): where the rows of each begin
    rows          uint32: the rows of each term, ascending, none twice

A term is found by a binary search over the bytes: nothing is read into objects. That the terms are sorted is not checked
when they are read (it would touch every one): a file's checksum vouches for it, and wrong order gives wrong answers,
never a read outside the arrays.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.filters.answers import Bounds, Estimate, about, exactly
from shards.filters.conditions import ElementTest, InArea, InNumbers, NoneOf, OneOf, StartsWith
from shards.filters.rowsets import (
    Bits,
    RowNumbers,
    bits_of_rows,
    count_bits,
    no_rows,
    rowset_of,
    rowset_of_bits,
    rowset_of_mask,
)
from shards.filters.sections import Arrays, check_bits, check_rows, check_starts, take_sections

_SECTIONS = {"terms": np.uint8, "term_starts": np.uint64, "row_starts": np.uint64, "rows": np.uint32}
_Starts = npt.NDArray[np.uint64]
_AFTER_ANY_TEXT = b"\xff"
"""Sorts behind whatever UTF-8 may follow a prefix."""


@dataclass(frozen=True, slots=True)
class Postings:
    """Terms and their rows; the arrays, described above, may be views of a mapped file."""

    row_count: int
    terms: npt.NDArray[np.uint8]
    term_starts: _Starts
    row_starts: _Starts
    rows: RowNumbers

    @property
    def term_count(self) -> int:
        return len(self.term_starts) - 1

    @property
    def entry_count(self) -> int:
        """Pairs of a term and a row."""
        return len(self.rows)

    def arrays(self) -> Arrays:
        """See FieldContent."""
        return {name: getattr(self, name) for name in _SECTIONS}

    def place_of(self, term: str) -> int | None:
        """Which term it is, or None."""
        wanted = _octets(term)
        place = self._first_from(wanted)
        return place if place < self.term_count and self._term(place) == wanted else None

    def places_of_prefix(self, prefix: str) -> range:
        """The terms that begin so."""
        octets = _octets(prefix)
        return range(self._first_from(octets), self._first_from(octets + _AFTER_ANY_TEXT))

    def count_at(self, place: int) -> int:
        """How many rows a term has."""
        return int(self.row_starts[place + 1]) - int(self.row_starts[place])

    def count_in(self, places: range) -> int:
        return int(self.row_starts[places.stop]) - int(self.row_starts[places.start]) if places else 0

    def rows_at(self, places: Sequence[int]) -> BitMap:
        """The rows of these terms."""
        runs = [self._run(place, place + 1) for place in places]
        return rowset_of(np.concatenate(runs), self.row_count) if runs else no_rows()

    def rows_in(self, places: range) -> BitMap:
        """The rows of neighbouring terms."""
        return rowset_of(self._run(places.start, places.stop), self.row_count) if places else no_rows()

    def rows_outside(self, places: Iterable[int]) -> BitMap:
        """The rows of all terms but these."""
        mask = np.zeros(self.row_count, np.bool_)
        start = 0
        for place in sorted(places):
            mask[self.rows[start : int(self.row_starts[place])]] = True
            start = int(self.row_starts[place + 1])
        mask[self.rows[start:]] = True
        return rowset_of_mask(mask)

    def _run(self, first: int, end: int) -> RowNumbers:
        return self.rows[int(self.row_starts[first]) : int(self.row_starts[end])]

    def _term(self, place: int) -> bytes:
        return self.terms[int(self.term_starts[place]) : int(self.term_starts[place + 1])].tobytes()

    def _first_from(self, octets: bytes) -> int:
        return bisect_left(range(self.term_count), octets, key=self._term)


def read_postings(arrays: Arrays, row_count: int) -> Postings:
    """The postings that `arrays` holds. Raises Corrupt where a range or a row leads outside."""
    terms, term_starts, row_starts, rows = take_sections(arrays, _SECTIONS)
    check_starts(term_starts, len(term_starts) - 1, len(terms))
    check_starts(row_starts, len(term_starts) - 1, len(rows))
    check_rows(rows, row_count)
    return Postings(row_count, terms, term_starts, row_starts, rows)


class PostingsBuilder:
    """Takes the terms of row after row: eight bytes an entry, and each different term once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._entry_terms = array("I")
        self._entry_rows = array("I")

    def add(self, row: int, terms: Iterable[str]) -> None:
        """`row` is above all before it."""
        numbers = self._numbers
        for term in dict.fromkeys(terms):
            self._entry_terms.append(numbers.setdefault(term, len(numbers)))
            self._entry_rows.append(row)

    def finish(self, row_count: int) -> Postings:
        """The postings so far, which share nothing with the builder."""
        encoded = [_octets(term) for term in self._numbers]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        ranks = rank[np.array(self._entry_terms, np.uint32)]
        rows = np.array(self._entry_rows, np.uint32)[np.argsort(ranks, kind="stable")]
        return Postings(
            row_count,
            np.frombuffer(b"".join(encoded[number] for number in order), np.uint8),
            _starts([len(encoded[number]) for number in order]),
            _starts(np.bincount(ranks, minlength=len(order))),
            rows,
        )


class Keywords:
    """The index of a field of keywords. `others`: bits of the rows with an element that is neither text nor null."""

    def __init__(self, postings: Postings, others: Bits) -> None:
        self._postings = postings
        self._others = others

    def bounds(self, test: ElementTest) -> Bounds | None:
        """See FieldContent. Texts, and what texts are not; a date is a text, and read from the payload."""
        postings = self._postings
        if isinstance(test, OneOf) and test.kind is str:
            places = self._places(test.values)
            return exactly(postings.rows_at(places))
        if isinstance(test, NoneOf):
            places = self._places(test.values) if test.kind is str else []
            outside = postings.rows_outside(places)
            others = rowset_of_bits(self._others)
            return exactly(outside | others) if test.kind is str else Bounds(outside, outside | others)
        if isinstance(test, StartsWith):
            return exactly(postings.rows_in(postings.places_of_prefix(test.prefix)))
        if isinstance(test, OneOf | InNumbers | InArea):
            return Bounds(no_rows(), rowset_of_bits(self._others))
        return None

    def estimate(self, test: ElementTest) -> Estimate | None:
        """See FieldContent. Exact for one value."""
        postings = self._postings
        if isinstance(test, OneOf) and test.kind is str:
            counts = [postings.count_at(place) for place in self._places(test.values)]
            return about(max(counts, default=0), sum(counts), sum(counts), postings.row_count)
        if isinstance(test, StartsWith):
            places = postings.places_of_prefix(test.prefix)
            count = postings.count_in(places)
            return about(count if len(places) == 1 else 0, count, count, postings.row_count)
        if isinstance(test, NoneOf):
            listed = sum(map(postings.count_at, self._places(test.values))) if test.kind is str else 0
            count = postings.entry_count - listed + count_bits(self._others)
            return about(0, count, count, postings.row_count)
        return None

    def arrays(self) -> Arrays:
        return {**self._postings.arrays(), "others": self._others}

    def _places(self, values: Iterable[Any]) -> list[int]:
        return [place for value in values if (place := self._postings.place_of(value)) is not None]


def read_keywords(arrays: Arrays, row_count: int) -> Keywords:
    """The index that `arrays` holds. Raises Corrupt."""
    (others,) = take_sections(arrays, {"others": np.uint8})
    check_bits(others, row_count)
    return Keywords(read_postings(arrays, row_count), others)


class KeywordsBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._postings = PostingsBuilder()
        self._others = array("I")

    def add(self, row: int, elements: list[Any]) -> None:
        texts = [element for element in elements if type(element) is str]
        if texts:
            self._postings.add(row, texts)
        if any(element is not None and type(element) is not str for element in elements):
            self._others.append(row)

    def finish(self, row_count: int) -> Keywords:
        return Keywords(self._postings.finish(row_count), bits_of_rows(self._others, row_count))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _starts(lengths: Any) -> _Starts:
    starts = np.zeros(len(lengths) + 1, np.uint64)
    np.cumsum(lengths, out=starts[1:], dtype=np.uint64)
    return starts
