"""Who may begin, who waits, and who is sent away: a router's requests for points, counted and put in line. Pure.

A router holds `held_max` requests at most. Those in progress may weigh `ongoing_max` together (one begins as long as
they weigh less, so a heavy one begins alone if need be); the others wait in the order of their arrival. One whose own
deadline passes is sent away. The line may be long for a moment; it must not stay long, because then everybody is
late and nobody gains: where the first in line has waited more than `wait_target_s` for STANDING_S on end, all who
waited longer than that are sent away (the idea of CoDel, RFC 8289, with one threshold).

`shrink_to` scales both limits. What began is never sent away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STANDING_S = 0.5


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in line. `expires_at`: its own deadline; `on_turn` is called with True when it may begin, with False when
    it is sent away, and says whether anybody was there to hear it: a caller may be gone and not have withdrawn yet.
    """

    since: float
    expires_at: float
    weight: float
    on_turn: Callable[[bool], bool]


class WaitingLine:
    """See the module. Whoever `enter` let in, or was given its turn, has to `leave`."""

    def __init__(self, held_max: int, ongoing_max: int, wait_target_s: float) -> None:
        self._held_max_full = held_max
        self._ongoing_max_full = ongoing_max
        self._wait_target_s = wait_target_s
        self._waiters: dict[Waiter, None] = {}
        self._long_since: float | None = None
        self.held_max = held_max
        self.ongoing_max: float = ongoing_max
        self.ongoing_count = 0
        self.ongoing_weight = 0.0

    def __repr__(self) -> str:
        return (
            f"<WaitingLine {self.ongoing_count} in progress weigh {self.ongoing_weight:g} of {self.ongoing_max:g},"
            f" {self.waiting_count} wait, {self.held_count} of {self.held_max}>"
        )

    @property
    def waiting_count(self) -> int:
        """Requests in line."""
        return len(self._waiters)

    @property
    def held_count(self) -> int:
        """Requests in line and in progress."""
        return self.ongoing_count + len(self._waiters)

    @property
    def is_full(self) -> bool:
        """Whether the next one has to be sent away."""
        return self.ongoing_count + len(self._waiters) >= self.held_max

    def pressure(self, now: float) -> float:
        """How full it is; see deployments/degradation.py."""
        oldest_s = now - next(iter(self._waiters)).since if self._waiters else 0.0
        return max(self.held_count / self.held_max, oldest_s / self._wait_target_s)

    def shrink_to(self, factor: float) -> None:
        """Scale the limits as they were configured."""
        self.held_max = max(1, round(self._held_max_full * factor))
        self.ongoing_max = max(1.0, self._ongoing_max_full * factor)

    def enter(self, weight: float) -> bool:
        """Begin at once, where nobody waits and there is room."""
        if self._waiters or self.ongoing_weight >= self.ongoing_max:
            return False
        self.ongoing_count += 1
        self.ongoing_weight += weight
        return True

    def wait(self, waiter: Waiter) -> None:
        """Go to the end of the line."""
        self._waiters[waiter] = None

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the line unasked; harmless where it is no longer in it."""
        self._waiters.pop(waiter, None)

    def weigh_more(self, weight: float) -> None:
        """One that is in progress turned out to weigh so much more."""
        self.ongoing_weight += weight

    def leave(self, weight: float, now: float) -> int:
        """One is done; the next may begin. How many were sent away."""
        self.ongoing_count -= 1
        # Weights are fractions: what their sum keeps of rounding goes with the last one.
        self.ongoing_weight = self.ongoing_weight - weight if self.ongoing_count else 0.0
        return self.advance(now) if self._waiters else 0

    def advance(self, now: float) -> int:
        """Let in who may begin, send away who stands first and waited too long; how many were sent away."""
        stands = self._has_stood(now)
        sent_away = 0
        while self._waiters:
            waiter = next(iter(self._waiters))
            is_late = waiter.expires_at <= now or (stands and now - waiter.since > self._wait_target_s)
            if not is_late and self.ongoing_weight >= self.ongoing_max:
                break
            sent_away += self._turn(waiter, not is_late) and is_late
        return sent_away

    def sweep(self, now: float) -> int:
        """The same from time to time, when nobody leaves; it looks at the deadline of everyone in line."""
        expired = [waiter for waiter in self._waiters if waiter.expires_at <= now]
        sent_away = sum([self._turn(waiter, may_begin=False) for waiter in expired])
        return sent_away + self.advance(now)

    def _turn(self, waiter: Waiter, may_begin: bool) -> bool:
        """Take the waiter out of the line; whether it was still there. Nobody else would give the place of one back that
        is gone, so such a one does not count.
        """
        del self._waiters[waiter]
        is_there = waiter.on_turn(may_begin)
        if is_there and may_begin:
            self.ongoing_count += 1
            self.ongoing_weight += waiter.weight
        return is_there

    def _has_stood(self, now: float) -> bool:
        """Whether the line has been too long for long enough."""
        if not self._waiters or now - next(iter(self._waiters)).since <= self._wait_target_s:
            self._long_since = None
            return False
        if self._long_since is None:
            self._long_since = now
        return now - self._long_since >= STANDING_S
