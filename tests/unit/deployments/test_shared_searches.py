"""One search for all who ask the same at once, also where its answer can't be kept: under load, and where it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from deployments import result_cache
from deployments.cache_deadline import TimeLeft
from deployments.cache_question import Answer
from deployments.result_cache import ResultCache
from shards.errors import DeadlineExceeded
from tests.unit.deployments.shards_with_stamps import DEADLINE_S, NumberShards, arrival, question
from tests.unit.deployments.test_result_cache import held_back, run, settle

FULL, NARROW = None, 48


async def ask(
    shards: NumberShards, cache: ResultCache, width: int | None = NARROW, body: bytes = b"1", **more: Any
) -> Answer:
    return await cache.answer(arrival(shards, body, **more), lambda: question(body, narrow_ef=width))


def said(answer: Answer) -> dict[str, Any]:
    return orjson.loads(answer.shoal)  # type: ignore[no-any-return]


def test_less_width_is_searched_once_for_all_who_ask_at_once_and_not_kept() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        asking = [asyncio.create_task(ask(shards, cache)) for _ in range(20)]
        await settle()
        may_go.set()
        answers = await asyncio.gather(*asking)
        assert {one.points for one in answers} == {b"[0,0,0]"}
        assert all(said(one)["degraded"] == ["ef"] for one in answers)
        assert shards.widths == [NARROW]
        assert (cache.counts.misses, cache.counts.hits_l1, cache.counts.l1_entries) == (1, 19, 0)
        assert "cached" not in said(await ask(shards, cache))
        assert "degraded" not in said(await ask(shards, cache, FULL))
        assert shards.widths == [NARROW, NARROW, FULL]

    run(steps)


def test_who_comes_after_a_write_does_not_get_less_width_from_before_it() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        early = asyncio.create_task(ask(shards, cache))
        await settle()
        await shards.write(0)
        late = [asyncio.create_task(ask(shards, cache)) for _ in range(20)]
        await settle()
        shards.turns = lambda: 3
        may_go.set()
        assert (await early).points == b"[0,0,0]"
        assert {one.points for one in await asyncio.gather(*late)} == {b"[1,0,0]"}
        assert len(shards.searches) == 2

    run(steps)


def test_who_gets_full_width_takes_no_less_from_others_and_the_other_way_round() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        asking = [asyncio.create_task(ask(shards, cache, width)) for width in (NARROW, FULL, FULL, NARROW)]
        await settle()
        may_go.set()
        answers = await asyncio.gather(*asking)
        assert ["degraded" in said(one) for one in answers] == [True, False, False, True]
        assert shards.widths == [NARROW, FULL]

    run(steps)


def test_what_is_kept_in_full_is_found_under_load_in_any_spelling_and_searched_where_it_moved() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache, FULL)
        for body in (b"1", b" 1", b"1.0"):
            assert said(await ask(shards, cache, body=body))["cached"] == "l1"
        assert shards.widths == [FULL]
        await shards.write(1)
        moved = await ask(shards, cache, body=b"1 ")
        assert moved.points == b"[0,1,0]"
        assert (said(moved)["cached"], said(moved)["degraded"]) == ("shard", ["ef"])
        assert shards.searches[1:] == [(1,)]
        again = said(await ask(shards, cache, FULL))
        assert again["cached"] == "shard", "the part of less width was not kept"
        assert "degraded" not in again
        assert shards.widths == [FULL, NARROW, FULL]

    run(steps)


def test_no_cache_gets_less_width_too_and_replaces_nothing() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache, FULL)
        fresh = await ask(shards, cache, headers=[(b"cache-control", b"no-cache")])
        assert said(fresh) == {"coverage": 1.0, "degraded": ["ef"]}
        assert said(await ask(shards, cache, FULL))["cached"] == "l1"

    run(steps)


def test_an_answer_that_cannot_be_kept_is_shared_all_the_same() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        shards.turns = lambda: 3
        real = shards.search

        async def refetched(*args: Any) -> Any:
            answer = await real(*args)
            return replace(answer, origins=())

        shards.search = refetched  # type: ignore[method-assign]
        asking = [asyncio.create_task(ask(shards, cache, FULL)) for _ in range(20)]
        await settle()
        may_go.set()
        assert {one.shoal for one in await asyncio.gather(*asking)} == {b'{"coverage":1.0}'}
        assert len(shards.searches) == 2, "who came when the first had begun can't check it, and shares the next"
        assert cache.counts.l1_entries == 0

    run(steps)


def test_who_runs_out_of_time_leaves_one_search_behind_not_a_herd() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        may_go = await held_back(shards)
        real, under_way, most = shards.search, 0, 0

        async def search(about: Any, request: Any, deadline_s: float) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                if deadline_s < 1.0:
                    await asyncio.sleep(0)
                    raise DeadlineExceeded("its own time is over")
                return await real(about, request, deadline_s)
            finally:
                under_way -= 1

        shards.search = search  # type: ignore[method-assign]
        short = [
            asyncio.create_task(cache.answer(arrival(shards), lambda: question(deadline_s=0.5))) for _ in range(3)
        ]
        rest = [asyncio.create_task(ask(shards, cache, FULL)) for _ in range(20)]
        late = await asyncio.gather(*short, return_exceptions=True)
        assert all(isinstance(one, DeadlineExceeded) for one in late)
        await settle()
        may_go.set()
        assert {one.points for one in await asyncio.gather(*rest)} == {b"[0,0,0]"}
        assert most == 1

    run(steps)


@pytest.mark.parametrize(
    ("left_s", "search_s"), [(30.0, 30.0), (29.99, 30.0), (29.6, 29.7), (15.0, 15.0), (0.001, 0.3), (31.0, 30.0)]
)
def test_a_search_is_given_the_whole_deadline_or_in_steps_what_is_left(left_s: float, search_s: float) -> None:
    assert TimeLeft(30.0, lambda: left_s).search_s() == pytest.approx(search_s, abs=1e-9)


def test_who_has_waited_has_less_time_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    left_s = DEADLINE_S
    monkeypatch.setattr(result_cache, "countdown", lambda _: lambda: left_s)

    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        nonlocal left_s
        may_go = await held_back(shards)
        asking = [asyncio.create_task(ask(shards, cache, width)) for width in (NARROW, FULL)]
        await settle()
        left_s = 12.0
        may_go.set()
        await asyncio.gather(*asking)
        await shards.write(1)
        left_s = 6.0
        await ask(shards, cache, FULL)
        assert shards.deadlines_s == [DEADLINE_S, 12.0, 6.0]

    run(steps)


def test_what_shards_say_of_a_kept_answer_is_waited_for_within_the_deadline() -> None:
    async def steps(shards: NumberShards, cache: ResultCache) -> None:
        await ask(shards, cache, FULL)
        shards.stamps = lambda _: asyncio.get_running_loop().create_future()  # type: ignore[method-assign]
        with pytest.raises(
            DeadlineExceeded, match=r"what the shards say of a kept answer did not come within 0\.05 s"
        ):
            await cache.answer(arrival(shards, b"1 "), lambda: question(b"1 ", deadline_s=0.05))

    run(steps)
