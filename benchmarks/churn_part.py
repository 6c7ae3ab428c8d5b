"""Part `churn`: recall and rate of a collection half of whose points were deleted or overwritten, beside a new one.

A quarter of the loaded points is deleted, another quarter gets other vectors. Once the segments are at rest the collection
is compared with one that is loaded from the points that are left, on the same cluster, with the same ef.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import numpy as np

from benchmarks import wrk
from benchmarks.bench import Bench, say
from benchmarks.datasets import Floats, Ids, K, exact_nearest, recall
from benchmarks.engine import Engine, Part, engine_cluster, in_words, write_points
from benchmarks.query_bodies import Ask, query_bodies
from benchmarks.results import Row
from shards.schema import HnswSpec

PART = "churn"
CHURNED, FRESH = "churned", "fresh"
SHARE_MIN = 0.95
CONNECTIONS = 16
BATCH = 500
SEED = 7


@dataclass(frozen=True)
class _Points:
    """ids (n,), vectors (n, dim), and the true neighbours' ids of the queries, (nq, K)."""

    ids: Ids
    vectors: Floats
    truth: Ids


@dataclass
class _Figures:
    recall: float
    parts: list[Part]
    rates: list[float] = field(default_factory=list)
    errors: int = 0


def measure(bench: Bench) -> list[Row]:
    """Load, change half of it, wait, compare."""
    count = bench.scale.engine_points
    parquet = bench.data.folder / f"first-{count}.parquet"
    write_points(parquet, np.arange(count, dtype=np.uint64), bench.data.vectors[:count])
    with engine_cluster(bench, PART) as engine:
        engine.load(parquet, CHURNED)
        left = _change_half(bench, engine, count)
        _, rest_s = engine.await_rest(CHURNED, bench.scale.quiet_s)
        say(f"at rest {rest_s:.1f} s after the last change: {in_words(engine.parts(CHURNED))}")
        final = bench.data.folder / f"churned-{count}.parquet"
        write_points(final, left.ids, left.vectors)
        engine.load(final, FRESH)
        for collection in (CHURNED, FRESH):
            if (counted := engine.count(collection)) != len(left.ids):
                raise RuntimeError(f"{collection} counts {counted} points instead of {len(left.ids)}")
        return _rows(bench, _compare(bench, engine, left), rest_s)


def _change_half(bench: Bench, engine: Engine, count: int) -> _Points:
    """Delete a quarter, overwrite a quarter with vectors of points that were not loaded; what is left."""
    order = np.random.default_rng(SEED).permutation(count)
    deleted, overwritten = order[: count // 4], order[count // 4 : count // 2]
    vectors = np.array(bench.data.vectors[:count])
    vectors[overwritten] = bench.data.vectors[count : count + len(overwritten)]
    path = f"/collections/{CHURNED}/points"
    for start in range(0, len(deleted), BATCH):
        engine.ask("POST", f"{path}/delete?wait=true", {"points": deleted[start : start + BATCH].tolist()})
        rows = overwritten[start : start + BATCH].tolist()
        points = [{"id": row, "vector": vectors[row], "payload": {"n": row}} for row in rows]
        engine.ask("PUT", f"{path}?wait=true", {"points": points})
    kept = np.sort(order[count // 4 :])
    nearest = exact_nearest(vectors[kept], bench.data.queries, K)
    ids = kept.astype(np.uint64)
    return _Points(ids, vectors[kept], ids[nearest])


def _compare(bench: Bench, engine: Engine, left: _Points) -> dict[str, _Figures]:
    bodies = query_bodies(bench.data.queries, Ask(K, HnswSpec().ef_search, with_payload=False))
    file = bench.write_bodies("churn-queries.jsonl", bodies)
    paths = {collection: f"/collections/{collection}/points/query" for collection in (CHURNED, FRESH)}
    figures = {
        collection: _Figures(recall(engine.client.ask_all(path, bodies, K), left.truth), engine.parts(collection))
        for collection, path in paths.items()
    }
    for _ in range(bench.scale.rounds):
        for collection, path in paths.items():
            outcome = wrk.run(wrk.Target(engine.info.url, path, file), CONNECTIONS, bench.scale.run_s)
            figures[collection].rates.append(outcome.rate)
            figures[collection].errors += outcome.errors
            say(f"{collection}: {outcome.rate:,.0f} requests/s, {outcome.errors} errors")
    return figures


def _rows(bench: Bench, figures: dict[str, _Figures], rest_s: float) -> list[Row]:
    churned, fresh = figures[CHURNED], figures[FRESH]
    target, ef = bench.target(SHARE_MIN), f"ef {HnswSpec().ef_search}"
    rate = median(churned.rates) / median(fresh.rates)
    rows = [
        bench.row(PART, "at rest after the last change", rest_s, "s", note=f"{bench.scale.engine_points:,} points")
    ]
    for name, one in figures.items():
        note = f"{ef}, {in_words(one.parts)}"
        rows += [
            bench.row(PART, f"{name}: recall@10", one.recall, "", note=note),
            bench.row(PART, f"{name}: searches, {CONNECTIONS} connections", median(one.rates), "requests/s"),
        ]
    return [
        *rows,
        bench.row(PART, "recall beside fresh", churned.recall / fresh.recall, "x fresh", target=target),
        bench.row(PART, "searches beside fresh", rate, "x fresh", target=target),
        bench.row(PART, "errors", churned.errors + fresh.errors, "", target=0, bound="at most"),
    ]
