"""Which of a point's vectors an answer shows, and how: the unnamed one alone as a list, others by their names.

The shards give a point's whole row (shards/vector_layout.py); what of it is shown is chosen here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shards.batch import Vectors
from shards.errors import InvalidRequest
from shards.schema import CollectionSpec
from shards.vector_layout import VectorColumn


class VectorSelection(NamedTuple):
    """`columns`: those that were asked for; `is_plain`: the collection has the unnamed vector alone."""

    columns: tuple[VectorColumn, ...]
    is_plain: bool

    @property
    def wanted(self) -> bool:
        """Whether any was asked for."""
        return bool(self.columns)

    def show(self, row: Vectors) -> Any:
        """What JSON has of a point's row (row dim,): a vector, or those that it has by name."""
        # NaN is the one number that differs from itself: a vector that begins with it is missing.
        if self.is_plain:
            return row if row[0] == row[0] else {}
        return {column.name: column.of(row) for column in self.columns if (first := row[column.start]) == first}


NO_VECTORS = VectorSelection((), False)


def all_vectors(spec: CollectionSpec) -> VectorSelection:
    """Every vector."""
    return VectorSelection(spec.layout.columns, spec.is_plain)


def parse_vector_selection(spec: CollectionSpec, value: object) -> VectorSelection:
    """What `with_vector` asks for: a bool, or a list of names. Raises InvalidRequest for anything else."""
    if value is None or value is False:
        return NO_VECTORS
    if value is True:
        return all_vectors(spec)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        numbers = sorted({spec.layout.number_of(name) for name in value})
        return VectorSelection(tuple(spec.layout.columns[number] for number in numbers), spec.is_plain)
    raise InvalidRequest("Format error in JSON body: with_vector is neither a bool nor a list of vector names")
