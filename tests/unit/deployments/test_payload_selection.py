"""Parts of a payload, chosen by path. The expected values were compared with qdrant-client's in-memory mode."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from qdrant_client import models
from qdrant_client.local.local_collection import LocalCollection

from deployments.payload_selection import parse_selection
from shards.errors import InvalidRequest

PAYLOAD: dict[str, Any] = {
    "a": {"b": 1, "c": {"d": 2, "e": None}},
    "a.b": 4,
    "[]": 5,
    "list": [{"b": 5, "c": 6}, {"b": 7}, 8],
    "matrix": [[{"x": 1, "y": 2}]],
    "scalar": 9,
}
PATHS = [
    [], ["a"], ["a.b"], ['"a.b"'], ["a.c.d", "a.b"], ["a", "a.b"], ["a.b", "a"], ["a.missing"], ["missing"], ["list"],
    ["list[]"], ["list.b"], ["list[].b"], ["list[0].b"], ["matrix[][].x"], ["scalar.x"], ["scalar", "list[].c"],
    ["scalar[]"], ["a[]"], ['"[]"'],
]  # fmt: skip


@pytest.mark.parametrize("paths", PATHS, ids=str)
def test_paths_choose_what_the_reference_chooses(paths: list[str]) -> None:
    whole = orjson.dumps(PAYLOAD)
    for value, reference in (
        (paths, paths),
        ({"include": paths}, models.PayloadSelectorInclude(include=paths)),
        ({"exclude": paths}, models.PayloadSelectorExclude(exclude=paths)),
    ):
        selection = parse_selection(value, default=False)
        assert selection.wanted
        found = orjson.loads(orjson.dumps(selection.apply(whole)))
        assert found == LocalCollection._process_payload(PAYLOAD, reference), value


def test_bools_and_the_default() -> None:
    assert parse_selection(None, default=True) == parse_selection(True, default=False)
    assert parse_selection(None, default=False) == parse_selection(False, default=True)
    assert parse_selection(True, default=False).whole
    assert not parse_selection(False, default=True).wanted


NO_SELECTIONS = [
    "a", 1, {}, {"include": "a"}, {"include": [], "exclude": []}, {"x": []},
    [1], [""], ["a..b"], ["a["], ["a[]b"], [".a"],
]  # fmt: skip


@pytest.mark.parametrize("value", NO_SELECTIONS, ids=str)
def test_what_is_no_selection(value: object) -> None:
    with pytest.raises(InvalidRequest, match="with_payload"):
        parse_selection(value, default=False)
