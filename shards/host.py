"""A shard's process body: opens the folder, serves the data plane on a loop and a thread of its own.

Ray's actor (shards/actor.py) is a thin shell round it, and tests use it without Ray. A folder that is missing or
another's does not stop it: it serves, and answers every request with Unavailable and the reason. Public methods may
be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from shards.build_slots import BuildSlots
from shards.committer import Committer
from shards.disk import REAL_DISK
from shards.errors import ShoalError, Unavailable
from shards.identity import ShardIdentity, check_shard_folder, lock_shard_folder
from shards.recall_probe import RecallProbe
from shards.recovery import create_collection, open_collection
from shards.report import CollectionOrder
from shards.resident import give_back_freed
from shards.schema import CollectionSpec
from shards.server import ShardConnection
from shards.service import Hosted, ShardService
from shards.settings import ShardSettings
from shards.snapshot_requests import SnapshotRequests
from shards.snapshot_shelf import SnapshotShelf
from shards.upkeep import Builders

START_S = 30.0
DROPPED_SUFFIX = ".dropped"
BACKGROUND_NICENESS = 5
"""Threads that build graphs or probe them get a quarter of a core where searches want all of it."""

SNAPSHOT_THREADS = 2
"""One may restore for minutes while another hands out a snapshot's pieces."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostDescription:
    """How to reach a shard, and what it can't serve. `collections`: uid -> problem, or None where all is well."""

    address: tuple[str, int]
    incarnation: str
    problem: str | None
    collections: dict[str, str | None]


