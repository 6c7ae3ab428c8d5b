"""The cluster as one caller sees it: collections come and go, points are read and written. One per router, on its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from cluster.point_reads import PointReads
from cluster.point_writes import PointWrites
from shards.errors import DeadlineExceeded, NotFound
from shards.schema import CollectionSpec

T = TypeVar("T")


class Coordinator(PointReads, PointWrites):
    """See shard_calls.py, point_reads.py and point_writes.py. `start` before anything else."""

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, deadline_s: float
    ) -> None:
        """Make a collection on the first `shard_count` shards. Raises Conflict where it exists."""
        self._take(await _before(deadline_s, self._control.create_collection(name, spec, shard_count)))

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        """Delete a collection; False where there is none."""
        try:
            self._take(await _before(deadline_s, self._control.delete_collection(name)))
        except NotFound:
            return False
        return True


async def _before(deadline_s: float, answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(deadline_s):
            return await answer
    except TimeoutError:
        raise DeadlineExceeded(f"the control plane did not answer within {deadline_s:.3g} s") from None
