"""One request to several shards, as a state machine: events in, commands out. Pure: time comes in as a number.

    start                      -> Send to every shard, and a timer for the deadline
    on_reply(shard)            -> Complete once every shard has answered
    on_failure(shard, error)   -> a later Send where the shard may come back (it restarts), else Complete
    on_timer                   -> the Sends that are due; at the deadline Complete with what is missing

A shard that is away is asked again until `patience_s` have passed (then the failure stands), at growing intervals;
everything sent through here may run twice without harm (reads, and writes that carry an operation id). Completion is
said once; what comes later is ignored. A partial answer is data: `Outcome.failures` says what is missing and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shards.errors import BreakerOpen, DeadlineExceeded, ShardUnavailable, ShoalError

RETRY_FIRST_S = 0.02
RETRY_MAX_S = 0.5


class Send(NamedTuple):
    """Send the request to this shard."""

    shard_id: int


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


class Complete(NamedTuple):
    """The request is over."""

    outcome: Outcome


Command = Send | SetTimer | Complete
Commands = Sequence[Command]


@dataclass(slots=True)
class _Shard:
    """attempts: sends so far; retry_at: when to send again, None while an answer is awaited."""

    attempts: int = 1
    retry_at: float | None = None
    last_error: ShoalError | None = None


@dataclass(slots=True)
class Gather:
    """One request. `open`: shards whose answer is still awaited."""

    shard_ids: Iterable[int]
    started_at: float
    deadline_at: float
    patience_s: float
    open: dict[int, _Shard] = field(default_factory=dict)
    replies: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, ShoalError] = field(default_factory=dict)

    def start(self) -> Commands:
        """The first sends."""
        self.open = {shard_id: _Shard() for shard_id in self.shard_ids}
        assert self.open, "a request asks at least one shard"
        return [*(Send(shard_id) for shard_id in self.open), SetTimer(self.deadline_at)]

    def on_reply(self, shard_id: int, reply: Any) -> Commands:
        """A shard answered."""
        if self.open.pop(shard_id, None) is None:
            return ()
        self.replies[shard_id] = reply
        return self._complete_if_done()

    def on_failure(self, shard_id: int, error: ShoalError, now: float) -> Commands:
        """A shard refused, or could not be reached."""
        shard = self.open.get(shard_id)
        if shard is None:
            return ()
        retry_at = now + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** (shard.attempts - 1))
        give_up_at = min(self.deadline_at, self.started_at + self.patience_s)
        may_come_back = isinstance(error, ShardUnavailable) and not isinstance(error, BreakerOpen)
        if may_come_back and retry_at < give_up_at:
            shard.retry_at, shard.last_error = retry_at, error
            return [SetTimer(retry_at)]
        del self.open[shard_id]
        self.failures[shard_id] = error
        return self._complete_if_done()

    def on_timer(self, now: float) -> Commands:
        """Time has passed."""
        if now >= self.deadline_at:
            waited_s = self.deadline_at - self.started_at
            for shard_id, shard in self.open.items():
                self.failures[shard_id] = shard.last_error or DeadlineExceeded(
                    f"shard {shard_id} did not answer within {waited_s:.3g} s"
                )
            completes = bool(self.open)
            self.open.clear()
            return (Complete(Outcome(self.replies, self.failures)),) if completes else ()
        commands: list[Command] = []
        for shard_id, shard in self.open.items():
            if shard.retry_at is not None and shard.retry_at <= now:
                shard.retry_at = None
                shard.attempts += 1
                commands.append(Send(shard_id))
        return commands

    def _complete_if_done(self) -> Commands:
        return () if self.open else (Complete(Outcome(self.replies, self.failures)),)
