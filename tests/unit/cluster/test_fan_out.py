"""The fan-out's timers on a real loop: a retry and a deadline come, whatever the loop's clock rounds to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop

from cluster.fan_out import Clients, ShardRequest, Terms, fan_out
from cluster.gather import Outcome, Policy
from cluster.hedging import HedgeBudget, Hedging
from cluster.latency import RENEWED_EVERY, Latency
from cluster.shard_client import Done, ShardClient
from shards.errors import DeadlineExceeded, ShardUnavailable
from shards.wire import Frame, Kind

REQUEST = ShardRequest(Kind.PING, {0: []}, bytes)
FRAME = Frame(Kind.PONG, 0, 0, memoryview(b"pong"))
START_COUNT = 60
"""Requests that start at different times: about half of the times are such that a sum of them rounds up."""


class FakeClient:
    """Answers each try with the next of `answers`; None is no answer."""

    def __init__(self, *answers: Frame | ShardUnavailable | None) -> None:
        self.answers = [*answers]
        self.cancelled: list[int] = []

    def request(self, kind: Kind, parts: list[Any], done: Done, deadline_s: float) -> int:
        answer = self.answers.pop(0)
        if answer is not None:
            asyncio.get_running_loop().call_soon(done, answer)
        return 7

    def cancel(self, request_id: int) -> bool:
        self.cancelled.append(request_id)
        return True


def staggered(make: Callable[[], FakeClient], deadline_s: float) -> list[Outcome]:
    """The outcomes of many requests, each a millisecond after the other."""

    async def run_all() -> list[Outcome]:
        tasks = []
        for _ in range(START_COUNT):
            clients = cast(Clients, {0: make()})
            tasks.append(asyncio.create_task(fan_out(clients, REQUEST, deadline_s, Terms(Policy(deadline_s)))))
            await asyncio.sleep(0.001)
        return await asyncio.gather(*tasks)

    return uvloop.run(run_all())


def test_a_shard_that_was_away_is_always_asked_again() -> None:
    outcomes = staggered(lambda: FakeClient(ShardUnavailable("away"), FRAME), deadline_s=5.0)
    assert outcomes == [Outcome({0: b"pong"}, {})] * START_COUNT


def test_the_deadline_always_comes() -> None:
    outcomes = staggered(lambda: FakeClient(None), deadline_s=0.05)
    assert all(isinstance(outcome.failures[0], DeadlineExceeded) for outcome in outcomes)


def test_cancelling_forgets_what_is_open() -> None:
    client, terms = FakeClient(None), Terms()

    async def cancel() -> None:
        task = asyncio.create_task(fan_out(cast(Clients, {0: client}), REQUEST, 5.0, terms))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    uvloop.run(cancel())
    assert client.cancelled == [7]
    assert terms.counts.cancels_sent == 1


def test_a_replica_that_hangs_is_overtaken_by_another_and_called_off() -> None:
    hanging, quick, latency = FakeClient(None), FakeClient(FRAME), Latency()
    for _ in range(RENEWED_EVERY):
        latency.observe(0.001)
    hedging, others = Hedging(2, budget=HedgeBudget(tokens=1.0)), cast(dict[int, list[ShardClient]], {0: [quick]})
    terms = Terms(latencies={0: latency}, hedging=hedging, others=others)
    outcome = uvloop.run(fan_out(cast(Clients, {0: hanging}), REQUEST, 30.0, terms))
    assert outcome == Outcome({0: b"pong"}, {})
    assert hanging.cancelled[0] == 7
    assert (terms.counts.hedges_issued, terms.counts.hedges_won) == (1, 1)
