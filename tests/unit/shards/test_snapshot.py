"""Snapshots: what was acknowledged is in them, nothing later changes them, and nothing wrong is restored."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import sealing, snapshot
from shards import segment_files as files
from shards.committer import Committer
from shards.distance import Distance
from shards.errors import Conflict, Corrupt, InvalidRequest, NotFound, StorageFull, Unavailable
from shards.recovery import open_collection
from shards.segment_files import seal_json, unseal_json
from shards.settings import ShardSettings
from shards.snapshot import Snapshot
from shards.snapshot_restore import check_snapshot, restore
from shards.upkeep import Builders
from tests.shard_oracle import UID, Oracle, batch_of, check_same, new_collection, spec_of, upsert_op, vectors_of
from tests.shard_story import (
    HISTORIES,
    Story,
    contents,
    flip_byte,
    sealed_and_tail,
)

OTHER_UID = "fedcba9876543210" * 2
QUERIES = vectors_of([1, 2, 3])


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "c")


@pytest.fixture
def taken(story: Story, tmp_path: Path) -> Path:
    """A snapshot of two sealed segments with dead rows, and a log behind them."""
    sealed_and_tail(story)
    snapshot.link(story.collection, tmp_path / "s", "one")
    snapshot.finish(story.collection, tmp_path / "s", "one")
    return tmp_path / "s" / "one"


def reopen(folder: Path, oracle: Oracle, uid: str = OTHER_UID):
    opened = open_collection(folder, uid, ShardSettings())
    assert opened.notes == ()
    check_same(opened.collection, oracle, QUERIES)
    return opened.collection


def copy_of(oracle: Oracle) -> Oracle:
    return Oracle(dict(oracle.points))


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "with its log"])
@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_what_was_written_is_restored(
    story: Story, tmp_path: Path, history: Callable[[Story], None], seal: bool
) -> None:
    history(story)
    if seal:
        taken = snapshot.take(story.collection, tmp_path / "s", "one")
    else:
        snapshot.link(story.collection, tmp_path / "s", "one")
        taken = snapshot.finish(story.collection, tmp_path / "s", "one")
    assert taken.last_lsn == story.collection.wal.last_lsn
    assert restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID) == taken
    restored = reopen(tmp_path / "restored", story.oracle)
    batch = batch_of([1, 500], version=30)
    lsn = restored.commit([upsert_op(batch)], 1)
    assert lsn == taken.last_lsn + 1
    after = copy_of(story.oracle)
    after.upsert(batch, lsn)
    reopen(tmp_path / "restored", after)
    sealing.seal_all(restored)
    reopen(tmp_path / "restored", after)
    check_same(story.collection, story.oracle, QUERIES)
    story.reopen()


def test_nothing_that_happens_later_changes_a_snapshot(story: Story, tmp_path: Path) -> None:
    sealed_and_tail(story)
    snapshot.take(story.collection, tmp_path / "s", "one")
    before, then = contents(tmp_path / "s"), copy_of(story.oracle)
    shared = next((tmp_path / "s" / "one" / "segments").glob("*/vectors.f32"))
    assert shared.stat().st_nlink == 2, "it takes no room of its own"
    for version in range(3):
        story.write([1, 2, 60 + version], version=9 + version)
        story.delete([7])
        story.seal()
    # What a compaction does at its end: the old segments' folders go.
    for folder in (story.folder / "segments").iterdir():
        if (folder / "vectors.f32").stat().st_nlink == 2:
            shutil.rmtree(folder)
    assert contents(tmp_path / "s") == before
    restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    restored = reopen(tmp_path / "restored", then)
    restored.commit([upsert_op(batch_of([1], 50))], 1)
    sealing.seal_all(restored)
    shutil.rmtree(story.folder)
    assert contents(tmp_path / "s") == before, "nor does what is restored from it"
    shutil.rmtree(tmp_path / "restored")
    check_snapshot(tmp_path / "s" / "one")


def test_where_there_are_no_hard_links_it_is_copied(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    sealed_and_tail(story)
    snapshot.take(story.collection, tmp_path / "s", "one")
    assert {path.stat().st_nlink for path in (tmp_path / "s").rglob("*") if path.is_file()} == {1}
    restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    reopen(tmp_path / "restored", story.oracle)


def test_a_running_collection_is_snapshotted_amid_its_writes(tmp_path: Path) -> None:
    """Every write that was acknowledged before the snapshot is in it, and none that came in part."""

    async def run() -> tuple[Snapshot, int, int]:
        committer = Committer(
            new_collection(tmp_path / "c", ShardSettings(seal_bytes=64 * 1024)), Builders(builders, builders)
        )
        writes = [committer.submit(upsert_op(batch_of([key, key + 1_000])), 1) for key in range(40)]
        before = max(await asyncio.gather(*writes))
        taking = asyncio.ensure_future(committer.snapshot(tmp_path / "s", "one", 3))
        later = [committer.submit(upsert_op(batch_of([key], 1)), 1) for key in range(40)]
        taken = (await taking).snapshot
        last = max(await asyncio.gather(*later))
        await committer.close()
        return taken, before, last

    with ThreadPoolExecutor(1) as builders:
        taken, before, last = asyncio.run(run())
    assert before <= taken.last_lsn <= last
    restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    oracle = Oracle()
    log = open_collection(tmp_path / "c", UID, ShardSettings()).collection
    for lsn, key in enumerate([*range(40)], 1):
        oracle.upsert(batch_of([key, key + 1_000]), lsn)
    for lsn, key in enumerate([*range(40)], 41):
        if lsn <= taken.last_lsn:
            oracle.upsert(batch_of([key], 1), lsn)
    assert log.wal.last_lsn == 80
    reopen(tmp_path / "restored", oracle)


def test_a_stopping_shard_takes_none(tmp_path: Path) -> None:
    async def run() -> None:
        committer = Committer(new_collection(tmp_path / "c"), Builders(builders, builders))
        await committer.close()
        with pytest.raises(Unavailable, match="stopping"):
            await committer.snapshot(tmp_path / "s", "one", 3)

    with ThreadPoolExecutor(1) as builders:
        asyncio.run(run())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a.building", "../x", "a\0b", "x" * 129, "-a"])
def test_names_stay_in_their_folder(story: Story, tmp_path: Path, name: str) -> None:
    for act in (
        lambda: snapshot.take(story.collection, tmp_path / "s", name),
        lambda: snapshot.delete(tmp_path / "s", name),
    ):
        with pytest.raises(InvalidRequest, match="is no name for a snapshot"):
            act()


def test_a_name_is_taken_once_and_deleted_and_listed(story: Story, tmp_path: Path) -> None:
    assert snapshot.list_all(tmp_path / "s") == ([], [])
    story.write([1])
    first = snapshot.take(story.collection, tmp_path / "s", "one")
    with pytest.raises(Conflict, match="already has a snapshot one"):
        snapshot.take(story.collection, tmp_path / "s", "one")
    story.write([2])
    second = snapshot.take(story.collection, tmp_path / "s", "another")
    assert snapshot.list_all(tmp_path / "s") == ([first, second], [])
    assert (first.uid, first.spec, first.last_lsn, second.last_lsn) == (UID, spec_of(), 1, 2)
    assert first.byte_count == sum(
        path.stat().st_size
        for path in (tmp_path / "s" / "one").rglob("*")
        if path.is_file() and path.name != "snapshot.json"
    )
    flip_byte(tmp_path / "s" / "another" / "snapshot.json", 40)
    listed, problems = snapshot.list_all(tmp_path / "s")
    assert (listed, len(problems)) == ([first], 1)
    assert "another/snapshot.json is damaged" in problems[0]
    snapshot.delete(tmp_path / "s", "one")
    snapshot.delete(tmp_path / "s", "another")
    assert list((tmp_path / "s").iterdir()) == []
    with pytest.raises(NotFound, match="has no snapshot one"):
        snapshot.delete(tmp_path / "s", "one")
    story.reopen()


def test_an_empty_collection_can_be_snapshotted(story: Story, tmp_path: Path) -> None:
    snapshot.take(story.collection, tmp_path / "s", "one")
    restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    reopen(tmp_path / "restored", Oracle())


def test_damage_is_not_snapshotted(story: Story, tmp_path: Path) -> None:
    sealed_and_tail(story)
    path = next((story.folder / "segments").glob("*/payload.bin"))
    flip_byte(path)
    with pytest.raises(Corrupt, match=r"payload\.bin is damaged"):
        snapshot.take(story.collection, tmp_path / "s", "one")
    assert list((tmp_path / "s").iterdir()) == []
    path.unlink()
    with pytest.raises(Corrupt, match=r"payload\.bin is missing"):
        snapshot.take(story.collection, tmp_path / "s", "one")
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
@pytest.mark.parametrize("name", ["graph-0.hnsw", "order.i64"])
def test_what_can_be_made_anew_is_left_out(story: Story, tmp_path: Path, name: str, missing: bool) -> None:
    sealed_and_tail(story)
    path = next((story.folder / "segments").glob(f"*/{name}"))
    if missing:
        path.unlink()
    else:
        flip_byte(path)
    snapshot.take(story.collection, tmp_path / "s", "one")
    assert path.exists() is not missing, "the collection's own file is left alone"
    restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    opened = open_collection(tmp_path / "restored", OTHER_UID, ShardSettings())
    assert [f"{path.parent.name}/{name}" in note for note in opened.notes] == [True]
    check_same(opened.collection, story.oracle, QUERIES)


def test_a_full_disk_leaves_nothing(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    story.write([1])
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageFull, match="no room for a snapshot"):
        snapshot.take(story.collection, tmp_path / "s", "one")
    assert list((tmp_path / "s").iterdir()) == []
    monkeypatch.undo()
    snapshot.take(story.collection, tmp_path / "s", "one")


def test_a_fenced_log_is_not_snapshotted(story: Story, tmp_path: Path) -> None:
    story.write([1])
    story.collection.wal.fence_reason = "an fsync failed"
    with pytest.raises(Unavailable, match="an fsync failed; restart"):
        snapshot.link(story.collection, tmp_path / "s", "one")


def test_a_crash_in_the_middle_leaves_no_snapshot(story: Story, tmp_path: Path) -> None:
    story.write([1])
    snapshot.link(story.collection, tmp_path / "s", "one")
    assert snapshot.list_all(tmp_path / "s") == ([], [])
    with pytest.raises(NotFound, match="holds no snapshot"):
        restore(tmp_path / "s" / "one", tmp_path / "restored", OTHER_UID)
    snapshot.take(story.collection, tmp_path / "s", "one")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["one"]


def check_refused(folder: Path, target: Path, *parts: str) -> None:
    before = sorted(target.parent.iterdir())
    with pytest.raises(Corrupt) as refused:
        restore(folder, target, OTHER_UID)
    assert all(part in refused.value.message for part in parts), refused.value.message
    assert sorted(target.parent.iterdir()) == before


def test_a_collection_is_never_overwritten(taken: Path, story: Story) -> None:
    before = contents(story.folder)
    with pytest.raises(Conflict, match="is already there"):
        restore(taken, story.folder, UID)
    assert contents(story.folder) == before
    (story.folder.parent / "empty").mkdir()
    with pytest.raises(Conflict, match="is already there"):
        restore(taken, story.folder.parent / "empty", UID)


def test_every_damaged_or_missing_file_is_named(taken: Path, tmp_path: Path) -> None:
    paths = sorted(path for path in taken.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(paths) > 16
    for path in paths:
        content = path.read_bytes()
        path.unlink()  # a new file: the collection's own one shares its bytes
        if path.name != "snapshot.json":
            check_refused(taken, tmp_path / "restored", str(path), "is missing")
        path.write_bytes(content[:-1])
        check_refused(taken, tmp_path / "restored", str(path))
        path.write_bytes(content + b"x")
        check_refused(taken, tmp_path / "restored", str(path))
        path.write_bytes(content)
        flip_byte(path, len(content) // 2)
        check_refused(taken, tmp_path / "restored", str(path))
        path.write_bytes(content)
    check_snapshot(taken)


def test_links_are_refused_wherever_they_lead(taken: Path, tmp_path: Path) -> None:
    for path in sorted(taken.rglob("*")):
        moved = tmp_path / "elsewhere"
        path.rename(moved)
        path.symlink_to(moved)
        check_refused(taken, tmp_path / "restored", str(path), "is a link")
        path.unlink()
        moved.rename(path)
    check_snapshot(taken)


def tell(folder: Path, **changes: object) -> None:
    """Let snapshot.json say something else, under a right checksum."""
    path = folder / "snapshot.json"
    content = unseal_json(path)
    path.write_bytes(seal_json({**content, **changes}))


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../../c/collection.json",
            "/etc/passwd",
            "segments/../collection.json",
            "collection.json",
            "wal/CLEAN",
            "",
        ),
        *("segments/a/b/keys.bin", "segments/x/other.bin", "manifest-00000002.json.tmp", "wal/../wal/wal-1.log"),
    ],
)
def test_paths_out_of_a_snapshot_are_refused(taken: Path, tmp_path: Path, path: str) -> None:
    named = unseal_json(taken / "snapshot.json")["files"]
    tell(taken, files={**named, path: {"byte_count": 0, "crc32c": 0}})
    check_refused(taken, tmp_path / "restored", "which is no file of a snapshot", repr(path))


def test_each_file_has_to_be_named(taken: Path, tmp_path: Path) -> None:
    named = unseal_json(taken / "snapshot.json")["files"]
    for path in named:
        tell(taken, files={other: seal for other, seal in named.items() if other != path})
        if path.rsplit("/", 1)[-1] in files.REBUILDABLE:
            check_snapshot(taken)
        else:
            check_refused(taken, tmp_path / "restored", "name")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"last_lsn": 3}, "the snapshot says 3"),
        ({"last_lsn": 99}, "the snapshot says 99"),
        ({"manifest_number": 9}, "manifest-00000009.json is needed"),
        ({"format": "x"}, "no snapshot of format 1"),
        ({"surplus": 1}, "no snapshot of format 1"),
        (
            {"spec": spec_of(dim=9).model_dump(mode="json")},
            "a segment of '' 8 x Euclid m=6, the collection has '' 9 x Euclid m=6",
        ),
        ({"spec": spec_of(Distance.DOT).model_dump(mode="json")}, "the collection has '' 8 x Dot m=6"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_snapshot_that_contradicts_itself_is_refused(
    taken: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    if "spec" in changes:  # so that the log says nothing of vectors
        shutil.rmtree(taken / "wal")
        named = unseal_json(taken / "snapshot.json")["files"]
        manifest = unseal_json(next(taken.glob("manifest-*.json")))
        kept = {path: seal for path, seal in named.items() if not path.startswith("wal/")}
        changes = {**changes, "files": kept, "last_lsn": manifest["applied_lsn"]}
    tell(taken, **changes)
    check_refused(taken, tmp_path / "restored", reason)


def forge(taken: Path, name: str, change: Callable[[bytearray], None]) -> None:
    """Change a segment's file, and every checksum that covers it."""
    path = sorted((taken / "segments").glob(f"*/{name}"))[0]
    content = bytearray(path.read_bytes())
    change(content)
    path.unlink()
    path.write_bytes(content)
    header = files.read_header(path.parent)
    seals = {**header.files, name: files.seal_file(path)}
    (path.parent / "segment.json").unlink()
    files.write_header(path.parent, header.model_copy(update={"files": seals}))
    named = unseal_json(taken / "snapshot.json")["files"]
    for changed in (path, path.parent / "segment.json"):
        named[changed.relative_to(taken).as_posix()] = files.seal_file(changed).model_dump()
    tell(taken, files=named)


