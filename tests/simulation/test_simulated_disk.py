"""The simulated disk loses what a disk may lose, keeps what it must keep, and fails where it is told to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.simulated_disk import Crash, Fault, Operation, SimulatedDisk, When, surviving_bytes

SEEDS = range(60)
"""So many power failures show every outcome that is asked for here; the seeds are fixed."""


def append(disk: SimulatedDisk, path: Path, content: bytes, is_synced: bool = False) -> None:
    descriptor = disk.open_for_append(path)
    try:
        disk.write_all(descriptor, content)
        if is_synced:
            disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def outcomes(tmp_path: Path, prepare: Callable[[SimulatedDisk, Path], object], name: str) -> set[bytes | None]:
    """What is at `name` after a power failure, over all seeds; None where nothing is."""
    found: set[bytes | None] = set()
    for seed in SEEDS:
        root = tmp_path / str(seed)
        root.mkdir()
        disk = SimulatedDisk(root)
        prepare(disk, root)
        disk.power_loss(Random(seed))
        path = root / name
        found.add(path.read_bytes() if path.exists() else None)
    return found


def test_what_is_fsynced_stays(tmp_path: Path) -> None:
    def prepare(disk: SimulatedDisk, root: Path) -> None:
        disk.make_folder(root / "f")
        disk.write_durably(root / "f" / "a", b"old")
        append(disk, root / "f" / "a", b" and new", is_synced=True)

    assert outcomes(tmp_path, prepare, "f/a") == {b"old and new"}


def test_bytes_that_were_not_fsynced_are_dropped_torn_or_kept_behind_those_that_were(tmp_path: Path) -> None:
    def prepare(disk: SimulatedDisk, root: Path) -> None:
        disk.write_durably(root / "a", b"durable")
        append(disk, root / "a", b"x" * 2_000)

    found = outcomes(tmp_path, prepare, "a")
    assert {b"durable", b"durable" + b"x" * 2_000, b"durable" + bytes(2_000)} < found
    assert all(content is not None and content.startswith(b"durable") for content in found)


def test_a_torn_end_is_cut_zeroed_or_garbled() -> None:
    written = b"x" * 2_000
    found = [surviving_bytes(b"", written, Random(seed)) for seed in SEEDS]
    assert any(0 < len(content) < 2_000 and set(content) == {ord("x")} for content in found)
    assert any(content.startswith(b"x") and content.endswith(b"\0") for content in found)
    assert any(content.startswith(b"x") and len(set(content)) > 2 for content in found)


def test_a_name_that_was_not_fsynced_may_be_gone(tmp_path: Path) -> None:
    found = outcomes(tmp_path, lambda disk, root: append(disk, root / "a", b"1", is_synced=True), "a")
    assert found == {None, b"1"}


def test_a_file_written_by_other_means_is_durable_once_it_and_its_folder_are_fsynced(tmp_path: Path) -> None:
    def write(disk: SimulatedDisk, root: Path) -> None:
        (root / "a").write_bytes(b"1")
        disk.fsync_folder(root)

    def write_and_fsync(disk: SimulatedDisk, root: Path) -> None:
        write(disk, root)
        disk.fsync_file(root / "a")

    (tmp_path / "not").mkdir()
    assert outcomes(tmp_path / "not", write, "a") > {b"", b"1"}
    assert outcomes(tmp_path, write_and_fsync, "a") == {b"1"}


def test_a_renaming_that_was_not_fsynced_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    def prepare(disk: SimulatedDisk, root: Path) -> None:
        disk.write_durably(root / "a", b"old")
        disk.faults.append(Fault(Operation.NAME, When.AFTER, countdown=2))  # the temporary file's making is the first
        with pytest.raises(Crash):
            disk.write_durably(root / "a", b"new")

    assert outcomes(tmp_path, prepare, "a") == {b"old", b"new"}


def test_a_removal_that_was_not_fsynced_may_not_have_been(tmp_path: Path) -> None:
    def prepare(disk: SimulatedDisk, root: Path) -> None:
        disk.make_folder(root / "f")
        disk.write_durably(root / "f" / "a", b"1")
        disk.write_durably(root / "b", b"2")
        disk.remove_tree(root / "f")
        disk.unlink(root / "b")
        assert not any(root.iterdir())

    for number, (name, content) in enumerate((("f/a", b"1"), ("b", b"2"))):
        (tmp_path / f"run{number}").mkdir()
        assert outcomes(tmp_path / f"run{number}", prepare, name) == {None, content}


def test_after_a_failed_fsync_a_second_one_makes_nothing_durable_but_writing_again_does(tmp_path: Path) -> None:
    def fail(disk: SimulatedDisk, root: Path) -> None:
        disk.write_durably(root / "a", b"durable")
        disk.faults.append(Fault(Operation.FSYNC, When.BEFORE, 1, errno.EIO))
        with pytest.raises(OSError, match="error"):
            append(disk, root / "a", b" lost", is_synced=True)
        assert (root / "a").read_bytes() == b"durable lost", "it is seen all the same"
        disk.fsync_file(root / "a")

    def write_again(disk: SimulatedDisk, root: Path) -> None:
        fail(disk, root)
        disk.rewrite_durably(root / "a", 0, b"durable lost")

    (tmp_path / "not").mkdir()
    assert {b"durable", b"durable lost"} <= outcomes(tmp_path / "not", fail, "a")
    assert outcomes(tmp_path, write_again, "a") == {b"durable lost"}


@pytest.mark.parametrize(
    ("when", "left"), [(When.BEFORE, b""), (When.HALFWAY, b"12"), (When.AFTER, b"1234")], ids=lambda value: str(value)
)
def test_a_crash_strikes_on_its_side_and_from_then_on_everything_crashes(
    tmp_path: Path, when: When, left: bytes
) -> None:
    disk = SimulatedDisk(tmp_path)
    append(disk, tmp_path / "wal-1", b"")
    disk.faults.append(Fault(Operation.APPEND_WRITE, when))
    with pytest.raises(Crash):
        append(disk, tmp_path / "wal-1", b"1234")
    assert (tmp_path / "wal-1").read_bytes() == left
    for again in (lambda: disk.unlink(tmp_path / "wal-1"), lambda: disk.fsync_folder(tmp_path)):
        with pytest.raises(Crash, match="is dead"):
            again()
    assert (len(disk.injected), disk.faults) == (1, [])
    disk.restart()
    disk.unlink(tmp_path / "wal-1")


def test_a_full_disk_takes_what_fits(tmp_path: Path) -> None:
    disk = SimulatedDisk(tmp_path)
    append(disk, tmp_path / "a", b"1")
    disk.room_bytes = 3
    with pytest.raises(OSError, match="No space"):
        append(disk, tmp_path / "a", b"2345")
    assert (tmp_path / "a").read_bytes() == b"1234"
    with pytest.raises(OSError, match="No space"):
        disk.open_for_append(tmp_path / "b")
    disk.room_bytes = None
    append(disk, tmp_path / "b", b"1")
