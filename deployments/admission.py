"""Admission: which requests for points a router takes on, when they begin, and what it says to the others.

A request is looked at twice. Before its body is here (`check`): the router is full (503), or the caller's tokens are
spent (429). When it is here (`Ticket.begin`): it begins, waits in line, or is sent away. Both refusals say when to come
back. The first is cheap, so that a router that is asked for far more than it can do spends its time on what it does. What
a request costs beyond its kind is charged when its body has been read (`Ticket.charge`).

Decisions are pure and elsewhere: waiting_line.py, token_bucket.py, adaptive.py, degradation.py. Here are the clock, a timer
that ticks while there is anything to decide, and the counters. Lives on a router's loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from deployments.adaptive import SAMPLES_MIN, WINDOW_S, AdaptiveFactor, percentile
from deployments.admission_settings import AdmissionSettings
from deployments.cost import PLAIN_COST_MAX, READ_COST, weight_of
from deployments.degradation import Degradation
from deployments.token_bucket import Buckets, TokenBucket
from deployments.waiting_line import Waiter, WaitingLine
from shards.errors import DeadlineExceeded, QueueFull, RateLimited

TICK_S = 0.1
TICKS_A_WINDOW = round(WINDOW_S / TICK_S)
BUSY_RETRY_S = 1.0
WEIGHT_FRACTION_MAX = 0.25
"""What part of what may be in progress one request takes at most: a batch of a thousand queries slows others down, and must
not stop them.
"""
SAMPLES_MAX = 5_000
"""Latencies that are kept of one window."""
_SYSTEM = "the cluster"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AdmissionCounts:
    """Since the router began. `admitted`: requests for points that began, `waited` those of them that stood in line.
    `refused_full`: came when the router was full; `refused_late`: waited too long in line; `rate_limited`: by the bucket
    that was empty (system, tenant, key). `lowered_ef`: searches that got less width.
    """

    admitted: int = 0
    waited: int = 0
    refused_full: int = 0
    refused_late: int = 0
    rate_limited_system: int = 0
    rate_limited_tenant: int = 0
    rate_limited_key: int = 0
    lowered_ef: int = 0


class Admission:
    """One per router. `router_count`: routers that share the rates, each of which gets its part of them."""

    def __init__(self, settings: AdmissionSettings | None = None, router_count: int = 1) -> None:
        self.settings = settings = settings or AdmissionSettings()
        self.counts = AdmissionCounts()
        self.line = WaitingLine(settings.requests_max, settings.ongoing_cost_max, settings.wait_target_ms / 1e3)
        self.weight_max = WEIGHT_FRACTION_MAX * settings.ongoing_cost_max
        self.degradation = Degradation(settings.stale_ms_max, settings.ef_fraction_min)
        self._factor = AdaptiveFactor(settings.p99_bound_ms / 1e3, settings.shrunk_fraction_min)
        self._watchers: list[Callable[[Degradation], None]] = []
        self._rates = _Rates(settings, router_count)
        self._latencies: list[float] = []
        self._peak_pressure = 0.0
        self._refused = 0
        self._refused_before = 0
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def factor(self) -> float:
        """What part of their configured values the limits have now."""
        return self._factor.value

    def check(self, cost: float, key_id: str = "", tenants: Sequence[str] = ()) -> Ticket:
        """For a request whose body is not here yet. `cost`: what its kind costs at least; `key_id` and `tenants`: who asks,
        and within whose points. Raises QueueFull, RateLimited.
        """
        if self.line.is_full:
            self.counts.refused_full += 1
            self._refuse()
        buckets = self._rates.check((key_id, tenants), self.factor, self.counts) if self._rates.is_on else ()
        for bucket in buckets:
            bucket.charge(cost)
        return Ticket(self, cost, buckets)

    def in_json(self) -> dict[str, Any]:
        """For people: how this router stands, and what it did since it began."""
        line = self.line
        return {
            "waiting": line.waiting_count,
            "ongoing": line.ongoing_count,
            "held_max": line.held_max,
            "factor": round(self.factor, 4),
            "level": self.degradation.level.name.lower(),
            "counts": asdict(self.counts),
        }

    def watch(self, watcher: Callable[[Degradation], None]) -> None:
        """Call this with each new level of degradation."""
        self._watchers.append(watcher)

    def begin_ticking(self) -> None:
        """Decide again, every TICK_S, until there is nothing to decide."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def note_latency(self, seconds: float) -> None:
        """A plain read took so long, its time in line included."""
        if len(self._latencies) < SAMPLES_MAX:
            self._latencies.append(seconds)

    def note_late(self, count: int) -> None:
        """So many were sent away out of the line."""
        self.counts.refused_late += count
        self._refused += count

    def _refuse(self) -> None:
        self._refused += 1
        raise QueueFull(
            f"this router already holds {self.line.held_count} requests, which is all that it takes now; try again later",
            BUSY_RETRY_S,
        )

    def _tick(self) -> None:
        self._timer = None
        now = perf_counter()
        self.note_late(self.line.sweep(now))
        self._peak_pressure = max(self._peak_pressure, self.line.held_count / self.line.held_max)
        refuses, self._refused_before = self._refused > self._refused_before, self._refused
        level = self.degradation.level
        pressure = 1.0 if refuses else self.line.pressure(now)
        if self.degradation.observe(pressure, now) is not level:
            for watcher in self._watchers:
                watcher(self.degradation)
        self._ticks += 1
        if self._ticks % TICKS_A_WINDOW == 0:
            self._end_window()
        if self.line.held_count or self.degradation.level or self.factor < 1.0:
            self.begin_ticking()

    def _end_window(self) -> None:
        latencies, self._latencies = self._latencies, []
        p99_s = percentile(latencies, 0.99) if len(latencies) >= SAMPLES_MIN else None
        self.line.shrink_to(self._factor.on_window(p99_s, self._peak_pressure))
        self._peak_pressure = 0.0


