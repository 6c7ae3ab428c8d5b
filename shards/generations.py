"""How a shard tells that its answers may have changed: a count of changes, for a collection and for each of its slots. Pure.

Whatever can change an answer (an applied op, another declaration of payload fields) moves the count, on the shard's loop, in
the turn in which searches begin to see it and before it is acknowledged. An answer carries the **stamp** of the moment
before its search looked; it is still the answer while nothing that it depends on has moved since. A seal or a merge
moves nothing: the points are the same. It moves `layout`, by which a reader knows that an approximate search may now find
other neighbours (the sampler of the result cache asks that).

Counts begin again when a collection is opened, and what a log held may have been cut by then. So a stamp carries the
collection's **life**, a random number of its opening: stamps of two lives are never equal, and nothing has to be stored.

Slots count for a reader that depends on few of them: a tenant's searches in a collection with a tenant field. Which field
that is only routers know for certain, so the first that asks names it, and slots are counted from then on: what
happened before counts as a change of all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from shards.batch import Buffer
from shards.errors import Corrupt
from shards.slots import SLOT_COUNT

_ASKED = struct.Struct("<16sQHHI")
_STAMP = struct.Struct("<QQQ")
STAMP_BYTES = _STAMP.size


class Stamp(NamedTuple):
    """A moment of a collection on a shard. `life` 0: none, equal to nothing."""

    life: int
    changes: int
    layout: int = 0

    def covers(self, now: Stamp) -> bool:
        """Whether an answer of this moment is still one, where what it depends on stands at `now`."""
        return self.life != 0 and self.life == now.life and now.changes <= self.changes

    def encode(self) -> bytes:
        return _STAMP.pack(*self)


NO_STAMP = Stamp(0, 0)


class Generations:
    """Of one collection on one shard, in one life (a random number above 0)."""

    def __init__(self, life: int) -> None:
        assert life > 0, "0 stands for no stamp"
        self.life = life
        self.changes = 0
        self.layout = 0
        self.field: str | None = None
        """The payload field whose texts' slots are counted; None where nobody has asked."""
        self._changes_of = np.zeros(0, np.uint64)

    def __repr__(self) -> str:
        return f"<Generations {self.life:x}: {self.changes} changes, slots by {self.field}>"

    @property
    def stamp(self) -> Stamp:
        """Now, for an answer that a search is about to give."""
        return Stamp(self.life, self.changes, self.layout)

    def stamp_of(self, field: str, slots: Iterable[int]) -> Stamp:
        """The last change of these slots, by the texts of `field`. Starts counting by it where another was counted."""
        if field != self.field:
            self.field = field
            self._changes_of = np.full(SLOT_COUNT, self.changes, np.uint64)
        last = max((int(self._changes_of[slot]) for slot in slots), default=self.changes)
        return Stamp(self.life, last, self.layout)

    def move(self, slots: Sequence[int] | None = None) -> None:
        """Something changed: points of these slots, or where None of any."""
        self.changes += 1
        if self.field is not None:
            if slots is None:
                self._changes_of[:] = self.changes
            else:
                self._changes_of[list(slots)] = self.changes

    def move_layout(self) -> None:
        """The same points are searched in another way."""
        self.layout += 1


class Asked(NamedTuple):
    """Whose stamp a router wants: a collection's at an epoch, or, where `field` is not empty, that of slots by its texts."""

    uid: bytes
    epoch: int
    field: str = ""
    slots: tuple[int, ...] = ()


def encode_asked(asked: Sequence[Asked]) -> bytes:
    """GENERATIONS' body: of each uid | epoch u64 | field bytes u16 | slot count u16 | 4 zero bytes | field | slots u16."""
    parts: list[bytes] = []
    for uid, epoch, field, slots in asked:
        name = field.encode()
        parts += [_ASKED.pack(uid, epoch, len(name), len(slots), 0), name]
        if slots:
            parts.append(np.array(slots, "<u2").tobytes())
    return b"".join(parts)


@lru_cache(maxsize=64)
def decode_asked(body: bytes) -> tuple[Asked, ...]:
    """What `encode_asked` wrote. Most probes repeat an earlier one. Raises Corrupt."""
    asked: list[Asked] = []
    at = 0
    try:
        while at < len(body):
            uid, epoch, field_bytes, slot_count, _ = _ASKED.unpack_from(body, at)
            field_at = at + _ASKED.size
            slots_at = field_at + field_bytes
            at = slots_at + 2 * slot_count
            if at > len(body):
                raise ValueError("it ends amid its slots")
            slots = np.frombuffer(body, "<u2", slot_count, slots_at).tolist()
            if slots and max(slots) >= SLOT_COUNT:
                raise ValueError(f"there is no slot {max(slots)}")
            asked.append(Asked(uid, epoch, body[field_at:slots_at].decode(), tuple(slots)))
    except (struct.error, ValueError) as error:
        raise Corrupt(f"a probe of {len(body)} bytes can't be read: {error}") from None
    return tuple(asked)


def decode_stamps(body: Buffer) -> list[Stamp]:
    """STAMPS' body: one stamp for each that was asked, NO_STAMP where there is none. Raises Corrupt."""
    if len(body) % STAMP_BYTES:
        raise Corrupt(f"{len(body)} bytes are no stamps")
    return [Stamp(*numbers) for numbers in _STAMP.iter_unpack(body)]


def encode_stamps(stamps: Iterable[Stamp]) -> list[Any]:
    """The same, written."""
    return [b"".join([stamp.encode() for stamp in stamps])]
