"""The service's answers to a bulk load's end, when the log is slow or full: a segment that the log may name stays.
And what it says of memory: a load reserves what it builds, and gives it back however it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from shards import messages
from shards.batch import encode_batch_parts
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.errors import Conflict, MemoryExhausted, ShoalError, StorageFull
from shards.generations import NO_STAMP, Asked, decode_stamps, encode_asked
from shards.identity import ShardIdentity
from shards.index import SearchPlan
from shards.messages import Target
from shards.nearest import Want
from shards.recall_probe import RecallProbe
from shards.server import ShardConnection
from shards.service import Hosted, ShardService
from shards.settings import MIB, ShardSettings
from shards.snapshot_requests import SnapshotRequests
from shards.snapshot_shelf import SnapshotShelf
from shards.upkeep import Builders
from shards.wire import Frame, FrameReader, Kind
from tests.shard_oracle import UID, batch_of, new_collection, reopened, vectors_of

TARGET = Target(bytes.fromhex(UID), 1)
SESSION = b"s" * 16
DEADLINE_S = 30


class Connection:
    """Keeps the answers: request id -> its body, or the error."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes | ShoalError] = {}

    def answer(self, kind: Kind, request_id: int, parts: list[Any]) -> None:
        self.answers[request_id] = b"".join(bytes(part) for part in parts)

    def fail(self, request_id: int, error: ShoalError) -> None:
        self.answers[request_id] = error

    def send(self, buffers: list[Any]) -> None:
        for frame in FrameReader(2**30).feed(b"".join(bytes(buffer) for buffer in buffers)):
            self.answers[frame.request_id] = bytes(frame.body)


class Caller:
    """Asks a service that hosts one collection."""

    def __init__(
        self, collection: ShardCollection, builders: ThreadPoolExecutor, settings: ShardSettings | None = None
    ) -> None:
        self.connection = Connection()
        probe = RecallProbe(builders, time.monotonic)
        identity = ShardIdentity("cluster", 0, "node")
        snapshots = SnapshotRequests(SnapshotShelf(collection.folder.parent), builders, 0)
        self.service = ShardService(identity, settings or ShardSettings(), builders, probe, snapshots)
        self.committer = Committer(collection, Builders(builders, builders), self.service.memory)
        self.service.hosted[TARGET.uid] = Hosted(collection, 1, self.committer)
        self.request_id = 0

    def send(self, kind: Kind, parts: list[Any] | None = None) -> int:
        self.request_id += 1
        body = b"".join(bytes(part) for part in messages.encode_write(TARGET, SESSION, parts or []))
        frame = Frame(kind, self.request_id, 0, memoryview(body))
        self.service.handle([frame], cast(ShardConnection, self.connection))
        return self.request_id

    async def tell(self, kind: Kind, body: bytes) -> bytes:
        """The answer to a frame of any body."""
        self.request_id += 1
        frame = Frame(kind, self.request_id, 0, memoryview(body))
        self.service.handle([frame], cast(ShardConnection, self.connection))
        return await self.answer_to(self.request_id)

    async def ask(self, kind: Kind, parts: list[Any] | None = None) -> bytes:
        """The answer's body. Raises the error that was answered."""
        return await self.answer_to(self.send(kind, parts))

    async def answer_to(self, request_id: int) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            while request_id not in self.connection.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        answer = self.connection.answers[request_id]
        if isinstance(answer, ShoalError):
            raise answer
        return answer

    async def load(self) -> None:
        """Everything of a load but its commit."""
        await self.ask(Kind.BULK_BEGIN, messages.encode_json({"expected_rows": 3}))
        await self.ask(Kind.BULK_ROWS, encode_batch_parts(batch_of([1, 2, 3])))
        await self.ask(Kind.BULK_PREPARE)


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c")