class ShardHost:
    """One shard, running. `start` before anything else; `stop` ends it for good."""

    def __init__(
        self,
        folder: Path,
        identity: ShardIdentity,
        secret: bytes,
        bind_host: str = "127.0.0.1",
        settings: ShardSettings | None = None,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.incarnation = uuid.uuid4().hex
        self._secret = secret
        self._bind_host = bind_host
        self._settings = settings or ShardSettings()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="data-plane", daemon=True)
        self._searchers = ThreadPoolExecutor(self._settings.search_threads, thread_name_prefix="search")
        self._builders = Builders(
            _background_thread("seal"), _background_thread("compact"), BuildSlots(folder.parent)
        )
        self._probers = _background_thread("probe")
        self._probe = RecallProbe(self._probers, time.monotonic)
        self._probe_task: asyncio.Task[None] | None = None
        self._shelf = SnapshotShelf(folder)
        self._copiers = ThreadPoolExecutor(SNAPSHOT_THREADS, "snapshot", _give_way)
        snapshots = SnapshotRequests(self._shelf, self._copiers, identity.shard_id)
        self._service = ShardService(identity, self._settings, self._searchers, self._probe, snapshots)
        self._connections: set[ShardConnection] = set()
        self._server: asyncio.Server | None = None
        self._address: tuple[str, int] = ("", 0)
        self._lock: int | None = None
        self._changes = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ShardHost {self.identity.shard_id} at {self._address}, {len(self._service.hosted)} collections>"

    @property
    def problem(self) -> str | None:
        """Why this shard can't answer anything, or None."""
        return self._service.problem

    def start(self) -> tuple[str, int]:
        """Check the folder, listen on a free port; returns host and port."""
        try:
            check_shard_folder(self.folder, self.identity)
            self._lock = lock_shard_folder(self.folder)
            self._shelf.clean_up()
        except ShoalError as error:
            self._service.problem = error.message
        self._thread.start()
        return self._call(self._listen(), START_S)

    def ensure_collection(
        self, uid: str, spec: CollectionSpec, epoch: int, create: bool, restored: bool = False
    ) -> None:
        """Serve a collection: open it, or first make its files where `create`. Harmless to repeat; a new epoch is
        taken over.

        Where its files are missing or damaged it answers Unavailable with the reason; only `create` raises, also
        MemoryExhausted where a new collection finds no room. `restored`: nothing is made, its files are those that were
        restored of a snapshot; NotFound where there are none.
        """
        self._call(self._ensure(CollectionOrder(uid, spec, epoch, create, restored)), None)

    def drop_collection(self, uid: str) -> None:
        """Stop serving a collection and remove its files. Harmless to repeat."""
        self._call(self._drop(uid), None)

    def describe(self) -> HostDescription:
        """How things are now."""
        collections: dict[str, str | None] = {uid.hex(): None for uid in list(self._service.hosted)}
        collections.update({uid.hex(): problem for uid, problem in list(self._service.problems.items())})
        return HostDescription(self._address, self.incarnation, self.problem, collections)

    def stop(self) -> None:
        """Finish waiting writes, mark the logs clean, end the thread. Harmless to repeat."""
        if not self._thread.is_alive():
            return
        self._call(self._shut_down(), None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._searchers.shutdown(wait=False, cancel_futures=True)
        for background in (self._builders.seals, self._builders.compactions, self._probers, self._copiers):
            background.shutdown(wait=False, cancel_futures=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _call(self, steps: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result(timeout_s)

    async def _listen(self) -> tuple[str, int]:
        limit = self._settings.frame_bytes_max
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._remember(ShardConnection(self._service, self._secret, limit, self._connections.discard)),
            self._bind_host,
            0,
        )
        self._address = self._server.sockets[0].getsockname()[:2]
        self._probe_task = asyncio.get_running_loop().create_task(self._probe.run())
        return self._address

    def _remember(self, connection: ShardConnection) -> ShardConnection:
        self._connections.add(connection)
        return connection

    async def _ensure(self, order: CollectionOrder) -> None:
        key = bytes.fromhex(order.uid)
        async with self._changes:
            hosted = self._service.hosted.get(key)
            if hosted is not None:
                hosted.epoch = order.epoch
                return
            try:
                if order.create and not (self.folder / order.uid).exists():
                    self._service.memory.check_new(order.spec)
                hosted = await asyncio.to_thread(self._open, order)
            except ShoalError as error:
                log.error("collection %s can't be served: %s", order.uid, error.message)
                self._service.problems[key] = error.message
                if order.create:
                    raise
                return
            self._service.problems.pop(key, None)
            self._service.hosted[key] = hosted
            self._service.memory.observe(hosted.collection)
            hosted.committer.upkeep.start_due()

    def _open(self, order: CollectionOrder) -> Hosted:
        if self.problem is not None:
            raise Unavailable(self.problem)
        folder = self.folder / order.uid
        try:
            if order.create and order.restored:
                self._shelf.adopt(order.uid, folder)
            elif order.create:
                create_collection(folder, order.uid, order.spec)
            opened = open_collection(folder, order.uid, self._settings)
        except OSError as error:
            raise Unavailable(f"{folder} can't be used: {error}") from error
        for note in opened.notes:
            log.warning("recovery: %s", note)
        committer = Committer(opened.collection, self._builders, self._service.memory)
        return Hosted(opened.collection, order.epoch, committer)

    async def _drop(self, uid: str) -> None:
        key = bytes.fromhex(uid)
        async with self._changes:
            hosted = self._service.hosted.pop(key, None)
            self._service.problems.pop(key, None)
            if hosted is not None:
                self._probe.forget(hosted.collection)
                await self._close(hosted)
                del hosted
                await asyncio.to_thread(give_back_freed)
            await asyncio.to_thread(self._remove_files, self.folder / uid)
            await asyncio.to_thread(self._shelf.discard, uid)

    @staticmethod
    def _remove_files(folder: Path) -> None:
        # Renamed first: a crash in between leaves a name that no collection has, never half a collection.
        dropped = folder.with_name(folder.name + DROPPED_SUFFIX)
        if folder.exists():
            REAL_DISK.remove_tree(dropped)
            REAL_DISK.rename_durably(folder, dropped)
        REAL_DISK.remove_tree(dropped)

    @staticmethod
    async def _close(hosted: Hosted) -> None:
        for session in hosted.sessions.values():
            session.close()
        await hosted.committer.close()

    async def _shut_down(self) -> None:
        if self._probe_task is not None:
            self._probe_task.cancel()
        if self._server is not None:
            self._server.close()
        for hosted in self._service.hosted.values():
            await self._close(hosted)
        for connection in list(self._connections):
            connection.close()


def _background_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, name, _give_way)


def _give_way() -> None:
    with contextlib.suppress(OSError):  # not allowed everywhere; then they are as urgent as searches
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
