"""One kept answer: what is sent, the stamps that it is of, and what each shard said, so that one can be asked anew.

There may be tens of thousands, and Python's collector looks at every container now and then: so an entry is one object over
bytes and plain tuples of numbers and bytes, which it does not have to look at, and footprints are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.requests import Footprint, SearchAnswer
from shards.generations import Stamp
from shards.messages import hits_of_query

OVERHEAD_BYTES = 1536
"""What an entry takes beside its texts: objects, keys, its places in the cache (measured: 1.3 KB with two shards)."""
RAW_KEYS_MAX = 4
"""Spellings of one question that are known by their bytes."""


@dataclass(slots=True)
class Entry:
    """`points`: JSON; `moments`: life, changes and layout of each shard's stamp, in the order of the footprint's shards;
    `bodies`: HITS' bodies in the same order, empty where one shard is asked; `asked_at`: the loop's time before the last
    search or probe that vouches for it was sent.
    """

    key: bytes
    footprint: Footprint
    points: bytes
    moments: tuple[int, ...]
    bodies: tuple[bytes, ...]
    asked_at: float
    raw_keys: tuple[bytes, ...] = ()

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return OVERHEAD_BYTES + len(self.points) + sum(map(len, self.bodies))

    @property
    def stamps(self) -> dict[int, Stamp]:
        """By shard."""
        return {
            shard_id: Stamp(*self.moments[3 * n : 3 * n + 3]) for n, shard_id in enumerate(self.footprint.shard_ids)
        }

    @property
    def parts(self) -> dict[int, bytes]:
        """The bodies by shard."""
        return dict(zip(self.footprint.shard_ids, self.bodies, strict=False))

    def moved(self, now: Mapping[int, Stamp]) -> list[int]:
        """The shards whose part no longer holds."""
        moments = self.moments
        return [
            shard_id
            for n, shard_id in enumerate(self.footprint.shard_ids)
            if not Stamp(moments[3 * n], moments[3 * n + 1]).covers(now[shard_id])
        ]

    def shoal(self, cached: str, age_s: float | None = None) -> bytes:
        """What the answer says of itself: `stale_ms` only where nobody was asked."""
        changes = zip(self.footprint.shard_ids, self.moments[1::3], strict=True)
        generation = ",".join([f'"{shard_id}":{count}' for shard_id, count in changes])
        stale = "" if age_s is None else f',"stale_ms":{max(0, round(age_s * 1000))}'
        return f'{{"coverage":1.0,"cached":"{cached}","generation":{{{generation}}}{stale}}}'.encode()


def entry_of(key: bytes, footprint: Footprint, answer: SearchAnswer, points: bytes, asked_at: float) -> Entry | None:
    """The entry of a search's answer to one query; None where it may not be kept: it is partial, or not of this footprint."""
    origin = answer.origins[0] if len(answer.origins) == 1 else None
    if answer.coverage < 1.0 or origin is None:
        return None
    replies, query = origin
    if replies.keys() != {*footprint.shard_ids}:
        return None
    ordered = [replies[shard_id] for shard_id in footprint.shard_ids]
    if not all(reply.stamp.life for reply in ordered):
        return None
    moments = tuple([number for reply in ordered for number in reply.stamp])
    bodies = tuple([hits_of_query(reply.body, query) for reply in ordered]) if len(ordered) > 1 else ()
    return Entry(key, footprint, points, moments, bodies, asked_at)
