"""A shared answer is asked once at a time, kept for a while, and no caller spoils it for others."""

from __future__ import annotations

import asyncio

import pytest

from deployments.shared_answer import SharedAnswer


class Question:
    """Answers 1, 2, ... when `go` is set; `problem` makes it fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.problem: Exception | None = None

    async def ask(self) -> int:
        self.asked += 1
        await self.go.wait()
        if self.problem is not None:
            raise self.problem
        return self.asked


def test_those_who_wait_share_it() -> None:
    async def story() -> None:
        question = Question()
        shared = SharedAnswer(question.ask, lambda _: 60)
        waiting = [asyncio.create_task(shared.get()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        question.go.set()
        assert await asyncio.gather(*waiting[1:]) == [1, 1, 1, 1]
        assert await shared.get() == 1
        assert (question.asked, shared.newest) == (1, 1)

    asyncio.run(story())


def test_it_grows_old() -> None:
    async def story() -> None:
        question = Question()
        question.go.set()
        shared = SharedAnswer(question.ask, lambda _: 0)
        assert [await shared.get(), await shared.get()] == [1, 2]

    asyncio.run(story())


def test_a_failure_is_not_kept() -> None:
    async def story() -> None:
        question = Question()
        question.go.set()
        question.problem = ValueError("no")
        shared = SharedAnswer(question.ask, lambda _: 60)
        with pytest.raises(ValueError, match="no"):
            await shared.get()
        question.problem = None
        assert await shared.get() == 2

    asyncio.run(story())
