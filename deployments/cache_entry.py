"""One kept answer: what is sent, the stamps that it is of, and what each shard said, so that one can be asked anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.requests import Footprint, SearchAnswer
from shards.generations import Stamp
from shards.messages import hits_of_query

OVERHEAD_BYTES = 1536
"""What an entry takes beside its texts: objects, keys, its places in the cache (measured: 1.3 KB with two shards)."""
RAW_KEYS_MAX = 4
"""Spellings of one question that are known by their bytes."""


@dataclass(slots=True)
class Entry:
    """`points`: JSON; `parts`: HITS' bodies by shard, empty where one shard is asked; `asked_at`: the loop's time before the
    last search or probe that vouches for it was sent.
    """

    key: bytes
    footprint: Footprint
    points: bytes
    stamps: Mapping[int, Stamp]
    parts: Mapping[int, bytes]
    asked_at: float
    raw_keys: list[bytes] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return OVERHEAD_BYTES + len(self.points) + sum(map(len, self.parts.values()))

    def moved(self, now: Mapping[int, Stamp]) -> list[int]:
        """The shards whose part no longer holds."""
        return [shard_id for shard_id, stamp in self.stamps.items() if not stamp.covers(now[shard_id])]

    def shoal(self, cached: str, age_s: float | None = None) -> bytes:
        """What the answer says of itself: `stale_ms` only where nobody was asked."""
        generation = ",".join(f'"{shard_id}":{stamp.changes}' for shard_id, stamp in self.stamps.items())
        stale = "" if age_s is None else f',"stale_ms":{max(0, round(age_s * 1000))}'
        return f'{{"coverage":1.0,"cached":"{cached}","generation":{{{generation}}}{stale}}}'.encode()


def entry_of(key: bytes, footprint: Footprint, answer: SearchAnswer, points: bytes, asked_at: float) -> Entry | None:
    """The entry of a search's answer to one query; None where it may not be kept: it is partial, or not of this footprint."""
    if answer.coverage < 1.0 or len(answer.origins) != 1:
        return None
    replies, query = answer.origins[0]
    stamps = {shard_id: reply.stamp for shard_id, reply in replies.items()}
    if stamps.keys() != {*footprint.shard_ids} or not all(stamp.life for stamp in stamps.values()):
        return None
    several = len(replies) > 1
    parts = {shard_id: hits_of_query(reply.body, query) for shard_id, reply in replies.items()} if several else {}
    return Entry(key, footprint, points, stamps, parts, asked_at)
