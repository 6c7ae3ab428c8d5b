"""Columns to vectors, keys and JSON: every type, every spelling, every reason that makes a row bad."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pytest

from deployments.loading.keys import id_as_given, read_keys
from deployments.loading.payload import encode_payloads
from deployments.loading.vectors import read_points, read_vectors
from shards.distance import Distance
from shards.point_ids import UUID_BASE, key_list
from shards.schema import CollectionSpec, VectorSpec
from tests.shard_oracle import spec_of

NAN, INF = float("nan"), float("inf")
LISTS = [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 2)]
UUID_1 = UUID("c6021260-3c0b-4065-a1f6-8b789b88f5c9")
UUID_0 = UUID(int=0)


@pytest.mark.parametrize("width", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("make_list", LISTS)
def test_vectors_of_every_type(make_list: Callable[[pa.DataType], pa.DataType], width: pa.DataType) -> None:
    column = pa.array([[9, 9], [1, 0.5], [-2, 0]], make_list(width)).slice(1)
    vectors, reasons = read_vectors(column, 2)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 0.5], [-2, 0]]
    assert reasons == {}


def test_float32_vectors_are_not_copied() -> None:
    column = pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))
    vectors, _ = read_vectors(column, 2)
    assert vectors.ctypes.data == column.values.buffers()[1].address


@pytest.mark.parametrize("make_list", LISTS)
def test_bad_vectors_of_every_type_keep_the_others_in_their_rows(
    make_list: Callable[[pa.DataType], pa.DataType],
) -> None:
    rows = [[1, 2], None, [3, None], [NAN, 4], [5, -INF], [6, 7]]
    vectors, reasons = read_vectors(pa.array(rows, make_list(pa.float64())), 2)
    assert vectors[[0, 5]].tolist() == [[1, 2], [6, 7]]
    assert vectors.shape == (6, 2)
    assert reasons == {
        1: "the vector is null",
        2: "component 1 of the vector is null",
        3: "component 0 of the vector is NaN",
        4: "component 1 of the vector is infinite",
    }


def test_ragged_vectors() -> None:
    vectors, reasons = read_vectors(pa.array([[1], [1, 2], [], [1, 2, 3]], pa.list_(pa.float32())), 2)
    assert vectors.tolist() == [[0, 0], [1, 2], [0, 0], [0, 0]]
    assert reasons == {
        0: "the vector has 1 components, expected 2",
        2: "the vector has 0 components, expected 2",
        3: "the vector has 3 components, expected 2",
    }


def test_a_float64_too_large_for_float32() -> None:
    vectors, reasons = read_vectors(pa.array([[3.4e38, -1e-300], [0, -1e39]], pa.list_(pa.float64())), 2)
    assert vectors[0].tolist() == [float(np.float32(3.4e38)), 0]
    assert reasons == {1: "component 1 of the vector is -1e+39, beyond the range of float32 (3.403e+38)"}


def test_no_rows_and_no_good_rows() -> None:
    assert read_vectors(pa.array([], pa.list_(pa.float32())), 3)[0].shape == (0, 3)
    vectors, reasons = read_vectors(pa.array([None], pa.list_(pa.float32())), 3)
    assert vectors.shape == (1, 3)
    assert reasons == {0: "the vector is null"}


@pytest.mark.parametrize("make_list", LISTS)
def test_a_null_may_be_a_vector_that_is_missing(make_list: Callable[[pa.DataType], pa.DataType]) -> None:
    column = pa.array([None, [1, 2], None, [3, NAN]], make_list(pa.float32()))
    vectors, reasons = read_vectors(column, 2, null_is_missing=True)
    np.testing.assert_equal(vectors[:3], [[NAN, NAN], [1, 2], [NAN, NAN]])
    assert reasons == {3: "component 1 of the vector is NaN"}
    assert np.isnan(read_vectors(column.slice(2, 1), 2, null_is_missing=True)[0]).all()


def named_spec(**sizes: int) -> CollectionSpec:
    return CollectionSpec(vectors={name: VectorSpec(size=sizes[name], distance=Distance.DOT) for name in sizes})


def test_vectors_stand_in_a_row_by_their_names() -> None:
    rows = rows_of(
        t=pa.array([[1, 2], None, [3, 4], [5]], pa.list_(pa.float64())),
        i=pa.array([[6], None, None, None], pa.list_(pa.float32(), 1)),
    )
    vectors, reasons = read_points(rows, {"title": "t", "image": "i"}, named_spec(title=2, audio=1, image=1))
    expected = [[NAN, 6, 1, 2], [NAN] * 4, [NAN, NAN, 3, 4]]  # audio, image, title
    np.testing.assert_equal(vectors[:3], expected)
    assert reasons == {3: "column `t`: the vector has 1 components, expected 2"}


def test_the_first_vector_that_is_bad_is_the_reason() -> None:
    rows = rows_of(x=pa.array([[1], [NAN]], pa.list_(pa.float32())), y=pa.array([[], [1, 1]], pa.list_(pa.float32())))
    for columns, reason in [
        ({"a": "x", "b": "y"}, "column `x`: component 0"),
        ({"a": "y", "b": "x"}, "column `y`: "),
    ]:
        reasons = read_points(rows, columns, named_spec(a=1, b=1))[1]
        assert sorted(reasons) == [0, 1]
        assert reasons[1].startswith(reason)


def test_an_unnamed_vector_alone_may_not_be_missing() -> None:
    rows = rows_of(x=pa.array([[1, 2], None], pa.list_(pa.float32())))
    assert read_points(rows, {"": "x"}, spec_of(dim=2))[1] == {1: "column `x`: the vector is null"}
    both = CollectionSpec(vectors=spec_of(dim=2).vectors | named_spec(a=1).vectors)
    np.testing.assert_equal(read_points(rows, {"": "x"}, both)[0], [[1, 2, NAN], [NAN, NAN, NAN]])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integer_ids_up_to_the_type_s_limit(kind: str) -> None:
    largest = int(np.iinfo(kind).max)
    keys, reasons = read_keys(pa.array([0, largest, None], kind))
    assert keys.dtype == np.uint64
    assert key_list(keys)[:2] == [0, largest]
    assert reasons == {2: "the id is null"}


def test_negative_ids() -> None:
    assert read_keys(pa.array([1, -5], "int16"))[1] == {1: "the id -5 is negative"}


SPELLINGS = [
    str(UUID_1),
    str(UUID_1).upper(),
    UUID_1.hex,
    f"urn:uuid:{UUID_1}",
    f"{{{UUID_1}}}",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary("int8", pa.string())]
)
def test_uuids_as_text(kind: pa.DataType, spelling: str) -> None:
    keys, reasons = read_keys(pa.array([str(UUID_0), spelling], pa.string()).cast(kind))
    assert key_list(keys) == [UUID_BASE, UUID_BASE + UUID_1.int]
    assert reasons == {}


@pytest.mark.parametrize("kind", [pa.binary(16), pa.uuid()])
def test_uuids_as_bytes(kind: pa.DataType) -> None:
    storage = pa.array([UUID_1.bytes, None, UUID_0.bytes], pa.binary(16))
    keys, reasons = read_keys(storage.cast(kind))
    assert [key_list(keys)[row] for row in (0, 2)] == [UUID_BASE + UUID_1.int, UUID_BASE]
    assert reasons == {1: "the id is null"}


NOT_UUIDS = [
    "doc-1",
    "17",
    "",
    str(UUID_1)[:-1] + "g",
    str(UUID_1)[:-2] + "  ",
    str(UUID_1).replace("-", "_"),
    "\u00e9" * 18,  # 36 bytes, as many as a UUID
]


@pytest.mark.parametrize("text", NOT_UUIDS)
def test_text_that_is_no_uuid(text: str) -> None:
    keys, reasons = read_keys(pa.array([text, str(UUID_1)]))
    assert key_list(keys)[1] == UUID_BASE + UUID_1.int
    assert reasons == {0: f"the id {text!r} is not a UUID; an id is an unsigned integer or a UUID"}


def test_null_text_and_text_that_is_not_utf_8() -> None:
    column = pa.array([None, b"\xff"], pa.binary()).view(pa.string())
    assert read_keys(column)[1] == {
        0: "the id is null",
        1: "the id '\ufffd' is not a UUID; an id is an unsigned integer or a UUID",
    }
    assert [id_as_given(column, row) for row in (0, 1)] == [None, None]


def test_ids_as_given() -> None:
    assert id_as_given(pa.array([-7]), 0) == -7
    assert id_as_given(pa.array(["x"]), 0) == "x"
    for kind in (pa.binary(16), pa.uuid()):
        assert id_as_given(pa.array([UUID_1.bytes], pa.binary(16)).cast(kind), 0) == str(UUID_1)


def rows_of(**columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def one(kind: pa.DataType, value: object) -> pa.Array:
    return pa.array([value], kind)


NOON_UTC = dt.datetime(2020, 1, 2, 12, 0, 0, 120_000, dt.UTC)
NOON = NOON_UTC.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("column", "json"),
    [
        (one(pa.bool_(), True), "true"),
        (one(pa.int64(), -(2**63)), "-9223372036854775808"),
        (one(pa.uint64(), 2**64 - 1), "18446744073709551615"),
        (one(pa.float64(), 1e300), "1e+300"),
        (one(pa.float64(), 2.0), "2.0"),
        (one(pa.float32(), 0.5), "0.5"),
        (one(pa.float16(), np.float16(0.25)), "0.25"),
        (one(pa.float64(), NAN), "null"),
        (one(pa.string(), 'a"\n,\n\u00e9'), '"a\\"\\n,\\n\u00e9"'),
        (one(pa.large_string(), ""), '""'),
        (one(pa.string_view(), "x" * 20), '"' + "x" * 20 + '"'),
        (pa.array(["x"]).dictionary_encode(), '"x"'),
        (one(pa.timestamp("s"), NOON), '"2020-01-02T12:00:00Z"'),
        (one(pa.timestamp("ms"), NOON), '"2020-01-02T12:00:00.120000Z"'),
        (one(pa.timestamp("us", "UTC"), NOON), '"2020-01-02T12:00:00.120000Z"'),
        (one(pa.timestamp("ns", "Europe/Paris"), NOON_UTC), '"2020-01-02T12:00:00.120000Z"'),
        (one(pa.timestamp("ns"), 1_999), '"1970-01-01T00:00:00.000001Z"'),
        (one(pa.date32(), NOON.date()), '"2020-01-02"'),
        (one(pa.date64(), NOON.date()), '"2020-01-02"'),
        (one(pa.time32("s"), dt.time(1, 2, 3)), '"01:02:03"'),
        (one(pa.time64("ns"), dt.time(1, 2, 3, 4)), '"01:02:03.000004"'),
        (one(pa.decimal128(10, 2), Decimal("12.30")), "12.3"),
        (one(pa.decimal256(60, 0), Decimal(10) ** 50), "1e+50"),
        (pa.array([UUID_1.bytes], pa.binary(16)).cast(pa.uuid()), f'"{UUID_1}"'),
        (one(pa.list_(pa.int8()), [1, None]), "[1,null]"),
        (one(pa.list_(pa.float32(), 2), [1, INF]), "[1.0,null]"),
        (one(pa.large_list(pa.timestamp("ns")), [NOON]), '["2020-01-02T12:00:00.120000Z"]'),
        (one(pa.struct({"a": pa.int8(), "b": pa.date64()}), {"b": NOON.date()}), '{"a":null,"b":"2020-01-02"}'),
        (one(pa.map_(pa.string(), pa.int8()), [("k", 1), ("l", None)]), '{"k":1,"l":null}'),
        (one(pa.list_(pa.map_(pa.string(), pa.decimal128(4, 1))), [[("k", Decimal("1.5"))]]), '[{"k":1.5}]'),
        (one(pa.list_(pa.dictionary(pa.int8(), pa.string())), ["x"]), '["x"]'),
    ],
)
def test_payload_of_every_type(column: pa.Array, json: str) -> None:
    assert encode_payloads(rows_of(x=column)).documents == [f'{{"x":{json}}}'.encode()]


def test_nulls_are_left_out() -> None:
    rows = rows_of(a=pa.array([1, None, None]), b=pa.array([None, "x", None], pa.string()), n=pa.nulls(3))
    assert encode_payloads(rows).documents == [b'{"a":1}', b'{"b":"x"}', b"{}"]


def test_without_payload_columns_there_is_no_payload() -> None:
    rows = rows_of(a=pa.array([1, 2])).select([])
    assert encode_payloads(rows).documents == [b"", b""]


def test_no_rows() -> None:
    assert encode_payloads(rows_of(a=pa.array([], pa.int8()))).documents == []


def test_names_are_escaped_and_keep_their_order() -> None:
    rows = rows_of(**{"z": pa.array([1]), 'a"\n': pa.array([2])})
    assert encode_payloads(rows).documents == [orjson.dumps({"z": 1, 'a"\n': 2})]


def test_non_finite_numbers_are_counted_wherever_they_are() -> None:
    rows = rows_of(
        a=pa.array([NAN, 1.0, None]),
        b=pa.array([[INF, 2], None, [-INF]], pa.list_(pa.float32())),
        c=pa.array([{"d": [("k", NAN)]}, None, None], pa.struct({"d": pa.map_(pa.string(), pa.float16())})),
    )
    assert encode_payloads(rows).nulled_count == 4
    assert encode_payloads(rows.slice(1)).nulled_count == 1


BAD_TEXT = pa.array([b"ok", b"\xff", b"fine"], pa.binary()).view(pa.string())
BAD_MAP = pa.array([[], [("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int8()))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (BAD_TEXT, "column `x` can't be written as JSON: 'utf-8' codec can't decode byte 0xff"),
        (BAD_MAP, "column `x` can't be written as JSON: "),
        (pa.array([0, 2**40, 1], pa.timestamp("s")), "column `x` can't be written as JSON: "),
        (
            pa.array([0, 2**62, 1], pa.timestamp("s")),
            "column `x` can't be written as JSON: Casting from timestamp[s]",
        ),
    ],
)
def test_one_bad_value_makes_one_row_bad(column: pa.Array, reason: str) -> None:
    payloads = encode_payloads(rows_of(first=pa.array([1, 2, 3]), x=column))
    assert list(payloads.reasons) == [1]
    assert payloads.reasons[1].startswith(reason)
    assert [bool(document) for document in payloads.documents] == [True, False, True]
