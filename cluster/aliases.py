"""Aliases, as a value: second names of collections, which change by whole lists of actions.

A list is applied in its order, to the end or not at all: moving an alias from one collection to another is one step for
whoever searches by it. Invariants: an alias leads to a ready collection, never to another alias, and no collection has
its name. What happens to aliases when their collection goes is the catalogue's affair.

Errors are the API's: NotFound for what an action needs and is not there, Conflict where the name belongs to a
collection. Deleting an alias that is not there is no error.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from shards.errors import Conflict, LimitExceeded, NotFound

Aliases = Mapping[str, str]
"""The collection's name by alias."""

ALIASES_MAX = 10_000
"""Of a cluster. They travel whole to every router at every change: some 600 kB."""
ALIAS_ACTIONS_MAX = 1_000
"""In one list."""


@dataclass(frozen=True, slots=True)
class CreateAlias:
    """Have `alias` lead to `collection`, wherever it led before."""

    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    alias: str


@dataclass(frozen=True, slots=True)
class RenameAlias:
    """Have `new` lead where `old` does, and `old` nowhere."""

    old: str
    new: str


AliasAction = CreateAlias | DeleteAlias | RenameAlias


def change_aliases(
    aliases: Aliases, actions: Sequence[AliasAction], ready: Container[str], taken: Container[str]
) -> dict[str, str]:
    """The aliases after all actions. `ready`: names of collections that an alias may lead to; `taken`: names that it can't
    have, those of all collections that are, or are about to be.
    """
    if len(actions) > ALIAS_ACTIONS_MAX:
        raise LimitExceeded(f"a request changes aliases {len(actions)} times; the limit is {ALIAS_ACTIONS_MAX}")
    changed = dict(aliases)
    for action in actions:
        match action:
            case CreateAlias(alias, collection):
                _check_free(alias, taken)
                if collection not in ready:
                    raise NotFound(f"Not found: Collection `{collection}` doesn't exist!")
                changed[alias] = collection
            case DeleteAlias(alias):
                changed.pop(alias, None)
            case RenameAlias(old, new):
                _check_free(new, taken)
                if old not in changed:
                    raise NotFound(f"Not found: Alias `{old}` doesn't exist!")
                changed[new] = changed.pop(old)
    if len(changed) > ALIASES_MAX:
        raise LimitExceeded(f"the cluster would have {len(changed)} aliases; the limit is {ALIASES_MAX}")
    return changed


def _check_free(alias: str, taken: Container[str]) -> None:
    if alias in taken:
        raise Conflict(f"Wrong input: Collection `{alias}` already exists!")
