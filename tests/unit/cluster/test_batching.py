"""Natural batching, with a search that the test answers by hand: who leaves when, and who gets which answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from cluster.batching import GROUP_QUERIES_MAX, GROUP_WAIT_S, Answered, SearchBatcher
from shards.batch import Vectors


class Shards:
    """Keeps every group that was sent until the test answers it; an answer to a query is its first component."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[float], asyncio.Future[None]]] = []
        self.batcher: SearchBatcher[str, float] = SearchBatcher(self.search)

    async def search(self, key: str, vectors: Vectors, answered: Answered, waited_s: float) -> list[float]:
        done = asyncio.get_running_loop().create_future()
        values: list[float] = vectors[:, 0].tolist()
        self.sent.append((key, values, done))
        await done
        answered()
        return values

    def groups(self) -> list[list[float]]:
        return [values for _, values, _ in self.sent]

    def ask(self, *values: float, key: str = "alike") -> asyncio.Task[list[float]]:
        vectors = np.array([[value, 0.0] for value in values], np.float32)
        return asyncio.create_task(self.batcher.search(key, vectors))


def with_shards(steps: Callable[[Shards], Awaitable[Any]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(steps(Shards()), 30)

    asyncio.run(run())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_lone_search_goes_at_once() -> None:
    async def steps(shards: Shards) -> None:
        task = shards.ask(1)
        await turns()
        assert shards.groups() == [[1]]
        shards.sent[0][2].set_result(None)
        assert await task == [1]

    with_shards(steps)


def test_what_waits_leaves_together_when_the_first_comes_back() -> None:
    async def steps(shards: Shards) -> None:
        first, second, third = shards.ask(1), shards.ask(2, 3), shards.ask(4)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shards.groups() == [[1]]
        shards.sent[0][2].set_result(None)
        await turns()
        assert shards.groups() == [[1], [2, 3, 4]]
        shards.sent[1][2].set_result(None)
        assert [await first, await second, await third] == [[1], [2, 3], [4]]

    with_shards(steps)


def test_only_what_asks_alike_shares_a_way() -> None:
    async def steps(shards: Shards) -> None:
        tasks = [shards.ask(1), shards.ask(2, key="otherwise")]
        await turns(2)
        assert [key for key, _, _ in shards.sent] == ["alike", "otherwise"]
        for _, _, done in shards.sent:
            done.set_result(None)
        assert await asyncio.gather(*tasks) == [[1], [2]]

    with_shards(steps)


def test_a_full_group_waits_for_nobody() -> None:
    async def steps(shards: Shards) -> None:
        tasks = [shards.ask(value) for value in range(GROUP_QUERIES_MAX + 1)]
        await turns()
        assert [len(values) for values in shards.groups()] == [1, GROUP_QUERIES_MAX]
        for _, _, done in shards.sent:
            done.set_result(None)
        assert await asyncio.gather(*tasks) == [[value] for value in range(GROUP_QUERIES_MAX + 1)]

    with_shards(steps)


def test_nobody_waits_behind_a_shard_that_hangs() -> None:
    async def steps(shards: Shards) -> None:
        hanging = shards.ask(1)
        await turns()
        waiting = shards.ask(2)
        await asyncio.wait([waiting], timeout=10 * GROUP_WAIT_S)
        assert shards.groups() == [[1], [2]]
        shards.sent[1][2].set_result(None)
        assert await waiting == [2]
        assert not hanging.done()
        shards.sent[0][2].set_result(None)
        await hanging

    with_shards(steps)


def test_an_error_reaches_all_of_its_group_and_nobody_else() -> None:
    async def steps(shards: Shards) -> None:
        first, second, third = shards.ask(1), shards.ask(2), shards.ask(3)
        await turns(2)
        shards.sent[0][2].set_exception(ValueError("first"))
        await turns()
        shards.sent[1][2].set_exception(ValueError("others"))
        outcomes = await asyncio.gather(first, second, third, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["first", "others", "others"]
        again = shards.ask(4)
        await turns()
        assert shards.groups()[-1] == [4]
        shards.sent[-1][2].set_result(None)
        await again

    with_shards(steps)


def test_one_that_goes_away_takes_nobody_along() -> None:
    async def steps(shards: Shards) -> None:
        first, second, third = shards.ask(1), shards.ask(2), shards.ask(3)
        await turns(2)
        first.cancel()
        second.cancel()
        await turns()
        assert shards.groups() == [[1], [2, 3]]
        shards.sent[1][2].set_result(None)
        assert await third == [3]
        for gone in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await gone

    with_shards(steps)


def test_a_group_that_everybody_has_left_is_called_off() -> None:
    async def steps(shards: Shards) -> None:
        first, second, third = shards.ask(1), shards.ask(2), shards.ask(3)
        await turns(2)
        shards.sent[0][2].set_result(None)
        await turns()
        assert shards.groups() == [[1], [2, 3]]
        second.cancel()
        await turns()
        assert not shards.sent[1][2].cancelled()
        third.cancel()
        await turns()
        assert shards.sent[1][2].cancelled()
        assert await first == [1]

    with_shards(steps)


def test_a_group_that_everybody_has_left_before_it_goes_never_does() -> None:
    async def steps(shards: Shards) -> None:
        first, second = shards.ask(1), shards.ask(2)
        await turns(2)
        second.cancel()
        await turns()
        shards.sent[0][2].set_result(None)
        assert await first == [1]
        await turns()
        assert shards.groups() == [[1]]
        again = shards.ask(5)
        await turns()
        assert shards.groups() == [[1], [5]]
        shards.sent[1][2].set_result(None)
        assert await again == [5]

    with_shards(steps)
