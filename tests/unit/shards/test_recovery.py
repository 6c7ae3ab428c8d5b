"""Opening what a shutdown or a crash left: every point as it was, or an error that names the file; never an empty shard.

A crash is a collection that nobody closed: its folder is opened again as it lies there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import sealing
from shards.bulk import BulkSession
from shards.collection import ShardCollection
from shards.errors import Corrupt, ShardUnavailable, ShoalError
from shards.host import ShardHost
from shards.identity import ShardIdentity, create_shard_folder
from shards.point_ids import UUID_BASE
from shards.recovery import create_collection, open_collection
from shards.segment_files import seal_json
from shards.settings import ShardSettings
from tests.shard_oracle import (
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)

QUERIES = vectors_of([1, 2, 3])


class Story:
    """A collection, and what should be in it."""

    def __init__(self, folder: Path) -> None:
        self.collection: ShardCollection = new_collection(folder)
        self.oracle = Oracle()

    @property
    def folder(self) -> Path:
        return self.collection.folder

    def write(self, keys: list[int], version: int = 0) -> None:
        batch = batch_of(keys, version)
        self.oracle.upsert(batch, self.collection.commit([upsert_op(batch)], 1))

    def delete(self, keys: list[int]) -> None:
        self.collection.commit([delete_op(keys)], 1)
        self.oracle.delete(keys)

    def load(self, keys: list[int], version: int = 0) -> None:
        session = BulkSession(self.collection, bytes([len(self.collection.sealed)]) * 16, len(keys))
        session.add(batch_of(keys, version))
        session.prepare()
        op = session.attach_op()
        assert op is not None
        self.oracle.upsert(batch_of(keys, version), self.collection.commit([op], 1))

    def freeze(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)

    def seal(self) -> None:
        sealing.seal_all(self.collection)

    def seal_frozen(self) -> None:
        """Seal the oldest frozen segment, and nothing behind it."""
        sealing.install(self.collection, sealing.build(self.collection, self.collection.frozen[0]))
        sealing.record(self.collection, sealing.plan_manifest(self.collection))

    def reopen(self) -> tuple[str, ...]:
        """Open it again, compare it; returns what opening had to say."""
        opened = open_collection(self.folder, UID, ShardSettings())
        self.collection = opened.collection
        check_same(self.collection, self.oracle, QUERIES)
        return opened.notes


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "c")


def log_only(story: Story) -> None:
    story.write([1, 2, UUID_BASE + 3])
    story.write([2], version=1)
    story.delete([1])


def sealed_and_tail(story: Story) -> None:
    """Two sealed segments with dead rows, some of them recorded; the log's tail overwrites and deletes in both."""
    story.write([1, 2, 3, 4, 5])
    story.seal()
    story.write([2, 6, 7, UUID_BASE + 1], version=1)
    story.delete([3])
    story.seal()
    story.write([4, 6, 8], version=2)
    story.delete([5, UUID_BASE + 1])


def sealed_without_tail(story: Story) -> None:
    """Nothing is left to seal, and the log's beginning is gone."""
    sealed_and_tail(story)
    story.seal()


def frozen_and_tail(story: Story) -> None:
    sealed_and_tail(story)
    story.freeze()
    story.write([1, 8], version=3)


def loads_between_writes(story: Story) -> None:
    """What was loaded replaced older rows, and was replaced by newer ones, before and behind the manifest's LSN."""
    story.write([1, 2, 3])
    story.load([2, 20, 21], version=1)
    story.write([3, 20], version=2)
    story.seal()
    story.load([1, 21, 22], version=3)
    story.delete([22])
    story.write([1], version=4)


def load_behind_the_manifest(story: Story) -> None:
    """The manifest names a load's segment, but the log position that it vouches for is older."""
    story.write([1, 2, 3])
    story.freeze()
    story.load([2, 20, 21], version=1)
    story.write([3, 20], version=2)
    story.seal_frozen()
    story.delete([21])


HISTORIES = [
    *(log_only, sealed_and_tail, sealed_without_tail, frozen_and_tail),
    *(loads_between_writes, load_behind_the_manifest),
]


@pytest.mark.parametrize("close", [None, False, True], ids=["crash", "closed", "closed cleanly"])
@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_every_point_is_there_again(story: Story, history: Callable[[Story], None], close: bool | None) -> None:
    history(story)
    last_lsn = story.collection.wal.last_lsn
    if close is not None:
        story.collection.wal.close(clean=close)
    assert story.reopen() == ()
    assert story.reopen() == (), "opening changes nothing"
    assert story.collection.wal.last_lsn == last_lsn
    story.seal()
    assert story.reopen() == ()
    story.write([1, 99], version=9)
    assert story.oracle.points[99].lsn == last_lsn + 1
    story.seal()
    story.delete([99])
    assert story.reopen() == ()


def test_an_empty_collection_opens_empty(story: Story) -> None:
    assert story.reopen() == ()
    story.write([1])
    assert story.reopen() == ()


def test_creating_again_changes_nothing(story: Story) -> None:
    story.write([1])
    create_collection(story.folder, UID, spec_of(dim=99))
    assert story.reopen() == ()
    assert story.collection.spec == spec_of()


