"""The supervisor's work, without Ray: observe the shards, let the pure planner decide, enact, show the result.

Every shard has its own loop, so one that hangs delays nobody. It goes round when something happened (its shard has
started, a collection was created or deleted) and every POLL_S anyway. Creating a collection is thus: write down
that it should exist, wake the loops, wait until they have brought it there. After a crash the same loops finish it.

The catalogue is the truth, and it changes in one place, `_commit`: it is durable before anything acts on it. It is
written on the event loop on purpose (a few ms, when a collection comes or goes): between a decision and its commit
nothing else can happen. Processes are reached through the port ShardProcess, which the Ray shell and the tests
implement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange, apply_change
from cluster.catalogue import SHARDS_FOLDER, CatalogueFile
from cluster.catalogue_model import Catalogue, check_settings, new_catalogue, recovering
from cluster.reconcile import (
    DropCollection,
    EnsureCollection,
    ObservedShard,
    StartShard,
    apply_action,
    plan_catalogue,
    plan_folders,
    plan_shard,
    visible_state,
)
from cluster.state import ClusterState, CollectionState, version_of
from shards.errors import ShardUnavailable, ShoalError, Unavailable
from shards.identity import ShardIdentity, create_shard_folder
from shards.report import CollectionOrder, ShardReport
from shards.schema import CollectionSpec
from shards.settings import ShardSettings

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks at a shard that is well: the fallback for a start that could not be told."""
RETRY_S = 0.1
"""Between two looks at one that can't be reached: most often Ray is restarting it."""
FIRST_LOOK_S = 3.0
"""How long a new life of the supervisor looks for running shards before it shows a state without them."""
CREATE_S = 15.0
"""How long a creation may take before it is rolled back."""
RECOVER_S = 120.0
"""The same where parts with points are opened."""
DROP_S = 3.0
"""How long a deletion waits for the files to be gone; they go in any case."""
STOP_S = 5.0


@dataclass(frozen=True)
class SupervisorSettings:
    """`shard_count`: None takes what the data folder has (or the default, for a new one)."""

    data_folder: Path
    cluster_id: str
    node_id: str
    shard_count: int | None = None
    bind_host: str = "127.0.0.1"
    shard_settings: ShardSettings = field(default_factory=ShardSettings)
    host_class: str = "shards.host:ShardHost"

    def shard_folder(self, shard_id: int) -> Path:
        return self.data_folder / SHARDS_FOLDER / str(shard_id)


class ShardGone(Exception):
    """There is no process of the shard, for the reason given; it has to be started."""


class ShardSilent(Exception):
    """The shard's process gives no answer now: it is being restarted, or busy, or cut off. The call may have run."""


class ShardProcess(Protocol):
    """A shard's process from outside. Calls raise ShardGone, ShardSilent, or the shard's own ShoalError."""

    async def start(self) -> None:
        """Find the process or have one started; doesn't wait for it."""
        ...

    async def report(self) -> ShardReport: ...

    async def ensure_collections(self, orders: Sequence[CollectionOrder]) -> dict[str, ShoalError]: ...

    async def drop_collection(self, uid: str) -> None: ...

    async def stop(self, timeout_s: float) -> None:
        """Stop it cleanly, then end it for good, at the timeout in any case. Raises nothing."""
        ...


