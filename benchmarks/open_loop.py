"""Requests at a fixed rate, whether earlier ones are answered or not: falling behind shows as latency.

Request number n is due at n / rate. A latency counts from there, not from when a connection was free to send it, so
waiting behind a slow answer is part of it (what a closed loop hides).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from time import monotonic, sleep

import numpy as np

from benchmarks.http_client import Client

Send = Callable[[Client, int], None]


@dataclass
class Timings:
    """What became of the requests: latencies of those that were answered, and how many were not."""

    latencies_ms: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    """When each of them was answered, since the beginning."""
    errors: int = 0
    elapsed_s: float = 0.0
    first_error: str = ""

    def add(self, problem: str, latency_ms: float, now_s: float) -> None:
        """One more request: answered, or with what went wrong."""
        if problem:
            self.errors += 1
            self.first_error = self.first_error or problem
        else:
            self.latencies_ms.append(latency_ms)
            self.answered_s.append(now_s)

    def percentile(self, percent: float) -> float:
        """In ms; NaN without an answer."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else float("nan")

    def minutes(self, percent: float) -> list[float]:
        """The percentile, in ms, of each minute in which something was answered."""
        minutes, latencies = np.array(self.answered_s) // 60, np.array(self.latencies_ms)
        return [float(np.percentile(latencies[minutes == minute], percent)) for minute in np.unique(minutes)]

    @property
    def rate(self) -> float:
        """Answered requests per second, until the last answer."""
        return len(self.latencies_ms) / self.elapsed_s


def run(url: str, send: Send, rate: float, seconds: float, connections: int) -> Timings:
    """Send at this rate for so long, over so many connections with a thread each."""
    timings, lock, numbers = Timings(), threading.Lock(), count()
    began = monotonic()

    def work() -> None:
        with Client(url) as client:
            while (due := (number := next(numbers)) / rate) < seconds:
                if (early_s := began + due - monotonic()) > 0:
                    sleep(early_s)
                problem = ""
                try:
                    send(client, number)
                except (OSError, RuntimeError) as error:
                    problem = repr(error)
                with lock:
                    now_s = monotonic() - began
                    timings.add(problem, (now_s - due) * 1000, now_s)

    return _finish(timings, began, work, connections)


def run_closed(url: str, send: Send, seconds: float, connections: int) -> Timings:
    """Send for so long, each connection its next request as soon as the last one is answered; latencies count from
    sending.
    """
    timings, lock, numbers = Timings(), threading.Lock(), count()
    began = monotonic()

    def work() -> None:
        with Client(url) as client:
            while (sent := monotonic()) < began + seconds:
                problem = ""
                try:
                    send(client, next(numbers))
                except (OSError, RuntimeError) as error:
                    problem = repr(error)
                with lock:
                    now = monotonic()
                    timings.add(problem, (now - sent) * 1000, now - began)

    return _finish(timings, began, work, connections)


def _finish(timings: Timings, began: float, work: Callable[[], None], connections: int) -> Timings:
    """What came of it when all connections have ended their work."""
    with ThreadPoolExecutor(connections) as pool:
        for future in [pool.submit(work) for _ in range(connections)]:
            future.result()
    timings.elapsed_s = monotonic() - began
    return timings
