"""Part `filters`: searches that let half, a tenth, a hundredth and a thousandth of the points through, beside unfiltered ones.

Every point has four integers, seeded and independent of its vector; a filter asks for one value of one of them, another for
each query. The fields are declared, so that their indexes answer. Recall is measured against brute force over the matching
points; at the hundredth and below an answer has to be exact.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import wrk
from benchmarks.bench import RECALL_MIN, Bench, say
from benchmarks.datasets import ROW_GROUP, K, exact_nearest, recall
from benchmarks.engine import Engine, engine_cluster
from benchmarks.query_bodies import found_ids
from benchmarks.results import Row

PART = "filters"
COLLECTION = "filtered"
VALUES = {"half": 2, "tenth": 10, "hundredth": 100, "thousandth": 1_000}
"""How many different values each field has: a filter for one lets one in so many points through."""
EXACT = frozenset({"hundredth", "thousandth"})
CONNECTIONS = 16
THROUGHPUT_MIN = 0.5
EF = 128
"""Recall of the unfiltered search is above RECALL_MIN with it."""
SEED = 11
INDEX_S_MAX = 120.0
UNFILTERED = "unfiltered"

Columns = dict[str, npt.NDArray[np.int64]]


def measure(bench: Bench) -> list[Row]:
    """Load with payloads, declare, then recall and rates of each."""
    count = len(bench.data.vectors)
    random = np.random.default_rng(SEED)
    columns = {name: random.integers(0, values, count) for name, values in VALUES.items()}
    parquet = bench.data.folder / f"filters-{count}.parquet"
    _write(parquet, bench, columns)
    with engine_cluster(bench, PART) as engine:
        engine.load(parquet, COLLECTION)
        engine.await_rest(COLLECTION, bench.scale.quiet_s / 4)
        indexed_s = _declare(engine, count)
        return _rows(bench, engine, columns, indexed_s)


def _write(path: Path, bench: Bench, columns: Columns) -> None:
    writer = None
    for start in range(0, len(bench.data.vectors), ROW_GROUP):
        rows = slice(start, start + ROW_GROUP)
        vectors = np.ascontiguousarray(bench.data.vectors[rows], np.float32)
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        payload = {name: values[rows] for name, values in columns.items()}
        table = pa.table({"id": bench.data.ids[rows], "vector": vector, **payload})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _declare(engine: Engine, count: int) -> float:
    """Declare the fields; seconds until every point is in their indexes."""
    began = monotonic()
    for name in VALUES:
        body = {"field_name": name, "field_schema": "integer"}
        engine.ask("PUT", f"/collections/{COLLECTION}/index?wait=true", body)
    while monotonic() < began + INDEX_S_MAX:
        schema = engine.ask("GET", f"/collections/{COLLECTION}")["payload_schema"]
        if all(schema.get(name, {}).get("points") == count for name in VALUES):
            return monotonic() - began
        sleep(0.2)
    raise RuntimeError(f"after {INDEX_S_MAX:.0f} s the fields are not indexed: {schema}")


def _bodies(bench: Bench, field: str | None) -> list[bytes]:
    bodies = []
    for number, query in enumerate(bench.data.queries):
        body: dict[str, object] = {"query": query, "limit": K, "params": {"hnsw_ef": EF}}
        if field is not None:
            body["filter"] = {"must": [{"key": field, "match": {"value": number % VALUES[field]}}]}
        bodies.append(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
    return bodies


def _recall(bench: Bench, engine: Engine, field: str | None, columns: Columns, bodies: list[bytes]) -> float:
    path = f"/collections/{COLLECTION}/points/query"
    found = np.concatenate([found_ids(engine.client.send("POST", path, body), K) for body in bodies])
    if field is None:
        return recall(found, bench.data.truth)
    truth = np.zeros((len(bodies), K), np.uint64)
    for value in range(min(VALUES[field], len(bodies))):
        rows = np.flatnonzero(columns[field] == value)
        asked = np.arange(value, len(bodies), VALUES[field])
        nearest = exact_nearest(bench.data.vectors[rows], bench.data.queries[asked], K)
        truth[asked] = bench.data.ids[rows[nearest]]
    return recall(found, truth)


def _rows(bench: Bench, engine: Engine, columns: Columns, indexed_s: float) -> list[Row]:
    path = f"/collections/{COLLECTION}/points/query"
    names: list[str | None] = [None, *VALUES]
    rates: dict[str, list[wrk.Outcome]] = {name or UNFILTERED: [] for name in names}
    rows = [bench.row(PART, "four fields indexed", indexed_s, "s", note=f"{len(bench.data.vectors):,} points")]
    targets = {}
    for name in names:
        bodies = _bodies(bench, name)
        targets[name or UNFILTERED] = bench.write_bodies(f"filter-{name}.jsonl", bodies)
        found = _recall(bench, engine, name, columns, bodies)
        say(f"{name or UNFILTERED}: recall@10 {found:.4f}")
        least = 0.9999 if name in EXACT else RECALL_MIN
        rows.append(bench.row(PART, f"{name or UNFILTERED}: recall@10", found, "", target=least, note=f"ef {EF}"))
    for _ in range(bench.scale.rounds):
        for label, file in targets.items():
            outcome = wrk.run(wrk.Target(engine.info.url, path, file), CONNECTIONS, bench.scale.run_s)
            rates[label].append(outcome)
            say(f"{label}: {outcome.rate:,.0f}/s, p50 {outcome.p50_ms:.2f} ms, {outcome.errors} errors")
    typical = {label: wrk.typical(outcomes) for label, outcomes in rates.items()}
    for label, one in typical.items():
        note = f"p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, {one.errors} errors"
        what = f"{label}, {CONNECTIONS} connections"
        rows.append(bench.row(PART, what, one.rate, "requests/s", note=note))
        if label != UNFILTERED:
            share, target = one.rate / typical[UNFILTERED].rate, bench.target(THROUGHPUT_MIN)
            rows.append(bench.row(PART, f"{label}, beside unfiltered", share, "x", target=target))
    return rows
