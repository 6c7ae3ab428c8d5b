"""One request to several shards, by value: events in, commands out, no clock and no socket."""

from __future__ import annotations

from cluster.gather import RETRY_FIRST_S, Commands, Complete, Gather, Outcome, Send, SetTimer
from shards.errors import BadVector, DeadlineExceeded, ShardUnavailable

AWAY = ShardUnavailable("away")


def started(patience_s: float = 5.0) -> tuple[Gather, Commands]:
    gather = Gather([0, 1], started_at=100.0, deadline_at=110.0, patience_s=patience_s)
    return gather, gather.start()


def test_every_shard_is_asked_and_the_deadline_watched() -> None:
    _, commands = started()
    assert [*commands] == [Send(0), Send(1), SetTimer(110.0)]


def test_the_last_answer_completes() -> None:
    gather, _ = started()
    assert [*gather.on_reply(1, "one")] == []
    assert [*gather.on_reply(0, "zero")] == [Complete(Outcome({0: "zero", 1: "one"}, {}))]


def test_an_answer_that_comes_twice_or_late_is_ignored() -> None:
    gather, _ = started()
    gather.on_reply(0, "zero")
    assert [*gather.on_reply(0, "again")] == []
    gather.on_reply(1, "one")
    assert [*gather.on_reply(1, "late")] == []
    assert [*gather.on_failure(1, AWAY, 101.0)] == []
    assert [*gather.on_timer(110.0)] == []


def test_a_shard_that_is_away_is_asked_again_at_growing_intervals() -> None:
    gather, _ = started()
    assert [*gather.on_failure(0, AWAY, 100.0)] == [SetTimer(100.0 + RETRY_FIRST_S)]
    assert [*gather.on_timer(100.0 + RETRY_FIRST_S)] == [Send(0)]
    assert [*gather.on_failure(0, AWAY, 101.0)] == [SetTimer(101.0 + 2 * RETRY_FIRST_S)]


def test_after_the_patience_the_failure_stands() -> None:
    gather, _ = started(patience_s=1.0)
    gather.on_reply(1, "one")
    assert [*gather.on_failure(0, AWAY, 101.0)] == [Complete(Outcome({1: "one"}, {0: AWAY}))]


def test_what_the_caller_did_wrong_is_not_tried_again() -> None:
    gather, _ = started()
    error = BadVector("NaN")
    gather.on_failure(0, error, 100.0)
    (complete,) = gather.on_reply(1, "one")
    assert isinstance(complete, Complete)
    assert complete.outcome.failures == {0: error}
    assert complete.outcome.coverage == 0.5


def test_at_the_deadline_it_says_who_did_not_answer() -> None:
    gather, _ = started()
    gather.on_reply(1, "one")
    (complete,) = gather.on_timer(110.0)
    assert isinstance(complete, Complete)
    error = complete.outcome.failures[0]
    assert isinstance(error, DeadlineExceeded)
    assert "shard 0" in error.message


def test_at_the_deadline_the_last_reason_counts() -> None:
    gather, _ = started(patience_s=60.0)
    gather.on_reply(1, "one")
    gather.on_failure(0, AWAY, 109.0)
    (complete,) = gather.on_timer(110.0)
    assert isinstance(complete, Complete)
    assert complete.outcome.failures == {0: AWAY}
