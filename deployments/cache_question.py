"""What goes into the result cache and what comes out of it: a question that was read, an answer that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cluster.requests import Footprint, SearchAnswer, SearchRequest
from cluster.scope import Named
from cluster.search_times import SearchTimes
from shards.generations import Stamp


class SearchedCluster(Protocol):
    """What the cache asks of a coordinator."""

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer: ...

    async def search_moved(
        self,
        about: Named,
        request: SearchRequest,
        kept: Mapping[int, bytes],
        moved: Collection[int],
        deadline_s: float,
    ) -> SearchAnswer: ...

    def stamps(self, footprint: Footprint) -> asyncio.Future[Mapping[int, Stamp]]: ...


class Question(NamedTuple):
    """A body that was read. `request` is what was asked, and what an answer is kept for; `shown`: what of a point was asked
    for, as it stood in the JSON; `write` makes the JSON of the points that were found. `narrow`: where the router is
    short of time, makes the request that is searched in place of `request`, with less width; called for each search.
    """

    request: SearchRequest
    shown: tuple[Any, ...]
    write: Callable[[SearchAnswer], bytes]
    deadline_s: float
    narrow: Callable[[], SearchRequest] | None = None

    def searched(self) -> SearchRequest:
        """What to search now."""
        return self.request if self.narrow is None else self.narrow()


class Answer(NamedTuple):
    """JSON: the points, and what is said of them. `times`: of a search of all shards, if there was one."""

    points: bytes
    shoal: bytes
    times: SearchTimes | None = None


class BatchQuery(NamedTuple):
    """One query of a batch; `request` (with its vector alone) and `shown` as of a Question."""

    request: SearchRequest
    shown: tuple[Any, ...]


class Searched(NamedTuple):
    """What was found for one query of a batch: an answer to it alone, and the JSON of its points. `is_narrowed`: with less
    width than was asked for.
    """

    answer: SearchAnswer
    points: bytes
    is_narrowed: bool


class BatchAnswer(NamedTuple):
    """`points`: JSON, of each query; `searched`: those answers that were searched. `kept_count`: how many were kept; `stale_s`:
    how old the oldest of these is for which nobody was asked, None where there is none.
    """

    points: list[bytes]
    searched: list[Searched]
    kept_count: int = 0
    stale_s: float | None = None


SearchSome = Callable[[Sequence[int], float], Awaitable[list[Searched]]]
"""Searches for the queries with these numbers, within so many seconds; what it finds is in their order."""
