"""Any batch survives its encoding, and damaged bytes give Corrupt or a batch that is sound, never a crash."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.batch import PointBatch, concatenate, decode_batch, encode_batch, make_batch
from shards.errors import Corrupt
from shards.point_ids import INTEGER_MAX, UUID_BASE, key_array, key_list

integers = st.integers(0, INTEGER_MAX)
uuids = st.integers(0, 2**128 - 1).map(lambda bits: UUID_BASE + bits)
key_lists = st.lists(integers, max_size=20) | st.lists(integers | uuids, max_size=20)


@st.composite
def batches(draw: st.DrawFn, dim: int | None = None) -> PointBatch:
    """Batches of up to 20 points; vectors are any bits at all, NaN payloads included."""
    keys = draw(key_lists)
    width = draw(st.integers(1, 9)) if dim is None else dim
    bits = draw(st.binary(min_size=4 * width * len(keys), max_size=4 * width * len(keys)))
    payloads = draw(st.lists(st.binary(max_size=40), min_size=len(keys), max_size=len(keys)))
    return make_batch(key_array(keys), np.frombuffer(bits, np.float32).reshape(len(keys), width), payloads)


def contents(batch: PointBatch) -> tuple[list[int], bytes, list[bytes]]:
    return key_list(batch.keys), batch.vectors.tobytes(), [batch.payload(row) for row in range(len(batch))]


@given(batches())
def test_decode_undoes_encode(batch: PointBatch) -> None:
    encoded = encode_batch(batch)
    decoded = decode_batch(encoded)
    assert contents(decoded) == contents(batch)
    assert encode_batch(decoded) == encoded


@given(st.lists(batches(dim=3), min_size=1, max_size=5))
def test_concatenation_is_the_contents_in_order(parts: list[PointBatch]) -> None:
    keys, vectors, payloads = contents(concatenate(parts))
    assert keys == [key for part in parts for key in key_list(part.keys)]
    assert vectors == b"".join(part.vectors.tobytes() for part in parts)
    assert payloads == [part.payload(row) for part in parts for row in range(len(part))]


@given(batches(), st.data())
def test_damage_is_refused_or_harmless(batch: PointBatch, data: st.DataObject) -> None:
    damaged = bytearray(encode_batch(batch))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    del damaged[data.draw(st.integers(0, len(damaged)) | st.just(len(damaged))) :]
    try:
        survivor = decode_batch(damaged)
    except Corrupt:
        return
    keys, vectors, payloads = contents(survivor)  # every row can be read, within the buffer
    assert len(keys) == len(payloads) == len(survivor)
    assert len(vectors) == 4 * survivor.dim * len(survivor)
    assert sum(map(len, payloads)) == len(survivor.payloads)


@given(key_lists)
def test_key_arrays_keep_keys_and_their_order(keys: list[int]) -> None:
    array = key_array(keys)
    assert key_list(array) == keys
    assert key_list(np.sort(array)) == sorted(keys)
