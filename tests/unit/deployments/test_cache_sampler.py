"""The watch over the cache: it sees a changed answer, and takes nothing for one that is none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.cache_sampler import difference_of
from deployments.cache_settings import CacheSettings
from deployments.result_cache import ResultCache
from tests.unit.deployments.shards_with_stamps import NumberShards, arrival, question


def point(id_: int, score: float, version: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": id_, "version": version, "score": score, **more}


KEPT = [point(1, 0.1, payload={"a": 1}), point(2, 0.2), point(3, 0.3)]


@pytest.mark.parametrize(
    "fresh",
    [
        KEPT,
        [point(1, 0.1000001, payload={"a": 1}), point(2, 0.2), point(3, 0.3)],
        [KEPT[0], point(2, 0.2), point(9, 0.30000001)],
    ],
)
def test_last_digits_and_equally_near_points_are_no_difference(fresh: list[dict[str, Any]]) -> None:
    assert difference_of(KEPT, fresh) is None


@pytest.mark.parametrize(
    ("fresh", "what"),
    [
        (KEPT[:2], "2"),
        ([KEPT[0], point(2, 0.2, version=2), KEPT[2]], "version"),
        ([point(1, 0.1, payload={"a": 2}), *KEPT[1:]], "payload"),
        ([point(1, 0.1), *KEPT[1:]], "payload"),
        ([point(1, 0.15, payload={"a": 1}), *KEPT[1:]], "score"),
        ([point(9, 0.1), *KEPT[1:]], "point 1"),
        ([*KEPT[:2], point(9, 0.25)], "point 3"),
    ],
)
def test_differences_are_told(fresh: list[dict[str, Any]], what: str) -> None:
    assert what in (difference_of(KEPT, fresh) or "")


def test_drift_is_counted_where_the_generation_did_not_move() -> None:
    async def steps() -> ResultCache:
        shards = NumberShards(2)
        cache = ResultCache(shards, CacheSettings(sample_fraction=1))

        def asked() -> Any:
            read = question()
            return read._replace(
                write=lambda answer: b'[{"id":1,"score":0.5,"version":%d}]' % sum(answer.hits[0].versions)
            )

        async def ask() -> None:
            await cache.answer(arrival(shards), asked)
            for _ in range(10):
                await asyncio.sleep(0)

        await ask()
        await ask()
        assert (cache.counts.sampled, cache.counts.drift) == (1, 0)
        shards.generations[1].move_layout()
        await ask()
        assert cache.counts.sampled == 1, "the graphs are others: not to be compared"
        shards.generations[1].layout = 0
        shards.numbers[1] = 7  # a change that moves nothing
        await ask()
        return cache

    cache = asyncio.run(steps())
    assert (cache.counts.sampled, cache.counts.drift) == (2, 1)
