"""Part `million`: a million points on one shard: load, kill -9 and back, and what they take of memory.

The data has fewer points, so jittered copies of it follow, seeded. Memory is anonymous bytes (heap): those of the shard less
an empty shard's, beside those of a Python process that loads the same graph file, less its own before. Mapped files
(vectors, keys, payloads) can be dropped by the system at any time and are reported apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import numpy.typing as npt

from benchmarks.bench import Bench, say
from benchmarks.datasets import Floats, K
from benchmarks.engine import Engine, engine_cluster, write_points
from benchmarks.query_bodies import Ask, found_ids, query_bodies
from benchmarks.results import Row
from benchmarks.shard_processes import Memory, kill_hard, memory_of
from shards.distance import normalised
from shards.memory import graph_bytes
from shards.schema import HnswSpec
from shards.segment_files import GRAPHS, read_header

PART = "million"
COLLECTION = "million"
JITTER, SEED = 0.05, 11
EF = 200
RESTART_MAX_S = 5.0
PATIENCE_S = 120.0
OVERHEAD_MAX = 1.2
PREDICTION_WITHIN = 0.1
MIB = 1024 * 1024
POLL_S = 0.02


def measure(bench: Bench) -> list[Row]:
    """Load, measure, kill, measure again."""
    count, dim = bench.scale.million, bench.data.spec.dim
    parquet = bench.data.folder / f"million-{count}.parquet"
    if not parquet.exists():
        write_points(parquet, np.arange(count, dtype=np.uint64), _vectors(bench.data.vectors, count))
    with engine_cluster(bench, PART, shard_count=1) as engine:
        empty = _memory(engine)
        load_s = engine.load(parquet, COLLECTION)
        engine.await_rest(COLLECTION, bench.scale.quiet_s)
        loaded = _memory(engine)
        restart_s, was_rebuilt = _kill_and_return(bench, engine)
        returned = _memory(engine)
        bare = _bare_bytes(engine, dim)
    predicted = _predicted_bytes(dim, count)
    say(f"graph alone {bare / MIB:,.0f} MiB, predicted {predicted / MIB:,.0f} MiB")
    return [
        bench.row(PART, "load, one shard", count / load_s, "rows/s", note=f"{count:,} rows x {dim}"),
        bench.row(
            PART,
            "kill -9 to the first right answer",
            restart_s,
            "s",
            target=bench.target(RESTART_MAX_S),
            bound="at most",
        ),
        bench.row(PART, "graphs written anew by the restart", was_rebuilt, "", target=0, bound="at most"),
        bench.row(PART, "the graph in a process of its own", bare / MIB, "MiB"),
        *_memory_rows(bench, "after the load", loaded, empty, bare),
        *_memory_rows(bench, "after the restart", returned, empty, bare),
        bench.row(PART, "predicted bytes of the graph", predicted / MIB, "MiB"),
        bench.row(
            PART,
            "measured beside predicted, off by",
            abs(bare / predicted - 1),
            "",
            target=bench.target(PREDICTION_WITHIN),
            bound="at most",
            note=f"{bare / predicted:.3f} x",
        ),
    ]


def _vectors(vectors: npt.NDArray[np.float32], count: int) -> Floats:
    """The data, then copies of it with noise, normalised."""
    random = np.random.default_rng(SEED)
    made = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, len(vectors)):
        part = np.array(vectors[: count - start])
        if start:
            part = normalised(part + np.float32(JITTER) * random.standard_normal(part.shape, np.float32))
        made[start : start + len(part)] = part
    return made


def _memory(engine: Engine) -> Memory:
    (pid,) = engine.pids().values()
    return memory_of(pid)


def _kill_and_return(bench: Bench, engine: Engine) -> tuple[float, int]:
    """Seconds from kill -9 to the answer that was given before it, and how many graph files are other ones then."""
    body = query_bodies(bench.data.queries[:1], Ask(K, EF, with_payload=False))[0]
    path = f"/collections/{COLLECTION}/points/query"
    right = found_ids(engine.client.send("POST", path, body), K)
    graphs = _graph_files(engine.settings.data_folder)
    (pid,) = engine.pids().values()
    began = perf_counter()
    if not kill_hard(pid, engine.settings.data_folder):
        raise RuntimeError(f"the shard's process {pid} was gone before it was killed")
    while True:
        try:
            answer = engine.client.send("POST", path, body)
            break
        except RuntimeError:  # not there yet; anything else than a refusal is a failure of the benchmark
            if perf_counter() > began + PATIENCE_S:
                raise
            sleep(POLL_S)
    spent_s = perf_counter() - began
    if not np.array_equal(found_ids(answer, K), right):
        raise RuntimeError(f"the first answer after the restart is another one than before it: {answer[:300]!r}")
    say(f"killed and back in {spent_s:.2f} s")
    return spent_s, len(_graph_files(engine.settings.data_folder) - graphs)


def _graph_files(data_folder: Path) -> set[tuple[str, int, int]]:
    found = [(path, path.stat()) for path in data_folder.glob(f"shards/*/*/segments/*/{GRAPHS[0]}")]
    return {(str(path), status.st_ino, status.st_mtime_ns) for path, status in found}


def _bare_bytes(engine: Engine, dim: int) -> int:
    """Anonymous bytes of the shard's largest graph alone, under the same allocator settings as the shard's."""
    graphs = engine.settings.data_folder.glob(f"shards/*/*/segments/*/{GRAPHS[0]}")
    graph = max(graphs, key=lambda path: path.stat().st_size)
    (pid,) = engine.pids().values()
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    tunables = dict(variable.split("=", 1) for variable in variables if variable.startswith("GLIBC_TUNABLES="))
    command = [
        *(sys.executable, "-m", "benchmarks.bare_index", str(graph), str(dim)),
        str(read_header(graph.parent).row_count),
    ]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **tunables}
    ).stdout
    found = json.loads(output)
    return int(found["after"] - found["before"])


def _predicted_bytes(dim: int, rows: int) -> int:
    return graph_bytes(dim, HnswSpec().m, rows)


def _memory_rows(bench: Bench, when: str, shard: Memory, empty: Memory, bare: int) -> list[Row]:
    own = shard.anonymous - empty.anonymous
    note = f"beside {empty.anonymous / MIB:,.0f} MiB of an empty shard"
    mapped = f"{shard.mapped / MIB:,.0f} mapped, empty {empty.mapped / MIB:,.0f}"
    target = bench.target(OVERHEAD_MAX)
    return [
        bench.row(PART, f"the shard's memory {when}", own / MIB, "MiB", note=f"{note}; {mapped}"),
        bench.row(
            PART, f"the shard's memory {when}, beside", own / bare, "x graph alone", target=target, bound="at most"
        ),
    ]
