"""What is missing is said by shard and reason; what is wrong with a request is never just missing."""

from __future__ import annotations

import pytest

from cluster.coverage import failure_of, is_accepted, missing_of, needed_again
from cluster.gather import Outcome
from shards.errors import (
    BadFilter,
    Corrupt,
    DeadlineExceeded,
    Internal,
    MemoryExhausted,
    QueueFull,
    ShardUnavailable,
    ShoalError,
    StaleEpoch,
)

AWAY = ShardUnavailable("shard 1 is not running")
LATE = DeadlineExceeded("shard 2 did not answer within 3 s")


def outcome(*failures: ShoalError, answered: int = 2) -> Outcome:
    replies = dict.fromkeys(range(10, 10 + answered), "x")
    return Outcome(replies, dict(enumerate(failures, start=1)))


@pytest.mark.parametrize("error", [AWAY, LATE, QueueFull("full"), Corrupt("damaged"), Internal("a mistake")])
def test_a_shard_in_trouble_is_missing(error: ShoalError) -> None:
    assert is_accepted(outcome(error), 0.6)
    assert not is_accepted(outcome(error), 0.7)


@pytest.mark.parametrize(
    ("answered", "missing", "again", "min_coverage", "needed"),
    [
        (3, 0, 1, 1.0, 1.0),
        (3, 0, 3, 1.0, 1.0),
        (3, 0, 1, 0.5, 0.0),
        (3, 0, 1, 0.6667, 0.0),
        (2, 1, 1, 0.6667, 1.0),
        (3, 0, 2, 0.6667, 0.5),
        (3, 0, 3, 0.0, 0.0),
    ],
)
def test_of_those_asked_again_as_many_have_to_answer_as_the_whole_needs(
    answered: int, missing: int, again: int, min_coverage: float, needed: float
) -> None:
    assert needed_again(outcome(*[AWAY] * missing, answered=answered), again, min_coverage) == needed


def test_who_did_not_answer_again_is_missing() -> None:
    first = outcome(LATE, answered=2)
    assert first.without({}) is first
    assert first.without({10: AWAY}) == Outcome({11: "x"}, {1: LATE, 10: AWAY})


@pytest.mark.parametrize("error", [BadFilter("no such thing"), StaleEpoch("an older map")])
def test_what_is_wrong_with_the_request_is_raised(error: ShoalError) -> None:
    assert not is_accepted(outcome(error, AWAY, answered=8), 0.1)
    assert failure_of(outcome(AWAY, error)) is error


def test_reasons_are_codes_and_words_but_never_ours_alone() -> None:
    assert missing_of(outcome()) == ()
    assert missing_of(outcome(AWAY, Corrupt("/some/file is damaged"))) == (
        (1, "shard_unavailable: shard 1 is not running"),
        (2, "corrupt"),
    )


def test_one_missing_shard_is_named_with_its_reason() -> None:
    error = failure_of(outcome(ShardUnavailable("the shard is stopping")))
    assert (type(error), error.message) == (ShardUnavailable, "shard 1: the shard is stopping")
    assert error.retry_after_s == 1.0
    late = failure_of(outcome(LATE))
    assert (type(late), late.retry_after_s) == (DeadlineExceeded, None)


def test_several_are_all_named() -> None:
    error = failure_of(outcome(AWAY, LATE), 0.9)
    assert isinstance(error, ShardUnavailable)
    assert error.message == (
        "2 of 4 shards did not answer (coverage 0.5000, 0.9 was asked for): shard 1 is not running; shard 2 did not"
        " answer within 3 s"
    )
    assert error.retry_after_s == 1.0


def test_a_deadline_stays_one_and_a_refusal_too() -> None:
    error = failure_of(outcome(DeadlineExceeded("shard 1 did not answer within 3 s"), LATE))
    assert isinstance(error, DeadlineExceeded)
    assert "shard 1" in error.message
    assert "shard 2" in error.message
    full = MemoryExhausted("no room", 5.0)
    assert failure_of(outcome(AWAY, full)) is full
