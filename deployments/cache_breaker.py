"""Whether Redis is asked at all, as a state machine. Pure: time comes in as a number.

closed      calls go; a lost connection, or TIMEOUTS_MAX timeouts in a row, opens it
open        no call for `retry_s`
half open   one call goes, and decides: success closes it, failure opens it again
"""

from __future__ import annotations

TIMEOUTS_MAX = 2


class CacheBreaker:
    """`retry_s`: how long an open one stays so."""

    def __init__(self, retry_s: float) -> None:
        self._retry_s = retry_s
        self._timeouts = 0
        self._opened_at: float | None = None
        self._is_trying = False
        self.opened_count = 0

    @property
    def is_open(self) -> bool:
        """Open or half open."""
        return self._opened_at is not None

    def allows(self, now: float) -> bool:
        """Whether a call may go now; whoever is told so has to say how it went."""
        if self._opened_at is None:
            return True
        if self._is_trying or now < self._opened_at + self._retry_s:
            return False
        self._is_trying = True
        return True

    def on_success(self) -> None:
        """A call was answered."""
        self._timeouts = 0
        self._opened_at = None
        self._is_trying = False

    def on_failure(self, now: float, is_timeout: bool) -> None:
        """A call was not answered: in time, or at all."""
        self._timeouts += 1
        if self._opened_at is None and is_timeout and self._timeouts < TIMEOUTS_MAX:
            return
        self.opened_count += self._opened_at is None
        self._opened_at = now
        self._is_trying = False
