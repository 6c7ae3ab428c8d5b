"""A circuit breaker, as a state machine: what calls came to goes in, whether the next may go comes out. Pure: time comes
in as a number of seconds on any clock that never goes back.

    closed     calls go. Opens at `timeouts_max` timeouts in a row, which any answer ends, or where `error_fraction_max` of
               the window's calls failed (of at least `calls_min` of them; one call tells nothing). Timeouts are none of
               these: one caller's slow calls, between others that are answered, say nothing against the other side
    open       nothing goes, until `wait_s` have passed; each time it opens again without having closed it waits twice as
               long, up to `wait_s_max`
    half-open  nothing but probes goes, one at a time: cheap calls that the owner makes for this, never a caller's.
               Closes after `healthy_probes_min` healthy ones in a row, spread over `healthy_s_min`; opens at the first
               that isn't

What a failure is, is the owner's affair: a refusal that says what is wrong with the request is a healthy answer. The
window is WINDOW_BUCKETS counters, so it costs the same however many calls there are, and forgets in steps.

States and what leads from one to the next stand in TRANSITIONS; `_enter` is the only place that changes the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

WINDOW_BUCKETS = 6
REDUCED_BUDGET = 0.5
"""What part of their retries and hedges callers keep, while a breaker is not closed."""


class BreakerState(StrEnum):
    """See the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(StrEnum):
    """What changes a breaker's state."""

    TRIPPED = "too many failures"
    WAITED = "the wait is over"
    PROBE_FAILED = "a probe failed"
    HEALTHY = "probes were healthy for long enough"
    REPLACED = "what it guards was replaced"


_S, _E = BreakerState, Event
TRANSITIONS: dict[tuple[BreakerState, Event], BreakerState] = {
    (_S.CLOSED, _E.TRIPPED): _S.OPEN,
    (_S.OPEN, _E.WAITED): _S.HALF_OPEN,
    (_S.HALF_OPEN, _E.PROBE_FAILED): _S.OPEN,
    (_S.HALF_OPEN, _E.HEALTHY): _S.CLOSED,
    **{(state, _E.REPLACED): _S.CLOSED for state in _S},
}
"""A pair that is not here is a mistake of ours."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens and closes. The defaults are those of a shard."""

    timeouts_max: int = 5
    """Timeouts in a row at which it opens."""
    error_fraction_max: float = 0.2
    calls_min: int = 20
    """Calls within the window below which their fraction of failures is not looked at."""
    window_s: float = 30.0
    wait_s: float = 0.5
    wait_s_max: float = 8.0
    healthy_probes_min: int = 3
    healthy_s_min: float = 0.5


SHARD_RULES = BreakerRules()


class BreakerStatus(NamedTuple):
    """A breaker as people see it. `failed_fraction`: of the window's calls, timeouts apart. `opened_count`: since the process
    began.
    """

    state: BreakerState
    timeouts_in_row: int
    failed_fraction: float
    opened_count: int
    reason: str


@dataclass(slots=True)
class _Bucket:
    """What ended within one part of the window; `number` is that part's, counted from the clock's zero."""

    number: int = -1
    healthy: int = 0
    failed: int = 0


