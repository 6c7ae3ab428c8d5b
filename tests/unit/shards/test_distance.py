"""Distances against the textbook in float64, the conversion to scores, and the checks on vectors."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from shards.distance import (
    Distance,
    exact_distances,
    first_non_finite_row,
    normalised,
    passes_threshold,
    prepare_vectors,
    scores,
)
from shards.errors import BadVector, DimensionMismatch

Doubles = npt.NDArray[np.float64]

RANDOM = np.random.default_rng(7)
MATRIX = RANDOM.normal(size=(50, 8)).astype(np.float32)
QUERY = RANDOM.normal(size=(1, 8)).astype(np.float32)
ALL = pytest.mark.parametrize("distance", list(Distance))


def textbook_scores(distance: Distance) -> Doubles:
    """What the API promises, computed plainly in float64 from the vectors as the client sent them."""
    matrix, query = MATRIX.astype(np.float64), QUERY[0].astype(np.float64)
    if distance is Distance.DOT:
        return matrix @ query
    if distance is Distance.COSINE:
        return matrix @ query / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(query))
    order = 2 if distance is Distance.EUCLID else 1
    return np.linalg.norm(matrix - query, ord=order, axis=1)


def inner_distances(distance: Distance) -> npt.NDArray[np.float32]:
    matrix, query = prepare_vectors(MATRIX, distance, 8), prepare_vectors(QUERY, distance, 8)
    return exact_distances(matrix, query[0], distance)


@ALL
def test_scores_are_the_textbook_ones(distance: Distance) -> None:
    distances = inner_distances(distance)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(scores(distances, distance), textbook_scores(distance), rtol=1e-4, atol=1e-5)


@ALL
def test_distance_ascends_whatever_the_score_does(distance: Distance) -> None:
    best_score_first = np.argsort(textbook_scores(distance))
    if distance in (Distance.COSINE, Distance.DOT):
        best_score_first = best_score_first[::-1]
    np.testing.assert_array_equal(np.argsort(inner_distances(distance)), best_score_first)


@ALL
def test_threshold_keeps_the_better_scores(distance: Distance) -> None:
    found = scores(inner_distances(distance), distance)
    threshold = float(np.median(found))  # between two scores: an even count of rows
    kept = passes_threshold(found, threshold, distance)
    nearest_first = np.argsort(inner_distances(distance))
    np.testing.assert_array_equal(kept[nearest_first], [True] * 25 + [False] * 25)


@ALL
def test_a_score_passes_itself_as_threshold(distance: Distance) -> None:
    found = scores(inner_distances(distance), distance)
    assert all(passes_threshold(found[row : row + 1], float(found[row]), distance).all() for row in range(len(found)))
    assert passes_threshold(np.array([0.1], np.float32), 0.1, distance).all()  # as JSON spells it, in float64


@pytest.mark.parametrize("distance", [Distance.EUCLID, Distance.MANHATTAN])
def test_a_negative_threshold_on_a_length_passes_nothing(distance: Distance) -> None:
    assert not passes_threshold(scores(inner_distances(distance), distance), -0.5, distance).any()


@pytest.mark.parametrize("distance", Distance)
def test_a_threshold_beyond_float32_keeps_all_or_nothing(distance: Distance) -> None:
    found = np.array([-1.0, 0.0, 3e38], np.float32)
    larger_is_better = distance in (Distance.COSINE, Distance.DOT)
    assert passes_threshold(found, 1e308, distance).tolist() == [not larger_is_better] * 3
    assert passes_threshold(found, -1e308, distance).tolist() == [larger_is_better] * 3


def test_exact_distances_leave_their_input_alone() -> None:
    before = MATRIX.copy()
    for distance in Distance:
        exact_distances(MATRIX, QUERY[0], distance)
    np.testing.assert_array_equal(MATRIX, before)


@pytest.mark.parametrize("distance", [Distance.DOT, Distance.EUCLID, Distance.MANHATTAN])
def test_only_cosine_changes_vectors(distance: Distance) -> None:
    assert prepare_vectors(MATRIX, distance, 8) is MATRIX


def test_cosine_normalises_a_copy() -> None:
    before = MATRIX.copy()
    prepared = prepare_vectors(MATRIX, Distance.COSINE, 8)
    np.testing.assert_allclose(np.linalg.norm(prepared, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(MATRIX, before)


def test_normalising_keeps_direction_at_any_size() -> None:
    rows = np.array([[3e-20, 4e-20], [3e30, 4e30], [0.0, 0.0], [3.0, 4.0]], np.float32)
    unit = normalised(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 7), (2, 9), (2, 0), (8,), (1, 2, 8)])
def test_wrong_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(DimensionMismatch, match="expected dim: 8, got"):
        prepare_vectors(np.zeros(shape, np.float32), Distance.DOT, 8)


@ALL
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_first_bad_row_is_named(distance: Distance, value: float) -> None:
    vectors = MATRIX.copy()
    vectors[31, 2] = vectors[17, 5] = value
    with pytest.raises(BadVector, match="point 17 holds a NaN or an infinite"):
        prepare_vectors(vectors, distance, 8, what="point")


def test_infinities_that_cancel_are_found() -> None:
    vectors = np.zeros((3, 4), np.float32)
    vectors[1, 0], vectors[2, 0] = math.inf, -math.inf
    assert first_non_finite_row(vectors) == 1


def test_huge_but_finite_is_fine() -> None:
    assert first_non_finite_row(np.full((1000, 8), np.finfo(np.float32).max)) is None
    assert first_non_finite_row(np.zeros((0, 8), np.float32)) is None
