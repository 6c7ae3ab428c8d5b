"""What a request is about and what it is held to: one collection, as it was found when the request began, and within it
perhaps the points of some tenants alone. Pure.

A name may come to mean another collection at any time: it is deleted and made again. A request that was checked for one (a
vector normalised for its distance) must not go on with the other, so everything that it does names the uid that it found,
its repetitions with a newer state too; where the name has another by then, the request ends with a Conflict.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.state import CollectionState
from shards.errors import Conflict


class Scope(NamedTuple):
    """`name`: a collection's, or an alias. `uid`: of the collection that is meant; "": whichever has the name. `tenants`: the
    request may see and change the points of these alone (cluster/tenant_guard.py); empty: every point.
    """

    name: str
    uid: str = ""
    tenants: tuple[str, ...] = ()


Named = str | Scope
"""How callers say which collection they mean: in passing by its name, or held to more."""


def scope_of(about: Named) -> Scope:
    """The scope that is meant."""
    return about if isinstance(about, Scope) else Scope(about)


def check_same(scope: Scope, found: CollectionState) -> None:
    """Raises Conflict where the name means another collection than the one that the request began with."""
    if scope.uid and scope.uid != found.uid:
        raise Conflict(
            f"Collection `{scope.name}` was deleted and made again while the request was under way; what it did went to"
            " the one that is gone, so repeat it"
        )
