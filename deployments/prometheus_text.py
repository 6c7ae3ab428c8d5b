"""Numbers as the text that Prometheus reads, written by its own library (exposition format 0.0.4).

Only writing is the library's: what is counted on the way of requests is plain integers, see cluster/histogram.py. A metric
is written with all of its samples together, as the format demands, and only if it has any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Literal

import prometheus_client
from prometheus_client.core import Metric as Family

from cluster.histogram import BOUNDS_S, Histogram

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_ENDS = (*(f"{bound:g}" for bound in BOUNDS_S), "+Inf")


class Metric:
    """One metric. A counter's name ends in `_total`, that of a histogram in `_seconds`."""

    def __init__(self, name: str, kind: Literal["counter", "gauge", "histogram"], meaning: str) -> None:
        self.name = name
        self.family = Family(name.removesuffix("_total") if kind == "counter" else name, meaning, kind)

    def add(self, value: float, labels: Mapping[str, object] | None = None) -> None:
        """One sample."""
        self.family.add_sample(self.name, _texts(labels or {}), value)

    def add_histogram(self, histogram: Histogram, labels: Mapping[str, object]) -> None:
        """The samples of one histogram."""
        texts = _texts(labels)
        total = 0
        for end, total in zip(_ENDS, accumulate(histogram.counts), strict=True):
            self.family.add_sample(f"{self.name}_bucket", {**texts, "le": end}, total)
        self.family.add_sample(f"{self.name}_sum", texts, histogram.sum_s)
        self.family.add_sample(f"{self.name}_count", texts, total)


def render(metrics: Iterable[Metric]) -> bytes:
    """The whole text."""
    registry: Any = _Collected([metric.family for metric in metrics if metric.family.samples])
    return prometheus_client.generate_latest(registry)


class _Collected:
    """What the library takes for a registry."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        """The families, in the order in which they were given."""
        return iter(self._families)


def _texts(labels: Mapping[str, object]) -> dict[str, str]:
    """Label values as text that UTF-8 has bytes for."""
    return {name: str(value).encode("utf-8", "replace").decode() for name, value in labels.items()}
