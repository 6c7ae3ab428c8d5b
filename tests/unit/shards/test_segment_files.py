"""Damaged segments: done without what can be made anew, else the file is named; hnswlib never sees a byte of it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import hnswlib
import numpy as np
import pytest

from shards import segment_files
from shards.errors import Corrupt
from shards.index import SearchPlan
from shards.manifest import Manifest, SegmentEntry, SessionEntry, manifest_path, read_manifest, write_manifest
from shards.op_history import OPS_KEPT
from shards.point_ids import key_array
from shards.sealed import open_segment
from tests.shard_oracle import batch_of, vectors_of
from tests.unit.shards.test_sealed import build

NEEDED = ["vectors.f32", "keys.bin", "offsets.u64", "payload.bin", "versions.u64"]
REBUILDABLE = ["graph-0.hnsw", "order.i64"]
FILES = [*NEEDED, *REBUILDABLE]
COUNT = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good segment's folder; a graph that is another than this one's fails the test when hnswlib reads it."""
    build(tmp_path / "segment", batch_of(range(COUNT)), versions=list(range(COUNT)))
    good = (tmp_path / "segment" / "graph-0.hnsw").read_bytes()

    class GuardedIndex(hnswlib.Index):
        def load_index(self, path: str, max_elements: int) -> None:
            if Path(path).parent.name == "segment":
                assert Path(path).read_bytes() == good, "damaged bytes reached hnswlib"
            super().load_index(path, max_elements=max_elements)

    monkeypatch.setattr(hnswlib, "Index", GuardedIndex)
    return tmp_path / "segment"


def check_noticed(folder: Path, name: str, reason: str) -> None:
    """Opening refuses the segment, or does without the file, says so, and answers rightly."""
    if name not in REBUILDABLE:
        with pytest.raises(Corrupt, match=rf"segment/{name} .*{reason}"):
            open_segment(folder, 1)
        return
    segment = open_segment(folder, 1)
    assert segment.needs_rebuild
    assert [damage.file for damage in segment.damages] == [name]
    assert reason in segment.damages[0].reason
    batch = batch_of(range(COUNT))
    assert segment.find(key_array([3, 99, 0])).tolist() == [3, -1, 0]
    found = segment.search(batch.vectors, SearchPlan(1, 16))
    assert found.rows.ravel().tolist() == list(range(COUNT))
    if name == "graph-0.hnsw":
        exactly = segment.search(vectors_of([1, 2]), SearchPlan(5, 16, exact=True))
        np.testing.assert_array_equal(segment.search(vectors_of([1, 2]), SearchPlan(5, 5)).rows, exactly.rows)


def test_these_are_all_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "segment.json"])


def test_a_whole_segment_needs_no_rebuild(folder: Path) -> None:
    assert open_segment(folder, 1).damages == ()
    assert not open_segment(folder, 1).needs_rebuild


@pytest.mark.parametrize("name", [*FILES, "segment.json"])
def test_a_missing_file_is_noticed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    check_noticed(folder, name, "missing")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length_change", [-1, 1, None])
def test_a_file_of_another_length_is_noticed(folder: Path, name: str, length_change: int | None) -> None:
    size = (folder / name).stat().st_size
    length = 0 if length_change is None else size + length_change
    os.truncate(folder / name, length)
    check_noticed(folder, name, f"it has {length} bytes instead of {size}")


