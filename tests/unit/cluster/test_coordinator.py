"""The coordinator over real sockets: shard hosts on threads, no Ray. A restarted shard, a cancelled request, bad input."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import uvloop

from cluster.coordinator import Coordinator
from cluster.requests import OrderBy, ScrollRequest, SearchRequest, Selection, UpsertCondition
from cluster.scope import Scope
from shards.batch import PointBatch, make_batch
from shards.distance import Distance
from shards.errors import Conflict, DeadlineExceeded, DimensionMismatch, Internal, NotFound, ShardUnavailable
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import UUID_BASE, key_array
from shards.schema import CollectionSpec, VectorSpec
from tests.local_cluster import LocalCluster

DIM, COUNT, DEADLINE_S = 4, 200, 30.0
SPEC = CollectionSpec(vectors={"": VectorSpec(size=DIM, distance=Distance.EUCLID)})
VECTORS = np.random.default_rng(7).random((COUNT, DIM), np.float32)
Steps = Callable[[LocalCluster, Coordinator], Awaitable[Any]]


def points(first: int, last: int) -> PointBatch:
    keys = [key if key % 3 else UUID_BASE + key for key in range(first, last)]
    return make_batch(key_array(keys), VECTORS[first:last], [b'{"n":%d}' % number for number in range(first, last)])


def number_of(key: int) -> int:
    return key - UUID_BASE if key >= UUID_BASE else key


def run(folder: Path, steps: Steps, patience_s: float = 10.0) -> Any:
    """The steps on a cluster of two shards that holds all points in `things`."""

    async def whole() -> Any:
        cluster = LocalCluster(folder, 2)
        coordinator = await cluster.connect(patience_s)
        try:
            await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
            await coordinator.upsert("things", points(0, COUNT), DEADLINE_S)
            return await steps(cluster, coordinator)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    return uvloop.run(whole())


def ask(query: np.ndarray, k: int = 5, **more: Any) -> SearchRequest:
    return SearchRequest(np.atleast_2d(query).astype(np.float32), k, **more)


def test_a_search_finds_what_brute_force_finds(tmp_path: Path) -> None:
    queries = np.random.default_rng(8).random((3, DIM), np.float32)

    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        return await coordinator.search("things", ask(queries, offset=2, with_payload=True), DEADLINE_S)

    answer = run(tmp_path, steps)
    for query, hits in zip(queries, answer.hits, strict=True):
        expected = np.argsort(((VECTORS - query) ** 2).sum(axis=1))[2:7].tolist()
        assert [number_of(key) for key in hits.keys] == expected
        assert hits.payloads == [b'{"n":%d}' % number for number in expected]
        assert hits.vectors is None
    assert answer.coverage == 1.0


def test_a_score_threshold_cuts(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        return await coordinator.search("things", ask(VECTORS[11], score_threshold=0.0), DEADLINE_S)

    assert [number_of(key) for key in run(tmp_path, steps).hits[0].keys] == [11]


def test_writes_are_seen_by_every_later_read(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        await coordinator.delete("things", Selection(keys=[1, 2, UUID_BASE + 3, 10**9]), DEADLINE_S)
        moved = make_batch(key_array([4]), VECTORS[:1] + 100, [b"{}"])
        await coordinator.upsert("things", moved, DEADLINE_S)
        records = await coordinator.retrieve("things", [4, 1, 5], True, True, DEADLINE_S)
        found = await coordinator.search("things", ask(VECTORS[0] + 100, 1), DEADLINE_S)
        return (await coordinator.count("things", DEADLINE_S)).count, records, found.hits[0].keys

    count, records, nearest = run(tmp_path, steps)
    assert count == COUNT - 3
    assert [(record.key, record.payload) for record in records] == [(4, b"{}"), (5, b'{"n":5}')]
    assert np.array_equal(records[0].vector, VECTORS[0] + 100)
    assert [*nearest] == [4]


def test_a_search_waits_for_a_shard_that_restarts(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        await asyncio.to_thread(cluster.stop_shard, 1)
        waiting = asyncio.create_task(coordinator.search("things", ask(VECTORS[0], COUNT), DEADLINE_S))
        await asyncio.to_thread(cluster.start_shard, 1)
        return await waiting

    assert len(run(tmp_path, steps).hits[0].keys) == COUNT


def test_a_shard_that_is_silent_is_told_from_those_that_answer(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        before = await coordinator.silent_shards(DEADLINE_S)
        await asyncio.to_thread(cluster.stop_shard, 1)
        return before, await coordinator.silent_shards(0.2)

    before, after = run(tmp_path, steps)
    assert before == {}
    assert after.keys() <= {1}
    assert all(isinstance(error, ShardUnavailable) for error in after.values())


def test_a_router_that_follows_nothing_any_more_is_not_alive(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> None:
        coordinator.check_alive()
        await coordinator.close()
        assert coordinator._watch_task is not None
        await asyncio.wait([coordinator._watch_task])
        with pytest.raises(Internal, match="stopped following"):
            coordinator.check_alive()

    run(tmp_path, steps)


def test_a_shard_that_stays_away_is_named(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        await asyncio.to_thread(cluster.stop_shard, 1)
        with pytest.raises(ShardUnavailable, match="shard 1"):
            await coordinator.search("things", ask(VECTORS[0]), DEADLINE_S)
        with pytest.raises((ShardUnavailable, DeadlineExceeded), match="shard 1"):
            await coordinator.search("things", ask(VECTORS[0]), 0.05)

    run(tmp_path, steps, patience_s=0.2)


def test_who_takes_less_gets_what_there_is_and_hears_what_is_missing(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        await asyncio.to_thread(cluster.stop_shard, 1)
        request = ask(VECTORS[:3], COUNT, min_coverage=0.5, with_payload=True)
        answer = await coordinator.search("things", request, DEADLINE_S)
        page = await coordinator.scroll("things", ScrollRequest(COUNT, min_coverage=0.5), DEADLINE_S)
        counted = await coordinator.count("things", DEADLINE_S, min_coverage=0.5)
        with pytest.raises(ShardUnavailable, match="shard 1"):
            await coordinator.count("things", DEADLINE_S, min_coverage=0.6)
        await asyncio.to_thread(cluster.stop_shard, 0)
        nothing = await coordinator.search("things", ask(VECTORS[:2], min_coverage=0.0), DEADLINE_S)
        await asyncio.to_thread(cluster.start_shard, 0)
        await asyncio.to_thread(cluster.start_shard, 1)
        await coordinator.count("things", DEADLINE_S)  # has waited until both are known to be there
        whole = await coordinator.search("things", request, DEADLINE_S)
        return answer, page, counted, nothing, whole, coordinator.gather_counts

    answer, page, counted, nothing, whole, counts = run(tmp_path, steps, patience_s=5.0)
    there = len(answer.hits[0].keys)
    assert 0 < there == len(page.records) == counted.count < COUNT
    for partial in (answer, page, counted):
        assert partial.coverage == 0.5
        ((shard_id, reason),) = partial.missing
        assert (shard_id, reason.split(":")[0]) == (1, "shard_unavailable")
    assert (nothing.coverage, [len(hits.keys) for hits in nothing.hits]) == (0.0, [0, 0])
    assert (whole.coverage, whole.missing, len(whole.hits[2].keys)) == (1.0, (), COUNT)
    assert counts.partial_answers == 4
    assert counts.retries


def test_fewer_hits_from_each_shard_make_the_same_answer(tmp_path: Path) -> None:
    """Here half of the points lie as they would by chance; where k comes close to all of them some shards are asked again."""

    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        found = {
            k: (await coordinator.search("things", ask(VECTORS[:5], k, exact=True), DEADLINE_S)).hits
            for k in (1, 10, 60, 150, COUNT)
        }
        return found, coordinator.gather_counts.refetches

    found, refetches = run(tmp_path, steps)
    for k, hits in found.items():
        for row, query in enumerate(VECTORS[:5]):
            expected = np.argsort(((VECTORS - query) ** 2).sum(axis=1))[:k].tolist()
            assert [number_of(key) for key in hits[row].keys] == expected
    assert refetches <= 2


@pytest.mark.parametrize("min_coverage", [0.0, 0.5])
def test_a_shard_that_dies_before_it_is_asked_again_is_missing_for_who_takes_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, min_coverage: float
) -> None:
    monkeypatch.setattr("cluster.shard_search.fetch_count", lambda k, share, shard_count: 2)

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        ask_for_enough = coordinator._ask_for_enough

        async def ask_and_stop(*about: Any) -> Any:
            outcome = await ask_for_enough(*about)
            if 1 in cluster.hosts:
                await asyncio.to_thread(cluster.stop_shard, 1)
            return outcome

        request = ask(VECTORS[:3], 20, min_coverage=min_coverage)
        monkeypatch.setattr(coordinator, "_ask_for_enough", ask_and_stop)
        answer = await coordinator.search("things", request, DEADLINE_S)
        monkeypatch.setattr("cluster.shard_search.fetch_count", lambda k, share, shard_count: k)
        return answer, await coordinator.search("things", request, DEADLINE_S)

    answer, of_shard_0 = run(tmp_path, steps, patience_s=1.0)
    assert (answer.coverage, [one.shard_id for one in answer.missing], answer.origins) == (0.5, [1], ())
    assert [[*hits.keys] for hits in answer.hits] == [[*hits.keys] for hits in of_shard_0.hits]


def test_a_search_that_missed_hits_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.shard_search.fetch_count", lambda k, share, shard_count: 2)

    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        request = ask(VECTORS[:5], 40, offset=3, with_payload=True, score_threshold=0.4)
        return await coordinator.search("things", request, DEADLINE_S), coordinator.gather_counts.refetches

    answer, refetches = run(tmp_path, steps)
    for query, hits in zip(VECTORS[:5], answer.hits, strict=True):
        distances = np.sqrt(((VECTORS - query) ** 2).sum(axis=1))
        expected = [row for row in np.argsort(distances)[3:43].tolist() if distances[row] <= 0.4]
        assert [number_of(key) for key in hits.keys] == expected
        assert hits.payloads == [b'{"n":%d}' % number for number in expected]
    assert refetches == 1


def test_cancelled_requests_do_not_disturb_the_connection(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        for turn in range(30):
            tasks = [
                asyncio.create_task(coordinator.search("things", ask(VECTORS[row], 1), DEADLINE_S))
                for row in range(9)
            ]
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            for row in range(1, 9, 2):
                assert [number_of(key) for key in done[row].hits[0].keys] == [row]  # type: ignore[union-attr]
        return coordinator.gather_counts.cancels_sent

    assert run(tmp_path, steps)


def test_of_many_requests_that_are_cancelled_at_random_the_others_are_right(tmp_path: Path) -> None:
    """Searches of all sizes, with filters (which wait for a thread), scrolls and counts, from eight callers at once."""
    random = Random(22)
    small = b'{"must":{"key":"n","range":{"lt":20}}}'

    async def one(coordinator: Coordinator, row: int) -> None:
        kind = row % 4
        if kind == 3:
            page = await coordinator.scroll("things", ScrollRequest(COUNT, small), DEADLINE_S)
            assert sorted(number_of(record.key) for record in page.records) == [*range(20)]
        elif kind == 2:
            assert (await coordinator.count("things", DEADLINE_S, small)).count == 20
        else:
            rows = [(row + step) % (20 if kind else COUNT) for step in range(1 + row % 3)]
            request = ask(VECTORS[rows], 1, filter=small if kind else b"")
            answer = await coordinator.search("things", request, DEADLINE_S)
            assert [[number_of(key) for key in hits.keys] for hits in answer.hits] == [[row] for row in rows]

    async def caller(coordinator: Coordinator, first: int) -> int:
        cancelled = 0
        for step in range(100):
            task = asyncio.create_task(one(coordinator, first + step))
            if random.random() < 0.5:
                for _ in range(random.randrange(8)):
                    await asyncio.sleep(0)
                cancelled += task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return cancelled

    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        cancelled = sum(await asyncio.gather(*(caller(coordinator, 100 * number) for number in range(8))))
        return cancelled, coordinator.gather_counts.cancels_sent, await coordinator.count("things", DEADLINE_S)

    cancelled, told, counted = run(tmp_path, steps)
    assert cancelled > 200
    assert told > 50
    assert counted.count == COUNT


def test_searches_that_wait_together_keep_their_own_answers(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        one_by_one = (ask(VECTORS[row], 1 + row % 2, with_vectors=row % 3 == 0) for row in range(100))
        return await asyncio.gather(*(coordinator.search("things", one, DEADLINE_S) for one in one_by_one))

    for row, answer in enumerate(run(tmp_path, steps)):
        hits = answer.hits[0]
        assert number_of(hits.keys[0]) == row
        assert len(hits.keys) == 1 + row % 2
        assert (hits.vectors is not None) == (row % 3 == 0)


def test_what_the_caller_gets_wrong_is_said(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        with pytest.raises(NotFound, match="nothing"):
            await coordinator.search("nothing", ask(VECTORS[0]), DEADLINE_S)
        with pytest.raises(Conflict, match="things"):
            await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
        with pytest.raises(DimensionMismatch, match="expected dim: 4, got 2"):
            await coordinator.search("things", ask(VECTORS[0, :2]), DEADLINE_S)
        assert await coordinator.delete_collection("things", DEADLINE_S)
        assert not await coordinator.delete_collection("things", DEADLINE_S)

    run(tmp_path, steps)


def test_scrolling_shows_every_point_once_over_all_shards(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        found, offset = [], None
        while True:
            page = await coordinator.scroll("things", ScrollRequest(17, offset=offset), DEADLINE_S)
            found += page.records
            if (offset := page.next_key) is None:
                break
        ordered = await coordinator.scroll("things", ScrollRequest(9, order_by=OrderBy("n", True)), DEADLINE_S)
        return found, ordered

    found, ordered = run(tmp_path, steps)
    keys = [record.key for record in found]
    assert keys == sorted(keys)
    assert sorted(map(number_of, keys)) == list(range(COUNT))
    assert ordered.order_values == list(range(COUNT - 1, COUNT - 10, -1))
    assert [number_of(record.key) for record in ordered.records] == ordered.order_values


def test_filters_select_what_is_found_counted_changed_and_deleted(tmp_path: Path) -> None:
    small, tagged = b'{"must":{"key":"n","range":{"lt":20}}}', b'{"must":{"key":"tag","match":{"value":"x"}}}'

    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        await coordinator.create_index("things", "n", FieldSchema(kind=FieldKind.INTEGER), DEADLINE_S)
        near = await coordinator.search("things", ask(VECTORS[150], 30, filter=small), DEADLINE_S)
        change = PointChange(kind=ChangeKind.SET, payload={"tag": "x"})
        await coordinator.change("things", Selection(filter=small), change, DEADLINE_S)
        await coordinator.change("things", Selection(keys=[50, UUID_BASE + 51, 10**9]), change, DEADLINE_S)
        counted = (await coordinator.count("things", DEADLINE_S, tagged)).count
        held_back = make_batch(key_array([1, 10**6]), VECTORS[:2], [b"{}", b"{}"])
        await coordinator.upsert("things", held_back, DEADLINE_S, UpsertCondition("insert_only"))
        await coordinator.delete("things", Selection(filter=tagged), DEADLINE_S)
        fields = [statistics.fields for statistics in await coordinator.statistics("things", DEADLINE_S)]
        return near.hits[0].keys, counted, (await coordinator.count("things", DEADLINE_S)).count, fields

    near, counted, left, fields = run(tmp_path, steps)
    assert sorted(map(number_of, near)) == list(range(20))
    assert (counted, left) == (22, COUNT + 1 - 22)
    assert [field["n"]["schema"]["kind"] for field in fields] == ["integer", "integer"]


def test_an_index_that_is_taken_back_is_gone(tmp_path: Path) -> None:
    async def steps(_: LocalCluster, coordinator: Coordinator) -> Any:
        await coordinator.create_index("things", "n", FieldSchema(kind=FieldKind.INTEGER), DEADLINE_S)
        found = [await coordinator.delete_index("things", "n", DEADLINE_S) for _ in range(2)]
        return found, [one.fields for one in await coordinator.statistics("things", DEADLINE_S)]

    assert run(tmp_path, steps) == ([True, False], [{}, {}])


def test_what_is_meant_for_a_collection_never_reaches_one_that_was_made_in_its_place(tmp_path: Path) -> None:
    """Neither where the router knows of the new one, nor where a shard tells it that the old one is gone."""

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> Any:
        late = await cluster.connect()
        assert late._watch_task is not None
        late._watch_task.cancel()
        scope = Scope("things", coordinator.collection("things").uid)
        assert (await coordinator.count(scope, DEADLINE_S)).count == COUNT
        await coordinator.delete_collection("things", DEADLINE_S)
        await coordinator.create_collection("things", SPEC, None, DEADLINE_S)
        change = PointChange(kind=ChangeKind.CLEAR)
        for router in (coordinator, late):
            for call in (
                router.upsert(scope, points(0, 9), DEADLINE_S),
                router.update_vectors(scope, points(0, 9), DEADLINE_S),
                router.delete(scope, Selection(keys=[1]), DEADLINE_S),
                router.change(scope, Selection(filter=b""), change, DEADLINE_S),
                router.search(scope, ask(VECTORS[0]), DEADLINE_S),
                router.scroll(scope, ScrollRequest(5), DEADLINE_S),
                router.retrieve(scope, [1], False, False, DEADLINE_S),
                router.count(scope, DEADLINE_S),
                router.statistics(scope, DEADLINE_S),
            ):
                with pytest.raises(Conflict, match="`things` was deleted and made again"):
                    await call
        await late.close()
        return (await coordinator.count("things", DEADLINE_S)).count

    assert run(tmp_path, steps) == 0
