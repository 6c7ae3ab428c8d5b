"""Part `writes`: upserts at a fixed rate, each acknowledged after its fsync, while one client searches.

Half of the writes overwrite points that were loaded, half are new. They come from a process of their own, so that the
searching client's own Python is no part of the searches' latency. Both are open loops (open_loop.py). What the shards
write to the disk counts until their segments are at rest again.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import sleep

import numpy as np
import orjson

from benchmarks import open_loop
from benchmarks.bench import Bench, say
from benchmarks.datasets import Floats
from benchmarks.engine import Engine, Part, engine_cluster, in_words, write_points
from benchmarks.http_client import Client
from benchmarks.open_loop import Timings
from benchmarks.query_bodies import Ask, query_bodies
from benchmarks.results import Row
from benchmarks.shard_processes import written_bytes
from shards.schema import HnswSpec

PART = "writes"
COLLECTION = "written"
BATCH = 10
"""Points of one upsert."""
REQUESTS_PER_S = 105.0
UPSERTS_MIN = 1_000.0
WRITE_CONNECTIONS = 4
SEARCHES_PER_S = 20.0
RATIO_MAX = 2.0
NEW_FIRST = 10_000_000
"""Ids of new points; those of the data are smaller."""
ID_BYTES = 8
POLL_S = 1.0


@dataclass(frozen=True)
class WritePlan:
    """What the writing process needs: where to, the file with the vectors, how many of them are loaded, for how long."""

    url: str
    vectors: Path
    loaded: int
    seconds: float


@dataclass(frozen=True)
class _Measured:
    idle: Timings
    meanwhile: Timings
    writes: Timings
    parts: list[list[Part]]
    """Of each shard, once a second."""
    rested: list[Part]
    rest_s: float
    written: int
    idle_after: Timings
    """Alone again, over the points that there are then."""


def measure(bench: Bench) -> list[Row]:
    """Searches alone, then the same searches beside the writes."""
    count = bench.scale.engine_points
    parquet = bench.data.folder / f"first-{count}.parquet"
    write_points(parquet, np.arange(count, dtype=np.uint64), bench.data.vectors[:count])
    with engine_cluster(bench, PART) as engine:
        engine.load(parquet, COLLECTION)
        engine.await_rest(COLLECTION, bench.scale.quiet_s)
        return _rows(bench, _measure(bench, engine))


def send_upserts(plan: WritePlan) -> Timings:
    """The writing process."""
    vectors = np.load(plan.vectors, mmap_mode="r")
    path = f"/collections/{COLLECTION}/points?wait=true"

    def send(client: Client, number: int) -> None:
        client.send("PUT", path, _upsert_body(number, vectors, plan.loaded))

    return open_loop.run(plan.url, send, REQUESTS_PER_S, plan.seconds, WRITE_CONNECTIONS)


def _upsert_body(number: int, vectors: Floats, loaded: int) -> bytes:
    """Request `number`: the first half of its points overwrites loaded ones, the others are new."""
    points = []
    for place in range(number * BATCH, (number + 1) * BATCH):
        is_new = place % BATCH >= BATCH // 2
        # Neighbouring places fall far apart, and no id is written twice in a row.
        point_id = NEW_FIRST + place if is_new else (place * 7_919) % loaded
        vector = np.asarray(vectors[(loaded + place) % len(vectors)])
        points.append({"id": point_id, "vector": vector, "payload": {"n": point_id}})
    return orjson.dumps({"points": points}, option=orjson.OPT_SERIALIZE_NUMPY)


def _measure(bench: Bench, engine: Engine) -> _Measured:
    bodies = query_bodies(bench.data.queries, Ask(10, HnswSpec().ef_search, with_payload=False))
    url, scale = engine.info.url, bench.scale
    search = partial(_send_search, bodies)
    idle = open_loop.run(url, search, SEARCHES_PER_S, scale.idle_s, 1)
    say(f"searches alone: p50 {idle.percentile(50):.2f} ms, p99 {idle.percentile(99):.2f} ms")
    plan = WritePlan(url, bench.data.folder / "vectors.npy", scale.engine_points, scale.write_s)
    pids = engine.pids()
    before = sum(map(written_bytes, pids.values()))
    parts = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        writing = pool.submit(send_upserts, plan)
        searching = pool.submit(_search_for, url, bodies, scale.write_s)
        while not (writing.done() and searching.done()):
            parts.append(engine.parts(COLLECTION))
            sleep(POLL_S)
        writes, meanwhile = writing.result(), searching.result()
    say(f"writes: {writes.rate * BATCH:,.0f} upserts/s, p99 {writes.percentile(99):.1f} ms, {writes.errors} errors")
    rested, rest_s = engine.await_rest(COLLECTION, scale.quiet_s)
    if engine.pids() != pids:
        raise RuntimeError("a shard's process was replaced during the measurement; see the cluster's log")
    written = sum(map(written_bytes, pids.values())) - before
    idle_after = open_loop.run(url, search, SEARCHES_PER_S, scale.idle_s, 1)
    return _Measured(idle, meanwhile, writes, parts, rested, rest_s, written, idle_after)


def _search_for(url: str, bodies: list[bytes], seconds: float) -> Timings:
    return open_loop.run(url, partial(_send_search, bodies), SEARCHES_PER_S, seconds, 1)


def _send_search(bodies: list[bytes], client: Client, number: int) -> None:
    client.send("POST", f"/collections/{COLLECTION}/points/query", bodies[number % len(bodies)])


def _rows(bench: Bench, found: _Measured) -> list[Row]:
    writes, idle, busy = found.writes, found.idle, found.meanwhile
    upserts = len(writes.latencies_ms) * BATCH
    payload_bytes = len(orjson.dumps({"n": NEW_FIRST}))
    user_bytes = upserts * (4 * bench.data.spec.dim + ID_BYTES + payload_bytes)
    note = f"{BATCH} points a request, {REQUESTS_PER_S:.0f} requests/s asked for, {bench.scale.write_s:.0f} s"
    most = max(part.segments for parts in found.parts for part in parts)
    target, errors = bench.target(UPSERTS_MIN), writes.errors + idle.errors + busy.errors
    rows = [
        bench.row(PART, "upserts acknowledged", writes.rate * BATCH, "upserts/s", target=target, note=note),
        bench.row(PART, "write p50", writes.percentile(50), "ms"),
        bench.row(PART, "write p99", writes.percentile(99), "ms"),
    ]
    for percent in (50, 99):
        ratio = busy.percentile(percent) / idle.percentile(percent)
        rows += [
            bench.row(PART, f"search p{percent}, idle", idle.percentile(percent), "ms"),
            bench.row(PART, f"search p{percent}, idle, afterwards", found.idle_after.percentile(percent), "ms"),
            bench.row(PART, f"search p{percent}, beside writes", busy.percentile(percent), "ms"),
            bench.row(
                PART,
                f"search p{percent}, beside idle",
                ratio,
                "x idle",
                target=bench.target(RATIO_MAX),
                bound="at most",
            ),
        ]
    return [
        *rows,
        bench.row(PART, "segments of a shard, the most", most, "", note=f"at rest: {in_words(found.rested)}"),
        bench.row(PART, "at rest after the last write", found.rest_s, "s"),
        bench.row(PART, "written to disk beside the user's bytes", found.written / user_bytes, "x"),
        bench.row(PART, "errors", errors, "", target=0, bound="at most", note=writes.first_error or busy.first_error),
    ]