class Ticket:
    """One request that was not refused at the door."""

    __slots__ = ("_admission", "_buckets", "_cost", "_has_begun", "_weight", "_writes")

    def __init__(self, admission: Admission, cost: float, buckets: tuple[TokenBucket, ...]) -> None:
        self._admission = admission
        self._buckets = buckets
        self._cost = cost
        self._writes = cost > READ_COST
        self._weight = weight_of(cost, self._writes)
        self._has_begun = False

    def begin(self) -> bool:
        """Begin at once, if there is room; else `wait`. Raises QueueFull."""
        admission = self._admission
        line = admission.line
        if not line.enter(self._weight):
            if line.is_full:
                admission.counts.refused_full += 1
                admission._refuse()
            return False
        self._has_begun = True
        admission.counts.admitted += 1
        if admission._timer is None:
            admission.begin_ticking()
        return True

    async def wait(self, deadline_s: float) -> float:
        """Wait in line, at most so long; how long it took. Raises QueueFull and DeadlineExceeded."""
        admission = self._admission
        since = perf_counter()
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def take(may_begin: bool) -> bool:
            """False where the task was cancelled, which ends the future at once, and is yet to wake and withdraw."""
            if turn.done():
                return False
            turn.set_result(may_begin)
            return True

        waiter = Waiter(since, since + deadline_s, self._weight, take)
        admission.line.wait(waiter)
        admission.begin_ticking()
        try:
            self._has_begun = await turn
        except asyncio.CancelledError:
            admission.line.withdraw(waiter)
            self._has_begun = turn.done() and not turn.cancelled() and turn.result()
            raise
        waited_s = perf_counter() - since
        if self._has_begun:
            admission.counts.admitted += 1
            admission.counts.waited += 1
            return waited_s
        if waited_s >= deadline_s:
            raise DeadlineExceeded(f"the request waited in line for all of its {deadline_s:.3g} s")
        raise QueueFull(
            f"the request was sent away after {waited_s:.2f} s in line, where all waited too long; try again later",
            BUSY_RETRY_S,
        )

    def charge(self, cost: float) -> None:
        """The request costs this as a whole: now its body is read."""
        more = cost - self._cost
        if more <= 0:
            return
        self._cost = cost
        for bucket in self._buckets:
            bucket.charge(more)
        if not self._writes:
            weight = min(cost, self._admission.weight_max)
            self._admission.line.weigh_more(weight - self._weight)
            self._weight = weight

    def leave(self, started: float, succeeded: bool) -> None:
        """It is over, in whatever way; `started`: when it arrived, a perf_counter value. Raises nothing: what goes wrong as
        others get their turn must not cost this one its answer.
        """
        if not self._has_begun:
            return
        self._has_begun = False
        admission = self._admission
        now = perf_counter()
        try:
            admission.note_late(admission.line.leave(self._weight, now))
        except Exception:
            _log.exception("a request ended, and giving its place to the next one in line failed")
        if succeeded and not self._writes and self._cost <= PLAIN_COST_MAX:
            admission.note_latency(now - started)


class _Rates:
    """The token buckets that a request is charged to: the system's, its tenant's, its key's."""

    def __init__(self, settings: AdmissionSettings, router_count: int) -> None:
        def buckets(rate: float | None) -> Buckets | None:
            return None if rate is None else Buckets(rate / router_count, settings.burst_s)

        self._system = buckets(settings.system_tokens_per_s)
        self._tenants = buckets(settings.tenant_tokens_per_s)
        self._keys = buckets(settings.key_tokens_per_s)
        self.is_on = any(one is not None for one in (self._system, self._tenants, self._keys))

    def check(
        self, who: tuple[str, Sequence[str]], factor: float, counts: AdmissionCounts
    ) -> tuple[TokenBucket, ...]:
        """The buckets to charge. Raises RateLimited where one is empty."""
        key_id, tenants = who
        now = perf_counter()
        found: list[TokenBucket] = []
        for kind, buckets, names in (
            ("key", self._keys, (key_id,) if key_id else ()),
            ("tenant", self._tenants, tenants),
            ("system", self._system, (_SYSTEM,)),
        ):
            for name in names if buckets is not None else ():
                assert buckets is not None
                bucket = buckets.of(name, now)
                wait_s = bucket.wait_s(now, factor)
                if wait_s > 0:
                    counter = f"rate_limited_{kind}"
                    setattr(counts, counter, getattr(counts, counter) + 1)
                    raise _spent(kind, name, bucket.rate, wait_s)
                found.append(bucket)
        return tuple(found)


def _spent(kind: str, name: str, rate: float, wait_s: float) -> RateLimited:
    who = _SYSTEM if kind == "system" else f"the {kind} `{name[:100]}`"
    return RateLimited(
        f"the tokens of {who} are spent: {rate:g} a second flow in here (admission.{kind}_tokens_per_s), a search costs 1, a"
        f" write 10; come back in {wait_s:.1f} s, or send less at once",
        wait_s,
    )
