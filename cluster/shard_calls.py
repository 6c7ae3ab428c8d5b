"""What a router knows of the cluster, and how it asks shards: the part that reads and writes have in common.

It follows the control plane's state by a long poll; a request that meets a state newer than ours (a shard says StaleEpoch, a
name is unknown) fetches it once and is tried again. Errors are ShoalErrors. How a request is fanned out is
cluster/fan_out.py's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from cluster.breaker import BreakerStatus
from cluster.catalogue_calls import CatalogueCalls
from cluster.fan_out import ShardRequest, fan_out
from cluster.gather import Outcome
from cluster.scope import Named, check_same, scope_of
from cluster.shard_client import ShardClient
from cluster.state import CatalogueControl, ClusterState, CollectionState
from cluster.tenant_guard import check_whole, guard_of
from shards.errors import Internal, NotFound, ShoalError, StaleEpoch, Unavailable
from shards.messages import Target
from shards.wire import Kind

POLL_S = 30.0
POLL_RETRY_S = 0.25
START_S = 60.0
PATIENCE_S = 15.0
"""How long a request waits for a shard that restarts (measured: about 2 s for 200,000 points)."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class ShardCalls:
    """See the module. `start` before anything else. On a router's loop."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience_s: float = PATIENCE_S) -> None:
        self._control = control
        self._secret = secret
        self._patience_s = patience_s
        self._state: ClusterState | None = None
        self.extras_allowed = True
        self._clients: dict[int, ShardClient] = {}
        self._watch_task: asyncio.Task[None] | None = None
        self.catalogue = CatalogueCalls(control, self._take)

    async def start(self) -> None:
        """Learn the cluster's state, then follow it."""
        self._take(await self._control.cluster_state(-1, START_S))
        self._watch_task = asyncio.get_running_loop().create_task(self._watch())

    def check_alive(self) -> None:
        """Raises Internal where this router no longer follows the cluster, which only a restart of it would mend."""
        if self._watch_task is None or self._watch_task.done():
            raise Internal("this router has stopped following the cluster's state")

    async def close(self) -> None:
        """Close the connections to the shards."""
        if self._watch_task is not None:
            self._watch_task.cancel()
        for client in self._clients.values():
            client.close()

    @property
    def state(self) -> ClusterState:
        """The newest state that this router knows."""
        if self._state is None:
            raise Unavailable("the router does not know the cluster's state yet", 1.0)
        return self._state

    def collection(self, about: Named) -> CollectionState:
        """The state of the collection of this name or alias. Raises NotFound, and Conflict where the scope means one that was
        replaced by another of its name.
        """
        scope = scope_of(about)
        found = self.state.find(scope.name)
        if found is None:
            raise NotFound(f"Not found: Collection `{scope.name}` doesn't exist!")
        check_same(scope, found)
        return found

    def allow_extras(self, allowed: bool) -> None:
        """Whether calls may be made that no answer needs, such as hedges: not while the router is short of time."""
        self.extras_allowed = allowed

    def breakers(self) -> dict[int, BreakerStatus]:
        """How this router's breaker of each shard stands."""
        return {shard_id: client.guard.status() for shard_id, client in sorted(self._clients.items())}

    async def _ask_all(
        self, about: Named, kind: Kind, decode: Callable[[memoryview], T], deadline_s: float, rest: bytes = b""
    ) -> Mapping[int, T]:
        """Ask every shard of a collection the same, about the whole of it. Raises Forbidden for a scope with tenants."""
        check_whole(scope_of(about))

        async def ask(collection: CollectionState, _: bytes) -> Mapping[int, T]:
            body = [target_of(collection).encode() + rest]
            return await self._ask(
                ShardRequest(kind, dict.fromkeys(collection.shard_map.shard_ids, body), decode), deadline_s
            )

        return await self._on_current_state(about, ask)

    async def _ask(self, request: ShardRequest, deadline_s: float) -> Mapping[int, Any]:
        outcome = await fan_out(self._clients, request, deadline_s, self._patience_s)
        if outcome.failures:
            raise _failure(outcome)
        return outcome.replies

    async def _on_current_state(self, about: Named, ask: Callable[[CollectionState, bytes], Awaitable[T]]) -> T:
        """Ask with the state we know; where it turns out to be old, once more with the newest, of the same collection. `ask`
        gets the collection, and the guard (cluster/tenant_guard.py) within which it has to stay. Everything that is asked of
        points goes through here.
        """
        scope = scope_of(about)
        try:
            collection = self.collection(scope)
            return await ask(collection, guard_of(scope, collection))
        except (StaleEpoch, NotFound):
            await self.catalogue.refresh()
            collection = self.collection(scope)
            return await ask(collection, guard_of(scope, collection))

    def _take(self, state: ClusterState) -> None:
        if self._state is not None and state.version <= self._state.version:
            return
        self._state = state
        for shard in state.shards:
            client = self._clients.get(shard.shard_id)
            if client is None:
                client = self._clients[shard.shard_id] = ShardClient(shard.shard_id, state.cluster_id, self._secret)
            address = None if shard.address is None else (shard.address.host, shard.address.port)
            client.retarget(address, shard.incarnation)

    async def _watch(self) -> None:
        while True:
            try:
                self._take(await self._control.cluster_state(self.state.version, POLL_S))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("the control plane does not answer (%s); searches and writes go on without it", error)
                await asyncio.sleep(POLL_RETRY_S)


def target_of(collection: CollectionState) -> Target:
    return _target_of(collection.uid, collection.shard_map.epoch)


@lru_cache(maxsize=1024)
def _target_of(uid: str, epoch: int) -> Target:
    return Target(bytes.fromhex(uid), epoch)


def _failure(outcome: Outcome) -> ShoalError:
    """The error to raise: a lasting one first (it tells the caller what to change), else the first shard's."""
    errors = list(outcome.failures.values())
    return next((error for error in errors if not error.transient), errors[0])
