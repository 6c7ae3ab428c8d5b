"""The cluster as one caller sees it: collections come and go, points are read and written. One per router, on its loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.cached_reads import CachedReads
from cluster.catalogue_calls import before
from cluster.point_writes import PointWrites
from cluster.shard_calls import PATIENCE, Patience
from cluster.snapshot_recovery import SnapshotRecovery
from cluster.snapshots import Shards
from cluster.state import CatalogueControl
from shards.errors import NotFound
from shards.schema import CollectionSpec


class Coordinator(CachedReads, PointWrites):
    """See shard_calls.py, point_reads.py, cached_reads.py, point_writes.py and snapshots.py. `start` before anything else."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience: Patience = PATIENCE) -> None:
        super().__init__(control, secret, patience)
        shards = Shards(lambda: self.state, self._ask, self._on_current_state)
        self.snapshots = SnapshotRecovery(shards, self.catalogue)
        """Snapshots of collections, and collections from snapshots."""

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
