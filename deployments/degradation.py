"""What a router does without, before it refuses: steps, one after the other, up and down. Pure.

    NORMAL      nothing
    NO_EXTRAS   work that no answer needs: hedged requests, probes of recall
    STALE       freshness: cached answers may be old, up to a configured age, and are flagged
    LOWER_EF    accuracy: a search that asks for no width of its own gets part of its collection's, and is flagged

Pressure is how full a router is: what part of the requests that it may hold it holds, or what part of the time that one
may wait the longest has waited; 1 where it refuses. A step is taken at UP_AT, at once; it is taken back one at a time,
when the pressure has been DOWN_MARGIN below its step for HOLD_S. So steps don't flap with every request.
"""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """How much is done without; each has what the lower ones have."""

    NORMAL = 0
    NO_EXTRAS = 1
    STALE = 2
    LOWER_EF = 3


UP_AT = {Level.NO_EXTRAS: 0.7, Level.STALE: 0.85, Level.LOWER_EF: 0.95}
DOWN_MARGIN = 0.15
HOLD_S = 1.0


class Degradation:
    """See the module."""

    def __init__(self, stale_ms_max: int, ef_fraction_min: float) -> None:
        self._stale_ms_max = stale_ms_max
        self._ef_fraction_min = ef_fraction_min
        self._calm_since: float | None = None
        self.level = Level.NORMAL

    def observe(self, pressure: float, now: float) -> Level:
        """The level from now on."""
        wanted = max((level for level, at in UP_AT.items() if pressure >= at), default=Level.NORMAL)
        if wanted >= self.level:
            self.level, self._calm_since = wanted, None
        elif pressure > UP_AT[self.level] - DOWN_MARGIN:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= HOLD_S:
            self.level, self._calm_since = Level(self.level - 1), now
        return self.level

    @property
    def allows_extras(self) -> bool:
        """Whether work may be done that no answer needs."""
        return self.level < Level.NO_EXTRAS

    @property
    def allows_stale_ms(self) -> int:
        """How old a cached answer may be; 0: not at all."""
        return self._stale_ms_max if self.level >= Level.STALE else 0

    @property
    def ef_fraction(self) -> float:
        """What part of a collection's own width searches get that ask for none."""
        return self._ef_fraction_min if self.level >= Level.LOWER_EF else 1.0


def lowered_ef(ef: int, k: int, fraction: float) -> int:
    """The width of a search for `k` points, where the collection has `ef`: never below what it looks for."""
    return min(ef, max(k, int(ef * fraction)))
