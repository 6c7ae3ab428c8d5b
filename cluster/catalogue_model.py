"""What the cluster must never forget, as a value: its shards, its collections, and how far each of them is.

Every change returns a new catalogue; `cluster/catalogue.py` makes it durable, and only then does it count.
Invariants: shards are named once and never vanish; a name belongs to at most one collection that is not being
deleted, while any number of older ones with that name may still wait to be dropped (collections are kept by uid).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cluster.shard_map import ShardId, even_map
from cluster.state import CollectionState, Status
from shards.errors import Conflict, InvalidRequest, LimitExceeded, NotFound
from shards.schema import CollectionSpec

SHARD_COUNT_DEFAULT = 2
SHARD_COUNT_MAX = 1024
"""A quarter of the slots, so that shards stay even within a few percent."""


class ShardRecord(BaseModel):
    """A shard that exists, and the node whose disk holds its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_id: ShardId
    node_id: str


class Catalogue(BaseModel):
    """`boot` counts the supervisor's lives. `initialised` turns true when every shard's folder has been made: before,
    a missing folder is made; ever after, a missing folder is lost data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    boot: Annotated[int, Field(ge=0)] = 0
    initialised: bool = False
    shards: tuple[ShardRecord, ...]
    collections: dict[str, CollectionState] = {}
    """By uid."""

    @property
    def shard_ids(self) -> tuple[int, ...]:
        return tuple(shard.shard_id for shard in self.shards)

    def find(self, name: str) -> CollectionState | None:
        """The collection that holds this name: ready, or about to be."""
        held = (item for item in self.collections.values() if item.name == name and item.status != "deleting")
        return next(held, None)

    def find_ready(self, name: str) -> CollectionState:
        """The ready collection of this name. Raises NotFound."""
        found = self.find(name)
        if found is None or found.status != "ready":
            raise NotFound(f"Not found: Collection `{name}` doesn't exist!")
        return found

    def with_status(self, status: Status) -> list[CollectionState]:
        """The collections that are so far."""
        return [item for item in self.collections.values() if item.status == status]

    def booted(self) -> Catalogue:
        """One more life of the supervisor."""
        return self.model_copy(update={"boot": self.boot + 1})

    def as_initialised(self) -> Catalogue:
        """Every shard's folder has been made."""
        return self.model_copy(update={"initialised": True})

    def creating(self, name: str, uid: str, spec: CollectionSpec, shard_count: int | None) -> Catalogue:
        """With a new collection, over the first `shard_count` shards. Raises Conflict where the name is taken and
        LimitExceeded where there are not so many shards.
        """
        if self.find(name) is not None:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        if shard_count is not None and not 1 <= shard_count <= len(self.shards):
            raise LimitExceeded(
                f"shard_number {shard_count}: this cluster has {len(self.shards)} shards, ask for 1 to that"
            )
        shard_map = even_map(self.shard_ids[:shard_count], epoch=1)
        new = CollectionState(name=name, uid=uid, spec=spec, shard_map=shard_map, status="creating")
        return self.model_copy(update={"collections": {**self.collections, uid: new}})

    def moved(self, uid: str, status: Status) -> Catalogue:
        """With one collection's status changed."""
        changed = self.collections[uid].model_copy(update={"status": status})
        return self.model_copy(update={"collections": {**self.collections, uid: changed}})

    def forgotten(self, uid: str) -> Catalogue:
        """Without a collection whose files are gone."""
        kept = {key: item for key, item in self.collections.items() if key != uid}
        return self.model_copy(update={"collections": kept})


def new_catalogue(cluster_id: str, node_id: str, shard_count: int | None) -> Catalogue:
    """The catalogue of a cluster that is about to be made, its shards' folders still missing."""
    count = SHARD_COUNT_DEFAULT if shard_count is None else shard_count
    if not 1 <= count <= SHARD_COUNT_MAX:
        raise InvalidRequest(f"a cluster of {count} shards: ask for 1 to {SHARD_COUNT_MAX}")
    shards = tuple(ShardRecord(shard_id=shard_id, node_id=node_id) for shard_id in range(count))
    return Catalogue(cluster_id=cluster_id, shards=shards)


def check_settings(catalogue: Catalogue, cluster_id: str, shard_count: int | None) -> None:
    """Raises Conflict where the settings contradict what the catalogue says about the files on disk."""
    if catalogue.cluster_id != cluster_id:
        raise Conflict(f"the catalogue belongs to cluster {catalogue.cluster_id}, not to cluster {cluster_id}")
    if shard_count is not None and shard_count != len(catalogue.shards):
        raise Conflict(
            f"the data folder holds {len(catalogue.shards)} shards and {shard_count} are configured; changing the"
            f" number of shards is not possible yet: configure {len(catalogue.shards)}, or use a new data folder"
        )
