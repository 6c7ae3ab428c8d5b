"""The breaker's states by value: what opens it, what it lets through meanwhile, what closes it again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.breaker import REDUCED_BUDGET, TRANSITIONS, Breaker, BreakerRules, BreakerState, Event

RULES = BreakerRules(wait_s=0.5, wait_s_max=2.0, healthy_probes_min=3, healthy_s_min=0.5)


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(5):
        breaker.on_timeout(at)
    assert not breaker.is_closed
    return breaker


def test_five_timeouts_in_a_row_open_it() -> None:
    breaker = Breaker(RULES)
    for second in range(40):
        breaker.on_success(float(second))
    for second in range(40, 44):
        breaker.on_timeout(float(second))
    assert (breaker.is_closed, breaker.budget_factor) == (True, 1.0)
    breaker.on_timeout(44.0)
    assert (breaker.is_closed, breaker.budget_factor) == (False, REDUCED_BUDGET)
    assert breaker.reason == "5 calls in a row were not answered in time"


def test_an_answer_between_timeouts_begins_a_new_row() -> None:
    breaker = Breaker(RULES)
    for second in range(40):
        breaker.on_success(second / 10)
    for _ in range(4):
        breaker.on_timeout(4.0)
    breaker.on_success(4.0)
    for _ in range(4):
        breaker.on_timeout(4.0)
    assert breaker.status(4.0).timeouts_in_row == 4
    assert breaker.is_closed


def test_an_answer_that_says_what_is_wrong_begins_a_new_row_and_a_lost_connection_does_not() -> None:
    breaker = Breaker(RULES)
    for _ in range(4):
        breaker.on_timeout(1.0)
    breaker.on_error(1.0, "lost")
    assert breaker.status(1.0).timeouts_in_row == 4
    breaker.on_error(1.0, "ours", is_answer=True)
    assert breaker.status(1.0).timeouts_in_row == 0


def test_lateness_counts_in_a_row_alone() -> None:
    breaker = Breaker(RULES)
    for second in range(25):
        breaker.on_success(float(second))
        for _ in range(4):
            breaker.on_timeout(float(second))
    assert breaker.is_closed
    assert breaker.status(25.0).failed_fraction == 0.0
    breaker.on_timeout(25.0)
    assert not breaker.is_closed


def test_a_fifth_of_the_windows_calls_opens_it_and_fewer_do_not() -> None:
    breaker = Breaker(RULES)
    for _ in range(81):
        breaker.on_success(10.0)
    for _ in range(19):
        breaker.on_error(20.0, "x")
    assert breaker.is_closed
    for _ in range(2):
        breaker.on_error(20.0, "lost")
    assert not breaker.is_closed
    assert breaker.reason == "21 of 102 calls failed within 30 s (lost)"


def test_few_calls_tell_nothing() -> None:
    breaker = Breaker(RULES)
    for _ in range(19):
        breaker.on_error(1.0, "x")
    assert breaker.is_closed
    breaker.on_error(1.0, "x")
    assert not breaker.is_closed


def test_the_window_forgets() -> None:
    breaker = Breaker(RULES)
    for _ in range(19):
        breaker.on_error(1.0, "x")
    for _ in range(19):
        breaker.on_error(40.0, "x")
    assert breaker.is_closed
    assert breaker.status(40.0).failed_fraction == 1.0
    assert breaker.status(90.0).failed_fraction == 0.0


def test_while_it_is_open_one_probe_at_a_time_goes_after_the_wait() -> None:
    breaker = opened(100.0)
    assert breaker.next_probe_in_s(100.0) == 0.5
    assert not breaker.takes_probe(100.4)
    assert breaker.takes_probe(100.5)
    assert breaker.status(100.5).state is BreakerState.HALF_OPEN
    assert not breaker.takes_probe(100.6)
    breaker.on_probe(True, 100.6)
    assert not breaker.is_closed, "one healthy probe is not health"


def test_sustained_health_closes_it() -> None:
    breaker = opened(100.0)
    for at in (100.5, 100.6, 100.7):
        assert breaker.takes_probe(at)
        breaker.on_probe(True, at)
    assert not breaker.is_closed, "three in a row, but within a fifth of a second"
    assert breaker.takes_probe(101.0)
    breaker.on_probe(True, 101.0)
    assert breaker.is_closed
    assert breaker.status(101.0)[1:] == (0, 0.0, 1, "")


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    breaker, at = opened(100.0), 100.0
    waits = []
    for _ in range(4):
        waits.append(breaker.next_probe_in_s(at))
        at += waits[-1]
        assert breaker.takes_probe(at)
        breaker.on_probe(False, at)
    assert waits == [0.5, 1.0, 2.0, 2.0]
    assert breaker.status(at).opened_count == 1, "it was never closed between"


def test_healthy_probes_count_in_a_row() -> None:
    breaker = opened(100.0)
    for at, is_healthy in ((100.5, True), (100.7, True), (100.9, False), (101.9, True), (102.5, True)):
        assert breaker.takes_probe(at), at
        breaker.on_probe(is_healthy, at)
    assert not breaker.is_closed
    assert breaker.takes_probe(102.6)
    breaker.on_probe(True, 102.6)
    assert breaker.is_closed


def test_what_was_replaced_begins_with_a_clean_record() -> None:
    breaker = opened(100.0)
    assert breaker.takes_probe(100.5)
    breaker.reset()
    breaker.on_probe(False, 100.6)
    assert breaker.is_closed
    for _ in range(4):
        breaker.on_timeout(101.0)
    assert breaker.is_closed


def test_every_state_has_a_way_out_and_every_event_a_place() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
    for state in BreakerState:
        assert any(left is state and entered is not state for (left, _), entered in TRANSITIONS.items())


@given(st.lists(st.tuples(st.sampled_from("stephr"), st.floats(0, 3)), max_size=200))
def test_whatever_happens_no_call_goes_unless_it_is_closed_and_health_closes_it(
    story: list[tuple[str, float]],
) -> None:
    breaker, at = Breaker(RULES), 0.0
    for act, passed in story:
        at += passed
        if act == "s":
            breaker.on_success(at)
        elif act == "t":
            breaker.on_timeout(at)
        elif act == "e":
            breaker.on_error(at, "x")
        elif act == "r":
            breaker.reset()
        elif breaker.takes_probe(at):
            assert not breaker.is_closed
            breaker.on_probe(act == "h", at)
        status = breaker.status(at)
        assert breaker.is_closed == (status.state is BreakerState.CLOSED)
        assert 0 <= status.failed_fraction <= 1
        assert (breaker.retry_after_s(at) > 0) == (not breaker.is_closed)
    for _ in range(6):
        at += breaker.next_probe_in_s(at)
        if breaker.takes_probe(at):
            breaker.on_probe(True, at)
    assert breaker.is_closed
