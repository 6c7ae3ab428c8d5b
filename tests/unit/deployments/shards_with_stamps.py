"""Shards whose whole content is one number each, for tests of the result cache: a write counts it up, a search reads it.

Everything takes as many turns of the loop as `turns` says, so that a seed decides what happens between what. `acknowledged`
are the numbers that writers know to be there: an answer to a request that arrives now must not show less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import orjson

from cluster.requests import Footprint, Origin, QueryHits, SearchAnswer, SearchRequest
from cluster.scope import Named
from cluster.shard_map import even_map
from cluster.state import CollectionState
from deployments.cache_key import Arrival
from deployments.cache_question import BatchQuery, Question, Searched, SearchSome
from shards.distance import Distance
from shards.errors import StaleEpoch
from shards.generations import NO_STAMP, Generations, Stamp
from shards.hits import HitLists, Hits
from shards.messages import decode_hits, encode_hits
from shards.point_ids import key_array
from shards.schema import CollectionSpec, VectorSpec

DEADLINE_S = 30.0


def no_turns() -> int:
    return 0


class NumberShards:
    """What ResultCache asks of a coordinator (SearchedCluster)."""

    def __init__(self, count: int, turns: Callable[[], int] = no_turns) -> None:
        self.turns = turns
        self.numbers = [0] * count
        self.acknowledged = [0] * count
        self.lives = 0
        self.generations = [self._new_life() for _ in range(count)]
        self.silent: set[int] = set()
        self.problem: Exception | None = None
        self.searches: list[tuple[int, ...]] = []
        """The shards that each search asked."""
        self.widths: list[int | None] = []
        """The width of each search."""
        self.deadlines_s: list[float] = []
        """What each search was given."""
        self.scopes: list[Named] = []
        """What each search was held to."""
        self.probes = 0
        self.state = CollectionState(
            name="c",
            uid="ab" * 16,
            spec=CollectionSpec(vectors={"": VectorSpec(size=1, distance=Distance.EUCLID)}),
            shard_map=even_map(range(count), epoch=1),
            status="ready",
        )

    def _new_life(self) -> Generations:
        self.lives += 1
        return Generations(self.lives)

    def restart(self, shard: int) -> None:
        """It has what it had, and another life."""
        self.generations[shard] = self._new_life()

    async def write(self, shard: int) -> None:
        """Count up; known to be there when it returns."""
        await self._pass()
        self.numbers[shard] += 1
        self.generations[shard].move()
        number = self.numbers[shard]
        await self._pass()
        self.acknowledged[shard] = max(self.acknowledged[shard], number)

    async def search(self, about: Named, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        self.scopes.append(about)
        self.widths.append(request.ef)
        self.deadlines_s.append(deadline_s)
        return await self._search(range(len(self.numbers)), {})

    async def search_moved(
        self,
        about: Named,
        request: SearchRequest,
        kept: Mapping[int, bytes],
        moved: Collection[int],
        deadline_s: float,
    ) -> SearchAnswer:
        self.scopes.append(about)
        self.widths.append(request.ef)
        self.deadlines_s.append(deadline_s)
        if {*kept, *moved} != {*range(len(self.numbers))}:
            raise StaleEpoch("other shards")
        return await self._search(moved, kept)

    def stamps(self, footprint: Footprint) -> asyncio.Future[Mapping[int, Stamp]]:
        self.probes += 1
        waiting: asyncio.Future[Mapping[int, Stamp]] = asyncio.get_running_loop().create_future()

        async def tell() -> None:
            told = {}
            for shard in footprint.shard_ids:
                await self._pass()
                told[shard] = NO_STAMP if shard in self.silent else self.generations[shard].stamp
            await self._pass()
            if not waiting.done():
                waiting.set_result(told)

        waiting.task = asyncio.get_running_loop().create_task(tell())  # type: ignore[attr-defined]
        return waiting

    async def _search(self, asked: Collection[int], kept: Mapping[int, bytes]) -> SearchAnswer:
        self.searches.append(tuple(asked))
        replies: dict[int, HitLists] = {shard: decode_hits(memoryview(body)) for shard, body in kept.items()}
        for shard in asked:
            await self._pass()
            replies[shard] = self._look(shard)
        await self._pass()
        if self.problem is not None:
            raise self.problem
        hits = [replies[shard] for shard in sorted(replies)]
        merged = QueryHits(
            [one.distances[0] for one in hits], [one.keys[0] for one in hits], [one.versions[0] for one in hits]
        )
        return SearchAnswer([merged], 1.0, origins=[Origin(replies, 0)])

    def _look(self, shard: int) -> HitLists:
        found = Hits(
            np.ones(1, np.int32),
            np.full((1, 1), shard, np.float32),
            key_array([shard]).reshape(1, 1),
            np.full((1, 1), self.numbers[shard], np.uint64),
        )
        return decode_hits(memoryview(b"".join(encode_hits(found, self.generations[shard].stamp))))

    async def _pass(self) -> None:
        for _ in range(self.turns()):
            await asyncio.sleep(0)


def arrival(shards: NumberShards, body: bytes = b"1", **more: object) -> Arrival:
    return Arrival(shards.state, "query", b"", body, **more)  # type: ignore[arg-type]


def question(body: bytes = b"1", deadline_s: float = DEADLINE_S, narrow_ef: int | None = None) -> Question:
    """The body is a number: what is asked for the nearest of. The answer's points are the shards' numbers. `narrow_ef`: the
    width of a router that is short of time.
    """
    request = SearchRequest(np.array([[float(body)]], np.float32), 10)
    narrow = None if narrow_ef is None else lambda: request._replace(ef=narrow_ef)
    return Question(request, (), lambda answer: orjson.dumps([*answer.hits[0].versions]), deadline_s, narrow)


def batch_query(body: bytes) -> BatchQuery:
    """The same of a batch."""
    return BatchQuery(question(body).request, ())


def searching(shards: NumberShards, bodies: Sequence[bytes], narrow_ef: int | None = None) -> SearchSome:
    """How a batch of these bodies searches: one after the other."""

    async def search(numbers: Sequence[int], left_s: float) -> list[Searched]:
        found = []
        for number in numbers:
            asked = question(bodies[number], narrow_ef=narrow_ef)
            answer = await shards.search("c", asked.searched(), left_s)
            found.append(Searched(answer, asked.write(answer), narrow_ef is not None))
        return found

    return search
