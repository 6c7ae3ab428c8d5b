"""Named arrays in one run of bytes: what a payload index is on disk. Reading copies nothing.

Little-endian, 8-byte aligned from its start:

    header      magic 8s | kind 16s | row count u64 | section count u32 | 4 zero bytes
    directory   of each section: name 16s | dtype 8s | element count u64
    sections    in the directory's order, each padded with zero bytes to 8

Every length is computed from the directory and compared with what is there, before an array is made. What an array's
numbers mean is for the reader of its kind to check (`check_rows`, `check_starts`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import Corrupt

Arrays = dict[str, npt.NDArray[Any]]
Buffer = bytes | bytearray | memoryview

ROW_COUNT_MAX = 2**32 - 1
_MAGIC = b"shoalfi1"
_HEADER = struct.Struct("<8s16sQI4x")
_ENTRY = struct.Struct("<16s8sQ")
_DTYPES = ("|u1", "<u4", "<u8", "<i8", "<f8")
_SECTION_COUNT_MAX = 64


def encode_sections(kind: str, row_count: int, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of the arrays, which are of one dimension each."""
    head = [_HEADER.pack(_MAGIC, kind.encode(), row_count, len(arrays))]
    body = []
    for name, values in arrays.items():
        head.append(_ENTRY.pack(name.encode(), values.dtype.str.encode(), len(values)))
        body += [values.tobytes(), bytes(-values.nbytes % 8)]
    return b"".join([*head, *body])


def decode_sections(buffer: Buffer) -> tuple[str, int, Arrays]:
    """Kind, row count and arrays, which are read-only views of the buffer. Raises Corrupt where it contradicts itself."""
    view = memoryview(buffer).toreadonly()
    if len(view) < _HEADER.size:
        raise Corrupt(f"a payload index has {len(view)} bytes, fewer than its header of {_HEADER.size}")
    magic, kind, row_count, section_count = _HEADER.unpack_from(view)
    at = _HEADER.size + _ENTRY.size * section_count
    if magic != _MAGIC or section_count > _SECTION_COUNT_MAX or row_count > ROW_COUNT_MAX or len(view) < at:
        raise Corrupt(
            f"a payload index of {len(view)} bytes begins with {magic!r} and says {section_count} sections, "
            f"{row_count} rows"
        )
    arrays: Arrays = {}
    for number in range(section_count):
        name, dtype, count = _ENTRY.unpack_from(view, _HEADER.size + _ENTRY.size * number)
        array_type = _dtype(dtype)
        end = at + array_type.itemsize * count
        if end > len(view):
            raise Corrupt(f"a payload index has {len(view)} bytes; its section {name!r} would end at {end}")
        arrays[_text(name)] = np.frombuffer(view[at:end], array_type) if count else np.zeros(0, array_type)
        at = end + -end % 8
    if at != len(view):
        raise Corrupt(f"a payload index has {len(view)} bytes, its sections end at {at}")
    return _text(kind), row_count, arrays


def take_sections(arrays: Arrays, expected: Mapping[str, type[Any]]) -> list[npt.NDArray[Any]]:
    """The arrays of these names and dtypes, in this order. Raises Corrupt where one is missing or other."""
    for name, dtype in expected.items():
        if name not in arrays or arrays[name].dtype != dtype:
            found = arrays[name].dtype if name in arrays else "nothing"
            raise Corrupt(f"a payload index's section {name!r} is {found}, not {np.dtype(dtype)}")
    return [arrays[name] for name in expected]


def check_rows(rows: npt.NDArray[np.uint32], row_count: int) -> None:
    """Raises Corrupt where one is not below `row_count`."""
    if len(rows) and (highest := int(rows.max())) >= row_count:
        raise Corrupt(f"a payload index of {row_count} rows names row {highest}")


def check_same_length(values: npt.NDArray[Any], rows: npt.NDArray[np.uint32]) -> None:
    """Raises Corrupt unless there is a row for every value."""
    if len(values) != len(rows):
        raise Corrupt(f"a payload index has {len(values)} values, and rows for {len(rows)}")


def check_bits(bits: npt.NDArray[np.uint8], row_count: int) -> None:
    """Raises Corrupt unless there is one bit a row, and none behind."""
    spare = -row_count % 8
    if len(bits) != (row_count + 7) // 8 or (spare and bits[-1] >> (8 - spare)):
        raise Corrupt(
            f"a payload index of {row_count} rows has {len(bits)} bytes of bits, or bits behind the last row"
        )


def check_starts(starts: npt.NDArray[np.uint64], count: int, total: int) -> None:
    """Raises Corrupt unless the `count` ranges ascend from 0 to `total`."""
    if (
        count < 0
        or len(starts) != count + 1
        or starts[0] != 0
        or starts[-1] != total
        or (starts[1:] < starts[:-1]).any()
    ):
        raise Corrupt(f"the {count} ranges of a payload index do not ascend from 0 to {total}")


def check_ascending(values: npt.NDArray[Any], what: str) -> None:
    """Raises Corrupt where a value is below the one before, or is not a number."""
    if not (values[1:] >= values[:-1]).all() or (len(values) and values[0] != values[0]):
        raise Corrupt(f"the {what} of a payload index do not ascend")


def _dtype(name: bytes) -> np.dtype[Any]:
    text = _text(name)
    if text not in _DTYPES:
        raise Corrupt(f"a payload index has a section of type {text!r}; known are {', '.join(_DTYPES)}")
    return np.dtype(text)


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("ascii", "replace")
