"""What a shard answers about snapshots on the data plane. On its loop; what is slow is done on threads of its own.

    SNAPSHOT_MARK      target                                   -> {mark}
    SNAPSHOT_TAKE      target | {name}                          -> {last_lsn, files: {path: bytes}, mark}
    SNAPSHOT_SEAL      {uid, name, description}                 -> WRITTEN
    SNAPSHOT_LIST                                               -> {descriptions: [...]}
    SNAPSHOT_READ      {uid, name, path, offset, byte_count}    -> BYTES
    SNAPSHOT_DELETE    {uid, name}                              -> WRITTEN: 1, or 0 where there was none
    SNAPSHOT_RECEIVE   {uid, path, offset} | piece              -> WRITTEN: bytes of the file so far
    SNAPSHOT_RESTORE   {uid, source: {uid, name} or null}       -> {name, uid, shard_id, spec, last_lsn}: as the part has them
    SNAPSHOT_DISCARD   {uid}                                    -> WRITTEN

Each is harmless to repeat, for routers repeat what a lost connection left unanswered: taking and restoring, which take
long, are joined while they go on. All but the first two are about files and not about a collection that is served: a snapshot
outlives its collection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Executor
from typing import Any

from shards import messages
from shards.committer import Committer
from shards.errors import Corrupt, NotFound
from shards.snapshot_shelf import PartName, SnapshotShelf
from shards.wire import Kind

Answer = tuple[asyncio.Future[Any], Callable[[Any], tuple[Kind, list[Any]]]]
"""What is being done, and how its result is told."""

SHELF_KINDS = frozenset(
    {
        *(Kind.SNAPSHOT_SEAL, Kind.SNAPSHOT_LIST, Kind.SNAPSHOT_READ, Kind.SNAPSHOT_DELETE),
        *(Kind.SNAPSHOT_RECEIVE, Kind.SNAPSHOT_RESTORE, Kind.SNAPSHOT_DISCARD),
    }
)


class SnapshotRequests:
    """`threads`: where files are read and written; `shard_id`: whose parts these are."""

    def __init__(self, shelf: SnapshotShelf, threads: Executor, shard_id: int) -> None:
        self._shard_id = shard_id
        self._shelf = shelf
        self._threads = threads
        self._running: dict[Hashable, asyncio.Future[Any]] = {}
        self._doing = {
            Kind.SNAPSHOT_SEAL: self._seal,
            Kind.SNAPSHOT_LIST: self._list,
            Kind.SNAPSHOT_READ: self._read,
            Kind.SNAPSHOT_DELETE: self._delete,
            Kind.SNAPSHOT_RESTORE: self._restore,
            Kind.SNAPSHOT_DISCARD: self._discard,
        }

    def answer(self, kind: Kind, body: memoryview) -> Answer:
        """Begin to answer one of SHELF_KINDS. Raises Corrupt for a body that can't be read."""
        try:
            if kind is Kind.SNAPSHOT_RECEIVE:
                head, piece = messages.decode_piece(body)
                place = str(head["uid"]), str(head["path"]), int(head["offset"])
                return self._on_thread(self._shelf.receive, *place, piece), _written
            return self._doing[kind](messages.decode_json(body))
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"a message about a snapshot can't be read: {error!r}") from error

    def take(self, committer: Committer, head: Any) -> Answer:
        """Begin to take the part of a collection that this shard serves, or find it taken."""
        try:
            part = PartName(committer.collection.folder.name, str(head["name"]))
        except (KeyError, TypeError) as error:
            raise Corrupt(f"a message about a snapshot can't be read: {error!r}") from error
        return self._once(("take", part), lambda: self._take(committer, part)), _json

    async def _take(self, committer: Committer, part: PartName) -> dict[str, Any]:
        """`mark`: the withdrawal mark (shards/committer.py) when the part was taken, or, where it is found taken, now."""
        try:
            snapshot, files = await self._on_thread(self._shelf.files_of, part)
            mark = committer.withdrawal_mark
        except NotFound:
            folder = self._shelf.folder / part.uid
            mark = (await committer.snapshot(folder, part.name, self._shard_id)).mark
            snapshot, files = await self._on_thread(self._shelf.files_of, part)
        return {"last_lsn": snapshot.last_lsn, "files": files, "mark": mark}

    def _seal(self, head: Any) -> Answer:
        description = dict(head["description"])
        return self._on_thread(self._shelf.seal, _part(head), description), lambda _: _written(0)

    def _list(self, head: Any) -> Answer:
        return self._on_thread(self._shelf.descriptions), lambda found: _json({"descriptions": found})

    def _read(self, head: Any) -> Answer:
        place = str(head["path"]), int(head["offset"]), int(head["byte_count"])
        return self._on_thread(self._shelf.read, _part(head), *place), lambda piece: (Kind.BYTES, [piece])

    def _delete(self, head: Any) -> Answer:
        return self._on_thread(self._shelf.delete, _part(head)), lambda was_there: _written(int(was_there))

    def _restore(self, head: Any) -> Answer:
        source = None if head["source"] is None else _part(head["source"])
        uid = str(head["uid"])

        async def restore() -> dict[str, Any]:
            snapshot = await self._on_thread(self._shelf.restore, source, uid)
            return snapshot.model_dump(mode="json", include={"name", "uid", "shard_id", "spec", "last_lsn"})

        return self._once(("restore", uid), restore), _json

    def _discard(self, head: Any) -> Answer:
        uid = str(head["uid"])

        async def discard() -> None:
            if (restoring := self._running.get(("restore", uid))) is not None:
                await asyncio.wait([restoring])  # or it would make what is removed now
            await self._on_thread(self._shelf.discard, uid)

        return self._once(("discard", uid), discard), lambda _: _written(0)

    def _on_thread(self, step: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, step, *arguments)

    def _once(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Future[Any]:
        """What goes on already under this key, else what is begun now."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.get_running_loop().create_task(begin())
            running.add_done_callback(lambda _: self._running.pop(key))
        return running


def _part(head: Any) -> PartName:
    return PartName(str(head["uid"]), str(head["name"]))


def _json(content: Any) -> tuple[Kind, list[Any]]:
    return Kind.JSON, messages.encode_json(content)


def _written(number: int) -> tuple[Kind, list[Any]]:
    return Kind.WRITTEN, messages.encode_written(number)
