"""The log: durable before it says so, a prefix after every crash, fenced when the disk can't be trusted."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest

from shards.errors import Corrupt, StorageFull, Unavailable
from shards.log_frame import LogOp, OpKind, encode_frame
from shards.wal import CLEAN_MARK, Recovery, Wal, open_wal
from tests.simulated_disk import Crash, Fault, Operation, SimulatedDisk, When

FIRST = "wal-00000000000000000001.log"


def op(text: str) -> LogOp:
    return LogOp(OpKind.UPSERT, text.encode().ljust(16), text.encode())


def bodies(recovery: Recovery) -> list[str]:
    return [bytes(logged.body).decode() for frame in recovery.frames for logged in frame.ops]


def write_log(folder: Path, *texts: str) -> list[int]:
    """One frame for each text; returns where each ends."""
    wal, _ = open_wal(folder, 0, 0)
    ends = []
    for text in texts:
        wal.append([op(text)], 1)
        ends.append((folder / FIRST).stat().st_size)
    wal.close(clean=False)
    return ends


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str, error: int, when: int = 1) -> None:
    """Let the `when`-th call of an os function fail, and no other."""
    real = getattr(os, name)
    calls = []

    def failing(*args: object) -> object:
        calls.append(args)
        if len(calls) == when:
            raise OSError(error, os.strerror(error))
        return real(*args)

    monkeypatch.setattr(os, name, failing)


def test_what_was_appended_is_there_after_a_crash(tmp_path: Path) -> None:
    wal, recovery = open_wal(tmp_path / "wal", 0, 0)
    assert (recovery, wal.last_lsn) == (Recovery((), None), 0)
    assert wal.append([op("a"), op("b")], 1) == 1
    assert wal.append([op("c")], 2) == 3
    reopened, recovery = open_wal(tmp_path / "wal", 0, 0)
    assert bodies(recovery) == ["a", "b", "c"]
    assert [(frame.epoch, frame.first_lsn, frame.durable_lsn) for frame in recovery.frames] == [(1, 1, 0), (2, 3, 2)]
    assert (reopened.next_lsn, recovery.cut) == (4, None)
    assert "next LSN 4" in repr(reopened)


def test_a_log_cut_at_every_byte_recovers_a_prefix_and_reports_the_cut(tmp_path: Path) -> None:
    ends = write_log(tmp_path, "first", "second", "third")
    content = (tmp_path / FIRST).read_bytes()
    for length in range(len(content)):
        (tmp_path / FIRST).write_bytes(content[:length])
        wal, recovery = open_wal(tmp_path, 0, 0)
        whole = sum(end <= length for end in ends)
        assert bodies(recovery) == ["first", "second", "third"][:whole]
        assert wal.next_lsn == whole + 1
        boundary = ([0, *ends])[whole]
        if length == boundary:
            assert recovery.cut is None
        else:
            assert recovery.cut is not None
            assert (recovery.cut.offset, recovery.cut.byte_count) == (boundary, length - boundary)
            assert (recovery.cut.file, recovery.cut.first_lsn) == (FIRST, whole + 1)
        assert (tmp_path / FIRST).stat().st_size == boundary


def test_a_log_goes_on_behind_a_cut(tmp_path: Path) -> None:
    ends = write_log(tmp_path, "first", "second")
    os.truncate(tmp_path / FIRST, ends[1] - 1)
    wal, _ = open_wal(tmp_path, 0, 0)
    assert wal.append([op("instead")], 1) == 2
    assert bodies(open_wal(tmp_path, 0, 0)[1]) == ["first", "instead"]


@pytest.mark.parametrize("damage", ["flip", "zero"])
def test_damage_at_every_byte_is_corruption_where_a_later_frame_proves_it_else_a_reported_cut(
    tmp_path: Path, damage: str
) -> None:
    ends = write_log(tmp_path, "first", "second", "third")
    content = (tmp_path / FIRST).read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        if damage == "flip":
            damaged[place] ^= 0x10
        else:
            damaged[place : place + 8] = bytes(len(damaged[place : place + 8]))
        if damaged == content:
            continue
        (tmp_path / FIRST).write_bytes(damaged)
        hit_at = next(at for at, byte in enumerate(damaged) if byte != content[at])
        intact = sum(end <= hit_at for end in ends)
        if intact == 2:
            _, recovery = open_wal(tmp_path, 0, 0)
            assert bodies(recovery) == ["first", "second"]
            assert recovery.cut is not None
            assert recovery.cut.offset == ends[1]
        elif damage == "zero" and intact == 1 and damaged[ends[1] :] != content[ends[1] :]:
            # Both remaining frames are hit, so nothing proves the second: a cut, and it is reported.
            _, recovery = open_wal(tmp_path, 0, 0)
            assert (bodies(recovery), recovery.cut is None) == (["first"], False)
        else:
            with pytest.raises(Corrupt, match=rf"{FIRST}, offset {([0, *ends])[intact]}: .* LSN {intact + 1} "):
                open_wal(tmp_path, 0, 0)
            assert (tmp_path / FIRST).read_bytes() == bytes(damaged), "damage is left as it was found"


def test_a_manifest_proves_that_a_damaged_tail_was_durable(tmp_path: Path) -> None:
    ends = write_log(tmp_path, "first", "second")
    os.truncate(tmp_path / FIRST, ends[1] - 3)
    with pytest.raises(Corrupt, match="LSN 2 is known to have been durable"):
        open_wal(tmp_path, 0, 2)
    os.truncate(tmp_path / FIRST, ends[0])
    with pytest.raises(Corrupt, match="ends at LSN 1, but LSN 2 was durable"):
        open_wal(tmp_path, 0, 2)
    assert bodies(open_wal(tmp_path, 0, 1)[1]) == ["first"]


def test_the_clean_mark_proves_that_a_damaged_tail_was_durable(tmp_path: Path) -> None:
    write_log(tmp_path, "first", "second")
    wal, _ = open_wal(tmp_path, 0, 0)
    wal.close()
    assert (tmp_path / CLEAN_MARK).read_text() == "2"
    content = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(content[:-1])
    with pytest.raises(Corrupt, match="LSN 2 is known to have been durable"):
        open_wal(tmp_path, 0, 0)


def test_the_clean_mark_goes_before_the_first_append(tmp_path: Path) -> None:
    write_log(tmp_path, "first")
    wal, _ = open_wal(tmp_path, 0, 0)
    wal.close()
    wal, _ = open_wal(tmp_path, 0, 0)
    assert (tmp_path / CLEAN_MARK).exists()
    wal.append([op("second")], 1)
    assert not (tmp_path / CLEAN_MARK).exists()


def test_a_full_disk_keeps_no_log_from_being_closed(tmp_path: Path) -> None:
    disk = SimulatedDisk(tmp_path)
    wal, _ = open_wal(tmp_path / "wal", 0, 0, disk)
    wal.append([op("first")], 1)
    disk.room_bytes = 0
    wal.close()
    assert not (tmp_path / "wal" / CLEAN_MARK).exists()
    assert bodies(open_wal(tmp_path / "wal", 0, 0, disk)[1]) == ["first"]


def test_an_unreadable_clean_mark_is_corrupt(tmp_path: Path) -> None:
    write_log(tmp_path, "first")
    (tmp_path / CLEAN_MARK).write_text("many")
    with pytest.raises(Corrupt, match="CLEAN does not hold an LSN"):
        open_wal(tmp_path, 0, 0)


@pytest.mark.parametrize("when", [1, 2])
def test_a_full_disk_keeps_nothing_and_the_write_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    wal, _ = open_wal(tmp_path, 0, 0)
    wal.append([op("first")], 1)
    before = (tmp_path / FIRST).read_bytes()
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, view: real_write(descriptor, view[:7]))
    fail_once(monkeypatch, "write", errno.ENOSPC, when)
    with pytest.raises(StorageFull, match="no room") as full:
        wal.append([op("second")], 1)
    assert full.value.retry_after_s == 5.0
    assert (tmp_path / FIRST).read_bytes() == before
    assert wal.append([op("again")], 1) == 2
    assert bodies(open_wal(tmp_path, 0, 0)[1]) == ["first", "again"]


def test_a_failed_write_that_can_not_be_cut_off_fences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal, _ = open_wal(tmp_path, 0, 0)
    wal.append([op("first")], 1)
    fail_once(monkeypatch, "write", errno.EIO)
    fail_once(monkeypatch, "ftruncate", errno.EIO)
    with pytest.raises(Unavailable, match=r"writing .* failed"):
        wal.append([op("second")], 1)
    with pytest.raises(Unavailable, match="takes no writes"):
        wal.append([op("third")], 1)


def test_nothing_is_acknowledged_after_a_failed_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal, _ = open_wal(tmp_path, 0, 0)
    wal.append([op("first")], 1)
    fail_once(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(Unavailable, match="an fsync failed"):
        wal.append([op("second")], 1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="takes no writes"):
            wal.append([op("third")], 1)
    assert "fenced" in repr(wal)
    wal.close()
    assert not (tmp_path / CLEAN_MARK).exists(), "a fenced log is not clean"
    assert bodies(open_wal(tmp_path, 0, 0)[1])[:1] == ["first"]


@pytest.mark.parametrize(("error", "raised"), [(errno.ENOSPC, StorageFull), (errno.EIO, Unavailable)])
def test_a_log_file_that_can_not_be_made_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, raised: type[Exception]
) -> None:
    wal, _ = open_wal(tmp_path, 0, 0)
    fail_once(monkeypatch, "open", error)
    with pytest.raises(raised):
        wal.append([op("first")], 1)
    assert wal.append([op("first")], 1) == 1


def test_a_log_file_whose_name_may_not_be_durable_takes_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal, _ = open_wal(tmp_path, 0, 0)
    fail_once(monkeypatch, "fsync", errno.EIO)  # the folder's, before the first frame
    with pytest.raises(Unavailable):
        wal.append([op("first")], 1)
    with pytest.raises(Unavailable, match="takes no writes"):
        wal.append([op("first")], 1)


def rotated(folder: Path) -> Wal:
    wal, _ = open_wal(folder, 0, 0)
    for number in range(3):
        wal.append([op(f"{number}a"), op(f"{number}b")], 1)
        wal.rotate()
    return wal


def test_rotation_starts_files_that_are_named_by_their_first_lsn(tmp_path: Path) -> None:
    rotated(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("wal-*")) == [f"wal-{lsn:020d}.log" for lsn in (1, 3, 5)]
    assert bodies(open_wal(tmp_path, 0, 0)[1]) == ["0a", "0b", "1a", "1b", "2a", "2b"]


@pytest.mark.parametrize(("lsn", "kept"), [(0, [1, 3, 5]), (1, [1, 3, 5]), (2, [3, 5]), (3, [3, 5]), (9, [5])])
def test_dropping_removes_files_whose_every_op_is_covered(tmp_path: Path, lsn: int, kept: list[int]) -> None:
    rotated(tmp_path).drop_through(lsn)
    assert sorted(path.name for path in tmp_path.glob("wal-*")) == [f"wal-{start:020d}.log" for start in kept]


def test_ops_that_a_manifest_covers_are_not_needed(tmp_path: Path) -> None:
    rotated(tmp_path).drop_through(2)
    wal, recovery = open_wal(tmp_path, 2, 2)
    assert (bodies(recovery), wal.next_lsn) == (["1a", "1b", "2a", "2b"], 7)


@pytest.mark.parametrize(
    ("missing", "reason"), [(3, "a log file is missing"), (1, "starts at LSN 3, but 1 is needed")]
)
def test_a_missing_file_is_corrupt(tmp_path: Path, missing: int, reason: str) -> None:
    rotated(tmp_path)
    (tmp_path / f"wal-{missing:020d}.log").unlink()
    with pytest.raises(Corrupt, match=reason):
        open_wal(tmp_path, 0, 0)


def test_a_missing_file_is_corrupt_also_where_only_an_empty_one_follows(tmp_path: Path) -> None:
    write_log(tmp_path, "first", "second")
    (tmp_path / FIRST).unlink()
    (tmp_path / "wal-00000000000000000003.log").touch()
    with pytest.raises(Corrupt, match="starts at LSN 3, but 1 is needed"):
        open_wal(tmp_path, 0, 0)


def test_damage_in_an_earlier_file_is_corrupt(tmp_path: Path) -> None:
    rotated(tmp_path)
    path = tmp_path / FIRST
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(Corrupt, match="a later log file follows it"):
        open_wal(tmp_path, 0, 0)


def test_a_frame_of_another_place_is_no_part_of_the_log(tmp_path: Path) -> None:
    write_log(tmp_path, "first")
    with open(tmp_path / FIRST, "ab") as file:
        file.write(encode_frame([op("stray")], 1, 9, 0))
    _, recovery = open_wal(tmp_path, 0, 0)
    assert bodies(recovery) == ["first"]
    assert recovery.cut is not None
    assert "LSN 2 was expected" in recovery.cut.reason


def test_a_missing_file_that_a_manifest_covers_is_what_a_power_failure_left_of_removals(tmp_path: Path) -> None:
    rotated(tmp_path)
    (tmp_path / f"wal-{3:020d}.log").unlink()  # the one before it was to go first, and is there again
    wal, recovery = open_wal(tmp_path, 4, 4)
    assert (bodies(recovery), wal.next_lsn) == (["0a", "0b", "2a", "2b"], 7)
    with pytest.raises(Corrupt, match="a log file is missing"):
        open_wal(tmp_path, 3, 3)


@pytest.mark.parametrize("order", [(1, 3, 2, 4), (1, 2, 2, 3, 4), (1, 4, 2, 3), (2, 1, 3, 4)], ids=str)
def test_frames_in_another_order_are_corruption_where_any_of_them_proves_what_is_missing(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    starts = [0, *write_log(tmp_path, "first", "second", "third", "fourth")]
    content = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(b"".join(content[starts[number - 1] : starts[number]] for number in order))
    with pytest.raises(Corrupt, match=r"a later frame \(LSN \d\) proves that it was durable"):
        open_wal(tmp_path, 0, 0)


def test_a_frame_that_is_repeated_at_the_end_is_cut(tmp_path: Path) -> None:
    ends = write_log(tmp_path, "first", "second")
    content = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(content + content[ends[0] :])
    _, recovery = open_wal(tmp_path, 0, 0)
    assert bodies(recovery) == ["first", "second"]
    assert recovery.cut is not None
    assert recovery.cut.offset == ends[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("error", [None, errno.EIO], ids=["crash", "failed fsync"])
def test_a_frame_that_a_restart_found_is_durable_before_others_follow_it(
    tmp_path: Path, seed: int, error: int | None
) -> None:
    disk = SimulatedDisk(tmp_path)
    wal, _ = open_wal(tmp_path / "wal", 0, 0, disk)
    disk.faults.append(Fault(Operation.APPEND_FSYNC, When.BEFORE, 1, error))
    with pytest.raises(Crash if error is None else Unavailable):
        wal.append([op("found")], 1)
    wal.close(clean=False)
    disk.restart()
    wal, recovery = open_wal(tmp_path / "wal", 0, 0, disk)
    assert bodies(recovery) == ["found"]
    wal.append([op("told")], 1)
    wal.close(clean=False)
    disk.power_loss(Random(seed))
    assert bodies(open_wal(tmp_path / "wal", 0, 0, disk)[1]) == ["found", "told"]


def test_a_log_without_files_begins_behind_the_manifest(tmp_path: Path) -> None:
    wal, recovery = open_wal(tmp_path, 5, 5)
    assert (wal.append([op("six")], 1), recovery.frames) == (6, ())
