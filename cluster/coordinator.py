"""The cluster as one caller sees it: collections come and go, points are read and written. One per router, on its loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.cached_reads import CachedReads
from cluster.catalogue_calls import before
from cluster.point_writes import PointWrites
from shards.errors import NotFound
from shards.schema import CollectionSpec


class Coordinator(CachedReads, PointWrites):
    """See shard_calls.py, point_reads.py, cached_reads.py and point_writes.py. `start` before anything else."""

    async def create_collection(
        self,
        name: str,
        spec: CollectionSpec,
        shard_count: int | None,
        deadline_s: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a collection on the first `shard_count` shards. Raises Conflict where it exists."""
        self._take(await before(deadline_s, self._control.create_collection(name, spec, shard_count, settings)))

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        """Delete a collection; False where there is none (an alias is none)."""
        try:
            self._take(await before(deadline_s, self._control.delete_collection(name)))
        except NotFound:
            return False
        return True
