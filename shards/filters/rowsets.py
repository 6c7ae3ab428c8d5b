"""Sets of rows of one segment, as bitmaps, and how they come from arrays quickly.

A bitmap is made from a bool array by writing the portable format of Roaring bitmaps
(github.com/RoaringBitmap/RoaringFormatSpec) and reading that: 100,000 of 200,000 rows take 0.1 ms; handing pyroaring
the row numbers takes 0.6 ms as an `array`, 4 ms as a numpy array.
"""

from __future__ import annotations

import struct
from array import array

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

RowNumbers = npt.NDArray[np.uint32]
Bits = npt.NDArray[np.uint8]
"""One bit a row, lowest first, padded with zero bits to a whole byte."""

_COOKIE = 12346
_CHUNK_ROWS = 1 << 16
_CHUNK_BYTES = _CHUNK_ROWS // 8
_SPARSE_MAX = 4096
"""A chunk of more rows is stored as bits, one of fewer as a list. The format's own number."""


def no_rows() -> BitMap:
    return BitMap()


def all_rows(row_count: int) -> BitMap:
    return BitMap(range(row_count))


def rows_in(rowset: BitMap) -> RowNumbers:
    """The rows, ascending."""
    return np.frombuffer(rowset.to_array(), np.uint32) if rowset else np.zeros(0, np.uint32)


def mask_of(rowset: BitMap, row_count: int) -> npt.NDArray[np.bool_]:
    """A bool for each row; every row of the set is below `row_count`."""
    mask = np.zeros(row_count, np.bool_)
    mask[rows_in(rowset)] = True
    return mask


def rowset_of(rows: RowNumbers, row_count: int) -> BitMap:
    """The set of the rows, in any order, repeated or not. Every one is below `row_count`."""
    if len(rows) <= _SPARSE_MAX:
        return BitMap(array("I", rows.tobytes()))
    mask = np.zeros(row_count, np.bool_)
    mask[rows] = True
    return rowset_of_mask(mask)


def rowset_of_mask(mask: npt.NDArray[np.bool_]) -> BitMap:
    """The rows whose place in `mask` (row count,) is True."""
    return rowset_of_bits(bits_of_mask(mask))


def bits_of_mask(mask: npt.NDArray[np.bool_]) -> Bits:
    return np.packbits(mask, bitorder="little")


def bits_of_rows(rows: array[int], row_count: int) -> Bits:
    """The same of the rows that a builder noted."""
    mask = np.zeros(row_count, np.bool_)
    mask[np.array(rows, np.uint32)] = True
    return bits_of_mask(mask)


def count_bits(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def rowset_of_bits(bits: Bits) -> BitMap:
    """The rows whose bit is set."""
    keys, contents = [], []
    for start in range(0, len(bits), _CHUNK_BYTES):
        chunk = bits[start : start + _CHUNK_BYTES]
        count = count_bits(chunk)
        if not count:
            continue
        if count > _SPARSE_MAX:
            content = chunk.tobytes().ljust(_CHUNK_BYTES, b"\0")
        else:
            content = np.flatnonzero(np.unpackbits(chunk, bitorder="little")).astype("<u2").tobytes()
        keys.append((start // _CHUNK_BYTES, count - 1))
        contents.append(content)
    return _read_portable(keys, contents)


def _read_portable(keys: list[tuple[int, int]], contents: list[bytes]) -> BitMap:
    """`keys`: of each chunk its number and its count less one."""
    head = struct.pack("<II", _COOKIE, len(keys))
    head += b"".join(struct.pack("<HH", *key) for key in keys)
    at = len(head) + 4 * len(keys)
    offsets = []
    for content in contents:
        offsets.append(at)
        at += len(content)
    return BitMap.deserialize(head + struct.pack(f"<{len(offsets)}I", *offsets) + b"".join(contents))
