"""Snapshots on a whole cluster: real processes, the real client, the command; a shard killed amid a recovery.

Tenants, aliases, indexes and several vectors come back byte for byte; `down` and `up` keep snapshots; a recovery that a
killed shard ends leaves the collection that was there, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from deployments import lifecycle
from deployments.cli import main
from deployments.config import Settings, load_settings
from deployments.data_folder import RunInfo
from deployments.ports import free_port_block
from deployments.processes import wait_until

NAME, COUNT, DIM, DEADLINE_S = "notes", 1200, 8, 60
IS_TENANT = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)

pytestmark = pytest.mark.timeout(600)
"""Each test starts a cluster, one twice, on a machine that may have other things to do."""


@dataclass
class Running:
    settings: Settings
    info: RunInfo

    @property
    def folder(self) -> Path:
        return self.settings.data_folder

    def client(self) -> QdrantClient:
        return QdrantClient(url=self.info.url, timeout=DEADLINE_S, check_compatibility=False)

    def shard_process(self) -> int:
        """The pid of one shard."""
        for pid in lifecycle.cluster_processes(self.info):
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and command.read_bytes().startswith((b"ray::shard-", b"ray::ShardActor")):
                return pid
        raise AssertionError("no shard runs")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    flags = {"data_folder": tmp_path / "data", "http.port": free_port_block(1).start}
    settings = load_settings(flags=flags)
    try:
        yield Running(settings, lifecycle.up(settings))
    finally:
        lifecycle.down(settings)


def fill(client: QdrantClient) -> None:
    chance = np.random.default_rng(5)
    vectors = {
        "text": models.VectorParams(size=DIM, distance=models.Distance.COSINE),
        "image": models.VectorParams(size=2, distance=models.Distance.EUCLID),
    }
    client.create_collection(NAME, vectors_config=vectors, metadata={"made": "by hand"})
    client.create_payload_index(NAME, "org", IS_TENANT)
    client.create_payload_index(NAME, "n", models.PayloadSchemaType.INTEGER)
    points = [
        models.PointStruct(
            id=key,
            vector={"text": chance.random(DIM).tolist(), **({"image": chance.random(2).tolist()} if key % 2 else {})},
            payload={"org": f"org-{key % 7}", "n": key, "deep": {"é": [1.5, None]}},
        )
        for key in range(COUNT)
    ]
    client.upsert(NAME, points, wait=True)
    client.delete(NAME, list(range(0, COUNT, 11)), wait=True)
    alias = models.CreateAlias(collection_name=NAME, alias_name="current")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])


def everything(client: QdrantClient, name: str = NAME) -> list[Any]:
    """All points with payloads and vectors, what filters find, and what the collection says of itself."""
    points = client.scroll(name, limit=COUNT, with_payload=True, with_vectors=True)[0]
    within = [
        models.FieldCondition(key="org", match=models.MatchValue(value="org-3")),
        models.FieldCondition(key="n", range=models.Range(lt=900)),
    ]
    filtered = models.Filter(must=within)
    hits = client.query_points(name, query=[0.5] * DIM, using="text", query_filter=filtered, limit=30).points
    described = client.get_collection(name)
    return [points, hits, client.count(name, filtered).count, described.payload_schema, described.config]


def overwrite(client: QdrantClient) -> None:
    client.delete(NAME, list(range(400)), wait=True)
    above = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=1000))])
    client.set_payload(NAME, {"n": 0}, above, wait=True)


def test_a_collection_comes_back_by_client_and_command_also_after_a_restart(
    running: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = ("--data", str(running.folder))
    with closing(running.client()) as client:
        fill(client)
        before = everything(client)
        taken = client.create_snapshot(NAME)
        assert taken is not None
        overwrite(client)
        assert client.recover_snapshot(NAME, taken.name, wait=True) is True
        assert everything(client) == everything(client, "current") == before
        client.delete_collection(NAME)
    file = running.folder / "snapshots" / "notes.snapshot"
    assert main(["snapshot", "download", NAME, taken.name, "--to", str(file), *data]) == 0
    lifecycle.down(running.settings)
    assert main(["verify", *data]) == 0
    running.info = lifecycle.up(running.settings)
    with closing(running.client()) as client:
        assert client.list_snapshots(NAME) == [taken]
        for name, location in ((NAME, taken.name), ("copy", str(file))):
            assert main(["snapshot", "recover", name, location, *data]) == 0
            assert everything(client, name) == before
    capsys.readouterr()
    assert main(["snapshot", "list", NAME, "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out)["snapshots"][0]["checksum"] == taken.checksum


def test_a_shard_that_is_killed_amid_a_recovery_leaves_the_old_or_the_new_collection(running: Running) -> None:
    with closing(running.client()) as client:
        fill(client)
        then = everything(client)
        taken = client.create_snapshot(NAME)
        assert taken is not None
        overwrite(client)
        now = everything(client)
        for _ in range(3):
            _kill_amid_recovery(running, taken.name)
            assert wait_until(lambda: _answers(client), DEADLINE_S)
            found = everything(client)
            assert found in (now, then)
            assert found == everything(client, "current")
        wait_until(lambda: len(_collections_on_disk(running.folder)) == 1, DEADLINE_S)
        assert len(_collections_on_disk(running.folder)) == 1, "nothing is left of what did not come about"
        assert client.recover_snapshot(NAME, taken.name, wait=True) is True
        assert everything(client) == then


def _kill_amid_recovery(running: Running, name: str) -> None:
    """Begin a recovery, kill a shard when it has begun to restore its part, and wait for the recovery's end."""
    restored = [running.folder / "shards" / str(shard) / "snapshots" / "restored" for shard in (0, 1)]

    def recover() -> None:
        with closing(running.client()) as client:
            try:
                client.recover_snapshot(NAME, name, wait=True)
            except UnexpectedResponse as error:
                assert error.status_code in (400, 404, 503), error.content  # noqa: PT017

    pid = running.shard_process()
    thread = threading.Thread(target=recover)
    thread.start()
    wait_until(lambda: any(folder.exists() and any(folder.iterdir()) for folder in restored), 5)
    os.kill(pid, signal.SIGKILL)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def _answers(client: QdrantClient) -> bool:
    try:
        return client.count(NAME).count > 0
    except UnexpectedResponse:
        return False


def _collections_on_disk(folder: Path) -> set[str]:
    """The uids that any shard has files of."""
    return {
        path.name.partition(".")[0] for path in folder.glob("shards/*/*") if len(path.name.partition(".")[0]) == 32
    }
