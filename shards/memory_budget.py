"""How much memory a shard may take, at which level it is, and who may take more. Pure: told what is used, it decides.

    normal     everything goes
    throttle   writers are slowed, the more the nearer `refuse` is
    refuse     nothing is taken on; deletes and searches always are

A level is entered at its threshold, and left only `margin` below it, so that a shard on the edge does not flap. What
is big (a load's graph, a copy of a graph) asks first: `reserve` gives a permit while everything fits below `refuse`,
and counts as used until it is released. Shape after dask's worker memory thresholds and quickwit's search permits.

Invariants: used = parts + reserved, never negative; without a limit the level is normal and every permit is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shards.memory import MemoryParts
from shards.settings import ShardSettings


class MemoryLevel(StrEnum):
    NORMAL = "normal"
    THROTTLE = "throttle"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class MemoryThresholds:
    """Fractions of the limit: target < throttle < refuse < 1. `target` is where a planner should bring a shard back
    to; no level begins there.
    """

    target: float
    throttle: float
    refuse: float
    margin: float

    @classmethod
    def of(cls, settings: ShardSettings) -> MemoryThresholds:
        """Those that were set (and checked there)."""
        return cls(
            settings.memory_target_fraction,
            settings.memory_throttle_fraction,
            settings.memory_refuse_fraction,
            settings.memory_margin_fraction,
        )

    def level_after(self, level: MemoryLevel, used_fraction: float) -> MemoryLevel:
        """The level that follows `level` when so much of the limit is used."""
        held = self.margin if level is MemoryLevel.REFUSE else 0.0
        if used_fraction >= self.refuse - held:
            return MemoryLevel.REFUSE
        held = 0.0 if level is MemoryLevel.NORMAL else self.margin
        return MemoryLevel.THROTTLE if used_fraction >= self.throttle - held else MemoryLevel.NORMAL


@dataclass(frozen=True, slots=True, eq=False)
class MemoryPermit:
    """Bytes that are kept for `purpose` (words for a person) until the permit is released."""

    byte_count: int
    purpose: str


class MemoryBudget:
    """See the module. `observe` after every change of what is used."""

    def __init__(self, limit_bytes: int | None, thresholds: MemoryThresholds) -> None:
        self.limit_bytes = limit_bytes
        self.thresholds = thresholds
        self.level = MemoryLevel.NORMAL
        self.parts = MemoryParts()
        self._permits: list[MemoryPermit] = []

    def __repr__(self) -> str:
        return f"<MemoryBudget {self.level}: {self.used_bytes} of {self.limit_bytes} bytes>"

    @property
    def reserved_bytes(self) -> int:
        """Of all permits that are out."""
        return sum(permit.byte_count for permit in self._permits)

    @property
    def used_bytes(self) -> int:
        """What lives, and what is reserved."""
        return self.parts.total + self.reserved_bytes

    @property
    def pressure(self) -> float:
        """How near `refuse` is: 0 up to where the throttle ends, 1 at `refuse` and above."""
        if self.limit_bytes is None:
            return 0.0
        begin = self.thresholds.throttle - self.thresholds.margin
        share = (self.used_bytes / self.limit_bytes - begin) / (self.thresholds.refuse - begin)
        return min(1.0, max(0.0, share))

    def observe(self, parts: MemoryParts) -> MemoryLevel:
        """Take note of what lives now; the level that follows."""
        self.parts = parts
        return self._update()

    def reserve(self, byte_count: int, purpose: str) -> MemoryPermit | None:
        """A permit for bytes that are about to be taken, or None where they don't fit below `refuse`."""
        assert byte_count >= 0, "a permit is for bytes that are taken"
        if not self.has_room_for(byte_count):
            return None
        permit = MemoryPermit(byte_count, purpose)
        self._permits.append(permit)
        self._update()
        return permit

    def release(self, permit: MemoryPermit) -> None:
        """Give a permit back. Harmless to repeat."""
        if permit in self._permits:
            self._permits.remove(permit)
            self._update()

    def has_room_for(self, byte_count: int) -> bool:
        """Whether so many bytes more may be taken on now."""
        return self.bytes_to_free(byte_count) == 0

    def bytes_to_free(self, wanted_bytes: int = 0) -> int:
        """What has to go before `wanted_bytes` have room; at the level refuse at least what has to go to
        leave it: more than 0.
        """
        if self.limit_bytes is None:
            return 0
        room = self._bytes_at(self.thresholds.refuse) - 1 - wanted_bytes
        if self.level is MemoryLevel.REFUSE:
            room = min(room, self._bytes_at(self.thresholds.refuse - self.thresholds.margin) - 1)
        return max(0, self.used_bytes - room)

    def bytes_over_target(self) -> int:
        """What a planner should move or free so that the shard is at ease again."""
        return 0 if self.limit_bytes is None else max(0, self.used_bytes - self._bytes_at(self.thresholds.target))

    def in_words(self, wanted_bytes: int = 0) -> str:
        """What is used, by which part, and what has to be freed before `wanted_bytes` have room."""
        if self.limit_bytes is None:
            return f"memory is at level {self.level}: {self.used_bytes:,} bytes used, without a limit"
        by_size = sorted(self.parts.by_name().items(), key=lambda item: -item[1])
        shares = [f"{name} {byte_count:,}" for name, byte_count in by_size if byte_count]
        shares += [f"reserved for {permit.purpose} {permit.byte_count:,}" for permit in self._permits]
        return (
            f"memory is at level {self.level}: {self.used_bytes:,} of {self.limit_bytes:,} bytes used"
            f" ({', '.join(shares)}), {self.bytes_to_free(wanted_bytes):,} bytes would have to be freed"
        )

    def _bytes_at(self, fraction: float) -> int:
        assert self.limit_bytes is not None
        return int(self.limit_bytes * fraction)

    def _update(self) -> MemoryLevel:
        if self.limit_bytes is not None:
            self.level = self.thresholds.level_after(self.level, self.used_bytes / self.limit_bytes)
        return self.level