class Breaker:
    """See the module. One for each thing that can fail by itself."""

    def __init__(self, rules: BreakerRules = SHARD_RULES) -> None:
        self.rules = rules
        self.is_closed = True
        """For the hot path: whether callers' calls may go."""
        self._state = BreakerState.CLOSED
        self._bucket_s = rules.window_s / WINDOW_BUCKETS
        self._opened_count = 0
        self._forget()

    def __repr__(self) -> str:
        return f"<Breaker {self._state}, {self._timeouts_in_row} timeouts in a row, {self._reason or 'fine'}>"

    def _forget(self) -> None:
        self._buckets = [_Bucket() for _ in range(WINDOW_BUCKETS)]
        self._newest = self._buckets[0]
        self._timeouts_in_row = 0
        self._reason = ""
        self._wait_s = self.rules.wait_s
        self._waits_until = 0.0
        self._probe_under_way = False
        self._healthy_probes = 0
        self._healthy_since = 0.0

    # What callers' calls came to

    def on_success(self, now: float) -> None:
        """A call was answered, or refused for what it asked."""
        self._timeouts_in_row = 0
        bucket = self._newest
        if bucket.number != int(now / self._bucket_s):
            bucket = self._bucket_at(now)
        bucket.healthy += 1

    def on_timeout(self, now: float) -> None:
        """A call's time passed without an answer."""
        self._timeouts_in_row += 1
        if self.is_closed and self._timeouts_in_row >= self.rules.timeouts_max:
            self._trip(f"{self._timeouts_in_row} calls in a row were not answered in time", now)

    def on_error(self, now: float, reason: str, is_answer: bool = False) -> None:
        """A call failed: the connection was lost, or (`is_answer`) the other side says what is wrong there."""
        if is_answer:
            self._timeouts_in_row = 0
        self._bucket_at(now).failed += 1
        if not self.is_closed:
            return
        healthy, failed = self._counts(now)
        calls = healthy + failed
        if calls >= self.rules.calls_min and failed >= self.rules.error_fraction_max * calls:
            self._trip(f"{failed} of {calls} calls failed within {self.rules.window_s:g} s ({reason})", now)

    # Probes

    def takes_probe(self, now: float) -> bool:
        """Whether to send a probe now; where it says so, `on_probe` has to follow."""
        if self._state is BreakerState.OPEN and now >= self._waits_until:
            self._enter(Event.WAITED)
            self._healthy_probes = 0
        if self._state is not BreakerState.HALF_OPEN or self._probe_under_way:
            return False
        self._probe_under_way = True
        return True

    def on_probe(self, is_healthy: bool, now: float) -> None:
        """What a probe came to. Late ones, of a breaker that was reset meanwhile, count for nothing."""
        if self._state is not BreakerState.HALF_OPEN or not self._probe_under_way:
            return
        self._probe_under_way = False
        if not is_healthy:
            self._wait_s = min(self.rules.wait_s_max, 2 * self._wait_s)
            self._waits_until = now + self._wait_s
            self._enter(Event.PROBE_FAILED)
            return
        if self._healthy_probes == 0:
            self._healthy_since = now
        self._healthy_probes += 1
        enough = self._healthy_probes >= self.rules.healthy_probes_min
        if enough and now - self._healthy_since >= self.rules.healthy_s_min:
            self._enter(Event.HEALTHY)
            self._forget()

    def reset(self) -> None:
        """What it guards was replaced by a new one, which begins with a clean record."""
        self._enter(Event.REPLACED)
        self._forget()

    # What it says

    @property
    def budget_factor(self) -> float:
        """What part of their retries and hedges callers keep."""
        return 1.0 if self.is_closed else REDUCED_BUDGET

    @property
    def reason(self) -> str:
        """Why it opened; empty where it is closed."""
        return self._reason

    def retry_after_s(self, now: float) -> float:
        """How long until it may be closed, at the earliest."""
        if self.is_closed:
            return 0.0
        return max(0.0, self._waits_until - now) + self.rules.healthy_s_min

    def next_probe_in_s(self, now: float) -> float:
        """How long an owner should wait before it asks `takes_probe`."""
        if self._state is BreakerState.OPEN:
            return max(0.0, self._waits_until - now)
        return self.rules.healthy_s_min / max(1, self.rules.healthy_probes_min - 1)

    def status(self, now: float) -> BreakerStatus:
        """For people and metrics."""
        healthy, failed = self._counts(now)
        fraction = failed / (healthy + failed) if failed else 0.0
        return BreakerStatus(self._state, self._timeouts_in_row, fraction, self._opened_count, self._reason)

    # Inside

    def _trip(self, reason: str, now: float) -> None:
        self._enter(Event.TRIPPED)
        self._reason = reason
        self._waits_until = now + self._wait_s

    def _enter(self, event: Event) -> None:
        entered = TRANSITIONS[self._state, event]
        self._opened_count += event is Event.TRIPPED
        self._state = entered
        self.is_closed = entered is BreakerState.CLOSED

    def _bucket_at(self, now: float) -> _Bucket:
        number = int(now / self._bucket_s)
        bucket = self._buckets[number % WINDOW_BUCKETS]
        if bucket.number != number:
            bucket.number, bucket.healthy, bucket.failed = number, 0, 0
        self._newest = bucket
        return bucket

    def _counts(self, now: float) -> tuple[int, int]:
        oldest = int(now / self._bucket_s) - WINDOW_BUCKETS
        recent = [bucket for bucket in self._buckets if bucket.number > oldest]
        return sum(bucket.healthy for bucket in recent), sum(bucket.failed for bucket in recent)
