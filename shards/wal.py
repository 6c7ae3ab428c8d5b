"""One collection's write-ahead log on one shard: frames in files, fsynced before anything is acknowledged.

`append` is the commit point. It decides nothing about the ops; it gives them LSNs, makes them durable and says so.
Files are named by the first LSN they may hold; a rotation starts a new one, and files that a manifest covers are
dropped.

- A failed write is cut off again and reported (ENOSPC as StorageFull: the caller may repeat it). After a failed
  fsync, or a cut that failed, the log is *fenced*: what the disk holds is unknown, and every later append is refused.
  An fsync is never repeated (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
- On opening, a bad frame is Corrupt if a later frame, the manifest or the mark of a clean shutdown proves that it was
  durable; otherwise it is a torn tail: it is cut, and `Recovery.cut` says where.
- A last frame that nothing proves may be seen and not be durable: a crash, or a failed fsync, came between. It is
  written once more, and fsynced, before anything stands on it.
- Files that a manifest covers are not needed: of their removals a power failure may keep any, so gaps among them are
  no damage.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from shards.disk import REAL_DISK, Disk
from shards.errors import Corrupt, StorageFull, Unavailable
from shards.log_frame import BadFrame, LogFrame, LogOp, decode_frame, encode_frame, find_frames

CLEAN_MARK = "CLEAN"
"""Holds the last LSN of a clean shutdown; removed before the first append after it."""

_PREFIX, _SUFFIX = "wal-", ".log"


@dataclass(frozen=True, slots=True)
class TornTail:
    """Bytes that a crash left behind the last durable frame, and that were cut."""

    file: str
    offset: int
    first_lsn: int
    byte_count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening a log found: every frame that it has, and the torn tail that was cut, if any.

    Ops up to the `applied_lsn` are among them: they are not applied again, but repeating them is to be recognised.
    """

    frames: tuple[LogFrame, ...]
    cut: TornTail | None


class LogTail(NamedTuple):
    """Where a frame stands."""

    path: Path
    offset: int
    end: int


class LogEnd(NamedTuple):
    """How a log ends: its last LSN, the torn tail that is to be cut, and the last good frame where nothing proves that it is
    durable.
    """

    last_lsn: int
    cut: TornTail | None
    unproven: LogTail | None


class Wal:
    """The open log. One thread at a time may call it."""

    def __init__(self, folder: Path, next_lsn: int, disk: Disk = REAL_DISK) -> None:
        self.folder = folder
        self.disk = disk
        self.next_lsn = next_lsn
        self.fence_reason: str | None = None
        self._file: int | None = None
        self._file_bytes = 0
        self._is_rotation_due = False
        self.written_bytes = 0
        """Since it was opened."""

    def __repr__(self) -> str:
        return f"<Wal {self.folder.name}: next LSN {self.next_lsn}{', fenced' if self.fence_reason else ''}>"

    @property
    def last_lsn(self) -> int:
        return self.next_lsn - 1

    def append(self, ops: Sequence[LogOp], epoch: int) -> int:
        """Make the ops durable as one frame and return the LSN of the first.

        Raises StorageFull where the disk is full (nothing is kept, repeat later), Unavailable once fenced.
        """
        if self.fence_reason:
            raise Unavailable(f"the log in {self.folder} takes no writes: {self.fence_reason}; restart the shard")
        frame = encode_frame(ops, epoch, self.next_lsn, self.last_lsn)
        try:
            descriptor = self._open_for_append()
            self.disk.write_all(descriptor, frame)
        except OSError as error:
            self._cut_back()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no room for {len(frame)} bytes in {self.folder}; free some", 5.0) from error
            raise Unavailable(f"writing {len(frame)} bytes to {self.folder} failed: {error}") from error
        try:
            self.disk.fsync(descriptor)
        except OSError as error:
            self.fence_reason = f"an fsync failed ({error})"
            raise Unavailable(f"the log in {self.folder} takes no more writes: {self.fence_reason}") from error
        self._file_bytes += len(frame)
        self.written_bytes += len(frame)
        first_lsn = self.next_lsn
        self.next_lsn += len(ops)
        return first_lsn

    def rotate(self) -> None:
        """Let the next append start a new file. Any thread may call it, also while an append is under way."""
        self._is_rotation_due = True

    def drop_through(self, lsn: int) -> None:
        """Remove the files whose every op has an LSN up to `lsn`."""
        starts = log_starts(self.folder)
        for start, following in pairwise(starts):
            if following <= lsn + 1:
                self.disk.unlink(log_path(self.folder, start))

    def close(self, clean: bool = True) -> None:
        """Close the file; `clean` leaves the mark that every op up to the last is durable, where the disk takes it."""
        self._close_file()
        if clean and self.fence_reason is None:
            # The mark only proves more: a full disk must not keep a shard from stopping.
            with contextlib.suppress(OSError):
                self.disk.write_durably(self.folder / CLEAN_MARK, str(self.last_lsn).encode())

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_for_append(self) -> int:
        if self._is_rotation_due:
            self._is_rotation_due = False
            self._close_file()
        if self._file is None:
            self.disk.unlink(self.folder / CLEAN_MARK)
            self._file = self.disk.open_for_append(log_path(self.folder, self.next_lsn))
            self._file_bytes = os.fstat(self._file).st_size
            try:
                self.disk.fsync_folder(self.folder)
            except OSError as error:
                self.fence_reason = f"the name of a new log file may not be durable ({error})"
                raise
        return self._file

    def _cut_back(self) -> None:
        if self._file is None:
            return
        try:
            self.disk.truncate(self._file, self._file_bytes)
            self.disk.fsync(self._file)
        except OSError as error:
            self.fence_reason = f"a failed write could not be cut off ({error})"


