"""Numbers that other parts of a router count for themselves, and how they get into /metrics: as sources.

A source is a name, a kind, a sentence, and a function that reads the number when somebody asks. So whoever counts knows
nothing of Prometheus, and costs nothing for it. A number that comes in several kinds (by level, by reason) is read as a
mapping from the value of `label` to the number; what makes these values has to keep them few.

    sources.add(Source("shoal_cache_hits_total", "counter", "Answers out of the cache.", lambda: counts.hits))
    sources.add(Source("shoal_refused_total", "counter", "Refused requests.", lambda: counts.by_reason, "reason"))
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from deployments.prometheus_text import Metric

VALUES_MAX = 200
"""Samples of one source; what a source has beyond is left out."""

_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """See the module. A counter's name ends in `_total`; `read` takes nothing that has to be waited for."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""


class MetricSources:
    """One per router. `router` is the label by which its numbers are told from those of other routers."""

    def __init__(self, router: str) -> None:
        self._router = router
        self._sources: dict[str, Source] = {}

    def add(self, source: Source) -> None:
        """Show a number from now on. Each name once."""
        assert source.name not in self._sources, f"{source.name} has a source already"
        assert (source.kind == "counter") == source.name.endswith("_total"), source.name
        self._sources[source.name] = source

    def total(self, name: str) -> float | None:
        """What a source reads now, summed over its label; None where there is no such source."""
        source = self._sources.get(name)
        if source is None:
            return None
        found = source.read()
        return sum(found.values()) if isinstance(found, Mapping) else found

    def metrics(self) -> Iterator[Metric]:
        """All of them, read now. One that can't be read is left out, and logged."""
        for source in self._sources.values():
            metric = Metric(source.name, source.kind, source.help)
            try:
                found = source.read()
            except Exception:
                _log.exception("the metric %s can't be read", source.name)
                continue
            values = found if isinstance(found, Mapping) else {"": found}
            for name, value in list(values.items())[:VALUES_MAX]:
                metric.add(value, {"router": self._router} | ({source.label: name} if source.label else {}))
            yield metric
