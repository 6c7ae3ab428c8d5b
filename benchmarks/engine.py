"""What the engine's own parts share: a cluster on a new folder, its collections, and waiting until it is at rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench import SHARD_COUNT, Bench, running, settings_on
from benchmarks.datasets import ROW_GROUP, Floats, Ids
from benchmarks.http_client import Client
from benchmarks.shard_processes import shard_pids
from deployments.config import Settings
from deployments.data_folder import RunInfo
from shards.settings import ShardSettings

POLL_S = 0.5
REST_MAX_S = 900.0
"""Whatever still changes after so long is measured as it is, and the row says so."""


@dataclass(frozen=True)
class Part:
    """A shard's part of a collection. `segments` includes the growing one; `file_bytes` changes with a graph that is
    built anew, where the number of segments stays.
    """

    segments: int
    growing_points: int
    file_bytes: int


def in_words(parts: Sequence[Part]) -> str:
    """For a note."""
    segments, growing = ([getattr(part, name) for part in parts] for name in ("segments", "growing_points"))
    return f"segments {segments}, points without a graph {growing}"


@dataclass(frozen=True)
class Engine:
    """A running cluster. `client` is for one thread."""

    settings: Settings
    info: RunInfo
    client: Client

    def pids(self) -> dict[int, int]:
        """The shards' processes."""
        return shard_pids(self.info, self.settings.data_folder)

    def load(self, parquet: Path, collection: str) -> float:
        """Load a file into a new collection by `shoal load`; seconds."""
        command = [
            *(sys.executable, "-m", "deployments.cli", "load", str(parquet), "--collection", collection),
            *("--create", "--data", str(self.settings.data_folder)),
        ]
        began = perf_counter()
        subprocess.run(command, check=True)
        return perf_counter() - began

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The `result` of a request."""
        sent = b"" if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        return orjson.loads(self.client.send(method, path, sent))["result"]

    def count(self, collection: str) -> int:
        """Points of a collection."""
        return int(self.ask("POST", f"/collections/{collection}/points/count", {})["count"])

    def parts(self, collection: str) -> list[Part]:
        """What each shard says of its part."""
        details = self.ask("GET", f"/collections/{collection}/cluster")["shoal"]["shards"]
        return [
            Part(detail["segment_count"] or 0, detail["growing_count"] or 0, detail["bytes"] or 0)
            for detail in details
        ]

    def await_rest(self, collection: str, quiet_s: float) -> tuple[list[Part], float]:
        """Wait until the parts have not changed for `quiet_s`; them, and the seconds until their last change."""
        began = changed = monotonic()
        parts = self.parts(collection)
        while monotonic() < min(changed + quiet_s, began + REST_MAX_S):
            sleep(POLL_S)
            now = self.parts(collection)
            if now != parts:
                parts, changed = now, monotonic()
        return parts, changed - began


@contextmanager
def engine_cluster(bench: Bench, name: str, shard_count: int = SHARD_COUNT) -> Iterator[Engine]:
    """A cluster on a new, empty folder beside the data."""
    shards = ShardSettings(seal_bytes=bench.scale.seal_bytes)
    settings = settings_on(bench.data.folder / f"{name}-data", shard_count, shards)
    shutil.rmtree(settings.data_folder, ignore_errors=True)
    with running(settings) as info, Client(info.url) as client:
        yield Engine(settings, info, client)


def write_points(path: Path, ids: Ids, vectors: Floats) -> None:
    """A Parquet file for `shoal load`: id, vector, and the id as payload."""
    writer = None
    for start in range(0, len(ids), ROW_GROUP):
        rows = slice(start, start + ROW_GROUP)
        flat = pa.array(np.ascontiguousarray(vectors[rows], np.float32).reshape(-1))
        vector = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table({"id": ids[rows], "vector": vector, "n": ids[rows]})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
