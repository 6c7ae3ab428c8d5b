"""Whether answers from some shards are an answer, and how it is said when they are not. Pure.

A shard's answer may be missing because the shard is away, late, overloaded or in trouble of its own; what is wrong with the
request itself, or with the router's view of the cluster, is never just a missing answer.
"""

from __future__ import annotations

from math import ceil

from cluster.gather import COVERAGE_TOLERANCE, Outcome
from cluster.requests import MissingShard
from shards.errors import (
    Corrupt,
    DeadlineExceeded,
    Internal,
    Overloaded,
    ShardUnavailable,
    ShoalError,
    StaleEpoch,
    Unavailable,
)

RETRY_AFTER_S = 1.0
_MISSING = (Unavailable, Overloaded, Corrupt, Internal)
_WITHHELD = (Corrupt, Internal)
"""Whose words are for the shard's log alone."""


def missing_of(outcome: Outcome) -> tuple[MissingShard, ...]:
    """Who did not answer, by shard id."""
    if not outcome.failures:
        return ()
    failures = sorted(outcome.failures.items())
    return tuple(MissingShard(shard_id, _reason(error)) for shard_id, error in failures)


def is_accepted(outcome: Outcome, min_coverage: float) -> bool:
    """Whether what has answered is enough, and the rest is merely missing."""
    if not outcome.covers(min_coverage):
        return False
    return all(isinstance(error, _MISSING) for error in outcome.failures.values())


def needed_again(outcome: Outcome, again_count: int, min_coverage: float) -> float:
    """What fraction, 0 to 1, of those shards that are asked again (so many of those that answered) has to answer the second
    time, so that the whole is still enough.
    """
    asked = len(outcome.replies) + len(outcome.failures)
    needed = ceil((min_coverage - COVERAGE_TOLERANCE) * asked) - (len(outcome.replies) - again_count)
    return min(1.0, max(0.0, needed / again_count))


def failure_of(outcome: Outcome, min_coverage: float = 1.0) -> ShoalError:
    """The error to raise: one that the caller (or the router) can do something about, else what each missing shard said."""
    errors = list(outcome.failures.values())
    for is_first in (_is_lasting, _is_stale, _is_refusal):
        if (found := next(filter(is_first, errors), None)) is not None:
            return found
    only_late = all(isinstance(error, DeadlineExceeded) for error in errors)
    said = "; ".join(_named(shard_id, error) for shard_id, error in sorted(outcome.failures.items()))
    if only_late:
        return DeadlineExceeded(said)
    if len(errors) == 1 and min_coverage >= 1.0:
        return type(errors[0])(said, errors[0].retry_after_s or RETRY_AFTER_S)
    asked = len(errors) + len(outcome.replies)
    wanted = f", {min_coverage:.4g} was asked for" if min_coverage < 1.0 else ""
    retry_after_s = max((error.retry_after_s or RETRY_AFTER_S for error in errors), default=RETRY_AFTER_S)
    return ShardUnavailable(
        f"{len(errors)} of {asked} shards did not answer (coverage {outcome.coverage:.4f}{wanted}): {said}",
        retry_after_s,
    )


def _is_lasting(error: ShoalError) -> bool:
    return not error.transient


def _is_stale(error: ShoalError) -> bool:
    return isinstance(error, StaleEpoch)


def _is_refusal(error: ShoalError) -> bool:
    """A shard that has no room for this says so itself, and when to come back."""
    return isinstance(error, Overloaded)


def _named(shard_id: int, error: ShoalError) -> str:
    shard = f"shard {shard_id}"
    return error.message if error.message.startswith(shard) else f"{shard}: {error.message}"


def _reason(error: ShoalError) -> str:
    return error.code if isinstance(error, _WITHHELD) else f"{error.code}: {error.message}"
