"""The memory of answers that routers share, in Redis: which answers are looked for there, under which keys, and what is
believed of what comes back.

    shoal:{<slot of the tenant>:<collection uid>}:<canonical key>    an answer (deployments/cache_value.py), with a lifetime
    shoal:{<slot of the tenant>:<collection uid>}:version            how often the tenant's answers were cleared
    shoal:{:<collection uid>}:mixed                                  how often any tenant's were: for answers beyond one slot
    shoal:{:<collection uid>}:version                                how often the collection's were
    shoal:{:}:version                                                how often all were

The tag in braces keeps a tenant's answers on one node of a Redis Cluster. An answer that is found is checked with the shards
like one of this router's own (deployments/result_cache.py).

Redis is waited for no longer than for a small part of what a search like this one has lately taken (`redis_wait_fraction`;
where none like it was made, of what those of the other kinds take on average), and asked only where a trip to it takes half
of that: whatever becomes of Redis, a search is not held up by more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import Protocol

from cluster.requests import Footprint
from deployments.cache_counts import CacheCounts
from deployments.cache_entry import Entry
from deployments.cache_settings import CacheSettings
from deployments.cache_value import Poisoned, Versions, decode_value, encode_value

KINDS_MAX = 256
"""Kinds of search whose time is remembered."""
SMOOTHING = 0.2
"""Weight of the newest time in an average."""


TRIPS_IN_A_WAIT = 2
"""Redis has to be so much faster than it is waited for: else many waits would be in vain."""

log = logging.getLogger(__name__)


class ByteStore(Protocol):
    """What RedisStore does."""

    @property
    def trip_s(self) -> float:
        """What a read takes on average; 0 before the first."""
        ...

    def get(self, keys: Sequence[bytes]) -> asyncio.Future[Sequence[bytes | None] | None]: ...

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None: ...

    async def increment(self, key: bytes) -> bool: ...


class LevelTwo:
    """`random` gives numbers from 0 to 1; `secret` is the cluster's."""

    def __init__(
        self,
        store: ByteStore,
        settings: CacheSettings,
        counts: CacheCounts,
        secret: bytes,
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._settings = settings
        self._counts = counts
        self._secret = secret
        self._random = random
        self._search_s: OrderedDict[Hashable, float] = OrderedDict()
        self._versions: OrderedDict[str, Versions] = OrderedDict()

    def observe(self, kind: Hashable, seconds: float) -> None:
        """A search of this kind took so long."""
        before = self._search_s.pop(kind, seconds)
        self._search_s[kind] = before + SMOOTHING * (seconds - before)
        if len(self._search_s) > KINDS_MAX:
            self._search_s.popitem(last=False)

    def _usual_s(self, kind: Hashable) -> float | None:
        """What a search of this kind takes, or the mean of all kinds; None before the first."""
        seconds = self._search_s.get(kind)
        return seconds if seconds is not None or not self._search_s else fmean(self._search_s.values())

    async def find(self, key: bytes, footprint: Footprint, kind: Hashable, left_s: float) -> Entry | None:
        """The answer that a router has kept, to be checked; None where there is none, or asking is not worth it, or it does
        not come within `left_s`.
        """
        search_s = self._usual_s(kind)
        wait_s = None if search_s is None else self._settings.redis_wait_fraction * search_s
        if wait_s is not None and wait_s <= TRIPS_IN_A_WAIT * self._store.trip_s:
            self._counts.l2_skipped += 1
            return None
        tag = tag_of(footprint)
        whole = tag_name(footprint.asked.uid.hex(), None)
        own = version_name(tag) if tag != whole else mixed_name(whole)
        names = (value_name(tag, key), own, version_name(whole), version_name(tag_name(None, None)))
        asked = self._store.get(names)
        await asyncio.wait([asked], timeout=left_s if wait_s is None else min(wait_s, left_s))
        found = asked.result() if asked.done() else None
        if found is None:
            self._counts.l2_skipped += 1
            return None
        value, *versions = found
        now = self._read_versions(tag, versions)
        return None if value is None or now is None else self._believe(value, key, tag, footprint, now)

    def keep(self, entry: Entry) -> None:
        """Let other routers have the answer."""
        tag = tag_of(entry.footprint)
        value = encode_value(entry, tag, self._versions.get(tag, Versions()), self._secret)
        if len(value) > self._settings.redis_value_bytes_max:
            return
        spread = 1 + self._settings.redis_ttl_jitter_fraction * (2 * self._random() - 1)
        self._store.put(value_name(tag, entry.key), value, max(1, round(1000 * self._settings.redis_ttl_s * spread)))

    async def clear(self, uid: str | None, slot: int | None) -> bool:
        """What was kept of everything, of a collection, or of a slot of its tenants, counts no more: of a slot, neither what
        may be of others as well. False where Redis does not answer.
        """
        names = [version_name(tag_name(uid, slot))]
        if slot is not None:
            names.append(mixed_name(tag_name(uid, None)))
        return all([await self._store.increment(name) for name in names])

    def _read_versions(self, tag: str, versions: Sequence[bytes | None]) -> Versions | None:
        try:
            now = Versions(*(int(version or b"0") for version in versions))
        except ValueError:
            self._counts.l2_poisoned += 1
            return None
        self._versions.pop(tag, None)
        self._versions[tag] = now
        while len(self._versions) > KINDS_MAX:
            self._versions.popitem(last=False)
        return now

    def _believe(self, value: bytes, key: bytes, tag: str, footprint: Footprint, now: Versions) -> Entry | None:
        try:
            entry, then = decode_value(value, key, tag, footprint, self._secret)
        except Poisoned as why:
            self._counts.l2_poisoned += 1
            log.warning("a value in Redis is not believed: %s", why)
            return None
        return entry if then == now else None


def tag_of(footprint: Footprint) -> str:
    """`<slot>:<uid>` of an answer within one slot of tenants, `:<uid>` of any other."""
    slots = footprint.asked.slots
    return tag_name(footprint.asked.uid.hex(), slots[0] if len(slots) == 1 else None)


def tag_name(uid: str | None, slot: int | None) -> str:
    """Of a slot's answers, a collection's, or all."""
    return f"{'' if slot is None else slot}:{uid or ''}"


def value_name(tag: str, key: bytes) -> bytes:
    """The Redis key of an answer."""
    return f"shoal:{{{tag}}}:{key.hex()}".encode()


def version_name(tag: str) -> bytes:
    """The Redis key of a version."""
    return f"shoal:{{{tag}}}:version".encode()


def mixed_name(tag: str) -> bytes:
    """The Redis key of the version of a collection's answers that are of no one slot."""
    return f"shoal:{{{tag}}}:mixed".encode()
