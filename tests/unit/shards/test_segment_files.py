"""Damaged segments: the file is named, and hnswlib never sees a byte of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from shards import segment_files
from shards.errors import Corrupt
from shards.hnsw import HnswGraph
from shards.sealed import open_segment
from tests.shard_oracle import batch_of
from tests.unit.shards.test_sealed import build

FILES = ["vectors.f32", "keys.bin", "order.i64", "offsets.u64", "payload.bin", "graph.hnsw", "versions.u64"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good segment's folder; loading a graph fails the test from here on."""
    build(tmp_path / "segment", batch_of(range(20)), versions=list(range(20)))
    monkeypatch.setattr(HnswGraph, "load", lambda *_: pytest.fail("damaged bytes reached hnswlib"))
    return tmp_path / "segment"


def test_these_are_all_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "segment.json"])


@pytest.mark.parametrize("name", [*FILES, "segment.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Corrupt, match=rf"segment/{name} .*missing"):
        open_segment(folder, 1)


@pytest.mark.parametrize("name", [*FILES, "segment.json"])
@pytest.mark.parametrize("length_change", [-1, 1, None])
def test_a_file_of_another_length_is_named(folder: Path, name: str, length_change: int | None) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, 0 if length_change is None else size + length_change)
    with pytest.raises(Corrupt, match=f"segment/{name} "):
        open_segment(folder, 1)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_anywhere_is_noticed(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for place in {0, len(content) // 2, len(content) - 1}:
        damaged = bytearray(content)
        damaged[place] ^= 4
        (folder / name).write_bytes(damaged)
        with pytest.raises(Corrupt, match=f"segment/{name} is damaged: its checksum is wrong"):
            open_segment(folder, 1)


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


def test_mapped_files_can_not_be_written(folder: Path) -> None:
    mapped = segment_files.map_array(folder / "vectors.f32", np.dtype(np.float32))
    assert not mapped.flags.writeable
