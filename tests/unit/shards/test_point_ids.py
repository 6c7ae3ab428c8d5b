"""Point ids: what is accepted, how keys sort, and that a key array gives back what it was given."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from shards.errors import InvalidRequest
from shards.point_ids import (
    INTEGER_MAX,
    NARROW,
    UUID_BASE,
    WIDE,
    key_array,
    key_list,
    parse_point_id,
    point_id,
    same_width,
    widen,
)

TEXT = "550e8400-e29b-41d4-a716-446655440000"
KEY = UUID_BASE + UUID(TEXT).int
ENDS_IN_ZEROS = UUID_BASE + (0xAB << 120)
"""Its 17 bytes end in 15 zero bytes, which numpy drops from a single element."""


@pytest.mark.parametrize("value", [0, 1, INTEGER_MAX])
def test_integers_are_their_own_keys(value: int) -> None:
    assert parse_point_id(value) == value
    assert point_id(value) == value


@pytest.mark.parametrize(
    "value",
    [TEXT, TEXT.upper(), TEXT.replace("-", ""), f"urn:uuid:{TEXT}", f"{{{TEXT}}}", UUID(TEXT)],
)
def test_uuid_spellings_are_one_key(value: object) -> None:
    assert parse_point_id(value) == KEY
    assert point_id(KEY) == TEXT


@pytest.mark.parametrize("text", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_extreme_uuids(text: str) -> None:
    assert point_id(parse_point_id(text)) == text


@pytest.mark.parametrize(
    "value",
    [
        -1,
        INTEGER_MAX + 1,
        True,
        False,
        1.0,
        None,
        "",
        "1",
        "ocean",
        TEXT[:-1],
        TEXT + "0",
        f"{{{TEXT}",
        f"{TEXT}}}",
        b"1",
    ],
)
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match="is not a valid point ID") as caught:
        parse_point_id(value)
    assert repr(value) in caught.value.message


def test_long_values_are_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_point_id("x" * 10_000)
    assert len(caught.value.message) < 250


def test_integers_only_are_narrow() -> None:
    keys = key_array([3, INTEGER_MAX, 0])
    assert keys.dtype == NARROW
    assert key_list(keys) == [3, INTEGER_MAX, 0]


def test_one_uuid_makes_all_wide() -> None:
    listed = [3, KEY, INTEGER_MAX, ENDS_IN_ZEROS, 0, UUID_BASE]
    keys = key_array(listed)
    assert keys.dtype == WIDE
    assert key_list(keys) == listed


def test_no_keys() -> None:
    assert key_array([]).dtype == NARROW
    assert key_list(key_array([])) == []


def test_wide_keys_sort_as_integers_then_uuids() -> None:
    listed = [KEY, 256, ENDS_IN_ZEROS, 1, UUID_BASE, 255, INTEGER_MAX]
    assert key_list(np.sort(key_array(listed))) == sorted(listed)


@pytest.mark.parametrize("shape", [(4,), (2, 2), (0,), (2, 0)])
def test_widening_keeps_keys_and_shape(shape: tuple[int, ...]) -> None:
    values = [0, 1, 256, INTEGER_MAX][: int(np.prod(shape))]
    narrow = key_array(values).reshape(shape)
    wide = widen(narrow)
    assert (wide.dtype, wide.shape) == (WIDE, shape)
    assert key_list(wide) == values
    assert widen(wide) is wide


def test_same_width_widens_only_where_needed() -> None:
    narrow, wide = key_array([1, 2]), key_array([KEY])
    assert same_width([narrow, narrow])[0] is narrow
    mixed = same_width([narrow, wide])
    assert [keys.dtype for keys in mixed] == [WIDE, WIDE]
    assert key_list(np.concatenate(mixed)) == [1, 2, KEY]
