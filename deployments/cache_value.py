"""How a kept answer lies in Redis, which many may be able to write to: nothing is believed that is not proved. Pure.

    magic "SHC1" | MAC 16 bytes | body
    body = canonical key 32 bytes | versions 3 x u64 | tag bytes u16 | shards u16 | points bytes u32 | tag |
           of each shard: id u16 | 6 zero bytes | stamp 24 bytes | part bytes u32 | 4 zero bytes |
           points | parts

Little-endian. The MAC is BLAKE2b over the body, keyed by the cluster's secret: who writes to Redis without knowing it
can bring no answer that is read. A value that was another key's, an older one of the same key, or one that was cleared is
told by its key, its stamps and its versions. There is nothing to unpickle.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import blake2b
from typing import NamedTuple

from cluster.requests import Footprint
from deployments.cache_entry import Entry
from deployments.cache_key import KEY_BYTES
from shards.errors import ShoalError
from shards.generations import STAMP_BYTES
from shards.messages import decode_hits

MAGIC = b"SHC1"
MAC_BYTES = 16
NEVER = float("-inf")
"""When an answer out of Redis was checked by this router: it has to be."""
_HEAD = struct.Struct(f"<{KEY_BYTES}sQQQHHI")
_SHARD = struct.Struct(f"<H6x{STAMP_BYTES}sI4x")
_STAMP = struct.Struct("<QQQ")


class Versions(NamedTuple):
    """How often a tag (a slot of a collection's tenants, or what is of several), a collection, and all were cleared."""

    tag: int = 0
    collection: int = 0
    all: int = 0


class Poisoned(Exception):
    """The bytes are not a value of this cluster under this key; the text says why."""


def encode_value(entry: Entry, tag: str, versions: Versions, secret: bytes) -> bytes:
    """The value's bytes."""
    name, stamps = tag.encode(), entry.stamps
    head = _HEAD.pack(entry.key, *versions, len(name), len(stamps), len(entry.points))
    bodies = entry.bodies or (b"",) * len(stamps)
    shards = [
        _SHARD.pack(shard_id, stamp.encode(), len(part))
        for (shard_id, stamp), part in zip(stamps.items(), bodies, strict=True)
    ]
    body = b"".join([head, name, *shards, entry.points, *bodies])
    return MAGIC + _mac(body, secret) + body


def decode_value(value: bytes, key: bytes, tag: str, footprint: Footprint, secret: bytes) -> tuple[Entry, Versions]:
    """The entry, never checked yet. Raises Poisoned."""
    start = len(MAGIC) + MAC_BYTES
    body = memoryview(value)[start:]
    if value[: len(MAGIC)] != MAGIC or not hmac.compare_digest(value[len(MAGIC) : start], _mac(body, secret)):
        raise Poisoned("it was not written by this cluster")
    # What follows was written by us, but perhaps under another key, or by another version.
    try:
        found_key, *versions, tag_bytes, shard_count, points_bytes = _HEAD.unpack_from(body)
        at = _HEAD.size + tag_bytes
        if found_key != key or bytes(body[_HEAD.size : at]) != tag.encode():
            raise Poisoned("it is another key's")
        shards = [_SHARD.unpack_from(body, at + n * _SHARD.size) for n in range(shard_count)]
        at += shard_count * _SHARD.size
        points, at = bytes(body[at : at + points_bytes]), at + points_bytes
        bodies: list[bytes] = []
        for *_, length in shards:
            if length:
                bodies.append(bytes(body[at : at + length]))
                decode_hits(memoryview(bodies[-1]))
                at += length
    except (struct.error, ShoalError) as error:
        raise Poisoned(f"it can't be read: {error}") from None
    if (
        at != len(body)
        or [shard[0] for shard in shards] != [*footprint.shard_ids]
        or len(bodies) not in (0, shard_count)
    ):
        raise Poisoned("its lengths, or its shards, are not those of the question")
    moments = tuple([number for _, stamp, _ in shards for number in _STAMP.unpack(stamp)])
    return Entry(key, footprint, points, moments, tuple(bodies), NEVER), Versions(*versions)


def _mac(body: bytes | memoryview, secret: bytes) -> bytes:
    return blake2b(body, digest_size=MAC_BYTES, key=secret[:64]).digest()
