"""One request to several shards, as a state machine: events in, commands out. Pure: time comes in as a number.

    start                      -> Send to every shard, and a timer for the deadline
    on_reply(shard)            -> Complete once every shard has answered
    on_failure(shard, error)   -> a later Send where the shard may come back (it restarts), else Complete
    on_timer                   -> the Sends that are due; at the deadline Complete with what is missing

A shard that is away is asked again until `patience_s` have passed (then the failure stands), at growing intervals;
everything sent through here may run twice without harm (reads, and writes that carry an operation id). Completion is
said once; what comes later is ignored. A partial answer is data: `Outcome.failures` says what is missing and why.

**Partial answers.** Where the caller is content with less (`min_coverage` below 1), enough answers end the patience: a shard
that is away is no longer waited for, one that has not said anything yet only for a moment: `straggler_wait_s`, or ten
times as long as those that answered usually take. While there are not enough, everything is as ever.

**Replicas.** With `hedging` each shard has several, and a Send names one. Whichever answers first counts, the other is told
to stop (Cancel); one that fails is followed by the next at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.gather_counts import GatherCounts
from cluster.hedging import Hedging
from cluster.latency import Latency
from shards.errors import BreakerOpen, DeadlineExceeded, ShardUnavailable, ShoalError

RETRY_FIRST_S = 0.02
RETRY_MAX_S = 0.5
STRAGGLER_P95S = 10.0
"""So many times the p95 of those that answered, the others are waited for at least."""
COVERAGE_TOLERANCE = 5e-5
"""Coverage is shown with four digits, and a caller may ask for what it was shown."""
NO_LATENCIES: Mapping[int, Latency] = {}


class Send(NamedTuple):
    """Send the request to this replica of this shard."""

    shard_id: int
    replica: int = 0


class Cancel(NamedTuple):
    """Nobody waits for this replica's answer any more."""

    shard_id: int
    replica: int


class SetTimer(NamedTuple):
    """Call `on_timer` at this time."""

    at: float


class Outcome(NamedTuple):
    """What came of it: each asked shard is in one of the two."""

    replies: dict[int, Any]
    failures: dict[int, ShoalError]

    @property
    def coverage(self) -> float:
        """The fraction of the asked shards that answered."""
        return len(self.replies) / (len(self.replies) + len(self.failures))

    def covers(self, min_coverage: float) -> bool:
        """Whether so large a fraction answered."""
        return self.coverage >= min_coverage - COVERAGE_TOLERANCE

    def without(self, failures: Mapping[int, ShoalError]) -> Outcome:
        """The same where these shards' answers don't count any more."""
        if not failures:
            return self
        kept = {shard_id: reply for shard_id, reply in self.replies.items() if shard_id not in failures}
        return Outcome(kept, {**self.failures, **failures})


class Complete(NamedTuple):
    """The request is over."""

    outcome: Outcome


