"""A segment does without a damaged file that can be made anew, says so, and is built anew in the background."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shards.committer import Committer
from shards.host import ShardHost
from shards.identity import ShardIdentity, create_shard_folder
from shards.recovery import open_collection
from shards.settings import ShardSettings
from tests.shard_oracle import UID, check_same, reopened, spec_of
from tests.shard_story import QUERIES, Story, flip_byte, newest_segment_of, sealed_and_tail
from tests.unit.shards.test_merging import rest, run


@pytest.mark.parametrize("names", [["graph-0.hnsw"], ["order.i64"], ["graph-0.hnsw", "order.i64"]], ids="-".join)
def test_what_was_damaged_is_built_anew(tmp_path: Path, names: list[str]) -> None:
    story = Story(tmp_path / "c")
    sealed_and_tail(story)
    story.collection.wal.close()
    for name in names:
        for path in (story.folder / "segments").glob(f"*/{name}"):
            path.write_bytes(b"x")
    collection = reopened(story.folder)
    assert all(segment.needs_rebuild for segment in collection.sealed)

    async def rebuild(committer: Committer) -> None:
        committer.upkeep.start_due()
        await rest(committer)

    run(collection, rebuild)
    assert not any(segment.needs_rebuild for segment in collection.sealed)
    check_same(collection, story.oracle, QUERIES)
    opened = open_collection(story.folder, UID, ShardSettings())
    assert opened.notes == ()
    check_same(opened.collection, story.oracle, QUERIES)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "c")


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
@pytest.mark.parametrize("name", ["order.i64", "graph-0.hnsw"])
def test_a_segment_does_without_what_can_be_made_anew(story: Story, name: str, missing: bool) -> None:
    sealed_and_tail(story)
    paths = [folder / name for folder in sorted((story.folder / "segments").iterdir())]
    for path in paths:
        if missing:
            path.unlink()
        else:
            flip_byte(path, len(path.read_bytes()) // 2)
    for _ in range(2):
        notes = story.reopen()
        assert [str(path) in note for path, note in zip(paths, notes, strict=True)] == [True, True]
        assert all(("is missing" if missing else "checksum is wrong") in note for note in notes)
        assert all(segment.needs_rebuild for segment in story.collection.sealed)
    story.write([4, 77], version=8)
    story.seal()
    assert [segment.needs_rebuild for segment in story.collection.sealed] == [True, True, False]
    assert len(story.reopen()) == 2


def test_what_is_done_without_is_logged(story: Story, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sealed_and_tail(story)
    identity = ShardIdentity("c", 0, "n")
    create_shard_folder(tmp_path / "0", identity)
    shutil.move(story.folder, tmp_path / "0" / UID)
    path = newest_segment_of(tmp_path / "0" / UID) / "graph-0.hnsw"
    path.unlink()
    host = ShardHost(tmp_path / "0", identity, b"secret")
    host.start()
    try:
        host.ensure_collection(UID, spec_of(), 1, create=False)
        assert host.describe().collections == {UID: None}
    finally:
        host.stop()
    assert f"recovery: {path} is damaged (it is missing)" in caplog.text
