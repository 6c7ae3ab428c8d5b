"""Points streamed out of a Parquet file, or of a folder of them in the order of their names.

Decides nothing about columns (schema.py), values (vectors.py, keys.py, payload.py) or what happens to a bad row (the
policy given); it knows files, row groups and where a row is. Duplicate ids and normalisation are the loader's affair.

Invariants: every row of the files is either in exactly one batch or was told to the policy; a batch never spans row
groups; a generated id is the row's number over all files, so loading the same files again writes the same points.
Column chunks are read through a buffer of READ_BUFFER_BYTES, so memory is bounded by the batch, not by the row group:
86 MB in one row group peak at 18 MB of Arrow memory; with Arrow's defaults it is 95 MB, and no faster.

Measured on 400,000 rows of a fixed-size list of 50 float32 and four plain columns, batches of 8,192, one core: 0.7 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployments.loading.bad_rows import BadRow, BadRowPolicy, Reasons, RowPlace
from deployments.loading.keys import id_as_given, read_keys
from deployments.loading.payload import encode_payloads
from deployments.loading.schema import (
    BY_SCHEMA,
    ColumnChoice,
    Columns,
    called,
    check_same_columns,
    choose_columns,
)
from deployments.loading.vectors import read_points, vector_lengths
from shards.batch import PointBatch, make_batch
from shards.errors import DimensionMismatch, InvalidRequest, NotFound
from shards.schema import CollectionSpec
from shards.vector_layout import UNNAMED

READ_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_FIRST_ROWS = 256
"""Rows looked at together for the first vector of a plain list column."""


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """What was read from some consecutive rows of one row group.

    `place`: the first of them. `rejected_count`: those that the policy was told of; `batch` has the others,
    maybe none. `nulled_count`: NaN and infinite payload numbers that became null.
    """

    batch: PointBatch
    place: RowPlace
    rejected_count: int
    nulled_count: int

    @property
    def row_count(self) -> int:
        return len(self.batch) + self.rejected_count


@dataclass(frozen=True, slots=True)
class SourceVector:
    """One vector of the points, and the column that it comes from.

    `size`: its components, as wide as a fixed-size list is, else as many as the first row has that has any; 0 where no
    row has.
    """

    name: str
    column: str
    size: int
    has_fixed_width: bool

    def __str__(self) -> str:
        size = f" of {self.size}" if self.size else ", null in every row,"
        return f"{called(self.name)}{size} from `{self.column}`"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    first_row: int
    row_count: int


class ParquetSource:
    """Made by `open_source`. Holds no file open; every call of `batches` reads from the start."""

    def __init__(self, files: list[_File], columns: Columns, vectors: list[SourceVector], missing: list[str]) -> None:
        self._files = files
        self._columns = columns
        self.vectors = vectors
        self.missing = missing
        """Names of the collection's other vectors: no point will have them."""
        self.row_count = sum(file.row_count for file in files)

    @property
    def id_column(self) -> str | None:
        """None: ids are generated."""
        return self._columns.id

    @property
    def payload_columns(self) -> tuple[str, ...]:
        return self._columns.payload

    def describe(self) -> str:
        """One line for a person: rows, files, and the role of each column."""
        first = self._files[0].path.name
        where = first if len(self._files) == 1 else f"{len(self._files)} files from {first} on"
        ids = f"ids from `{self.id_column}`" if self.id_column else "ids generated from row numbers"
        payload = ", ".join(f"`{name}`" for name in self.payload_columns) or "none"
        vectors = [*map(str, self.vectors), *(f"no {called(name)}" for name in self.missing)]
        if [vector.name for vector in self.vectors] == [UNNAMED] and not self.missing:
            vectors = [f"vectors of {self.vectors[0].size} from `{self.vectors[0].column}`"]
        return ", ".join([f"{where}: {self.row_count:,} rows", *vectors, ids, f"payload {payload}"])

    def batches(self, batch_rows: int, spec: CollectionSpec, on_bad_row: BadRowPolicy) -> Iterator[SourceBatch]:
        """All rows in order, at most `batch_rows` at a time, their vectors laid out as `spec` has them. Blocks on disk and
        CPU: call it from a thread.

        Raises DimensionMismatch where a column's declared width can't fit, InvalidRequest where `spec` has not one of
        the vectors or a file can't be read, and whatever the policy raises.
        """
        for vector in self.vectors:
            expected = spec.layout.columns[spec.layout.number_of(vector.name)].size
            if vector.has_fixed_width and vector.size != expected:
                raise DimensionMismatch(
                    f"{self._files[0].path.name}: the vectors in column `{vector.column}` have {vector.size}"
                    f" components, expected {expected}"
                )
        for file in self._files:
            for place, rows in _placed_rows(file.path, batch_rows, self._columns.names):
                yield self._source_batch(rows, place, spec, file.first_row + place.file_row, on_bad_row)

    def _source_batch(
        self, rows: pa.RecordBatch, place: RowPlace, spec: CollectionSpec, row_number: int, on_bad_row: BadRowPolicy
    ) -> SourceBatch:
        vectors, reasons = read_points(rows, self._columns.vectors, spec)
        if self.id_column is None:
            keys = np.arange(row_number, row_number + rows.num_rows, dtype=np.uint64)
            key_reasons: Reasons = {}
        else:
            keys, key_reasons = read_keys(rows.column(self.id_column))
        payloads = encode_payloads(rows.select(list(self.payload_columns)))
        batch = make_batch(keys, vectors, payloads.documents)
        reasons = payloads.reasons | key_reasons | reasons
        for row in sorted(reasons):
            given = int(keys[row]) if self.id_column is None else id_as_given(rows.column(self.id_column), row)
            on_bad_row(BadRow(place.after(row), reasons[row], given))
        if reasons:
            batch = batch.take(np.setdiff1d(np.arange(rows.num_rows), list(reasons)))
        return SourceBatch(batch, place, len(reasons), payloads.nulled_count)


