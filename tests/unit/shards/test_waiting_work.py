"""Reads that wait are dropped when nobody waits for them; what has begun, what is a write, and other callers' requests stay."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from shards import messages
from shards.batch import encode_batch_parts
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.errors import DeadlineExceeded, QueueFull, ShoalError
from shards.identity import ShardIdentity
from shards.index import SearchPlan
from shards.messages import Target, decode_hits
from shards.nearest import Want
from shards.recall_probe import RecallProbe
from shards.scrolling import ScrollPlan
from shards.server import ShardConnection
from shards.service import Hosted, ShardService
from shards.settings import ShardSettings
from shards.snapshot_requests import SnapshotRequests
from shards.snapshot_shelf import SnapshotShelf
from shards.upkeep import Builders
from shards.waiting_work import CalledOff, Ticket, WaitingWork
from shards.wire import Frame, FrameReader, Kind, decode_error
from tests.shard_oracle import UID, batch_of, new_collection, upsert_op, vectors_of

TARGET = Target(bytes.fromhex(UID), 1)
WAIT_S = 30.0


class Peer:
    """A connection that keeps its answers: request id -> its body, or the error."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes | ShoalError] = {}
        self._reader = FrameReader(1 << 30)

    def answer(self, kind: Kind, request_id: int, parts: list[Any]) -> None:
        self.answers[request_id] = b"".join(bytes(part) for part in parts)

    def fail(self, request_id: int, error: ShoalError) -> None:
        self.answers[request_id] = error

    def send(self, buffers: list[Any]) -> None:
        for frame in self._reader.feed(b"".join(bytes(part) for part in buffers)):
            body = bytes(frame.body)
            self.answers[frame.request_id] = decode_error(body) if frame.kind is Kind.ERROR else body


class Shard:
    """A service with one collection, whose one search thread is held until `go`."""

    def __init__(
        self,
        collection: ShardCollection,
        threads: ThreadPoolExecutor,
        searcher: ThreadPoolExecutor,
        inline_queries_max: int = 0,
    ) -> None:
        settings = ShardSettings(inline_queries_max=inline_queries_max)
        probe = RecallProbe(threads, time.monotonic)
        snapshots = SnapshotRequests(SnapshotShelf(collection.folder.parent), threads, 0)
        self.service = ShardService(ShardIdentity("cluster", 0, "node"), settings, searcher, probe, snapshots)
        self.committer = Committer(collection, Builders(threads, threads), self.service.memory)
        self.service.hosted[TARGET.uid] = Hosted(collection, 1, self.committer)
        self.go = threading.Event()
        searcher.submit(self.go.wait, WAIT_S)

    def send(self, peer: Peer, *frames: Frame) -> None:
        self.service.handle([*frames], cast(ShardConnection, peer))

    async def settled(self, peer: Peer, *request_ids: int) -> None:
        """Let the search thread go on, and wait for these answers; others that were to come would have come before."""
        self.go.set()
        async with asyncio.timeout(WAIT_S):
            while not peer.answers.keys() >= {*request_ids}:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


def search(request_id: int, key: int, deadline_ms: int = 0, k: int = 1) -> Frame:
    parts = messages.encode_search(TARGET, SearchPlan(k, 10), Want(), vectors_of([1000 * key]))
    return Frame(Kind.SEARCH, request_id, deadline_ms, memoryview(b"".join(parts)))


def exact_search(request_id: int, key: int) -> Frame:
    parts = messages.encode_search(TARGET, SearchPlan(1, 10, exact=True), Want(), vectors_of([1000 * key]))
    return Frame(Kind.SEARCH, request_id, 0, memoryview(b"".join(parts)))


def scroll(request_id: int, deadline_ms: int = 0) -> Frame:
    plan = ScrollPlan(10, None, None, None, Want())
    return Frame(Kind.SCROLL, request_id, deadline_ms, memoryview(b"".join(messages.encode_scroll(TARGET, plan))))


def cancel(request_id: int) -> Frame:
    return Frame(Kind.CANCEL, request_id, 0, memoryview(b""))


def found(peer: Peer, request_id: int) -> list[int]:
    answer = peer.answers[request_id]
    assert isinstance(answer, bytes)
    return decode_hits(memoryview(answer)).keys


Steps = Callable[[Shard, Peer], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[Steps], None]]:
    collection = new_collection(tmp_path / "c")
    with ThreadPoolExecutor(2) as threads, ThreadPoolExecutor(1) as searcher:

        async def run(steps: Steps) -> None:
            shard = Shard(collection, threads, searcher)
            await shard.committer.submit(upsert_op(batch_of([1, 2, 3, 4])), 1)
            try:
                await steps(shard, Peer())
            finally:
                shard.go.set()
                await shard.committer.close()

        yield lambda steps: asyncio.run(run(steps))


