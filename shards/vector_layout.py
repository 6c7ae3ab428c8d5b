"""Where the vectors of a point stand: one row of float32 holds all of them, one behind the other, ordered by name.

So a batch, a log, a growing segment and a segment's file have one matrix each, however many vectors a point has, and a
vector is a run of its columns. A vector that a point does not have is a run of NaN, which no stored vector may hold; it
takes its room in every matrix, but none in a graph. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.distance import Distance, Floats, first_non_finite_row, prepare_vectors
from shards.errors import BadVector, DimensionMismatch, InvalidRequest

UNNAMED = ""
"""The name of a collection's unnamed vector."""


class VectorColumn(NamedTuple):
    """One named vector: components start to start + size of a row."""

    name: str
    start: int
    size: int
    distance: Distance

    def of(self, rows: Floats) -> Floats:
        """This vector of each row, as a view, shape rows.shape[:-1] + (size,)."""
        return rows if self.size == rows.shape[-1] else rows[..., self.start : self.start + self.size]

    def missing(self, rows: Floats) -> npt.NDArray[np.bool_] | None:
        """Which of the rows (count, row dim) do not have this vector, bool (count,); None where all have it."""
        gaps: npt.NDArray[np.bool_] = np.isnan(rows[:, self.start])
        return gaps if gaps.any() else None


@dataclass(frozen=True, slots=True)
class VectorLayout:
    """All vectors of a collection, in the order of their names. `dim`: components of a row. A vector's number is its place
    here.
    """

    columns: tuple[VectorColumn, ...]
    dim: int

    @classmethod
    def of(cls, vectors: Sequence[tuple[str, int, Distance]]) -> VectorLayout:
        """From name, size and distance of each, ordered by name."""
        columns, start = [], 0
        for name, size, distance in vectors:
            columns.append(VectorColumn(name, start, size, distance))
            start += size
        return cls(tuple(columns), start)

    def number_of(self, name: str) -> int:
        """The vector's number. Raises InvalidRequest where there is none of this name."""
        for number, column in enumerate(self.columns):
            if column.name == name:
                return number
        raise InvalidRequest(f"Not existing vector name error: {name[:80]}")

    def prepare(self, rows: Floats, what: str = "vector") -> Floats:
        """The rows (count, dim) as they are stored: each vector checked, and normalised for Cosine; NaN runs stay.

        Returns the same array where nothing changes. Errors as of `prepare_vectors`.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            got = rows.shape[1] if rows.ndim == 2 else rows.shape
            raise DimensionMismatch(f"Vector dimension error: expected dim: {self.dim}, got {got}")
        parts = []
        for column in self.columns:
            part, gaps = column.of(rows), column.missing(rows)
            named = f"vector {column.name!r} of {what}" if column.name else what
            if gaps is not None:
                if (half := gaps & ~np.isnan(part).all(axis=1)).any():
                    raise BadVector(f"{named} {int(np.argmax(half))} holds a NaN or an infinite component")
                part = np.where(gaps[:, None], np.float32(0), part)
            part = prepare_vectors(part, column.distance, column.size, named)
            parts.append(part if gaps is None else np.where(gaps[:, None], np.float32(np.nan), part))
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0] if parts else rows

    def first_bad_row(self, rows: Floats) -> int | None:
        """The first row (count, dim) with a NaN or an infinity that is no missing vector, or None."""
        if first_non_finite_row(rows) is None:
            return None
        bad = np.zeros(len(rows), np.bool_)
        for column in self.columns:
            part = column.of(rows)
            bad |= ~(np.isfinite(part).all(axis=1) | np.isnan(part).all(axis=1))
        return int(np.argmax(bad)) if bad.any() else None
