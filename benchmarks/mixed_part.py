"""Part `mixed`: searches, filtered searches, upserts and deletes side by side for a long time, at 70 % of the peak.

Of twenty requests twelve search, four search with a filter, three upsert five points each and one deletes fifteen that were
upserted a thousand requests before, so the collection stays as large as it is. The peak is what the same requests reach
when each of the connections sends its next one at once; it costs the load generator's own Python, too. Then the mix comes
as an open loop at a fixed rate (open_loop.py). Afterwards the peak is measured once more: a machine whose speed changes
within half an hour shows there. Memory is the anonymous memory of all of the cluster's processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import orjson

from benchmarks import open_loop
from benchmarks.bench import COLLECTION, Bench, say
from benchmarks.engine import Engine, engine_cluster
from benchmarks.http_client import Client
from benchmarks.query_bodies import Ask, query_bodies
from benchmarks.results import Row
from benchmarks.shard_processes import memory_of
from deployments.lifecycle import cluster_processes
from shards.schema import HnswSpec

PART = "mixed"
CONNECTIONS = 8
SHARE_OF_PEAK = 0.7
PEAK_S = 300.0
"""Long enough for seals and compactions to come by, without them a fifth more is answered, and for the machine's moods."""
P95_MAX_MS, P99_MAX_MS = 50.0, 200.0
GROWTH_MAX = 1.05
"""Memory at the end beside that after the first tenth."""
CYCLE = ("search",) * 12 + ("filtered",) * 4 + ("upsert",) * 3 + ("delete",)
UPSERTED = 5
PER_CYCLE = UPSERTED * CYCLE.count("upsert")
DELETED_AFTER = 50
"""Cycles between a point's upsert and its deletion."""
NEW_FIRST = 10_000_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
POLL_S = 5.0
MIB = 2**20

Memory = dict[int, int]
"""Anonymous bytes by process."""


@dataclass(frozen=True)
class MixPlan:
    """What the load's process needs. `rate` requests/s; `first_cycle`: new points begin with its own."""

    url: str
    vectors: Path
    bodies: list[bytes]
    filtered: list[bytes]
    rate: float
    seconds: float
    first_cycle: int = 0


@dataclass
class Mixed:
    """What became of a load: all requests, and latencies in ms of answered ones by kind, from sending to answer."""

    timings: open_loop.Timings
    by_kind: dict[str, list[float]] = field(default_factory=dict)


def measure(bench: Bench) -> list[Row]:
    """The peak, then the long load."""
    with engine_cluster(bench, PART) as engine:
        engine.load(bench.data.parquet, COLLECTION)
        engine.ask(
            "PUT", f"/collections/{COLLECTION}/index", {"field_name": "first_letter", "field_schema": "keyword"}
        )
        engine.await_rest(COLLECTION, bench.scale.quiet_s)
        plain = query_bodies(bench.data.queries, Ask(10, HnswSpec().ef_search, with_payload=True))
        plan = (engine.info.url, bench.data.folder / "vectors.npy", plain, _filtered(plain))
        closed = MixPlan(*plan, rate=0.0, seconds=min(PEAK_S, bench.scale.write_s))
        peak = _peak(closed)
        engine.await_rest(COLLECTION, bench.scale.quiet_s)
        rate = SHARE_OF_PEAK * peak.rate
        long = MixPlan(*plan, rate=rate, seconds=bench.scale.write_s, first_cycle=1_000_000)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            running, memory = pool.submit(send_mix, long), []
            while not running.done():
                memory.append(_memory(engine))
                sleep(POLL_S)
        peaks = (peak, _peak(replace(closed, first_cycle=2_000_000)))
        return [*_rows(bench, peaks, long, running.result()), _memory_row(bench, engine, memory)]


def send_mix(plan: MixPlan) -> Mixed:
    """The load's process. A rate of 0: as fast as the answers come."""
    vectors = np.load(plan.vectors, mmap_mode="r")
    found = Mixed(open_loop.Timings(), {kind: [] for kind in CYCLE})
    base = f"/collections/{COLLECTION}/points"

    def send(client: Client, number: int) -> None:
        kind, cycle = CYCLE[number % len(CYCLE)], plan.first_cycle + number // len(CYCLE)
        began = perf_counter()
        if kind in ("search", "filtered"):
            bodies = plan.bodies if kind == "search" else plan.filtered
            client.send("POST", f"{base}/query", bodies[number % len(bodies)])
        elif kind == "upsert":
            first = NEW_FIRST + cycle * PER_CYCLE + (number % len(CYCLE) - CYCLE.index("upsert")) * UPSERTED
            client.send("PUT", f"{base}?wait=true", _upsert_body(first, vectors))
        else:
            first = NEW_FIRST + (cycle - DELETED_AFTER) * PER_CYCLE
            client.send(
                "POST", f"{base}/delete?wait=true", orjson.dumps({"points": [*range(first, first + PER_CYCLE)]})
            )
        found.by_kind[kind].append((perf_counter() - began) * 1000)

    if plan.rate:
        found.timings = open_loop.run(plan.url, send, plan.rate, plan.seconds, CONNECTIONS)
    else:
        found.timings = open_loop.run_closed(plan.url, send, plan.seconds, CONNECTIONS)
    return found


