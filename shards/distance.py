"""Distances and scores, and the checks that make a vector fit for one.

Inside Shoal there is one *distance* that ascends (smaller is nearer):

    Cosine, Dot   1 - inner product      (Cosine vectors are normalised before they are stored or searched)
    Euclid        squared L2             (hnswlib's `l2`)
    Manhattan     L1

The *score* is what the API returns: inner product for Cosine and Dot (descends), the plain distance for Euclid
and Manhattan (ascends). `scores` is the one place that converts.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from shards.errors import BadVector, DimensionMismatch

Floats = npt.NDArray[np.float32]


class Distance(StrEnum):
    """The values are the API's spellings."""

    COSINE = "Cosine"
    DOT = "Dot"
    EUCLID = "Euclid"
    MANHATTAN = "Manhattan"


LENGTH_MAX = 1e18
"""The longest vector (L2) that can be stored or searched unnormalised: products and squares of two such stay finite."""

_PLAIN_SQUARE_MIN, _PLAIN_SQUARE_MAX = 1e-20, 1e30
"""Squared lengths between which float32 arithmetic loses nothing that matters."""


def prepare_vectors(vectors: Floats, distance: Distance, dim: int, what: str = "vector") -> Floats:
    """The vectors (count, dim) as they are stored and searched: checked, and normalised for Cosine.

    A zero vector has no direction: under Cosine it stays zero, so that its score is 0 against everything.
    Returns the same array where nothing changes, else a new one.
    Raises DimensionMismatch or BadVector (NaN, infinite, or longer than LENGTH_MAX), with the first bad row.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        got = vectors.shape[1] if vectors.ndim == 2 else vectors.shape
        raise DimensionMismatch(f"Vector dimension error: expected dim: {dim}, got {got}")
    if len(vectors) == 1:  # a query: one product tells all, 10 us less than the general way
        square = float(vectors[0] @ vectors[0])
        if _PLAIN_SQUARE_MIN < square < _PLAIN_SQUARE_MAX:
            return vectors * np.float32(square**-0.5) if distance is Distance.COSINE else vectors
    bad_row = first_non_finite_row(vectors)
    if bad_row is not None:
        raise BadVector(f"{what} {bad_row} holds a NaN or an infinite component; every component must be finite")
    if distance is Distance.COSINE:
        return normalised(vectors)
    lengths = _lengths(vectors)
    if lengths.size and lengths.max() > LENGTH_MAX:
        row = int(lengths.argmax())
        raise BadVector(
            f"{what} {row} has length {lengths[row]:.3g}; under {distance} it can be {LENGTH_MAX:.0e} at most"
        )
    return vectors


def normalised(vectors: Floats) -> Floats:
    """New array with rows of length 1; zero rows stay zero. Huge and tiny rows keep their direction."""
    lengths = _lengths(vectors)
    lengths[lengths == 0.0] = 1.0
    return (vectors / lengths[:, None]).astype(np.float32, copy=False)


def _lengths(vectors: Floats) -> npt.NDArray[np.float64]:
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))


def first_non_finite_row(vectors: Floats) -> int | None:
    """The first row with a NaN or an infinity, or None. Cost: one pass where all is well."""
    # A sum is finite only if every term is; the exact look follows only where it isn't.
    with np.errstate(invalid="ignore"):
        total = vectors.sum(dtype=np.float64)
    if np.isfinite(total):
        return None
    bad_rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return int(bad_rows[0]) if bad_rows.size else None


def exact_distances(matrix: Floats, query: Floats, distance: Distance) -> Floats:
    """Distances (count,) of one prepared query (dim,) to every row of `matrix` (count, dim)."""
    if distance in (Distance.COSINE, Distance.DOT):
        return np.float32(1.0) - matrix @ query
    difference = matrix - query
    if distance is Distance.EUCLID:
        squared: Floats = np.einsum("ij,ij->i", difference, difference)
        return squared
    absolute: Floats = np.abs(difference, out=difference).sum(axis=1)
    return absolute


def scores(distances: Floats, distance: Distance) -> Floats:
    """The API's scores of inner distances, any shape."""
    if distance in (Distance.COSINE, Distance.DOT):
        return np.float32(1.0) - distances
    return np.sqrt(distances) if distance is Distance.EUCLID else distances


def passes_threshold(found_scores: Floats, score_threshold: float, distance: Distance) -> npt.NDArray[np.bool_]:
    """Which scores are good enough: at least the threshold, or at most where a smaller score is better."""
    with np.errstate(over="ignore"):  # one beyond float32 is infinite, which is what it means here
        threshold = np.float32(score_threshold)
    if distance in (Distance.COSINE, Distance.DOT):
        return found_scores >= threshold
    return found_scores <= threshold
