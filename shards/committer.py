"""The write path of one collection on the shard's loop: group commit, then sealing and compaction behind the searchers'
back.

Writes that arrive while an fsync is under way wait and leave together in the next frame: one fsync for all that wait.
The log and manifests are written by one disk thread, so that they are never at odds; graphs are built by threads that
the host's collections share, seals by one and compactions by another, so that a long merge never holds up a seal (it
leaves alone what the merge is made of). Everything that searches see is changed on the loop alone.

Back-pressure: while `frozen_segments_max` segments wait for their graph, the next group waits for a build. While
building, or writing a manifest, fails (a full disk), it is tried again every `BUILD_RETRY_S`, a compaction after
`COMPACT_RETRY_S`; searches go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from shards import sealing, snapshot
from shards.collection import FrozenSegment, ShardCollection
from shards.compaction import Merge, SegmentWeight, plan_merge, plan_seal
from shards.errors import Corrupt, ShardUnavailable
from shards.growing import rows_that_fit
from shards.log_frame import LogOp
from shards.op_history import NO_OP_ID
from shards.sealed import SealedSegment
from shards.snapshot import Snapshot

GROUP_BYTES_MAX = 32 * 1024 * 1024
"""A group commit's size: bounds its fsync, and the frame that a recovery reads at once."""

BUILD_RETRY_S = 2.0
COMPACT_RETRY_S = 30.0

log = logging.getLogger(__name__)
T = TypeVar("T")


class Builders(NamedTuple):
    """Where graphs are built, for all collections of a shard."""

    seals: Executor
    compactions: Executor


@dataclass(slots=True)
class _Waiting:
    op: LogOp
    epoch: int
    done: asyncio.Future[int]


