"""What every part of a run shares: the data, the scale, the clusters' folders and ports, and the ef that is asked
for.

The ef is chosen once for each data set: the smallest of a ladder with which the shards' own graphs, merged, reach
RECALL_MIN. hnswlib and Shoal are then measured with that same ef over those same graphs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

from benchmarks import cpu_shares, wrk
from benchmarks.datasets import Dataset, K
from benchmarks.graphs import Graph, read_shard_graphs, single_graph, smallest_ef
from benchmarks.query_bodies import Ask
from benchmarks.results import Row, RowOptions
from deployments import lifecycle
from deployments.cache_settings import CacheSettings
from deployments.config import ClusterSettings, HttpSettings, Settings
from deployments.data_folder import RunInfo
from shards.settings import ShardSettings

RECALL_MIN = 0.95
SHARD_COUNT = 2
COLLECTION = "points"
EMPTY = "benchmarks.empty_app:build"
EMPTY_DIRECT = "benchmarks.empty_app:build_direct"
JUDGED_DATA = "glove"
"""The targets are for this data; the ratios of the others are compared with its own (relative.py)."""
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Scale:
    """How long, how often, how many. Rounds alternate between what is compared; medians are reported.

    The last six are for the engine's parts: seconds of searches alone and of writes, seconds without a change after
    which segments are at rest, points to begin with, points of the part `million`, and the shards' `seal_bytes` (smaller
    where less is written, so that something is sealed).
    """

    run_s: float
    rounds: int
    starts: int
    idle_s: float = 60.0
    write_s: float = 600.0
    quiet_s: float = 30.0
    engine_points: int = 100_000
    million: int = 1_000_000
    seal_bytes: int = ShardSettings().seal_bytes

    @classmethod
    def of(cls, quick: bool) -> Scale:
        if quick:
            return cls(
                1.0,
                1,
                1,
                idle_s=5.0,
                write_s=15.0,
                quiet_s=4.0,
                engine_points=10_000,
                million=20_000,
                seal_bytes=256 * 1024,
            )
        return cls(run_s=5.0, rounds=3, starts=3)


class Bench:
    """One data set's run. Clusters that it starts are ended by it."""

    def __init__(self, data: Dataset, scale: Scale, shard_count: int = SHARD_COUNT) -> None:
        self.data = data
        self.scale = scale
        folder = "shoal-data" if shard_count == SHARD_COUNT else f"shoal-data-{shard_count}"
        self.shoal = settings_on(data.folder / folder, shard_count)
        self.empty = settings_on(data.folder / "empty-data")

    @cached_property
    def shard_graphs(self) -> list[Graph]:
        return read_shard_graphs(self.shoal.data_folder)

    @cached_property
    def single(self) -> Graph:
        return single_graph(self.data, CORES)

    @cached_property
    def ask(self) -> Ask:
        ef = smallest_ef(self.shard_graphs, self.data, RECALL_MIN)
        return Ask(K, ef, self.data.spec.with_payload)

    @property
    def path(self) -> str:
        """Where the collection's queries go."""
        return f"/collections/{COLLECTION}/points/query"

    def row(self, part: str, what: str, value: float, unit: str, **more: Unpack[RowOptions]) -> Row:
        """A row of this data set."""
        return Row(self.data.spec.name, part, what, value, unit, **more)

    def target(self, value: float) -> float | None:
        """The target, if this data is judged by it."""
        return value if self.data.spec.name == JUDGED_DATA else None

    def write_bodies(self, name: str, bodies: list[bytes]) -> Path:
        """The bodies as a file for the load generator, one a line."""
        path = self.data.folder / name
        path.write_bytes(b"\n".join(bodies) + b"\n")
        return path


@contextmanager
def running(settings: Settings, application: str = lifecycle.APPLICATION) -> Iterator[RunInfo]:
    """A cluster, from `up` to `down`."""
    info = lifecycle.up(settings, application)
    try:
        yield info
    finally:
        lifecycle.down(settings)


def run_load(info: RunInfo, target: wrk.Target, connections: int, seconds: float) -> tuple[wrk.Outcome, str]:
    """Load on a cluster, and which processes of it used how much meanwhile."""
    pids = lifecycle.cluster_processes(info)
    before = cpu_shares.take(pids)
    outcome = wrk.run(target, connections, seconds)
    after = cpu_shares.take(pids)
    return outcome, cpu_shares.in_words(cpu_shares.shares(before, after, outcome.cpu_s))


def say(text: str) -> None:
    """Progress, for who watches."""
    print(f"  {text}", flush=True)


def settings_on(folder: Path, shard_count: int = SHARD_COUNT, shards: ShardSettings | None = None) -> Settings:
    """A cluster's settings: this folder, a free port, every query searched (the same ones are sent again and again), else the
    defaults.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = ClusterSettings(shard_count=shard_count)
    return Settings(
        data_folder=folder,
        http=HttpSettings(port=port),
        cluster=cluster,
        shards=shards or ShardSettings(),
        cache=CacheSettings(l1_bytes=0),
    )
