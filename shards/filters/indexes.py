"""Payload indexes: one for each field that a collection declares, of one segment's rows.

An index answers the conditions that it can as bounds, exactly what a look at every payload would give: whatever it does
not hold stays possible. It never changes; its bytes may be a mapped file, and at rest it has no object per row.

A growing segment has one as well: `GrowingIndexes` takes every row as it comes and makes the indexes anew each
TAIL_ROWS rows (20,000 rows: twenty times, 5 ms at the most for a keyword field with as many different values, 14 ms for
eight fields of all kinds). Rows behind the last making are looked at one by one. So a search on another thread shares
immutable indexes only, and one set of index kinds serves both sorts of segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import orjson

from shards.errors import Corrupt
from shards.filters.answers import Bounds, Estimate, FieldContent
from shards.filters.conditions import HasCount, IsEmpty, IsNull, Test
from shards.filters.flags import FlagsBuilder, read_flags
from shards.filters.numbers import InstantsBuilder, NumbersBuilder, read_instants, read_numbers
from shards.filters.paths import JsonPath, parse_path, select, unwrap
from shards.filters.places import PlacesBuilder, read_places
from shards.filters.postings import KeywordsBuilder, read_keywords
from shards.filters.presence import Presence, PresenceBuilder, read_presence
from shards.filters.rowsets import count_bits, no_rows, rowset_of_bits
from shards.filters.sections import Arrays, Buffer, decode_sections, encode_sections
from shards.filters.texts import TextsBuilder, read_texts

TAIL_ROWS = 1024
"""Rows of a growing segment that are looked at one by one, at the most: about 1.5 ms of them."""


class FieldKind(StrEnum):
    """What a field is declared to hold. Values of another kind are found all the same, more slowly."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    UUID = "uuid"
    TEXT = "text"
    GEO = "geo"


class _ContentBuilder(Protocol):
    def add(self, row: int, elements: list[Any]) -> None: ...

    def finish(self, row_count: int) -> FieldContent: ...


_BUILDERS: Mapping[FieldKind, Callable[[], _ContentBuilder]] = {
    FieldKind.KEYWORD: KeywordsBuilder,
    FieldKind.INTEGER: NumbersBuilder,
    FieldKind.FLOAT: NumbersBuilder,
    FieldKind.BOOL: FlagsBuilder,
    FieldKind.DATETIME: InstantsBuilder,
    FieldKind.UUID: KeywordsBuilder,
    FieldKind.TEXT: TextsBuilder,
    FieldKind.GEO: PlacesBuilder,
}
_READERS: Mapping[FieldKind, Callable[[Arrays, int], FieldContent]] = {
    FieldKind.KEYWORD: read_keywords,
    FieldKind.INTEGER: read_numbers,
    FieldKind.FLOAT: read_numbers,
    FieldKind.BOOL: read_flags,
    FieldKind.DATETIME: read_instants,
    FieldKind.UUID: read_keywords,
    FieldKind.TEXT: read_texts,
    FieldKind.GEO: read_places,
}


