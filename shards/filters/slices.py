"""Slices: the id space cut into `total` parts that depend on the ids alone, for scans side by side and for samples.

A point is in slice `hash(id) % total`. The hash is SipHash-2-4 with a zero key (Aumasson and Bernstein, 2012) of the
id's bytes: 8 little-endian ones of an integer, the 16 of a UUID. Clients rely on these values: they are the API's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shards.point_ids import NARROW, WIDE_BYTES, KeyArray

_Words = npt.NDArray[np.uint64]
_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
"""The four words that SipHash starts from, with a zero key."""


def slices_of(keys: KeyArray, total: int) -> npt.NDArray[np.uint64]:
    """The slice of each key (count,), out of `total`."""
    return hashes_of(keys) % np.uint64(total)


def hashes_of(keys: KeyArray) -> _Words:
    """The hash of each key (count,)."""
    if keys.dtype == NARROW:
        return _siphash([keys], 8)
    octets = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, WIDE_BYTES)
    is_uuid = octets[:, 0] != 0
    tails = np.ascontiguousarray(octets[:, 1:]).view(
        "<u8"
    )  # a UUID as two words; an integer's 8 bytes are the second
    integers = _siphash([tails[:, 1].byteswap()], 8)
    return np.where(is_uuid, _siphash([tails[:, 0], tails[:, 1]], 16), integers)


def _siphash(words: list[_Words], byte_count: int) -> _Words:
    count = len(words[0])
    state = [np.full(count, word, np.uint64) for word in _START]
    for word in (*words, np.full(count, byte_count << 56, np.uint64)):
        state[3] ^= word
        _mix(state, 2)
        state[0] ^= word
    state[2] ^= np.uint64(0xFF)
    _mix(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _mix(state: list[_Words], rounds: int) -> None:
    """`rounds` times SipHash's round, in place."""
    a, b, c, d = state
    for _ in range(rounds):
        a = a + b
        b = _rotate(b, 13) ^ a
        a = _rotate(a, 32)
        c = c + d
        d = _rotate(d, 16) ^ c
        a = a + d
        d = _rotate(d, 21) ^ a
        c = c + b
        b = _rotate(b, 17) ^ c
        c = _rotate(c, 32)
    state[:] = [a, b, c, d]


def _rotate(words: _Words, bits: int) -> _Words:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))
