"""Vectors as JSON spells them, made into float32 rows; every refusal names its place and, if need be, the feature.

A collection's points have one unnamed vector, or several by name; which is which, shards/vector_layout.py tells. How vectors
are written in answers is vector_selection.py's affair.

Callers pass what pydantic made of the JSON: a list of finite floats in the common case, else an `Unusual`. Packing by
`struct` was measured against numpy.array, fromiter and array.array: 50 floats 1.0 us against 2.8, 1.4 and 1.6; 1,536
floats 10 us against 34, 29 and 33. It also refuses what overflows float32, where numpy would make it infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import hypot
from struct import Struct
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from deployments.http_models import NearestBody, Unusual
from shards.batch import Vectors
from shards.distance import Distance, prepare_vectors
from shards.errors import BadVector, DimensionMismatch, Internal, InvalidRequest, NotSupported, ShoalError
from shards.schema import CollectionSpec
from shards.vector_layout import UNNAMED, VectorColumn, VectorLayout

_FLOATS = TypeAdapter(list[float], config=ConfigDict(strict=True, allow_inf_nan=False))
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SAFE_LENGTH_MIN, _SAFE_LENGTH_MAX = 1e-10, 1e15
"""Lengths between which a vector can be normalised in float32 without losing anything that matters."""
_QUERY_KINDS = (
    "recommend", "discover", "context", "order_by", "fusion", "rrf", "formula", "sample", "mmr", "relevance_feedback"
)  # fmt: skip
_SPARSE_KEYS = {"indices", "values"}
_DESCRIBING_KEYS = {*_SPARSE_KEYS, "model"}
"""A dict with one of these describes a vector (`model`: of a text or an image); any other maps names to vectors."""


def query_vector(query: list[float] | NearestBody | Unusual | None) -> list[float]:
    """The vector that `query` asks the neighbours of. Raises NotSupported for every other kind of query."""
    if type(query) is list:
        return query
    if isinstance(query, NearestBody):
        return query.nearest
    value = query.value if isinstance(query, Unusual) else None
    if value is None:
        raise NotSupported("a query request without `query` is not supported yet")
    if isinstance(value, dict):
        for kind in _QUERY_KINDS:
            if value.get(kind) is not None:
                raise NotSupported(f"{kind} in a query is not supported")
        if "nearest" in value:
            unknown = value.keys() - {"nearest", "mmr"}
            if unknown:
                raise InvalidRequest(f"Format error in JSON body: query: unknown field `{min(unknown)[:80]}`")
            value = value["nearest"]
    if isinstance(value, int | str) and not isinstance(value, bool):
        raise NotSupported("a query by point id is not supported yet; retrieve the point's vector and send that")
    return dense_vector(Unusual(value), "query")


def dense_vector(vector: list[float] | Unusual, place: str) -> list[float]:
    """The list of finite floats that `vector` is. `place` says in errors where it stood."""
    if not isinstance(vector, Unusual):
        return vector
    try:
        return _FLOATS.validate_python(vector.value)
    except ValidationError:
        raise _refusal(vector.value, place) from None


def searched_vector(spec: CollectionSpec, using: str | None) -> VectorColumn:
    """The vector that a search compares. Raises InvalidRequest where there is none of this name."""
    return spec.layout.columns[spec.layout.number_of(using or UNNAMED)]


def pack_points(vectors: Sequence[list[float] | Unusual], spec: CollectionSpec, place: str) -> Vectors:
    """One row of all vectors for each point, float32 (len(vectors), row dim), NaN where a point has not one of them.

    `place` is how errors name a point's vectors, with `{}` for its number. Errors as of `pack_vectors`.
    """
    if spec.is_plain and not any(isinstance(vector, Unusual) for vector in vectors):
        return pack_vectors(vectors, spec.layout.columns[0], place)  # type: ignore[arg-type]
    given = _Given(spec.layout)
    for number, vector in enumerate(vectors):
        where = place.format(number)
        if vector == [] and UNNAMED not in spec.vectors:
            continue  # how clients say that a point has no vector
        for name, one in _by_name(vector, where).items():
            given.add(name, number, dense_vector(one, _place_of(where, name)), where)
    return given.packed(len(vectors), place)


def pack_columns(vectors: list[list[float]] | Unusual, count: int, spec: CollectionSpec, place: str) -> Vectors:
    """The same from a list of `count` vectors, or from such a list for each name."""
    value: Any = vectors.value if isinstance(vectors, Unusual) else vectors
    given = _Given(spec.layout)
    for name, rows in (value if isinstance(value, dict) else {UNNAMED: value}).items():
        where = _place_of(place, name)
        if not isinstance(rows, list):
            raise InvalidRequest(f"Format error in JSON body: {where} is not a list of vectors: {rows!r:.40}")
        if len(rows) != count:
            raise InvalidRequest(f"{where} holds {len(rows)} items, batch.ids {count}; they must be as many")
        checked = rows if isinstance(vectors, list) else None
        for number, row in enumerate(rows):
            vector = row if checked else dense_vector(Unusual(row), f"{where}[{number}]")
            given.add(name, number, vector, place)
    return given.packed(count, place, "[{}]")


class _Given:
    """The vectors of a request, by their column."""

    def __init__(self, layout: VectorLayout) -> None:
        self._layout = layout
        self._points: list[list[int]] = [[] for _ in layout.columns]
        self._vectors: list[list[list[float]]] = [[] for _ in layout.columns]

    def add(self, name: str, point: int, vector: list[float], where: str) -> None:
        try:
            number = self._layout.number_of(name)
        except InvalidRequest as error:
            raise InvalidRequest(f"{where}: {error.message}") from None
        self._points[number].append(point)
        self._vectors[number].append(vector)

    def packed(self, count: int, place: str, suffix: str = "") -> Vectors:
        rows = np.full((count, self._layout.dim), np.nan, np.float32)
        for column, points, vectors in zip(self._layout.columns, self._points, self._vectors, strict=True):
            if points:
                column.of(rows)[points] = pack_vectors(
                    vectors, column, _place_of(place, column.name) + suffix, points
                )
        return rows


def _by_name(vector: list[float] | Unusual, place: str) -> dict[str, list[float] | Unusual]:
    """A point's vectors by their names: a list alone is the unnamed one."""
    if isinstance(vector, Unusual) and isinstance(vector.value, dict) and not vector.value.keys() & _DESCRIBING_KEYS:
        return {name: Unusual(one) for name, one in vector.value.items()}
    return {UNNAMED: vector}