def _peak(plan: MixPlan) -> open_loop.Timings:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(send_mix, plan).result().timings
    say(f"peak: {found.rate:,.0f} requests/s, {found.errors} errors {found.first_error}")
    return found


def _filtered(bodies: list[bytes]) -> list[bytes]:
    """The same queries, each within the words that begin with one letter."""
    found = []
    for number, body in enumerate(bodies):
        letter: dict[str, Any] = {"key": "first_letter", "match": {"value": LETTERS[number % len(LETTERS)]}}
        found.append(orjson.dumps({**orjson.loads(body), "filter": {"must": [letter]}}))
    return found


def _upsert_body(first: int, vectors: Any) -> bytes:
    points = [
        {"id": one, "vector": np.asarray(vectors[one % len(vectors)]), "payload": {"first_letter": LETTERS[one % 26]}}
        for one in range(first, first + UPSERTED)
    ]
    return orjson.dumps({"points": points}, option=orjson.OPT_SERIALIZE_NUMPY)


def _memory(engine: Engine) -> Memory:
    found = {}
    for pid in cluster_processes(engine.info):
        with suppress(OSError):
            found[pid] = memory_of(pid).anonymous
    return found


def _rows(bench: Bench, peaks: Sequence[open_loop.Timings], plan: MixPlan, found: Mixed) -> list[Row]:
    timings, (before, after) = found.timings, peaks
    note = f"{plan.seconds:.0f} s at {plan.rate:,.0f} requests/s asked for, {CONNECTIONS} connections"
    rows = [
        bench.row(PART, "peak", before.rate, "requests/s", note=f"{before.errors} errors"),
        bench.row(PART, "answered", timings.rate, "requests/s", note=note),
        bench.row(PART, "peak, once more afterwards", after.rate, "requests/s", note=f"{after.errors} errors"),
    ]
    for percent, target in ((50, None), (95, P95_MAX_MS), (99, P99_MAX_MS)):
        row = bench.row(
            PART,
            f"p{percent}, from when it was due",
            timings.percentile(percent),
            "ms",
            target=None if target is None else bench.target(target),
            bound="at most",
            note=_in_minutes(timings.minutes(percent), target),
        )
        rows.append(row)
    for kind, latencies in found.by_kind.items():
        told = f"p50 {np.percentile(latencies, 50):.2f}, p95 {np.percentile(latencies, 95):.2f} ms"
        rows.append(
            bench.row(PART, f"{kind}: p99, from sending", float(np.percentile(latencies, 99)), "ms", note=told)
        )
    errors = bench.row(PART, "errors", timings.errors, "", target=0, bound="at most", note=timings.first_error)
    return [*rows, errors]


def _in_minutes(found: list[float], target: float | None) -> str:
    told = f"minutes: median {np.median(found):,.1f}, worst {max(found):,.1f} ms"
    if target is None:
        return told
    return f"{told}, {sum(one > target for one in found)} of {len(found)} above {target:.0f}"


def _memory_row(bench: Bench, engine: Engine, memory: list[Memory]) -> Row:
    """At the end, the median of the last tenth, beside that after the first tenth."""
    totals = [sum(found.values()) for found in memory]
    early, late = totals[len(totals) // 10], float(np.median(totals[-max(1, len(totals) // 10) :]))
    grown = {pid: now - memory[len(memory) // 10].get(pid, 0) for pid, now in memory[-1].items()}
    told = f"{early / MIB:,.0f} MiB after a tenth, {late / MIB:,.0f} at the end, {max(totals) / MIB:,.0f} at the most"
    shards = sum(grown.get(pid, 0) for pid in engine.pids().values())
    told += f"; of what was added {shards / MIB:,.0f} MiB in shards, {(sum(grown.values()) - shards) / MIB:,.0f} elsewhere"
    return bench.row(
        PART, "memory at the end", late / early, "x", target=bench.target(GROWTH_MAX), bound="at most", note=told
    )