@dataclass(frozen=True, slots=True)
class FieldIndex:
    """The index of one field over the first `row_count` rows of a segment."""

    kind: FieldKind
    presence: Presence
    content: FieldContent

    @property
    def row_count(self) -> int:
        return self.presence.row_count

    @property
    def byte_count(self) -> int:
        """Bytes of its arrays."""
        return sum(values.nbytes for values in _arrays(self).values())

    @property
    def valued_count(self) -> int:
        """Rows where the field has a value that is not null: what an API calls indexed points."""
        return count_bits(self.presence.valued)

    def bounds(self, test: Test) -> Bounds:
        """The rows that pass. An element passes only where there is one, whatever the test."""
        if isinstance(test, IsEmpty | IsNull | HasCount):
            return self.presence.bounds(test)
        return self.content.bounds(test) or Bounds(no_rows(), rowset_of_bits(self.presence.valued))

    def estimate(self, test: Test) -> Estimate:
        """How many rows pass, about: microseconds for what it holds; else a third of the rows with a value."""
        if isinstance(test, IsEmpty | IsNull | HasCount):
            return self.presence.estimate(test)
        valued = self.valued_count
        return self.content.estimate(test) or Estimate(0, valued // 3, valued)


Indexes = Mapping[JsonPath, FieldIndex]
"""The indexes of a segment, by field."""

FieldKinds = Mapping[str, FieldKind]
"""The declared fields, by path."""


def document_of(payload: bytes) -> dict[str, Any]:
    """A stored payload, parsed; b"" is an empty one."""
    document: dict[str, Any] = orjson.loads(payload) if payload else {}
    return document


def build_indexes(fields: FieldKinds, payloads: Iterable[bytes]) -> Indexes:
    """The indexes of rows with these payloads, in the order of the rows; each payload is parsed once.

    About 1 us a row, and 0.5 to 1 us more for each field. Raises ValueError where a field is no path.
    """
    builder = IndexesBuilder(fields)
    for payload in payloads:
        builder.add(payload)
    return builder.finish()


def encode_index(index: FieldIndex) -> bytes:
    """Its bytes; `decode_index` reads them."""
    return encode_sections(index.kind, index.row_count, _arrays(index))


def decode_index(buffer: Buffer, row_count: int) -> FieldIndex:
    """The index in `buffer`, as views of it. Raises Corrupt where it is none, or not one of `row_count` rows.

    Reads every row number once (200,000 rows: 0.3 ms), so that none leads outside.
    """
    name, found_count, arrays = decode_sections(buffer)
    if name not in list(FieldKind) or found_count != row_count:
        raise Corrupt(f"a payload index is of kind {name!r} and of {found_count} rows, not of {row_count}")
    kind = FieldKind(name)
    return FieldIndex(kind, read_presence(arrays, row_count), _READERS[kind](arrays, row_count))


def _arrays(index: FieldIndex) -> Arrays:
    return {**index.presence.arrays(), **index.content.arrays()}


class _FieldBuilder:
    """One field of an IndexesBuilder."""

    def __init__(self, path: JsonPath, kind: FieldKind) -> None:
        self._path = path
        self._kind = kind
        self._presence = PresenceBuilder()
        self._content = _BUILDERS[kind]()

    def add(self, row: int, document: dict[str, Any]) -> None:
        values = select(document, self._path)
        elements = unwrap(values)
        self._presence.add(values, elements)
        if elements:
            self._content.add(row, elements)

    def finish(self, row_count: int) -> FieldIndex:
        return FieldIndex(self._kind, self._presence.finish(), self._content.finish(row_count))


class IndexesBuilder:
    """Takes payload after payload. Raises ValueError where a field is no path."""

    def __init__(self, fields: FieldKinds) -> None:
        paths = {parse_path(text): kind for text, kind in fields.items()}
        self._fields = {path: _FieldBuilder(path, kind) for path, kind in paths.items()}
        self.row_count = 0

    def add(self, payload: bytes) -> None:
        """The next row's payload."""
        document = document_of(payload)
        for field in self._fields.values():
            field.add(self.row_count, document)
        self.row_count += 1

    def finish(self) -> Indexes:
        """The indexes of the rows so far; more may be added, and it asked again."""
        return {path: field.finish(self.row_count) for path, field in self._fields.items()}


class GrowingIndexes:
    """The indexes of a segment that rows are appended to. One thread appends; what `current` gave never changes."""

    def __init__(self, fields: FieldKinds) -> None:
        self._builder = IndexesBuilder(fields) if fields else None
        self._indexed_count = 0
        self.current: Indexes = {}
        """The indexes of most rows; those behind are left to a scan."""

    @property
    def row_count(self) -> int:
        """Rows that it was given; none where no field is declared."""
        return self._builder.row_count if self._builder is not None else 0

    def append(self, payloads: Iterable[bytes]) -> None:
        """The next rows' payloads."""
        if self._builder is None:
            return
        for payload in payloads:
            self._builder.add(payload)
        if self._builder.row_count - self._indexed_count >= TAIL_ROWS:
            self.current = self._builder.finish()
            self._indexed_count = self._builder.row_count