def put(place: int, value: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[place : place + 8] = (value % 2**64).to_bytes(8, "little")

    return change


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("order.i64", put(0, 77), "it names rows from"),
        ("order.i64", put(0, -1), "it names rows from"),
        ("order.i64", put(0, 4), "the keys are not in order"),
        ("keys.bin", put(0, 999), "the keys are not in order"),
        ("offsets.u64", put(0, 5), "it runs from 5"),
        ("offsets.u64", put(8, 10**6), "ends before it starts"),
        ("graph-0.hnsw", put(100, 2**40 + 7), "a link leads to row"),
    ],
)
def test_forged_content_is_refused_though_every_checksum_holds(
    taken: Path, tmp_path: Path, name: str, change: Callable[[bytearray], None], reason: str
) -> None:
    forge(taken, name, change)
    check_refused(taken, tmp_path / "restored", "order.i64" if name == "keys.bin" else name, reason)


def test_a_forged_log_is_refused(taken: Path, tmp_path: Path) -> None:
    shutil.rmtree(taken)
    other = new_collection(tmp_path / "other", spec=spec_of(dim=4))
    other.commit([upsert_op(batch_of([1], dim=4))], 1)
    snapshot.link(other, tmp_path / "s", "one")
    snapshot.finish(other, tmp_path / "s", "one")
    tell(taken, spec=spec_of(dim=8).model_dump(mode="json"))
    check_refused(taken, tmp_path / "restored", "LSN 1: vectors of 4 dimensions instead of 8")
