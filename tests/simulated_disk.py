"""A disk that does everything for real below a root, remembers what is durable, and fails where it is told to.

What it models, harsher than most disks are:

- A file's bytes are durable as they were at its last fsync. Behind them a power failure leaves any part of what was
  written since: nothing, all, a beginning, a beginning whose last block is zeroed or garbled.
- A folder's names are durable as they were at its last fsync. Of the changes since then (made, renamed, removed) a
  power failure keeps any: a first few, as a journal does, or some of them.
- After a failed fsync the bytes that it was for stay visible, and no later fsync makes them durable unless they are
  written again (Rebello et al., ATC 2020).
- After a crash every operation crashes: nobody cleans up in a process that is dead.

Files are followed by the folder and name that they were first seen under, over renames. Files may be written by
other means, but only this disk renames and removes. No byte is really fsynced: that would only cost time.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np

from shards.disk import Disk

BLOCK_BYTES = 512
T = TypeVar("T")


class Crash(BaseException):
    """The process is gone. No `except Exception` may notice it."""


class Operation(Enum):
    """What a fault may be tied to; ANY counts all of them."""

    APPEND_WRITE = auto()
    APPEND_FSYNC = auto()
    SEGMENT_FSYNC = auto()
    SEGMENT_HEADER = auto()
    SEGMENT_RENAME = auto()
    MANIFEST_RENAME = auto()
    LOG_TRUNCATE = auto()
    LOG_DROP = auto()
    ACKNOWLEDGE = auto()
    WRITE = auto()
    FSYNC = auto()
    NAME = auto()
    ANY = auto()


class When(Enum):
    """On which side of the operation; HALFWAY is for writes, for others it is BEFORE."""

    BEFORE = auto()
    HALFWAY = auto()
    AFTER = auto()


@dataclass
class Fault:
    """At the `countdown`-th such operation: a crash, or where `error` is an errno an OSError."""

    operation: Operation
    when: When = When.BEFORE
    countdown: int = 1
    error: int | None = None


@dataclass(eq=False)
class _File:
    durable: bytes = b""
    lost: tuple[int, int] | None = None
    """Bytes from here to there met a failed fsync: a later one passes them over."""


@dataclass(frozen=True)
class _Change:
    """A name that appeared (`before` None), went (`after` None) or became another."""

    before: str | None
    after: str | None
    node: _File | _Folder


@dataclass(eq=False)
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)

    def change(self, before: str | None, after: str | None, node: _File | _Folder) -> None:
        self.changes.append(_Change(before, after, node))
        _apply(self.names, self.changes[-1])


def _apply(names: dict[str, _File | _Folder], change: _Change) -> None:
    if change.before is not None and names.get(change.before) is change.node:
        del names[change.before]
    if change.after is not None:
        names[change.after] = change.node


class SimulatedDisk(Disk):
    """See the module. What is below `root` when it is made is durable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.injected: list[Fault] = []
        self.room_bytes: int | None = None
        """So many more bytes may be written, then the disk is full."""
        self.operation_count = 0
        self._is_dead = False
        self._paths: dict[int, Path] = {}
        self._tree = _Folder()
        self._remember_all()

    def restart(self) -> None:
        """The process was killed and another one starts: everything that was written is there, durable or not."""
        self._is_dead = False

    def power_loss(self, random: Random) -> None:
        """The machine lost its power, and is up again: the tree is what the disk may hold."""
        self._observe_all(self.root, self._tree)
        kept: dict[Path, bytes | None] = {}
        self._survive(self.root, self._tree, self._contents(self.root, self._tree), random, kept)
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path, content in kept.items():
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)
        self._remember_all()
        self.restart()

    def acknowledge(self) -> None:
        """What a caller does before it tells that a write is done: a place where it may crash, too."""
        self._perform({Operation.ACKNOWLEDGE}, int)

    # The port

    def open_for_append(self, path: Path) -> int:
        return self._opened(path, lambda: super(SimulatedDisk, self).open_for_append(path))

    def write_all(self, descriptor: int, content: bytes) -> None:
        path = self._paths[descriptor]

        def write(count: int) -> None:
            super(SimulatedDisk, self).write_all(descriptor, content[:count])

        def write_what_fits() -> None:
            write(len(content) if self.room_bytes is None else min(len(content), self.room_bytes))
            self._take_room(len(content), path)

        kinds = {Operation.WRITE, Operation.APPEND_WRITE} if _is_log(path) else {Operation.WRITE}
        self._perform(kinds, write_what_fits, lambda: write(len(content) // 2))

    def fsync(self, descriptor: int) -> None:
        path = self._paths[descriptor]
        kinds = {Operation.FSYNC, Operation.APPEND_FSYNC} if _is_log(path) else {Operation.FSYNC}
        self._fsync(path, kinds)

    def truncate(self, descriptor: int, length: int) -> None:
        path = self._paths[descriptor]

        def truncate() -> None:
            os.ftruncate(descriptor, length)
            file = self._file(path)
            if file.lost is not None and file.lost[0] >= length:
                file.lost = None

        self._perform({Operation.LOG_TRUNCATE} if _is_log(path) else set(), truncate)

    def rewrite_durably(self, path: Path, offset: int, content: bytes) -> None:
        def write() -> None:
            with open(path, "r+b") as opened:
                opened.seek(offset)
                opened.write(content)
            file = self._file(path)
            if file.lost is not None and offset <= file.lost[0] and file.lost[1] <= offset + len(content):
                file.lost = None

        self._perform({Operation.WRITE}, write)
        self._fsync(path, {Operation.FSYNC})

    def fsync_file(self, path: Path) -> None:
        self._fsync(path, {Operation.FSYNC, Operation.SEGMENT_FSYNC})

    def fsync_folder(self, folder: Path) -> None:
        if not folder.is_relative_to(self.root):
            return

        def make_durable() -> None:
            node = self._folder(folder)
            node.durable, node.changes = dict(node.names), []

        self._perform({Operation.FSYNC}, make_durable)

    def unlink(self, path: Path) -> None:
        kinds = {Operation.NAME, Operation.LOG_DROP} if _is_log(path) else {Operation.NAME}
        if path.exists():
            self._perform(kinds, lambda: self._remove(path))

    def remove_tree(self, folder: Path) -> None:
        if folder.exists():
            self._perform({Operation.NAME}, lambda: self._remove(folder), lambda: self._remove_half(folder))

    def _open_anew(self, path: Path) -> int:
        return self._opened(path, lambda: super(SimulatedDisk, self)._open_anew(path))

    def _make_one_folder(self, path: Path) -> None:
        def make() -> None:
            path.mkdir(exist_ok=True)
            self._folder(path)

        self._perform({Operation.NAME}, make)

    def _rename(self, source: Path, target: Path) -> None:
        def rename() -> None:
            folder = self._folder(source.parent)
            node = folder.names[source.name]
            os.rename(source, target)
            folder.change(source.name, target.name, node)

        self._perform({Operation.NAME, *_rename_kinds(source, target)}, rename)

    # Faults

    def _perform(self, kinds: set[Operation], act: Callable[[], T], act_half: Callable[[], object] = int) -> T:
        """Do it, unless a fault comes before, in the middle or after it."""
        if self._is_dead:
            raise Crash("the process is dead")
        self.operation_count += 1
        fault = self._due_fault({*kinds, Operation.ANY})
        if fault is None:
            return act()
        if fault.when is When.HALFWAY:
            act_half()
        elif fault.when is When.AFTER:
            act()
        self.injected.append(fault)
        if fault.error is not None:
            raise OSError(fault.error, os.strerror(fault.error))
        self._is_dead = True
        raise Crash(f"at {fault}")

    def _take_room(self, count: int, path: Path) -> None:
        if self.room_bytes is None:
            return
        is_enough = count <= self.room_bytes
        self.room_bytes = max(0, self.room_bytes - count)
        if not is_enough:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _due_fault(self, kinds: set[Operation]) -> Fault | None:
        due = None
        for fault in list(self.faults):
            if fault.operation in kinds and due is None:
                fault.countdown -= 1
                if fault.countdown == 0:
                    self.faults.remove(fault)
                    due = fault
        return due

    # What is durable

    def _opened(self, path: Path, open_file: Callable[[], int]) -> int:
        def act() -> int:
            if not path.exists():
                self._take_room(1, path)
            return open_file()

        descriptor = self._perform({Operation.NAME}, act)
        self._file(path)
        self._paths[descriptor] = path
        return descriptor

    def _fsync(self, path: Path, kinds: set[Operation]) -> None:
        def make_durable() -> None:
            file, content = self._file(path), path.read_bytes()
            if Operation.SEGMENT_FSYNC in kinds and not file.durable:
                self._take_room(len(content), path)  # written by other means: here the disk first hears of it
            if file.lost is not None:
                start, end = file.lost
                behind = content[end:]
                content = content[:start] + (bytes(end - start) + behind if behind else b"")
            file.durable = content

        try:
            self._perform(kinds, make_durable)
        except OSError:
            file, content = self._file(path), path.read_bytes()
            if file.durable != content:
                start = _common_length(file.durable, content)
                file.lost = (min(start, file.lost[0]) if file.lost else start, len(content))
            raise

    def _file(self, path: Path) -> _File:
        node = self._folder(path.parent).names[path.name]
        assert isinstance(node, _File), path
        return node

    def _folder(self, path: Path) -> _Folder:
        folder = self._tree
        at = self.root
        self._observe(at, folder)
        for part in path.relative_to(self.root).parts:
            at, node = at / part, folder.names[part]
            assert isinstance(node, _Folder), path
            folder = node
            self._observe(at, folder)
        return folder

    def _observe(self, path: Path, folder: _Folder) -> None:
        """Take note of files that were written by other means."""
        for entry in os.scandir(path):
            if entry.name not in folder.names:
                folder.change(None, entry.name, _Folder() if entry.is_dir() else _File())

    def _observe_all(self, path: Path, folder: _Folder) -> None:
        self._observe(path, folder)
        for name, node in folder.names.items():
            if isinstance(node, _Folder):
                self._observe_all(path / name, node)

    def _remember_all(self) -> None:
        """Everything is durable as it lies there."""
        self._tree, self._paths = _Folder(), {}
        self._observe_all(self.root, self._tree)
        folders = [(self.root, self._tree)]
        while folders:
            path, folder = folders.pop()
            folder.durable, folder.changes = dict(folder.names), []
            for name, node in folder.names.items():
                if isinstance(node, _File):
                    node.durable = (path / name).read_bytes()
                else:
                    folders.append((path / name, node))

    def _remove(self, path: Path) -> None:
        folder = self._folder(path.parent)
        node = folder.names[path.name]
        if isinstance(node, _Folder):
            for child in list(path.iterdir()):
                self._remove(child)
            path.rmdir()
        else:
            path.unlink()  # should this not survive, the file is there with what was durable of it
        folder.change(path.name, None, node)

    def _remove_half(self, folder: Path) -> None:
        children = list(folder.iterdir())
        for child in children[: len(children) // 2]:
            self._remove(child)

    def _contents(self, path: Path, folder: _Folder) -> dict[_File, bytes]:
        """What every file that is still there holds now."""
        contents: dict[_File, bytes] = {}
        for name, node in folder.names.items():
            if isinstance(node, _Folder):
                contents.update(self._contents(path / name, node))
            else:
                contents[node] = (path / name).read_bytes()
        return contents

    def _survive(
        self,
        path: Path,
        folder: _Folder,
        contents: dict[_File, bytes],
        random: Random,
        kept: dict[Path, bytes | None],
    ) -> None:
        for name, node in sorted(_surviving_names(folder, random).items()):
            if isinstance(node, _Folder):
                kept[path / name] = None
                self._survive(path / name, node, contents, random, kept)
            else:
                kept[path / name] = surviving_bytes(node.durable, contents.get(node, node.durable), random)


def surviving_bytes(durable: bytes, written: bytes, random: Random) -> bytes:
    """What a disk may hold of a file that was `durable` at its last fsync and is `written` now."""
    if durable == written:
        return durable
    start = _common_length(durable, written)
    if start == len(durable):  # it grew
        return written[:start] + _torn(written[start:], random)
    if start == len(written):  # it was cut
        return random.choice([durable, written])
    return random.choice([durable, written, written[: random.randint(start, len(written))]])


def _torn(tail: bytes, random: Random) -> bytes:
    kind = random.choice(["nothing", "all", "beginning", "zeroed", "garbled", "only its length"])
    if kind in ("nothing", "all"):
        return tail if kind == "all" else b""
    if kind == "only its length":
        return bytes(len(tail))
    beginning = tail[: random.randint(0, len(tail))]
    if kind == "beginning":
        return beginning
    block = min(len(beginning), random.randint(1, BLOCK_BYTES))
    end = bytes(block) if kind == "zeroed" else random.randbytes(block)
    return beginning[: len(beginning) - block] + end


def _surviving_names(folder: _Folder, random: Random) -> dict[str, _File | _Folder]:
    names = dict(folder.durable)
    changes = folder.changes
    if random.random() < 0.5:
        changes = changes[: random.randint(0, len(changes))]
    else:
        changes = [change for change in changes if random.random() < 0.5]
    for change in changes:
        _apply(names, change)
    return names


def _common_length(left: bytes, right: bytes) -> int:
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    differing = np.frombuffer(left[:length], np.uint8) != np.frombuffer(right[:length], np.uint8)
    return int(differing.argmax())


def _is_log(path: Path) -> bool:
    return path.name.startswith("wal-")


def _rename_kinds(source: Path, target: Path) -> set[Operation]:
    if source.name.endswith(".building"):
        return {Operation.SEGMENT_RENAME}
    if target.name == "segment.json":
        return {Operation.SEGMENT_HEADER}
    if target.name.startswith("manifest-"):
        return {Operation.MANIFEST_RENAME}
    return set()
