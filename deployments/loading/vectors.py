"""List columns as float32 rows, and the rows that don't fit in one.

A null is a bad row where points have the unnamed vector alone; where they have others, too, it says that the point does
not have that vector, which is then a run of NaN (shards/vector_layout.py).

fixed_size_list<float32> without a bad row, which is all that a point has, is not copied: the matrix is a read-only view
of Arrow's buffer. float16 and float64 are converted; a float64 beyond float32's range would turn infinite, so its row
is bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from deployments.loading.bad_rows import Reasons
from shards.batch import Vectors
from shards.distance import first_non_finite_row
from shards.schema import CollectionSpec

FLOAT32_MAX = float(np.finfo(np.float32).max)


def is_list_type(kind: pa.DataType) -> bool:
    """Whether each row of such a column is a list, of whatever."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_vector_type(kind: pa.DataType) -> bool:
    """Whether each row of such a column can be a vector: a list of float16, float32 or float64."""
    return is_list_type(kind) and pa.types.is_floating(kind.value_type)


def vector_lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    """Components of each row, -1 where the row is null."""
    lengths: npt.NDArray[np.int64] = pc.fill_null(pc.list_value_length(column).cast(pa.int64()), -1).to_numpy()
    return lengths


def read_points(rows: pa.RecordBatch, columns: Mapping[str, str], spec: CollectionSpec) -> tuple[Vectors, Reasons]:
    """All vectors of each row, float32 (rows, row dim), and the reasons of the bad rows, which mean nothing.

    `columns`: the column of each vector, by its name; a vector without one is missing in every row. Where several
    columns make a row bad, the reason is the first vector's.
    """
    if spec.is_plain:
        (column,) = columns.values()
        matrix, reasons = read_vectors(rows.column(column), spec.layout.dim)
        return matrix, _naming(column, reasons)
    matrix = np.full((rows.num_rows, spec.layout.dim), np.nan, np.float32)
    reasons = {}
    for vector in spec.layout.columns:
        if vector.name in columns:
            column = columns[vector.name]
            part, bad = read_vectors(rows.column(column), vector.size, null_is_missing=True)
            vector.of(matrix)[:] = part
            reasons = _naming(column, bad) | reasons
    return matrix, reasons


def read_vectors(column: pa.Array, dim: int, null_is_missing: bool = False) -> tuple[Vectors, Reasons]:
    """The rows as float32 (rows, dim), and the reasons of the bad ones (which are zero or not finite). A row of NaN is
    missing, where a null says so.
    """
    lengths = vector_lengths(column)
    right = lengths == dim
    if right.all():
        matrix, reasons = _matrix(column, dim)
        return matrix, reasons
    places = np.flatnonzero(right)
    matrix, inner_reasons = _matrix(column.filter(pa.array(right)), dim)
    reasons = {int(places[row]): reason for row, reason in inner_reasons.items()}
    spread = np.zeros((len(column), dim), dtype=np.float32)
    spread[places] = matrix
    if null_is_missing:
        spread[lengths < 0] = np.nan
        right |= lengths < 0
    for row in np.flatnonzero(~right).tolist():
        reasons[row] = _length_reason(int(lengths[row]), dim)
    return spread, reasons


def _naming(column: str, reasons: Reasons) -> Reasons:
    return {row: f"column `{column}`: {reason}" for row, reason in reasons.items()}


def _matrix(column: pa.Array, dim: int) -> tuple[Vectors, Reasons]:
    """The same for rows that all have `dim` components."""
    components = column.flatten()
    # A null becomes NaN here, so one check finds both.
    values = components.to_numpy(zero_copy_only=False).reshape(-1, dim)
    with np.errstate(over="ignore"):
        matrix: Vectors = values.astype(np.float32, copy=False)
    if first_non_finite_row(matrix) is None:
        return matrix, {}
    finite = np.isfinite(matrix)
    reasons = {}
    for row in np.flatnonzero(~finite.all(axis=1)).tolist():
        place = int(np.argmin(finite[row]))
        is_null = not components[row * dim + place].is_valid
        reasons[row] = f"component {place} of the vector is {_component(is_null, values[row, place])}"
    return matrix, reasons


def _length_reason(length: int, dim: int) -> str:
    return "the vector is null" if length < 0 else f"the vector has {length} components, expected {dim}"


def _component(is_null: bool, value: Any) -> str:
    if is_null:
        return "null"
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "infinite"
    return f"{float(value)!r}, beyond the range of float32 ({FLOAT32_MAX:.4g})"
