"""A cluster of real processes for one chaos run: up, down, kill a shard, wait until it answers again.

Its segments are small, so that seals (and whatever merges segments) happen all the time. Only processes of the cluster
that this object started are ever signalled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from benchmarks.shard_processes import kill_hard, shard_pids
from deployments import lifecycle
from deployments.config import ClusterSettings, HttpSettings, Settings
from deployments.data_folder import RunInfo
from deployments.http_client import ClusterClient, collection_path
from deployments.limits import LimitSettings
from deployments.ports import free_port_block
from shards.distance import Distance
from shards.errors import Unavailable
from shards.point_ids import key_array
from shards.schema import CollectionSpec, HnswSpec, VectorSpec
from shards.settings import ShardSettings

SHARD_COUNT = 2
SEAL_BYTES = 64 * 1024
"""The smallest that a shard takes."""
PATIENCE_S = 90.0
"""How long a shard may take to come back, before the run gives up."""
REQUEST_S = 20.0
"""The deadline that requests carry: longer than a shard needs to come back."""
ANSWER_S = REQUEST_S + 40.0
"""How long a client waits for the server to say that the deadline has passed: nothing may be decided without it."""
POLL_S = 0.02
ENUMERATED_MAX = 1_000_000

T = TypeVar("T")


class RealCluster:
    """A context manager: the cluster runs inside, and nothing is left of its processes behind."""

    def __init__(
        self, data_folder: Path, seal_bytes: int = SEAL_BYTES, sections: Mapping[str, object] | None = None
    ) -> None:
        """`sections`: parts of the settings, by name, that a row needs other than usual."""
        self.settings = Settings(
            data_folder=data_folder,
            http=HttpSettings(port=free_port_block(1).start),
            cluster=ClusterSettings(shard_count=SHARD_COUNT),
            shards=ShardSettings(seal_bytes=seal_bytes, exact_scan_bytes=0),
            limits=LimitSettings(k_max=ENUMERATED_MAX),
            **dict[str, Any](sections or {}),
        )
        self.info: RunInfo | None = None
        self.kills = 0

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Start the cluster on its folder."""
        self.info = lifecycle.up(self.settings)

    def down(self) -> None:
        """End it."""
        lifecycle.down(self.settings)
        self.info = None

    def client(self) -> ClusterClient:
        """A connection for one thread."""
        assert self.info is not None
        return ClusterClient(self.info.url, timeout_s=ANSWER_S)

    def create(self, collection: str, dim: int, hnsw: HnswSpec | None = None) -> None:
        """A collection that keeps vectors as they come (Euclid)."""
        spec = CollectionSpec(vectors={"": VectorSpec(size=dim, distance=Distance.EUCLID)}, hnsw=hnsw or HnswSpec())
        with self.client() as client:
            client.create(collection, spec)

    def pids(self) -> dict[int, int]:
        """The processes of the shards that run now, by shard."""
        assert self.info is not None
        return shard_pids(self.info, self.settings.data_folder)

    def kill(self, shard_id: int) -> bool:
        """kill -9 a shard as soon as it has a process; False where it got none in time."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            pid = self.pids().get(shard_id)
            if pid is not None and kill_hard(pid, self.settings.data_folder):
                self.kills += 1
                return True
            time.sleep(POLL_S)
        return False

    def await_answer(self, collection: str, shard_id: int) -> float:
        """Seconds until a read of this shard's part is answered. Raises Unavailable after PATIENCE_S."""
        began = time.monotonic()
        with self.client() as client:
            point_id = self.ids_of_shard(client, collection, shard_id, range(10_000))[0]
            self.insist(lambda: read_points(client, collection, [point_id]))
        return time.monotonic() - began

    def ids_of_shard(self, client: ClusterClient, collection: str, shard_id: int, among: range) -> list[int]:
        """Those of the ids that a shard owns."""
        shard_map = self.insist(client.state).collections[collection].shard_map
        rows = shard_map.split_by_shard(key_array(list(among)))
        return np.array(among)[rows[shard_id]].tolist()

    def insist(self, read: Callable[[], T]) -> T:
        """The answer to what may be asked again, once there is one. Raises the last error after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return read()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    def segment_count(self, collection: str) -> int:
        """Segments of all shards together."""
        with self.client() as client:
            return int(self.insist(lambda: client.describe(collection))["segments_count"])

    def await_rest(self, collection: str, quiet_s: float) -> int:
        """Wait until nothing is built and nothing has changed for so long (PATIENCE_S at most); the number of segments."""
        deadline = time.monotonic() + PATIENCE_S
        seen, since = self._graphs_of(collection), time.monotonic()
        while time.monotonic() < min(deadline, since + quiet_s):
            time.sleep(POLL_S * 5)
            now = self._graphs_of(collection)
            if now != seen or now[2] != "green":
                seen, since = now, time.monotonic()
        return seen[0]

    def _graphs_of(self, collection: str) -> tuple[int, int, str]:
        """Segments, points in graphs, and "yellow" while something is built."""
        with self.client() as client:
            found = self.insist(lambda: client.describe(collection))
        return int(found["segments_count"]), int(found["indexed_vectors_count"]), str(found["status"])


def upsert_points(
    client: ClusterClient, collection: str, bodies: list[dict[str, Any]], deadline_s: float = REQUEST_S
) -> None:
    """Write points. Raises ShoalErrors; an Unavailable says nothing about what was done."""
    client.call("PUT", f"{collection_path(collection)}/points?wait=true&timeout={deadline_s}", {"points": bodies})


def delete_points(client: ClusterClient, collection: str, ids: list[int], deadline_s: float = REQUEST_S) -> None:
    """Delete points, likewise."""
    path = f"{collection_path(collection)}/points/delete?wait=true&timeout={deadline_s}"
    client.call("POST", path, {"points": ids})


def read_points(client: ClusterClient, collection: str, ids: list[int]) -> list[dict[str, Any]]:
    """The points of these ids, whole."""
    body = {"ids": ids, "with_payload": True, "with_vector": True}
    found: list[dict[str, Any]] = client.call(
        "POST", f"{collection_path(collection)}/points?timeout={REQUEST_S}", body
    )
    return found
