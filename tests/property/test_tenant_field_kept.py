"""Changes of payloads that are let through where a tenant field is declared leave every point's tenant what it was."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.tenants import checked_change
from shards.errors import InvalidRequest
from shards.filters.paths import parse_path
from shards.point_change import ChangeKind, PointChange, changed_payload
from shards.tenant_names import names_in

NAMES = ("a", "b")
steps = st.tuples(st.sampled_from(NAMES), st.sampled_from(("", "[]", "[0]", "[1]", "[][]", "[0][]")))
paths = st.lists(steps, min_size=1, max_size=3).map(lambda found: ".".join(name + place for name, place in found))
leaves = st.sampled_from(("red", "blue", 1, None))
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=6
)
documents = st.dictionaries(st.sampled_from(NAMES), values, min_size=1)
changes = st.one_of(
    st.builds(
        PointChange,
        kind=st.just(ChangeKind.SET),
        payload=st.dictionaries(st.sampled_from((*NAMES, "z")), values, min_size=1),
        path=st.none() | paths,
    ),
    st.builds(PointChange, kind=st.just(ChangeKind.DELETE), paths=st.lists(paths, min_size=1, max_size=2).map(tuple)),
)


def led_to_by(field: str) -> Any:
    """A document with a tenant in this field."""
    value: Any = "red"
    for step in reversed(parse_path(field).steps):
        value = {step: value} if isinstance(step, str) else [value] if step is None else [0] * step + [value]
    return value


@settings(max_examples=500)
@given(field=paths, document=documents, change=changes)
def test_a_change_that_is_let_through_alters_no_tenant(
    field: str, document: dict[str, Any], change: PointChange
) -> None:
    try:
        sent = checked_change(change, field)
    except InvalidRequest:
        return
    for stored in (orjson.dumps(document), orjson.dumps(led_to_by(field))):
        before = names_in(stored, parse_path(field))
        assert names_in(changed_payload(stored, sent), parse_path(field)) == before


def test_no_short_path_alters_a_tenant_of_a_short_field() -> None:
    """All of them, over documents in which the field has a tenant."""
    names = [name + place for name in NAMES for place in ("", "[]", "[0]")]
    short = [*names, *(f"{one}.{two}" for one in names for two in names)]
    payloads: list[dict[str, Any]] = [{"z": 1}, {"a": "blue"}, {"b": {"a": "blue"}}]
    sets = [
        PointChange(kind=ChangeKind.SET, path=path, payload=given) for path in (None, *short) for given in payloads
    ]
    deletes = [PointChange(kind=ChangeKind.DELETE, paths=(path,)) for path in short]
    through_count = 0
    for field in (*short, "a.b.a", "a.b[].a"):
        stored, path = orjson.dumps(led_to_by(field)), parse_path(field)
        for change in sets + deletes:
            try:
                checked_change(change, field)
            except InvalidRequest:
                continue
            through_count += 1
            assert names_in(changed_payload(stored, change), path) == {"red"}, (field, change)
    assert through_count > 1000


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("org.team.id", "org[]"),
        ("org.team.id", "org[].name"),
        ("org.team.id", "org[0]"),
        ("orgs[].name", "orgs.x"),
        ("orgs[0].name", "orgs.name"),
    ],
)
def test_a_path_that_takes_the_place_of_the_field_s_objects_is_refused(field: str, path: str) -> None:
    with pytest.raises(InvalidRequest, match="tenant field"):
        checked_change(PointChange(kind=ChangeKind.SET, path=path, payload={"z": 1}), field)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("org.id", None),
        ("org.id", "org"),
        ("org.id", "other[]"),
        ("orgs[].name", "orgs[0]"),
        ("orgs[0].id", "orgs[]"),
    ],
)
def test_a_path_beside_the_field_is_let_through(field: str, path: str | None) -> None:
    change = PointChange(kind=ChangeKind.SET, path=path, payload={"z": 1})
    assert checked_change(change, field) == change
