"""Vectors as JSON spells them, made into float32 rows; every refusal names its place and, if need be, the feature.

Callers pass what pydantic made of the JSON: a list of finite floats in the common case, else an `Unusual`. Packing by
`struct` was measured against numpy.array, fromiter and array.array: 50 floats 1.0 us against 2.8, 1.4 and 1.6; 1,536
floats 10 us against 34, 29 and 33. It also refuses what overflows float32, where numpy would make it infinite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from shards.schema import UNNAMED, VectorSpec

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
    value = vector.value
    if isinstance(value, dict) and not value.keys() & _DESCRIBING_KEYS:
        value = _unnamed(value, place)
    try:
        return _FLOATS.validate_python(value)
    except ValidationError:
        raise _refusal(value, place) from None


def dense_vectors(vectors: list[list[float]] | Unusual, place: str) -> list[list[float]]:
    """The same for a list of vectors."""
    if not isinstance(vectors, Unusual):
        return vectors
    value = vectors.value
    if isinstance(value, dict):
        value = _unnamed(value, place)
    if not isinstance(value, list):
        raise InvalidRequest(f"Format error in JSON body: {place} is not a list of vectors: {value!r:.40}")
    return [dense_vector(Unusual(row), f"{place}[{index}]") for index, row in enumerate(value)]


def _unnamed(named: dict[str, Any], place: str) -> Any:
    """What stands behind the one name that there is. Raises InvalidRequest for another name, or none."""
    check_names(named, place)
    if UNNAMED not in named:
        raise InvalidRequest(f"{place}: no vector is given")
    return named[UNNAMED]


def check_names(names: Iterable[str], place: str) -> None:
    """Raises InvalidRequest for the first name that is not the unnamed vector's."""
    for name in names:
        if name != UNNAMED:
            raise InvalidRequest(f"{place}: Not existing vector name error: {name[:80]}")


def wants_vectors(value: object) -> bool:
    """What `with_vector` asks for: a bool, or a list of names. Raises InvalidRequest for anything else."""
    if value is None or value is False or value is True:
        return value is True
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        check_names(value, "with_vector")
        return bool(value)
    raise InvalidRequest("Format error in JSON body: with_vector is neither a bool nor a list of vector names")


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


def pack_query(values: list[float], spec: VectorSpec, place: str) -> Vectors:
    """One query, float32 (1, size), prepared for search: what `pack_vectors` and `prepare_vectors` make of it, and with
    their errors. 50 components take 8 us instead of 14, 1,536 about as long.
    """
    if len(values) == spec.size and spec.distance is Distance.COSINE:
        length = hypot(*values)
        if _SAFE_LENGTH_MIN < length < _SAFE_LENGTH_MAX:
            packed = np.frombuffer(_packer(spec.size).pack(*values), np.float32).reshape(1, -1)
            return packed * np.float32(1.0 / length)
    return prepare_vectors(pack_vectors([values], spec, place), spec.distance, spec.size, place)


def pack_vectors(rows: Sequence[list[float]], spec: VectorSpec, place: str) -> Vectors:
    """float32 (len(rows), size), read-only; NaN and infinities are left to `prepare_vectors`.

    `place` is how errors name a row, with `{}` for its number. Raises DimensionMismatch, BadVector, InvalidRequest.
    """
    size = spec.size
    for row, values in enumerate(rows):
        if len(values) != size:
            raise DimensionMismatch(
                f"{place.format(row)}: Vector dimension error: expected dim: {size}, got {len(values)}"
            )
    pack = _packer(size).pack
    try:
        packed = b"".join([pack(*values) for values in rows])
    except OverflowError:
        bad = next(row for row, values in enumerate(rows) if max(map(abs, values)) > _FLOAT32_MAX)
        raise _bad_component(rows[bad], place.format(bad)) from None
    return np.frombuffer(packed, np.float32).reshape(-1, size)


@lru_cache(maxsize=64)
def _packer(size: int) -> Struct:
    return Struct(f"<{size}f")  # native "f" would turn what overflows into infinities; "<f" refuses it
