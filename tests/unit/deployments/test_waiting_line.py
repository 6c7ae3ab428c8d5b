"""The line by value: who begins, who waits, who is sent away; and a simulated overload with the adaptive factor."""

from __future__ import annotations

import heapq
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from deployments.adaptive import AdaptiveFactor, percentile
from deployments.waiting_line import STANDING_S, Waiter, WaitingLine

NEVER = float("inf")


def waiter(turns: list[tuple[str, bool]], name: str, since: float = 0.0, expires_at: float = NEVER) -> Waiter:
    def on_turn(may_begin: bool) -> bool:
        turns.append((name, may_begin))
        return True

    return Waiter(since, expires_at, 1.0, on_turn)


def gone(since: float = 0.0, expires_at: float = NEVER) -> Waiter:
    """One whose caller went away and that is yet to withdraw."""
    return Waiter(since, expires_at, 1.0, lambda _: False)


def test_as_many_begin_as_weigh_less_than_the_limit_and_the_others_wait_in_order() -> None:
    line, turns = WaitingLine(held_max=5, ongoing_max=3, wait_target_s=1.0), list[tuple[str, bool]]()
    assert [line.enter(2), line.enter(2), line.enter(1)] == [True, True, False], (
        "the second overshoots, the third waits"
    )
    for name in "abc":
        assert not line.is_full
        line.wait(waiter(turns, name))
    assert line.is_full
    assert not line.enter(1), "nobody passes those in line"
    line.leave(2, now=0.1)
    assert turns == [("a", True)]
    line.leave(2, now=0.1)
    assert turns == [("a", True), ("b", True), ("c", True)]
    assert (line.ongoing_count, line.waiting_count, line.ongoing_weight) == (3, 0, 3)


def test_a_heavy_one_keeps_others_back_until_it_is_done() -> None:
    line, turns = WaitingLine(10, 3, 1.0), list[tuple[str, bool]]()
    assert line.enter(1)
    line.weigh_more(99)
    assert not line.enter(1)
    line.wait(waiter(turns, "a"))
    line.leave(100, now=1.0)
    assert turns == [("a", True)]
    assert line.ongoing_weight == 1


def test_whoever_withdraws_is_not_called() -> None:
    line, turns = WaitingLine(10, 1, 1.0), list[tuple[str, bool]]()
    assert line.enter(1)
    first, second = waiter(turns, "first"), waiter(turns, "second")
    line.wait(first)
    line.wait(second)
    line.withdraw(first)
    line.withdraw(first)
    line.leave(1, now=0.1)
    assert turns == [("second", True)]


def test_the_place_of_one_that_is_gone_goes_to_the_next() -> None:
    line, turns = WaitingLine(10, 1, 1.0), list[tuple[str, bool]]()
    assert line.enter(1)
    absent = gone()
    for one in (absent, gone(), waiter(turns, "next"), waiter(turns, "last")):
        line.wait(one)
    assert line.leave(1, now=0.1) == 0
    line.withdraw(absent)
    assert turns == [("next", True)]
    assert (line.ongoing_count, line.ongoing_weight, line.waiting_count) == (1, 1, 1)


def test_one_that_is_gone_is_not_counted_among_those_sent_away() -> None:
    line, turns = WaitingLine(10, 1, 1.0), list[tuple[str, bool]]()
    assert line.enter(1)
    for one in (gone(expires_at=0.5), waiter(turns, "late", expires_at=0.5), gone(), waiter(turns, "stood")):
        line.wait(one)
    assert line.sweep(0.6) == 1
    assert turns == [("late", False)]
    line.sweep(2.0)
    assert line.sweep(2.0 + STANDING_S) == 1
    assert turns[1:] == [("stood", False)]
    assert (line.ongoing_count, line.waiting_count) == (1, 0)


def test_a_passed_deadline_is_noticed_wherever_it_stands_in_line() -> None:
    line, turns = WaitingLine(10, 1, 9.0), list[tuple[str, bool]]()
    assert line.enter(1)
    line.wait(waiter(turns, "patient"))
    line.wait(waiter(turns, "hasty", expires_at=0.5))
    assert line.sweep(0.4) == 0
    assert line.sweep(0.5) == 1
    assert turns == [("hasty", False)]
    line.wait(waiter(turns, "late", expires_at=1.0))
    assert line.leave(1, now=1.5) == 1
    assert turns[1:] == [("patient", True), ("late", False)]


def test_a_line_that_stands_is_shortened_and_one_that_moves_is_not() -> None:
    line, turns = WaitingLine(10, 1, 1.0), list[tuple[str, bool]]()
    assert line.enter(1)
    line.wait(waiter(turns, "a", since=0.0))
    line.wait(waiter(turns, "b", since=1.0))
    assert line.sweep(1.1) == 0, "too long, for the first moment"
    assert line.sweep(1.1 + STANDING_S) == 1
    assert turns == [("a", False)]
    assert line.waiting_count == 1, "b has waited 0.6 s"


def test_pressure_is_of_the_fuller_of_room_and_time() -> None:
    line, turns = WaitingLine(10, 1, 1.0), list[tuple[str, bool]]()
    assert line.pressure(0.0) == 0
    assert line.enter(1)
    line.wait(waiter(turns, "a", since=0.0))
    assert line.pressure(0.1) == 0.2
    assert line.pressure(0.7) == 0.7


