"""Aliases change by whole lists of actions, lead to collections, and never have a collection's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.aliases import (
    ALIAS_ACTIONS_MAX,
    ALIASES_MAX,
    AliasAction,
    CreateAlias,
    DeleteAlias,
    RenameAlias,
    change_aliases,
)
from shards.errors import Conflict, LimitExceeded, NotFound, ShoalError

READY = {"old", "new"}
TAKEN = READY | {"coming"}
NAMES = st.sampled_from(["old", "new", "coming", "gone", "a", "b", "c"])
ACTIONS = st.one_of(
    st.builds(CreateAlias, NAMES, NAMES), st.builds(DeleteAlias, NAMES), st.builds(RenameAlias, NAMES, NAMES)
)


def changed(aliases: dict[str, str], *actions: AliasAction) -> dict[str, str]:
    return change_aliases(aliases, actions, READY, TAKEN)


def test_an_alias_moves_in_one_step() -> None:
    assert changed({"live": "old"}, CreateAlias("live", "new")) == {"live": "new"}
    assert changed({"live": "old"}, DeleteAlias("live"), CreateAlias("live", "new")) == {"live": "new"}
    assert changed({"live": "old"}, RenameAlias("live", "before"), CreateAlias("live", "new")) == {
        "before": "old",
        "live": "new",
    }


def test_renaming_takes_the_place_of_another_alias() -> None:
    assert changed({"a": "old", "b": "new"}, RenameAlias("a", "b")) == {"b": "old"}
    assert changed({"a": "old"}, RenameAlias("a", "a")) == {"a": "old"}


def test_deleting_what_is_not_there_is_no_error() -> None:
    assert changed({"a": "old"}, DeleteAlias("b")) == {"a": "old"}


@pytest.mark.parametrize(
    ("action", "kind", "text"),
    [
        (CreateAlias("a", "gone"), NotFound, "Not found: Collection `gone` doesn't exist!"),
        (CreateAlias("a", "coming"), NotFound, "Not found: Collection `coming` doesn't exist!"),
        (CreateAlias("a", "live"), NotFound, "Not found: Collection `live` doesn't exist!"),
        (CreateAlias("new", "old"), Conflict, "Wrong input: Collection `new` already exists!"),
        (CreateAlias("coming", "old"), Conflict, "Wrong input: Collection `coming` already exists!"),
        (RenameAlias("gone", "a"), NotFound, "Not found: Alias `gone` doesn't exist!"),
        (RenameAlias("live", "new"), Conflict, "Wrong input: Collection `new` already exists!"),
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(action: AliasAction, kind: type[ShoalError], text: str) -> None:
    aliases = {"live": "old"}
    with pytest.raises(kind) as refusal:
        changed(aliases, DeleteAlias("live"), CreateAlias("live", "old"), action)
    assert refusal.value.message == text
    assert aliases == {"live": "old"}


@given(st.lists(ACTIONS, max_size=8))
def test_invariants_hold_after_any_list(actions: list[AliasAction]) -> None:
    aliases = {"a": "old"}
    try:
        after = changed(aliases, *actions)
    except ShoalError:
        after = aliases
    assert set(after.values()) <= READY
    assert not set(after) & TAKEN


def test_limits_are_named() -> None:
    changed({}, *[DeleteAlias("a")] * ALIAS_ACTIONS_MAX)
    with pytest.raises(LimitExceeded, match=str(ALIAS_ACTIONS_MAX)):
        changed({}, *[DeleteAlias("a")] * (ALIAS_ACTIONS_MAX + 1))
    full = {f"alias {number}": "old" for number in range(ALIASES_MAX)}
    assert changed(full, CreateAlias("alias 7", "new"))["alias 7"] == "new"
    with pytest.raises(LimitExceeded, match=str(ALIASES_MAX)):
        changed(full, CreateAlias("one more", "new"))
