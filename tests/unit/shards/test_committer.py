"""Group commit: one frame for all that wait, one effect an operation, an error for every writer it concerns.

Threads are held at gates (events), so that each test decides what waits for what.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import committer as committer_module
from shards import manifest as manifests
from shards import op_history, sealing, upkeep
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.disk import Disk
from shards.errors import ShardUnavailable, StorageFull, Unavailable
from shards.log_frame import LogOp
from shards.op_history import NO_OP_ID, OpHistory
from shards.upkeep import Builders
from shards.wal import CLEAN_MARK, open_wal
from tests.running_committer import DEADLINE_S, committing, until
from tests.shard_oracle import (
    SMALL,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)

NOT_YET_S = 0.3
"""So long a write is watched that must not finish: a hundred times what it takes where nothing holds it."""


class GatedLog:
    """Stands before a collection's log: an append waits until the gate opens, then fails or goes through."""

    def __init__(self, collection: ShardCollection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures: list[Exception] = []
        self._real = collection.wal.append
        self._entered = threading.Event()
        self._open = threading.Event()
        monkeypatch.setattr(collection.wal, "append", self._append)

    async def entered(self) -> None:
        """Returns when an append stands at the gate."""
        assert await asyncio.to_thread(self._entered.wait, DEADLINE_S)

    def open(self) -> None:
        self._open.set()

    def _append(self, ops: Sequence[LogOp], epoch: int) -> int:
        self._entered.set()
        assert self._open.wait(DEADLINE_S)
        if self.failures:
            raise self.failures.pop(0)
        return self._real(ops, epoch)


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c")


@pytest.fixture
def narrow(tmp_path: Path) -> ShardCollection:
    """64 rows fill its growing segment, and one frozen segment holds writers up."""
    settings = SMALL.model_copy(update={"frozen_segments_max": 1})
    return new_collection(tmp_path / "narrow", settings, spec_of(dim=WIDE_DIM))


@pytest.fixture
def gate(collection: ShardCollection, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatedLog]:
    gated = GatedLog(collection, monkeypatch)
    yield gated
    gated.open()  # a failed test leaves no thread waiting


@pytest.fixture
def builders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def frame_sizes(folder: Path) -> list[int]:
    """How many ops each frame of the log has."""
    return [len(frame.ops) for frame in open_wal(folder / "wal", 0, 0)[1].frames]


def full_batch(first_key: int) -> LogOp:
    """Points that fill a growing segment."""
    return upsert_op(batch_of(range(first_key, first_key + 64), dim=WIDE_DIM))


def oracle_of(*batches: tuple[range | list[int], int]) -> Oracle:
    oracle = Oracle()
    for keys, lsn in batches:
        oracle.upsert(batch_of(keys, dim=WIDE_DIM), lsn)
    return oracle


def test_writes_that_wait_leave_in_one_frame(
    collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor
) -> None:
    async def play() -> None:
        async with committing(collection, builders) as committer:
            first = committer.submit(upsert_op(batch_of([0])), 1)
            await gate.entered()
            others = [committer.submit(upsert_op(batch_of([key])), 1) for key in range(1, 6)]
            assert not any(write.done() for write in (first, *others)), "nothing is acknowledged before it is durable"
            assert collection.count() == 0, "nor is it seen"
            gate.open()
            assert await asyncio.gather(first, *others) == [1, 2, 3, 4, 5, 6]
            assert collection.count() == 6

    asyncio.run(play())
    assert frame_sizes(collection.folder) == [1, 5]


def test_a_frame_has_one_epoch(collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor) -> None:
    async def play() -> None:
        async with committing(collection, builders) as committer:
            first = committer.submit(upsert_op(batch_of([0])), 1)
            await gate.entered()
            others = [
                committer.submit(upsert_op(batch_of([key])), epoch) for key, epoch in enumerate((1, 1, 2, 2, 3))
            ]
            gate.open()
            assert await asyncio.gather(first, *others) == [1, 2, 3, 4, 5, 6]

    asyncio.run(play())
    frames = open_wal(collection.folder / "wal", 0, 0)[1].frames
    assert [(frame.epoch, len(frame.ops)) for frame in frames] == [(1, 1), (1, 2), (2, 2), (3, 1)]


def test_a_group_is_bounded_in_bytes(
    collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "GROUP_BYTES_MAX", 1)

    async def play() -> None:
        async with committing(collection, builders) as committer:
            writes = [committer.submit(upsert_op(batch_of([key])), 1) for key in range(6)]
            gate.open()
            assert await asyncio.gather(*writes) == [1, 2, 3, 4, 5, 6]

    asyncio.run(play())
    sizes = frame_sizes(collection.folder)
    assert (sum(sizes), max(sizes) <= 2) == (6, True)


def test_ops_take_effect_in_the_order_in_which_they_were_submitted(
    collection: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    oracle = Oracle()
    oracle.upsert(batch_of([1], version=2), 4)

    async def play() -> None:
        async with committing(collection, builders) as committer:
            ops = [upsert_op(batch_of([1, 2])), upsert_op(batch_of([1], version=1)), delete_op([1, 2])]
            ops.append(upsert_op(batch_of([1], version=2)))
            await asyncio.gather(*(committer.submit(op, 1) for op in ops))
            check_same(collection, oracle, vectors_of([1]))

    asyncio.run(play())
    check_same(reopened(collection.folder), oracle, vectors_of([1]))


def test_a_repeated_operation_has_one_effect(
    collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor
) -> None:
    operation = upsert_op(batch_of([1]), b"a" * 16)
    again = upsert_op(batch_of([1]), b"a" * 16)

    async def play() -> None:
        async with committing(collection, builders) as committer:
            first = committer.submit(operation, 1)
            await gate.entered()
            while_pending = committer.submit(again, 1)
            newer = committer.submit(upsert_op(batch_of([1], version=1)), 1)
            assert not while_pending.done()
            gate.open()
            assert await asyncio.gather(first, while_pending, newer) == [1, 1, 2]
            assert await committer.submit(again, 1) == 1
            oracle = Oracle()
            oracle.upsert(batch_of([1], version=1), 2)
            check_same(collection, oracle, vectors_of([1]))

    asyncio.run(play())
    assert frame_sizes(collection.folder) == [1, 1]


def test_the_history_of_operations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_history, "OPS_KEPT", 2)
    history = OpHistory()
    for lsn, letter in enumerate((b"a", b"b", b"c"), 1):
        history.add(letter * 16, lsn)
    assert [history.lsn_of(letter * 16) for letter in (b"a", b"b", b"c")] == [None, 2, 3]


def test_the_history_leaves_nameless_operations_out() -> None:
    history = OpHistory()
    history.add(NO_OP_ID, 1)
    assert history.lsn_of(NO_OP_ID) is None


def test_a_failing_log_is_told_to_every_writer_of_its_group_and_no_other(
    collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor
) -> None:
    failed = [upsert_op(batch_of([key])) for key in range(3)]

    async def play() -> None:
        async with committing(collection, builders) as committer:
            writes = [committer.submit(op, 1) for op in failed]
            await gate.entered()
            later = committer.submit(upsert_op(batch_of([7])), 1)
            gate.failures.append(StorageFull("no room", 5.0))
            gate.open()
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert [str(outcome) for outcome in outcomes] == ["no room"] * 3
            assert await later == 1
            assert collection.count() == 1, "what was refused is not seen"
            assert await asyncio.gather(*(committer.submit(op, 1) for op in failed)) == [2, 3, 4]
            assert collection.count() == 4

    asyncio.run(play())


def test_after_a_failed_fsync_nothing_more_is_acknowledged_and_searches_go_on(
    collection: ShardCollection, builders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "disk on fire")

    async def play() -> None:
        async with committing(collection, builders) as committer:
            await committer.submit(upsert_op(batch_of([1])), 1)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", failing)
                writes = [committer.submit(upsert_op(batch_of([key])), 1) for key in (2, 3)]
                outcomes = await asyncio.gather(*writes, return_exceptions=True)
            outcomes.append((await asyncio.gather(committer.submit(delete_op([1]), 1), return_exceptions=True))[0])
            assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
            oracle = Oracle()
            oracle.upsert(batch_of([1]), 1)
            check_same(collection, oracle, vectors_of([1]))

    asyncio.run(play())
    assert not (collection.folder / "wal" / CLEAN_MARK).exists()


def test_writers_wait_while_too_many_segments_wait_for_their_graph(
    narrow: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    busy = threading.Event()

    async def play() -> None:
        async with committing(narrow, builders) as committer:
            builders.submit(busy.wait, DEADLINE_S)
            await committer.submit(full_batch(0), 1)
            await committer.submit(full_batch(64), 1)
            held = committer.submit(full_batch(128), 1)
            await asyncio.wait([held], timeout=NOT_YET_S)
            assert not held.done()
            check_same(narrow, oracle_of((range(64), 1), (range(64, 128), 2)), vectors_of([1], WIDE_DIM))
            busy.set()
            assert await held == 3
            await until(lambda: not narrow.frozen and len(narrow.sealed) == 1)
            expected = oracle_of((range(64), 1), (range(64, 128), 2), (range(128, 192), 3))
            check_same(narrow, expected, vectors_of([1], WIDE_DIM))

    try:
        asyncio.run(play())
    finally:
        busy.set()


def test_frozen_segments_of_an_earlier_run_are_sealed_on_request(
    narrow: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    narrow.commit([full_batch(0), full_batch(64), full_batch(128)], 1)
    assert len(narrow.frozen) == 2

    async def play() -> None:
        async with committing(narrow, builders) as committer:
            committer.upkeep.start_due()
            committer.upkeep.start_due()
            await until(lambda: manifests.read_manifests(narrow.folder)[0][0].applied_lsn == 2)

    asyncio.run(play())
    assert (len(narrow.frozen), narrow.count()) == (0, 192)
    assert [sealed.row_count for sealed in reopened(narrow.folder, narrow.settings).sealed] == [128]


def test_a_failed_build_is_tried_again(
    narrow: ShardCollection,
    builders: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(upkeep, "BUILD_RETRY_S", 0.001)
    real, tried = sealing.build, []

    def failing(*args: object) -> sealing.BuiltSegment:
        tried.append(args)
        if len(tried) < 3:
            raise StorageFull("no room for a graph")
        return real(*args)

    monkeypatch.setattr(sealing, "build", failing)

    async def play() -> None:
        async with committing(narrow, builders) as committer:
            for first_key in (0, 64, 128):  # the last has to wait for the build of the first
                await committer.submit(full_batch(first_key), 1)
            await until(lambda: not narrow.frozen)

    asyncio.run(play())
    assert (len(tried), narrow.count()) == (4, 192)
    assert [record.message.startswith("sealing a segment of") for record in caplog.records] == [True, True]


def refuse_first_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the first manifest is written, and then no more."""
    real, written = manifests.write_manifest, []

    def failing(folder: Path, manifest: manifests.Manifest, disk: Disk) -> None:
        written.append(manifest.number)
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "no room")
        real(folder, manifest, disk)

    monkeypatch.setattr(manifests, "write_manifest", failing)


def test_a_manifest_that_could_not_be_written_costs_nothing(
    narrow: ShardCollection,
    builders: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refuse_first_manifest(monkeypatch)

    async def play() -> None:
        async with committing(narrow, builders) as committer:
            await committer.submit(full_batch(0), 1)
            await committer.submit(full_batch(64), 1)
            await until(lambda: "the log still has every write" in caplog.text)
            copy = shutil.copytree(narrow.folder, narrow.folder.with_name("copy"))
            assert reopened(copy, narrow.settings).count() == 128
            await committer.submit(full_batch(128), 1)
            await until(lambda: manifests.read_manifests(narrow.folder)[0][0].applied_lsn == 2)

    asyncio.run(play())
    assert reopened(narrow.folder, narrow.settings).count() == 192


def test_closing_finishes_the_writes_that_wait_and_takes_no_more(
    collection: ShardCollection, gate: GatedLog, builders: ThreadPoolExecutor
) -> None:
    async def play() -> None:
        committer = Committer(collection, Builders(builders, builders))
        writes = [committer.submit(upsert_op(batch_of([key])), 1) for key in range(2)]
        await gate.entered()
        writes.append(committer.submit(upsert_op(batch_of([2])), 1))
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(ShardUnavailable, match="stopping"):
            await committer.submit(upsert_op(batch_of([3])), 1)
        assert not closing.done()
        gate.open()
        await asyncio.wait_for(closing, DEADLINE_S)
        assert [write.result() for write in writes] == [1, 2, 3]

    asyncio.run(play())
    assert (collection.folder / "wal" / CLEAN_MARK).read_text() == "3"
    assert reopened(collection.folder).count() == 3


def test_closing_lets_a_writer_go_that_waits_for_a_build(
    narrow: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    busy = threading.Event()

    async def play() -> None:
        committer = Committer(narrow, Builders(builders, builders))
        builders.submit(busy.wait, DEADLINE_S)
        await committer.submit(full_batch(0), 1)
        await committer.submit(full_batch(64), 1)
        held = committer.submit(full_batch(128), 1)
        await asyncio.wait([held], timeout=NOT_YET_S)
        assert not held.done()
        await asyncio.wait_for(committer.close(), DEADLINE_S)
        assert held.result() == 3

    try:
        asyncio.run(play())
    finally:
        busy.set()
    assert reopened(narrow.folder, narrow.settings).count() == 192


def test_nameless_operations_are_different_ones(collection: ShardCollection, builders: ThreadPoolExecutor) -> None:
    async def play() -> list[int]:
        async with committing(collection, builders) as committer:
            ops = [upsert_op(batch_of([key]), NO_OP_ID) for key in (1, 2)]
            return await asyncio.gather(*(committer.submit(op, 1) for op in ops))

    assert asyncio.run(play()) == [1, 2]
    assert collection.count() == 2


def test_a_failed_manifest_leaves_no_writer_waiting(
    tmp_path: Path, builders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL.model_copy(update={"frozen_segments_max": 1})
    collection = new_collection(tmp_path / "c", settings, spec_of(dim=WIDE_DIM))
    monkeypatch.setattr(upkeep, "BUILD_RETRY_S", 0.001)
    refuse_first_manifest(monkeypatch)

    async def play() -> None:
        async with committing(collection, builders) as committer:
            # One group that freezes several segments, then a writer that has to wait until they are sealed.
            await asyncio.gather(*(committer.submit(full_batch(64 * number), 1) for number in range(5)))
            await committer.submit(upsert_op(batch_of([999], dim=WIDE_DIM)), 1)

    asyncio.run(play())
    assert collection.count() == 5 * 64 + 1