def test_a_frame_that_is_sealed_in_part_is_replayed_in_part(tmp_path: Path) -> None:
    spec = spec_of(dim=WIDE_DIM)
    collection = new_collection(tmp_path / "c", SMALL, spec)
    batches = [batch_of(range(first, first + 40), dim=WIDE_DIM) for first in (0, 20, 40)]  # 64 rows are a segment
    collection.commit([upsert_op(batch) for batch in batches], 1)
    sealing.install(collection, sealing.build(collection, collection.frozen[0]))
    sealing.record(collection, sealing.plan_manifest(collection))
    oracle = Oracle()
    for lsn, batch in enumerate(batches, 1):
        oracle.upsert(batch, lsn)
    after = reopened(tmp_path / "c", SMALL)
    check_same(after, oracle, vectors_of([1, 2], WIDE_DIM))
    assert [segment.row_count for segment in after.segments()] == [40, 40, 20], "the sealed one has no row twice"


def test_operations_in_the_log_are_known_again(story: Story) -> None:
    story.write([1])
    story.seal()
    story.collection.commit([upsert_op(batch_of([2]), b"a" * 16), delete_op([2], b"b" * 16)], 1)
    history = reopened(story.folder).history
    assert [history.lsn_of(letter * 16) for letter in (b"a", b"b", b"c")] == [2, 3, None]


@pytest.mark.parametrize("steps", [1, 2, 3], ids=["built", "installed", "recorded"])
def test_a_crash_between_the_steps_of_a_seal_loses_nothing(story: Story, steps: int) -> None:
    sealed_and_tail(story)
    story.freeze()
    story.write([1, 50], version=7)
    built = sealing.build(story.collection, story.collection.frozen[0])
    story.delete([4])
    if steps > 1:
        sealing.install(story.collection, built)
        plan = sealing.plan_manifest(story.collection)
        story.write([8], version=8)
        if steps > 2:
            sealing.record(story.collection, plan)
    assert story.reopen() == ()
    story.seal()
    assert story.reopen() == ()


def test_a_log_cut_in_its_last_frame_gives_the_writes_before_it_and_says_so(story: Story) -> None:
    story.write([1])
    kept = Oracle(points=dict(story.oracle.points))
    story.write([2])
    path = next((story.folder / "wal").glob("wal-*.log"))
    os.truncate(path, path.stat().st_size - 3)
    story.oracle = kept
    notes = story.reopen()
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert "(LSN 2) were cut, no write in them had been acknowledged" in notes[0]
    assert story.reopen() == (), "it was cut for good"
    story.write([3])
    assert story.reopen() == ()


def newest_manifest(story: Story) -> Path:
    return max(story.folder.glob("manifest-*.json"))


def newest_segment(story: Story) -> Path:
    return newest_segment_of(story.folder)


def newest_segment_of(folder: Path) -> Path:
    return max((folder / "segments").iterdir(), key=lambda path: path.name)


def flip_byte(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x20
    path.write_bytes(content)


def test_a_damaged_manifest_is_passed_over_for_the_older_one_and_the_log(story: Story) -> None:
    sealed_and_tail(story)
    path = newest_manifest(story)
    flip_byte(path, len(path.read_bytes()) // 2)
    notes = story.reopen()
    assert len(notes) == 1
    assert str(path) in notes[0]
    story.seal()
    assert [str(path) in note for note in story.reopen()] == [True]


@pytest.mark.parametrize("name", ["segment.json", "vectors.f32", "keys.bin", "payload.bin"])
def test_a_damaged_new_segment_is_passed_over_for_the_older_manifest_and_the_log(story: Story, name: str) -> None:
    sealed_and_tail(story)
    path = newest_segment(story) / name
    flip_byte(path, len(path.read_bytes()) // 2)
    notes = story.reopen()
    assert len(notes) == 1
    assert notes[0].startswith("manifest 3 was passed over")
    assert str(path) in notes[0]
    story.seal()  # built anew, under the same name or another
    assert story.reopen() == ()


def test_damage_after_damage_finds_a_manifest_that_is_whole(story: Story) -> None:
    """The manifest that was passed over is not one of the two that are kept."""
    sealed_and_tail(story)
    for version in range(3):
        flip_byte(newest_segment(story) / "vectors.f32")
        assert len(story.reopen()) >= 1
        story.write([70 + version], version)
        story.seal()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
@pytest.mark.parametrize("name", ["order.i64", "graph.hnsw"])
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


def test_what_is_done_without_is_logged(story: Story, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sealed_and_tail(story)
    identity = ShardIdentity("c", 0, "n")
    create_shard_folder(tmp_path / "0", identity)
    shutil.move(story.folder, tmp_path / "0" / UID)
    path = newest_segment_of(tmp_path / "0" / UID) / "graph.hnsw"
    path.unlink()
    host = ShardHost(tmp_path / "0", identity, b"secret")
    host.start()
    try:
        host.ensure_collection(UID, spec_of(), 1, create=False)
        assert host.describe().collections == {UID: None}
    finally:
        host.stop()
    assert f"recovery: {path} is damaged (it is missing)" in caplog.text


def test_copies_that_somebody_made_beside_the_files_are_none_of_them(story: Story) -> None:
    sealed_and_tail(story)
    for path in (newest_manifest(story), max((story.folder / "wal").glob("wal-*"))):
        shutil.copy(path, path.with_name(path.stem + " (copy)" + path.suffix))
    assert story.reopen() == ()
    story.seal()
    assert story.reopen() == ()
