"""Verification: every damage is found and weighed as opening would, and nothing is touched."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards import segment_files as files
from shards import snapshot
from shards import verify as verify_module
from shards.distance import Distance
from shards.errors import Corrupt, ShardUnavailable
from shards.identity import ShardIdentity, create_shard_folder
from shards.log_frame import encode_frame
from shards.manifest import write_dead
from shards.snapshot_shelf import PartName, SnapshotShelf
from shards.verify import Finding, Severity, Verification, verify_shard
from tests.shard_oracle import UID, batch_of, upsert_op
from tests.shard_story import Story, contents, flip_byte, loads_between_writes, sealed_and_tail

IDENTITY = ShardIdentity("c" * 32, 7, "d" * 32)
LOST, REPAIRABLE, NOTE = Severity.LOST, Severity.REPAIRABLE, Severity.NOTE


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A shard with one collection: two sealed segments with dead rows, and a log."""
    create_shard_folder(tmp_path / "7", IDENTITY)
    story = Story(tmp_path / "7" / UID)
    sealed_and_tail(story)
    return story


def verified(folder: Path, uids: tuple[str, ...] = (UID,)) -> Verification:
    before = contents(folder)
    result = Verification()
    verify_shard(folder, IDENTITY, uids, result)
    assert contents(folder) == before, "verification changed something"
    return result


def the_finding(story: Story, path: Path, severity: Severity) -> Finding:
    found = verified(story.folder.parent).findings
    assert [(finding.path, finding.severity) for finding in found] == [(path, severity)], found
    return found[0]


def refused(story: Story) -> None:
    with pytest.raises((Corrupt, ShardUnavailable)):
        story.reopen()


def segment(story: Story, number: int = 0) -> Path:
    return sorted((story.folder / "segments").iterdir())[number]


def both_manifests_need_the_first_segment(story: Story) -> None:
    story.seal()


def test_a_whole_shard_has_nothing_to_find(story: Story) -> None:
    loads_between_writes(story)
    found = verified(story.folder.parent)
    assert found.findings == []
    assert found.file_count == len(contents(story.folder.parent))
    assert found.byte_count == sum(map(len, contents(story.folder.parent).values()))


@pytest.mark.parametrize("name", ["vectors.f32", "keys.bin", "offsets.u64", "payload.bin", "versions.u64"])
def test_damage_that_nothing_replaces_is_lost(story: Story, name: str) -> None:
    both_manifests_need_the_first_segment(story)
    flip_byte(segment(story) / name)
    finding = the_finding(story, segment(story) / name, LOST)
    assert finding.what == "its checksum is wrong"
    assert "restore it" in finding.advice
    refused(story)


@pytest.mark.parametrize("name", ["graph-0.hnsw", "order.i64"])
def test_what_can_be_made_anew_is_repairable(story: Story, name: str) -> None:
    both_manifests_need_the_first_segment(story)
    (segment(story) / name).unlink()
    finding = the_finding(story, segment(story) / name, REPAIRABLE)
    assert (finding.what, finding.advice) == ("it is missing", verify_module.REBUILD)
    assert len(story.reopen()) == 1


def test_what_the_older_manifest_and_the_log_replace_is_repairable(story: Story) -> None:
    (segment(story, 1) / "vectors.f32").unlink()
    finding = the_finding(story, segment(story, 1) / "vectors.f32", REPAIRABLE)
    assert finding.advice == "opening takes manifest 2 and the log instead"
    assert "passed over" in story.reopen()[0]


def test_what_only_the_older_manifest_needs_is_repairable(story: Story) -> None:
    story.seal()
    older = sorted(story.folder.glob("dead-*"))[0]
    older.unlink()
    finding = the_finding(story, older, REPAIRABLE)
    assert "replace the spare" in finding.advice
    assert story.reopen() == ()


@pytest.mark.parametrize("number", [0, 1], ids=["the older", "the newest"])
def test_a_damaged_manifest_is_repairable_while_there_is_another(story: Story, number: int) -> None:
    path = sorted(story.folder.glob("manifest-*"))[number]
    flip_byte(path, 30)
    assert "and the log instead" in the_finding(story, path, REPAIRABLE).advice
    assert len(story.reopen()) == 1


