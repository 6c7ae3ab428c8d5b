"""The control plane as routers and the command reach it: the supervisor's named actor behind plain calls.

Ray's own errors end here: what the supervisor raised on purpose comes out as the ShoalError that it was, a supervisor
that is gone or silent as Unavailable (Ray restarts it; the caller asks again), anything else as Internal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange
from cluster.state import ClusterState, CollectionState
from shards.errors import Internal, ShoalError, Unavailable
from shards.schema import CollectionSpec

NAMESPACE = "shoal"
SUPERVISOR = "supervisor"

GRACE_S = 5.0
"""How much longer than it may take a call is waited for: the supervisor answers in time unless something is wrong."""
CHANGE_S = 30.0
"""How long a change of collections or keys may take; the supervisor gives up sooner."""
RECOVER_S = 150.0
"""The same, of a recovery: shards open parts that have points."""
CONNECT_PAUSE_S = 0.1


class SupervisorClient:
    """A CatalogueControl over the supervisor's actor. Outlives the actor's restarts, and its replacement by a new one."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        """See ControlPlane."""
        state: ClusterState = await self._call("cluster_state", timeout_s + GRACE_S, newer_than, timeout_s)
        return state

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        """See ControlPlane."""
        state: ClusterState = await self._call("create_collection", CHANGE_S, name, spec, shard_count, settings)
        return state

    async def delete_collection(self, name: str) -> ClusterState:
        """See ControlPlane."""
        state: ClusterState = await self._call("delete_collection", CHANGE_S, name)
        return state

    async def update_collection(self, name: str, changes: Mapping[str, Any]) -> ClusterState:
        """See CatalogueControl."""
        state: ClusterState = await self._call("update_collection", CHANGE_S, name, changes)
        return state

    async def set_tenant_field(self, name: str, path: str, moves_points: bool = True) -> ClusterState:
        """See CatalogueControl."""
        state: ClusterState = await self._call("set_tenant_field", CHANGE_S, name, path, moves_points)
        return state

    async def recover_collection(self, item: CollectionState) -> ClusterState:
        """See CatalogueControl."""
        state: ClusterState = await self._call("recover_collection", RECOVER_S, item)
        return state

    async def change_aliases(self, actions: Sequence[AliasAction]) -> ClusterState:
        """See CatalogueControl."""
        state: ClusterState = await self._call("change_aliases", CHANGE_S, actions)
        return state

    async def change_keys(self, change: KeyChange) -> ClusterState:
        """See CatalogueControl."""
        state: ClusterState = await self._call("change_keys", CHANGE_S, change)
        return state

    async def _call(self, method: str, timeout_s: float, *arguments: object) -> Any:
        try:
            if self._handle is None:
                self._handle = find_supervisor()
            return await asyncio.wait_for(_result(getattr(self._handle, method).remote(*arguments)), timeout_s)
        except TimeoutError:
            raise Unavailable(f"the supervisor did not answer {method} within {timeout_s:.0f} s") from None
        except RayError as error:
            self._handle = None
            raise unwrapped(error, "the supervisor") from error


async def connect_supervisor(timeout_s: float = 30.0) -> SupervisorClient:
    """A client, once the supervisor answers. Raises Unavailable at the timeout, what forbids a start at once."""
    deadline = time.monotonic() + timeout_s
    client = SupervisorClient()
    while True:
        try:
            await client.cluster_state(0, 0)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(CONNECT_PAUSE_S)
        else:
            return client


def find_supervisor() -> Any:
    """The supervisor's actor handle. Raises Unavailable where there is none."""
    try:
        return ray.get_actor(SUPERVISOR, NAMESPACE)
    except ValueError:
        raise Unavailable("this Ray cluster has no supervisor; is the cluster up?") from None


def unwrapped(error: RayError, who: str) -> ShoalError:
    """The ShoalError that stands for one of Ray's, in a call to `who`."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, ShoalError):
            return cause
        return Internal(f"{who} failed: {type(cause).__name__}: {cause}")
    if isinstance(error, RayActorError | GetTimeoutError):
        return Unavailable(f"{who} can't be reached, Ray is restarting it: {type(error).__name__}")
    return Internal(f"{type(error).__name__}: {error}")


async def _result(reference: Awaitable[Any]) -> Any:
    return await reference