def open_source(
    path: Path, choice: ColumnChoice = BY_SCHEMA, collection: CollectionSpec | None = None
) -> ParquetSource:
    """Looks at the metadata of every file, and decides the columns and the vectors' sizes.

    `collection`: where the points go; None: into one that is made like the columns. Raises NotFound where there is
    nothing at `path`, InvalidRequest, naming the file and the column, for what can't be loaded.
    """
    files: list[_File] = []
    first: tuple[str, pa.Schema] | None = None
    row_count = 0
    vector_names = (UNNAMED,) if collection is None else tuple(collection.vectors)
    for file in _parquet_files(path):
        with _opened(file) as parquet:
            schema, file_rows = parquet.schema_arrow, parquet.metadata.num_rows
        if first is None:
            first = file.name, schema
            columns = choose_columns(schema, choice, file.name, vector_names)
        else:
            check_same_columns(first, (file.name, schema), None if choice.payload is None else columns.names)
        files.append(_File(file, row_count, file_rows))
        row_count += file_rows
    assert first is not None, "_parquet_files gives at least one"
    if row_count == 0:
        raise InvalidRequest(f"{path}: there are no rows")
    vectors = [
        _source_vector(files, name, first[1].field(column)) for name, column in sorted(columns.vectors.items())
    ]
    empty = next((vector.column for vector in vectors if not vector.size), None)
    if empty is not None and (collection is None or collection.is_plain):
        raise InvalidRequest(f"{path}: no row has a vector in column `{empty}`")
    missing = sorted(set(vector_names) - columns.vectors.keys()) if collection is not None else []
    return ParquetSource(files, columns, vectors, missing)


def _parquet_files(path: Path) -> list[Path]:
    """The file itself, or a folder's *.parquet by name without hidden ones (and `_metadata` and the like)."""
    try:
        if not path.exists():
            raise NotFound(f"{path}: there is no such file or folder")
        if not path.is_dir():
            return [path]
        found = sorted(file for file in path.iterdir() if file.suffix == ".parquet" and file.name[0] not in "._")
    except OSError as error:
        raise InvalidRequest(f"{path} can't be read: {error.strerror}") from error
    if not found:
        raise InvalidRequest(f"{path}: the folder has no *.parquet file")
    return found


def _source_vector(files: list[_File], name: str, column: pa.Field) -> SourceVector:
    if pa.types.is_fixed_size_list(column.type):
        return SourceVector(name, column.name, column.type.list_size, True)
    return SourceVector(name, column.name, _first_length(files, column.name), False)


def _first_length(files: list[_File], column: str) -> int:
    """Components of the first vector that has any; 0 if none has."""
    for file in files:
        for _, rows in _placed_rows(file.path, _FIRST_ROWS, [column]):
            lengths = vector_lengths(rows.column(column))
            if (lengths > 0).any():
                return int(lengths[lengths > 0][0])
    return 0


def _placed_rows(path: Path, batch_rows: int, names: list[str]) -> Iterator[tuple[RowPlace, pa.RecordBatch]]:
    """The file's rows in pieces that stay within a row group, each with the place of its first row."""
    with _opened(path) as parquet:
        group_start = 0
        for group in range(parquet.num_row_groups):
            place = RowPlace(path.name, group, 0, group_start)
            for rows in _group_rows(parquet, place, batch_rows, names):
                yield place, rows
                place = place.after(rows.num_rows)
            group_start = place.file_row
        if group_start != (promised := parquet.metadata.num_rows):
            raise InvalidRequest(f"{path.name} is damaged: it has {group_start} rows, its metadata says {promised}")


def _group_rows(
    parquet: pq.ParquetFile, place: RowPlace, batch_rows: int, names: list[str]
) -> Iterator[pa.RecordBatch]:
    with _read_errors(f"{place.file}: row group {place.row_group} can't be read"):
        # One thread: the other cores build graphs meanwhile.
        yield from parquet.iter_batches(batch_rows, row_groups=[place.row_group], columns=names, use_threads=False)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with _read_errors(f"{path.name} can't be read"):
        _check_magic(path)
        parquet = pq.ParquetFile(
            path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES, page_checksum_verification=True
        )
    with parquet:
        yield parquet


def _check_magic(path: Path) -> None:
    """Tells what Arrow would not: no Parquet at all from one cut short, empty or encrypted."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
        length = file.seek(0, 2)
        file.seek(max(0, length - len(_MAGIC)))
        tail = file.read()
    if not length:
        raise InvalidRequest(f"{path.name} is empty (0 bytes)")
    if _ENCRYPTED_MAGIC in (head, tail):
        raise InvalidRequest(f"{path.name} is an encrypted Parquet file; these are not read")
    if head != _MAGIC:
        raise InvalidRequest(f"{path.name} is not a Parquet file: it starts with {head!r}, not {_MAGIC!r}")
    if tail != _MAGIC:
        raise InvalidRequest(
            f"{path.name} is a Parquet file that was cut short: its end is missing after {length:,} bytes"
        )


@contextmanager
def _read_errors(what: str) -> Iterator[None]:
    """Arrow's and the system's errors as one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # Arrow's messages may go on for lines, with its own source's places.
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidRequest(f"{what}: {reason}") from error