class Supervision:
    """One life of the supervisor. A CatalogueControl, once `begin` has returned."""

    def __init__(self, settings: SupervisorSettings, process_of: Callable[[int, str], ShardProcess]) -> None:
        """`process_of(shard id, node id)` gives the port to a shard's process."""
        self._settings = settings
        self._process_of = process_of
        self._file = CatalogueFile(settings.data_folder)
        self._catalogue: Catalogue
        self._processes: dict[int, ShardProcess] = {}
        self._seen: dict[int, ObservedShard] = {}
        self._refusals: dict[str, ShoalError] = {}
        self._wakes: dict[int, asyncio.Event] = {}
        self._rounds: dict[int, asyncio.Task[None]] = {}
        self._state: ClusterState | None = None
        self._change_count = 0
        self._changed = asyncio.Event()
        self._stopping = False

    async def begin(self) -> None:
        """Open the catalogue (or make the cluster, in a new data folder) and begin to look after the shards.

        Raises Corrupt or Conflict where the data folder must not be served; then nothing has been changed or started.
        """
        self._open_catalogue()
        for record in self._catalogue.shards:
            self._processes[record.shard_id] = self._process_of(record.shard_id, record.node_id)
            self._seen[record.shard_id] = ObservedShard()
            self._wakes[record.shard_id] = asyncio.Event()
            self._rounds[record.shard_id] = asyncio.create_task(self._look_after(record.shard_id))
        self._first = asyncio.create_task(self._show_first())

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        """See ControlPlane. The first state of a life is waited for, FIRST_LOOK_S at most."""
        await self._until(lambda: self._state is not None, FIRST_LOOK_S + 1)
        await self._until(lambda: self._shown().version > newer_than, timeout_s)
        return self._shown()

    async def create_collection(
        self, name: str, spec: CollectionSpec, shard_count: int | None, settings: Mapping[str, Any] | None = None
    ) -> ClusterState:
        """See ControlPlane."""
        self._check_open()
        uid = uuid4().hex
        self._commit(self._catalogue.creating(name, uid, spec, shard_count, settings))
        return await self._created(uid, name, CREATE_S)

    async def recover_collection(self, item: CollectionState) -> ClusterState:
        """See CatalogueControl."""
        self._check_open()
        self._commit(recovering(self._catalogue, item))
        return await self._created(item.uid, item.name, RECOVER_S)

    async def delete_collection(self, name: str) -> ClusterState:
        """See ControlPlane."""
        self._check_open()
        uid = self._catalogue.find_ready(name).uid
        self._commit(self._catalogue.moved(uid, "deleting"))
        self._wake_all()
        await self._until(lambda: uid not in self._catalogue.collections, DROP_S)
        return await self.cluster_state(0, 0)

    async def update_collection(self, name: str, changes: Mapping[str, Any]) -> ClusterState:
        """See CatalogueControl."""
        return await self._change(lambda catalogue: catalogue.with_settings(name, changes))

    async def set_tenant_field(self, name: str, path: str, moves_points: bool = True) -> ClusterState:
        """See CatalogueControl."""
        if not moves_points:
            return await self._change(lambda catalogue: catalogue.with_tenant_field(name, path, moves_points))
        self._check_open()
        changed = self._catalogue.with_tenant_field(name, path, moves_points)
        item = changed.find_ready(name)
        parts = item.shard_map.shard_ids
        if changed != self._catalogue:
            # First, so that no router meets a shard with the new epoch before the shard has it.
            for shard_id in parts:
                self._seen[shard_id] = self._seen[shard_id].outdated(item.uid)
            self._commit(changed)
            self._wake_all()
        if not await self._until(lambda: all(item.uid in self._seen[shard_id].open for shard_id in parts), CREATE_S):
            raise ShardUnavailable(f"a shard of {name} did not take its new epoch within {CREATE_S:.0f} s; ask again")
        return await self.cluster_state(0, 0)

    async def change_aliases(self, actions: Sequence[AliasAction]) -> ClusterState:
        """See CatalogueControl."""
        return await self._change(lambda catalogue: catalogue.with_aliases(actions))

    async def change_keys(self, change: KeyChange) -> ClusterState:
        """See CatalogueControl."""
        return await self._change(lambda catalogue: catalogue.with_keys(apply_change(catalogue.keys, change)))

    def shard_started(self, shard_id: int, report: ShardReport) -> None:
        """A shard's process says that it has just started. A round that was under way spoke to its earlier life (Ray
        may take a second to fail such a call): it is given up.
        """
        if self._stopping or shard_id not in self._rounds:
            return
        self._seen[shard_id] = self._seen[shard_id].heard(report)
        self._rounds[shard_id].cancel()
        self._rounds[shard_id] = asyncio.create_task(self._look_after(shard_id))

    async def shutdown(self) -> None:
        """Stop every shard cleanly, STOP_S at most, and end their processes. The last thing this life does."""
        self._stopping = True
        for task in self._rounds.values():
            task.cancel()
        await asyncio.gather(*self._rounds.values(), return_exceptions=True)
        await asyncio.gather(*(process.stop(STOP_S) for process in self._processes.values()))

    async def _created(self, uid: str, name: str, patience_s: float) -> ClusterState:
        """The state in which a collection that the catalogue has begun is ready. Raises why it is not."""
        self._wake_all()

        def decided() -> bool:
            found = self._catalogue.collections.get(uid)
            return found is None or found.status != "creating"

        if not await self._until(decided, patience_s):
            self._refusals[uid] = ShardUnavailable(
                f"collection {name} was not created: a shard did not make its part within {patience_s:.0f} s"
            )
            self._settle()
        if refusal := self._refusals.get(uid):
            if decided():  # else the disk refused the roll-back: it must be tried again, never rolled forward
                del self._refusals[uid]
            raise refusal
        return await self.cluster_state(0, 0)

    def _open_catalogue(self) -> None:
        settings = self._settings
        found = self._file.load()
        catalogue = found or new_catalogue(settings.cluster_id, settings.node_id, settings.shard_count)
        check_settings(catalogue, settings.cluster_id, settings.shard_count)
        # Before anything is made, the catalogue says what will be: a crash in between leaves no unnamed folder.
        self._commit(catalogue.booted())
        for action in plan_folders(catalogue):
            logger.info("shard %d: making its folder: %s", action.shard_id, action.reason)
            identity = ShardIdentity(settings.cluster_id, action.shard_id, action.node_id)
            create_shard_folder(settings.shard_folder(action.shard_id), identity)
        if not catalogue.initialised:
            self._commit(self._catalogue.as_initialised())

    async def _change(self, change: Callable[[Catalogue], Catalogue]) -> ClusterState:
        """A change that concerns no shard."""
        self._check_open()
        changed = change(self._catalogue)
        if changed != self._catalogue:
            self._commit(changed)
        return await self.cluster_state(0, 0)

    def _commit(self, catalogue: Catalogue) -> None:
        self._file.save(catalogue)
        self._catalogue = catalogue
        self._show()

    async def _look_after(self, shard_id: int) -> None:
        """Decide, enact, wait, observe, for one shard, for ever."""
        wake = self._wakes[shard_id]
        while True:
            wake.clear()
            await self._try(shard_id, self._enact)
            self._settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._seen[shard_id].process == "unreachable" else POLL_S):
                    await wake.wait()
            await self._try(shard_id, self._observe)

    async def _try(self, shard_id: int, step: Callable[[int], Awaitable[None]]) -> None:
        """One step, its failure noted as an observation."""
        try:
            await step(shard_id)
        except ShardGone as gone:
            if self._seen[shard_id].trouble != str(gone):
                logger.warning("shard %d: %s", shard_id, gone)
            self._seen[shard_id] = self._seen[shard_id].gone(str(gone))
        except ShardSilent:
            self._seen[shard_id] = self._seen[shard_id].silent()
        except Exception:  # a mistake in one step must not end the loop
            logger.exception("shard %d: this round failed", shard_id)

    async def _observe(self, shard_id: int) -> None:
        if self._seen[shard_id].process != "missing":
            report = await self._processes[shard_id].report()
            self._seen[shard_id] = self._seen[shard_id].heard(report)

    async def _enact(self, shard_id: int) -> None:
        process = self._processes[shard_id]
        actions = plan_shard(self._catalogue, shard_id, self._seen[shard_id])
        for action in actions:
            logger.info("shard %d: %s: %s", shard_id, type(action).__name__, action.reason)
        if any(isinstance(action, StartShard) for action in actions):
            await process.start()
            self._seen[shard_id] = self._seen[shard_id].silent()
            self._wakes[shard_id].set()
        if orders := [action.order for action in actions if isinstance(action, EnsureCollection)]:
            failed = await process.ensure_collections(orders)
            for order in orders:
                self._note_opened(shard_id, order, failed.get(order.uid))
        for uid in [action.uid for action in actions if isinstance(action, DropCollection)]:
            try:
                await process.drop_collection(uid)
            except ShoalError as error:  # asked again in the next round; the other drops don't wait for it
                logger.error("shard %d: collection %s was not dropped: %s", shard_id, uid, error.message)
            else:
                self._seen[shard_id] = self._seen[shard_id].dropped_one(uid)

    def _note_opened(self, shard_id: int, order: CollectionOrder, error: ShoalError | None) -> None:
        if error is None:
            item = self._catalogue.collections.get(order.uid)
            # An order that was under way when the epoch changed counts for nothing: the next round tells the new one.
            if item is None or item.shard_map.epoch == order.epoch:
                self._seen[shard_id] = self._seen[shard_id].opened(order.uid)
            return
        logger.error("shard %d: collection %s: %s", shard_id, order.uid, error.message)
        if order.create:
            self._refusals[order.uid] = error

    def _settle(self) -> None:
        """Bring the catalogue forward where the shards allow it, and show what has changed."""
        try:
            for action in plan_catalogue(self._catalogue, self._seen, self._refusals):
                logger.info("%s %s: %s", type(action).__name__, action.uid, action.reason)
                self._commit(apply_action(self._catalogue, action))
                self._wake_all()
        except ShoalError as error:  # decided again in the next round, as nothing has changed
            logger.error("the catalogue can't be changed now: %s", error.message)
        self._show()

    async def _show_first(self) -> None:
        """Show no state before the running shards have been found again: an address that vanished for a second would
        stop searches that are well.
        """

        def found() -> bool:
            return all(shard.address for shard in visible_state(self._catalogue, self._seen, 0).shards)

        await self._until(found, FIRST_LOOK_S)
        self._state = visible_state(self._catalogue, self._seen, version_of(self._catalogue.boot, 0))
        self._announce()

    def _show(self) -> None:
        """A new version, where what routers may see has changed; and whoever waits looks again in any case."""
        if self._state is not None:
            now = visible_state(self._catalogue, self._seen, self._state.version)
            if now != self._state:
                self._change_count += 1
                version = version_of(self._catalogue.boot, self._change_count)
                self._state = now.model_copy(update={"version": version})
        self._announce()

    def _shown(self) -> ClusterState:
        self._check_open()
        if self._state is None:
            raise Unavailable("the supervisor is starting")
        return self._state

    def _check_open(self) -> None:
        if self._stopping:
            raise Unavailable("the cluster is shutting down")

    def _wake_all(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    def _announce(self) -> None:
        """Wake everyone who waits in `_until`. (An event that is replaced: a condition's lock can't be had from
        synchronous code.)
        """
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `holds()`; False at the timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._changed.wait()
        return holds()
