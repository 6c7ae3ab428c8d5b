"""The batch layout: fixed bytes, views instead of copies, and damage that is named, not believed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from shards.batch import PointBatch, concatenate, decode_batch, encode_batch, encode_batch_parts, make_batch
from shards.errors import Corrupt
from shards.point_ids import UUID_BASE, key_array, key_list


def batch_of(keys: list[int], dim: int = 3) -> PointBatch:
    vectors = np.arange(len(keys) * dim, dtype=np.float32).reshape(len(keys), dim)
    return make_batch(
        key_array(keys), vectors, [b'{"n":%d}' % row if row % 2 == 0 else b"" for row in range(len(keys))]
    )


def assert_equal(one: PointBatch, other: PointBatch) -> None:
    assert key_list(one.keys) == key_list(other.keys)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    assert [one.payload(row) for row in range(len(one))] == [other.payload(row) for row in range(len(other))]


def test_bytes_are_the_documented_layout() -> None:
    batch = make_batch(key_array([7]), np.array([[1.0, -2.0]], np.float32), [b"{}"])
    header = struct.pack("<IIB7xQ", 1, 2, 8, 2)
    assert encode_batch(batch) == header + struct.pack("<ffQQQ", 1.0, -2.0, 0, 2, 7) + b"{}"


@pytest.mark.parametrize("keys", [[], [5], [1, 2, 3], [1, UUID_BASE + 2, UUID_BASE + (1 << 120)]])
def test_round_trip(keys: list[int]) -> None:
    batch = batch_of(keys)
    assert_equal(decode_batch(encode_batch(batch)), batch)
    assert b"".join(encode_batch_parts(batch)) == encode_batch(batch)


def test_decoding_copies_nothing() -> None:
    buffer = bytearray(encode_batch(batch_of([1, 2, 3])))
    batch = decode_batch(buffer)
    whole = np.frombuffer(buffer, np.uint8)
    assert np.shares_memory(batch.vectors, whole)
    assert np.shares_memory(batch.keys, whole)
    assert np.shares_memory(np.frombuffer(batch.payloads, np.uint8), whole)


def test_payload_of_a_row() -> None:
    batch = batch_of([10, 11, 12])
    assert (len(batch), batch.dim) == (3, 3)
    assert [batch.payload(row) for row in range(3)] == [b'{"n":0}', b"", b'{"n":2}']


def test_take_orders_and_copies() -> None:
    batch = batch_of([10, 11, 12])
    taken = batch.take(np.array([2, 0], np.intp))
    assert key_list(taken.keys) == [12, 10]
    assert [taken.payload(0), taken.payload(1)] == [b'{"n":2}', b'{"n":0}']
    np.testing.assert_array_equal(taken.vectors, batch.vectors[[2, 0]])
    assert not np.shares_memory(taken.vectors, batch.vectors)


def test_concatenate_keeps_order_and_widens() -> None:
    joined = concatenate([batch_of([1, 2]), batch_of([UUID_BASE + 9]), batch_of([3])])
    assert key_list(joined.keys) == [1, 2, UUID_BASE + 9, 3]
    assert [joined.payload(row) for row in range(4)] == [b'{"n":0}', b"", b'{"n":0}', b'{"n":0}']
    assert_equal(decode_batch(encode_batch(joined)), joined)


def test_concatenate_one_is_itself() -> None:
    batch = batch_of([1])
    assert concatenate([batch]) is batch


def test_make_batch_accepts_any_strides() -> None:
    vectors = np.asfortranarray(np.ones((4, 6), np.float32))[::2, ::3]
    batch = make_batch(key_array([1, 2]), vectors, [b"", b""])
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.flags.c_contiguous


@pytest.mark.parametrize("cut", [0, 1, 23])
def test_shorter_than_a_header(cut: int) -> None:
    with pytest.raises(Corrupt, match=f"has {cut} bytes, fewer than its header of 24"):
        decode_batch(encode_batch(batch_of([1, 2]))[:cut])


def test_every_other_length_is_refused() -> None:
    whole = encode_batch(batch_of([1, UUID_BASE]))
    for length in range(24, len(whole)):
        with pytest.raises(Corrupt, match="its header says"):
            decode_batch(whole[:length])
    with pytest.raises(Corrupt, match="its header says"):
        decode_batch(whole + b"\0")


@pytest.mark.parametrize("key_bytes", [0, 7, 16, 255])
def test_unknown_key_width(key_bytes: int) -> None:
    damaged = bytearray(encode_batch(batch_of([1])))
    damaged[8] = key_bytes
    with pytest.raises(Corrupt, match=f"keys have {key_bytes} bytes"):
        decode_batch(damaged)


@pytest.mark.parametrize("offsets", [(1, 7, 7), (0, 9, 7), (0, 7, 6), (0, 2**63, 7)])
def test_offsets_that_do_not_ascend(offsets: tuple[int, int, int]) -> None:
    damaged = bytearray(encode_batch(batch_of([1, 2])))
    struct.pack_into("<QQQ", damaged, 24 + 4 * 2 * 3, *offsets)
    with pytest.raises(Corrupt, match="do not ascend"):
        decode_batch(damaged)


def test_a_header_that_promises_the_moon_is_refused_before_any_allocation() -> None:
    with pytest.raises(Corrupt, match="its header says"):
        decode_batch(struct.pack("<IIB7xQ", 2**32 - 1, 2**32 - 1, 17, 2**64 - 1))
