"""Refreshes: each caller gets a state from after his call, and many of them cost few questions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.catalogue_calls import CatalogueCalls
from cluster.state import ClusterState
from shards.errors import DeadlineExceeded, Unavailable


class Control:
    """A control plane whose version grows at every question; `gate` holds the answers back."""

    def __init__(self) -> None:
        self.version = 0
        self.problem: Exception | None = None
        self.gate = asyncio.Event()

    async def cluster_state(self, newer_than: int, timeout_s: float) -> ClusterState:
        self.version += 1
        version, problem = self.version, self.problem
        await self.gate.wait()
        if problem is not None:
            raise problem
        return ClusterState(version=version, cluster_id="c", shards=(), collections={})

    async def change_aliases(self, actions: Any) -> ClusterState:
        await self.gate.wait()
        raise AssertionError


async def started(work: Any) -> asyncio.Task[None]:
    """A task that has come as far as it can."""
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.sleep(0)
    return task


def test_those_who_wait_share_a_question_that_was_asked_after_they_came() -> None:
    async def story() -> None:
        control, taken = Control(), list[int]()
        calls = CatalogueCalls(control, lambda state: taken.append(state.version))  # type: ignore[arg-type]
        first = await started(calls.refresh())
        others = [await started(calls.refresh()) for _ in range(50)]
        assert control.version == 1
        control.gate.set()
        await asyncio.gather(first, *others)
        assert taken == [1, 2]
        await calls.refresh()
        assert taken == [1, 2, 3]

    asyncio.run(story())


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_question_that_failed_is_asked_again_by_the_next(cancelled: bool) -> None:
    async def story() -> None:
        control, taken = Control(), list[int]()
        calls = CatalogueCalls(control, lambda state: taken.append(state.version))  # type: ignore[arg-type]
        running = await started(calls.refresh())
        control.problem = None if cancelled else Unavailable("away")
        failing = await started(calls.refresh())
        waiting = await started(calls.refresh())
        if cancelled:
            failing.cancel()
        control.gate.set()
        await running
        with pytest.raises(asyncio.CancelledError if cancelled else Unavailable):
            await failing
        if cancelled:
            await waiting
            assert taken == [1, 2]
        else:
            with pytest.raises(Unavailable):
                await waiting
            control.problem = None
            await calls.refresh()
            assert taken == [1, 4]

    asyncio.run(story())


def test_a_change_has_a_deadline() -> None:
    async def story() -> None:
        calls = CatalogueCalls(Control(), lambda state: None)  # type: ignore[arg-type]
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            await calls.change_aliases([], 0.01)

    asyncio.run(story())
