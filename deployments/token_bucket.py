"""Token buckets: how fast somebody may spend, on average, with room for a burst. Pure: time comes in as a number.

What a request costs is known when its body has been read, and refusing has to be cheap; so a bucket is asked before
(`wait_s`: 0 while it holds a token) and charged as far as the cost is known, and charged the rest later, if need be
into debt. Whoever is in debt waits until it is paid off. So no request is too large for a bucket, and on average
nobody spends faster than the rate.

`Buckets` keeps one for each name, at most BUCKETS_MAX: the one that was used longest ago is forgotten, which forgives
its debt. Names are those of keys and tenants, which an administrator makes, so there are few.
"""

from __future__ import annotations

BUCKETS_MAX = 10_000


class TokenBucket:
    """`rate` tokens a second flow in, up to `burst`. It begins full."""

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.1f} of {self.burst:g} at {self._at:.3f}, {self.rate:g}/s>"

    def level(self, now: float, factor: float = 1.0) -> float:
        """Tokens in it, negative in debt. `factor`: what part of the rate counts since the last call."""
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate * factor)
            self._at = now
        return self._level

    def wait_s(self, now: float, factor: float = 1.0) -> float:
        """0 where a request may come, else how long until it may."""
        missing = min(1.0, self.burst) - self.level(now, factor)
        return max(0.0, missing) / (self.rate * factor)

    def charge(self, cost: float) -> None:
        """Take tokens, into debt if need be."""
        self._level -= cost


class Buckets:
    """Buckets by name, all with one rate."""

    def __init__(self, rate: float, burst_s: float, buckets_max: int = BUCKETS_MAX) -> None:
        self._rate = rate
        self._burst = rate * burst_s
        self._buckets_max = buckets_max
        self._by_name: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, name: str, now: float) -> TokenBucket:
        """The bucket of this name, which is now the one that was used last."""
        bucket = self._by_name.pop(name, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
            if len(self._by_name) >= self._buckets_max:
                del self._by_name[next(iter(self._by_name))]
        self._by_name[name] = bucket
        return bucket
