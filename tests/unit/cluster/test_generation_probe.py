"""Who shares a probe, and what a shard that is silent, gone or odd counts as. The test answers for the shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from cluster.generation_probe import GenerationProbe
from cluster.requests import Footprint
from cluster.shard_client import Done, ShardClient
from shards.errors import ShardUnavailable
from shards.generations import NO_STAMP, Asked, Stamp, decode_asked, encode_stamps
from shards.wire import Frame, Kind

BOTH = Footprint(Asked(bytes(16), 1), (0, 1))
ONE = Footprint(Asked(bytes(16), 1, "who", (7,)), (1,))


class Shard:
    """Keeps what was asked; `done` of each frame is the test's to call."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Asked, ...], Done]] = []
        self.cancelled: list[int] = []

    def request(self, kind: Kind, parts: list[Any], done: Done, deadline_s: float) -> int:
        assert kind is Kind.GENERATIONS
        self.asked.append((decode_asked(b"".join(parts)), done))
        return len(self.asked)

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def answer(self, number: int, *stamps: Stamp) -> None:
        body = memoryview(b"".join(encode_stamps(stamps)))
        self.asked[number][1](Frame(Kind.STAMPS, 1, 0, body))


def with_shards(steps: Callable[[GenerationProbe, Shard, Shard], Awaitable[Any]]) -> None:
    async def run() -> None:
        shards = Shard(), Shard()
        probe = GenerationProbe(cast(dict[int, ShardClient], dict(enumerate(shards))))
        await asyncio.wait_for(steps(probe, *shards), 30)

    asyncio.run(run())


def test_all_who_wait_in_a_turn_share_one_frame_a_shard() -> None:
    async def steps(probe: GenerationProbe, first: Shard, second: Shard) -> None:
        waiting = [probe.ask(BOTH), probe.ask(ONE), probe.ask(BOTH)]
        await asyncio.sleep(0)
        assert [asked for asked, _ in first.asked] == [(BOTH.asked,)]
        assert [asked for asked, _ in second.asked] == [(BOTH.asked, ONE.asked)]
        second.answer(0, Stamp(1, 2), Stamp(1, 1))
        assert await waiting[1] == {1: Stamp(1, 1)}
        assert not waiting[0].done()
        first.answer(0, Stamp(5, 6))
        assert await waiting[0] == await waiting[2] == {0: Stamp(5, 6), 1: Stamp(1, 2)}
        assert probe.sent_count == 2

    with_shards(steps)


def test_who_comes_later_does_not_use_a_probe_that_is_under_way_nor_wait_for_it() -> None:
    async def steps(probe: GenerationProbe, _: Shard, second: Shard) -> None:
        early = probe.ask(ONE)
        await asyncio.sleep(0)
        late = probe.ask(ONE)
        await asyncio.sleep(0)
        assert len(second.asked) == 2
        second.answer(1, Stamp(1, 9))
        assert await late == {1: Stamp(1, 9)}
        assert not early.done()
        second.answer(0, Stamp(1, 8))
        assert await early == {1: Stamp(1, 8)}

    with_shards(steps)


def test_one_who_goes_away_takes_nobody_along() -> None:
    async def steps(probe: GenerationProbe, _: Shard, second: Shard) -> None:
        gone, waiting = probe.ask(ONE), probe.ask(ONE)
        await asyncio.sleep(0)
        gone.cancel()
        second.answer(0, Stamp(1, 2))
        assert await waiting == {1: Stamp(1, 2)}

    with_shards(steps)


def test_what_is_not_told_is_no_stamp() -> None:
    async def steps(probe: GenerationProbe, first: Shard, second: Shard) -> None:
        unknown = Footprint(ONE.asked, (7,))
        assert await probe.ask(unknown) == {7: NO_STAMP}
        lost, odd = probe.ask(BOTH), probe.ask(ONE)
        await asyncio.sleep(0)
        first.asked[0][1](ShardUnavailable("gone"))
        second.answer(0, Stamp(1, 2))  # one stamp, where two were asked for
        assert await lost == {0: NO_STAMP, 1: NO_STAMP}
        assert await odd == {1: NO_STAMP}
        second.asked.clear()
        silent = probe.ask(ONE)
        assert await silent == {1: NO_STAMP}
        assert second.cancelled == [1]

    with_shards(steps)
