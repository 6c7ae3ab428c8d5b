"""A cluster without Ray: shard hosts on threads of this process, and a control plane that is a plain object."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange, apply_change
from cluster.catalogue_model import new_catalogue, recovering
from cluster.coordinator import Coordinator
from cluster.shard_calls import Patience
from cluster.state import ClusterState, CollectionState, ShardAddress, ShardState
from shards.host import ShardHost
from shards.identity import ShardIdentity, create_shard_folder
from shards.schema import CollectionSpec
from shards.settings import ShardSettings

SECRET = b"a secret of the tests"
CLUSTER_ID = "test-cluster"


def _goes_on(change: Callable[..., Awaitable[ClusterState]]) -> Callable[..., Awaitable[ClusterState]]:
    """A change that ends although nobody waits for it any more, as the supervisor's do."""

    @wraps(change)
    async def whole(*arguments: Any, **named: Any) -> ClusterState:
        task = asyncio.ensure_future(change(*arguments, **named))
        _UNDER_WAY.add(task)
        task.add_done_callback(_UNDER_WAY.discard)
        return await asyncio.shield(task)

    return whole


_UNDER_WAY: set[asyncio.Future[ClusterState]] = set()


class LocalCluster:
    """`shard_count` hosts below `folder`; implements the CatalogueControl protocol."""

    def __init__(self, folder: Path, shard_count: int, settings: ShardSettings | None = None) -> None:
        self.folder = folder
        self.settings = settings or ShardSettings()
        self.hosts: dict[int, ShardHost] = {}
        self.catalogue = new_catalogue(CLUSTER_ID, "node", shard_count)
        self.version = 0
        self._changed = asyncio.Event()
        for shard_id in range(shard_count):
            self.start_shard(shard_id)

    @property
    def collections(self) -> dict[str, CollectionState]:
        return {state.name: state for state in self.catalogue.with_status("ready")}

    def start_shard(self, shard_id: int) -> None:
        """Start a shard, or start it again on its files: on another port, as another incarnation."""
        folder = self.folder / str(shard_id)
        identity = ShardIdentity(CLUSTER_ID, shard_id, "node")
        create_shard_folder(folder, identity)
        host = ShardHost(folder, identity, SECRET, settings=self.settings)
        host.start()
        for state in self.collections.values():
            host.ensure_collection(state.uid, state.spec, state.shard_map.epoch, create=False)
        self.hosts[shard_id] = host
        self._bump()

    def stop_shard(self, shard_id: int) -> None:
        self.hosts.pop(shard_id).stop()

    def stop(self) -> None:
        for shard_id in list(self.hosts):
            self.stop_shard(shard_id)

    async def connect(self, patience_s: float = 5.0) -> Coordinator:
        coordinator = Coordinator(self, SECRET, Patience(patience_s))
        await coordinator.start()
        return coordinator

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        if self.version <= newer_than:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return self._state()

    @_goes_on
    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        uid = uuid.uuid4().hex
        catalogue = self.catalogue.creating(name, uid, spec, shard_count, settings)
        for shard_id in catalogue.collections[uid].shard_map.shard_ids:
            await asyncio.to_thread(self.hosts[shard_id].ensure_collection, uid, spec, 1, True)
        self.catalogue = catalogue.moved(uid, "ready")
        return self._bump()

    @_goes_on
    async def delete_collection(self, name: str) -> ClusterState:
        state = self.catalogue.find_ready(name)
        self.catalogue = self.catalogue.moved(state.uid, "deleting").forgotten(state.uid)
        for shard_id in state.shard_map.shard_ids:
            await asyncio.to_thread(self.hosts[shard_id].drop_collection, state.uid)
        return self._bump()

    @_goes_on
    async def recover_collection(self, item: CollectionState) -> ClusterState:
        old = self.catalogue.find(item.name)
        self.catalogue = recovering(self.catalogue, item)
        try:
            for shard_id in item.shard_map.shard_ids:
                order = item.uid, item.spec, item.shard_map.epoch, True, True
                await asyncio.to_thread(self.hosts[shard_id].ensure_collection, *order)
        except BaseException:
            self.catalogue = self.catalogue.moved(item.uid, "deleting").forgotten(item.uid)
            for shard_id in item.shard_map.shard_ids:
                await asyncio.to_thread(self.hosts[shard_id].drop_collection, item.uid)
            raise
        self.catalogue = self.catalogue.moved(item.uid, "ready")
        if old is not None:
            self.catalogue = self.catalogue.forgotten(old.uid)
            for shard_id in old.shard_map.shard_ids:
                await asyncio.to_thread(self.hosts[shard_id].drop_collection, old.uid)
        return self._bump()

    async def update_collection(self, name: str, changes: Mapping[str, Any]) -> ClusterState:
        self.catalogue = self.catalogue.with_settings(name, changes)
        return self._bump()

    @_goes_on
    async def set_tenant_field(self, name: str, path: str, moves_points: bool = True) -> ClusterState:
        self.catalogue = self.catalogue.with_tenant_field(name, path, moves_points)
        state = self.catalogue.find_ready(name)
        for shard_id in state.shard_map.shard_ids:
            epoch = state.shard_map.epoch
            await asyncio.to_thread(self.hosts[shard_id].ensure_collection, state.uid, state.spec, epoch, False)
        return self._bump()

    async def change_aliases(self, actions: Sequence[AliasAction]) -> ClusterState:
        self.catalogue = self.catalogue.with_aliases(actions)
        return self._bump()

    async def change_keys(self, change: KeyChange) -> ClusterState:
        self.catalogue = self.catalogue.with_keys(apply_change(self.catalogue.keys, change))
        return self._bump()

    def _bump(self) -> ClusterState:
        self.version += 1
        self._changed.set()
        return self._state()

    def _state(self) -> ClusterState:
        shards = []
        for shard_id, host in sorted(self.hosts.items()):
            description = host.describe()
            address = ShardAddress(host=description.address[0], port=description.address[1])
            shards.append(
                ShardState(shard_id=shard_id, node_id="node", address=address, incarnation=description.incarnation)
            )
        return ClusterState(
            version=self.version,
            cluster_id=CLUSTER_ID,
            shards=tuple(shards),
            collections=self.collections,
            aliases=dict(self.catalogue.aliases),
            keys=self.catalogue.keys,
        )
