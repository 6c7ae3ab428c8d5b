"""What pyarrow wrote comes back as the same points, whatever the types, row groups and batch sizes, and damage comes
back as rows or as one sentence."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.loading.bad_rows import BadRow
from deployments.loading.schema import ColumnChoice
from deployments.loading.source import open_source
from shards.distance import Distance
from shards.errors import InvalidRequest, ShoalError
from shards.point_ids import INTEGER_MAX, key_list, parse_point_id
from shards.schema import CollectionSpec, VectorSpec
from tests.shard_oracle import spec_of

DIM = 3
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.int8()): st.lists(st.none() | st.integers(-128, 127), max_size=3),
    pa.struct({"a": pa.string(), "b": pa.float64()}): st.fixed_dictionaries({"a": TEXT, "b": st.floats()}),
    pa.map_(pa.string(), pa.int8()): st.dictionaries(TEXT, st.integers(-128, 127), max_size=3),
}
IDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.uint64(), st.integers(0, INTEGER_MAX)),
    (pa.int32(), st.integers(-3, 2**31 - 1)),
    (pa.string(), st.uuids().map(str) | st.uuids().map(lambda value: value.hex) | TEXT),
    (pa.binary(16), st.uuids().map(lambda value: value.bytes)),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables with every kind of id, list, float and payload, and now and then a row that can't be a point."""
    count = draw(st.integers(1, 12))

    def column(kind: pa.DataType, values: st.SearchStrategy[Any]) -> pa.Array:
        return pa.array(draw(st.lists(values, min_size=count, max_size=count)), kind)

    floats = draw(st.sampled_from([pa.float16(), pa.float32(), pa.float64()]))
    make_list = draw(st.sampled_from([pa.list_, pa.large_list, lambda kind: pa.list_(kind, DIM)]))
    kind = make_list(floats)
    widths = st.just(DIM) if pa.types.is_fixed_size_list(kind) else st.sampled_from([DIM] * 8 + [2])
    # Exact in every width, so that the slow reading needs no rounding of its own.
    components = st.floats(-1e4, 1e4, width=16) | st.sampled_from([0.0] * 20 + [float("nan"), None])
    vectors = widths.flatmap(lambda width: st.lists(components, min_size=width, max_size=width))
    columns = {"vector": column(kind, st.none() | vectors if draw(st.booleans()) else vectors)}
    if draw(st.booleans()):
        id_kind, ids = draw(st.sampled_from(IDS))
        columns["id"] = column(id_kind, ids | st.none() if draw(st.booleans()) else ids)
    for place, payload_kind in enumerate(draw(st.lists(st.sampled_from(list(VALUES)), max_size=3))):
        columns[f"p{place}"] = column(payload_kind, st.none() | VALUES[payload_kind])
    return pa.table(columns)


def expected_point(row: dict[str, Any], number: int) -> tuple[int, list[float], bytes] | None:
    """The same row, read slowly; None if it can't be a point."""
    vector, given = row.pop("vector"), row.pop("id", number)
    if vector is None or len(vector) != DIM or None in vector or not np.isfinite(vector).all():
        return None
    try:
        key = parse_point_id(UUID(bytes=given) if isinstance(given, bytes) else given)
    except ShoalError:
        return None
    payload = orjson.dumps({name: value for name, value in row.items() if value is not None}) if row else b""
    return key, vector, payload