@pytest.mark.parametrize("length_change", [-1, 1, None])
def test_a_header_of_another_length_is_noticed(folder: Path, length_change: int | None) -> None:
    path = folder / "segment.json"
    os.truncate(path, 0 if length_change is None else path.stat().st_size + length_change)
    check_noticed(folder, "segment.json", "is damaged")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_anywhere_is_noticed(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for place in {0, len(content) // 2, len(content) - 1}:
        damaged = bytearray(content)
        damaged[place] ^= 4
        (folder / name).write_bytes(damaged)
        check_noticed(folder, name, "its checksum is wrong")


def test_of_two_damages_the_one_that_nothing_can_replace_decides(folder: Path) -> None:
    (folder / "graph-0.hnsw").unlink()
    (folder / "order.i64").unlink()
    segment = open_segment(folder, 1)
    assert sorted(damage.file for damage in segment.damages) == REBUILDABLE
    (folder / "vectors.f32").unlink()
    with pytest.raises(Corrupt, match=r"vectors\.f32 is damaged: it is missing"):
        open_segment(folder, 1)


def test_of_equal_keys_the_last_lives_also_where_they_were_sorted_again(tmp_path: Path) -> None:
    build(tmp_path / "segment", batch_of([5, 1, 5, 1, 1]))
    (tmp_path / "segment" / "order.i64").unlink()
    assert open_segment(tmp_path / "segment", 1).find(key_array([1, 5])).tolist() == [4, 2]


def seal_again(folder: Path, **changes: object) -> None:
    """Write the header anew, so that every checksum holds."""
    header = segment_files.read_header(folder)
    seals = {name: segment_files.seal_file(folder / name) for name in header.files}
    segment_files.write_header(folder, header.model_copy(update={"files": seals, **changes}))


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_a_graph_of_other_rows_never_reaches_hnswlib_though_its_checksum_holds(folder: Path, count: int) -> None:
    build(folder.parent / "other", batch_of(range(count)))
    (folder / "graph-0.hnsw").write_bytes((folder.parent / "other" / "graph-0.hnsw").read_bytes())
    seal_again(folder)
    check_noticed(folder, "graph-0.hnsw", "")


@pytest.mark.parametrize("dim", [4, 16])
def test_a_graph_of_another_dimension_never_reaches_hnswlib(folder: Path, dim: int) -> None:
    build(folder.parent / "other", batch_of(range(COUNT), dim=dim))
    (folder / "graph-0.hnsw").write_bytes((folder.parent / "other" / "graph-0.hnsw").read_bytes())
    seal_again(folder)
    check_noticed(folder, "graph-0.hnsw", "")


def test_a_graph_with_another_m_never_reaches_hnswlib(folder: Path) -> None:
    content = bytearray((folder / "graph-0.hnsw").read_bytes())
    struct.pack_into("<Q", content, 72, 7)
    (folder / "graph-0.hnsw").write_bytes(content)
    seal_again(folder)
    check_noticed(folder, "graph-0.hnsw", "another graph than the segment's")


def test_a_flipped_byte_anywhere_in_the_header_is_noticed_or_means_nothing(folder: Path) -> None:
    path = folder / "segment.json"
    content = path.read_bytes()
    good = segment_files.read_header(folder)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            header = segment_files.read_header(folder)
        except Corrupt as error:
            assert "segment.json" in error.message  # noqa: PT017 (whether it raises depends on the place)
        else:
            assert header == good  # white space


def test_a_header_of_another_shape_is_corrupt_although_its_checksum_holds(folder: Path) -> None:
    content = segment_files.unseal_json(folder / "segment.json")
    (folder / "segment.json").write_bytes(segment_files.seal_json({**content, "row_count": 0}))
    with pytest.raises(Corrupt, match=r"segment\.json is not a segment's header"):
        open_segment(folder, 1)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"content": 3}', b"\xff"])
def test_json_without_its_seal_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sealed.json").write_bytes(content)
    with pytest.raises(Corrupt, match=r"sealed\.json"):
        segment_files.unseal_json(tmp_path / "sealed.json")


def test_sealed_json_round_trip(tmp_path: Path) -> None:
    (tmp_path / "sealed.json").write_bytes(segment_files.seal_json({"b": [1, None], "a": "ä"}))
    assert segment_files.unseal_json(tmp_path / "sealed.json") == {"b": [1, None], "a": "ä"}
    assert json.loads((tmp_path / "sealed.json").read_bytes())["content"]["a"] == "ä"


def test_empty_files_are_mapped_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert segment_files.map_array(tmp_path / "empty", np.dtype(np.uint64)).shape == (0,)
    assert segment_files.seal_file(tmp_path / "empty") == segment_files.FileSeal(byte_count=0, crc32c=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"row_count": 19},
        {"row_count": 21},
        {"live_count": 0},
        {"format": 1},
        {"key_bytes": 17},
        {"key_bytes": 9},
        {"live_count": 21},
    ],
    ids=str,
)
def test_a_header_that_contradicts_itself_is_corrupt(folder: Path, changes: dict[str, object]) -> None:
    seal_again(folder, **changes)
    with pytest.raises(Corrupt, match=r"segment\.json is not a segment's header"):
        open_segment(folder, 1)


@pytest.mark.parametrize("name", [*NEEDED[:4], "order.i64"])
def test_a_header_without_a_file_is_corrupt(folder: Path, name: str) -> None:
    seals = {key: seal for key, seal in segment_files.read_header(folder).files.items() if key != name}
    content = segment_files.unseal_json(folder / "segment.json")
    content["files"] = {key: seal.model_dump() for key, seal in seals.items()}
    (folder / "segment.json").write_bytes(segment_files.seal_json(content))
    with pytest.raises(Corrupt, match=r"segment\.json is not a segment's header"):
        open_segment(folder, 1)


def test_mapped_files_can_not_be_written(folder: Path) -> None:
    mapped = segment_files.map_array(folder / "vectors.f32", np.dtype(np.float32))
    assert not mapped.flags.writeable


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "recursion"),
        (b'{"content":[1],"crc32c":0}', "no object"),
        (b" " * 201, "SEALED_JSON_BYTES_MAX"),
    ],
)
def test_json_that_is_deep_or_long_or_no_object_is_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, words: str
) -> None:
    monkeypatch.setattr(segment_files, "SEALED_JSON_BYTES_MAX", 200 if words.startswith("SEALED") else 10**6)
    (tmp_path / "sealed.json").write_bytes(text)
    with pytest.raises(Corrupt, match=rf"sealed\.json is damaged.*{words}"):
        segment_files.unseal_json(tmp_path / "sealed.json")


def test_the_largest_manifest_is_read(tmp_path: Path) -> None:
    """One that knows as many loads as operations are kept, and as many segments."""
    sessions = tuple(SessionEntry(session=f"{number:032x}", lsn=2**62) for number in range(OPS_KEPT))
    segments = tuple(
        SegmentEntry(name=f"{number:040}", lsn=2**62, dead_file=f"dead-{number:060}.bits") for number in range(10_000)
    )
    manifest = Manifest(number=7, segments=segments, merged_sessions=sessions, history_file="ops-00000007.bin")
    write_manifest(tmp_path, manifest)
    path = manifest_path(tmp_path, 7)
    assert path.stat().st_size < segment_files.SEALED_JSON_BYTES_MAX / 4
    assert read_manifest(path) == manifest
