"""Searches over shards with several replicas, on a virtual clock: what hedges do where one replica is slow.

Requests arrive at random and go to the replicas in turn; each answers after a random time, unless it stalls. Gather decides
everything else. `python -m tests.simulation.replicas` prints the figures of one seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from cluster.gather import Cancel, Command, Complete, Gather, Policy, Send
from cluster.gather_counts import GatherCounts
from cluster.hedging import HedgeBudget, Hedging
from cluster.latency import Latency

DEADLINE_S = 60.0


@dataclass(frozen=True)
class Plan:
    """`stall_fraction` of the last replica's answers, of each shard, take `stall_s` more."""

    seed: int
    stall_fraction: float
    hedges: bool
    request_count: int = 10_000
    shard_count: int = 4
    replica_count: int = 3
    usual_s: float = 0.002
    stall_s: float = 0.2
    requests_per_s: float = 500.0


@dataclass
class Report:
    """`seconds`: how long each request took; `sent`: to replicas, hedges included; `primary`: without them."""

    counts: GatherCounts
    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    primary: int = 0

    def quantile_s(self, fraction: float) -> float:
        return sorted(self.seconds)[int(fraction * len(self.seconds))]

    @property
    def extra_fraction(self) -> float:
        """How much more was asked of replicas because of hedges."""
        return self.sent / self.primary - 1.0


class _Request:
    """One gather under way, and what has been called off of it."""

    def __init__(self, gather: Gather) -> None:
        self.gather = gather
        self.called_off: set[tuple[int, int]] = set()
        self.is_over = False


class Simulation:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report(GatherCounts())
        self._random = Random(plan.seed)
        self._latencies = {shard_id: Latency() for shard_id in range(plan.shard_count)}
        self._budget = HedgeBudget(fraction=0.05 if plan.hedges else 0.0)
        self._events: list[tuple[float, int, _Request, Send | None]] = []
        self._order = count()

    def run(self) -> Report:
        """All requests, to their end."""
        arrives_at = 0.0
        for number in range(self.plan.request_count):
            arrives_at += self._random.expovariate(self.plan.requests_per_s)
            self._play_until(arrives_at)
            self._begin(number, arrives_at)
        self._play_until(float("inf"))
        return self.report

    def _begin(self, number: int, now: float) -> None:
        plan = self.plan
        hedging = Hedging(plan.replica_count, number % plan.replica_count, self._budget)
        shard_ids, counts = range(plan.shard_count), self.report.counts
        gather = Gather(shard_ids, now, now + DEADLINE_S, Policy(), counts, self._latencies, hedging)
        self.report.primary += plan.shard_count
        request = _Request(gather)
        self._enact(request, gather.start(), now)

    def _play_until(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            now, _, request, answer = heapq.heappop(self._events)
            if request.is_over:
                continue
            if answer is None:
                self._enact(request, request.gather.on_timer(now), now)
            elif answer not in request.called_off:
                self._enact(request, request.gather.on_reply(answer.shard_id, b"", now, answer.replica), now)

    def _enact(self, request: _Request, commands: Sequence[Command], now: float) -> None:
        for command in commands:
            if isinstance(command, Send):
                self.report.sent += 1
                self._plan_event(now + self._service_s(command.replica), request, command)
            elif isinstance(command, Cancel):
                request.called_off.add(command)
            elif isinstance(command, Complete):
                assert not command.outcome.failures
                request.is_over = True
                self.report.seconds.append(now - request.gather.started_at)
            else:
                self._plan_event(command.at, request, None)

    def _plan_event(self, at: float, request: _Request, answer: Send | None) -> None:
        heapq.heappush(self._events, (at, next(self._order), request, answer))

    def _service_s(self, replica: int) -> float:
        seconds = self.plan.usual_s * self._random.lognormvariate(0.0, 0.3)
        is_slow = replica == self.plan.replica_count - 1 and self._random.random() < self.plan.stall_fraction
        return seconds + self.plan.stall_s if is_slow else seconds


def main() -> None:
    """Print what hedges change."""
    for stall_fraction in (0.0, 0.05, 0.1, 1.0):
        for hedges in (False, True):
            report = Simulation(Plan(1, stall_fraction, hedges)).run()
            print(
                f"a replica of three stalls in {stall_fraction:.0%} of its answers, hedges {'on' if hedges else 'off'}:"
                f" p50 {1000 * report.quantile_s(0.5):.1f} ms, p99 {1000 * report.quantile_s(0.99):.1f} ms,"
                f" extra {report.extra_fraction:.1%}, {report.counts}"
            )


if __name__ == "__main__":
    main()
