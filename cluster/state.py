"""The cluster as routers see it, and the calls that they make to the control plane.

Frozen models that travel between processes and as JSON. A ClusterState is a whole picture, never a difference: a
router that missed ten versions needs only the newest. It holds what is visible, that is ready collections only.

Versions grow with every visible change and never go back, also over restarts of the supervisor and of the whole
cluster: see `version_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange, Keys
from cluster.collection_settings import NO_SETTINGS
from cluster.shard_map import ShardId, ShardMap
from shards.schema import CollectionSpec

Status = Literal["creating", "ready", "deleting"]

VERSION_BITS = 32
"""Low bits of a version: changes within one life of the supervisor (a change every ms would last 49 days)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardAddress(_Frozen):
    """Where a shard's data plane listens."""

    host: str
    port: int


class ShardState(_Frozen):
    """One shard. `address` is None until its process runs and knows every collection; `incarnation` names the
    process's life; `problem` says in a sentence why it can't serve, where it can't.
    """

    shard_id: ShardId
    node_id: str
    address: ShardAddress | None = None
    incarnation: str = ""
    problem: str | None = None


class CollectionState(_Frozen):
    """One collection. `uid` (32 hex digits) names its folders and travels on the data plane: a collection that is
    created again under an old name is another one. `settings`: see cluster/collection_settings.py. `tenant_field`: the
    path of the payload field whose value says where a point lives (cluster/tenants.py); None: its id does. `late_tenant_field`:
    one that was declared when there were points already, and so says whose a point is, but not where it lives. `restored`:
    while it is being created, that its shards take their parts from a snapshot.
    """

    name: str
    uid: str
    spec: CollectionSpec
    shard_map: ShardMap
    status: Status
    settings: str = NO_SETTINGS
    tenant_field: str | None = None
    late_tenant_field: str | None = None
    restored: bool = False

    @property
    def owner_field(self) -> str | None:
        """The path of the payload field that says whose a point is (cluster/tenant_guard.py)."""
        return self.tenant_field or self.late_tenant_field


class ClusterState(_Frozen):
    """Everything that a router needs to know, at one version."""

    version: int
    cluster_id: str
    shards: tuple[ShardState, ...]
    collections: dict[str, CollectionState]
    """By name; ready ones only."""
    keys: Keys = ()
    """API keys, as hashes; where there is none, nobody is asked for one."""
    aliases: dict[str, str] = {}
    """The collection's name by alias."""

    def resolve(self, name: str) -> str:
        """The collection's own name, of a name that may be an alias; `name` itself where it is none."""
        return self.aliases.get(name, name)

    def find(self, name: str) -> CollectionState | None:
        """The ready collection of this name or alias."""
        return self.collections.get(self.aliases.get(name, name))


def version_of(boot: int, change: int) -> int:
    """The version of the `change`-th visible state in the `boot`-th life of the supervisor.

    The catalogue counts boots, durably, before the first state of a life is shown. So versions grow without a write
    for each change, and without trusting a clock, which may be set back.
    """
    return (boot << VERSION_BITS) | change


class ControlPlane(Protocol):
    """What routers ask of the supervisor. Errors are ShoalErrors."""

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        """The newest state: at once where its version is above `newer_than`, else when it is, or at the timeout."""
        ...

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        """A state that shows the collection, spread over the first `shard_count` shards (None: all). Conflict where
        the name is taken, InvalidRequest where it is an alias; nothing is left of it where a shard can't make its part.
        """
        ...

    async def delete_collection(self, name: str) -> ClusterState:
        """A state without the collection and its aliases. NotFound where there is none: an alias is not enough. A shard
        that is down drops it later.
        """
        ...


class CatalogueControl(ControlPlane, Protocol):
    """The calls that change the catalogue and no files of a shard. They are durable when they answer."""

    async def update_collection(self, name: str, changes: Mapping[str, Any]) -> ClusterState:
        """A state that shows the collection's settings after the change. NotFound where there is none."""
        ...

    async def set_tenant_field(self, name: str, path: str, moves_points: bool = True) -> ClusterState:
        """A state in which that field says where a collection's points live, under a new epoch that its shards have:
        whoever still splits by id is refused. Or, unless it `moves_points`, whose they are alone. Harmless to repeat.
        NotFound where there is no such collection, InvalidRequest where it has another tenant field, ShardUnavailable
        where a shard did not take the epoch in time (it will, and the field stays).
        """
        ...

    async def recover_collection(self, item: CollectionState) -> ClusterState:
        """A state in which `item`'s name leads to it, whose parts its shards have restored; the collection that had the name
        is dropped. Its aliases stay. All at once, or nothing: Conflict where another is being made under the name,
        InvalidRequest where it is an alias, else what kept a shard from serving its part.
        """
        ...

    async def change_aliases(self, actions: Sequence[AliasAction]) -> ClusterState:
        """A state that shows all of the actions."""
        ...

    async def change_keys(self, change: KeyChange) -> ClusterState:
        """A state that shows the change of the API keys. Errors as `cluster.api_keys.apply_change` has them."""
        ...
