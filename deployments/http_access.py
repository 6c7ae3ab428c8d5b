"""Who asks, by a request's headers, and whether it may: the gate before every handler.

What a route needs stands in the table of routes (http_app.py), what a key may do in its grants (cluster/api_keys.py); here
they meet. A cluster without keys lets everybody in, at the cost of one comparison a request; with keys it is one
look-up and one hash. The keys are those of the cluster's newest state, so a key that was made or revoked elsewhere
counts here as soon as the state has arrived.

Invariants: nothing is answered to a stranger but the open routes, not even that a path does not exist; a refusal says
the same of a collection that exists and of one that doesn't; keys are never logged, and never part of a message.

A body may one day name another collection than its path does (`lookup_from`): its handler has to ask `Request.access`, and
to hold what it does there to the tenants that `Access.tenants` names.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.api_keys import EVERYTHING, Access, KeyRing, Keys, Role
from cluster.state import CollectionState
from deployments.cluster_api import ClusterApi
from deployments.http_message import Handler, Headers
from shards.errors import Forbidden, Unauthenticated

KEY_HEADER = b"api-key"
_BEARER_HEADER = b"authorization"
_BEARER = b"bearer "
_HOW = "an API key in the header `api-key`, or as `Authorization: Bearer KEY`"


class Route(NamedTuple):
    """A handler and the role that it needs, over the path's collection, or over the whole cluster where it has none.

    `role` None: open to everybody, always. `own_only`: the handler shows only what the caller may see, so that a grant
    over any collection will do. `guarded`: asks for a key also where a cluster is open. `whole_cluster`: its path looks like
    a collection's, but it is none. `within_tenants`: what it does can be kept within some tenants' points, so that grants
    for these will do. `cost`: what a request for points costs at least (deployments/cost.py); 0: it is let in whatever the
    load, for it is what people look with.
    """

    handler: Handler
    role: Role | None
    own_only: bool = False
    guarded: bool = False
    whole_cluster: bool = False
    within_tenants: bool = False
    cost: float = 0.0


class Admission(NamedTuple):
    """What the caller may do, and the tenants to whose points the request has to be kept; none: every point."""

    access: Access
    tenants: tuple[str, ...] = ()


_OPEN = Admission(EVERYTHING)


class Gate:
    """One per application. Follows the keys of the cluster's state."""

    def __init__(self, cluster: ClusterApi, own_key: str | None) -> None:
        """`own_key`: see KeyRing."""
        self._cluster = cluster
        self._own_key = own_key
        self._keys: Keys = ()
        self._ring = KeyRing((), own_key)

    def check_known(self, headers: Headers) -> None:
        """For what is no route: nothing where the cluster is open or the caller has a key, else Unauthenticated."""
        if self._cluster.state.keys:
            self._identify(headers)

    def admit(self, route: Route, collection: str, headers: Headers) -> Admission:
        """On what terms the request is let in. Raises Unauthenticated or Forbidden."""
        role = route.role
        if role is None or not (route.guarded or self._cluster.state.keys):
            return _OPEN
        access = self._identify(headers)
        if route.whole_cluster:
            collection = ""
        if access.allows(role, collection) or (route.own_only and access.allows_somewhere(role)):
            return Admission(access)
        if route.within_tenants and (tenants := access.tenants(role, collection)):
            return Admission(access, tenants)
        raise _refusal(access, role, collection)

    def _identify(self, headers: Headers) -> Access:
        text = presented_key(headers)
        if text is None:
            raise Unauthenticated(f"Unauthorized: this needs {_HOW}")
        keys = self._cluster.state.keys
        if keys is not self._keys:
            self._keys, self._ring = keys, KeyRing(keys, self._own_key)
        access = self._ring.recognise(text)
        if access is None:
            raise Unauthenticated(f"Unauthorized: the key that was given is not valid here; give {_HOW}")
        return access


def sees(access: Access, name: str, collection: CollectionState | None) -> bool:
    """Whether the caller may be told that there is this name, of this collection: where it may read something of it."""
    if access.allows(Role.READ, name):
        return True
    return collection is not None and collection.owner_field is not None and bool(access.tenants(Role.READ, name))


def presented_key(headers: Headers) -> bytes | None:
    """The key that a request carries; `api-key` goes before `authorization`."""
    bearer = None
    for name, value in headers:
        # Most headers have another length, which is known without looking at them.
        if len(name) == len(KEY_HEADER) and name.lower() == KEY_HEADER:
            return value
        if len(name) == len(_BEARER_HEADER) and name.lower() == _BEARER_HEADER and value[:7].lower() == _BEARER:
            bearer = value[7:].strip()
    return bearer


def _refusal(access: Access, role: Role, collection: str) -> Forbidden:
    where = f"collection `{collection[:200]}`" if collection else "the cluster as a whole"
    message = f"Forbidden: the key {access.key_id} has no {role} access to {where}"
    if access.within:
        message += f"; what it may do to points of tenant `{access.within[0].tenant}` does not include this"
    return Forbidden(message)
