"""Several vectors in one row: each is checked and prepared as its distance wants it, and what is missing stays missing."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from shards.distance import Distance
from shards.errors import BadVector, DimensionMismatch, InvalidRequest
from shards.schema import CollectionSpec, HnswSpec, VectorSpec
from shards.vector_layout import UNNAMED

SPEC = CollectionSpec(
    vectors={
        "title": VectorSpec(size=2, distance=Distance.COSINE),
        "image": VectorSpec(size=3, distance=Distance.EUCLID, hnsw=HnswSpec(m=4)),
    }
)
LAYOUT = SPEC.layout
NAN = float("nan")
ROWS = np.array([[1, 2, 3, 3, 4], [NAN, NAN, NAN, 0, 0], [7, 8, 9, NAN, NAN], [NAN] * 5], np.float32)


def test_columns_stand_in_the_order_of_their_names_however_they_were_given() -> None:
    assert [column.name for column in LAYOUT.columns] == ["image", "title"]
    again = CollectionSpec.model_validate_json(SPEC.model_dump_json())
    assert (again, again.layout) == (SPEC, LAYOUT)
    image, title = LAYOUT.columns
    assert (LAYOUT.dim, title.start, LAYOUT.number_of("title")) == (5, 3, 1)
    np.testing.assert_array_equal(title.of(ROWS)[0], [3, 4])
    np.testing.assert_array_equal(image.of(ROWS[0]), [1, 2, 3])
    assert (SPEC.hnsw_of(image).m, SPEC.hnsw_of(title)) == (4, SPEC.hnsw)
    with pytest.raises(InvalidRequest, match="Not existing vector name error: body"):
        LAYOUT.number_of("body")


def test_each_vector_is_prepared_for_its_distance_and_gaps_stay() -> None:
    prepared = LAYOUT.prepare(ROWS)
    np.testing.assert_allclose(prepared[0], [1, 2, 3, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(prepared[1:], ROWS[1:])
    assert [None if gaps is None else gaps.tolist() for gaps in (c.missing(prepared) for c in LAYOUT.columns)] == [
        [False, True, False, True],
        [False, False, True, True],
    ]
    assert LAYOUT.columns[0].missing(ROWS[:1]) is None
    assert LAYOUT.first_bad_row(prepared) is None


@pytest.mark.parametrize("place", [0, 2, 3, 4])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_half_a_vector_is_none(place: int, value: float) -> None:
    bad = np.concatenate([ROWS, ROWS[:1]])
    bad[4, place] = value
    assert LAYOUT.first_bad_row(bad) == 4
    with pytest.raises(BadVector, match=r"vector '(image|title)' of point 4 holds a NaN or an infinite component"):
        LAYOUT.prepare(bad, "point")


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(DimensionMismatch, match="expected dim: 5, got 4"):
        LAYOUT.prepare(ROWS[:, :4])


def test_a_single_vector_is_prepared_as_ever_and_may_be_missing() -> None:
    layout = CollectionSpec(vectors={UNNAMED: VectorSpec(size=2, distance=Distance.DOT)}).layout
    rows = np.ones((2, 2), np.float32)
    assert layout.prepare(rows) is rows
    assert layout.columns[0].of(rows) is rows
    with_gap = np.array([[1, 2], [NAN, NAN]], np.float32)
    np.testing.assert_array_equal(layout.prepare(with_gap), with_gap)
    with pytest.raises(BadVector, match="point 1 holds"):
        layout.prepare(np.array([[1, 2], [NAN, 2]], np.float32), "point")


@pytest.mark.parametrize(
    ("vectors", "what"),
    [
        ({str(number): VectorSpec(size=1, distance=Distance.DOT) for number in range(65)}, "not 65"),
        ({str(number): VectorSpec(size=60_000, distance=Distance.DOT) for number in range(5)}, "300000 components"),
        ({"n" * 256: VectorSpec(size=1, distance=Distance.DOT)}, "256 characters"),
    ],
)
def test_the_limits_are_named(vectors: dict[str, VectorSpec], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        CollectionSpec(vectors=vectors)
