"""`shoal verify`: the data folder's own files, every shard, and what the command says and returns."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cluster.catalogue import CatalogueFile
from cluster.catalogue_model import Catalogue, new_catalogue
from deployments.cli import main
from deployments.data_folder import lock_folder, open_folder
from deployments.verification import verify_folder
from shards.errors import Conflict, NotFound
from shards.identity import ShardIdentity, create_shard_folder
from shards.recovery import create_collection
from shards.verify import Severity
from tests.shard_oracle import UID, batch_of, reopened, spec_of, upsert_op
from tests.shard_story import contents, flip_byte


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with two shards, and one collection on both."""
    path = tmp_path / "data"
    os.close(lock_folder(path))
    own = open_folder(path)
    catalogue = new_catalogue(own.cluster_id, own.node_id, 2).as_initialised()
    save(path, catalogue, catalogue.creating("points", UID, spec_of(), None).moved(UID, "ready"))
    for shard_id in (0, 1):
        shard = path / "shards" / str(shard_id)
        create_shard_folder(shard, ShardIdentity(own.cluster_id, shard_id, own.node_id))
        create_collection(shard / UID, UID, spec_of())
        collection = reopened(shard / UID)
        collection.commit([upsert_op(batch_of([1, 2, 3]))], 1)
        collection.wal.close()
    return path


def save(path: Path, *versions: Catalogue) -> None:
    file = CatalogueFile(path)
    for catalogue in versions:
        file.save(catalogue)


def findings(path: Path) -> list[tuple[str, str]]:
    before = contents(path)
    found = verify_folder(path)
    assert contents(path) == before, "verification changed something"
    return [(finding.path.relative_to(path).as_posix(), finding.severity.value) for finding in found.findings]


def test_a_whole_folder(folder: Path) -> None:
    assert findings(folder) == []
    found = verify_folder(folder)
    # shoal.json, two catalogues, secret; a shard has its identity, the collection's, a manifest, log and mark.
    assert found.file_count == 4 + 2 * 5
    assert found.byte_count > 1_000


@pytest.mark.parametrize("name", ["shoal.json", "catalogue.json", "secret"])
def test_damage_to_the_folders_own_files_is_lost(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfe")
    assert findings(folder) == [(name, "lost")]


@pytest.mark.parametrize("name", ["shoal.json", "catalogue.json"])
def test_missing_files_are_lost(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert findings(folder) == [(name, "lost")]


def test_what_is_made_anew_is_no_loss(folder: Path) -> None:
    (folder / "secret").unlink()
    flip_byte(folder / "catalogue.previous.json")
    assert sorted(findings(folder)) == [("catalogue.previous.json", "repairable"), ("secret", "note")]


def test_another_clusters_catalogue_is_lost(folder: Path) -> None:
    save(folder, new_catalogue("f" * 32, "n", 2))
    assert ("shoal.json", "lost") in findings(folder)


def test_shards_are_looked_at_also_without_a_catalogue(folder: Path) -> None:
    (folder / "catalogue.json").unlink()
    (folder / "shards" / "1" / UID / "collection.json").write_bytes(b"")
    assert findings(folder) == [("catalogue.json", "lost"), (f"shards/1/{UID}/collection.json", "lost")]


def test_a_shard_and_a_collection_that_are_missing_are_lost(folder: Path) -> None:
    shutil.rmtree(folder / "shards" / "0")
    shutil.rmtree(folder / "shards" / "1" / UID)
    (folder / "shards" / "9").mkdir()
    assert findings(folder) == [
        ("shards/0/shard.json", "lost"),
        (f"shards/0/{UID}", "lost"),
        (f"shards/1/{UID}", "lost"),
        ("shards/9", "note"),
    ]


def test_shards_that_were_never_made_are_no_loss(tmp_path: Path) -> None:
    os.close(lock_folder(tmp_path))
    own = open_folder(tmp_path)
    assert findings(tmp_path) == []
    save(tmp_path, new_catalogue(own.cluster_id, own.node_id, 2))
    assert findings(tmp_path) == []


def test_it_refuses_while_a_cluster_runs(folder: Path) -> None:
    lock = lock_folder(folder)
    try:
        with pytest.raises(Conflict, match=r"a cluster runs on .*`shoal down` ends it"):
            verify_folder(folder)
    finally:
        os.close(lock)
    assert findings(folder) == []


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no data folder of a cluster"):
        verify_folder(tmp_path / "missing")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(NotFound, match="is no data folder of a cluster"):
        verify_folder(tmp_path)


def test_the_command_says_that_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--data", str(folder)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("checked 14 files, 0.0 MB in ")
    assert said.out.endswith(": all is well\n")


def test_the_command_names_what_is_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip_byte(next((folder / "shards" / "1" / UID / "wal").glob("*.log")))
    (folder / "secret").unlink()
    assert main(["verify", "--data", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"lost: shards/1/{UID}/wal"
    assert "LSN 1 is known to have been durable" in lines[1]
    assert "restore it" in lines[2]
    assert lines[3:5] == ["note: secret", "    it is missing"]
    assert lines[-1].endswith(": 1 lost, 1 note")


def test_the_command_prints_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "secret").unlink()
    assert main(["verify", "--data", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["files"]) == (True, 13)
    assert said["findings"] == [
        {
            "path": str(folder / "secret"),
            "severity": Severity.NOTE.value,
            "what": "it is missing",
            "advice": "`shoal up` makes another",
        }
    ]


def test_the_command_refuses_in_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = lock_folder(folder)
    try:
        assert main(["verify", "--data", str(folder)]) == 1
    finally:
        os.close(lock)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("shoal: error: a cluster runs on ")
