"""A search that is under way, and what those who ask the same meanwhile may have of it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from deployments.cache_entry import Entry
from deployments.cache_question import Answer
from deployments.http_coverage import LESS_WIDTH, degraded_json


class Found(NamedTuple):
    """What a search gave. `entry`: the answer as it can be checked, None where it can't. `is_whole`: every shard was
    searched; `is_narrowed`: with less width than the question has, so it is not kept.
    """

    answer: Answer
    entry: Entry | None
    is_whole: bool
    is_narrowed: bool = False


class Flight:
    """`number` counts up: a search that began after a request arrived is newer than it. `found`: None where it failed."""

    __slots__ = ("done", "found", "number", "was_given_up")

    def __init__(self, number: int) -> None:
        self.number = number
        self.found: Found | None = None
        self.was_given_up = False
        """Whoever searched went away, or had no more time: that tells nothing of the answer, and the next one searches."""
        self.done = asyncio.Event()

    def answer_for(self, arrived_at_flight: int) -> Answer | None:
        """What a request may have unchecked that arrived when the flight of this number was the newest. Only of a search of
        every shard: one of the moved shards alone is as old as the probe before it.
        """
        found = self.found
        if found is None or not found.is_whole or self.number <= arrived_at_flight:
            return None
        if found.entry is None:
            return Answer(found.answer.points, found.answer.shoal)
        said = found.entry.shoal("l1")
        return Answer(found.answer.points, degraded_json(said, LESS_WIDTH) if found.is_narrowed else said)
