"""The breaker of one shard's connection: what counts as a failure, and the cheap calls that tell whether it may close.

Healthy is every answer, also one that refuses a request: the shard lives and says why. Failures are our own mistakes
(Internal), a lost or refused connection (once, however many requests were open), and a request that was late though it
had a second at least (cluster/shard_client.py) and the shard answered nothing else meanwhile: neither a caller that gives a
shard a millisecond nor one whose queries are slow, however many of them end at once, shows anything about the shard.
Callers' deadlines may be long, so a shard that has requests while no byte comes or goes for PROBE_S is sent a PING; one
that is not answered within PROBE_S is a timeout, too, and when such open the breaker, what the shard still has is given
up.

While the breaker is open, PINGs are all that is sent. Requests fail at once where the shard hangs or makes mistakes
(BreakerOpen). Where it can't be reached they are told so (ShardUnavailable), and whoever asks may wait for it as for one
that restarts, which it most likely does. A shard that was restarted begins with a clean record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from cluster.breaker import SHARD_RULES, Breaker, BreakerRules, BreakerStatus
from shards.errors import BreakerOpen, Internal, ShardUnavailable, ShoalError
from shards.wire import Frame, Kind

PROBE_S = 1.0
"""A shard that saves a graph, or has its core taken, is still for a quarter of a second."""
TIMER_ERROR_S = 0.005
"""The loop's timers may come a few milliseconds early, by its own clock."""

log = logging.getLogger(__name__)


class Guarded(Protocol):
    """What a guard needs of its connection: `cluster.shard_client.ShardClient`."""

    @property
    def is_running(self) -> bool: ...

    @property
    def open_count(self) -> int: ...

    @property
    def progress(self) -> tuple[int, int]: ...

    def send(
        self, kind: Kind, parts: list[Any], done: Callable[[Frame | ShoalError], None], deadline_s: float = 0.0
    ) -> int: ...

    def cancel(self, request_id: int) -> bool: ...

    def give_up(self, error: ShoalError) -> None: ...


class ShardGuard:
    """One for each connection, on its loop. `name` is for messages."""

    def __init__(self, client: Guarded, name: str, rules: BreakerRules = SHARD_RULES) -> None:
        self._client = client
        self._name = name
        self._breaker = Breaker(rules)
        self._is_away = False
        """Whether it was opened because the shard can't be reached."""
        self._answered_at = float("-inf")
        self._seen_progress = (-1, -1)
        self._timer: asyncio.TimerHandle | None = None
        self._probe_id: int | None = None

    @property
    def is_closed(self) -> bool:
        """Whether requests may go."""
        return self._breaker.is_closed

    @property
    def budget_factor(self) -> float:
        """What part of their retries and hedges callers keep."""
        return self._breaker.budget_factor

    def status(self) -> BreakerStatus:
        """For people and metrics."""
        return self._breaker.status(_now())

    def refusal(self) -> ShardUnavailable:
        """What a request fails with that comes while the breaker is not closed."""
        wait_s = self._breaker.retry_after_s(_now())
        kind = ShardUnavailable if self._is_away else BreakerOpen
        return kind(
            f"{self._name} is left alone, because {self._breaker.reason}; it is probed, try again in {wait_s:.1f} s",
            wait_s,
        )

    # What happens on the connection

    def on_busy(self) -> None:
        """The shard has a request, after it had none."""
        if self._timer is None:
            self._seen_progress = (-1, -1)
            self._plan(PROBE_S)

    def on_answer(self, got: Frame | ShoalError) -> None:
        """It answered."""
        self._answered_at = now = _now()
        if not self._breaker.is_closed:
            return
        if isinstance(got, Internal):
            self._breaker.on_error(now, got.message, is_answer=True)
            self._probe_if_opened()
        else:
            self._breaker.on_success(now)

    def on_timeout(self, sent_at: float) -> None:
        """It did not answer a request that had time enough. `sent_at`: when that left, by the loop's clock."""
        if self._breaker.is_closed and self._answered_at <= sent_at + TIMER_ERROR_S:
            self._breaker.on_timeout(_now())
            self._probe_if_opened()

    def on_lost(self, error: ShoalError) -> None:
        """The connection could not be made, or was lost."""
        if self._breaker.is_closed:
            self._breaker.on_error(_now(), error.message)
            self._probe_if_opened()
            self._is_away = not self._breaker.is_closed

    def reset(self) -> None:
        """Another process answers from now on, or none."""
        self._stop()
        self._breaker.reset()
        self._watch_if_busy()

    # Inside

    def _probe_if_opened(self) -> bool:
        if self._breaker.is_closed:
            return False
        log.warning("the breaker of %s opened: %s", self._name, self._breaker.reason)
        self._is_away = False
        self._stop()
        self._plan(self._breaker.next_probe_in_s(_now()))
        return True

    def _on_timer(self) -> None:
        self._timer = None
        if not self._client.is_running:
            return
        if self._breaker.is_closed:
            self._watch()
        elif self._probe_id is not None:
            self._end_probe(is_healthy=False)
        elif self._breaker.takes_probe(_now()):
            self._ping()
        else:
            self._plan(self._breaker.next_probe_in_s(_now()))

    def _watch(self) -> None:
        """While requests go: is there life?"""
        if self._probe_id is not None:
            self._forget_probe()
            self._breaker.on_timeout(_now())
            if self._probe_if_opened():
                self._client.give_up(ShardUnavailable(f"{self._name} is silent: {self._breaker.reason}"))
                return
        is_silent = self._client.progress == self._seen_progress
        self._seen_progress = self._client.progress
        if self._client.open_count:
            if is_silent:
                self._ping()
            self._plan(PROBE_S)

    def _ping(self) -> None:
        self._probe_id = self._client.send(Kind.PING, [], self._on_pong)
        self._plan(PROBE_S)

    def _on_pong(self, got: Frame | ShoalError) -> None:
        if self._breaker.is_closed:
            self._probe_id = None
        elif self._probe_id is not None:
            self._end_probe(is_healthy=not isinstance(got, ShoalError))

    def _end_probe(self, is_healthy: bool) -> None:
        self._stop()
        self._breaker.on_probe(is_healthy, _now())
        if self._breaker.is_closed:
            log.warning("the breaker of %s closed: probes were healthy", self._name)
            self._watch_if_busy()
        else:
            self._plan(self._breaker.next_probe_in_s(_now()))

    def _watch_if_busy(self) -> None:
        """Nobody calls `on_busy` where requests are open already: repeated ones, or such as wait to hear a refusal."""
        if self._client.open_count:
            self.on_busy()

    def _plan(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_timer)

    def _stop(self) -> None:
        self._forget_probe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_probe(self) -> None:
        if self._probe_id is not None:
            self._client.cancel(self._probe_id)
            self._probe_id = None


def _now() -> float:
    return asyncio.get_running_loop().time()
