"""`shoal snapshot` against a router over real shards: what is told, what lands where, what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from deployments.cli import main
from deployments.snapshot_settings import SnapshotSettings
from tests.http_server import Entrance, serving_cluster

Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """Runs `shoal snapshot`: its standard output, or what it told on standard error where it fails."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    entrance = Entrance(is_short=True, snapshots=SnapshotSettings(folder=tmp_path / "kept"))
    with serving_cluster(tmp_path / "cluster", 2, entrance=entrance) as url:
        with closing(QdrantClient(url=url, check_compatibility=False)) as client:
            client.create_collection("a b", models.VectorParams(size=2, distance=models.Distance.DOT))
            client.upsert("a b", [models.PointStruct(id=key, vector=[key, 1.0]) for key in range(9)], wait=True)

        def run(*arguments: str, code: int = 0) -> str:
            assert main(["snapshot", *arguments, "--url", url]) == code, capsys.readouterr().err
            told = capsys.readouterr()
            return told.out if code == 0 else told.err

        yield run


def test_a_snapshot_from_its_making_to_its_end(say: Say, tmp_path: Path) -> None:
    name = say("create", "a b").strip()
    assert name in say("list", "a b")
    (listed,) = json.loads(say("list", "a b", "--json"))["snapshots"]
    assert listed["name"] == name
    assert f"{listed['size']:,} bytes" in say("download", "a b", name)
    file = tmp_path / f"{name}.snapshot"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == listed["checksum"]
    assert "exists already" in say("download", "a b", name, code=1)
    told = json.loads(say("download", "a b", name, "--to", "kept/mine.snapshot", "--json"))
    assert told == {"file": "kept/mine.snapshot", "bytes": listed["size"], "sha256": listed["checksum"]}
    assert "--replace" in say("recover", "a b", name, code=1)
    assert "`a b` is recovered: 9 points" in say(
        "recover", "a b", name, "--replace", "--checksum", listed["checksum"]
    )
    assert json.loads(say("recover", "copy", "kept/mine.snapshot", "--json")) == {"collection": "copy", "points": 9}
    assert f"snapshot {name} of `a b` is deleted" in say("delete", "a b", name)
    assert say("list", "a b") == ""
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "none"), "Collection `none` doesn't exist"),
        (("list", "none"), "Collection `none` doesn't exist"),
        (("download", "a b", "none"), "Snapshot `none`"),
        (("download", "a b", "../x"), "can't be the name of a snapshot"),
        (("delete", "a b", "none"), "Snapshot `none`"),
        (("recover", "copy", "none"), "Snapshot `none`"),
        (("recover", "copy", "./missing.snapshot"), "snapshots.folder"),
        (("recover", "copy", "https://example.org/x"), "snapshots.url_prefixes"),
        (("recover", "copy", "none", "--checksum", "ab"), "checksum"),
    ],
)
def test_what_goes_wrong_is_one_sentence(say: Say, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    told = say(*arguments, code=1)
    assert words in told
    assert told.startswith("shoal: error: ")
    assert told.count("\n") == 1
    assert not list(tmp_path.rglob("*.part"))
