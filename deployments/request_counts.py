"""How many requests one router has answered, by route and status, and how long they took.

Counted is what reached the API (deployments/http_app.py): what the connection refuses before that, because it is too long
or there is too much at once, is not, nor is a request whose client went away. Routes are templates out of a fixed list,
never a client's text, so there are few counters however strange the requests are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import NamedTuple
from uuid import uuid4

from cluster.histogram import Histogram


class RouteCount(NamedTuple):
    """`route`: method and path template, such as `GET /collections/{collection}`."""

    route: str
    status: int
    requests: int
    seconds: float


@dataclass(slots=True)
class RequestCounts:
    """Of this process, since it started. `router` names it: another router counts for itself. `began` is `started` as a
    perf_counter value.
    """

    router: str = field(default_factory=lambda: uuid4().hex[:12])
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=perf_counter)
    _counts: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    _latencies: dict[str, Histogram] = field(default_factory=dict)

    def add(self, route: str, status: int, seconds: float) -> None:
        """One request more."""
        key = (route, status)
        held = self._counts.get(key)
        if held is None:
            held = self._counts[key] = [0, 0.0]
        held[0] += 1
        held[1] += seconds
        latency = self._latencies.get(route)
        if latency is None:
            latency = self._latencies[route] = Histogram()
        latency.observe(seconds)

    def __iter__(self) -> Iterator[RouteCount]:
        for (route, status), (count, seconds) in sorted(self._counts.items()):
            yield RouteCount(route, status, int(count), seconds)

    def latencies(self) -> Iterator[tuple[str, Histogram]]:
        """How long requests took, from their arrival to their reply, by route."""
        yield from sorted(self._latencies.items(), key=lambda one: one[0])
