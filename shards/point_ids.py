"""Point ids as keys that sort, compare and store cheaply.

An id is an unsigned 64-bit integer or a UUID. Inside, it is a *key*: the integer itself, or 2**128 + the UUID's
128 bits. So one `int` holds either, and keys sort as the API orders ids: integers by value, then UUIDs.

Many keys are a *key array*: dtype uint64 where all are integers (the common case, 8 bytes each), else `S17`, the
big-endian bytes of each key. Both sort and search with numpy in the order of the keys. (numpy drops trailing
zero bytes when it hands out one `S17` element, so single elements are padded back here and nowhere else.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from shards.errors import InvalidRequest

KeyArray = npt.NDArray[Any]
"""dtype uint64, or S17 where a UUID is among the keys."""

INTEGER_MAX = 2**64 - 1
UUID_BASE = 1 << 128
WIDE = np.dtype("S17")
NARROW = np.dtype(np.uint64)
WIDE_BYTES = 17

_UUID_TEXT = re.compile(r"(urn:uuid:)?(\{)?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}(?(2)\})")


def parse_point_id(value: object) -> int:
    """The key of an id as a client spells it: an int, a UUID, or a UUID's text in any usual spelling.

    Raises InvalidRequest, naming the value, for anything else (bool included).
    """
    if type(value) is int:
        if 0 <= value <= INTEGER_MAX:
            return value
    elif isinstance(value, UUID):
        return UUID_BASE + value.int
    elif isinstance(value, str) and _UUID_TEXT.fullmatch(value):
        return UUID_BASE + UUID(value).int
    raise InvalidRequest(
        f"value {_short(value)} is not a valid point ID, valid values are either an unsigned integer or a UUID"
    )


def point_id(key: int) -> int | str:
    """The id as the API returns it: an int, or a UUID's text in lower case with hyphens."""
    return key if key <= INTEGER_MAX else str(UUID(int=key - UUID_BASE))


def key_array(keys: Sequence[int]) -> KeyArray:
    """The key array that holds `keys`, in their order."""
    if not keys or max(keys) <= INTEGER_MAX:
        return np.array(keys, dtype=NARROW)
    return np.array([key.to_bytes(WIDE_BYTES, "big") for key in keys], dtype=WIDE)


def key_list(keys: KeyArray) -> list[int]:
    """The keys as ints; the inverse of `key_array`."""
    flat = keys.reshape(-1)
    if flat.dtype == NARROW:
        listed: list[int] = flat.tolist()
        return listed
    return [int.from_bytes(item.ljust(WIDE_BYTES, b"\0"), "big") for item in flat.tolist()]


def widen(keys: KeyArray) -> KeyArray:
    """The same keys as `S17`."""
    if keys.dtype == WIDE:
        return keys
    wide = np.zeros((*keys.shape, WIDE_BYTES), dtype=np.uint8)
    wide[..., 9:] = keys.astype(">u8").reshape(*keys.shape, 1).view(np.uint8)
    return wide.view(WIDE).reshape(keys.shape)


def narrow(keys: KeyArray) -> tuple[KeyArray, npt.NDArray[np.intp]]:
    """Those of the `S17` keys that are integers, as uint64, and their places."""
    octets = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, WIDE_BYTES)
    places = np.flatnonzero(~octets[:, :9].any(axis=1))
    return np.ascontiguousarray(octets[places, 9:]).view(">u8").reshape(-1).astype(NARROW), places


def newest_of_equal(sorted_keys: KeyArray) -> npt.NDArray[np.bool_]:
    """Which places of stably sorted keys hold the last of a run of equal ones, bool (count,)."""
    is_last = np.ones(len(sorted_keys), np.bool_)
    is_last[:-1] = sorted_keys[1:] != sorted_keys[:-1]
    return is_last


def same_width(arrays: Iterable[KeyArray]) -> list[KeyArray]:
    """The arrays with one dtype: widened where any is wide."""
    listed = list(arrays)
    if all(array.dtype == NARROW for array in listed):
        return listed
    return [widen(array) for array in listed]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
