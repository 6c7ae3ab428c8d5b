"""One request to several shards, by value: events in, commands out, no clock and no socket."""

from __future__ import annotations

from cluster.gather import RETRY_FIRST_S, Cancel, Commands, Complete, Gather, Outcome, Policy, Send, SetTimer
from cluster.gather_counts import GatherCounts
from cluster.hedging import HedgeBudget, Hedging
from cluster.latency import RENEWED_EVERY, Latency
from shards.errors import BadVector, DeadlineExceeded, ShardUnavailable

AWAY = ShardUnavailable("away")


def started(patience_s: float = 5.0) -> tuple[Gather, Commands]:
    gather = Gather([0, 1], 100.0, 110.0, Policy(patience_s), GatherCounts())
    return gather, gather.start()


def test_every_shard_is_asked_and_the_deadline_watched() -> None:
    _, commands = started()
    assert [*commands] == [Send(0), Send(1), SetTimer(110.0)]


def test_the_last_answer_completes() -> None:
    gather, _ = started()
    assert [*gather.on_reply(1, "one", 100.5)] == []
    assert [*gather.on_reply(0, "zero", 100.5)] == [Complete(Outcome({0: "zero", 1: "one"}, {}))]


def test_an_answer_that_comes_twice_or_late_is_ignored() -> None:
    gather, _ = started()
    gather.on_reply(0, "zero", 100.5)
    assert [*gather.on_reply(0, "again", 100.5)] == []
    gather.on_reply(1, "one", 100.5)
    assert [*gather.on_reply(1, "late", 100.5)] == []
    assert [*gather.on_failure(1, AWAY, 101.0)] == []
    assert [*gather.on_timer(110.0)] == []


def test_a_shard_that_is_away_is_asked_again_at_growing_intervals() -> None:
    gather, _ = started()
    assert [*gather.on_failure(0, AWAY, 100.0)] == [SetTimer(100.0 + RETRY_FIRST_S)]
    assert [*gather.on_timer(100.0 + RETRY_FIRST_S)] == [Send(0)]
    assert [*gather.on_failure(0, AWAY, 101.0)] == [SetTimer(101.0 + 2 * RETRY_FIRST_S)]


def test_after_the_patience_the_failure_stands() -> None:
    gather, _ = started(patience_s=1.0)
    gather.on_reply(1, "one", 100.5)
    assert [*gather.on_failure(0, AWAY, 101.0)] == [Complete(Outcome({1: "one"}, {0: AWAY}))]


def test_what_the_caller_did_wrong_is_not_tried_again() -> None:
    gather, _ = started()
    error = BadVector("NaN")
    gather.on_failure(0, error, 100.0)
    (complete,) = gather.on_reply(1, "one", 100.5)
    assert isinstance(complete, Complete)
    assert complete.outcome.failures == {0: error}
    assert complete.outcome.coverage == 0.5


def test_at_the_deadline_it_says_who_did_not_answer() -> None:
    gather, _ = started()
    gather.on_reply(1, "one", 100.5)
    (complete,) = gather.on_timer(110.0)
    assert isinstance(complete, Complete)
    error = complete.outcome.failures[0]
    assert isinstance(error, DeadlineExceeded)
    assert "shard 0" in error.message


def test_at_the_deadline_the_last_reason_counts() -> None:
    gather, _ = started(patience_s=60.0)
    gather.on_reply(1, "one", 100.5)
    gather.on_failure(0, AWAY, 109.0)
    (complete,) = gather.on_timer(110.0)
    assert isinstance(complete, Complete)
    assert complete.outcome.failures == {0: AWAY}
    assert gather.counts.deadlines == 1


# Partial answers


def of_four(min_coverage: float, latencies: dict[int, Latency] | None = None) -> Gather:
    policy = Policy(min_coverage=min_coverage, straggler_wait_s=0.05)
    gather = Gather(range(4), 100.0, 110.0, policy, GatherCounts(), latencies or {})
    gather.start()
    return gather


def usually(seconds: float) -> Latency:
    latency = Latency()
    for _ in range(RENEWED_EVERY):
        latency.observe(seconds)
    return latency


def outcome_of(commands: Commands) -> Outcome:
    (complete,) = commands
    assert isinstance(complete, Complete)
    return complete.outcome


def test_once_enough_have_answered_the_rest_is_waited_for_a_moment() -> None:
    gather = of_four(0.75)
    for shard_id in (0, 1):
        assert [*gather.on_reply(shard_id, "x", 100.1)] == []
    assert [*gather.on_reply(3, "x", 100.2)] == [SetTimer(100.2 + 0.05)]
    outcome = outcome_of(gather.on_timer(100.2 + 0.05))
    assert outcome.coverage == 0.75
    assert isinstance(outcome.failures[2], DeadlineExceeded)
    assert gather.counts == GatherCounts(partial_answers=1)


def test_whoever_answers_within_that_moment_counts() -> None:
    gather = of_four(0.5)
    for shard_id in (0, 1, 2):
        gather.on_reply(shard_id, "x", 100.1)
    assert outcome_of(gather.on_reply(3, "x", 100.14)).coverage == 1.0
    assert [*gather.on_timer(100.15)] == []
    assert gather.counts.partial_answers == 0


def test_shards_that_take_long_as_a_rule_have_longer_moments() -> None:
    latencies = {shard_id: usually(0.02) for shard_id in range(3)} | {3: usually(9.0)}
    gather = of_four(0.5, latencies)
    gather.on_reply(0, "x", 100.1)
    (timer,) = gather.on_reply(1, "x", 100.1)
    assert isinstance(timer, SetTimer)
    assert 100.1 + 10 * 0.015 < timer.at < 100.1 + 10 * 0.03  # of those that answered, whatever the others take


