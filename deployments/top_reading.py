"""What `shoal top` makes of /metrics: one router's numbers at a moment, and what happened between two moments. Pure.

Behind HAProxy each scrape may reach another router, which counts for itself. So numbers are kept by router, a difference
is always of one router (over the time by which its own uptime grew), and rates and histograms are added over routers.
What the shards say is the same from each router. Numbers that `shoal top` does not know are kept by their names, so
that whatever a router counts is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from cluster.histogram import Histogram

CLASSES = ("search", "read", "write", "other")
_SEARCHES = ("points/query", "points/query/batch", "points/search")
_READS = ("points/scroll", "points/count", "points/{id}")
_HISTOGRAMS = {
    "shoal_http_request_seconds": "route",
    "shoal_search_phase_seconds": "phase",
    "shoal_shard_search_seconds": "shard",
}
"""By name, with the label that tells them apart."""
_SHARD = "shoal_shard_"

Key = tuple[str, str]
"""A metric's name, and the values of its labels but the router's, joined by commas."""


class Request(NamedTuple):
    """One kind of request: its class, and the first digit of its status."""

    route_class: str
    status: str


@dataclass(slots=True)
class Snapshot:
    """One router's numbers. `shards`: by id, by the metric's name without `shoal_shard_`; `others`: what is not known."""

    router: str = ""
    uptime_s: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)
    requests: dict[Request, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    shards: dict[int, dict[str, float | str]] = field(default_factory=dict)
    collections: float = 0.0
    others: dict[Key, float] = field(default_factory=dict)

    def since(self, earlier: Snapshot | None) -> Snapshot:
        """What was counted since `earlier`, which is of the same router; all of it where there is none. Counters are
        differences, `uptime_s` is the time between; what is no counter is as it is now.
        """
        if earlier is None or earlier.uptime_s > self.uptime_s:
            return self
        none = Histogram()
        return Snapshot(
            router=self.router,
            uptime_s=self.uptime_s - earlier.uptime_s,
            about=self.about,
            requests={key: count - earlier.requests.get(key, 0.0) for key, count in self.requests.items()},
            histograms={key: held.since(earlier.histograms.get(key, none)) for key, held in self.histograms.items()},
            shards=self.shards,
            collections=self.collections,
            others={
                key: value - earlier.others.get(key, 0.0) if key[0].endswith("_total") else value
                for key, value in self.others.items()
            },
        )


def read_snapshot(text: str) -> Snapshot:
    """The text of /metrics. Raises ValueError where it is none."""
    found = Snapshot()
    buckets: dict[Key, list[int]] = {}
    sums: dict[Key, float] = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            label = _HISTOGRAMS.get(family.name)
            if label is not None:
                key = (family.name, _route_class(labels) if label == "route" else labels[label])
                if name.endswith("_bucket"):
                    buckets.setdefault(key, []).append(int(value))
                elif name.endswith("_sum"):
                    sums[key] = sums.get(key, 0.0) + value
            else:
                _take(found, name, labels, value)
    for key, cumulated in buckets.items():
        found.histograms[key] = Histogram(_apart(cumulated), sums.get(key, 0.0))
    return found


def _take(found: Snapshot, name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "shoal_info":
        found.about = labels
    elif name == "shoal_router_uptime_seconds":
        found.router, found.uptime_s = labels["router"], value
    elif name == "shoal_http_requests_total":
        kind = Request(_route_class(labels), labels["status"][:1])
        found.requests[kind] = found.requests.get(kind, 0.0) + value
    elif name == "shoal_collections":
        found.collections = value
    elif name == "shoal_shard_memory_level":
        if value:
            found.shards.setdefault(int(labels["shard"]), {})["memory_level"] = labels["level"]
    elif name.startswith(_SHARD) and labels.keys() == {"shard"}:
        found.shards.setdefault(int(labels["shard"]), {})[name.removeprefix(_SHARD)] = value
    elif "router" in labels:
        rest = ",".join(text for label, text in sorted(labels.items()) if label != "router")
        found.others[name, rest] = value


def _apart(cumulated: list[int]) -> list[int]:
    """Cumulated buckets of one histogram, or of several one behind the other, as the counts of one."""
    size = len(Histogram().counts)
    if len(cumulated) % size:
        raise ValueError("these are not Shoal's buckets; is this another version of Shoal?")
    counts = [0] * size
    for start in range(0, len(cumulated), size):
        before = 0
        for place, total in enumerate(cumulated[start : start + size]):
            counts[place] += total - before
            before = total
    return counts


def _route_class(labels: Mapping[str, str]) -> str:
    path = labels["route"].removeprefix("/collections/{collection}/")
    if path in _SEARCHES:
        return "search"
    if path in _READS or (path == "points" and labels["method"] == "POST"):
        return "read"
    return "write" if path.startswith("points") else "other"


@dataclass(slots=True)
class Traffic:
    """What all routers did in an interval, added up. Rates are per second."""

    rates: dict[str, float]
    """Requests by class."""
    refused: float
    """Answers 4xx."""
    failed: float
    """Answers 5xx."""
    histograms: dict[Key, Histogram]
    others: dict[Key, float]
    """Rates of counters; other numbers as they are, added."""


def traffic_of(intervals: Iterable[Snapshot]) -> Traffic:
    """`intervals`: one of each router."""
    found = Traffic(dict.fromkeys(CLASSES, 0.0), 0.0, 0.0, {}, {})
    for one in intervals:
        seconds = max(one.uptime_s, 1e-9)
        for kind, count in one.requests.items():
            found.rates[kind.route_class] += count / seconds
            found.refused += count / seconds if kind.status == "4" else 0.0
            found.failed += count / seconds if kind.status == "5" else 0.0
        for key, held in one.histograms.items():
            found.histograms[key] = held.plus(found.histograms.get(key, Histogram()))
        for key, value in one.others.items():
            more = value / seconds if key[0].endswith("_total") else value
            found.others[key] = found.others.get(key, 0.0) + more
    return found


def hit_rates(others: Mapping[Key, float]) -> dict[str, float | None]:
    """Of each pair `..._hits_total` and `..._misses_total`, by name and labels: the fraction that hit; None without any. Where
    hits have labels and misses have none, each label's hits are a fraction of all that was asked.
    """
    found: dict[str, float | None] = {}
    for (name, labels), hits in others.items():
        if name.endswith("_hits_total"):
            all_misses = name.replace("_hits_total", "_misses_total")
            misses = others.get((all_misses, labels))
            asked = hits
            if misses is None:  # counted once, for several kinds of hits
                misses = others.get((all_misses, ""))
                asked = sum(value for key, value in others.items() if key[0] == name)
            if misses is not None:
                what = " ".join(filter(None, (short_name(name).removesuffix(" hits"), labels)))
                found[what] = hits / (asked + misses) if asked + misses else None
    return found


def short_name(name: str) -> str:
    """A metric's name for a person."""
    return name.removeprefix("shoal_").removesuffix("_total").replace("_", " ")
