"""A whole cluster as its users meet it: real processes, the real client, and what may go wrong in the middle.

Create, load, query and delete by qdrant-client; a Parquet file with named vectors by `shoal load`; kill -9 of a shard in
the middle of acknowledged upserts; clients that go away in mid-request; many connections at once; `down` and `up` again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from deployments import lifecycle
from deployments.cli import main
from deployments.config import Settings, load_settings
from deployments.data_folder import RunInfo
from deployments.ports import LOOPBACK, free_port_block
from deployments.processes import wait_until

DIM, COUNT = 8, 300
VECTORS = np.random.default_rng(3).random((COUNT, DIM), np.float32)
DEADLINE_S = 60


@dataclass
class Running:
    """A cluster with the collection `things`, which holds VECTORS by their row."""

    settings: Settings
    info: RunInfo

    @property
    def port(self) -> int:
        return self.settings.http.port

    def client(self) -> QdrantClient:
        return QdrantClient(url=self.info.url, timeout=DEADLINE_S, check_compatibility=False)

    def shard_processes(self) -> list[int]:
        """The pids of the shards that run now."""
        pids = lifecycle.cluster_processes(self.info)
        return [pid for pid in pids if b"ray::shard-" in command_of(pid) or b"ray::ShardActor" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flags = {"data_folder": tmp_path_factory.mktemp("whole") / "data", "http.port": free_port_block(1).start}
    settings = load_settings(flags=flags)
    try:
        started = Running(settings, lifecycle.up(settings))
        with closing(started.client()) as client:
            parameters = models.VectorParams(size=DIM, distance=models.Distance.EUCLID)
            client.create_collection("things", vectors_config=parameters)
            client.upload_collection("things", vectors=VECTORS, ids=range(COUNT), payload=payloads(), wait=True)
        yield started
    finally:
        lifecycle.down(settings)


def payloads() -> list[dict[str, int]]:
    return [{"row": row} for row in range(COUNT)]


def nearest_rows(client: QdrantClient, query: np.ndarray, limit: int = 5) -> list[int]:
    found = client.query_points("things", query=query.tolist(), limit=limit, with_payload=True).points
    assert all(point.payload == {"row": point.id} for point in found)
    return [int(point.id) for point in found]


def brute_force(query: np.ndarray, limit: int = 5) -> list[int]:
    return np.argsort(((VECTORS - query) ** 2).sum(axis=1))[:limit].tolist()


def test_the_client_finds_what_brute_force_finds(running: Running) -> None:
    with closing(running.client()) as client:
        assert client.count("things").count == COUNT
        for query in np.random.default_rng(4).random((20, DIM), np.float32):
            assert nearest_rows(client, query) == brute_force(query)


def test_what_is_deleted_is_gone(running: Running) -> None:
    with closing(running.client()) as client:
        point = models.PointStruct(id=10**6, vector=[9.0] * DIM, payload={"row": 10**6})
        client.upsert("things", [point], wait=True)
        assert nearest_rows(client, np.full(DIM, 9.0), 1) == [10**6]
        client.delete("things", [10**6], wait=True)
        assert client.retrieve("things", [10**6]) == []
        assert client.count("things").count == COUNT


def test_a_file_s_named_vectors_are_loaded_and_searched(running: Running, tmp_path: Path) -> None:
    with_image = [row for row in range(COUNT) if row % 3]
    images = [VECTORS[row, :2].tolist() if row % 3 else None for row in range(COUNT)]
    columns = {"title_emb": VECTORS.tolist(), "image_emb": pa.array(images, pa.list_(pa.float32(), 2))}
    pq.write_table(pa.table(columns), tmp_path / "news.parquet")
    named = ["--vector", "title=title_emb", "--vector", "image=image_emb", "--distance", "Euclid"]
    where = ["--data", str(running.settings.data_folder)]
    assert main(["load", str(tmp_path / "news.parquet"), "-c", "news", "--create", *named, *where]) == 0
    with closing(running.client()) as client:
        near = client.query_points("news", query=[0.5, 0.5], using="image", limit=5).points
        distances = ((VECTORS[with_image, :2] - 0.5) ** 2).sum(axis=1)
        assert [point.id for point in near] == [with_image[place] for place in np.argsort(distances)[:5]]
        near = client.query_points(
            "news", query=VECTORS[6].tolist(), using="title", limit=1, with_vectors=True
        ).points
        assert near[0].id == 6
        assert near[0].vector == {"title": pytest.approx(VECTORS[6].tolist())}, "a null is a vector that is missing"
        found = client.retrieve("news", [7], with_vectors=True)[0].vector
        assert found == {"title": pytest.approx(VECTORS[7].tolist()), "image": pytest.approx(images[7])}
        client.delete_collection("news")


def test_a_shard_killed_amid_upserts_loses_nothing_that_was_acknowledged(running: Running) -> None:
    with closing(running.client()) as client, ThreadPoolExecutor(1) as pool:
        parameters = models.VectorParams(size=DIM, distance=models.Distance.EUCLID)
        client.create_collection("written", vectors_config=parameters)
        writing = Writing(client)
        writer = pool.submit(writing.go_on)
        try:
            for victim in running.shard_processes():
                writing.wait_for_more(200, writer)
                os.kill(victim, signal.SIGKILL)
                writing.wait_for_more(200, writer)  # it came back by itself: every batch needs both shards
        finally:
            writing.is_enough.set()
        writer.result(DEADLINE_S)
        acknowledged = writing.acknowledged
        found = client.retrieve("written", acknowledged, with_payload=True, with_vectors=True)
        assert [point.id for point in found] == acknowledged
        assert all(point.payload == {"n": point.id} and point.vector[1] == point.id for point in found)  # type: ignore[index]
        assert client.count("written").count == len(acknowledged)
        client.delete_collection("written")


@dataclass
class Writing:
    """Batches of upserts to `written`, one after the other; the ids of those that were acknowledged."""

    client: QdrantClient
    acknowledged: list[int] = field(default_factory=list)
    is_enough: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        for start in range(0, 10**6, 10):
            if self.is_enough.is_set():
                return
            ids = range(start, start + 10)
            points = [models.PointStruct(id=n, vector=[n % 97, n, *[0] * (DIM - 2)], payload={"n": n}) for n in ids]
            self.client.upsert("written", points, wait=True)
            self.acknowledged.extend(ids)

    def wait_for_more(self, more: int, writer: Future[None]) -> None:
        """Until so many more are acknowledged; raises what ended the writer."""
        wanted = len(self.acknowledged) + more
        deadline = time.monotonic() + DEADLINE_S
        while len(self.acknowledged) < wanted:
            if writer.done():
                writer.result()
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} writes acknowledged, {wanted} expected"
            time.sleep(0.01)


def query_request() -> bytes:
    body = json.dumps({"query": VECTORS[0].tolist(), "limit": 3}).encode()
    head = f"POST /collections/things/points/query HTTP/1.1\r\nHost: shoal\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=DEADLINE_S)


def close_hard(sock: socket.socket) -> None:
    """With a reset instead of a polite end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_clients_that_go_away_in_mid_request_disturb_nobody(running: Running) -> None:
    request = query_request()
    for number in range(60):
        sock = connect(running.port)
        sock.sendall(request if number % 3 else request[: len(request) // 2])
        close_hard(sock) if number % 2 else sock.close()
    with closing(running.client()) as client:
        for query in VECTORS[:20]:
            assert nearest_rows(client, query) == brute_force(query)


def test_as_many_connections_as_come_are_all_answered(running: Running) -> None:
    request = query_request()
    sockets = [connect(running.port) for _ in range(256)]
    try:
        for sock in sockets:
            sock.sendall(request)
        assert {sock.recv(100).partition(b"\r\n")[0] for sock in sockets} == {b"HTTP/1.1 200 OK"}
    finally:
        for sock in sockets:
            sock.close()


def test_a_key_closes_the_cluster_until_all_are_forgotten(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SHOAL_API_KEY", raising=False)
    data = ("--data", str(running.settings.data_folder))

    def say(*arguments: str) -> str:
        assert main([*arguments, *data]) == 0
        return capsys.readouterr().out

    def status_of(header: str) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, running.port, timeout=DEADLINE_S)
        with closing(connection):
            connection.request("GET", "/collections/things", headers={"api-key": header} if header else {})
            return connection.getresponse().status

    made = json.loads(say("keys", "create", "read", "--collection", "things", "--json"))
    try:
        assert wait_until(lambda: status_of("") == 401, DEADLINE_S)
        assert status_of(made["key"]) == 200
        assert "things" in say("collections")
        assert json.loads(say("status", "--json"))["shards"]
        digest = hashlib.sha256(made["key"].encode()).hexdigest()
        catalogue = (running.settings.data_folder / "catalogue.json").read_text()
        assert digest in catalogue
        assert made["key"].rsplit("_", 1)[1] not in catalogue
        say("keys", "revoke", made["id"])
        assert wait_until(lambda: status_of(made["key"]) == 401, DEADLINE_S)
        assert status_of("") == 401
    finally:
        say("keys", "forget", "--all")
    assert wait_until(lambda: status_of("") == 200, DEADLINE_S)


def test_down_and_up_again_keeps_everything(running: Running) -> None:
    """The last: it starts the cluster anew."""
    assert lifecycle.down(running.settings) == running.info
    running.info = lifecycle.up(running.settings)
    with closing(running.client()) as client:
        assert client.count("things").count == COUNT
        for query in VECTORS[:20]:
            assert nearest_rows(client, query) == brute_force(query)