def test_shrunk_limits_let_fewer_in_and_keep_what_began() -> None:
    line = WaitingLine(10, 8, 1.0)
    assert all(line.enter(1) for _ in range(8))
    line.shrink_to(0.25)
    assert (line.held_max, line.ongoing_max, line.is_full) == (2, 2, True)
    for _ in range(7):
        line.leave(1, now=0.0)
    assert line.enter(1)
    line.shrink_to(1.0)
    assert (line.held_max, line.ongoing_max) == (10, 8)


@given(st.lists(st.tuples(st.sampled_from("eelsg"), st.floats(0.5, 4)), max_size=120))
def test_nobody_is_lost_or_counted_twice(story: list[tuple[str, float]]) -> None:
    line, now = WaitingLine(12, 5, 1.0), 0.0
    ongoing: list[float] = []
    waiting: set[int] = set()

    def wait(number: int, weight: float) -> Waiter:
        def on_turn(may_begin: bool) -> bool:
            if number not in waiting:
                return False
            waiting.remove(number)
            if may_begin:
                ongoing.append(weight)
            return True

        return Waiter(now, now + 2.0, weight, on_turn)

    for number, (act, amount) in enumerate(story):
        now += amount / 10
        if act == "e" and not line.is_full:
            if line.enter(amount):
                ongoing.append(amount)
            else:
                waiting.add(number)
                line.wait(wait(number, amount))
        elif act == "l" and ongoing:
            line.leave(ongoing.pop(0), now)
        elif act == "s":
            line.sweep(now)
        elif act == "g" and waiting:
            waiting.remove(min(waiting))  # gone, and withdraws never
        assert line.ongoing_count == len(ongoing)
        assert line.waiting_count >= len(waiting)
        assert abs(line.ongoing_weight - sum(ongoing)) < 1e-6
        assert line.held_count <= 12
        assert not waiting or line.ongoing_weight >= line.ongoing_max


class Simulated:
    """A server that works on one request after the other, behind a line, in virtual time."""

    def __init__(self, line: WaitingLine, service_s: float) -> None:
        self.line, self.service_s = line, service_s
        self.now = 0.0
        self.free_at = 0.0
        self.ends: list[tuple[float, float]] = []
        self.latencies: list[tuple[float, float]] = []
        self.refused: list[float] = []

    def run_until(self, at: float) -> None:
        while self.ends and self.ends[0][0] <= at:
            self.now, arrived = heapq.heappop(self.ends)
            self.latencies.append((self.now, self.now - arrived))
            self.line.leave(1, self.now)
        self.now = at

    def arrive(self, at: float) -> None:
        self.run_until(at)
        if self.line.is_full:
            self.refused.append(at)
        elif self.line.enter(1):
            self.work(at)
        else:
            self.line.wait(Waiter(at, NEVER, 1.0, partial(self.turn, at)))

    def turn(self, arrived: float, may_begin: bool) -> bool:
        if may_begin:
            self.work(arrived)
        else:
            self.refused.append(self.now)
        return True

    def work(self, arrived: float) -> None:
        self.free_at = max(self.free_at, self.now) + self.service_s
        heapq.heappush(self.ends, (self.free_at, arrived))


def simulate(
    seconds: int, rate_of: dict[range, int], service_s: float, bound_s: float
) -> tuple[Simulated, list[float]]:
    """Open-loop arrivals, so many a second; the factor of each second."""
    line = WaitingLine(held_max=320, ongoing_max=256, wait_target_s=5.0)
    server, factor, factors = Simulated(line, service_s), AdaptiveFactor(bound_s, floor=0.1), []
    for second in range(seconds):
        rate = next((rate for span, rate in rate_of.items() if second in span), 0)
        seen = len(server.latencies)
        peak = 0.0
        for number in range(rate):
            server.arrive(second + number / rate)
            peak = max(peak, line.held_count / line.held_max)
        server.run_until(second + 1.0)
        window = [latency for _, latency in server.latencies[seen:]]
        line.shrink_to(factor.on_window(percentile(window, 0.99) if len(window) >= 20 else None, peak))
        factors.append(factor.value)
    return server, factors


def test_three_times_too_much_is_held_at_a_bounded_latency_and_is_over_at_once() -> None:
    server, factors = simulate(40, {range(10): 350, range(10, 30): 1500, range(30, 40): 350}, 0.002, bound_s=10.0)
    before = percentile([latency for at, latency in server.latencies if at < 10], 0.99)
    during = percentile([latency for at, latency in server.latencies if 15 < at < 30], 0.99)
    after = percentile([latency for at, latency in server.latencies if at > 35], 0.99)
    assert factors == [1.0] * 40
    assert during < 320 * 0.002 + 0.01
    assert len(server.latencies) > 0.95 * (3500 + 10_000 + 3500), "the server was never idle while there was work"
    assert {int(at) for at in server.refused} <= set(range(10, 31))
    assert after < before + 0.002, "five seconds later it is as it was"


def test_the_bound_on_p99_shrinks_the_line_until_it_holds_and_it_recovers() -> None:
    server, factors = simulate(80, {range(60): 300, range(60, 80): 50}, 0.01, bound_s=1.0)
    assert factors[0] < 1.0 or factors[4] < 1.0
    steady = percentile([latency for at, latency in server.latencies if 30 < at < 60], 0.99)
    assert steady < 1.4, "held_max times service time would be 3.2 s"
    assert len([at for at, _ in server.latencies if 30 < at < 60]) > 0.95 * 30 * 100, "shrunk, but never idle"
    assert factors[-1] == 1.0
    assert not [at for at in server.refused if at > 61]
