"""Enacts a Gather's commands on the loop: sends through the shard clients, sets timers, and hands over the outcome.

One future a request and no task a shard: answers come in by callbacks. Whatever is still open when the request is over, or
when whoever waits for it goes away (a client that closed its connection), is called off, and the shards are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from cluster.gather import NO_LATENCIES, Cancel, Commands, Complete, Gather, Outcome, Policy, Send
from cluster.gather_counts import GatherCounts
from cluster.hedging import Hedging
from cluster.latency import Latency
from cluster.search_times import FanOutTimes
from cluster.shard_client import ShardClient
from shards.errors import ShardUnavailable, ShoalError
from shards.wire import Frame, Kind

Clients = Mapping[int, ShardClient]
"""By shard id."""


class ShardRequest(NamedTuple):
    """What to send, the bodies by shard, and how to read an answer. `times`: filled where it is given."""

    kind: Kind
    bodies: Mapping[int, list[Any]]
    decode: Callable[[memoryview], Any]
    times: FanOutTimes | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What requests of a kind have in common: see Gather. `others`: where shards have several replicas, the clients of those
    from number 1 on.
    """

    policy: Policy = field(default_factory=Policy)
    counts: GatherCounts = field(default_factory=GatherCounts)
    latencies: Mapping[int, Latency] = field(default_factory=lambda: NO_LATENCIES)
    hedging: Hedging | None = None
    others: Mapping[int, Sequence[ShardClient]] = field(default_factory=dict)


async def fan_out(clients: Clients, request: ShardRequest, deadline_s: float, terms: Terms) -> Outcome:
    """Send each shard its body and gather the answers until the deadline."""
    running = _FanOut(clients, request, deadline_s, terms)
    try:
        return await running.done
    finally:
        running.clean_up()


class _FanOut:
    __slots__ = ("_clients", "_deadline_at", "_gather", "_loop", "_request", "_sent", "_terms", "_timers", "done")

    def __init__(self, clients: Clients, request: ShardRequest, deadline_s: float, terms: Terms) -> None:
        self._loop = asyncio.get_running_loop()
        self._clients = clients
        self._request = request
        self._terms = terms
        now = monotonic()  # the loop's own clock has whole milliseconds
        self._deadline_at = now + deadline_s
        self._gather = Gather(
            request.bodies, now, self._deadline_at, terms.policy, terms.counts, terms.latencies, terms.hedging
        )
        self._sent: list[tuple[Send, ShardClient, int]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self.done: asyncio.Future[Outcome] = self._loop.create_future()
        self._enact(self._gather.start())
        if request.times is not None:
            request.times.sent = perf_counter()

    def clean_up(self) -> None:
        """Call off whatever is still open."""
        for timer in self._timers:
            timer.cancel()
        if not self._gather.is_whole:
            for _, client, request_id in self._sent:
                self._terms.counts.cancels_sent += client.cancel(request_id)

    def _enact(self, commands: Commands) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._send(command)
            elif isinstance(command, Complete):
                if not self.done.done():
                    self.done.set_result(command.outcome)
            elif isinstance(command, Cancel):
                self._cancel(command)
            else:
                wait_s = max(0.0, command.at - monotonic())
                self._timers.append(self._loop.call_later(wait_s, self._on_timer, command.at))

    def _send(self, send: Send) -> None:
        on_answer = partial(self._on_answer, send)
        shard_id, replica = send
        client = self._terms.others[shard_id][replica - 1] if replica else self._clients.get(shard_id)
        if client is None:
            error = ShardUnavailable(f"shard {shard_id} is not known to this router yet")
            self._loop.call_soon(on_answer, error)
            return
        remaining_s = max(0.001, self._deadline_at - monotonic())
        request = self._request
        request_id = client.request(request.kind, request.bodies[shard_id], on_answer, remaining_s)
        self._sent.append((send, client, request_id))

    def _cancel(self, cancel: Cancel) -> None:
        for send, client, request_id in self._sent:
            # Of a replica that was asked twice, the earlier request has failed and is not open any more.
            if (send.shard_id, send.replica) == cancel:
                self._terms.counts.cancels_sent += client.cancel(request_id)

    def _on_answer(self, send: Send, got: Frame | ShoalError) -> None:
        shard_id, replica = send
        now = monotonic()
        if not isinstance(got, ShoalError):
            try:
                decoded = self._request.decode(got.body)
                if self._request.times is not None:
                    self._request.times.shards.append((shard_id, perf_counter()))
                self._enact(self._gather.on_reply(shard_id, decoded, now, replica))
                return
            except ShoalError as error:
                got = error
        self._enact(self._gather.on_failure(shard_id, got, now, replica))

    def _on_timer(self, due_at: float) -> None:
        # Timers have whole milliseconds, so one may come a little before its time.
        self._enact(self._gather.on_timer(max(due_at, monotonic())))
