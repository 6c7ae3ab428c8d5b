"""Reads that wait for a search thread, and what they are called off by: their caller (CANCEL), the end of its connection, or
their deadline.

Each has a ticket, which the thread looks at before it begins; what has begun ends by itself, because a pass over a graph
can't be stopped. Writes have no tickets: they are never called off. Tickets are made, and called off, on the shard's loop; a
thread only reads them, and sees one that was called off a moment before at the latest when it has begun. What was called off
lies in the threads' queue until one of them comes to it, and counts until then: the queue's limit is one on memory, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic
from typing import TypeVar

from shards.errors import DeadlineExceeded

T = TypeVar("T")


class CalledOff(Exception):
    """Nobody waits for this any more: it is not answered."""


class Ticket:
    """One request's. `query_count`: how much it weighs among what waits."""

    __slots__ = ("caller", "expires_at", "is_called_off", "is_queued", "query_count", "request_id")

    def __init__(self, caller: Hashable, request_id: int, deadline_ms: int, query_count: int) -> None:
        self.caller = caller
        self.request_id = request_id
        self.query_count = query_count
        self.expires_at = monotonic() + deadline_ms / 1000 if deadline_ms else None
        self.is_called_off = False
        self.is_queued = False

    def check(self) -> None:
        """Raises CalledOff, or DeadlineExceeded where nobody can be waiting any more."""
        if self.is_called_off:
            raise CalledOff
        if self.expires_at is not None and monotonic() >= self.expires_at:
            raise too_late()

    def run(self, read: Callable[[], T]) -> T:
        """The read's result, if it is still wanted. Raises what `check` raises."""
        self.check()
        return read()


class WaitingWork:
    """What waits now, by caller and request id. `query_count`: how many queries that are, those called off included."""

    def __init__(self) -> None:
        self.query_count = 0
        self._tickets: dict[Hashable, dict[int, Ticket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tickets.values()))

    def add(self, ticket: Ticket) -> Ticket:
        """From now on it can be called off; `remove` it when its work is done."""
        self._tickets.setdefault(ticket.caller, {})[ticket.request_id] = ticket
        self.query_count += ticket.query_count
        ticket.is_queued = True
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """It no longer waits, and no thread will come to it any more. Harmless to repeat."""
        if not ticket.is_queued:
            return
        ticket.is_queued = False
        self.query_count -= ticket.query_count
        of_caller = self._tickets.get(ticket.caller, {})
        if of_caller.get(ticket.request_id) is ticket:
            del of_caller[ticket.request_id]
            if not of_caller:
                del self._tickets[ticket.caller]

    def call_off(self, caller: Hashable, request_id: int) -> None:
        """The caller no longer waits for this request; nothing where it does not wait here."""
        ticket = self._tickets.get(caller, {}).get(request_id)
        if ticket is not None:
            ticket.is_called_off = True

    def call_off_all(self, caller: Hashable) -> None:
        """The caller has gone."""
        for ticket in self._tickets.get(caller, {}).values():
            ticket.is_called_off = True


def too_late() -> DeadlineExceeded:
    """The answer to a request whose turn came after its deadline."""
    return DeadlineExceeded("the deadline passed while the request waited for its turn on the shard")
