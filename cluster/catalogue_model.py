"""What the cluster must never forget, as a value: its shards, its collections, and how far each of them is.

Every change returns a new catalogue; `cluster/catalogue.py` makes it durable, and only then does it count.
Invariants: shards are named once and never vanish; a name belongs to at most one ready collection and one that is being
created: both at once only while a snapshot is being recovered, that takes the other's place when it is ready. Any number of
older ones with that name may still wait to be dropped (collections are kept by uid). An alias leads to a ready collection
and has no collection's name (cluster/aliases.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cluster.aliases import AliasAction, change_aliases
from cluster.api_keys import Keys
from cluster.collection_settings import encode_settings, merge_settings
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
    keys: Keys = ()
    """API keys, as hashes. Here, because what is here is durable, belongs to the whole cluster, and reaches every router."""
    aliases: dict[str, str] = {}
    """The collection's name by alias."""

    @property
    def shard_ids(self) -> tuple[int, ...]:
        return tuple(shard.shard_id for shard in self.shards)

    def find(self, name: str) -> CollectionState | None:
        """The collection that holds this name: ready, or about to be."""
        held = [item for item in self.collections.values() if item.name == name and item.status != "deleting"]
        return min(held, key=lambda item: item.status != "ready", default=None)

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

    def with_keys(self, keys: Keys) -> Catalogue:
        """With other API keys."""
        return self.model_copy(update={"keys": keys})

    def creating(
        self,
        name: str,
        uid: str,
        spec: CollectionSpec,
        shard_count: int | None,
        settings: Mapping[str, Any] | None = None,
    ) -> Catalogue:
        """With a new collection, over the first `shard_count` shards. Raises Conflict where the name is taken,
        InvalidRequest where it is an alias, and LimitExceeded where there are not so many shards.
        """
        if self.find(name) is not None:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        if name in self.aliases:
            raise InvalidRequest(f"Wrong input: Collection `{name}` can't be created: there is an alias of this name")
        if shard_count is not None and not 1 <= shard_count <= len(self.shards):
            raise LimitExceeded(
                f"shard_number {shard_count}: this cluster has {len(self.shards)} shards, ask for 1 to that"
            )
        shard_map = even_map(self.shard_ids[:shard_count], epoch=1)
        text = encode_settings(settings or {})
        new = CollectionState(name=name, uid=uid, spec=spec, shard_map=shard_map, status="creating", settings=text)
        return self.model_copy(update={"collections": {**self.collections, uid: new}})

    def moved(self, uid: str, status: Status) -> Catalogue:
        """With one collection's status changed. With a collection that is being deleted its aliases go; one that was
        recovered and is ready takes the place of the one before, aliases and all.
        """
        before = self.collections[uid]
        changed = before.model_copy(update={"status": status, "restored": before.restored and status == "creating"})
        collections, aliases = {**self.collections, uid: changed}, self.aliases
        if status == "deleting" and before.status == "ready":
            aliases = {alias: name for alias, name in aliases.items() if name != changed.name}
        if status == "ready" and before.restored:
            for old in self.with_status("ready"):
                if old.name == changed.name:
                    collections[old.uid] = old.model_copy(update={"status": "deleting"})
        return self.model_copy(update={"collections": collections, "aliases": aliases})

    def with_aliases(self, actions: Sequence[AliasAction]) -> Catalogue:
        """After a list of changes to aliases. Errors as of `cluster.aliases.change_aliases`."""
        ready = {item.name for item in self.with_status("ready")}
        taken = ready | {item.name for item in self.with_status("creating")}
        return self.model_copy(update={"aliases": change_aliases(self.aliases, actions, ready, taken)})

    def with_settings(self, name: str, changes: Mapping[str, Any]) -> Catalogue:
        """With changes merged into the settings of a ready collection. Raises NotFound, else as `merge_settings`."""
        found = self.find_ready(name)
        changed = found.model_copy(update={"settings": merge_settings(found.settings, changes)})
        return self.model_copy(update={"collections": {**self.collections, found.uid: changed}})

    def with_tenant_field(self, name: str, path: str, moves_points: bool = True) -> Catalogue:
        """With a ready collection's points told apart by a payload field: where they live, under the next epoch, or, unless it
        `moves_points`, whose they are alone. The same catalogue where it is so. Raises NotFound, and InvalidRequest where
        it is another field.
        """
        found = self.find_ready(name)
        if path == found.tenant_field or (path == found.owner_field and not moves_points):
            return self
        if found.owner_field not in (None, path):
            raise InvalidRequest(
                f"Wrong input: Collection `{name}` has the tenant field `{found.owner_field}` already, and `{path}` can't be"
                " a second one: declare it without is_tenant"
            )
        update: dict[str, Any] = {"late_tenant_field": path}
        if moves_points:
            shard_map = found.shard_map.model_copy(update={"epoch": found.shard_map.epoch + 1})
            update = {"tenant_field": path, "late_tenant_field": None, "shard_map": shard_map}
        changed = found.model_copy(update=update)
        return self.model_copy(update={"collections": {**self.collections, found.uid: changed}})

    def forgotten(self, uid: str) -> Catalogue:
        """Without a collection whose files are gone."""
        kept = {key: item for key, item in self.collections.items() if key != uid}
        return self.model_copy(update={"collections": kept})


def recovering(catalogue: Catalogue, item: CollectionState) -> Catalogue:
    """The catalogue with a collection whose parts have been restored. Once it is ready it takes the place of the one of its
    name. Raises Conflict where another is being made under the name, InvalidRequest where it is an alias or on shards that
    are not there.
    """
    if any(held.name == item.name for held in catalogue.with_status("creating")):
        raise Conflict(f"Wrong input: Collection `{item.name}` is being made or recovered already; wait for it")
    if item.name in catalogue.aliases:
        raise InvalidRequest(
            f"Wrong input: Collection `{item.name}` can't be recovered: there is an alias of this name"
        )
    if missing := set(item.shard_map.shard_ids) - set(catalogue.shard_ids):
        raise InvalidRequest(f"the snapshot needs the shards {sorted(missing)}, which this cluster does not have")
    return catalogue.model_copy(update={"collections": {**catalogue.collections, item.uid: item}})


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
