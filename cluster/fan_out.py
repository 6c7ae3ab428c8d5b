"""Enacts a Gather's commands on the loop: sends through the shard clients, sets timers, and hands over the outcome.

One future a request and no task a shard: answers come in by callbacks. Cancelling whoever waits (a client that went
away) cancels what is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from cluster.gather import Commands, Complete, Gather, Outcome, Send
from cluster.search_times import FanOutTimes
from cluster.shard_client import ShardClient
from shards.errors import ShardUnavailable, ShoalError
from shards.wire import Frame, Kind


class ShardRequest(NamedTuple):
    """What to send, the bodies by shard, and how to read an answer. `times`: filled where it is given."""

    kind: Kind
    bodies: Mapping[int, list[Any]]
    decode: Callable[[memoryview], Any]
    times: FanOutTimes | None = None


async def fan_out(
    clients: Mapping[int, ShardClient], request: ShardRequest, deadline_s: float, patience_s: float
) -> Outcome:
    """Send each shard its body and gather the answers until the deadline."""
    running = _FanOut(clients, request, deadline_s, patience_s)
    try:
        return await running.done
    finally:
        running.clean_up()


class _FanOut:
    def __init__(
        self, clients: Mapping[int, ShardClient], request: ShardRequest, deadline_s: float, patience_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clients = clients
        self._request = request
        now = self._loop.time()
        self._deadline_at = now + deadline_s
        self._gather = Gather(request.bodies, now, self._deadline_at, patience_s)
        self._sent: list[tuple[ShardClient, int]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self.done: asyncio.Future[Outcome] = self._loop.create_future()
        self._enact(self._gather.start())
        if request.times is not None:
            request.times.sent = perf_counter()

    def clean_up(self) -> None:
        """Forget whatever is still open."""
        for timer in self._timers:
            timer.cancel()
        for client, request_id in self._sent:
            client.cancel(request_id)

    def _enact(self, commands: Commands) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._send(command.shard_id)
            elif isinstance(command, Complete):
                if not self.done.done():
                    self.done.set_result(command.outcome)
            else:
                self._timers.append(self._loop.call_at(command.at, self._on_timer, command.at))

    def _send(self, shard_id: int) -> None:
        on_answer = partial(self._on_answer, shard_id)
        client = self._clients.get(shard_id)
        if client is None:
            error = ShardUnavailable(f"shard {shard_id} is not known to this router yet")
            self._loop.call_soon(on_answer, error)
            return
        remaining_s = max(0.001, self._deadline_at - self._loop.time())
        request = self._request
        self._sent.append((client, client.request(request.kind, request.bodies[shard_id], on_answer, remaining_s)))

    def _on_answer(self, shard_id: int, got: Frame | ShoalError) -> None:
        if not isinstance(got, ShoalError):
            try:
                decoded = self._request.decode(got.body)
                if self._request.times is not None:
                    self._request.times.shards.append((shard_id, perf_counter()))
                self._enact(self._gather.on_reply(shard_id, decoded))
                return
            except ShoalError as error:
                got = error
        self._enact(self._gather.on_failure(shard_id, got, self._loop.time()))

    def _on_timer(self, due_at: float) -> None:
        # The loop's clock has whole milliseconds, so it may say a little less than the time that it was asked to wait for.
        self._enact(self._gather.on_timer(max(due_at, self._loop.time())))
