"""The control plane over HTTP: what a bulk load asks of a cluster, for a process that is no part of it.

A ControlPlane (see cluster/state.py) whose calls are requests to the cluster's own API, on a thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from cluster.state import ClusterState
from deployments.http_client import ClusterClient
from shards.errors import NotFound, Unavailable
from shards.schema import CollectionSpec

POLL_S = 0.05
SHOWN_S = 10.0
"""How long a router may take to see a change that another router made."""


class HttpControlPlane:
    """`client` is used by nobody else meanwhile."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._turn = asyncio.Lock()

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        """See ControlPlane."""
        give_up_at = monotonic() + timeout_s
        while True:
            async with self._turn:
                state = await asyncio.to_thread(self._client.state)
            if state.version > newer_than or monotonic() > give_up_at:
                return state
            await asyncio.sleep(POLL_S)

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        """See ControlPlane. The state may come from another router than the one that made the collection."""
        assert not settings, "a load gives a collection none"
        async with self._turn:
            await asyncio.to_thread(self._client.create, name, spec, shard_count)
        give_up_at = monotonic() + SHOWN_S
        state = await self.cluster_state(-1, 0)
        while name not in state.collections:
            if monotonic() > give_up_at:
                raise Unavailable(f"the collection `{name}` was made, but {self._client.url} does not show it")
            state = await self.cluster_state(state.version, SHOWN_S)
        return state

    async def delete_collection(self, name: str) -> ClusterState:
        """See ControlPlane."""
        async with self._turn:
            if not await asyncio.to_thread(self._client.delete, name):
                raise NotFound(f"Not found: Collection `{name}` doesn't exist!")
        return await self.cluster_state(-1, 0)