def test_no_manifest_at_all_is_lost(story: Story) -> None:
    paths = sorted(story.folder.glob("manifest-*"), reverse=True)
    for path in paths:
        flip_byte(path, 30)
    found = [finding for finding in verified(story.folder.parent).findings if finding.severity is LOST]
    assert [finding.path for finding in found] == paths
    for path in paths:
        path.unlink()
    found = [finding for finding in verified(story.folder.parent).findings if finding.severity is LOST]
    assert [(finding.path, finding.what) for finding in found] == [(story.folder, "it has no manifest")]


def test_a_torn_tail_is_told_and_left(story: Story) -> None:
    wal = story.collection.wal
    path = max((story.folder / "wal").glob("wal-*"))
    whole = path.stat().st_size
    with open(path, "ab") as log:
        log.write(encode_frame([upsert_op(batch_of([1]))], 1, wal.next_lsn, wal.last_lsn)[:-5])
    finding = the_finding(story, path, REPAIRABLE)
    assert f"behind offset {whole} (LSN {wal.next_lsn})" in finding.what
    assert "opening cuts them" in finding.advice
    assert "were cut" in story.reopen()[0]


def test_a_damaged_log_is_lost(story: Story) -> None:
    story.write([1])
    path = max((story.folder / "wal").glob("wal-*"))
    flip_byte(path, 60)
    assert str(path) in the_finding(story, story.folder / "wal", LOST).what
    refused(story)


def test_a_segment_that_the_log_attaches_is_looked_at(story: Story) -> None:
    story.load([20, 21, 22], version=4)
    path = next((story.folder / "segments").glob("bulk-*")) / "keys.bin"
    assert verified(story.folder.parent).findings == []
    path.unlink()
    the_finding(story, path, LOST)
    refused(story)


@pytest.mark.parametrize("name", ["collection.json", "wal"])
def test_missing_files_are_lost(story: Story, name: str) -> None:
    path = story.folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "is missing" in the_finding(story, path, LOST).what
    refused(story)


def test_a_missing_collection_is_lost_and_another_shards_folder_too(story: Story) -> None:
    other = "e" * 32
    found = verified(story.folder.parent, (UID, other)).findings
    assert [(finding.path.name, finding.severity) for finding in found] == [(other, LOST)]
    identity = story.folder.parent / "shard.json"
    identity.write_text(identity.read_text().replace("7", "8"))
    assert "shard_id 8 instead of 7" in the_finding(story, identity, LOST).what
    shutil.rmtree(story.folder.parent)
    found = verified(story.folder.parent).findings
    assert [finding.severity for finding in found] == [LOST, LOST]


def test_leftovers_are_noted(story: Story) -> None:
    shard = story.folder.parent
    names = [
        *(f"{'f' * 32}.dropped/x", f"{'9' * 32}/segments/x", f"{UID}/manifest-00000009.json.tmp"),
        *(f"{UID}/manifest-00000003 (copy).json", f"{UID}/wal/wal-x.log"),
        *(f"{UID}/segments/bulk-1.building/vectors.f32", f"{UID}/wal/notes.txt"),
        segment(story).relative_to(shard).as_posix() + "/other.bin",
    ]
    for name in names:
        (shard / name).parent.mkdir(parents=True, exist_ok=True)
        (shard / name).write_bytes(b"x")
    write_dead(story.folder, 99, "seg", np.ones(3, np.bool_))
    found = verified(shard).findings
    assert {finding.severity for finding in found} == {NOTE}
    assert {finding.path.relative_to(shard).as_posix() for finding in found} == {
        *(names[0].removesuffix("/x"), names[1].removesuffix("/segments/x"), names[2]),
        *(names[3], names[4], names[5].removesuffix("/vectors.f32"), *names[6:], f"{UID}/dead-00000099-seg.bits"),
    }
    assert story.reopen() == ()


