"""What the HTTP layer needs of the cluster: a port, so that routes are tested without one.

`cluster.coordinator.Coordinator` is the real implementation. Every method raises ShoalErrors only; `deadline_s` is in
seconds from now. `about` says which collection, and what a request is held to (cluster/scope.py). Vectors that are handed
in have been checked and prepared (`shards.distance.prepare_vectors`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange
from cluster.breaker import BreakerStatus
from cluster.gather_counts import GatherCounts
from cluster.requests import (
    ANY_POINT,
    CollectionStatistics,
    PointCount,
    Record,
    ScrollPage,
    ScrollRequest,
    SearchAnswer,
    SearchRequest,
    Selection,
    UpsertCondition,
    WriteReceipt,
)
from cluster.scope import Named
from cluster.snapshot_model import SnapshotContent, SnapshotDescription
from cluster.snapshot_recovery import Recovery
from cluster.state import ClusterState, CollectionState
from shards.batch import PointBatch
from shards.errors import ShoalError
from shards.field_schema import FieldSchema
from shards.point_change import PointChange
from shards.schema import CollectionSpec


class CatalogueApi(Protocol):
    """The catalogue, for changes that touch no shard. `cluster.catalogue_calls.CatalogueCalls` is the real one."""

    async def refresh(self) -> None:
        """Have `state` be the newest there is."""
        ...

    async def change_aliases(self, actions: Sequence[AliasAction], deadline_s: float) -> None:
        """All of the actions, or none."""
        ...

    async def update_collection(self, name: str, changes: Mapping[str, Any], deadline_s: float) -> None:
        """Merge changes into a collection's settings. Raises NotFound."""
        ...

    async def change_keys(self, change: KeyChange, deadline_s: float) -> None:
        """Add, revoke or forget API keys."""
        ...


class SnapshotApi(Protocol):
    """Snapshots. `deadline_s` is for each step of them. `cluster.snapshot_recovery.SnapshotRecovery` is the real one."""

    async def create(self, about: Named, deadline_s: float) -> SnapshotDescription:
        """Raises NotFound."""
        ...

    async def list_of(self, collection: str, deadline_s: float) -> list[SnapshotDescription]:
        """Of collections of this name, oldest first. Raises NotFound where there is neither."""
        ...

    async def find(self, collection: str, name: str, deadline_s: float) -> SnapshotDescription:
        """Raises NotFound."""
        ...

    def archive(self, content: SnapshotContent, deadline_s: float) -> AsyncIterator[bytes]:
        """The snapshot as one file."""
        ...

    async def delete(self, collection: str, name: str, deadline_s: float) -> None:
        """Raises NotFound."""
        ...

    async def recover(self, recovery: Recovery, name: str, deadline_s: float) -> None:
        """Make a collection of a snapshot, all or nothing. Raises NotFound, InvalidRequest, DamagedSnapshot."""
        ...

    async def recover_archive(self, recovery: Recovery, chunks: AsyncIterator[bytes], deadline_s: float) -> None:
        """The same, of a snapshot that is one file."""
        ...


class PointReads(Protocol):
    """Points out of a collection."""

    async def retrieve(
        self, about: Named, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        """In the order asked; missing points are left out."""
        ...

    async def scroll(self, about: Named, request: ScrollRequest, deadline_s: float) -> ScrollPage: ...

    async def count(
        self, about: Named, deadline_s: float, encoded_filter: bytes = b"", min_coverage: float = 1.0
    ) -> PointCount:
        """Points that match an encoded filter. `min_coverage`: the fraction of the shards that is enough."""
        ...

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer: ...

    async def statistics(self, about: Named, deadline_s: float) -> list[CollectionStatistics]:
        """One for each of the collection's shards."""
        ...

    async def silent_shards(self, deadline_s: float) -> Mapping[int, ShoalError]:
        """Why each shard that does not answer a ping does not, by its id."""
        ...


class PointWrites(Protocol):
    """Points into a collection, and what is declared about their payloads."""

    async def upsert(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt: ...

    async def delete(self, about: Named, selection: Selection, deadline_s: float) -> WriteReceipt:
        """Ids that do not exist are no error."""
        ...

    async def change(
        self, about: Named, selection: Selection, change: PointChange, deadline_s: float
    ) -> WriteReceipt:
        """Change points that exist; others are passed over. Raises InvalidRequest where it reaches the tenant field."""
        ...

    async def update_vectors(
        self, about: Named, batch: PointBatch, deadline_s: float, condition: UpsertCondition = ANY_POINT
    ) -> WriteReceipt:
        """Replace those vectors of points that the batch has (NaN runs are left as they are); its payloads are empty.
        Points that do not exist are passed over.
        """
        ...

    async def create_index(self, about: Named, field: str, schema: FieldSchema, deadline_s: float) -> None:
        """Declare a payload field (a path). Harmless to repeat; another schema replaces the first. A keyword field with
        `is_tenant` says where points live from then on, if there are none yet; raises InvalidRequest where another field
        does, Conflict where points came in at the same moment.
        """
        ...

    async def delete_index(self, about: Named, field: str, deadline_s: float) -> bool:
        """False if there is none."""
        ...


class ClusterApi(PointReads, PointWrites, Protocol):
    """One cluster, as one router sees it."""

    @property
    def state(self) -> ClusterState:
        """The newest state that this router knows."""
        ...

    @property
    def catalogue(self) -> CatalogueApi: ...

    @property
    def snapshots(self) -> SnapshotApi: ...

    def collection(self, about: Named) -> CollectionState:
        """By its name or an alias. Raises NotFound, and Conflict where the scope means one that was replaced."""
        ...

    def allow_extras(self, allowed: bool) -> None:
        """Whether calls may be made that no answer needs, such as hedges."""
        ...

    @property
    def gather_counts(self) -> GatherCounts:
        """What this router's requests to shards came to."""
        ...

    def breakers(self) -> Mapping[int, BreakerStatus]:
        """How the breaker of each shard stands, as this router has it."""
        ...

    async def create_collection(
        self,
        name: str,
        spec: CollectionSpec,
        shard_count: int | None,
        deadline_s: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises Conflict if it exists. `shard_count` None: all shards. `settings`: cluster/collection_settings.py."""
        ...

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        """False if there is none of this name; an alias is not enough."""
        ...