def open_wal(folder: Path, applied_lsn: int, durable_lsn: int, disk: Disk = REAL_DISK) -> tuple[Wal, Recovery]:
    """Open a log, making its folder where there is none. Parameters and errors are those of `walk_log`.

    What was found is durable when this returns, also a last frame that a crash left without its fsync.
    """
    disk.make_folder(folder)
    disk.fsync_folder(folder)
    frames: list[LogFrame] = []
    end = walk_log(folder, applied_lsn, durable_lsn, frames.append)
    if end.cut is not None:
        _cut(folder / end.cut.file, end.cut.offset, disk)
    if end.unproven is not None:
        # Later frames must not stand on bytes that only the system's memory holds.
        tail = end.unproven
        disk.rewrite_durably(tail.path, tail.offset, tail.path.read_bytes()[tail.offset : tail.end])
    return Wal(folder, max(end.last_lsn, applied_lsn) + 1, disk), Recovery(tuple(frames), end.cut)


def walk_log(folder: Path, applied_lsn: int, durable_lsn: int, visit: Callable[[LogFrame], object]) -> LogEnd:
    """Show every frame of a log to `visit`; returns how it ends. Changes nothing.

    `applied_lsn`: ops up to here are in sealed segments and are not replayed. `durable_lsn`: the highest LSN that a
    manifest proves durable. Raises Corrupt, naming file and offset, where a durable frame is damaged or missing.
    """
    proven_lsn = max(durable_lsn, _clean_mark(folder))
    cut: TornTail | None = None
    tail: LogTail | None = None
    next_lsn: int | None = None
    for start, path, is_last in _files(folder):
        content = memoryview(path.read_bytes())
        # What a manifest covers may be missing in the middle: of several removals, power failures may keep any.
        if next_lsn is not None and start != next_lsn and not next_lsn < start <= applied_lsn + 1:
            raise Corrupt(
                f"{path} starts at LSN {start}, the file before it ends at {next_lsn - 1}: a log file is missing"
            )
        if next_lsn is None and start > applied_lsn + 1:
            raise Corrupt(f"the log in {folder} starts at LSN {start}, but {applied_lsn + 1} is needed")
        next_lsn = start
        offset = 0
        while offset < len(content):
            try:
                frame = _decode_next(content, offset, next_lsn)
            except BadFrame as bad:
                place = _Place(path, is_last, content, offset, next_lsn)
                cut = _weigh(place, bad, proven_lsn)
                break
            visit(frame)
            tail = None if frame.last_lsn <= proven_lsn else LogTail(path, offset, frame.end)
            offset, next_lsn = frame.end, frame.last_lsn + 1
    next_lsn = applied_lsn + 1 if next_lsn is None else next_lsn
    if next_lsn <= proven_lsn:
        raise Corrupt(f"the log in {folder} ends at LSN {next_lsn - 1}, but LSN {proven_lsn} was durable")
    return LogEnd(next_lsn - 1, cut, tail)


def _decode_next(content: memoryview, offset: int, expected_lsn: int) -> LogFrame:
    frame = decode_frame(content, offset)
    if frame.first_lsn != expected_lsn or not frame.ops:
        raise BadFrame(
            f"it starts at LSN {frame.first_lsn} with {len(frame.ops)} ops, LSN {expected_lsn} was expected"
        )
    return frame


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the frame of `lsn` should start."""

    path: Path
    is_last_file: bool
    content: memoryview
    offset: int
    lsn: int


def _weigh(place: _Place, bad: BadFrame, proven_lsn: int) -> TornTail:
    """The torn tail at a place. Raises Corrupt where something proves that its LSN was durable."""
    path, offset, lsn = place.path, place.offset, place.lsn
    where = f"{path}, offset {offset}: the frame of LSN {lsn} is damaged ({bad})"
    if not place.is_last_file:
        raise Corrupt(f"{where}, and a later log file follows it")
    if lsn <= proven_lsn:
        raise Corrupt(f"{where}, and LSN {proven_lsn} is known to have been durable")
    for frame in find_frames(place.content, offset):  # also the one that stands here, where it is another's place
        if frame.durable_lsn >= lsn:
            raise Corrupt(f"{where}, and a later frame (LSN {frame.first_lsn}) proves that it was durable")
    return TornTail(path.name, offset, lsn, len(place.content) - offset, str(bad))


def _files(folder: Path) -> Iterator[tuple[int, Path, bool]]:
    starts = log_starts(folder)
    for start in starts:
        yield start, log_path(folder, start), start == starts[-1]


def log_starts(folder: Path) -> list[int]:
    """The first LSN of each file of a log, ascending. A copy that somebody made beside them is none."""
    starts = (path.name[len(_PREFIX) : -len(_SUFFIX)] for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    return sorted(int(start) for start in starts if start.isdecimal())


def log_path(folder: Path, first_lsn: int) -> Path:
    """Where the file lies that begins at an LSN."""
    return folder / f"{_PREFIX}{first_lsn:020d}{_SUFFIX}"


def _clean_mark(folder: Path) -> int:
    try:
        return int((folder / CLEAN_MARK).read_text())
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise Corrupt(f"{folder / CLEAN_MARK} does not hold an LSN") from error


def _cut(path: Path, length: int, disk: Disk) -> None:
    descriptor = disk.open_for_append(path)
    try:
        disk.truncate(descriptor, length)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)
