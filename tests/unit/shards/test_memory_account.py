"""A budget held to: upserts and loads are refused with the reason, deletes pass, and memory that is freed is used again.

Payloads of 64 KiB fill a budget of 8 MiB in a hundred points. A graph's fixed part is 2.5 MiB of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import sealing
from shards.batch import make_batch
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.errors import MemoryExhausted
from shards.host import ShardHost
from shards.identity import ShardIdentity, create_shard_folder
from shards.log_frame import LogOp
from shards.memory import MemoryParts, building_bytes, parts_of, predict
from shards.memory_account import (
    THROTTLE_DELAY_S_MAX,
    LoadPermits,
    MemoryAccount,
    graph_kinds,
    plan_for,
    size_of,
)
from shards.memory_budget import MemoryLevel
from shards.op_history import NO_OP_ID
from shards.point_ids import key_array
from shards.settings import MIB, ShardSettings
from tests.running_committer import committing, until
from tests.shard_oracle import (
    Oracle,
    check_same,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)

SETTINGS = ShardSettings(seal_bytes=64 * 1024, exact_scan_bytes=0, memory_bytes_max=8 * MIB)
PAYLOAD_BYTES = 64 * 1024


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c", SETTINGS)


@pytest.fixture
def account() -> MemoryAccount:
    return MemoryAccount(SETTINGS, "shard 3")


@pytest.fixture
def builders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def heavy(key: int, op_id: bytes = NO_OP_ID) -> LogOp:
    """One point with a large payload."""
    return upsert_op(make_batch(key_array([key]), vectors_of([key]), [b"x" * PAYLOAD_BYTES]), op_id)


async def fill(committer: Committer) -> tuple[list[int], MemoryExhausted]:
    """Upsert heavy points until one is refused; the keys of those that were not, and the refusal."""
    for key in range(1_000):
        try:
            await committer.submit(heavy(key), 1)
        except MemoryExhausted as error:
            return list(range(key)), error
    raise AssertionError("the budget refuses nothing")


def without_relief(account: MemoryAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """The growing segment is not sealed early: what is full stays full."""
    monkeypatch.setattr(account, "is_sealing_a_relief", lambda *_: False)


def test_upserts_are_refused_with_the_reason_and_deletes_and_searches_are_not(
    collection: ShardCollection,
    builders: ThreadPoolExecutor,
    account: MemoryAccount,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_relief(account, monkeypatch)
    monkeypatch.setattr(account, "write_delay_s", lambda: 0.0)

    async def play() -> None:
        async with committing(collection, builders, account) as committer:
            keys, refusal = await fill(committer)
            assert 80 < len(keys) < 128
            assert account.budget.used_bytes < 0.9 * 8 * MIB, "what would pass the threshold is not let in"
            for part in (
                "shard 3 refuses upserts",
                "level throttle",
                f"of {8 * MIB:,} bytes used",
                "(payloads ",
                "freed",
            ):
                assert part in refusal.message
            assert refusal.retry_after_s == 5.0
            oracle = Oracle()
            for lsn, key in enumerate(keys, 1):
                oracle.upsert(make_batch(key_array([key]), vectors_of([key]), [b"x" * PAYLOAD_BYTES]), lsn)
            check_same(collection, oracle, vectors_of([1]))
            assert await committer.submit(delete_op([0]), 1) == len(keys) + 1
            oracle.delete([0])
            check_same(collection, oracle, vectors_of([1]))
        assert account.queued_bytes == 0

    asyncio.run(play())


def test_after_deleting_and_sealing_upserts_pass_again(
    collection: ShardCollection, builders: ThreadPoolExecutor, account: MemoryAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "write_delay_s", lambda: 0.0)

    async def play() -> None:
        async with committing(collection, builders, account) as committer:
            with monkeypatch.context() as patch:
                without_relief(account, patch)
                keys, _ = await fill(committer)
                await committer.submit(delete_op(keys), 1)
                with pytest.raises(MemoryExhausted):
                    await committer.submit(heavy(5_000), 1)
            await committer.submit(delete_op([]), 1)  # any write: the growing segment, all dead, is sealed away
            await until(lambda: account.budget.level is MemoryLevel.NORMAL)
            await committer.submit(heavy(5_000), 1)
            assert collection.count() == 1

    asyncio.run(play())
    assert reopened(collection.folder, SETTINGS).count() == 1


def test_a_refused_upsert_has_the_growing_segment_sealed_where_that_makes_room(
    collection: ShardCollection, builders: ThreadPoolExecutor, account: MemoryAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "write_delay_s", lambda: 0.0)

    async def play() -> None:
        async with committing(collection, builders, account) as committer:
            with monkeypatch.context() as patch:
                without_relief(account, patch)
                keys, _ = await fill(committer)
            with pytest.raises(MemoryExhausted):
                await committer.submit(heavy(5_000), 1)
            await until(lambda: len(collection.sealed) == 1)
            assert await committer.submit(heavy(5_000), 1) == len(keys) + 1, "payloads lie in a mapped file now"

    asyncio.run(play())


def test_a_repeated_upsert_is_acknowledged_also_where_a_new_one_is_refused(
    collection: ShardCollection, builders: ThreadPoolExecutor, account: MemoryAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_relief(account, monkeypatch)
    monkeypatch.setattr(account, "write_delay_s", lambda: 0.0)

    async def play() -> None:
        async with committing(collection, builders, account) as committer:
            assert await committer.submit(heavy(2_000, b"a" * 16), 1) == 1
            await fill(committer)
            assert await committer.submit(heavy(2_000, b"a" * 16), 1) == 1

    asyncio.run(play())


def test_a_refusal_keeps_nothing_alive(account: MemoryAccount) -> None:
    account.budget.observe(MemoryParts(graphs=9 * MIB))
    refusal = account.admit(heavy(1))
    assert refusal is not None
    assert refusal.__traceback__ is None, "a frame in it would hold the collection after its drop"


def test_writes_that_wait_count_before_they_are_applied(account: MemoryAccount, collection: ShardCollection) -> None:
    account.observe(collection)
    waiting = [heavy(key) for key in range(200)]
    let_in = [op for op in waiting if account.admit(op) is None]
    assert 0 < len(let_in) < 200
    assert account.queued_bytes == sum(len(op.body) for op in let_in) < 8 * MIB
    assert account.admit(delete_op([1])) is None
    account.finish(delete_op([1]))
    for op in let_in:
        account.finish(op)
    assert account.queued_bytes == 0
    assert account.admit(waiting[0]) is None


def test_at_the_level_refuse_a_delete_is_let_in_however_little_room_there_is(account: MemoryAccount) -> None:
    account.budget.observe(MemoryParts(graphs=9 * MIB))
    assert account.budget.level is MemoryLevel.REFUSE
    assert account.admit(delete_op(range(10_000))) is None
    refusal = account.admit(upsert_op(make_batch(key_array([]), vectors_of([]), [])))
    assert refusal is not None
    assert "level refuse" in refusal.message


def test_a_host_counts_its_collections_and_makes_none_without_room(tmp_path: Path) -> None:
    identity = ShardIdentity("cluster", 0, "node")
    create_shard_folder(tmp_path / "shard", identity)
    settings = ShardSettings(memory_bytes_max=10 * MIB)  # a growing segment reserves 4 MiB
    host = ShardHost(tmp_path / "shard", identity, b"s" * 32, settings=settings)
    host.start()
    try:
        host.ensure_collection("a" * 32, spec_of(dim=256), 1, True)
        host.ensure_collection("b" * 32, spec_of(dim=256), 1, True)
        with pytest.raises(MemoryExhausted, match="shard 0 refuses a new collection of 256 dimensions"):
            host.ensure_collection("c" * 32, spec_of(dim=256), 1, True)
        assert not (tmp_path / "shard" / ("c" * 32)).exists()
        host.drop_collection("c" * 32)
        host.ensure_collection("a" * 32, spec_of(dim=256), 2, True)
        host.drop_collection("b" * 32)
        host.ensure_collection("c" * 32, spec_of(dim=256), 1, True)
    finally:
        host.stop()


def test_writers_are_held_back_under_throttle_and_not_before(
    collection: ShardCollection, builders: ThreadPoolExecutor, account: MemoryAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    real = asyncio.sleep

    async def noted(delay_s: float) -> None:
        delays.append(delay_s)
        await real(0)

    async def play() -> None:
        async with committing(collection, builders, account) as committer:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", noted)
                await committer.submit(heavy(1), 1)
                assert delays == []
                permit = account.reserve(int(6.9 * MIB), "a copy of a graph")
                await committer.submit(heavy(2), 1)
                await committer.submit(delete_op([1]), 1)
                account.budget.release(permit)
                await committer.submit(heavy(3), 1)

    asyncio.run(play())
    assert len(delays) == 1, "a delete is not held back"
    assert 0 < delays[0] <= THROTTLE_DELAY_S_MAX


@pytest.mark.parametrize("used", [5.0, 6.0])
def test_below_the_throttle_nothing_is_held_back(account: MemoryAccount, used: float) -> None:
    account.budget.observe(MemoryParts(graphs=int(used * MIB)))
    assert account.write_delay_s() == 0.0


def test_the_delay_grows_with_the_pressure_and_is_bounded(account: MemoryAccount) -> None:
    found = []
    for used in (6.5, 6.8, 7.0, 7.19, 7.3, 20.0):
        account.budget.observe(MemoryParts(graphs=int(used * MIB)))
        found.append(account.write_delay_s())
    assert 0 < found[0] < found[1] < found[2] < found[3] < found[4] == found[5] == THROTTLE_DELAY_S_MAX


def test_the_account_is_the_sum_of_its_collections(tmp_path: Path, account: MemoryAccount) -> None:
    one, other = (new_collection(tmp_path / name, SETTINGS) for name in ("one", "other"))
    one.commit([heavy(1)], 1)
    account.observe(one)
    account.observe(other)
    assert account.budget.used_bytes == sum(parts_of(size_of(each)).total for each in (one, other))
    sealing.seal_all(one)
    account.observe(one)
    assert account.budget.parts.graphs == parts_of(size_of(one)).graphs > 0
    account.forget(one)
    account.forget(one)
    assert account.budget.used_bytes == parts_of(size_of(other)).total


def test_an_empty_collection_is_what_was_predicted_for_none(collection: ShardCollection) -> None:
    assert parts_of(size_of(collection)) == predict(plan_for(spec_of(), SETTINGS, 0))


def test_a_new_collection_needs_room_for_its_growing_segment(account: MemoryAccount) -> None:
    account.check_new(spec_of())
    account.reserve(7 * MIB, "a copy of a graph")
    with pytest.raises(MemoryExhausted, match="a new collection of 8192 dimensions"):
        account.check_new(spec_of(dim=8192))
    account.check_new(spec_of())


def test_a_load_reserves_its_segment_and_more_when_more_rows_come(
    collection: ShardCollection, account: MemoryAccount
) -> None:
    permits = LoadPermits(account, collection, 100)
    kinds = graph_kinds(collection.spec)
    assert account.budget.reserved_bytes == building_bytes(kinds, 100)
    permits.add_rows(100)
    assert account.budget.reserved_bytes == building_bytes(kinds, 100)
    permits.add_rows(1)
    assert account.budget.reserved_bytes == building_bytes(kinds, 200)
    with pytest.raises(MemoryExhausted, match="for a load of 1,000,101 rows"):
        permits.add_rows(1_000_000)
    permits.add_rows(99)
    assert account.budget.reserved_bytes == building_bytes(kinds, 200)
    permits.release()
    permits.release()
    assert account.budget.used_bytes == 0


def test_a_load_without_room_is_refused_before_anything_is_made(
    collection: ShardCollection, account: MemoryAccount
) -> None:
    with pytest.raises(MemoryExhausted, match=r"shard 3 refuses [\d,]+ bytes for a load of 1,000,000 rows"):
        LoadPermits(account, collection, 1_000_000)
    assert account.budget.reserved_bytes == 0


def test_the_report_is_whole(collection: ShardCollection, account: MemoryAccount) -> None:
    collection.commit([heavy(1)], 1)
    account.observe(collection)
    report = account.report(collection, None)
    assert report["allocated"] == report["shard"]["allocated"] == parts_of(size_of(collection)).to_json()
    assert report["predicted"]["payloads"] == report["allocated"]["payloads"], "one point, its own payload"
    assert report["shard"]["used_bytes"] == report["allocated"]["total"]
    assert (report["shard"]["limit_bytes"], report["shard"]["level"]) == (8 * MIB, "normal")
    assert report["shard"]["resident"] is None
    assert report["mapped_bytes"] == 0
    sealing.seal_all(collection)
    assert account.report(collection, None)["mapped_bytes"] > PAYLOAD_BYTES
