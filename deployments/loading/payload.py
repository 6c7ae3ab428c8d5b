"""The payload columns of a batch as one JSON object for each row: the bytes that orjson gives for the row's dict.

What becomes what: text, booleans, integers and floats as they are; structs and maps with text keys to objects, lists
to arrays; timestamps to RFC 3339 in UTC (one without a zone is taken as UTC), cut to microseconds; dates and times to
ISO 8601; decimals to the nearest float, because that is what filters compare; uuids to text; dictionaries to their
values. A column that is null in a row is left out of its object (a null inside a struct or list stays null). JSON has
no NaN and no infinity: they become null, and are counted. Binary, durations and extension types are refused.

One orjson call writes the documents of a batch, with a newline between them, which compact JSON can't contain.
Measured on 400,000 rows of two texts and two integers, one core: 0.4 s; a dumps call for each row of zipped columns
0.6 to 2 s; objects glued together from columns by pyarrow.compute 0.33 s, but that works for plain types only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from deployments.loading.bad_rows import Reasons
from deployments.loading.vectors import is_list_type

EXTENSION_NAME = b"ARROW:extension:name"
_JSON_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_NEWLINE = orjson.Fragment(b"\n")
_BETWEEN = b",\n,"
# What damaged or extreme values raise on their way to JSON: text that is not UTF-8, an overflowing instant (Arrow's
# error is a ValueError), a date after the year 9999, a key twice in a map, nesting beyond orjson's limit.
_VALUE_ERRORS = (ValueError, OverflowError, KeyError, orjson.JSONEncodeError)


class NoJsonForm(Exception):
    """A column's type can't be a payload; the text says which type and why."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """documents: JSON of each row, b"" where it is bad; nulled_count: NaN and infinite floats written as null."""

    documents: list[bytes]
    reasons: Reasons
    nulled_count: int


def json_type(field: pa.Field) -> pa.DataType:
    """The Arrow type that a column is cast to before it is written as JSON; its own where no cast is needed.

    Raises NoJsonForm for a type that is refused.
    """
    kind, types = field.type, pa.types
    if isinstance(kind, pa.UuidType):
        return kind
    if isinstance(kind, pa.BaseExtensionType) or (field.metadata and EXTENSION_NAME in field.metadata):
        raise NoJsonForm("extension types are not read (only Arrow's own uuid is)")
    if is_list_type(kind) or types.is_struct(kind) or types.is_map(kind):
        return _nested_json_type(kind)
    if types.is_dictionary(kind):
        return json_type(pa.field(field.name, kind.value_type))
    if types.is_timestamp(kind):
        return pa.timestamp("us")  # without a zone: the instant in UTC
    if types.is_date(kind):
        return pa.date32()
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_decimal(kind):
        return pa.float64()
    plain = types.is_null, types.is_boolean, types.is_integer, types.is_floating
    if any(is_kind(kind) for is_kind in plain) or kind in (pa.string(), pa.large_string(), pa.string_view()):
        return kind
    raise NoJsonForm(f"{kind} has no form in JSON")


def _nested_json_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        if not pa.types.is_string(kind.key_type):
            raise NoJsonForm(f"the keys of a map must be text to become a JSON object, these are {kind.key_type}")
        target = pa.map_(kind.key_type, json_type(kind.item_field))
    elif pa.types.is_struct(kind):
        target = pa.struct([pa.field(field.name, json_type(field)) for field in kind])
    elif pa.types.is_fixed_size_list(kind):
        target = pa.list_(json_type(kind.value_field), kind.list_size)
    elif pa.types.is_large_list(kind):
        target = pa.large_list(json_type(kind.value_field))
    else:
        target = pa.list_(json_type(kind.value_field))
    return kind if target == kind else target


def encode_payloads(rows: pa.RecordBatch) -> Payloads:
    """One JSON object for each row of `rows`, whose columns `json_type` has accepted.

    A batch that can't be written is halved until the bad rows stand alone, so one of them costs a few more calls.
    """
    if not rows.num_columns or not rows.num_rows:
        return Payloads([b""] * rows.num_rows, {}, 0)
    try:
        return _encode(rows)
    except _VALUE_ERRORS:
        pass
    if rows.num_rows == 1:
        return Payloads([b""], {0: _reason(rows)}, 0)
    half = rows.num_rows // 2
    first, second = encode_payloads(rows.slice(0, half)), encode_payloads(rows.slice(half))
    reasons = first.reasons | {half + row: reason for row, reason in second.reasons.items()}
    return Payloads(first.documents + second.documents, reasons, first.nulled_count + second.nulled_count)


def _encode(rows: pa.RecordBatch) -> Payloads:
    columns = [_as_json_type(column, rows.schema.field(place)) for place, column in enumerate(rows.columns)]
    ready = pa.RecordBatch.from_arrays(columns, rows.schema.names)
    # Asked for where no map is, it takes pyarrow's slow way, a Scalar for each value: 400,000 rows of 4 columns cost
    # 1 s more.
    has_map = any(_has_map(kind) for kind in ready.schema.types)
    objects = ready.to_pylist(maps_as_pydicts="strict" if has_map else None)
    for name, column in zip(rows.schema.names, columns, strict=True):
        if column.null_count:
            for row in np.flatnonzero(column.is_null()).tolist():
                del objects[row][name]
    separated: list[Any] = [_NEWLINE] * (2 * len(objects) - 1)
    separated[::2] = objects
    documents = orjson.dumps(separated, option=_JSON_OPTIONS)[1:-1].split(_BETWEEN)
    return Payloads(documents, {}, sum(_non_finite_count(column) for column in columns))


def _as_json_type(column: pa.Array, field: pa.Field) -> pa.Array:
    target = json_type(field)
    if target == column.type:
        return column
    # Nanoseconds are cut to microseconds; an instant that overflows them is an error.
    return pc.cast(column, options=pc.CastOptions(target, allow_time_truncate=True))


def _has_map(kind: pa.DataType) -> bool:
    return pa.types.is_map(kind) or any(_has_map(kind.field(place).type) for place in range(kind.num_fields))


def _non_finite_count(column: pa.Array) -> int:
    return sum(
        int(np.count_nonzero(~np.isfinite(floats.drop_null().to_numpy(zero_copy_only=False))))
        for floats in _float_arrays(column)
    )


def _float_arrays(column: pa.Array) -> Iterator[pa.Array]:
    """Every array of floats in a column, however deep."""
    if pa.types.is_floating(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _float_arrays(child)
    elif is_list_type(column.type):
        yield from _float_arrays(column.flatten())
    elif pa.types.is_map(column.type):
        # `items` are those of the whole array, also where the column is a slice of it; flatten() knows no maps.
        first, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
        yield from _float_arrays(column.items.slice(first, end - first))


def _reason(row: pa.RecordBatch) -> str:
    """Why a single row has no JSON form: its first column that fails alone."""
    for place, name in enumerate(row.schema.names):
        try:
            _encode(row.select([place]))
        except _VALUE_ERRORS as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            return f"column `{name}` can't be written as JSON: {first_line}"
    return "the payload can't be written as JSON"
