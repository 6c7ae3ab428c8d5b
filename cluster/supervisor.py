"""The supervisor as a Ray actor, and the shards' processes as Ray actors: the shell round cluster/supervision.py.

Both kinds are named, detached and restarted by Ray for ever, so they outlive whoever started them, and a supervisor
that was killed finds the shards of its earlier life by name. A shard is pinned hard to the Ray node whose data folder
holds its files: started elsewhere it would come back empty. A constructor that raises is final for Ray, so the
supervisor's never does: what forbids a start is kept and raised by every call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange
from cluster.control import NAMESPACE, SUPERVISOR, SupervisorClient, find_supervisor, unwrapped
from cluster.state import ClusterState, CollectionState
from cluster.supervision import ShardGone, ShardSilent, Supervision, SupervisorSettings
from shards.actor import LOG_FORMAT, ActorAddress, ShardActor, ShardActorArguments
from shards.errors import Conflict, Internal, ShoalError, Unavailable
from shards.identity import ShardIdentity
from shards.report import CollectionOrder, ShardReport
from shards.schema import CollectionSpec

logger = logging.getLogger(__name__)

REPORT_S = 2.0
"""How long a shard may take to say how it is, before it counts as silent."""
CALLS_MAX = 1000
"""Calls that the supervisor serves at once: every router keeps one waiting for the next state."""
START_PAUSE_S = 0.1
DIED_TEXT_MAX = 300
SECRET_FILE = "secret"  # noqa: S105 (a file's name)


class SupervisorActor:
    """A CatalogueControl as a Ray actor; `cluster/control.py` is its client. Shards tell it that they have started."""

    def __init__(self, settings: SupervisorSettings) -> None:
        logging.basicConfig(format=LOG_FORMAT)
        logging.getLogger("cluster").setLevel(logging.INFO)
        node = ray.get_runtime_context().get_node_id()
        self._cluster_id = settings.cluster_id
        self._supervision = Supervision(settings, lambda *shard: RayShardProcess(settings, shard, node))
        self._beginning = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> ShoalError | None:
        """What forbids the start, if anything does."""
        try:
            await self._supervision.begin()
        except ShoalError as error:
            return error
        except Exception as error:
            logger.exception("the supervisor can't start")
            return Internal(f"the supervisor can't start: {type(error).__name__}: {error}")
        return None

    async def begun(self) -> str:
        """The cluster's id, once the catalogue is open. Raises what forbids the start, as every call does."""
        if refusal := await asyncio.shield(self._beginning):
            raise refusal
        return self._cluster_id

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        await self.begun()
        return await self._supervision.cluster_state(newer_than, timeout_s)

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        await self.begun()
        return await self._supervision.create_collection(name, spec, shard_count, settings)

    async def delete_collection(self, name: str) -> ClusterState:
        await self.begun()
        return await self._supervision.delete_collection(name)

    async def update_collection(self, name: str, changes: Mapping[str, Any]) -> ClusterState:
        await self.begun()
        return await self._supervision.update_collection(name, changes)

    async def set_tenant_field(self, name: str, path: str, moves_points: bool = True) -> ClusterState:
        await self.begun()
        return await self._supervision.set_tenant_field(name, path, moves_points)

    async def recover_collection(self, item: CollectionState) -> ClusterState:
        await self.begun()
        return await self._supervision.recover_collection(item)

    async def change_aliases(self, actions: Sequence[AliasAction]) -> ClusterState:
        await self.begun()
        return await self._supervision.change_aliases(actions)

    async def change_keys(self, change: KeyChange) -> ClusterState:
        await self.begun()
        return await self._supervision.change_keys(change)

    async def shard_started(self, shard_id: int, report: ShardReport) -> None:
        self._supervision.shard_started(shard_id, report)

    async def shutdown(self) -> None:
        await self._supervision.shutdown()


