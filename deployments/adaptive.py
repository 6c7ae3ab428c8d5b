"""How far a router's limits are shrunk, from how long its plain reads took. Pure: one call a window, a factor comes out.

Multiplicative decrease, additive increase: a window whose 99th percentile passes its bound, while the router is under
pressure, shrinks the factor by SHRINK; any other window lets it grow by GROW, or by GROW_FAST where the percentile is
below half of the bound, so that a short trouble (a shard that restarts) is forgotten within seconds. A window with few
reads says nothing about percentiles and counts as calm. The factor stays between `floor` and 1.

Under pressure: at least half of what the shrunk limits let in was there at once. Slow answers to few requests are not
made faster by refusing some of them.
"""

from __future__ import annotations

WINDOW_S = 1.0
SAMPLES_MIN = 20
SHRINK = 0.75
GROW = 0.02
GROW_FAST = 0.1
CALM_FRACTION = 0.5
PRESSURE_MIN = 0.5


def percentile(samples: list[float], fraction: float) -> float:
    """The smallest sample that at least this part of them does not pass. Sorts the list."""
    samples.sort()
    return samples[min(len(samples) - 1, int(fraction * len(samples)))]


class AdaptiveFactor:
    """See the module. `value` is what all limits are multiplied with."""

    def __init__(self, bound_s: float, floor: float) -> None:
        self._bound_s = bound_s
        self._floor = floor
        self.value = 1.0

    def on_window(self, p99_s: float | None, pressure: float) -> float:
        """The factor after a window of WINDOW_S. `p99_s`: None where there were too few reads; `pressure`: what part of the
        shrunk limit was there at once, at most.
        """
        if p99_s is not None and p99_s > self._bound_s and pressure >= PRESSURE_MIN:
            self.value = max(self._floor, self.value * SHRINK)
        else:
            is_calm = p99_s is None or p99_s < CALM_FRACTION * self._bound_s
            self.value = min(1.0, self.value + (GROW_FAST if is_calm else GROW))
        return self.value
