"""Natural batching: searches that ask alike and wait at the same moment leave as one.

A search goes at once where none like it is on its way. While one is, the next ones gather; they leave together when it
comes back, when they are GROUP_QUERIES_MAX, or after GROUP_WAIT_S, so that a slow shard holds nobody up. One message to
each shard, one pass over its graph and one gather then serve them all. There is no fixed delay: a lone caller waits for
nobody. One that goes away (its client closed) leaves its group, and a group that everybody has left is called off.

Lives on one loop. What a search is, and how it is carried out, is the caller's affair; two are alike when their keys
are equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

import numpy as np

from shards.batch import Vectors

GROUP_QUERIES_MAX = 4
"""Under a millisecond of a shard's work. Medians of six runs of 16 / 64 connections, beside the empty handler's rate in the
same run: groups of 1 reach 0.37 / 0.38 of it, of 4 0.39 / 0.45, of 16 0.40 / 0.45; larger groups only make the first wait.
"""
GROUP_WAIT_S = 0.01

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")
Answered = Callable[[], None]
Search = Callable[[Key, Vectors, Answered, float], Awaitable[list[Found]]]
"""Carries out a group: the key, the queries (nq, dim), what to call when the shards have answered (merging may follow), and for
how many seconds the first of them has waited. Returns what each query found.
"""


@dataclass(slots=True)
class _Group:
    """Searches that leave together, and where each one's answers go. `began_at`: a `monotonic` value; `task`: once they have
    left, what carries them out.
    """

    began_at: float
    vectors: list[Vectors] = field(default_factory=list)
    waiters: list[asyncio.Future[Any]] = field(default_factory=list)
    query_count: int = 0
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Lane:
    """All searches with one key. `under_way`: groups that the shards work on."""

    under_way: int = 0
    waiting: _Group | None = None


class SearchBatcher(Generic[Key, Found]):
    """See the module."""

    def __init__(self, search: Search[Key, Found]) -> None:
        self._search = search
        self._lanes: dict[Key, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def search(self, key: Key, vectors: Vectors) -> list[Found]:
        """What each of the queries (nq, dim) found. Raises what the search raises."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        if lane.under_way == 0 or len(vectors) >= GROUP_QUERIES_MAX:
            return await self._carry_out(key, lane, vectors, 0.0)
        group, answer = self._join(key, lane, vectors)
        try:
            return await answer
        except asyncio.CancelledError:
            self._leave(key, lane, group)
            raise

    async def _carry_out(self, key: Key, lane: _Lane, vectors: Vectors, waited_s: float) -> list[Found]:
        lane.under_way += 1
        is_answered = False

        def answered() -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                lane.under_way -= 1
                self._send_waiting(key, lane)

        try:
            return await self._search(key, vectors, answered, waited_s)
        finally:
            answered()
            self._close_if_empty(key, lane)

    def _close_if_empty(self, key: Key, lane: _Lane) -> None:
        if lane.under_way == 0 and lane.waiting is None and self._lanes.get(key) is lane:
            del self._lanes[key]

    def _join(self, key: Key, lane: _Lane, vectors: Vectors) -> tuple[_Group, asyncio.Future[list[Found]]]:
        loop = asyncio.get_running_loop()
        group = lane.waiting
        if group is None:
            group = lane.waiting = _Group(monotonic())
            group.timer = loop.call_later(GROUP_WAIT_S, self._send_waiting, key, lane)
        answer: asyncio.Future[list[Found]] = loop.create_future()
        group.vectors.append(vectors)
        group.waiters.append(answer)
        group.query_count += len(vectors)
        if group.query_count >= GROUP_QUERIES_MAX:
            self._send_waiting(key, lane)
        return group, answer

    def _leave(self, key: Key, lane: _Lane, group: _Group) -> None:
        """One of the group was cancelled: where nobody is left, so is the group."""
        if not all(waiter.done() for waiter in group.waiters):
            return
        if group.task is not None:
            group.task.cancel()
        elif lane.waiting is group:
            lane.waiting = None
            if group.timer is not None:
                group.timer.cancel()
            self._close_if_empty(key, lane)

    def _send_waiting(self, key: Key, lane: _Lane) -> None:
        group, lane.waiting = lane.waiting, None
        if group is None:
            return
        if group.timer is not None:
            group.timer.cancel()
        task = group.task = asyncio.get_running_loop().create_task(self._carry_out_group(key, lane, group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out_group(self, key: Key, lane: _Lane, group: _Group) -> None:
        try:
            waited_s = monotonic() - group.began_at
            found = await self._carry_out(key, lane, np.concatenate(group.vectors), waited_s)
        except BaseException as error:
            for waiter in group.waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            if not isinstance(error, Exception):
                raise  # nobody waits any more
            return
        start = 0
        for vectors, waiter in zip(group.vectors, group.waiters, strict=True):
            end = start + len(vectors)
            if not waiter.done():
                waiter.set_result(found[start:end])
            start = end
