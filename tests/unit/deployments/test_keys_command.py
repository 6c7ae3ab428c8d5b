"""`shoal keys`, and the other commands, against a cluster that asks for keys; which key is sent to whom."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from cluster.api_keys import local_key
from deployments.cli import main
from deployments.commands.options import cluster_client
from deployments.data_folder import DataFolder, RunInfo, lock_folder, open_folder, write_run_info
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from deployments.processes import own_id
from tests.http_server import serving
from tests.unit.deployments.fake_cluster import FakeCluster


@dataclass
class Running:
    """A data folder, and a cluster that seems to have been started on it by `up`."""

    folder: DataFolder
    url: str
    say: Callable[..., str]

    def create(self, *arguments: str) -> str:
        return self.say("keys", "create", *arguments, "--data", str(self.folder.path)).strip()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Running]:
    monkeypatch.delenv("SHOAL_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    lock = lock_folder(folder)
    made = open_folder(folder)
    own = local_key(bytes.fromhex(made.secret_file.read_text()))

    def say(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code, arguments
        told = capsys.readouterr()
        return told.out if code == 0 else told.err

    with serving(HttpApp(FakeCluster(), LimitSettings(), "0", own)) as url:
        write_run_info(folder, RunInfo(own_id(), url, tmp_path / "run", tmp_path / "log"))
        yield Running(made, url, say)
    os.close(lock)


def test_keys_are_made_listed_and_revoked(running: Running) -> None:
    data = ("--data", str(running.folder.path))
    key = running.create("read", "-c", "a", "-c", "b", "--label", "search page")
    assert key.startswith("shoal_")
    assert len(key.splitlines()) == 1, "what is on standard output is the key alone"
    listed = running.say("keys", "list", *data)
    assert "search page" in listed
    assert "read a, read b" in listed
    (found,) = json.loads(running.say("keys", "list", "--json", *data))["keys"]
    assert found["id"] in key
    assert key not in listed
    assert found["id"] in running.say("keys", "revoke", found["id"], *data)
    (found,) = json.loads(running.say("keys", "list", "--json", *data))["keys"]
    assert found["revoked_s"] is not None
    assert "say so by --all" in running.say("keys", "forget", *data, code=2)
    running.say("keys", "forget", "--all", *data)
    assert json.loads(running.say("keys", "list", "--json", *data))["keys"] == []


def test_json_tells_the_key_with_its_record(running: Running) -> None:
    made = json.loads(running.create("write", "--tenant", "t", "--json"))
    assert made["key"].startswith(f"shoal_{made['id']}_")
    assert made["grants"] == [{"role": "write", "collection": None, "tenant": "t"}]


def test_a_stranger_is_told_what_to_do(running: Running) -> None:
    assert "no collections" not in running.say("collections", "--url", running.url)
    running.create("admin")
    told = running.say("collections", "--url", running.url.replace("127.0.0.1", "localhost"), code=1)
    assert "--api-key or SHOAL_API_KEY" in told
    assert "not valid" in running.say("collections", "--api-key", "shoal_x_y", "--url", running.url, code=1)
    assert "no key has" in running.say("collections", "--api-key", "clé", "--url", running.url, code=1)


def test_the_commands_work_on_the_folder_and_with_a_key(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    key = running.create("read")
    data = ("--data", str(running.folder.path))
    running.say("collections", *data)
    running.say("status", "--json", *data)
    running.say("collections", "--url", running.url, "--api-key", key)
    monkeypatch.setenv("SHOAL_API_KEY", key)
    running.say("collections", "--url", running.url)
    assert "no admin access" in running.say("keys", "list", "--url", running.url, code=1)


def test_the_client_that_everybody_uses_gets_in_by_its_api_key(running: Running) -> None:
    with closing(QdrantClient(url=running.url, check_compatibility=False)) as stranger:
        assert stranger.get_collections().collections == []
        with pytest.warns(UserWarning, match="insecure connection"):
            owner = QdrantClient(url=running.url, api_key=running.create("read"), check_compatibility=False)
        with closing(owner):
            assert owner.get_collections().collections == []
            with pytest.raises(UnexpectedResponse, match="no admin access to collection `a`"):
                owner.delete_collection("a")
        with pytest.raises(UnexpectedResponse, match="Unauthorized") as refused:
            stranger.get_collections()
        assert refused.value.status_code == 401


def test_the_folders_own_key_goes_to_its_cluster_alone(running: Running, tmp_path: Path) -> None:
    folder, url = running.folder.path, running.url
    own = {"api-key": local_key(bytes.fromhex(running.folder.secret_file.read_text()))}
    assert cluster_client(folder, None, None)._headers == own
    assert cluster_client(folder, "http://127.0.0.1:7", None)._headers == own, "whoever names both vouches for it"
    assert cluster_client(folder, None, "mine")._headers == {"api-key": "mine"}
    os.symlink(folder, tmp_path / "shoal-data")
    assert cluster_client(None, None, None)._headers == own
    assert cluster_client(None, url, None)._headers == own
    assert cluster_client(None, "http://127.0.0.1:7", None)._headers == {}


def test_without_a_running_cluster_it_goes_to_nobody(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    folder = open_folder(tmp_path)
    write_run_info(tmp_path, RunInfo(own_id(), "http://127.0.0.1:6333", tmp_path / "run", tmp_path / "log"))
    os.close(lock)
    assert folder.secret_file.exists()
    assert cluster_client(tmp_path, None, None)._headers == {}
