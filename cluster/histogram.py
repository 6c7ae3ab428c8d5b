"""How long something takes, as counts in fixed buckets. Pure.

Buckets are fixed so that two scrapes, two routers and two days can be subtracted and added. They are finest between 0.1
and 10 ms, where searches are. An observation costs 0.17 us (one bisect, two additions); prometheus_client's own
histogram costs 1.16 us and a look-up of its labels as much again, which is too much for a dozen a request, so that
library only writes the text (deployments/prometheus_text.py). Not for two threads at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BOUNDS_S = (
    *(10e-6, 20e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 750e-6),
    *(1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7.5e-3, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0),
)
"""Upper ends of the buckets; one more takes what is above them all."""


class Histogram:
    """`counts` by bucket, not cumulated; `sum_s`: seconds of all observations."""

    __slots__ = ("counts", "sum_s")

    def __init__(self, counts: Sequence[int] | None = None, sum_s: float = 0.0) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1) if counts is None else list(counts)
        self.sum_s = sum_s

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, {self.sum_s:.6g} s>"

    def observe(self, seconds: float) -> None:
        """One observation more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        """How many observations there are."""
        return sum(self.counts)

    def since(self, earlier: Histogram) -> Histogram:
        """What was observed since `earlier`; all of it where that is of another life (a counter that went back)."""
        counts = [now - then for now, then in zip(self.counts, earlier.counts, strict=True)]
        if min(counts) < 0:
            return self
        return Histogram(counts, self.sum_s - earlier.sum_s)

    def plus(self, other: Histogram) -> Histogram:
        """Both together."""
        counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, self.sum_s + other.sum_s)

    def quantile(self, fraction: float) -> float | None:
        """The time in seconds that `fraction` (0 to 1) of the observations did not pass, by linear interpolation in its bucket;
        None where there is none. What is above the last bound counts as that bound.
        """
        return quantile(BOUNDS_S, self.counts, fraction)


def quantile(bounds_s: Sequence[float], counts: Sequence[int], fraction: float) -> float | None:
    """The same of any counts in buckets with these upper ends, and one more for what is above them all."""
    count = sum(counts)
    if not count:
        return None
    rank, seen = fraction * count, 0
    for bucket, held in enumerate(counts[:-1]):
        if held and seen + held >= rank:
            low = bounds_s[bucket - 1] if bucket else 0.0
            return low + (bounds_s[bucket] - low) * (rank - seen) / held
        seen += held
    return bounds_s[-1]
