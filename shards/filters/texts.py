"""The index of texts: which rows hold which word.

Words of a row are not told apart by the element they stand in: where a row has several texts, all the wanted words may
be there and yet not in one text, so those rows are only possible. So are all rows of a phrase, whose order is not kept.
"""

from __future__ import annotations

from array import array
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from shards.filters.answers import Bounds, Estimate, about, exactly
from shards.filters.conditions import ElementTest, HasPhrase, HasSomeWord, HasWords
from shards.filters.postings import Postings, PostingsBuilder, read_postings
from shards.filters.rowsets import Bits, bits_of_rows, no_rows, rowset_of_bits
from shards.filters.sections import Arrays, check_bits, take_sections
from shards.filters.words import words


class Texts:
    """The index of a field of texts. `several`: bits of the rows with more than one text."""

    def __init__(self, postings: Postings, several: Bits) -> None:
        self._postings = postings
        self._several = several

    def bounds(self, test: ElementTest) -> Bounds | None:
        """See FieldContent. Words and phrases."""
        if isinstance(test, HasSomeWord):
            known = [place for place in self._places(test.words) if place is not None]
            return exactly(self._postings.rows_at(known))
        if not isinstance(test, HasWords | HasPhrase):
            return None
        places = self._places(test.words)
        if not places or None in places:
            return exactly(no_rows())
        rarest_first = sorted((place for place in places if place is not None), key=self._postings.count_at)
        possible = reduce(and_, (self._postings.rows_at([place]) for place in rarest_first))
        if len(test.words) == 1:
            return exactly(possible)
        if isinstance(test, HasPhrase):
            return Bounds(no_rows(), possible)
        return Bounds(possible - rowset_of_bits(self._several), possible)

    def estimate(self, test: ElementTest) -> Estimate | None:
        """Words are taken to be independent of each other."""
        if not isinstance(test, HasWords | HasSomeWord | HasPhrase):
            return None
        rows = self._postings.row_count
        counts = [0 if place is None else self._postings.count_at(place) for place in self._places(test.words)]
        if isinstance(test, HasSomeWord):
            return about(max(counts, default=0), sum(counts), sum(counts), rows)
        rarest = min(counts, default=0)
        if len(test.words) == 1:  # a phrase may be one word repeated
            return Estimate(rarest, rarest, rarest)
        return about(0, rows * float(np.prod([count / max(rows, 1) for count in counts])), rarest, rows)

    def arrays(self) -> Arrays:
        return {**self._postings.arrays(), "several": self._several}

    def _places(self, wanted: tuple[str, ...]) -> list[int | None]:
        return [self._postings.place_of(word) for word in dict.fromkeys(wanted)]


def read_texts(arrays: Arrays, row_count: int) -> Texts:
    """The index that `arrays` holds. Raises Corrupt."""
    (several,) = take_sections(arrays, {"several": np.uint8})
    check_bits(several, row_count)
    return Texts(read_postings(arrays, row_count), several)


class TextsBuilder:
    """Takes the elements of row after row."""

    def __init__(self) -> None:
        self._postings = PostingsBuilder()
        self._several = array("I")

    def add(self, row: int, elements: list[Any]) -> None:
        """`row` is above those before it."""
        texts = [element for element in elements if type(element) is str]
        for_row = [word for text in texts for word in words(text)]
        if for_row:
            self._postings.add(row, for_row)
        if len(texts) > 1:
            self._several.append(row)

    def finish(self, row_count: int) -> Texts:
        return Texts(self._postings.finish(row_count), bits_of_rows(self._several, row_count))
