"""Part `load`: rows per second of `shoal load`, from its start until the cluster counts them, beside hnswlib's own
build.

Shoal builds one graph a shard, one thread each. hnswlib builds the same vectors with as many threads: in one graph,
and in one graph for each shard, all at once. The cluster idles or is down meanwhile. The loaded folder is what the
other parts search.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from time import perf_counter

import numpy as np
import orjson

from benchmarks.bench import COLLECTION, CORES, SHARD_COUNT, Bench, running, say
from benchmarks.graphs import build, build_side_by_side, id_array, save_single
from benchmarks.http_client import Client
from benchmarks.results import Row

PART = "load"
SHARE_MIN = 0.8


def measure(bench: Bench) -> list[Row]:
    """The three rates, and Shoal's beside each of the other two."""
    count = bench.data.spec.point_count
    for folder in bench.data.folder.glob("shoal-data-*"):
        shutil.rmtree(folder)  # of other shard counts, loaded by another day's code
    vectors = np.array(bench.data.vectors)
    began = perf_counter()
    index = build(vectors, CORES)
    one_graph = count / (perf_counter() - began)
    say(f"hnswlib, one graph, {CORES} threads: {one_graph:,.0f} vectors/s")
    save_single(bench.data, index)
    del index
    shoal = count / load(bench)
    say(f"shoal load: {shoal:,.0f} rows/s")
    side_by_side = count / build_side_by_side(bench.data, SHARD_COUNT)
    say(f"hnswlib, {SHARD_COUNT} graphs at once, one thread each: {side_by_side:,.0f} vectors/s")
    target = bench.target(SHARE_MIN)
    return [
        bench.row(PART, f"hnswlib, one graph, {CORES} threads", one_graph, "vectors/s"),
        bench.row(PART, f"hnswlib, {SHARD_COUNT} graphs at once, one thread each", side_by_side, "vectors/s"),
        bench.row(PART, f"shoal load, {SHARD_COUNT} shards", shoal, "rows/s", note=f"{count:,} rows"),
        bench.row(PART, "load beside one graph", shoal / one_graph, "x hnswlib", target=target),
        bench.row(PART, f"load beside {SHARD_COUNT} graphs", shoal / side_by_side, "x hnswlib", target=target),
    ]


def load(bench: Bench) -> float:
    """Load the data into a new folder; seconds until the cluster counts all of it."""
    folder = bench.shoal.data_folder
    shutil.rmtree(folder, ignore_errors=True)
    with running(bench.shoal) as info, Client(info.url) as client:
        began = perf_counter()
        subprocess.run(_command(bench), check=True)
        counted = orjson.loads(client.send("POST", f"/collections/{COLLECTION}/points/count", b"{}"))["result"][
            "count"
        ]
        spent_s = perf_counter() - began
    if counted != bench.data.spec.point_count:
        raise RuntimeError(f"the cluster counts {counted} points of {bench.data.spec.point_count}")
    vars(bench).pop("shard_graphs", None)  # read before, of a folder that is gone
    if not np.array_equal(np.sort(id_array(bench.shard_graphs)), np.sort(bench.data.ids)):
        raise RuntimeError(f"{folder} does not hold the ids that were loaded")
    return spent_s


def ensure_loaded(bench: Bench) -> None:
    """Load the data unless an earlier run has."""
    try:
        held = sum(len(graph.ids) for graph in bench.shard_graphs)
    except SystemExit:
        held = 0
    if held != bench.data.spec.point_count:
        load(bench)


def _command(bench: Bench) -> list[str]:
    return [
        *(sys.executable, "-m", "deployments.cli", "load", str(bench.data.parquet), "--collection", COLLECTION),
        *("--create", "--data", str(bench.shoal.data_folder)),
    ]
