"""Part `rebuild`: a shard whose graph was damaged while it was down: right answers at once, and a new graph soon.

100,000 seeded points x 128 on one shard. One byte of the graph's file is changed; the segment is then searched exactly,
and its graph is built anew from the vectors, by all cores, behind the searches.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from benchmarks.bench import Bench, running, say
from benchmarks.datasets import Floats, K
from benchmarks.engine import Engine, engine_cluster, write_points
from benchmarks.http_client import Client
from benchmarks.query_bodies import Ask, found_ids, query_bodies
from benchmarks.results import Row
from shards.distance import normalised
from shards.segment_files import GRAPHS

PART = "rebuild"
COLLECTION = "rebuilt"
DIM, LATENT_DIM, SEED = 128, 32, 12
QUERY_COUNT = 20
EF = 10_000
"""So many candidates that the graph's answers are the exact ones."""
REBUILD_MAX_S = 30.0
PATIENCE_S = 600.0
POLL_S = 0.1


def measure(bench: Bench) -> list[Row]:
    """Load, damage, start again: the answers, and the time until there is a graph."""
    count = bench.scale.million // 10
    points = _points(count + QUERY_COUNT)
    parquet = bench.data.folder / f"rebuild-{count}.parquet"
    write_points(parquet, np.arange(count, dtype=np.uint64), points[:count])
    bodies = query_bodies(points[count:], Ask(K, EF, with_payload=False))
    path = f"/collections/{COLLECTION}/points/query"
    with engine_cluster(bench, PART, shard_count=1) as engine:
        engine.load(parquet, COLLECTION)
        engine.await_rest(COLLECTION, bench.scale.quiet_s)
        right = found_ids(engine.client.send("POST", path, bodies[0]), K)
        settings = engine.settings
    graphs = list(settings.data_folder.glob(f"shards/*/*/segments/*/{GRAPHS[0]}"))
    for graph in graphs:
        with open(graph, "r+b") as file:
            file.seek(graph.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    with running(settings) as info, Client(info.url) as client:
        began = perf_counter()
        is_right = np.array_equal(found_ids(client.send("POST", path, bodies[0]), K), right)
        again = Engine(settings, info, client)
        while _is_building(again) and perf_counter() < began + PATIENCE_S:
            sleep(POLL_S)
        spent_s = perf_counter() - began
        is_right = is_right and np.array_equal(found_ids(client.send("POST", path, bodies[0]), K), right)
    is_new = not any(graph.exists() for graph in graphs) or len(graphs) < _graph_count(settings.data_folder)
    say(f"{len(graphs)} damaged graphs, rebuilt: {is_new}, answers right: {is_right}, {spent_s:.1f} s")
    if not (is_right and is_new):
        raise RuntimeError("a damaged graph gave wrong answers, or was not built anew")
    note = f"{count:,} x {DIM}, from the first answer, which was exact and right"
    target = bench.target(REBUILD_MAX_S)
    return [bench.row(PART, "a damaged graph is built anew", spent_s, "s", target=target, bound="at most", note=note)]


def _is_building(engine: Engine) -> bool:
    shards = engine.ask("GET", f"/collections/{COLLECTION}/cluster")["shoal"]["shards"]
    return any(shard["is_building"] for shard in shards)


def _graph_count(folder: Path) -> int:
    return len(list(folder.glob(f"shards/*/*/segments/*/{GRAPHS[0]}")))


def _points(count: int) -> Floats:
    random = np.random.default_rng(SEED)
    latent = random.standard_normal((count, LATENT_DIM), np.float32)
    return normalised(latent @ random.standard_normal((LATENT_DIM, DIM), np.float32))
