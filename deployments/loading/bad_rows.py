"""Rows that can't become points: where they are, why, and what is done with them.

A policy is a function that is told of every bad row, in the order of the rows: `fail` stops the load at the first,
a `RejectsFile` writes them down so that the load goes on. All numbers count from 0, as Parquet's own tools do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from shards.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One row: `row` counts within its row group, `file_row` within its file."""

    file: str
    row_group: int
    row: int
    file_row: int

    def after(self, row_count: int) -> RowPlace:
        """The place `row_count` rows further on in the same row group."""
        return replace(self, row=self.row + row_count, file_row=self.file_row + row_count)

    def __str__(self) -> str:
        return f"{self.file}: row group {self.row_group}, row {self.row} (file row {self.file_row})"


@dataclass(frozen=True, slots=True)
class BadRow:
    """`id` as the file has it (a UUID as text), the row number where ids are generated, None where it is null."""

    place: RowPlace
    reason: str
    id: int | str | None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


Reasons = dict[int, str]
"""Why rows of a batch are bad, by their number in it."""

BadRowPolicy = Callable[[BadRow], None]


def fail(bad_row: BadRow) -> None:
    """The policy that stops at the first bad row: raises InvalidRequest with its place and reason."""
    raise InvalidRequest(str(bad_row))


class RejectsFile:
    """The policy that writes every bad row to a file, one JSON object a line, and goes on.

    The file is made when the context is entered, so that a path that can't be written is found before the load.
    An existing file that holds anything is refused, never overwritten: it may be the rejects of the last load, or
    the data itself. A file without a line is removed at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> RejectsFile:
        try:
            if self.path.exists() and self.path.stat().st_size:
                raise InvalidRequest(f"the rejects file {self.path} exists already; move it away or name another one")
            self._file = self.path.open("wb")
        except OSError as error:
            raise InvalidRequest(f"the rejects file {self.path} can't be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None, "left without being entered"
        self._file.close()
        if not self.count:
            self.path.unlink(missing_ok=True)

    def __call__(self, bad_row: BadRow) -> None:
        assert self._file is not None, "a RejectsFile is a context manager"
        place = bad_row.place
        line = {
            "file": place.file,
            "row_group": place.row_group,
            "row": place.row,
            "file_row": place.file_row,
            "id": bad_row.id,
            "reason": bad_row.reason,
        }
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self.count += 1
