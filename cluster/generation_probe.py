"""Asks shards how far their generations have moved (shards/generations.py): one frame for each shard and turn of the loop,
shared by everybody who waits in that turn.

A probe may only speak for requests that arrived before it was sent: whoever arrives later joins the next, which does not
wait for the one under way. What a shard does not tell in time counts as moved: whoever asked searches there, and learns
what is wrong with it.

Lives on a router's loop, beside the shard clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from cluster.requests import Footprint
from cluster.shard_client import ShardClient
from shards.errors import ShoalError
from shards.generations import NO_STAMP, Asked, Stamp, decode_stamps, encode_asked
from shards.wire import Frame, Kind

PATIENCE_S = 0.25
"""What a shard that is well tells in 0.1 ms. A restarting one is waited for by the search that follows."""

Stamps = Mapping[int, Stamp]


class _Round:
    """One footprint in one turn: who waits for it, and what has been told."""

    __slots__ = ("open", "stamps", "waiters")

    def __init__(self, footprint: Footprint) -> None:
        self.open = len(footprint.shard_ids)
        self.stamps: dict[int, Stamp] = {}
        self.waiters: list[asyncio.Future[Stamps]] = []

    def tell(self, shard_id: int, stamp: Stamp) -> None:
        """Take what a shard says of it; the first word of each counts."""
        if shard_id in self.stamps:
            return
        self.stamps[shard_id] = stamp
        self.open -= 1
        if not self.open:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(self.stamps)


class GenerationProbe:
    """See the module. `sent_count`: frames, so that a reader sees how many share one."""

    def __init__(self, clients: Mapping[int, ShardClient]) -> None:
        self._clients = clients
        self._turn: dict[Footprint, _Round] = {}
        self.sent_count = 0

    def ask(self, footprint: Footprint) -> asyncio.Future[Stamps]:
        """The stamps of the footprint's shards at a moment after now, NO_STAMP of those that can't be told. Never fails."""
        loop = asyncio.get_running_loop()
        if not self._turn:
            loop.call_soon(self._send)
        waiting = self._turn.get(footprint)
        if waiting is None:
            waiting = self._turn[footprint] = _Round(footprint)
        waiter: asyncio.Future[Stamps] = loop.create_future()
        waiting.waiters.append(waiter)
        return waiter

    def _send(self) -> None:
        turn, self._turn = self._turn, {}
        by_shard: dict[int, list[tuple[Asked, _Round]]] = {}
        for footprint, waiting in turn.items():
            for shard_id in footprint.shard_ids:
                by_shard.setdefault(shard_id, []).append((footprint.asked, waiting))
        for shard_id, waiting_here in by_shard.items():
            self._send_to(shard_id, waiting_here)

    def _send_to(self, shard_id: int, waiting: Sequence[tuple[Asked, _Round]]) -> None:
        loop = asyncio.get_running_loop()
        client = self._clients.get(shard_id)
        if client is None:
            loop.call_soon(_tell, shard_id, waiting, [])
            return
        body = encode_asked([asked for asked, _ in waiting])
        answer = _Answer(shard_id, waiting)
        request_id = client.request(Kind.GENERATIONS, [body], answer.take, PATIENCE_S)
        answer.timer = loop.call_later(PATIENCE_S, partial(answer.give_up, client, request_id))
        self.sent_count += 1


class _Answer:
    """One frame's answer, or the end of patience."""

    __slots__ = ("_shard_id", "_waiting", "timer")

    def __init__(self, shard_id: int, waiting: Sequence[tuple[Asked, _Round]]) -> None:
        self._shard_id = shard_id
        self._waiting = waiting
        self.timer: asyncio.TimerHandle | None = None

    def take(self, got: Frame | ShoalError) -> None:
        """What came for the frame."""
        if self.timer is not None:
            self.timer.cancel()
        stamps: list[Stamp] = []
        if not isinstance(got, ShoalError):
            try:
                stamps = decode_stamps(got.body)
            except ShoalError:
                stamps = []
        _tell(self._shard_id, self._waiting, stamps)

    def give_up(self, client: ShardClient, request_id: int) -> None:
        """Nothing came in time."""
        client.cancel(request_id)
        _tell(self._shard_id, self._waiting, [])


def _tell(shard_id: int, waiting: Sequence[tuple[Asked, _Round]], stamps: Sequence[Stamp]) -> None:
    if len(stamps) != len(waiting):
        stamps = [NO_STAMP] * len(waiting)
    for (_, one), stamp in zip(waiting, stamps, strict=True):
        one.tell(shard_id, stamp)