def _place_of(place: str, name: str) -> str:
    # Braces of a name would be taken for the place's own.
    return f"{place}.{name[:80].replace('{', '').replace('}', '')}" if name else place


def _refusal(value: Any, place: str) -> ShoalError:
    """What is wrong with a value that is no list of finite floats."""
    if isinstance(value, dict) and value.keys() & _SPARSE_KEYS:
        return NotSupported(f"{place}: sparse vectors are not supported")
    if isinstance(value, dict) and value.keys() & _DESCRIBING_KEYS:
        return NotSupported(f"{place}: inference (turning text or images into vectors) is not supported")
    if isinstance(value, list) and value and isinstance(value[0], list):
        return NotSupported(f"{place}: multivectors are not supported")
    if isinstance(value, list):
        return _bad_component(value, place)
    return InvalidRequest(f"Format error in JSON body: {place}: a vector is a list of numbers, got {value!r:.40}")


def _bad_component(values: list[Any], place: str) -> ShoalError:
    """What is wrong with the first component that no float32 can hold."""
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return InvalidRequest(f"Format error in JSON body: {place}[{index}] is not a number: {value!r:.40}")
        if not abs(value) <= _FLOAT32_MAX:  # NaN too
            # A huge integer has no float, and its digits may be too many to print.
            shown = f"{value:.6g}" if isinstance(value, float) else "a huge integer"
            return BadVector(f"{place}[{index}] is {shown}; every component must be finite in float32")
    return Internal(f"{place}: no component is wrong")


def pack_query(values: list[float], spec: VectorColumn, place: str) -> Vectors:
    """One query, float32 (1, size), prepared for search: what `pack_vectors` and `prepare_vectors` make of it, and with
    their errors. 50 components take 8 us instead of 14, 1,536 about as long.
    """
    if len(values) == spec.size and spec.distance is Distance.COSINE:
        length = hypot(*values)
        if _SAFE_LENGTH_MIN < length < _SAFE_LENGTH_MAX:
            packed = np.frombuffer(_packer(spec.size).pack(*values), np.float32).reshape(1, -1)
            return packed * np.float32(1.0 / length)
    return prepare_vectors(pack_vectors([values], spec, place), spec.distance, spec.size, place)


def pack_vectors(
    rows: Sequence[list[float]], spec: VectorColumn, place: str, numbers: Sequence[int] | None = None
) -> Vectors:
    """float32 (len(rows), size), read-only; NaN and infinities are left to `prepare_vectors`.

    `place` is how errors name a row, with `{}` for its number, or for that in `numbers`. Raises DimensionMismatch,
    BadVector, InvalidRequest.
    """
    size = spec.size
    for row, values in enumerate(rows):
        if len(values) != size:
            where = place.format(row if numbers is None else numbers[row])
            raise DimensionMismatch(f"{where}: Vector dimension error: expected dim: {size}, got {len(values)}")
    pack = _packer(size).pack
    try:
        packed = b"".join([pack(*values) for values in rows])
    except OverflowError:
        bad = next(row for row, values in enumerate(rows) if max(map(abs, values)) > _FLOAT32_MAX)
        raise _bad_component(rows[bad], place.format(bad if numbers is None else numbers[bad])) from None
    return np.frombuffer(packed, np.float32).reshape(-1, size)


@lru_cache(maxsize=64)
def _packer(size: int) -> Struct:
    return Struct(f"<{size}f")  # native "f" would turn what overflows into infinities; "<f" refuses it
