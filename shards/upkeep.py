"""What goes on behind one collection's searches and writes: seals, compactions, and the manifests that record them.

Runs on the shard's loop, which alone changes what searches see. Graphs are built by threads that the host's collections
share, seals by one and compactions by another, so that a long merge never holds up a seal (it leaves alone what the merge
is made of). Manifests are written by the disk thread that writes the log, so that the two are never at odds.

While building, or writing a manifest, fails (a full disk), it is tried again every `BUILD_RETRY_S`, a compaction after
`COMPACT_RETRY_S`; searches go on. A copy of a graph is reserved in the shard's memory first: without room a seal stays
alone, and a compaction waits and says so (`waits_for`): such a shard should be split.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from shards import sealing
from shards.build_slots import BuildSlots
from shards.collection import FrozenSegment, ShardCollection
from shards.compaction import Merge, SegmentWeight, plan_merge, plan_seal
from shards.errors import Corrupt
from shards.growing import rows_that_fit
from shards.memory import building_bytes
from shards.memory_account import MemoryAccount, graph_kinds
from shards.payload_indexes import build_indexes, missing_fields
from shards.resident import give_back_freed
from shards.sealed import SealedSegment

BUILD_RETRY_S = 2.0
COMPACT_RETRY_S = 30.0
QUIET_S = 10.0
"""So long after the last write the growing segment is sealed as it is, if it has QUIET_ROWS_FRACTION_MIN of the rows that
would fill it, and what is left of smaller segments is merged."""
QUIET_ROWS_FRACTION_MIN = 1 / 8

FROZEN_WAITING_MAX = 2
"""So many segments may wait for their graph and for the machine's other builds; with more, nobody waits for a turn."""
SEALED_MAX = 8
"""The same of sealed segments and a compaction."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Builders(NamedTuple):
    """Where graphs are built, for all collections of a shard, and whose turn it is."""

    seals: Executor
    compactions: Executor
    slots: BuildSlots = BuildSlots()


class Upkeep:
    """See the module. All methods run on the loop."""

    def __init__(
        self, collection: ShardCollection, builders: Builders, disk: Executor, memory: MemoryAccount
    ) -> None:
        self.collection = collection
        self.waits_for: str | None = None
        """Why the compaction that is due is not made."""
        self._builders = builders
        self._disk = disk
        self._memory = memory
        self._seal_task: asyncio.Task[None] | None = None
        self._compact_task: asyncio.Task[None] | None = None
        self._index_task: asyncio.Task[None] | None = None
        self._merging: set[str] = set()
        """Names of sealed segments that a build is made of just now."""
        self._sealed = asyncio.Event()
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._is_quiet = False
        self._closed = False

    @property
    def is_building(self) -> bool:
        """Whether graphs or payload indexes are being built, or graphs merged."""
        return any(task is not None for task in (self._seal_task, self._compact_task, self._index_task))

    def after_writes(self) -> None:
        """Writes were applied: start what is due now, and what is due once they stop."""
        if self._closed:
            return
        self._is_quiet = False
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._quiet_timer = asyncio.get_running_loop().call_later(QUIET_S, self._on_quiet)
        self.start_due()

    def start_due(self) -> None:
        """See to it that frozen segments get their graphs, and that sealed ones are merged where that is due."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self.collection.frozen and self._seal_task is None:
            self._seal_task = loop.create_task(self._seal_all())
        if self._compact_task is None and self._due_merge() is not None:
            self._compact_task = loop.create_task(self._compact_all())
        if self._index_task is None and self._unindexed() is not None:
            self._index_task = loop.create_task(self._index_all())

    async def wait_for_room(self) -> None:
        """Until fewer than `frozen_segments_max` segments wait for their graph."""
        while len(self.collection.frozen) >= self.collection.settings.frozen_segments_max and not self._closed:
            self.start_due()
            self._sealed.clear()
            await self._sealed.wait()

    def close(self) -> None:
        """Stop. A build under way ends at its next batch and is lost: the log and the old segments have its points."""
        self._closed = self.collection.is_closing = True
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        for task in (self._seal_task, self._compact_task, self._index_task):
            if task is not None:
                task.cancel()
        self._sealed.set()

    def _on_quiet(self) -> None:
        self._is_quiet = True
        collection = self.collection
        if collection.growing.row_count >= QUIET_ROWS_FRACTION_MIN * self._rows_floor:
            collection.freeze(collection.last_lsn)
            self._memory.observe(collection)
        self.start_due()

    # Seals

    async def _seal_all(self) -> None:
        collection = self.collection
        try:
            while collection.frozen:
                async with self._builders.slots.one(self._is_behind):
                    self._install(await self._seal(collection.frozen[0]))
                self._sealed.set()
                await self._record()
                await self._run(self._builders.seals, give_back_freed)
        finally:
            self._seal_task = None  # nothing is awaited since the last look at `frozen`: no segment waits unseen
            self._sealed.set()  # whoever waits looks again, and starts the next task if there is still none
        self.start_due()

    async def _seal(self, frozen: FrozenSegment) -> sealing.BuiltSegment:
        """Build a frozen segment's successor, joined to a sealed one where the ladder has a place for it."""
        while True:
            base = self._base_for(frozen)
            rows = frozen.growing.live_count + (base.row_count if base is not None else 0)
            with self._busy(base), self._reserved(rows, "a seal") as has_room:
                base = base if has_room else None
                try:
                    return await self._insist(
                        "sealing a segment", self._builders.seals, sealing.build, self.collection, frozen, base
                    )
                except Corrupt as error:
                    if base is None:
                        raise
                    log.error("%s: its graph is built anew: %s", base, error.message)
                    base.needs_rebuild = True

    def _is_behind(self) -> bool:
        """Whether writers will have to wait soon, or memory is short: then a seal does not wait for its turn."""
        return len(self.collection.frozen) >= FROZEN_WAITING_MAX or self._memory.is_short or self._closed

    def _base_for(self, frozen: FrozenSegment) -> SealedSegment | None:
        covered = [segment for segment in self._free() if segment.lsn <= frozen.through_lsn]
        name = plan_seal(self._weights(covered), frozen.growing.live_count, self._rows_floor)
        return next((segment for segment in covered if segment.name == name), None)

    # Compactions

    async def _compact_all(self) -> None:
        try:
            while self._due_merge() is not None:
                async with self._builders.slots.one(self._is_repair_due):
                    merge = self._due_merge()  # others may have been taken in meanwhile
                    is_done = merge is None or await self._compact(merge)
                if not is_done:
                    await asyncio.sleep(COMPACT_RETRY_S)
                await self._run(self._builders.compactions, give_back_freed)
        finally:
            self._compact_task = None

    async def _compact(self, merge: Merge) -> bool:
        """Carry out a merge; False where it failed, or finds no room, and is better tried again later."""
        collection = self.collection
        names = (merge.base, *merge.parts)
        inputs = [segment for segment in collection.sealed if segment.name in names]
        name = f"{sealing.MERGED_PREFIX}{collection.manifest_number:08d}"
        rows = sum(segment.row_count for segment in inputs)
        with self._busy(*inputs), self._reserved(rows, "a compaction") as has_room:
            if not has_room:
                self.waits_for = (
                    f"{merge.reason}, but there is no memory for a graph of {rows:,} rows: split the shard"
                )
                log.warning("compacting %s: %s", collection, self.waits_for)
                return False
            self.waits_for = None
            log.info("compacting %s: %s", collection, merge.reason)
            try:
                built = await self._run(self._builders.compactions, sealing.compact, collection, merge, name)
            except Exception as error:
                log.exception("compacting %s failed", collection)
                if isinstance(error, Corrupt) and merge.base is not None:
                    for segment in inputs:
                        segment.needs_rebuild |= segment.name == merge.base
                    return True  # the next merge builds its graph anew
                return False
            self._install(built)
        await self._record()
        return True

    def _is_repair_due(self) -> bool:
        merge = self._due_merge()
        return merge is None or merge.is_repair or len(self.collection.sealed) >= SEALED_MAX or self._closed

    def _due_merge(self) -> Merge | None:
        """The merge to make now. A segment takes part once the log up to its LSN is sealed too: the log would else attach
        a bulk load's segment again at a restart.
        """
        self.collection.settle()
        covered = [segment for segment in self._free() if segment.lsn <= self.collection.applied_lsn]
        return plan_merge(self._weights(covered), self._rows_floor, self._is_quiet)

    # Payload indexes of segments that came without: fields were declared since, or their files are gone

    async def _index_all(self) -> None:
        collection = self.collection
        try:
            while (segment := self._unindexed()) is not None:
                kinds = missing_fields(segment, collection.fields)
                what = f"indexing the payloads of {segment.name}"
                built = await self._insist(
                    what,
                    self._builders.compactions,
                    build_indexes,
                    collection.folder,
                    segment,
                    kinds,
                    collection.disk,
                )
                segment.indexes = {**segment.indexes, **built}
                collection.generations.move_layout()
        finally:
            self._index_task = None

    def _unindexed(self) -> SealedSegment | None:
        fields = self.collection.fields
        return next((segment for segment in self.collection.sealed if missing_fields(segment, fields)), None)

    # All

    def _install(self, built: sealing.BuiltSegment) -> None:
        sealing.install(self.collection, built)
        self._memory.observe(self.collection)

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

    @contextmanager
    def _reserved(self, rows: int, purpose: str) -> Iterator[bool]:
        """Memory for a graph of so many rows, or False where there is none."""
        budget = self._memory.budget
        byte_count = building_bytes(graph_kinds(self.collection.spec), rows)
        permit = budget.reserve(byte_count, f"{purpose} of {rows:,} rows")
        try:
            yield permit is not None
        finally:
            if permit is not None:
                budget.release(permit)

    def _free(self) -> list[SealedSegment]:
        """Sealed segments that no build is made of just now."""
        return [segment for segment in self.collection.sealed if segment.name not in self._merging]

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