Command = Send | Cancel | SetTimer | Complete
Commands = Sequence[Command]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a request waits for whom. `min_coverage`: the fraction of shards (0 to 1) that is enough for its caller.
    `budget_factor`: what part (0 to 1) of its retries and hedges it has for a shard, less where that is in trouble.
    """

    patience_s: float = 15.0
    min_coverage: float = 1.0
    straggler_wait_s: float = 0.05
    budget_factor: Callable[[int], float] = lambda shard_id: 1.0


@dataclass(slots=True)
class _Shard:
    """attempts: sends so far, hedges included; asked: replicas whose answer is awaited; retry_at, hedge_at: when to send again,
    None where that is not planned; hedge: the replica that was asked besides.
    """

    attempts: int = 1
    asked: tuple[int, ...] = (0,)
    retry_at: float | None = None
    hedge_at: float | None = None
    hedge: int | None = None
    last_error: ShoalError | None = None


@dataclass(slots=True)
class Gather:
    """One request. `open`: shards whose answer is still awaited; `latencies`: of shards, read and kept; `stragglers_until`:
    when those that are still open are given up, once enough have answered.
    """

    shard_ids: Iterable[int]
    started_at: float
    deadline_at: float
    policy: Policy
    counts: GatherCounts
    latencies: Mapping[int, Latency] = field(default_factory=lambda: NO_LATENCIES)
    hedging: Hedging | None = None
    open: dict[int, _Shard] = field(default_factory=dict)
    replies: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, ShoalError] = field(default_factory=dict)
    stragglers_until: float | None = None

    @property
    def is_whole(self) -> bool:
        """Every shard has answered, and nothing that was sent is still open."""
        return not self.open and not self.failures and self.hedging is None

    def start(self) -> Commands:
        """The first sends."""
        if self.hedging is not None:
            return self._start_hedged(self.hedging)
        self.open = {shard_id: _Shard() for shard_id in self.shard_ids}
        assert self.open, "a request asks at least one shard"
        return [*map(Send, self.open), SetTimer(self.deadline_at)]

    def on_reply(self, shard_id: int, reply: Any, now: float, replica: int = 0) -> Commands:
        """A shard answered."""
        shard = self.open.pop(shard_id, None)
        if shard is None:
            return ()
        self.replies[shard_id] = reply
        if shard.last_error is None and (latency := self.latencies.get(shard_id)) is not None:
            latency.observe(now - self.started_at)
        commands: Commands = ()
        if not self.open:
            commands = (self._complete(),)
        elif self.policy.min_coverage < 1.0:
            commands = self._give_up_stragglers(now)
        return commands if shard.hedge is None else (*self._settle_hedge(shard_id, shard, replica), *commands)

    def on_failure(self, shard_id: int, error: ShoalError, now: float, replica: int = 0) -> Commands:
        """A shard refused, or could not be reached."""
        shard = self.open.get(shard_id)
        if shard is None or replica not in shard.asked:
            return ()
        shard.asked = tuple(one for one in shard.asked if one != replica)
        shard.last_error = error
        if shard.asked:
            return ()  # another replica is at it
        is_other_left = self.hedging is not None and shard.attempts < self.hedging.replica_count
        may_come_back = isinstance(error, ShardUnavailable) and (is_other_left or not isinstance(error, BreakerOpen))
        if may_come_back and (retry := self._plan_retry(shard_id, shard, now)):
            return retry if self.policy.min_coverage >= 1.0 else (*retry, *self._give_up_stragglers(now))
        del self.open[shard_id]
        self.failures[shard_id] = error
        return () if self.open else (self._complete(),)

    def on_timer(self, now: float) -> Commands:
        """Time has passed."""
        if now >= self.deadline_at:
            self.counts.deadlines += bool(self.open)
            return self._end("within {:.3g} s", self.deadline_at - self.started_at)
        if self.stragglers_until is not None and now >= self.stragglers_until:
            return self._end("soon after the others, which was {:.3g} s after the request", now - self.started_at)
        commands: list[Command] = []
        for shard_id, shard in self.open.items():
            if shard.retry_at is not None and shard.retry_at <= now:
                commands.append(self._retry(shard_id, shard))
            if shard.hedge_at is not None and shard.hedge_at <= now:
                commands += self._hedge(shard_id, shard)
        return commands

    def _end(self, when: str, seconds: float) -> Commands:
        """Whoever has not answered yet is missing; nothing where nobody is."""
        if not self.open:
            return ()
        for shard_id, shard in self.open.items():
            self.failures[shard_id] = shard.last_error or DeadlineExceeded(
                f"shard {shard_id} did not answer {when.format(seconds)}"
            )
        self.open.clear()
        return (self._complete(),)

    def _complete(self) -> Complete:
        outcome = Outcome(self.replies, self.failures)
        if self.failures and outcome.covers(self.policy.min_coverage):
            self.counts.partial_answers += 1
        return Complete(outcome)

    # Partial answers

    def _give_up_stragglers(self, now: float) -> Commands:
        """Where enough shards have answered: don't wait for the others any longer than is said above."""
        if self.stragglers_until is not None or not self._is_enough():
            return ()
        for shard_id, shard in [*self.open.items()]:
            if shard.retry_at is not None and shard.last_error is not None:
                del self.open[shard_id]
                self.failures[shard_id] = shard.last_error
        if not self.open:
            return (self._complete(),)
        answered = (self.latencies[shard_id].p95_s for shard_id in self.replies if shard_id in self.latencies)
        usual_s = max((p95_s for p95_s in answered if p95_s is not None), default=0.0)
        self.stragglers_until = now + max(self.policy.straggler_wait_s, STRAGGLER_P95S * usual_s)
        return (SetTimer(min(self.deadline_at, self.stragglers_until)),)

    def _is_enough(self) -> bool:
        """Whether so many shards have answered that the caller is content. One at least, unless all are away."""
        count = len(self.replies)
        if not count and any(shard.asked for shard in self.open.values()):
            return False
        asked = count + len(self.failures) + len(self.open)
        return count >= (self.policy.min_coverage - COVERAGE_TOLERANCE) * asked

    # Retries

    def _plan_retry(self, shard_id: int, shard: _Shard, now: float) -> Commands:
        """Where the shard is to be asked again: at once another replica, else later; empty where it is not."""
        if self.stragglers_until is not None:
            return ()
        if self.hedging is not None and shard.attempts < self.hedging.replica_count:
            return (self._retry(shard_id, shard),)
        retry_at = now + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** (shard.attempts - 1))
        patience_s = self.policy.patience_s * self.policy.budget_factor(shard_id)
        if retry_at >= min(self.deadline_at, self.started_at + patience_s):
            return ()
        shard.retry_at = retry_at
        return (SetTimer(retry_at),)

    def _retry(self, shard_id: int, shard: _Shard) -> Send:
        shard.retry_at = None
        self.counts.retries += 1
        replica = self._next_replica(shard)
        shard.asked = (replica,)
        return Send(shard_id, replica)

    # Hedges

    def _start_hedged(self, hedging: Hedging) -> Commands:
        first = hedging.first % hedging.replica_count
        commands: list[Command] = []
        for shard_id in self.shard_ids:
            latency = self.latencies.get(shard_id)
            usual_s = None if latency is None else latency.p95_s
            hedge_at = None if usual_s is None or hedging.replica_count == 1 else self.started_at + usual_s
            self.open[shard_id] = _Shard(asked=(first,), hedge_at=hedge_at)
            commands.append(Send(shard_id, first))
            if hedge_at is not None:
                commands.append(SetTimer(hedge_at))
        assert self.open, "a request asks at least one shard"
        hedging.budget.earn(sum(map(self.policy.budget_factor, self.open)))
        return [*commands, SetTimer(self.deadline_at)]

    def _hedge(self, shard_id: int, shard: _Shard) -> Commands:
        assert self.hedging is not None
        shard.hedge_at = None
        if len(shard.asked) != 1 or shard.attempts > 1:
            return ()  # it has failed meanwhile, and another replica is asked or will be
        if not self.hedging.budget.take():
            self.counts.hedges_refused += 1
            return ()
        self.counts.hedges_issued += 1
        shard.hedge = self._next_replica(shard)
        shard.asked = (*shard.asked, shard.hedge)
        return (Send(shard_id, shard.hedge),)

    def _settle_hedge(self, shard_id: int, shard: _Shard, replica: int) -> Commands:
        """A shard that was hedged has answered by one of its replicas."""
        if replica == shard.hedge:
            self.counts.hedges_won += 1
        else:
            self.counts.hedges_wasted += 1
        return tuple(Cancel(shard_id, other) for other in shard.asked if other != replica)

    def _next_replica(self, shard: _Shard) -> int:
        """The replica that comes next, in turn; one more attempt."""
        shard.attempts += 1
        hedging = self.hedging
        return 0 if hedging is None else (hedging.first + shard.attempts - 1) % hedging.replica_count
