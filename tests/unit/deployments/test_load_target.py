"""Whether a file's vectors fit a collection, and what a new one is made like."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.loading.load import BATCH_VECTOR_BYTES_MAX, LoadOrder
from deployments.loading.source import ParquetSource, SourceVector
from deployments.loading.target import NewCollection, check_fits, new_spec
from shards.distance import Distance
from shards.errors import DimensionMismatch, InvalidRequest
from shards.schema import DIM_MAX, CollectionSpec, HnswSpec, VectorSpec
from tests.shard_oracle import spec_of

NEWS = CollectionSpec(
    vectors={
        "title": VectorSpec(size=3, distance=Distance.COSINE),
        "image": VectorSpec(size=2, distance=Distance.EUCLID),
    }
)


def vector(name: str, size: int, column: str = "x") -> SourceVector:
    return SourceVector(name, column, size, has_fixed_width=False)


@pytest.mark.parametrize(
    ("spec", "vectors"),
    [
        (spec_of(dim=4), [vector("", 4)]),
        (NEWS, [vector("title", 3), vector("image", 2)]),
        (NEWS, [vector("image", 2)]),
        (NEWS, [vector("image", 0), vector("title", 3)]),
    ],
)
def test_vectors_that_fit(spec: CollectionSpec, vectors: list[SourceVector]) -> None:
    check_fits(vectors, "news", spec)


@pytest.mark.parametrize(
    ("spec", "one", "sentence"),
    [
        (
            spec_of(dim=4),
            vector("", 3),
            "the vectors in column `x` have 3 components, those of collection `news` 4; nothing was sent",
        ),
        (
            NEWS,
            vector("title", 2),
            "the vectors in column `x` have 2 components, those of collection `news` as vector `title` 3; nothing was",
        ),
        (
            NEWS,
            vector("audio", 2),
            "the collection `news` has no vector `audio` for column `x`, it has vector `image` of 2, vector `title` of 3",
        ),
        (
            NEWS,
            vector("", 2),
            "the collection `news` has no unnamed vector for column `x`, it has vector `image` of 2,",
        ),
        (
            spec_of(dim=4),
            vector("a", 4),
            "the collection `news` has no vector `a` for column `x`, it has unnamed vector",
        ),
    ],
)
def test_vectors_that_do_not(spec: CollectionSpec, one: SourceVector, sentence: str) -> None:
    with pytest.raises((InvalidRequest, DimensionMismatch)) as refusal:
        check_fits([one], "news", spec)
    assert refusal.value.message.startswith(sentence)


def test_a_new_collection_has_the_vectors_of_the_file() -> None:
    hnsw = HnswSpec(m=8)
    spec = new_spec(NewCollection(Distance.DOT, hnsw), [vector("", 4), vector("title", 3)])
    assert spec == CollectionSpec(
        vectors={
            "": VectorSpec(size=4, distance=Distance.DOT),
            "title": VectorSpec(size=3, distance=Distance.DOT),
        },
        hnsw=hnsw,
    )


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ([vector("title", DIM_MAX + 1)], "vectors.title.size: Input should be less than or equal to 65536; nothing"),
        ([vector(f"v{number}", DIM_MAX) for number in range(5)], "components together; 262144 is the limit"),
        ([vector(f"v{number}", 1) for number in range(65)], "a collection has 64 vectors at most, not 65"),
        ([vector("v" * 256, 1)], "a vector's name has 256 characters"),
    ],
)
def test_a_collection_that_there_cannot_be(vectors: list[SourceVector], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^no collection can have such vectors: ") as refusal:
        new_spec(NewCollection(), vectors)
    assert sentence in refusal.value.message


def test_a_batch_is_as_large_as_all_vectors_of_its_points(tmp_path: Path) -> None:
    order = LoadOrder(ParquetSource([], None, [vector("a", 1)], ["b"]), "news", batch_rows=100)  # type: ignore[arg-type]
    wide = CollectionSpec(
        vectors={name: VectorSpec(size=DIM_MAX, distance=Distance.DOT) for name in ("a", "b", "c", "d")}
    )
    assert order.batch_rows_fitting(NEWS) == 100
    assert order.batch_rows_fitting(wide) == BATCH_VECTOR_BYTES_MAX // (4 * 4 * DIM_MAX) == 16
