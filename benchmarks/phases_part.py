"""Part `phases`: where the time of a search goes, by the router's own clock, at 1 and 16 connections.

The router's histograms (/metrics) are read before and after a load; their difference is what is reported: of each phase
the mean, which add up to the mean of the whole (cluster/search_times.py says what the phases are). What the load
generator sees beyond that, as medians, is HAProxy, the sockets, and the two wake-ups of whoever waits.
"""

from __future__ import annotations

from benchmarks import wrk
from benchmarks.bench import Bench, run_load, running, say
from benchmarks.query_bodies import query_bodies
from benchmarks.results import Row
from cluster.histogram import Histogram
from cluster.search_times import PHASES
from deployments.top_reading import Snapshot
from deployments.top_source import ObservingClient

PART = "phases"
CONNECTIONS = (1, 16)
WARM_S = 1.0
US = 1e6


def measure(bench: Bench) -> list[Row]:
    """A row for each phase, for each shard, and for what is outside."""
    file = bench.write_bodies("queries.jsonl", query_bodies(bench.data.queries, bench.ask))
    rows: list[Row] = []
    with running(bench.shoal) as info, ObservingClient(info.url) as client:
        target = wrk.Target(info.url, bench.path, file)
        for connections in CONNECTIONS:
            wrk.run(target, connections, WARM_S)
            before = client.metrics()
            outcome, cpu = run_load(info, target, connections, bench.scale.run_s * bench.scale.rounds)
            found = client.metrics().since(before)
            say(f"{connections} connections: {outcome.rate:,.0f}/s, p50 {outcome.p50_ms:.3f} ms; {cpu}")
            rows += _rows(bench, connections, found, outcome)
    return rows


def _rows(bench: Bench, connections: int, found: Snapshot, outcome: wrk.Outcome) -> list[Row]:
    phases = {name: found.histograms["shoal_search_phase_seconds", name] for name in PHASES}
    whole = found.histograms["shoal_http_request_seconds", "search"]
    mean_s = whole.sum_s / whole.count
    at = f"{connections} connections"
    rows = [
        _row(bench, f"{name}, {at}", held, f"{held.sum_s / held.count / mean_s:.0%} of the router's time")
        for name, held in phases.items()
    ]
    for (metric, shard), held in sorted(found.histograms.items()):
        if metric == "shoal_shard_search_seconds" and held.count:
            rows.append(_row(bench, f"until shard {shard} has answered, {at}", held, "within scatter and gather"))
    rows.append(_row(bench, f"the router as a whole, {at}", whole, f"{whole.count} searches"))
    outside_us = (outcome.p50_ms / 1000 - (whole.quantile(0.5) or 0.0)) * US
    note = f"median seen by the client, {outcome.p50_ms * 1000:.0f} us, less the router's median"
    return [*rows, bench.row(PART, f"outside the router, {at}", outside_us, "us", note=note)]


def _row(bench: Bench, what: str, held: Histogram, note: str) -> Row:
    quantiles = ", ".join(
        f"p{fraction * 100:.0f} {(held.quantile(fraction) or 0) * US:.0f}" for fraction in (0.5, 0.99)
    )
    return bench.row(PART, what, held.sum_s / held.count * US, "us, mean", note=f"{quantiles}; {note}")
