"""A shard's breaker on a real connection: a shard that falls silent, one that hangs up, and one that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from cluster import shard_guard
from cluster.breaker import BreakerRules, BreakerState
from cluster.fan_out import ShardRequest, Terms, fan_out
from cluster.gather import Policy
from cluster.shard_client import ShardClient
from cluster.shard_guard import ShardGuard
from deployments.ports import free_port_block
from shards import server
from shards.errors import BreakerOpen, Internal, InvalidRequest, ShardUnavailable, ShoalError
from shards.wire import Frame, Kind

SECRET = b"a secret of the tests"
DEADLINE_S = 20.0
RULES = BreakerRules(wait_s=0.02, healthy_s_min=0.02)


class FakeService:
    """Answers as it is told: pongs, nothing, or an error."""

    name = b'{"shard_id": 0, "cluster_id": "cluster"}'

    def __init__(self) -> None:
        self.is_silent = False
        self.error: ShoalError | None = None
        self.asked: list[Kind] = []

    def handle(self, frames: list[Frame], connection: server.ShardConnection) -> None:
        for frame in frames:
            self.asked.append(frame.kind)
            if self.is_silent:
                continue
            if self.error is not None and frame.kind is not Kind.PING:
                connection.fail(frame.request_id, self.error)
            else:
                connection.answer(Kind.PONG, frame.request_id, [])


Scenario = Callable[[ShardClient, FakeService], Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """The scenario with a shard that is a FakeService behind a real socket, and a breaker that is quick."""
    monkeypatch.setattr(shard_guard, "PROBE_S", 0.02)

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            service = FakeService()
            loop = asyncio.get_running_loop()
            listening = await loop.create_server(
                lambda: server.ShardConnection(service, SECRET, 1 << 20, lambda _: None), "127.0.0.1", 0
            )
            client = ShardClient(0, "cluster", SECRET)
            client.guard = ShardGuard(client, "shard 0", RULES)
            client.retarget(listening.sockets[0].getsockname(), "first")
            async with asyncio.timeout(DEADLINE_S):
                await scenario(client, service)
            client.close()
            listening.close()

        uvloop.run(main())

    return run_scenario


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what it waits for has no event
        await asyncio.sleep(0.002)


def test_a_silent_shard_is_given_up_and_asked_again_when_probes_are_healthy(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        await client.call(Kind.COUNT, [], DEADLINE_S)
        service.is_silent = True
        with pytest.raises(ShardUnavailable, match="shard 0 is silent: 5 calls in a row"):
            await client.call(Kind.COUNT, [], DEADLINE_S)
        assert client.guard.budget_factor == 0.5
        asked = service.asked.count(Kind.COUNT)
        with pytest.raises(BreakerOpen, match="shard 0 is left alone, because 5 calls in a row") as refused:
            await client.call(Kind.COUNT, [], DEADLINE_S)
        assert refused.value.retry_after_s is not None
        assert service.asked.count(Kind.COUNT) == asked, "what is refused is not sent"
        service.is_silent = False
        await until(lambda: client.guard.is_closed)
        await client.call(Kind.COUNT, [], DEADLINE_S)
        assert client.guard.status().opened_count == 1

    run(scenario)


def test_a_busy_shard_that_answers_others_is_not_silent(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        service.is_silent = True
        waiting = asyncio.create_task(client.call(Kind.COUNT, [], DEADLINE_S))
        await until(lambda: Kind.COUNT in service.asked)
        service.is_silent = False  # pings are answered, the search is not
        await until(lambda: service.asked.count(Kind.PING) >= 10)
        assert client.guard.is_closed
        waiting.cancel()

    run(scenario)


def test_a_search_fails_at_once_where_the_breaker_is_open(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        service.is_silent = True
        request = ShardRequest(Kind.COUNT, {0: []}, bytes)
        outcome = await fan_out({0: client}, request, DEADLINE_S, Terms(Policy(DEADLINE_S)))
        assert isinstance(outcome.failures[0], BreakerOpen), "the retry met the open breaker"

    run(scenario)


def test_only_our_own_mistakes_count_of_what_a_shard_answers(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        service.error = InvalidRequest("your mistake")
        for _ in range(100):
            with pytest.raises(InvalidRequest):
                await client.call(Kind.COUNT, [], DEADLINE_S)
        assert client.guard.status().failed_fraction == 0.0
        service.error = Internal("ours")
        for _ in range(25):
            assert client.guard.is_closed
            with pytest.raises(Internal):
                await client.call(Kind.COUNT, [], DEADLINE_S)
        assert client.guard.status().reason == "25 of 125 calls failed within 30 s (ours)"

    run(scenario)


def test_a_request_that_was_given_little_time_shows_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        service.is_silent = True
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await client.call(Kind.COUNT, [], 0.001)
        assert client.guard.status()[:2] == (BreakerState.CLOSED, 0)

    run(scenario)


def test_late_answers_open_it(run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        monkeypatch.setattr("cluster.shard_client.TIMEOUT_COUNTS_S", 0.001)
        monkeypatch.setattr(shard_guard, "PROBE_S", DEADLINE_S)
        service.is_silent = True
        request = ShardRequest(Kind.COUNT, {0: []}, bytes)
        for count in range(5):
            assert client.guard.status().timeouts_in_row == count
            await fan_out({0: client}, request, 0.01, Terms(Policy(1.0)))
        assert not client.guard.is_closed

    run(scenario)


def test_slow_queries_that_end_together_show_nothing_where_others_are_answered(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        monkeypatch.setattr("cluster.shard_client.TIMEOUT_COUNTS_S", 0.001)
        monkeypatch.setattr(shard_guard, "PROBE_S", DEADLINE_S)
        service.is_silent = True
        slow = [asyncio.create_task(client.call(Kind.SEARCH, [], 0.2)) for _ in range(30)]
        await until(lambda: service.asked.count(Kind.SEARCH) == 30)
        await asyncio.sleep(2 * shard_guard.TIMER_ERROR_S)
        service.is_silent = False
        await client.call(Kind.COUNT, [], DEADLINE_S)
        service.is_silent = True
        for late in await asyncio.gather(*slow, return_exceptions=True):
            assert isinstance(late, TimeoutError)
        assert client.guard.status()[:3] == (BreakerState.CLOSED, 0, 0.0)

    run(scenario)


class FakeClient:
    """A connection that always has a request open; PINGs are kept, to be answered or not."""

    is_running = True
    open_count = 1
    progress = (0, 0)

    def __init__(self) -> None:
        self.pings: list[Callable[[Frame | ShoalError], None]] = []
        self.given_up: list[ShoalError] = []

    def send(
        self, kind: Kind, parts: list[Any], done: Callable[[Frame | ShoalError], None], deadline_s: float = 0.0
    ) -> int:
        self.pings.append(done)
        return 1

    def cancel(self, request_id: int) -> bool:
        return True

    def give_up(self, error: ShoalError) -> None:
        self.given_up.append(error)


@pytest.mark.parametrize("closes_by", ["probes", "reset"])
def test_a_shard_that_has_requests_as_its_breaker_closes_is_watched_again(
    closes_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        client = FakeClient()
        guard = ShardGuard(client, "shard 0", RULES)
        for _ in range(RULES.calls_min):
            guard.on_lost(ShardUnavailable("lost"))
        assert not guard.is_closed
        if closes_by == "reset":
            guard.reset()
        while not guard.is_closed:
            await until(lambda: bool(client.pings))
            client.pings.pop()(Frame(Kind.PONG, 0, 0, memoryview(b"")))
        await until(lambda: bool(client.given_up))  # now it hangs
        assert "is silent" in client.given_up[0].message
        guard._stop()

    monkeypatch.setattr(shard_guard, "PROBE_S", 0.02)

    async def main() -> None:
        async with asyncio.timeout(5.0):
            await scenario()

    uvloop.run(main())


def test_a_restarted_shard_has_a_clean_record(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        service.is_silent = True
        with pytest.raises(ShardUnavailable):
            await client.call(Kind.COUNT, [], DEADLINE_S)
        assert not client.guard.is_closed
        service.is_silent = False
        address = client._address
        client.retarget(None, "")
        assert client.guard.is_closed
        with pytest.raises(ShardUnavailable, match="not running"):
            await client.call(Kind.COUNT, [], DEADLINE_S)
        client.retarget(address, "second")
        assert (await client.call(Kind.COUNT, [], DEADLINE_S)).kind is Kind.PONG

    run(scenario)


def test_where_nobody_listens_it_opens_and_is_probed(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: ShardClient, service: FakeService) -> None:
        client.retarget(("127.0.0.1", free_port_block(1).start), "gone")
        for _ in range(RULES.calls_min):
            assert client.guard.is_closed
            with pytest.raises(ShardUnavailable, match="connecting failed"):
                await client.call(Kind.COUNT, [], DEADLINE_S)
        with pytest.raises(ShardUnavailable, match="20 of 20 calls failed") as refused:
            await client.call(Kind.COUNT, [], DEADLINE_S)
        assert not isinstance(refused.value, BreakerOpen), "whoever asks may wait for it, as for one that restarts"
        await until(lambda: client.guard.status().state is BreakerState.HALF_OPEN)

    run(scenario)
