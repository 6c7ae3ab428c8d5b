"""How long a shard usually takes, from what it took lately. Pure: durations come in as numbers of seconds.

A histogram in fixed buckets on a log scale (four to an octave, so a quantile is within a fifth of the truth), which
forgets: when it holds OBSERVATIONS_MAX all counts are halved, so what lies thousands of answers back no longer counts. One
observation costs 0.2 us (a bisect and an addition); the quantile is looked up once in RENEWED_EVERY of them.
"""

from __future__ import annotations

from bisect import bisect_left

from cluster.histogram import quantile

BOUNDS_S = tuple(10e-6 * 2 ** (step / 4) for step in range(89))
"""Upper ends of the buckets, from 10 us to 42 s; one more takes what is above."""
OBSERVATIONS_MAX = 2048
RENEWED_EVERY = 32
QUANTILE = 0.95


class Latency:
    """Of one shard. Not for two threads at once."""

    __slots__ = ("_counts", "_held", "_p95_s", "_until_renewal")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._held = 0
        self._until_renewal = RENEWED_EVERY
        self._p95_s: float | None = None

    def __repr__(self) -> str:
        return f"<Latency p95 {self._p95_s}, {self._held} answers>"

    @property
    def p95_s(self) -> float | None:
        """What 95 of 100 answers did not take longer than; None before the first RENEWED_EVERY of them."""
        return self._p95_s

    @property
    def counts(self) -> tuple[int, ...]:
        """Observations by bucket, those that are fading included."""
        return tuple(self._counts)

    def observe(self, seconds: float) -> None:
        """An answer took so long."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._until_renewal -= 1
        if not self._until_renewal:
            self._renew()

    def _renew(self) -> None:
        self._until_renewal = RENEWED_EVERY
        self._held += RENEWED_EVERY
        if self._held >= OBSERVATIONS_MAX:
            self._counts = [count >> 1 for count in self._counts]
            self._held = sum(self._counts)
        self._p95_s = quantile(BOUNDS_S, self._counts, QUANTILE)
