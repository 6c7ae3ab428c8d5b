"""Slots are part of the format on disk: fixed values that must never change, and an even spread."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.slots import SLOT_COUNT, slots_of
from shards.point_ids import INTEGER_MAX, UUID_BASE, key_array, widen


def reference_slot(key: int) -> int:
    """SplitMix64's finaliser in Python's own integers, written from the paper."""
    mask = (1 << 64) - 1
    bits = key
    if key >= UUID_BASE:
        bits = ((key >> 64) & mask) ^ (key & mask) ^ 0x5851F42D4C957F2D
    bits = (bits + 0x9E3779B97F4A7C15) & mask
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
    return (bits ^ (bits >> 31)) % SLOT_COUNT


EDGE_KEYS = [
    0,
    1,
    2,
    4095,
    4096,
    2**32,
    INTEGER_MAX,
    UUID_BASE,
    UUID_BASE + 1,
    UUID_BASE + (0xAB << 120),
    2 * UUID_BASE - 1,
]


def test_slots_never_change() -> None:
    assert SLOT_COUNT == 4096
    assert slots_of(key_array([0, 1, 2, 3, 10**9, INTEGER_MAX])).tolist() == [3503, 3265, 1742, 4077, 621, 3104]
    assert slots_of(key_array([UUID_BASE, UUID_BASE + 1, 2 * UUID_BASE - 1])).tolist() == [1863, 3523, 1863]


def test_slots_are_the_papers_hash() -> None:
    assert slots_of(key_array(EDGE_KEYS)).tolist() == [reference_slot(key) for key in EDGE_KEYS]


def test_an_integer_has_one_slot_in_either_width() -> None:
    keys = key_array(list(range(1000)))
    np.testing.assert_array_equal(slots_of(keys), slots_of(widen(keys)))


def test_dtype_and_empty() -> None:
    assert slots_of(key_array([1])).dtype == np.uint16
    assert slots_of(key_array([])).shape == (0,)


def test_keys_are_left_alone() -> None:
    keys = key_array([1, 2, 3])
    slots_of(keys)
    assert keys.tolist() == [1, 2, 3]


@pytest.mark.parametrize("start", [0, 10**12])
def test_consecutive_ids_spread_evenly(start: int) -> None:
    keys = np.arange(start, start + 400_000, dtype=np.uint64)
    per_half = np.bincount(slots_of(keys) * 2 // SLOT_COUNT, minlength=2)
    per_slot = np.bincount(slots_of(keys), minlength=SLOT_COUNT)
    assert abs(per_half[0] / per_half[1] - 1) < 0.05
    assert per_slot.min() > 0


def test_uuids_spread_too() -> None:
    keys = key_array([UUID_BASE + (number << 64 | 0x8000_0000_0000_0000) for number in range(20_000)])
    per_quarter = np.bincount(slots_of(keys) * 4 // SLOT_COUNT, minlength=4)
    assert per_quarter.max() / per_quarter.min() < 1.1
