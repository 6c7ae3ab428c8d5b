"""Slices: the hash is SipHash-2-4, and the slices share out every id."""

from __future__ import annotations

from random import Random

import numpy as np
from qdrant_client.local.siphash import point_id_slice, siphash24

from shards.filters.slices import hashes_of, slices_of
from shards.point_ids import UUID_BASE, key_array, point_id

RANDOM = Random(1)
INTEGERS = [0, 1, 255, 2**32, 2**63, 2**64 - 1, *(RANDOM.randrange(2**64) for _ in range(50))]
UUIDS = [UUID_BASE + number for number in (0, 1, 2**127, 2**128 - 1, *(RANDOM.randrange(2**128) for _ in range(50)))]


def test_the_hash_is_siphash_of_the_id_s_bytes() -> None:
    assert hashes_of(key_array(INTEGERS)).tolist() == [siphash24(key.to_bytes(8, "little")) for key in INTEGERS]


def test_integers_and_uuids_side_by_side() -> None:
    keys = [key for pair in zip(INTEGERS, UUIDS, strict=False) for key in pair]
    for total in (1, 2, 7, 2**63):
        assert slices_of(key_array(keys), total).tolist() == [point_id_slice(point_id(key), total) for key in keys]


def test_slices_share_out_the_ids_evenly() -> None:
    counts = np.bincount(slices_of(np.arange(10_000, dtype=np.uint64), 4).astype(np.int64), minlength=4)
    assert counts.sum() == 10_000
    assert counts.min() > 2_300
