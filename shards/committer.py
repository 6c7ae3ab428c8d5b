"""The write path of one collection on the shard's loop: group commit.

Writes that arrive while an fsync is under way wait and leave together in the next frame: one fsync for all that wait.
The log is written by one disk thread; everything that searches see is changed on the loop alone. What goes on behind
(seals, compactions, manifests) is shards/upkeep.py's affair, started from here.

Back-pressure: while `frozen_segments_max` segments wait for their graph, the next group waits for a build. Where the
shard's memory is short (shards/memory_account.py), upserts are held back a little, then refused.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shards import snapshot
from shards.collection import ShardCollection
from shards.errors import ShardUnavailable
from shards.field_schema import FieldSchema
from shards.log_frame import LogOp, OpKind
from shards.memory_account import MemoryAccount
from shards.op_history import NO_OP_ID
from shards.payload_indexes import write_fields
from shards.point_writes import DELETING, PointWrite, WriteKind, plain_op, targets
from shards.snapshot import Snapshot
from shards.upkeep import Builders, Upkeep

GROUP_BYTES_MAX = 32 * 1024 * 1024
"""A group commit's size: bounds its fsync, and the frame that a recovery reads at once."""


@dataclass(frozen=True, slots=True)
class WaitingWrite:
    """A write that becomes plain ops when it is its turn (shards/point_writes.py). `body`: as it came, for its weight."""

    write: PointWrite
    op_id: bytes
    body: bytes | memoryview

    @property
    def kind(self) -> OpKind:
        return OpKind.DELETE if self.write.kind in DELETING else OpKind.UPSERT


@dataclass(slots=True)
class _Waiting:
    op: LogOp | WaitingWrite
    epoch: int
    done: asyncio.Future[int]


class Taken(NamedTuple):
    """A snapshot that was taken, and the collection's withdrawal mark when its links had been made."""

    snapshot: Snapshot
    mark: str


