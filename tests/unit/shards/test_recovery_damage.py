"""Opening what was damaged or lost: done without where it can be made anew, else an error that names the file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from shards.errors import Corrupt, ShardUnavailable, ShoalError
from shards.segment_files import seal_json
from tests.shard_oracle import (
    UID,
    batch_of,
    reopened,
    upsert_op,
)
from tests.shard_story import (
    Story,
    contents,
    flip_byte,
    newest_manifest,
    sealed_and_tail,
)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "c")


def check_refused(folder: Path, kind: type[ShoalError], *parts: str) -> None:
    """Opening raises `kind`, names what is wrong, and touches nothing; each time."""
    before = contents(folder)
    for _ in range(2):
        with pytest.raises(kind) as refused:
            reopened(folder)
        assert type(refused.value) is kind
        for part in parts:
            assert part in refused.value.message
        assert contents(folder) == before


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
@pytest.mark.parametrize("name", ["segment.json", "vectors.f32", "keys.bin", "offsets.u64"])
def test_a_segment_that_both_manifests_need_is_named(story: Story, name: str, missing: bool) -> None:
    for version in range(3):
        story.write([1 + version, 10 + version], version)
        story.seal()
    path = min((story.folder / "segments").iterdir()) / name
    if missing:
        path.unlink()
    else:
        flip_byte(path, len(path.read_bytes()) // 2)
    check_refused(story.folder, Corrupt, str(path), "is missing" if missing else "is damaged")


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
def test_a_bitmap_of_dead_rows_that_is_needed_is_named(story: Story, missing: bool) -> None:
    story.write([1, 2, 3])
    for key in (1, 2):
        story.seal()
        story.delete([key])
        story.write([10 + key])
    story.seal()
    bitmaps = sorted(story.folder.glob("dead-*"))
    assert len(bitmaps) == 2
    for path in bitmaps:
        if missing:
            path.unlink()
        else:
            flip_byte(path)
    check_refused(story.folder, Corrupt, str(bitmaps[0]), "is missing" if missing else "is damaged")


def test_a_log_of_another_dimension_is_corrupt(story: Story) -> None:
    story.write([1])
    story.collection.wal.append([upsert_op(batch_of([2], dim=2 * story.collection.dim))], 1)
    check_refused(story.folder, Corrupt, "LSN 2 does not fit this collection")


def test_no_readable_manifest_is_corrupt(story: Story) -> None:
    sealed_and_tail(story)
    for path in story.folder.glob("manifest-*.json"):
        flip_byte(path, 20)
    check_refused(story.folder, Corrupt, str(story.folder), "no readable manifest", newest_manifest(story).name)
    for path in story.folder.glob("manifest-*.json"):
        path.unlink()
    check_refused(story.folder, Corrupt, str(story.folder), "there is none")


@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
def test_lost_files_are_unavailable_not_empty(story: Story, whole: bool) -> None:
    story.write([1])
    path = story.folder / "collection.json"
    if whole:
        shutil.rmtree(story.folder)
    else:
        path.unlink()
    check_refused(story.folder, ShardUnavailable, str(path), "is missing", "restore them")
    assert story.folder.exists() is not whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged"),
        (b'{"crc32c": 1, "content": {}}', "is damaged"),
        (seal_json({"format": 1, "uid": "f" * 32, "spec": {}}), f"collection {'f' * 32}, not 1, {UID}"),
        (seal_json({"format": 2, "uid": UID, "spec": {}}), "is of format 2"),
        (seal_json({"format": 1, "uid": UID, "spec": {}}), "holds no collection"),
    ],
    ids=["empty", "wrong checksum", "of another collection", "of another format", "without a spec"],
)
def test_a_wrong_collection_file_is_named(story: Story, content: bytes, reason: str) -> None:
    story.write([1])
    path = story.folder / "collection.json"
    path.write_bytes(content)
    check_refused(story.folder, Corrupt, str(path), reason)


def test_a_changed_spec_is_damage(story: Story) -> None:
    path = story.folder / "collection.json"
    content = json.loads(path.read_bytes())
    content["content"]["spec"]["hnsw"]["m"] += 1
    path.write_text(json.dumps(content))
    check_refused(story.folder, Corrupt, str(path), "its checksum is")


def test_a_log_file_that_is_missing_is_named(story: Story) -> None:
    for key in (1, 2, 3):
        story.write([key])
        story.freeze()
    (story.folder / "wal" / f"wal-{2:020d}.log").unlink()
    check_refused(story.folder, Corrupt, f"wal-{3:020d}.log", "a log file is missing")


def test_damage_before_the_logs_end_is_named(story: Story) -> None:
    for key in (1, 2, 3):
        story.write([key])
    path = next((story.folder / "wal").glob("wal-*.log"))
    flip_byte(path, 60)
    check_refused(story.folder, Corrupt, str(path), "offset 0", "a later frame (LSN 2) proves that it was durable")


def test_a_log_that_lost_its_end_after_a_clean_close_is_corrupt(story: Story) -> None:
    story.write([1])
    story.write([2])
    story.collection.wal.close()
    path = next((story.folder / "wal").glob("wal-*.log"))
    os.truncate(path, path.stat().st_size - 1)
    check_refused(story.folder, Corrupt, str(path), "LSN 2 is known to have been durable")


def test_what_a_manifest_proves_durable_is_not_cut_under_an_older_one(story: Story) -> None:
    for key in (1, 2, 3):
        story.write([key])
    story.seal()
    flip_byte(next((story.folder / "wal").glob("wal-*.log")))
    check_refused(story.folder, Corrupt, "the frame of LSN 3 is damaged", "LSN 3 is known to have been durable")


def test_a_lost_log_is_unavailable_not_empty(story: Story) -> None:
    story.write([1])
    story.collection.wal.close()
    shutil.rmtree(story.folder / "wal")
    check_refused(story.folder, ShardUnavailable, str(story.folder / "wal"))


def test_operations_that_were_sealed_are_known_while_the_log_has_them(story: Story) -> None:
    op_id = b"a" * 16
    lsn = story.collection.commit([upsert_op(batch_of([1], 1), op_id)], 1)
    story.oracle.upsert(batch_of([1], 1), lsn)
    story.write([1], version=2)
    story.seal()
    story.reopen()
    assert story.collection.history.lsn_of(op_id) == lsn


def test_copies_that_somebody_made_beside_the_files_are_none_of_them(story: Story) -> None:
    sealed_and_tail(story)
    for path in (newest_manifest(story), max((story.folder / "wal").glob("wal-*"))):
        shutil.copy(path, path.with_name(path.stem + " (copy)" + path.suffix))
    assert story.reopen() == ()
    story.seal()
    assert story.reopen() == ()
