"""What may be in the cluster: of each point the last write that was acknowledged, and those whose answer never came. Pure.

One writer owns an id: its writes come one after the other, each with a version higher than all before. A state is the
version of an upsert, or ABSENT. A write whose answer did not come is *open*: it may count or not, now or later, so
both states are right until `settle`; meanwhile its writer leaves the id alone (a late write would come behind a newer
one and be right, too, and nothing could be told any more).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.chaos.report import Wrong

ABSENT = 0


@dataclass
class Fates:
    """The ids of one owner."""

    settled: dict[int, int] = field(default_factory=dict)
    """The state that the last acknowledged write left."""
    open: dict[int, int] = field(default_factory=dict)
    """The state that a write without an answer may have left."""
    highest: dict[int, int] = field(default_factory=dict)
    """The highest version that was sent."""
    acknowledged: int = 0
    unknown: int = 0

    def next_version(self, point_id: int) -> int:
        """A version for the next write, upsert or delete."""
        self.highest[point_id] = self.highest.get(point_id, ABSENT) + 1
        return self.highest[point_id]

    def acknowledge(self, states: Iterable[tuple[int, int]]) -> None:
        """These writes were answered."""
        for point_id, state in states:
            self.settled[point_id] = state
            self.acknowledged += 1

    def leave_open(self, states: Iterable[tuple[int, int]]) -> None:
        """Nobody said what became of these writes."""
        for point_id, state in states:
            self.open[point_id] = state
            self.unknown += 1

    def judge(self, point_id: int, found: int | None) -> Wrong | None:
        """What is wrong about the state that was read (ABSENT where there was no point, None where it was not whole)."""
        settled = self.settled.get(point_id, ABSENT)
        allowed = {settled, self.open.get(point_id, settled)}
        if found in allowed:
            return None
        said = f"point {point_id} is {_spelled(found)}, right would be {' or '.join(map(_spelled, sorted(allowed)))}"
        if found is None:
            return Wrong("damaged", said)
        if found == ABSENT:
            return Wrong("lost", said)
        if found > self.highest.get(point_id, ABSENT):
            return Wrong("phantom", said)
        return Wrong("resurrected" if settled == ABSENT else "lost", said)

    def settle(self, point_id: int, found: int) -> None:
        """Take what was read for what is so: only when no open write can still arrive."""
        self.settled[point_id] = found
        self.open.pop(point_id, None)

    def living(self) -> Iterator[int]:
        """The ids that certainly are points, with no write open."""
        return (key for key, state in self.settled.items() if state != ABSENT and key not in self.open)


def _spelled(state: int | None) -> str:
    if state is None:
        return "not whole"
    return "absent" if state == ABSENT else f"version {state}"
