"""One deadline for all steps of a question on its way through the result cache: flights, probes, Redis, searches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from math import ceil

from shards.errors import DeadlineExceeded

DEADLINE_STEPS = 100
"""So many deadlines searches of one timeout may have: only those with equal ones can go as one (cluster/batching.py)."""


class TimeLeft:
    """Of a question's deadline, which begins when it is read. `left_s`: what its countdown says (cluster/shard_calls.py)."""

    __slots__ = ("deadline_s", "left_s")

    def __init__(self, deadline_s: float, left_s: Callable[[], float]) -> None:
        self.deadline_s = deadline_s
        self.left_s = left_s

    def search_s(self) -> float:
        """For a search: the whole, or in steps what is left of it, rounded up."""
        return self.deadline_s * min(1.0, ceil(DEADLINE_STEPS * self.left_s() / self.deadline_s) / DEADLINE_STEPS)

    @contextlib.asynccontextmanager
    async def limits(self, what: str) -> AsyncIterator[None]:
        """Whatever is waited for within. Raises DeadlineExceeded, which says `what` did not come."""
        try:
            async with asyncio.timeout(self.left_s()):
                yield
        except TimeoutError:
            raise DeadlineExceeded(f"{what} did not come within {self.deadline_s:.3g} s") from None
