"""One frame of `shoal top`, as rich renders it: from numbers to a picture, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.histogram import Histogram
from cluster.search_times import PHASES
from deployments.top_reading import CLASSES, Key, Snapshot, Traffic, hit_rates, short_name

BAR_CELLS = 10
OTHERS_MAX = 24
_LEVEL_STYLES = {"normal": "green", "throttle": "yellow", "refuse": "red"}


@dataclass(frozen=True, slots=True)
class Frame:
    """`over`: the time that rates are about, in words. `readiness`: as /readyz tells it as JSON."""

    url: str
    snapshot: Snapshot
    traffic: Traffic
    router_count: int
    readiness: Mapping[str, Any]
    over: str


def render(frame: Frame) -> RenderableType:
    """The whole frame."""
    parts: list[RenderableType] = [
        _header(frame),
        _shards(frame),
        Columns([_requests(frame.traffic), _phases(frame.traffic)], padding=(0, 4)),
    ]
    rates = hit_rates(frame.traffic.others)
    if rates:
        parts.append(_hit_rates(rates))
    others = {key: value for key, value in frame.traffic.others.items() if not _is_of_a_rate(key[0], rates)}
    if any(others.values()):
        parts.append(_others(others))
    return Group(*parts)


def _header(frame: Frame) -> Text:
    about, snapshot = frame.snapshot.about, frame.snapshot
    ready = frame.readiness.get("ready", False)
    text = Text()
    text.append("Shoal ", "bold").append(about.get("version", "?")).append(f" at {frame.url}  ")
    text.append("ready" if ready else "NOT READY", "bold green" if ready else "bold red")
    routers = "1 router" if frame.router_count == 1 else f"{frame.router_count} routers"
    collections = "1 collection" if snapshot.collections == 1 else f"{snapshot.collections:,.0f} collections"
    text.append(f"\ncluster {about.get('cluster', '?')[:12]}, {routers}, {collections}; rates {frame.over}\n")
    for reason in frame.readiness.get("reasons", ()):
        text.append(f"{reason}\n", "red")
    return text


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    """The first `left` columns stand to the left, numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=True)
    return table


def _shards(frame: Frame) -> Table:
    columns = ("shard", "state", "memory", "points", "no graph", "segs", "files", "recall", "p50 ms", "p99 ms")
    table = _table("Shards", columns, left=3)
    for shard_id, told in sorted(frame.snapshot.shards.items()):
        latency = frame.traffic.histograms.get(("shoal_shard_search_seconds", str(shard_id)))
        table.add_row(
            str(shard_id),
            _state(told),
            _memory(told),
            *(_whole(told.get(name)) for name in ("points", "growing_points", "segments")),
            _bytes(told.get("file_bytes")),
            _shown(told.get("recall"), "{:.3f}"),
            _quantile_ms(latency, 0.5),
            _quantile_ms(latency, 0.99),
        )
    return table


def _state(told: Mapping[str, float | str]) -> Text:
    if not told.get("up"):
        return Text("down", "bold red")
    return Text("building", "yellow") if told.get("building") else Text("serves", "green")


def _memory(told: Mapping[str, float | str]) -> Text:
    """A bar where there is a limit, in the colour of the level."""
    used, limit = told.get("memory_used_bytes"), told.get("memory_limit_bytes")
    if not isinstance(used, float):
        return Text("-")
    if not isinstance(limit, float):
        return Text(f"{_bytes(used)}, no limit")
    filled = min(BAR_CELLS, round(BAR_CELLS * used / limit))
    style = _LEVEL_STYLES.get(str(told.get("memory_level")), "green")
    bar = Text("█" * filled, style).append("░" * (BAR_CELLS - filled), "dim")
    return bar.append(f" {used / limit:.0%} of {_bytes(limit)}")


def _requests(traffic: Traffic) -> Table:
    table = _table("Requests", ("class", "per s", "p50 ms", "p95 ms", "p99 ms"))
    for name in CLASSES:
        held = traffic.histograms.get(("shoal_http_request_seconds", name))
        quantiles = [_quantile_ms(held, fraction) for fraction in (0.5, 0.95, 0.99)]
        table.add_row(name, f"{traffic.rates[name]:,.1f}", *quantiles)
    table.add_section()
    table.add_row("refused (4xx)", Text(f"{traffic.refused:,.1f}", "yellow" if traffic.refused else ""))
    table.add_row("failed (5xx)", Text(f"{traffic.failed:,.1f}", "bold red" if traffic.failed else ""))
    return table


def _phases(traffic: Traffic) -> Table:
    table = _table("A search, by phase", ("phase", "mean ms", "share", "p50 ms", "p99 ms"))
    held = {name: traffic.histograms.get(("shoal_search_phase_seconds", name)) for name in PHASES}
    whole_s = sum(one.sum_s for one in held.values() if one)
    for name, one in held.items():
        if one is None or not one.count:
            table.add_row(name, *["-"] * 4)
            continue
        share = f"{one.sum_s / whole_s:.0%}" if whole_s else "-"
        table.add_row(name, _ms(one.sum_s / one.count), share, _ms(one.quantile(0.5)), _ms(one.quantile(0.99)))
    return table


def _hit_rates(rates: Mapping[str, float | None]) -> Table:
    table = _table("Hit rates", ("of", "hits"))
    for name, rate in rates.items():
        table.add_row(name, "-" if rate is None else f"{rate:.1%}")
    return table


def _others(others: Mapping[Key, float]) -> Table:
    """What else routers count: counters as rates, other numbers as they are; those that are 0 are left out."""
    table = _table("Counted besides", ("what", "", "per s or now"), left=2)
    told = [(key, value) for key, value in sorted(others.items()) if value]
    for (name, labels), value in told[:OTHERS_MAX]:
        table.add_row(short_name(name), labels, f"{value:,.2f}".rstrip("0").rstrip("."))
    return table


def _is_of_a_rate(name: str, rates: Mapping[str, float | None]) -> bool:
    base = name.removesuffix("_hits_total").removesuffix("_misses_total")
    return base != name and any(rate.startswith(short_name(base)) for rate in rates)


def _quantile_ms(held: Histogram | None, fraction: float) -> str:
    return _ms(None if held is None else held.quantile(fraction))


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    ms = seconds * 1000
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:,.0f}"


def _whole(value: float | str | None) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else "-"


def _shown(value: float | str | None, form: str) -> str:
    return form.format(value) if isinstance(value, float) else "-"


def _bytes(value: float | str | None) -> str:
    """In the largest unit that leaves at least one."""
    if not isinstance(value, float):
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