def test_what_waits_and_was_taken_back_is_neither_done_nor_answered(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        shard.send(peer, search(1, 1), search(2, 2), search(3, 3), scroll(4))
        shard.send(peer, cancel(2), cancel(4), cancel(99))
        shard.send(peer, scroll(5))
        await shard.settled(peer, 1, 3, 5)
        assert peer.answers.keys() == {1, 3, 5}
        assert (found(peer, 1), found(peer, 3)) == ([1], [3])

    play(steps)


def test_an_exact_search_holds_up_neither_pings_nor_other_searches(tmp_path: Path) -> None:
    async def steps(threads: ThreadPoolExecutor, searcher: ThreadPoolExecutor) -> None:
        shard, peer = Shard(new_collection(tmp_path / "c"), threads, searcher, inline_queries_max=32), Peer()
        await shard.committer.submit(upsert_op(batch_of([1, 2, 3, 4])), 1)
        try:
            shard.send(peer, exact_search(1, 1), search(2, 2), Frame(Kind.PING, 3, 0, memoryview(b"")))
            assert peer.answers.keys() == {2, 3}
            await shard.settled(peer, 1)
            assert found(peer, 1) == [1]
        finally:
            shard.go.set()
            await shard.committer.close()

    with ThreadPoolExecutor(2) as threads, ThreadPoolExecutor(1) as searcher:
        asyncio.run(steps(threads, searcher))


def test_a_search_and_its_cancel_that_arrive_together_leave_nothing(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        shard.send(peer, search(1, 1), search(2, 2), cancel(1), search(3, 3, k=2), cancel(3))
        await shard.settled(peer, 2)
        assert peer.answers.keys() == {2}

    play(steps)


def test_what_begins_after_its_deadline_is_refused(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        shard.send(peer, search(1, 1, deadline_ms=1), search(2, 2, deadline_ms=60_000), scroll(3, deadline_ms=1))
        late_at = time.monotonic() + 0.002
        while time.monotonic() < late_at:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await shard.settled(peer, 1, 2, 3)
        assert isinstance(peer.answers[1], DeadlineExceeded)
        assert isinstance(peer.answers[3], DeadlineExceeded)
        assert found(peer, 2) == [2]

    play(steps)


def test_who_has_gone_takes_its_own_requests_along(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        other = Peer()
        shard.send(peer, search(1, 1), scroll(2))
        shard.send(other, search(1, 4))
        shard.service.forget(cast(ShardConnection, peer))
        await shard.settled(other, 1)
        assert (peer.answers, found(other, 1)) == ({}, [4])

    play(steps)


def test_one_caller_cannot_take_back_what_another_asked(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        shard.send(peer, search(1, 1))
        shard.send(Peer(), cancel(1))
        await shard.settled(peer, 1)
        assert found(peer, 1) == [1]

    play(steps)


def test_a_write_is_never_called_off(play: Any) -> None:
    async def steps(shard: Shard, peer: Peer) -> None:
        body = messages.encode_write(TARGET, b"o" * 16, encode_batch_parts(batch_of([9])))
        write = Frame(Kind.UPSERT, 1, 1, memoryview(b"".join(bytes(part) for part in body)))
        shard.send(peer, write, cancel(1))
        await shard.settled(peer, 1)
        assert isinstance(peer.answers[1], bytes)

    play(steps)


def test_what_was_called_off_makes_room_once_it_has_left_the_queue(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.service.QUEUED_QUERIES_MAX", 1)

    async def steps(shard: Shard, peer: Peer) -> None:
        shard.send(peer, search(1, 1))
        shard.send(peer, search(2, 2))
        assert isinstance(peer.answers.pop(2), QueueFull)
        shard.send(peer, cancel(1), search(3, 3))
        assert isinstance(peer.answers.pop(3), QueueFull), "it still lies there"
        shard.go.set()
        async with asyncio.timeout(WAIT_S):
            while shard.service._waiting.query_count:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        shard.send(peer, search(4, 4))
        await shard.settled(peer, 4)
        assert peer.answers.keys() == {4}

    play(steps)


def test_callers_that_come_ask_and_go_do_not_fill_the_queue(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.service.QUEUED_QUERIES_MAX", 3)

    async def steps(shard: Shard, peer: Peer) -> None:
        for number in range(10):
            gone = Peer()
            shard.send(gone, search(1, 1))
            shard.service.forget(cast(ShardConnection, gone))
            assert [*map(type, gone.answers.values())] == ([] if number < 3 else [QueueFull])

    play(steps)


def test_tickets() -> None:
    waiting = WaitingWork()
    ticket = waiting.add(Ticket("caller", 1, 0, 5))
    waiting.remove(ticket)
    waiting.remove(ticket)
    assert (waiting.query_count, len(waiting)) == (0, 0)
    again = waiting.add(Ticket("caller", 1, 60_000, 5))
    waiting.remove(ticket)  # of an earlier request with this id
    assert (waiting.query_count, len(waiting)) == (5, 1)
    same_id = waiting.add(Ticket("caller", 1, 0, 2))
    waiting.remove(same_id)
    assert waiting.query_count == 5
    waiting.remove(again)
    again = waiting.add(Ticket("caller", 1, 60_000, 5))
    assert again.run(lambda: "read") == "read"
    waiting.call_off("caller", 1)
    with pytest.raises(CalledOff):
        again.run(lambda: "read")
    assert (waiting.query_count, len(waiting)) == (5, 1)
    waiting.remove(again)
    assert (waiting.query_count, len(waiting)) == (0, 0)