def forge(path: Path, place: int, value: int) -> None:
    """Change a segment's file under a right checksum."""
    content = bytearray(path.read_bytes())
    content[place : place + 8] = value.to_bytes(8, "little")
    path.write_bytes(content)
    header = files.read_header(path.parent)
    seals = {**header.files, path.name: files.seal_file(path)}
    files.write_header(path.parent, header.model_copy(update={"files": seals}))


@pytest.mark.parametrize(
    ("name", "place", "value", "what"),
    [
        ("offsets.u64", 16, 10**6, "the payload of row 2 ends before it starts"),
        ("order.i64", 8, 0, "the keys are not in order|it does not name row"),
        ("graph-0.hnsw", 100, 2**40 + 1, "a link leads to row"),
    ],
)
def test_wrong_content_under_right_checksums_is_found(
    story: Story, name: str, place: int, value: int, what: str
) -> None:
    both_manifests_need_the_first_segment(story)
    path = segment(story) / name
    forge(path, place, value)
    finding = the_finding(story, path, LOST)
    assert any(part in finding.what for part in what.split("|"))
    assert "answer wrongly" in finding.advice


def test_a_graph_of_another_shape_is_repairable(story: Story) -> None:
    both_manifests_need_the_first_segment(story)
    forge(segment(story) / "graph-0.hnsw", 16, 3)
    assert "another graph" in the_finding(story, segment(story) / "graph-0.hnsw", REPAIRABLE).what
    assert len(story.reopen()) == 1


def test_a_segment_of_another_collection_is_lost(story: Story) -> None:
    both_manifests_need_the_first_segment(story)
    header = files.read_header(segment(story))
    seals = {name: seal for name, seal in header.files.items() if name != files.GRAPHS[0]}
    os.unlink(segment(story) / files.GRAPHS[0])
    vector = header.vectors[0].model_copy(update={"distance": Distance.MANHATTAN})
    content = header.model_copy(update={"vectors": (vector,), "files": seals}).model_dump(mode="json")
    (segment(story) / "segment.json").write_bytes(files.seal_json(content))
    assert "a segment of '' 8 x Manhattan" in the_finding(story, segment(story) / "segment.json", LOST).what


def test_a_bad_sector_is_damage(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    both_manifests_need_the_first_segment(story)
    real = files.seal_of

    def fail(path: Path) -> int:
        if path.name == bad and path.parent == segment(story):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(files, "seal_of", fail)
    bad = "graph-0.hnsw"
    assert the_finding(story, segment(story) / bad, REPAIRABLE).what == "it can't be read: Input/output error"
    assert len(story.reopen()) == 1
    bad = "keys.bin"
    assert the_finding(story, segment(story) / bad, LOST).what == "it can't be read: Input/output error"
    refused(story)


def test_what_can_not_be_read_at_all_is_lost(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "wal-1.log")

    monkeypatch.setattr(verify_module, "walk_log", fail)
    finding = the_finding(story, story.folder, LOST)
    assert "wal-1.log" in finding.what
    assert "look at the disk and at the rights" in finding.advice


def test_a_segment_that_was_built_anew_since_the_manifest_is_refused_as_opening_does(story: Story) -> None:
    both_manifests_need_the_first_segment(story)
    for path in story.folder.glob("manifest-*.json"):
        content = files.unseal_json(path)
        content["segments"][0]["keys_crc32c"] ^= 1
        path.write_bytes(files.seal_json(content))
    found = verified(story.folder.parent).findings
    assert {finding.severity for finding in found} == {LOST}
    assert "other rows than a manifest says" in found[0].what
    refused(story)


def test_damage_in_a_snapshot_harms_no_collection(story: Story) -> None:
    shelf = SnapshotShelf(story.folder.parent)
    snapshot.take(story.collection, shelf.folder / UID, "one")
    shelf.seal(PartName(UID, "one"), {"any": 1})
    assert verified(story.folder.parent).findings == []
    part = shelf.part_at(PartName(UID, "one"))
    flip_byte(part / "snapshot.json", 60)
    assert "delete it" in the_finding(story, part, REPAIRABLE).advice
