"""Which sealed segments become one, and when. Pure: weights in, a merge out; shards/sealing.py carries it out.

A search pays for every segment, so one large graph is the resting state; but a merge copies its largest segment, so
merging at every seal would write everything again and again. In between stands a ladder: the segments that are smaller
than one wait until together they have a fixed fraction of its rows, then all of them are added to a copy of it.

- The largest takes the smaller ones in once they have 1 / 4 of its rows: each of its rows is copied 5 times at most
  while it grows (the sum of 1 / 1.25^i).
- Any other takes the smaller ones in at 1 / 16. So at rest the second has less than 1 / 4 of the largest one's rows, and
  every further one less than 1 / 16 of the one before it: with seals of 20,000 rows at most 2 segments below 1.3 million
  rows, 3 below 20 million. On a lower step a row is copied 8 times on average; it is inserted into a graph once a step.
- A segment with more than 20 % dead rows is built anew without them: hnswlib never shrinks, and a search walks over
  the dead. So is one whose graph is damaged.

Where nobody writes there is time: a shard that is quiet is merged down to IDLE_FRACTION at every step, which leaves one
graph and at most a sixty-fourth of its rows beside it; so does the last part of a load that came in point by point.

Small is cheap: below `rows_floor` the fractions do not count, everything is merged at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LARGEST_FRACTION = 1 / 4
OTHER_FRACTION = 1 / 16
IDLE_FRACTION = 1 / 64
DEAD_FRACTION_MAX = 0.2
_NEWCOMER = "~"
"""Sorts behind every segment's name: of two that are as large, the one that exists takes the other in."""


class SegmentWeight(NamedTuple):
    """What the choice depends on. `needs_rebuild`: its graph is damaged or missing, though it should have one."""

    name: str
    row_count: int
    live_count: int
    needs_rebuild: bool = False

    @property
    def has_many_dead(self) -> bool:
        return self.row_count - self.live_count > DEAD_FRACTION_MAX * self.row_count


class Merge(NamedTuple):
    """`base`: the segment whose graph is copied, rows kept in place, dead ones too; None to build anew. `parts`: those whose
    living rows are added behind it. `reason` is for a person. `is_repair`: searches are slow until it is done.
    """

    base: str | None
    parts: tuple[str, ...]
    reason: str
    is_repair: bool = False


def plan_merge(segments: Sequence[SegmentWeight], rows_floor: int = 0, is_quiet: bool = False) -> Merge | None:
    """The merge that is due among sealed segments, or None where they rest. `is_quiet`: nobody has written for a while."""
    for segment in segments:
        if segment.needs_rebuild:
            return Merge(None, (segment.name,), f"the graph of {segment.name} has to be built anew", True)
        if segment.has_many_dead:
            dead = segment.row_count - segment.live_count
            return Merge(None, (segment.name,), f"{dead} of {segment.row_count} rows of {segment.name} are dead")
    ladder = sorted(segments, key=lambda segment: (-segment.row_count, segment.name))
    for place, base in enumerate(ladder[:-1]):
        smaller = ladder[place + 1 :]
        rows = sum(segment.live_count for segment in smaller)
        fraction = IDLE_FRACTION if is_quiet else step_fraction(place)
        if rows >= fraction * base.row_count or base.row_count + rows <= rows_floor:
            names = tuple(segment.name for segment in smaller)
            return Merge(base.name, names, f"{rows} rows in {len(names)} smaller segments join {base.row_count}")
    return None


def plan_seal(segments: Sequence[SegmentWeight], row_count: int, rows_floor: int = 0) -> str | None:
    """The name of the sealed segment that rows which are about to be sealed should join at once, or None for a segment of
    their own: what `plan_merge` would do right after, without building their graph twice.
    """
    newcomer = SegmentWeight(_NEWCOMER, row_count, row_count)
    healthy = [segment for segment in segments if not segment.needs_rebuild and not segment.has_many_dead]
    merge = plan_merge([*healthy, newcomer], rows_floor)
    return merge.base if merge is not None and merge.parts == (newcomer.name,) else None


def step_fraction(place: int) -> float:
    """The fraction of its rows at which the segment at this place, largest first, takes in the smaller ones."""
    return LARGEST_FRACTION if place == 0 else OTHER_FRACTION
