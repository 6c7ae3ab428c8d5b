"""`make demo`: from nothing to answers. Starts a cluster, loads 399,000 word vectors, asks, and measures.

Everything goes the way that users go: the same `up`, the same load, the same HTTP API. The cluster stays up at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from deployments.commands.load import run_load
from deployments.commands.options import cluster_client, cluster_url, read_secret, read_settings
from deployments.demo_data import DIM, DemoData, exact_neighbours, prepare
from deployments.http_client import ClusterClient
from deployments.terminal import guarded, note, phases, print_table
from shards.errors import Conflict

COLLECTION = "glove"
WORD = "ocean"
K = 10
FOLDER = Path("shoal-demo")
BATCH = 100

T = TypeVar("T")


def main() -> int:
    """Run the demo; the exit code."""
    return guarded(_demo)


def _demo() -> int:
    started = perf_counter()
    data = _timed("writing the words to a Parquet file", lambda: prepare(FOLDER))
    url = _ensure_cluster()
    with cluster_client(None, None, None) as client:
        _forget_earlier_demo(client)
        load_s, rows = _load(data)
        body = {"query": data.vector_of(WORD), "limit": K, "with_payload": True}
        _show_neighbours(client.query(COLLECTION, body))
        (FOLDER / "ocean.json").write_text(json.dumps(body))
        truth = _timed("searching exactly, to compare", lambda: exact_neighbours(data, K))
        _show_measured(client, data, truth, rows / load_s)
    print(f"\nAll of it took {perf_counter() - started:.0f} s. The cluster goes on; ask it:\n")
    print(f"  curl -s {url}/collections/{COLLECTION}/points/query -H 'content-type: application/json' \\")
    print(f"    -d @{FOLDER}/ocean.json")
    print("\n`.venv/bin/shoal status` shows the cluster, `.venv/bin/shoal down` ends it.")
    return 0


def _ensure_cluster() -> str:
    """The URL of the cluster on the data folder, started if none runs."""
    from deployments import lifecycle

    settings = read_settings(None)
    if lifecycle.status(settings).ready:
        url = cluster_url(None, None)
        note(f"using the cluster that runs at {url}")
        return url
    started = perf_counter()
    with phases("starting the cluster") as on_phase:
        url = lifecycle.up(settings, on_phase=on_phase).url
    note(f"the cluster answers at {url} after {perf_counter() - started:.1f} s")
    return url


def _forget_earlier_demo(client: ClusterClient) -> None:
    if COLLECTION not in client.collections():
        return
    found = client.retrieve(COLLECTION, [0])
    if found and set(found[0]["payload"]) != {"word", "length", "first_letter", "rank"}:
        raise Conflict(
            f"collection `{COLLECTION}` exists and is not the demo's: delete it, or use another data folder"
        )
    client.delete(COLLECTION)


def _load(data: DemoData) -> tuple[float, int]:
    from deployments.loading.load import LoadOrder
    from deployments.loading.source import open_source
    from deployments.loading.target import NewCollection

    source = open_source(data.file)
    started = perf_counter()
    report = run_load(
        LoadOrder(source, COLLECTION, NewCollection()), cluster_client(None, None, None), read_secret(None)
    )
    return perf_counter() - started, report.rows


def _show_neighbours(hits: Sequence[dict[str, Any]]) -> None:
    print(f"\nWhich words are near *{WORD}*?")
    rows = [(hit["payload"]["word"], float(hit["score"]), hit["payload"]["rank"]) for hit in hits]
    print_table(["word", "score", "rank"], rows)


def _show_measured(client: ClusterClient, data: DemoData, truth: Sequence[set[int]], load_rows_per_s: float) -> None:
    bodies = [{"query": query.tolist(), "limit": K} for query in data.queries]
    latencies_s, hit_count = [], 0
    for body, expected in zip(bodies, truth, strict=True):
        started = perf_counter()
        hits = client.query(COLLECTION, body)
        latencies_s.append(perf_counter() - started)
        hit_count += len({hit["id"] for hit in hits} & expected)
    started = perf_counter()
    for first in range(0, len(bodies), BATCH):
        client.query_batch(COLLECTION, bodies[first : first + BATCH])
    batch_s = perf_counter() - started
    print_table(
        ["measured", "value"],
        [
            (f"words loaded ({DIM} components each)", f"{len(data.ids):,}"),
            ("loaded per second, graphs included", f"{load_rows_per_s:,.0f}"),
            (f"recall@{K} of {len(bodies):,} held-out words", f"{hit_count / K / len(bodies):.3f}"),
            ("queries per second, one after the other", f"{len(bodies) / sum(latencies_s):,.0f}"),
            ("median latency over HTTP", f"{median(latencies_s) * 1000:.2f} ms"),
            (f"queries per second, in batches of {BATCH}", f"{len(bodies) / batch_s:,.0f}"),
        ],
    )


def _timed(what: str, step: Callable[[], T]) -> T:
    started = perf_counter()
    done = step()
    note(f"{what}: {perf_counter() - started:.1f} s")
    return done


if __name__ == "__main__":
    sys.exit(main())