def test_a_shard_that_is_away_is_not_waited_for_when_the_others_are_enough() -> None:
    gather = of_four(0.75)
    gather.on_failure(2, AWAY, 100.0)  # asked again, while it is not known whether the others answer
    gather.on_reply(0, "x", 100.1)
    gather.on_reply(1, "x", 100.1)
    assert outcome_of(gather.on_reply(3, "x", 100.1)).failures == {2: AWAY}


def test_a_shard_that_goes_away_after_the_others_answered_ends_it() -> None:
    gather = of_four(0.75)
    for shard_id in (0, 1, 3):
        gather.on_reply(shard_id, "x", 100.1)
    assert outcome_of(gather.on_failure(2, AWAY, 100.11)).failures == {2: AWAY}


def test_while_there_are_not_enough_everything_is_as_ever() -> None:
    gather = of_four(0.75)
    gather.on_reply(0, "x", 100.1)
    gather.on_reply(1, "x", 100.1)
    assert [*gather.on_failure(2, AWAY, 100.1)] == [SetTimer(100.1 + RETRY_FIRST_S)]
    assert [*gather.on_timer(101.0)] == [Send(2)]
    assert [*gather.on_reply(2, "x", 101.1)] == [SetTimer(101.1 + 0.05)]


def test_who_is_content_with_nothing_gets_it_when_all_are_away() -> None:
    gather = of_four(0.0)
    for shard_id in range(3):
        gather.on_failure(shard_id, AWAY, 100.0)
    commands = gather.on_failure(3, AWAY, 100.0)
    assert isinstance(commands[-1], Complete)
    assert commands[-1].outcome.coverage == 0.0


def test_a_coverage_that_was_shown_with_four_digits_can_be_asked_for() -> None:
    policy = Policy(min_coverage=0.6667)
    gather = Gather(range(3), 100.0, 110.0, policy, GatherCounts())
    gather.start()
    gather.on_reply(0, "x", 100.1)
    assert isinstance([*gather.on_reply(1, "x", 100.1)][-1], SetTimer)


# Replicas


def hedged(tokens: float = 1.0, usual_s: float = 0.016) -> Gather:
    hedging = Hedging(3, first=2, budget=HedgeBudget(tokens=tokens))
    gather = Gather([7], 100.0, 110.0, Policy(), GatherCounts(), {7: usually(usual_s)}, hedging)
    assert next(iter(gather.start())) == Send(7, 2)
    return gather


def test_a_shard_that_takes_longer_than_usual_is_asked_elsewhere_too() -> None:
    gather = hedged()
    assert [*gather.on_timer(100.01)] == []
    assert [*gather.on_timer(100.025)] == [Send(7, 0)]
    assert [*gather.on_timer(100.03)] == []
    cancel, complete = gather.on_reply(7, "x", 100.03, replica=0)
    assert cancel == Cancel(7, 2)
    assert isinstance(complete, Complete)
    assert gather.counts == GatherCounts(hedges_issued=1, hedges_won=1)


def test_the_first_replica_may_still_win() -> None:
    gather = hedged()
    gather.on_timer(100.025)
    assert next(iter(gather.on_reply(7, "x", 100.03, replica=2))) == Cancel(7, 0)
    assert gather.counts == GatherCounts(hedges_issued=1, hedges_wasted=1)
    assert [*gather.on_reply(7, "x", 100.04, replica=0)] == []


def test_without_budget_there_is_no_hedge() -> None:
    gather = hedged(tokens=0.9)
    assert [*gather.on_timer(100.025)] == []
    assert gather.counts == GatherCounts(hedges_refused=1)


def test_before_it_is_known_what_is_usual_there_is_no_hedge() -> None:
    hedging = Hedging(3, budget=HedgeBudget(tokens=5.0))
    gather = Gather([7], 100.0, 110.0, Policy(), GatherCounts(), {7: Latency()}, hedging)
    assert [*gather.start()] == [Send(7, 0), SetTimer(110.0)]


def test_a_replica_that_fails_is_followed_by_the_next_at_once() -> None:
    gather = hedged()
    assert [*gather.on_failure(7, AWAY, 100.0, replica=2)] == [Send(7, 0)]
    assert [*gather.on_failure(7, AWAY, 100.0, replica=0)] == [Send(7, 1)]
    assert [*gather.on_failure(7, AWAY, 100.0, replica=1)] == [SetTimer(100.0 + 4 * RETRY_FIRST_S)]
    assert [*gather.on_timer(100.5)] == [Send(7, 2)]
    assert gather.counts == GatherCounts(retries=3)


def test_when_one_of_two_fails_the_other_is_waited_for() -> None:
    gather = hedged()
    gather.on_timer(100.025)
    assert [*gather.on_failure(7, AWAY, 100.03, replica=0)] == []
    (complete,) = gather.on_reply(7, "x", 100.04, replica=2)
    assert isinstance(complete, Complete)
    assert gather.counts == GatherCounts(hedges_issued=1, hedges_wasted=1)


def test_in_trouble_the_budgets_are_halved() -> None:
    hedging = Hedging(2)
    gather = Gather(
        range(4), 100.0, 110.0, Policy(8.0, budget_factor=lambda shard_id: 0.5), GatherCounts(), {}, hedging
    )
    gather.start()
    assert hedging.budget.tokens == 0.5 * 0.05 * 4
    gather.on_failure(0, AWAY, 100.0, replica=0)
    gather.on_failure(0, AWAY, 104.0, replica=1)
    assert gather.failures == {0: AWAY}
