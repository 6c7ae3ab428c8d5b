"""The port to the disk: what it says is durable survives a power failure, also where a crash came before."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from shards.disk import REAL_DISK, Disk
from tests.simulated_disk import Crash, Fault, Operation, SimulatedDisk, When

SEEDS = range(12)


@pytest.fixture(params=[Disk, SimulatedDisk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return REAL_DISK if request.param is Disk else SimulatedDisk(tmp_path)


def test_a_file_is_replaced_whole_and_nothing_else_is_left(disk: Disk, tmp_path: Path) -> None:
    for content in (b"a long beginning", b"short", b""):
        disk.write_durably(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_appending_cutting_and_rewriting(disk: Disk, tmp_path: Path) -> None:
    for content in (b"one ", b"two ", b"three"):
        descriptor = disk.open_for_append(tmp_path / "a")
        disk.write_all(descriptor, content)
        disk.fsync(descriptor)
        os.close(descriptor)
    descriptor = disk.open_for_append(tmp_path / "a")
    disk.truncate(descriptor, 7)
    disk.write_all(descriptor, b"!")
    os.close(descriptor)
    disk.fsync_file(tmp_path / "a")
    disk.rewrite_durably(tmp_path / "a", 4, b"two!")
    assert (tmp_path / "a").read_bytes() == b"one two!"


def test_removing(disk: Disk, tmp_path: Path) -> None:
    disk.make_folder(tmp_path / "f" / "g")
    disk.make_folder(tmp_path / "f" / "g")
    (tmp_path / "f" / "g" / "a").write_bytes(b"1")
    (tmp_path / "f" / "b").write_bytes(b"1")
    disk.unlink(tmp_path / "f" / "b")
    disk.unlink(tmp_path / "f" / "b")
    disk.remove_tree(tmp_path / "f" / "g")
    disk.remove_tree(tmp_path / "f" / "g")
    assert list((tmp_path / "f").iterdir()) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_folder_whose_making_crashed_is_made_durable_the_next_time(tmp_path: Path, seed: int) -> None:
    disk = SimulatedDisk(tmp_path)
    disk.faults.append(Fault(Operation.NAME, When.AFTER, countdown=1 + seed % 3))
    with pytest.raises(Crash):
        disk.make_folder(tmp_path / "a" / "b" / "c")
    disk.restart()
    disk.make_folder(tmp_path / "a" / "b" / "c")
    disk.power_loss(Random(seed))
    assert (tmp_path / "a" / "b" / "c").is_dir()
