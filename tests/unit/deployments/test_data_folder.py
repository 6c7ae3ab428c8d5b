"""The data folder: what it becomes, what it refuses, and whose lock it is."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.data_folder import (
    RunInfo,
    forget_run,
    is_locked,
    lock_folder,
    open_folder,
    read_run_info,
    write_run_info,
)
from deployments.processes import own_id
from shards.errors import Conflict, Corrupt, InvalidRequest


def make(path: Path) -> None:
    os.close(lock_folder(path))
    open_folder(path)


def test_a_missing_folder_is_made_and_keeps_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    os.close(lock_folder(path))
    first = open_folder(path)
    assert len(first.cluster_id) == len(first.node_id) == 32
    assert first.cluster_id != first.node_id
    os.close(lock_folder(path))
    assert open_folder(path) == first
    assert json.loads((path / "shoal.json").read_text())["format"] == 1


def test_the_secret_is_for_its_owner_and_stays(tmp_path: Path) -> None:
    make(tmp_path)
    secret = tmp_path / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(bytes.fromhex(secret.read_text())) == 32
    before = secret.read_text()
    assert open_folder(tmp_path).secret_file.read_text() == before


def test_a_folder_of_somebody_else_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(
        InvalidRequest, match=r"is not empty and not a Shoal data folder \(thesis.tex; no shoal.json\)"
    ):
        lock_folder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_first_up_that_was_cut_short_left_is_no_obstacle(tmp_path: Path) -> None:
    os.close(lock_folder(tmp_path))
    (tmp_path / "shoal.json.tmp").write_text("{")
    make(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "shoal.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(Conflict, match="has format 2, this version of Shoal reads format 1"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": "1"}', '{"format": 1, "cluster_id": "x"}', "\x00\x01"]
)
def test_a_damaged_identity_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    make(tmp_path)
    file = tmp_path / "shoal.json"
    file.write_text(content)
    with pytest.raises(Corrupt, match="is damaged") as caught:
        open_folder(tmp_path)
    assert "\n" not in caught.value.message
    assert file.read_text() == content


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InvalidRequest, match=f"the data folder {file} can't be used"):
        lock_folder(file)


def test_the_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    open_folder(tmp_path)
    write_run_info(tmp_path, RunInfo(own_id(), "http://127.0.0.1:6333", tmp_path / "none", tmp_path / "log"))
    assert is_locked(tmp_path)
    with pytest.raises(Conflict, match=rf"already runs on .* \(pid {os.getpid()}, http://127.0.0.1:6333\)"):
        lock_folder(tmp_path)
    os.close(lock)
    assert not is_locked(tmp_path)


def test_the_lock_lives_as_long_as_the_process_that_inherited_it(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    heir = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=[lock], stdin=subprocess.PIPE
    )
    os.close(lock)
    assert is_locked(tmp_path)
    heir.kill()
    heir.communicate()
    assert not is_locked(tmp_path)


def test_a_folder_without_a_lock_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")


def test_the_note_about_a_run_comes_and_goes(tmp_path: Path) -> None:
    make(tmp_path)
    assert read_run_info(tmp_path) is None
    run_folder = tmp_path / "run-folder"
    run_folder.mkdir()
    info = RunInfo(own_id(), "http://127.0.0.1:1", run_folder, tmp_path / "log")
    write_run_info(tmp_path, info)
    assert read_run_info(tmp_path) == info
    forget_run(tmp_path)
    assert read_run_info(tmp_path) is None
    assert not run_folder.exists()


def test_a_damaged_note_counts_as_none(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "run/run.json").write_text('{"url": 1')
    assert read_run_info(tmp_path) is None
