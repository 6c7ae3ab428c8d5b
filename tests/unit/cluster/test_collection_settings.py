"""Settings are merged by the API's rules and kept as text that every parser reads back as it was."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest

from cluster.collection_settings import SETTINGS_BYTES_MAX, SETTINGS_DEPTH_MAX, encode_settings, merge_settings
from shards.errors import InvalidRequest, LimitExceeded


def merged(stands: dict[str, Any], changes: dict[str, Any]) -> Any:
    return json.loads(merge_settings(encode_settings(stands), changes))


def test_sections_are_merged() -> None:
    stands = {"params": {"on_disk_payload": True, "payload": {"memory": "cold"}}}
    changes = {"params": {"on_disk_payload": False}, "vectors": {"": {"on_disk": True}}}
    assert merged(stands, changes) == {
        "params": {"on_disk_payload": False, "payload": {"memory": "cold"}},
        "vectors": {"": {"on_disk": True}},
    }
    assert merged(stands, {}) == stands


def test_metadata_is_merged_at_its_top_and_a_null_removes() -> None:
    stands = {"metadata": {"a": {"b": 1}, "c": 2, "kept": None}}
    changes = {"metadata": {"a": {"d": 1}, "c": None, "e": None}}
    assert merged(stands, changes) == {"metadata": {"a": {"d": 1}, "kept": None}}


def test_the_first_metadata_is_kept_as_it_is() -> None:
    assert merged({}, {"metadata": {"a": None}}) == {"metadata": {"a": None}}


def test_values_that_python_takes_for_equal_are_a_change() -> None:
    texts = {
        merge_settings(encode_settings({"metadata": {"a": 0}}), {"metadata": {"a": value}})
        for value in [1, True, 1.0]
    }
    assert len(texts) == 3


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_what_is_at_the_limits_is_read_back() -> None:
    for settings in (
        nested(SETTINGS_DEPTH_MAX),
        {"a": "x" * (SETTINGS_BYTES_MAX - 8)},
        {"a": [-(2**63), 2**64 - 1, 1e308, "\u00e9\u0000\U0001f30a", None, True]},
    ):
        text = encode_settings(settings)
        assert orjson.loads(text) == json.loads(text) == settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (nested(SETTINGS_DEPTH_MAX + 1), "SETTINGS_DEPTH_MAX"),
        ({"a": [[]] * 3 + [nested(SETTINGS_DEPTH_MAX)]}, "SETTINGS_DEPTH_MAX"),
        ({"a": "x" * (SETTINGS_BYTES_MAX - 7)}, "SETTINGS_BYTES_MAX"),
        ({"a": "\u00e9" * (SETTINGS_BYTES_MAX // 2)}, "SETTINGS_BYTES_MAX"),
        ({"a": math.nan}, "NaN"),
        ({"a": [math.inf]}, "NaN"),
        ({"a": 2**64}, "64 bits"),
        ({"a": -(2**63) - 1}, "64 bits"),
        ({"a": "\ud800"}, "Unicode"),
        ({"\ud800": 1}, "Unicode"),
    ],
)
def test_what_the_text_could_not_keep_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named) as refusal:
        encode_settings(settings)
    assert isinstance(refusal.value, LimitExceeded) == (named == "SETTINGS_BYTES_MAX")
    with pytest.raises(InvalidRequest, match=named):
        merge_settings("{}", settings)