@pytest.fixture
def builders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_an_abort_while_the_commit_waits_for_the_disk_is_refused(
    collection: ShardCollection, builders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, real = threading.Event(), collection.wal.append

    def slow(*args: Any) -> int:
        assert may_write.wait(DEADLINE_S)
        return real(*args)

    monkeypatch.setattr(collection.wal, "append", slow)

    async def play() -> None:
        caller = Caller(collection, builders)
        await caller.load()
        commits = [caller.send(Kind.BULK_COMMIT), caller.send(Kind.BULK_COMMIT)]
        with pytest.raises(Conflict, match="being committed"):
            await caller.ask(Kind.BULK_ABORT)
        may_write.set()
        assert [messages.decode_written(await caller.answer_to(commit)) for commit in commits] == [1, 1]
        await caller.ask(Kind.BULK_ABORT)  # too late, and harmless
        await caller.committer.close()

    asyncio.run(play())
    assert reopened(collection.folder).count() == 3


def test_a_commit_that_found_no_room_may_be_repeated_or_aborted(
    collection: ShardCollection, builders: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, real = [StorageFull("no room")] * 2, collection.wal.append

    def full(*args: Any) -> int:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(collection.wal, "append", full)

    async def play() -> None:
        caller = Caller(collection, builders)
        await caller.load()
        for _ in range(2):
            with pytest.raises(StorageFull):
                await caller.ask(Kind.BULK_COMMIT)
        assert messages.decode_written(await caller.ask(Kind.BULK_COMMIT)) == 1
        await caller.committer.close()

    asyncio.run(play())
    assert reopened(collection.folder).count() == 3


def begin_body(expected_rows: int) -> list[Any]:
    return messages.encode_json({"expected_rows": expected_rows})


def test_a_load_without_room_is_refused_at_its_begin_and_leaves_nothing(
    collection: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    async def play() -> None:
        caller = Caller(collection, builders, ShardSettings(memory_bytes_max=16 * MIB))
        with pytest.raises(MemoryExhausted, match=r"shard 0 refuses .* bytes would have to be freed"):
            await caller.ask(Kind.BULK_BEGIN, begin_body(1_000_000))
        assert caller.service.hosted[TARGET.uid].sessions == {}
        assert list((collection.folder / "segments").iterdir()) == []
        await caller.load()
        assert caller.service.memory.budget.reserved_bytes > 2 * MIB
        await caller.committer.close()

    asyncio.run(play())


@pytest.mark.parametrize("end", [Kind.BULK_COMMIT, Kind.BULK_ABORT])
def test_a_load_gives_back_what_it_reserved(
    collection: ShardCollection, builders: ThreadPoolExecutor, end: Kind
) -> None:
    async def play() -> None:
        caller = Caller(collection, builders)
        budget = caller.service.memory.budget
        await caller.load()
        await caller.ask(Kind.BULK_BEGIN, begin_body(3))  # repeated: nothing more is reserved
        assert 2 * MIB < budget.reserved_bytes < 4 * MIB
        await caller.ask(end)
        assert budget.reserved_bytes == 0
        if end is Kind.BULK_COMMIT:
            assert budget.parts.graphs > 2 * MIB, "its graph counts with its collection now"
        await caller.committer.close()
        assert budget.used_bytes == 0

    asyncio.run(play())


def test_an_empty_load_holds_nothing_once_it_is_prepared(
    collection: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    async def play() -> None:
        caller = Caller(collection, builders)
        await caller.ask(Kind.BULK_BEGIN, begin_body(1_000))
        await caller.ask(Kind.BULK_PREPARE)
        assert caller.service.memory.budget.reserved_bytes == 0
        await caller.ask(Kind.BULK_COMMIT)
        await caller.committer.close()

    asyncio.run(play())


def test_more_rows_than_announced_need_room_too(collection: ShardCollection, builders: ThreadPoolExecutor) -> None:
    async def play() -> None:
        caller = Caller(collection, builders, ShardSettings(memory_bytes_max=16 * MIB))
        await caller.ask(Kind.BULK_BEGIN, begin_body(1))
        caller.service.memory.reserve(11 * MIB, "a copy of a graph")
        with pytest.raises(MemoryExhausted, match="for a load of 5,000 rows"):
            await caller.ask(Kind.BULK_ROWS, encode_batch_parts(batch_of(range(5_000))))
        assert await caller.ask(Kind.BULK_ROWS, encode_batch_parts(batch_of([1]))) == messages.encode_written(1)[0]
        await caller.ask(Kind.BULK_ABORT)
        await caller.committer.close()

    asyncio.run(play())


def test_statistics_tell_how_memory_stands(collection: ShardCollection, builders: ThreadPoolExecutor) -> None:
    async def play() -> None:
        caller = Caller(collection, builders, ShardSettings(memory_bytes_max=64 * MIB))
        await caller.ask(Kind.UPSERT, encode_batch_parts(batch_of([1, 2, 3])))
        told = messages.decode_json(await caller.ask(Kind.STATISTICS))
        memory = told["memory"]
        assert told["point_count"] == 3
        assert memory["allocated"]["total"] == memory["shard"]["used_bytes"] > 4 * MIB
        assert memory["predicted"]["graphs"] > 0
        assert (memory["shard"]["level"], memory["shard"]["limit_bytes"]) == ("normal", 64 * MIB)
        resident = memory["shard"]["resident"]
        assert resident is None or resident["anonymous_bytes"] > 4 * MIB
        await caller.committer.close()

    asyncio.run(play())


def test_a_search_tells_its_moment_and_a_probe_tells_whether_it_has_passed(
    collection: ShardCollection, builders: ThreadPoolExecutor
) -> None:
    async def play() -> None:
        caller = Caller(collection, builders)
        asked = encode_asked([Asked(*TARGET), Asked(TARGET.uid, 2), Asked(bytes(16), 1), Asked(*TARGET, "v", (1,))])
        searched = messages.encode_search(TARGET, SearchPlan(3, 9), Want(), vectors_of([1]))
        found = messages.decode_hits(memoryview(await caller.tell(Kind.SEARCH, b"".join(searched))))
        now, old_epoch, unknown, of_slot = decode_stamps(await caller.tell(Kind.GENERATIONS, asked))
        assert found.stamp.covers(now)
        assert found.stamp.covers(of_slot)
        assert (old_epoch, unknown) == (NO_STAMP, NO_STAMP)
        await caller.ask(Kind.UPSERT, encode_batch_parts(batch_of([1])))
        after, *_, of_slot = decode_stamps(await caller.tell(Kind.GENERATIONS, asked))
        assert not found.stamp.covers(after)
        assert found.stamp.covers(of_slot), "the point has no text there"
        caller.service.problem = "the disk is gone"
        assert decode_stamps(await caller.tell(Kind.GENERATIONS, asked)) == [NO_STAMP] * 4
        await caller.committer.close()

    asyncio.run(play())
