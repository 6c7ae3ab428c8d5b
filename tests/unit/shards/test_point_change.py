"""Payload changes: what is merged, replaced and removed, at the top and at paths; what is in the way gives way."""

from __future__ import annotations

import orjson
import pytest

from shards.errors import Corrupt
from shards.point_change import ChangeKind, PointChange, changed_payload, decode_change


def after(stored: object, **change: object) -> object:
    made = PointChange.model_validate({"kind": "set", **change})
    assert decode_change(made.encode()) == made
    payload = changed_payload(orjson.dumps(stored) if stored else b"", made)
    return orjson.loads(payload) if payload else {}


@pytest.mark.parametrize(
    ("stored", "change", "expected"),
    [
        ({"a": 1, "b": 2}, {"payload": {"b": 3, "c": {"d": 4}}}, {"a": 1, "b": 3, "c": {"d": 4}}),
        ({"a": 1}, {"payload": {"a": None, "x": None}}, {}),
        ({}, {"payload": {"a": 1}}, {"a": 1}),
        ({"a": {"b": 1}}, {"payload": {"c": 2}, "path": "a"}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1}}, {"payload": {"b": None}, "path": "a"}, {"a": {}}),
        ({"a": 7}, {"payload": {"c": 2}, "path": "a"}, {"a": {"c": 2}}),
        ({"a": 7}, {"payload": {"c": 2}, "path": "a.b"}, {"a": {"b": {"c": 2}}}),
        ({}, {"payload": {"c": 2}, "path": "a.b"}, {"a": {"b": {"c": 2}}}),
        ({"a": [{"b": 1}, 5]}, {"payload": {"c": 2}, "path": "a[]"}, {"a": [{"b": 1, "c": 2}, {"c": 2}]}),
        ({"a": [{"b": 1}, 5]}, {"payload": {"c": 2}, "path": "a[1]"}, {"a": [{"b": 1}, {"c": 2}]}),
        ({"a": [{"b": 1}]}, {"payload": {"c": 2}, "path": "a[3]"}, {"a": [{"b": 1}]}),
        ({"a": [{"b": 1}, {}]}, {"payload": {"c": 2}, "path": "a[].b"}, {"a": [{"b": {"c": 2}}, {"b": {"c": 2}}]}),
        ({"a": 7}, {"payload": {"c": 2}, "path": "a[0]"}, {"a": []}),
        ({"a": 1, "b": 2}, {"kind": "overwrite", "payload": {"c": 3}}, {"c": 3}),
        ({"a": 1}, {"kind": "overwrite", "payload": {}}, {}),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"kind": "delete", "paths": ["a", "b.c", "x.y"]}, {"b": {"d": 3}}),
        ({"a": [{"b": 1, "c": 2}, 5]}, {"kind": "delete", "paths": ["a[].b"]}, {"a": [{"c": 2}, 5]}),
        ({"a": [1, 2]}, {"kind": "delete", "paths": ["a[0]"]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"kind": "delete", "paths": ["a[]"]}, {"a": []}),
        ({"a": 1}, {"kind": "clear"}, {}),
        ({"a": 1}, {"kind": "drop_vectors", "numbers": [0]}, {"a": 1}),
    ],
)
def test_changes(stored: object, change: dict[str, object], expected: object) -> None:
    assert after(stored, **change) == expected


def test_objects_set_in_several_places_are_their_own() -> None:
    once = changed_payload(b'{"a":[{},{}]}', PointChange(kind=ChangeKind.SET, payload={"x": {"y": 1}}, path="a[]"))
    twice = changed_payload(once, PointChange(kind=ChangeKind.SET, payload={"y": 2}, path="a[0].x"))
    assert orjson.loads(twice) == {"a": [{"x": {"y": 2}}, {"x": {"y": 1}}]}


@pytest.mark.parametrize(
    "encoded", [b"", b"{", b"[]", b'{"kind":"x"}', b'{"kind":"set","path":"a["}', b'{"kind":"clear","y":1}']
)
def test_what_is_no_change_is_corrupt(encoded: bytes) -> None:
    with pytest.raises(Corrupt, match="a change of points can't be read"):
        decode_change(encoded)