@given(table=tables(), batch_rows=st.integers(1, 13), group_rows=st.integers(1, 13), file_rows=st.integers(1, 13))
def test_the_points_are_those_that_were_written(
    table: pa.Table, batch_rows: int, group_rows: int, file_rows: int
) -> None:
    rows = table.to_pylist(maps_as_pydicts="strict")
    expected = [expected_point(dict(row), number) for number, row in enumerate(rows)]
    told: list[BadRow] = []
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, table.num_rows, file_rows):
            piece = table.slice(start, file_rows)
            pq.write_table(piece, Path(folder) / f"{start:03}.parquet", row_group_size=group_rows)
        if all(row["vector"] is None for row in rows) and not pa.types.is_fixed_size_list(table["vector"].type):
            with pytest.raises(InvalidRequest, match="no row has a vector"):
                open_source(Path(folder))
            return
        source = open_source(Path(folder))
        assert source.row_count == table.num_rows
        for item in source.batches(batch_rows, spec_of(dim=DIM), told.append):
            assert item.row_count <= batch_rows
            batch = item.batch
            payloads = [batch.payload(row) for row in range(len(batch))]
            points += list(zip(key_list(batch.keys), batch.vectors.tolist(), payloads, strict=True))
    assert points == [point for point in expected if point is not None]
    bad_numbers = [int(bad_row.place.file.split(".")[0]) + bad_row.place.file_row for bad_row in told]
    assert bad_numbers == [number for number, point in enumerate(expected) if point is None]


NAMED = CollectionSpec(
    vectors={name: VectorSpec(size=DIM, distance=Distance.DOT) for name in ("", "a", "b")},
)


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.floats(-9, 9, width=16), min_size=2, max_size=4)),
        min_size=1,
        max_size=9,
    ),
    batch_rows=st.integers(1, 10),
)
def test_each_point_has_the_vectors_that_its_row_has(rows: list[dict[str, list[float]]], batch_rows: int) -> None:
    """Some rows miss a vector, or both; some have one that is too short or too long."""
    kind = pa.list_(pa.float64())
    table = pa.table({f"{name}_column": pa.array([row.get(name) for row in rows], kind) for name in ("a", "b")})
    told: list[BadRow] = []
    points = {}
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "f.parquet", row_group_size=4)
        choice = ColumnChoice(vectors={"a": "a_column", "b": "b_column"})
        for item in open_source(Path(folder), choice, NAMED).batches(batch_rows, NAMED, told.append):
            for key, vector in zip(key_list(item.batch.keys), item.batch.vectors, strict=True):
                parts = {column.name: column.of(vector).tolist() for column in NAMED.layout.columns}
                points[key] = {name: part for name, part in parts.items() if not np.isnan(part).all()}
    good = {number: row for number, row in enumerate(rows) if all(len(vector) == DIM for vector in row.values())}
    assert points == good
    assert [bad_row.place.file_row for bad_row in told] == [row for row in range(len(rows)) if row not in good]
    for bad_row in told:
        wrong = min(name for name, vector in rows[bad_row.place.file_row].items() if len(vector) != DIM)
        assert bad_row.reason.startswith(f"column `{wrong}_column`: the vector has ")


def sample_file() -> bytes:
    count = 20
    table = pa.table(
        {
            "id": range(count),
            "text": [f"word{number}" for number in range(count)],
            "nested": [{"a": number, "b": [float(number)]} for number in range(count)],
            "at": pa.array(range(count), pa.timestamp("ns", "UTC")),
            "vector": pa.array([[number, 0, 1] for number in range(count)], pa.list_(pa.float32(), DIM)),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=8)
    return file.getvalue()


SAMPLE = sample_file()


@settings(max_examples=150)
@given(
    damage=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=3),
    length=st.just(len(SAMPLE)) | st.integers(0, len(SAMPLE)),
)
def test_damage_is_rows_or_a_sentence(damage: list[tuple[int, int]], length: int) -> None:
    content = bytearray(SAMPLE)
    for place, octet in damage:
        content[place] = octet
    told: list[BadRow] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.parquet"
        path.write_bytes(content[:length])
        sentence = None
        try:
            source = open_source(path)
            read_count = sum(item.row_count for item in source.batches(7, spec_of(dim=DIM), told.append))
        except ShoalError as error:
            sentence = error.message
    if sentence is None:
        assert read_count == source.row_count
    else:
        assert "damaged.parquet" in sentence
        assert "\n" not in sentence
