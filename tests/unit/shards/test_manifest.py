"""Manifests: the newest readable one counts, damage is told, bitmaps are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards import manifest as manifests
from shards.errors import Corrupt
from shards.manifest import Manifest, SegmentEntry, read_dead, read_manifests, write_dead, write_manifest
from shards.segment_files import seal_json


def test_newest_first(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        write_manifest(tmp_path, Manifest(number=number, segments=(SegmentEntry(name="seg", lsn=number),)))
    readable, problems = read_manifests(tmp_path)
    assert ([manifest.number for manifest in readable], problems) == ([10, 2, 1], [])
    assert readable[0].segments[0].lsn == 10


def test_a_damaged_one_is_passed_over_and_told(tmp_path: Path) -> None:
    for number in (1, 2):
        write_manifest(tmp_path, Manifest(number=number))
    newest = tmp_path / "manifest-00000002.json"
    newest.write_bytes(newest.read_bytes().replace(b'"applied_lsn": 0', b'"applied_lsn": 7'))
    readable, problems = read_manifests(tmp_path)
    assert [manifest.number for manifest in readable] == [1]
    assert len(problems) == 1
    assert "manifest-00000002.json is damaged" in problems[0]


def test_one_of_another_format_is_passed_over_although_its_checksum_holds(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(number=1))
    (tmp_path / "manifest-00000002.json").write_bytes(seal_json({"number": 2, "new_field": 1}))
    readable, problems = read_manifests(tmp_path)
    assert ([manifest.number for manifest in readable], len(problems)) == ([1], 1)


def test_one_under_anothers_name_is_passed_over(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(number=1))
    (tmp_path / "manifest-00000002.json").write_bytes((tmp_path / "manifest-00000001.json").read_bytes())
    readable, problems = read_manifests(tmp_path)
    assert [manifest.number for manifest in readable] == [1]
    assert "manifest-00000002.json holds manifest 1" in problems[0]


@pytest.mark.parametrize("name", ["../other", "a/b", "/etc", "..", "", ".x", "a\\b"])
def test_what_it_names_lies_in_its_folder(tmp_path: Path, name: str) -> None:
    for entry in ({"name": name, "lsn": 1}, {"name": "seg", "lsn": 1, "dead_file": name}):
        (tmp_path / "manifest-00000001.json").write_bytes(seal_json({"number": 1, "segments": [entry]}))
        with pytest.raises(Corrupt, match=r"manifest-00000001\.json is no manifest"):
            read_manifests(tmp_path)


def test_none_readable_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="there is none"):
        read_manifests(tmp_path)
    (tmp_path / "manifest-00000001.json").write_bytes(b"")
    with pytest.raises(Corrupt, match=r"manifest-00000001\.json is damaged"):
        read_manifests(tmp_path)


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(number=1))
    (tmp_path / "manifest-00000002.json.tmp").write_bytes(b"{")
    assert read_manifests(tmp_path)[1] == []


def test_dropping_takes_the_bitmaps_along(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_manifest(tmp_path, Manifest(number=number))
        write_dead(tmp_path, number, "seg", np.ones(3, np.bool_))
    manifests.drop_manifests_before(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead-00000003-seg.bits", "manifest-00000003.json"]


@pytest.mark.parametrize("count", [1, 8, 13])
def test_dead_rows_round_trip(tmp_path: Path, count: int) -> None:
    dead = np.random.default_rng(count).random(count) < 0.5
    name, checksum = write_dead(tmp_path, 4, "seg", dead)
    entry = SegmentEntry(name="seg", lsn=1, dead_file=name, dead_crc32c=checksum)
    read = read_dead(tmp_path, entry, count)
    assert read is not None
    np.testing.assert_array_equal(read, dead)
    assert read_dead(tmp_path, SegmentEntry(name="seg", lsn=1), count) is None


def test_a_damaged_bitmap_is_corrupt(tmp_path: Path) -> None:
    name, checksum = write_dead(tmp_path, 4, "seg", np.ones(20, np.bool_))
    entry = SegmentEntry(name="seg", lsn=1, dead_file=name, dead_crc32c=checksum)
    with pytest.raises(Corrupt, match=r"seg\.bits is damaged"):
        read_dead(tmp_path, entry, 40)
    (tmp_path / name).write_bytes(b"\xff\xff\xf1")
    with pytest.raises(Corrupt, match=r"seg\.bits is damaged"):
        read_dead(tmp_path, entry, 20)
    (tmp_path / name).unlink()
    with pytest.raises(Corrupt, match=r"seg\.bits is missing"):
        read_dead(tmp_path, entry, 20)
