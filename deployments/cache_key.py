"""What makes two requests the same question, and what a request says of the cache. Pure.

Two keys for one answer. The **raw key** is of the body's bytes as they came: a client that sends a query again is known
without reading its JSON. The **canonical key** is of what was read (queries, parameters, what is shown), so that a body that
is spelt otherwise finds the same answer, and other routers do. Both hold all that an answer depends on beside the
points: the collection's uid and its shard map's epoch, and the tenants that the caller's key is kept within, so that
an answer never crosses from one caller to another that may see less.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from cluster.state import CollectionState
from shards.errors import InvalidRequest

KEY_BYTES = 32
RAW_KEY_BYTES = 16
CACHE_CONTROL = b"cache-control"
STALENESS = b"shoal-cache-staleness-ms"
_ALWAYS_FRESH = (b"no-cache", b"no-store")


class Arrival(NamedTuple):
    """A request for neighbours, before its body is read. `form`: how its body is read. `tenants`: those that the caller's key
    is kept within, () where it is not.
    """

    collection: CollectionState
    form: str
    query_string: bytes
    body: bytes
    headers: Iterable[tuple[bytes, bytes]] = ()
    tenants: tuple[str, ...] = ()


class Directives(NamedTuple):
    """`is_fresh`: the answer must be searched now. `staleness_ms`: how old it may be unchecked; None: not said."""

    is_fresh: bool = False
    staleness_ms: int | None = None


_NOTHING_SAID = Directives()


def directives_of(headers: Iterable[tuple[bytes, bytes]]) -> Directives:
    """What the headers `Cache-Control` and `shoal-cache-staleness-ms` say. Raises InvalidRequest."""
    found = _NOTHING_SAID
    for name, value in headers:
        # Most headers have another length, which is known without looking at them.
        if len(name) == len(CACHE_CONTROL) and name.lower() == CACHE_CONTROL:
            said = value.lower()
            if any(word in said for word in _ALWAYS_FRESH):
                found = found._replace(is_fresh=True)
        elif len(name) == len(STALENESS) and name.lower() == STALENESS:
            if not value.isdigit() or len(value) > 9:
                shown = value[:40].decode("latin-1")
                raise InvalidRequest(f"the header shoal-cache-staleness-ms is {shown!r}, which is no number of ms")
            found = found._replace(staleness_ms=int(value))
    return found


def raw_key(arrival: Arrival, secret: bytes) -> bytes:
    """Of the bytes as they came; `secret` is this router's, so that nobody can prepare two bodies of one key."""
    state = arrival.collection
    head = f"{state.uid} {state.shard_map.epoch} {arrival.form} {arrival.tenants!r} ".encode()
    parts = (head, arrival.query_string, b"\n", arrival.body)
    return blake2b(b"".join(parts), digest_size=RAW_KEY_BYTES, key=secret).digest()


def canonical_key(arrival: Arrival, plan: tuple[Any, ...], shown: tuple[Any, ...], queries: bytes) -> bytes:
    """Of what was read: `plan` is a SearchRequest without its vectors, `shown` what of a point is, `queries` float32. Their
    repr tells everything apart that differs (floats are written whole, texts are quoted).
    """
    state = arrival.collection
    head = repr((state.uid, state.shard_map.epoch, arrival.tenants, plan, shown, len(queries)))
    return blake2b(head.encode("utf-8", "surrogatepass") + b"\n" + queries, digest_size=KEY_BYTES).digest()
