"""Which queries are sampled, when they are measured, and that what is measured is the recall."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import recall_probe, sealing
from shards.collection import ShardCollection
from shards.distance import Distance
from shards.index import SearchPlan
from shards.recall_probe import SAMPLE_EVERY, LiveRecall, RecallProbe, measure_recall
from tests.running_committer import DEADLINE_S, until
from tests.shard_oracle import SMALL, WIDE_DIM, batch_of, delete_op, new_collection, spec_of, upsert_op, vectors_of

QUERY = vectors_of([4_321], WIDE_DIM)


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    made = new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))
    made.commit([upsert_op(batch_of(range(400), dim=WIDE_DIM))], 1)
    sealing.seal_all(made)
    made.commit([upsert_op(batch_of(range(380, 420), 1, WIDE_DIM)), delete_op([1, 2])], 1)
    return made


def test_what_is_measured_is_the_recall(collection: ShardCollection, tmp_path: Path) -> None:
    assert measure_recall(collection.segments(), QUERY, SearchPlan(10, 400)) == 1.0
    whole = new_collection(
        tmp_path / "whole", SMALL, spec_of(dim=WIDE_DIM)
    )  # where rows have died, fewer are scanned
    whole.commit([upsert_op(batch_of(range(400), dim=WIDE_DIM))], 1)
    sealing.seal_all(whole)
    few = measure_recall(whole.segments(), QUERY, SearchPlan(10, 1))
    assert few is not None
    assert 0.0 <= few < 1.0


def test_what_would_say_nothing_or_cost_too_much_is_not_measured(
    tmp_path: Path, collection: ShardCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = new_collection(tmp_path / "e", SMALL, spec_of(dim=WIDE_DIM))
    assert measure_recall(empty.segments(), QUERY, SearchPlan(10, 10)) is None
    monkeypatch.setattr(recall_probe, "VECTOR_BYTES_MAX", 1000)
    assert measure_recall(collection.segments(), QUERY, SearchPlan(10, 10)) is None


def probed(
    collection: ShardCollection, plan: SearchPlan, quiet: bool = True, waits: bool = True
) -> LiveRecall | None:
    """What a probe reports after it saw one query, on a shard that is quiet, or never is; `waits` until it reports."""
    now = 0.0

    async def play() -> LiveRecall | None:
        nonlocal now
        with ThreadPoolExecutor(1) as executor:
            probe = RecallProbe(executor, lambda: now)
            probe.saw(collection, QUERY, plan)
            now += recall_probe.IDLE_S if quiet else 0.0
            task = asyncio.create_task(probe.run())
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(50):  # turns of the probe, whatever it makes of them
                    await asyncio.sleep(recall_probe.IDLE_S)
                if waits:
                    await until(lambda: probe.recall_of(collection) is not None)
            task.cancel()
            await asyncio.wait([task])
        return probe.recall_of(collection)

    return asyncio.run(play())


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_probe, "IDLE_S", 0.002)


def test_a_quiet_shard_measures_its_queries(collection: ShardCollection) -> None:
    assert probed(collection, SearchPlan(10, 400)) == LiveRecall(1.0, 1)


def test_a_busy_shard_does_not(collection: ShardCollection) -> None:
    assert probed(collection, SearchPlan(10, 400), quiet=False, waits=False) is None


def test_exact_queries_are_not_sampled(collection: ShardCollection) -> None:
    assert probed(collection, SearchPlan(10, 400, exact=True), waits=False) is None


def test_one_query_of_many_is_sampled(collection: ShardCollection) -> None:
    with ThreadPoolExecutor(1) as executor:
        sampled = []
        probe = RecallProbe(executor, lambda: 0.0)
        for _ in range(3 * SAMPLE_EVERY):
            before = probe.sampled_count
            probe.saw(collection, QUERY, SearchPlan(10, 400))
            sampled.append(probe.sampled_count > before)
    assert [place for place, was_sampled in enumerate(sampled) if was_sampled] == [0, SAMPLE_EVERY, 2 * SAMPLE_EVERY]


def test_a_collection_without_graphs_and_one_that_was_dropped_are_not_measured(
    tmp_path: Path, collection: ShardCollection
) -> None:
    scanned = new_collection(tmp_path / "m", SMALL, spec_of(Distance.MANHATTAN, WIDE_DIM))
    scanned.commit([upsert_op(batch_of([1], dim=WIDE_DIM))], 1)
    assert probed(scanned, SearchPlan(10, 400), waits=False) is None
    with ThreadPoolExecutor(1) as executor:
        probe = RecallProbe(executor, lambda: 0.0)
        probe.saw(collection, QUERY, SearchPlan(10, 400))
        probe.forget(collection)
        assert probe._sample is None