class Committer:
    """Owns the writes of one collection. All methods run on the loop."""

    def __init__(self, collection: ShardCollection, builders: Builders, memory: MemoryAccount | None = None) -> None:
        self.collection = collection
        self.memory = memory or MemoryAccount(collection.settings)
        self._builders = builders
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self.upkeep = Upkeep(collection, builders, self._disk, self.memory)
        self._waiting: deque[_Waiting] = deque()
        self._pending: dict[bytes, asyncio.Future[int]] = {}
        self._commit_task: asyncio.Task[None] | None = None
        self._declaring = asyncio.Lock()
        self._closed = False
        self._life = uuid.uuid4().hex
        self._withdrawal_count = 0

    def submit(self, op: LogOp | WaitingWrite, epoch: int) -> asyncio.Future[int]:
        """The LSN of a checked op, once it is durable and applied. A repeated operation gets the LSN of the first.
        MemoryExhausted for a new upsert where the shard takes nothing on.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        if self._closed:
            done.set_exception(ShardUnavailable("the shard is stopping"))
            return done
        lsn = self.collection.history.lsn_of(op.op_id)
        if lsn is not None:
            done.set_result(lsn)
            return done
        if op.op_id in self._pending:
            return self._pending[op.op_id]
        if (refusal := self.memory.admit(op)) is not None:
            done.set_exception(refusal)
            if self._commit_task is None:
                self._relieve(was_refused=True)
            return done
        if op.op_id != NO_OP_ID:
            self._pending[op.op_id] = done
        self._waiting.append(_Waiting(op, epoch, done))
        if self._commit_task is None:
            self._commit_task = loop.create_task(self._commit_all())
        return done

    @property
    def withdrawal_mark(self) -> str:
        """Another one from the moment at which a withdrawal (shards/point_writes.py) begins to take points away, and whenever
        the collection is opened anew.
        """
        return f"{self._life}-{self._withdrawal_count}"

    async def snapshot(self, folder: Path, name: str, shard_id: int) -> Taken:
        """Snapshot everything that was acknowledged as `folder`/`name`; see shards/snapshot.py. Writes and searches go on:
        only the links are made on the disk thread, so that log and manifests stand still meanwhile.
        """
        if self._closed:
            raise ShardUnavailable("the shard is stopping")
        run = asyncio.get_running_loop().run_in_executor
        await run(self._disk, snapshot.link, self.collection, folder, name)
        mark = self.withdrawal_mark
        finish = run(self._builders.compactions, snapshot.finish, self.collection, folder, name, shard_id)
        return Taken(await finish, mark)

    async def declare(self, path: str, schema: FieldSchema | None) -> bool:
        """Declare a payload field, or take it back, durably; its indexes are made in the background. False where that is so
        already.
        """
        async with self._declaring:
            collection = self.collection
            fields = {known: its for known, its in collection.fields.items() if known != path}
            if schema is not None:
                fields[path] = schema
            if fields == collection.fields:
                return False
            run = asyncio.get_running_loop().run_in_executor
            await run(self._disk, write_fields, collection.folder, fields, collection.disk)
            collection.fields = fields
        self.upkeep.start_due()
        return True

    async def close(self) -> None:
        """Let the waiting writes finish, then close the log. A build under way is left: the log has its points."""
        self._closed = True
        self.upkeep.close()
        if self._commit_task is not None:
            await asyncio.wait([self._commit_task])
        await asyncio.get_running_loop().run_in_executor(self._disk, self.collection.wal.close)
        self._disk.shutdown(wait=False)
        self.memory.forget(self.collection)

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self.upkeep.wait_for_room()
                await self._hold_back()
                await self._commit_next()
                self._relieve()
                self.upkeep.after_writes()
        finally:
            self._commit_task = None

    async def _commit_next(self) -> None:
        first = self._waiting.popleft()
        group = [first]
        try:
            if isinstance(first.op, WaitingWrite):
                self._finish(first, await self._commit_in_parts(first.op, first.epoch))
            else:
                group += self._joining(first)
                ops = [waiting.op for waiting in group if isinstance(waiting.op, LogOp)]
                for waiting, lsn in zip(group, await self._append_and_apply(ops, first.epoch), strict=True):
                    self._finish(waiting, lsn)
        except Exception as error:
            for waiting in group:
                self._finish(waiting, error)
        finally:
            for waiting in group:
                self.memory.finish(waiting.op)
            self.memory.observe(self.collection)

    def _joining(self, first: _Waiting) -> list[_Waiting]:
        """Those behind the first that share its frame: plain ops, of the same epoch, while they are not too large."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting and size < GROUP_BYTES_MAX:
            following = self._waiting[0]
            if following.epoch != first.epoch or isinstance(following.op, WaitingWrite):
                break
            size += len(following.op.body)
            group.append(self._waiting.popleft())
        return group

    async def _append_and_apply(self, ops: list[LogOp], epoch: int) -> range:
        """The LSNs of ops that are durable and have had their effect."""
        append = self.collection.wal.append
        first_lsn = await asyncio.get_running_loop().run_in_executor(self._disk, append, ops, epoch)
        lsns = range(first_lsn, first_lsn + len(ops))
        for lsn, op in zip(lsns, ops, strict=True):
            self.collection.apply(op, lsn)
        return lsns

    async def _commit_in_parts(self, waiting: WaitingWrite, epoch: int) -> int:
        """Carry out a write that depends on what is stored; the LSN of its last part. Nothing else is written meanwhile."""
        collection, write = self.collection, waiting.write
        run = asyncio.get_running_loop().run_in_executor
        parts = await run(None, targets, write, collection.snapshot())
        lsn = collection.last_lsn
        if parts and write.kind is WriteKind.WITHDRAW:
            self._withdrawal_count += 1  # before the log has it: a snapshot that holds it has a later mark
        for number, part in enumerate(parts, 1):
            await self.upkeep.wait_for_room()
            # The last part carries the write's id: repeated after a crash in between, it does the rest.
            op_id = waiting.op_id if number == len(parts) else NO_OP_ID
            layout = collection.spec.layout
            op = await run(None, plain_op, write, part, collection.snapshot(), layout, op_id)
            if op is not None:
                (lsn,) = await self._append_and_apply([op], epoch)
                self.upkeep.after_writes()
        return lsn

    async def _hold_back(self) -> None:
        delay_s = self.memory.write_delay_s()
        if delay_s and not self._closed and any(waiting.op.kind is OpKind.UPSERT for waiting in self._waiting):
            await asyncio.sleep(delay_s)

    def _relieve(self, was_refused: bool = False) -> None:
        """Seal the growing segment early where that frees memory. Never while an append is under way."""
        if self.memory.is_sealing_a_relief(self.collection, was_refused):
            self.collection.freeze(self.collection.last_lsn)
            self.memory.observe(self.collection)
            self.upkeep.start_due()

    def _finish(self, waiting: _Waiting, outcome: int | Exception) -> None:
        self._pending.pop(waiting.op.op_id, None)
        if waiting.done.done():
            return
        if isinstance(outcome, Exception):
            waiting.done.set_exception(outcome)
        else:
            waiting.done.set_result(outcome)