class RayShardProcess:
    """A ShardProcess: one shard's actor, as the supervisor reaches it."""

    def __init__(self, settings: SupervisorSettings, shard: tuple[int, str], ray_node: str) -> None:
        """`shard`: (shard id, id of the node with its files). `ray_node`: Ray's name for `settings.node_id`."""
        self._shard_id, self._node_id = shard
        self._settings = settings
        self._ray_node = ray_node
        self._handle: Any = None

    async def start(self) -> None:
        """See ShardProcess."""
        if self._node_id != self._settings.node_id:
            raise ShardGone(f"its files are on node {self._node_id}, which has not joined the cluster")
        # In a thread, because finding an actor by name blocks until Ray's control service has answered.
        await asyncio.to_thread(self._find_or_start)

    async def report(self) -> ShardReport:
        """See ShardProcess."""
        try:
            report: ShardReport = await asyncio.wait_for(self._call("report"), REPORT_S)
        except TimeoutError:
            raise ShardSilent from None
        return report

    async def ensure_collections(self, orders: Sequence[CollectionOrder]) -> dict[str, ShoalError]:
        """See ShardProcess."""
        failed: dict[str, ShoalError] = await self._call("ensure_collections", orders)
        return failed

    async def drop_collection(self, uid: str) -> None:
        """See ShardProcess."""
        await self._call("drop_collection", uid)

    async def stop(self, timeout_s: float) -> None:
        """See ShardProcess."""
        if self._handle is None:
            return
        try:
            await asyncio.wait_for(self._call("stop"), timeout_s)
        except Exception as error:
            logger.warning("shard %d did not stop cleanly: %r", self._shard_id, error)
        ray.kill(self._handle, no_restart=True)

    def _find_or_start(self) -> None:
        settings = self._settings
        arguments = ShardActorArguments(
            folder=settings.shard_folder(self._shard_id),
            identity=ShardIdentity(settings.cluster_id, self._shard_id, self._node_id),
            secret_file=settings.data_folder / SECRET_FILE,
            bind_host=settings.bind_host,
            settings=settings.shard_settings,
            supervisor=ActorAddress(SUPERVISOR, NAMESPACE),
            host_class=settings.host_class,
        )
        options = _detached(f"shard-{self._shard_id}", self._ray_node)
        self._handle = ray.remote(ShardActor).options(**options).remote(arguments)

    async def _call(self, method: str, *arguments: object) -> Any:
        if self._handle is None:
            raise ShardSilent
        try:
            return await getattr(self._handle, method).remote(*arguments)
        except RayTaskError as error:
            raise unwrapped(error, f"shard {self._shard_id}") from None
        except (ActorDiedError, ActorUnschedulableError) as error:
            raise ShardGone(f"its process died: {' '.join(str(error).split())[-DIED_TEXT_MAX:]}") from None
        except RayError:
            raise ShardSilent from None


def start_supervisor(settings: SupervisorSettings, timeout_s: float = 30.0) -> SupervisorClient:
    """Find the cluster's supervisor or start it on this Ray node, which must be the one with the data folder.

    Returns once the catalogue is open; shards may still be starting. Raises what forbids the start (Conflict or
    Corrupt: then nothing runs), Conflict where another cluster's supervisor is here, Unavailable at the timeout.
    """
    deadline = time.monotonic() + timeout_s
    cluster_id = None
    while cluster_id is None:
        options = _detached(SUPERVISOR, ray.get_runtime_context().get_node_id())
        handle: Any = ray.remote(SupervisorActor).options(**options, max_concurrency=CALLS_MAX).remote(settings)
        try:
            cluster_id = ray.get(handle.begun.remote(), timeout=max(deadline - time.monotonic(), 0.0))
        except RayTaskError as error:
            ray.kill(handle, no_restart=True)
            raise unwrapped(error, "the supervisor") from error
        except RayError as error:  # Ray is restarting one that was killed
            if time.monotonic() > deadline:
                raise unwrapped(error, "the supervisor") from error
            time.sleep(START_PAUSE_S)
    if cluster_id != settings.cluster_id:
        raise Conflict(f"this Ray cluster serves cluster {cluster_id} already; stop that one, or use another")
    return SupervisorClient()


def stop_supervisor(timeout_s: float = 8.0) -> None:
    """Stop the shards cleanly, then their processes and the supervisor's; at the timeout the rest is left to Ray's
    own shutdown. Harmless where nothing runs.
    """
    with suppress(Unavailable):
        handle = find_supervisor()
        try:
            ray.get(handle.shutdown.remote(), timeout=timeout_s)
        except (RayActorError, GetTimeoutError) as error:
            logger.warning("the supervisor did not stop the shards: %s", type(error).__name__)
        ray.kill(handle, no_restart=True)


def _detached(name: str, ray_node: str) -> dict[str, Any]:
    """The options of an actor that is found by name, outlives its maker, and restarts on its own node for ever."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "max_restarts": -1,
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(ray_node, soft=False),
    }
