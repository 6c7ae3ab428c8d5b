"""The result cache over shards that are a number each: what is searched, what is not, and that no answer is ever older than
its request.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from cluster.scope import Scope
from deployments.cache_question import Answer, BatchAnswer
from deployments.cache_settings import CacheSettings
from deployments.result_cache import ResultCache
from shards.errors import DeadlineExceeded, ShardUnavailable
from tests.unit.deployments.shards_with_stamps import (
    DEADLINE_S,
    NumberShards,
    arrival,
    batch_query,
    question,
    searching,
)

Steps = Callable[[NumberShards, ResultCache], Awaitable[Any]]
FRESH = b'{"coverage":1.0}'


def run(steps: Steps, settings: CacheSettings | None = None, shard_count: int = 3) -> None:
    async def whole() -> None:
        shards = NumberShards(shard_count)
        await asyncio.wait_for(steps(shards, ResultCache(shards, settings or CacheSettings())), 30)

    asyncio.run(whole())


async def ask(shards: NumberShards, cache: ResultCache, body: bytes = b"1", **more: object) -> Answer:
    return await cache.answer(arrival(shards, body, **more), lambda: question(body))


async def ask_all(
    shards: NumberShards, cache: ResultCache, *bodies: bytes, narrow_ef: int | None = None, **more: object
) -> BatchAnswer:
    search = searching(shards, bodies, narrow_ef)
    return await cache.answer_all(arrival(shards, **more), [batch_query(body) for body in bodies], search, DEADLINE_S)


def said(answer: Answer) -> dict[str, Any]:
    return orjson.loads(answer.shoal)  # type: ignore[no-any-return]


def test_a_repeated_question_is_searched_once_and_checked_each_time() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        first = await ask(shards, cache)
        assert first == (b"[0,0,0]", FRESH, None)
        for number in range(1, 4):
            again = await ask(shards, cache)
            assert again.points == first.points
            assert said(again) == {"coverage": 1.0, "cached": "l1", "generation": {"0": 0, "1": 0, "2": 0}}
            assert shards.probes == number
        assert shards.searches == [(0, 1, 2)]
        assert (cache.counts.misses, cache.counts.hits_l1, cache.counts.validated) == (1, 3, 3)
        assert cache.counts.cross_shard == 4

    run(steps)


def test_a_body_that_is_known_is_not_read() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache, b"1")
        await ask(shards, cache, b" 1")  # the same question, spelt otherwise
        for body in (b"1", b" 1"):
            answer = await cache.answer(arrival(shards, body), lambda: pytest.fail("it was read"))
            assert said(answer)["cached"] == "l1"
        assert len(shards.searches) == 1

    run(steps)


def test_what_an_answer_depends_on_is_part_of_its_key() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        for number, more in enumerate(({"tenants": ("a",)}, {"tenants": ("b",)}, {"tenants": ("a", "b")}), 2):
            await ask(shards, cache, **more)
            assert len(shards.searches) == number
        await ask(shards, cache, b"2")
        shards.state = shards.state.model_copy(update={"uid": "cd" * 16})
        await ask(shards, cache)
        assert len(shards.searches) == 6

    run(steps)


def test_a_search_is_held_to_what_its_answer_is_kept_for() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        for tenants in ((), ("a",)):
            await ask(shards, cache, tenants=tenants)
            await shards.write(1)
            await ask(shards, cache, tenants=tenants)
            assert shards.scopes[-2:] == [Scope("c", shards.state.uid, tenants)] * 2
        assert shards.searches == [(0, 1, 2), (1,)] * 2

    run(steps)


def test_only_what_moved_is_searched_again() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        await shards.write(1)
        again = await ask(shards, cache)
        assert again.points == b"[0,1,0]"
        assert said(again)["cached"] == "shard"
        assert shards.searches == [(0, 1, 2), (1,)]
        assert said(await ask(shards, cache))["cached"] == "l1"
        for shard in range(3):
            await shards.write(shard)
        assert (await ask(shards, cache)) == (b"[1,2,1]", FRESH, None)
        assert shards.searches[2:] == [(0, 1, 2)]
        assert (cache.counts.hits_shard, cache.counts.moved_shards) == (1, 1)

    run(steps)


def test_one_shard_needs_no_parts() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        assert said(await ask(shards, cache))["cached"] == "l1"
        await shards.write(0)
        assert await ask(shards, cache) == (b"[1]", FRESH, None)
        assert cache.counts.cross_shard == 0

    run(steps, shard_count=1)


def test_a_silent_or_restarted_shard_is_searched() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        shards.restart(2)
        assert said(await ask(shards, cache))["cached"] == "shard"
        shards.silent = {0}
        assert said(await ask(shards, cache))["cached"] == "shard"
        assert shards.searches[1:] == [(2,), (0,)]

    run(steps)


def test_no_cache_is_searched_and_kept() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        for value in (b"no-cache", b"max-age=0, No-Cache"):
            assert (await ask(shards, cache, headers=[(b"Cache-Control", value)])).shoal == FRESH
        assert len(shards.searches) == 3
        assert said(await ask(shards, cache))["cached"] == "l1"
        assert cache.counts.bypassed == 2

    run(steps)


def test_staleness_is_off_then_bounded_and_told() -> None:
    header = [(b"shoal-cache-staleness-ms", b"999999")]

    async def never(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        await ask(shards, cache, headers=header)
        assert shards.probes == 1

    async def by_header(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        await shards.write(0)
        stale = await ask(shards, cache, headers=header)
        assert stale.points == b"[0,0,0]"
        assert 0 <= said(stale)["stale_ms"] <= 60_000
        assert shards.probes == 0
        assert (await ask(shards, cache)).points == b"[1,0,0]"
        assert "stale_ms" not in said(await ask(shards, cache))

    run(never)
    run(by_header, CacheSettings(staleness_ms_max=60_000))


async def held_back(shards: NumberShards) -> asyncio.Event:
    """From now on searches wait for the event."""
    may_go = asyncio.Event()
    real = shards.search

    async def search(*args: Any) -> Any:
        answer = await real(*args)
        await may_go.wait()
        return answer

    shards.search = search  # type: ignore[method-assign]
    return may_go


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_same_question_at_once_is_searched_once() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        asking = [asyncio.create_task(ask(shards, cache)) for _ in range(20)]
        await settle()
        asking[0].cancel()
        may_go.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert {answer.points for answer in answers[1:]} == {b"[0,0,0]"}  # type: ignore[union-attr]
        assert len(shards.searches) == 2, "whoever searched went away; the next one did it for all"

    run(steps)


def test_who_comes_after_a_write_does_not_get_the_answer_of_a_search_from_before() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        early = asyncio.create_task(ask(shards, cache))
        await settle()
        await shards.write(0)
        late = asyncio.create_task(ask(shards, cache))
        await settle()
        may_go.set()
        assert (await early).points == b"[0,0,0]"
        assert (await late).points == b"[1,0,0]"

    run(steps)


def test_a_search_of_the_moved_shards_vouches_for_nothing_that_was_probed_before_it() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache)
        await shards.write(1)
        told: list[asyncio.Event] = []
        real = shards.stamps

        def stamps(scope: Any) -> Any:
            """Look at once, tell when the test says so."""
            told.append(asyncio.Event())
            return asyncio.ensure_future(tell(real(scope), told[-1]))

        async def tell(looked: Any, may_tell: asyncio.Event) -> Any:
            found = await looked
            await may_tell.wait()
            return found

        shards.stamps = stamps  # type: ignore[method-assign]
        first = asyncio.create_task(ask(shards, cache))
        await settle()
        await shards.write(0)
        second = asyncio.create_task(ask(shards, cache))
        await settle()
        assert len(told) == 2
        told[0].set()
        shards.turns = lambda: 20
        await settle()
        assert shards.searches[1:] == [(1,)], "the first one searches what it knows to have moved"
        told[1].set()
        while len(told) == 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        told[2].set()
        assert (await first).points == b"[0,1,0]"
        assert (await second).points == b"[1,1,0]"

    run(steps)


def test_a_failure_is_not_kept_and_not_shared() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        shards.problem = ShardUnavailable("shard 1 is away")
        outcomes = await asyncio.gather(*(ask(shards, cache) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(outcome, ShardUnavailable) for outcome in outcomes)
        shards.problem = None
        assert await ask(shards, cache) == (b"[0,0,0]", FRESH, None)

    run(steps)


def test_who_waits_for_another_waits_no_longer_than_its_own_deadline() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await held_back(shards)
        searching = asyncio.create_task(ask(shards, cache))
        await settle()
        with pytest.raises(DeadlineExceeded, match=r"asked before, did not come within 0\.05 s"):
            await cache.answer(arrival(shards), lambda: question(deadline_s=0.05))
        searching.cancel()

    run(steps)


def test_the_bound_holds_and_dropped_answers_are_gone() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        for number in range(200):
            await ask(shards, cache, b"%d" % number)
            assert cache.counts.l1_bytes <= 50_000
        assert cache.counts.evictions + cache.counts.refused >= 150
        held = cache.counts.l1_entries
        assert 10 < held < 50
        assert await cache.clear(None, None) == (held, None)
        assert cache.counts.l1_entries == cache.counts.l1_bytes == 0
        assert len(cache._level_one._keys) == 0

    run(steps, CacheSettings(l1_bytes=50_000))


def test_a_batch_and_single_questions_share_what_is_kept() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache, b"1")
        first = await ask_all(shards, cache, b"1", b"2", b"3", b"2")
        assert (first.points, first.kept_count, first.stale_s) == ([b"[0,0,0]"] * 4, 1, None)
        assert len(first.searched) == 2
        assert shards.probes == 1
        assert said(await ask(shards, cache, b"3"))["cached"] == "l1"
        again = await ask_all(shards, cache, b"3", b"2", b"1")
        assert (again.searched, again.kept_count) == ([], 3)
        assert shards.probes == 3, "one for all of a batch"
        counts = cache.counts
        assert (counts.misses, counts.hits_l1, counts.shared_searches, counts.lookups) == (3, 6, 1, 9)
        assert (counts.validated, counts.cross_shard) == (5, 9)

    run(steps)


def test_what_moved_is_searched_anew_in_a_batch() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask_all(shards, cache, b"1", b"2")
        await shards.write(1)
        after = await ask_all(shards, cache, b"1", b"3")
        assert (after.points, after.kept_count) == ([b"[0,1,0]"] * 2, 0)
        assert said(await ask(shards, cache, b"1"))["cached"] == "l1"
        shards.silent.add(0)
        assert (await ask_all(shards, cache, b"1")).kept_count == 0

    run(steps)


def test_a_batch_says_how_old_its_oldest_unchecked_answer_is() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask_all(shards, cache, b"1")
        await asyncio.sleep(0.02)
        await ask_all(shards, cache, b"2")
        await shards.write(0)
        old = await ask_all(shards, cache, b"1", b"2", b"3")
        assert old.points == [b"[0,0,0]", b"[0,0,0]", b"[1,0,0]"]
        assert old.stale_s is not None
        assert 0.02 <= old.stale_s < DEADLINE_S
        assert shards.probes == 0
        assert cache.counts.unvalidated == 2
        fresh = await ask_all(shards, cache, b"1", headers=[(b"cache-control", b"no-cache")])
        assert (fresh.points, fresh.kept_count) == ([b"[1,0,0]"], 0)
        assert cache.counts.bypassed == 1
        await ask_all(shards, cache, b"1", b"1", headers=[(b"cache-control", b"no-store")])
        assert (cache.counts.bypassed, cache.counts.hits_l1) == (3, 2)

    run(steps, CacheSettings(staleness_ms=60_000, staleness_ms_max=60_000))


def test_less_width_and_failures_are_not_kept_of_a_batch() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask_all(shards, cache, b"1", narrow_ef=20)
        assert (await ask_all(shards, cache, b"1")).kept_count == 0
        shards.problem = ShardUnavailable("away")
        with pytest.raises(ShardUnavailable):
            await ask_all(shards, cache, b"1", b"2")
        shards.problem = None
        assert (await ask_all(shards, cache, b"1", b"2")).kept_count == 1
        other = await ask_all(shards, cache, b"1", b"2", tenants=("a",))
        assert other.kept_count == 0

    run(steps)


class Story:
    """Two routers, writers, restarts, silence, failures, and searches of less width, as a seed has it."""

    def __init__(self, seed: int, settings: CacheSettings) -> None:
        self.rng = random.Random(seed)
        self.shards = NumberShards(self.rng.choice((1, 2, 3)), lambda: self.rng.choice((0, 0, 1, 2, 5)))
        self.caches = [ResultCache(self.shards, settings) for _ in range(2)]
        self.wrong: list[str] = []
        self.answered = 0

    async def run(self, steps: int) -> None:
        open_: set[asyncio.Task[None]] = set()
        for _ in range(steps):
            task = asyncio.create_task(self._step())
            open_.add(task)
            task.add_done_callback(open_.discard)
            for _ in range(self.rng.choice((0, 1, 2, 4))):
                await asyncio.sleep(0)
        while open_:
            await asyncio.wait(open_)

    async def _step(self) -> None:
        rng, shards = self.rng, self.shards
        shard = rng.randrange(len(shards.numbers))
        match rng.choices(("ask", "write", "restart", "silence", "fail", "go"), (60, 25, 2, 3, 1, 6))[0]:
            case "ask" if rng.random() < 0.3:
                await self._ask_all(rng.choice(self.caches), [b"%d" % rng.randrange(4) for _ in range(3)])
            case "ask":
                await self._ask(rng.choice(self.caches), b"%d" % rng.randrange(3))
            case "write":
                await shards.write(shard)
            case "restart":
                shards.restart(shard)
            case "silence":
                shards.silent.add(shard)
            case "fail":
                shards.problem = ShardUnavailable("away")
            case _:
                shards.problem = None
                shards.silent.clear()

    async def _ask(self, cache: ResultCache, body: bytes) -> None:
        known = list(self.shards.acknowledged)
        headers = [(b"cache-control", b"no-cache")] if self.rng.random() < 0.1 else []
        narrow_ef = 48 if self.rng.random() < 0.2 else None
        about = arrival(self.shards, body, headers=headers)
        asking = asyncio.create_task(cache.answer(about, lambda: question(body, narrow_ef=narrow_ef)))
        if self.rng.random() < 0.05:
            await asyncio.sleep(0)
            asking.cancel()
        try:
            answer = await asking
        except (ShardUnavailable, asyncio.CancelledError):
            return
        self.answered += 1
        if narrow_ef is None and b"degraded" in answer.shoal:
            self.wrong.append(f"less width for who asked for all: {answer.shoal!r}")
        self._compare(answer.points, known, answer.shoal)

    async def _ask_all(self, cache: ResultCache, bodies: list[bytes]) -> None:
        known = list(self.shards.acknowledged)
        headers = [(b"cache-control", b"no-cache")] if self.rng.random() < 0.1 else []
        narrow_ef = 48 if self.rng.random() < 0.2 else None
        try:
            answer = await ask_all(self.shards, cache, *bodies, narrow_ef=narrow_ef, headers=headers)
        except ShardUnavailable:
            return
        self.answered += 1
        for points in answer.points:
            self._compare(points, known, b"%d kept" % answer.kept_count)

    def _compare(self, points: bytes, known: list[int], words: bytes) -> None:
        numbers = orjson.loads(points)
        if any(number < least for number, least in zip(numbers, known, strict=True)):
            self.wrong.append(f"{numbers} after {known} were acknowledged, {words!r}")


@pytest.mark.parametrize("bytes_max", [6_000, 10**6])
def test_no_answer_is_older_than_its_request_whatever_happens_between(bytes_max: int) -> None:
    hits = 0
    for seed in range(40):
        story = Story(seed, CacheSettings(l1_bytes=bytes_max))
        asyncio.run(asyncio.wait_for(story.run(150), 60))
        assert not story.wrong, (seed, story.wrong)
        hits += sum(cache.counts.hits_l1 + cache.counts.hits_shard for cache in story.caches)
    assert hits > 500