class Committer:
    """Owns the writes of one collection. All methods run on the loop."""

    def __init__(self, collection: ShardCollection, builders: Builders) -> None:
        self.collection = collection
        self._builders = builders
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._waiting: deque[_Waiting] = deque()
        self._pending: dict[bytes, asyncio.Future[int]] = {}
        self._commit_task: asyncio.Task[None] | None = None
        self._seal_task: asyncio.Task[None] | None = None
        self._compact_task: asyncio.Task[None] | None = None
        self._merging: set[str] = set()
        """Names of sealed segments that a build is made of just now."""
        self._room = asyncio.Event()
        self._closed = False

    def submit(self, op: LogOp, epoch: int) -> asyncio.Future[int]:
        """The LSN of a checked op, once it is durable and applied. A repeated operation gets the LSN of the first."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        if self._closed:
            done.set_exception(ShardUnavailable("the shard is stopping"))
            return done
        lsn = self.collection.history.lsn_of(op.op_id)
        if lsn is not None:
            done.set_result(lsn)
            return done
        if op.op_id != NO_OP_ID:
            if op.op_id in self._pending:
                return self._pending[op.op_id]
            self._pending[op.op_id] = done
        self._waiting.append(_Waiting(op, epoch, done))
        if self._commit_task is None:
            self._commit_task = loop.create_task(self._commit_all())
        return done

    @property
    def is_building(self) -> bool:
        """Whether graphs are being built or merged."""
        return self._seal_task is not None or self._compact_task is not None

    def maintain(self) -> None:
        """See to it that frozen segments get their graphs, and that sealed ones are merged where that is due."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self.collection.frozen and self._seal_task is None:
            self._seal_task = loop.create_task(self._seal_all())
        if self._compact_task is None and self._due_merge() is not None:
            self._compact_task = loop.create_task(self._compact_all())

    async def snapshot(self, folder: Path, name: str) -> Snapshot:
        """Snapshot everything that was acknowledged as `folder`/`name`; see shards/snapshot.py. Writes and searches go on:
        only the links are made on the disk thread, so that log and manifests stand still meanwhile.
        """
        if self._closed:
            raise ShardUnavailable("the shard is stopping")
        run = asyncio.get_running_loop().run_in_executor
        await run(self._disk, snapshot.link, self.collection, folder, name)
        return await run(self._builders.compactions, snapshot.finish, self.collection, folder, name)

    async def close(self) -> None:
        """Let the waiting writes finish, then close the log. A build under way is left: the log has its points."""
        self._closed = self.collection.is_closing = True
        for task in (self._seal_task, self._compact_task):
            if task is not None:
                task.cancel()
        self._room.set()
        if self._commit_task is not None:
            await asyncio.wait([self._commit_task])
        await asyncio.get_running_loop().run_in_executor(self._disk, self.collection.wal.close)
        self._disk.shutdown(wait=False)

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_room()
                await self._commit(self._next_group())
                self.maintain()
        finally:
            self._commit_task = None

    def _next_group(self) -> list[_Waiting]:
        group, size = [self._waiting.popleft()], 0
        while self._waiting and self._waiting[0].epoch == group[0].epoch and size < GROUP_BYTES_MAX:
            size += len(self._waiting[0].op.body)
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        ops = [waiting.op for waiting in group]
        append = self.collection.wal.append
        try:
            first_lsn = await asyncio.get_running_loop().run_in_executor(self._disk, append, ops, group[0].epoch)
            for lsn, waiting in enumerate(group, first_lsn):
                self.collection.apply(waiting.op, lsn)
                self._finish(waiting, lsn)
        except Exception as error:
            for waiting in group:
                self._finish(waiting, error)

    def _finish(self, waiting: _Waiting, outcome: int | Exception) -> None:
        self._pending.pop(waiting.op.op_id, None)
        if waiting.done.done():
            return
        if isinstance(outcome, Exception):
            waiting.done.set_exception(outcome)
        else:
            waiting.done.set_result(outcome)

    async def _wait_for_room(self) -> None:
        while len(self.collection.frozen) >= self.collection.settings.frozen_segments_max and not self._closed:
            self.maintain()
            self._room.clear()
            await self._room.wait()

    async def _seal_all(self) -> None:
        collection = self.collection
        try:
            while collection.frozen:
                sealing.install(collection, await self._build(collection.frozen[0]))
                self._room.set()
                await self._record()
            self.maintain()
        finally:
            self._seal_task = None
            self._room.set()  # whoever waits looks again, and starts the next task if there is still none

    async def _build(self, frozen: FrozenSegment) -> sealing.BuiltSegment:
        """Build a frozen segment's successor, joined to a sealed one where the ladder has a place for it."""
        while True:
            covered = [segment for segment in self._free() if segment.lsn <= frozen.through_lsn]
            name = plan_seal(self._weights(covered), frozen.growing.live_count, self._rows_floor)
            base = next((segment for segment in covered if segment.name == name), None)
            with self._busy(base):
                try:
                    return await self._insist(
                        "sealing a segment", self._builders.seals, sealing.build, self.collection, frozen, base
                    )
                except Corrupt as error:
                    if base is None:
                        raise
                    log.error("%s: its graph is built anew: %s", base, error.message)
                    base.needs_rebuild = True

    async def _compact_all(self) -> None:
        try:
            while (merge := self._due_merge()) is not None:
                log.info("compacting %s: %s", self.collection, merge.reason)
                if not await self._compact(merge):
                    await asyncio.sleep(COMPACT_RETRY_S)
        finally:
            self._compact_task = None

    async def _compact(self, merge: Merge) -> bool:
        """Carry out a merge; False where it failed and is better tried again later."""
        collection = self.collection
        names = (merge.base, *merge.parts)
        inputs = [segment for segment in collection.sealed if segment.name in names]
        name = f"{sealing.MERGED_PREFIX}{collection.manifest_number:08d}"
        with self._busy(*inputs):
            try:
                built = await self._run(self._builders.compactions, sealing.compact, collection, merge, name)
            except Exception as error:
                log.exception("compacting %s failed", collection)
                if isinstance(error, Corrupt) and merge.base is not None:
                    for segment in inputs:
                        segment.needs_rebuild |= segment.name == merge.base
                    return True  # the next merge builds its graph anew
                return False
            sealing.install(collection, built)
        await self._record()
        return True

    async def _record(self) -> None:
        plan = sealing.plan_manifest(self.collection)
        await self._insist("writing a manifest", self._disk, sealing.record, self.collection, plan)

    @contextmanager
    def _busy(self, *segments: SealedSegment | None) -> Iterator[None]:
        names = {segment.name for segment in segments if segment is not None}
        self._merging |= names
        try:
            yield
        finally:
            self._merging -= names

    def _free(self) -> list[SealedSegment]:
        """Sealed segments that no build is made of just now."""
        return [segment for segment in self.collection.sealed if segment.name not in self._merging]

    def _due_merge(self) -> Merge | None:
        """The merge to make now. A segment takes part once the log up to its LSN is sealed too: the log would else attach
        a bulk load's segment again at a restart.
        """
        self.collection.settle()
        covered = [segment for segment in self._free() if segment.lsn <= self.collection.applied_lsn]
        return plan_merge(self._weights(covered), self._rows_floor)

    @property
    def _rows_floor(self) -> int:
        return rows_that_fit(self.collection.settings.seal_bytes, self.collection.dim)

    @staticmethod
    def _weights(segments: list[SealedSegment]) -> list[SegmentWeight]:
        return [
            SegmentWeight(segment.name, segment.row_count, segment.live_count, segment.needs_rebuild)
            for segment in segments
        ]

    async def _insist(self, what: str, executor: Executor, step: Callable[..., T], *arguments: Any) -> T:
        """Take a step until it succeeds. Raises Corrupt: repeating would not help."""
        while True:
            try:
                return await self._run(executor, step, *arguments)
            except Corrupt:
                raise
            except Exception:
                log.exception(
                    "%s of %s failed; the log still has every write; it is tried again in %s s",
                    *(what, self.collection, BUILD_RETRY_S),
                )
                await asyncio.sleep(BUILD_RETRY_S)

    @staticmethod
    async def _run(executor: Executor, step: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, step, *arguments)
