"""The port to the disk: the few ways in which Shoal makes bytes and names durable, renames and removes.

Durable means: the file's bytes are fsynced, and so is the folder that names it. A file is replaced by writing a
temporary neighbour, fsyncing it and renaming it over the old one, so a crash leaves the old file or the new one.

The engine is given a `Disk` as a value, so that a test can give it one that loses what was not fsynced, fails or
fills up (tests/simulated_disk.py). Reading is nobody's business here, and a file may be written by other means
(hnswlib needs a real path); what makes it durable, renames or removes it goes through the port.

What a crash leaves may be visible without being durable. Whoever goes on from there makes it durable first, for else
later writes would stand on bytes that a power failure takes away: `make_folder` does so for folders that exist,
`rewrite_durably` for the end of a log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


class Disk:
    """The real disk. Everything raises OSError; after one of an fsync nobody knows what the disk holds."""

    def open_for_append(self, path: Path) -> int:
        """Open a file, made where there is none, whose every write goes to its end. The caller closes it."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write_all(self, descriptor: int, content: bytes) -> None:
        """Write the whole content; after an error any part of it may be in the file."""
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]

    def fsync(self, descriptor: int) -> None:
        """Make an open file's bytes durable."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut an open file, not yet durably."""
        os.ftruncate(descriptor, length)

    def rewrite_durably(self, path: Path, offset: int, content: bytes) -> None:
        """Write bytes that already stand at `offset` once more, and make them durable.

        An fsync alone is not enough where an earlier one failed: the system may hold the bytes for written.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            self.write_all(descriptor, content)
            self.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fsync_file(self, path: Path) -> None:
        """Make a closed file's bytes durable."""
        _fsync_path(path, os.O_RDONLY)

    def fsync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        _fsync_path(folder, os.O_RDONLY | os.O_DIRECTORY)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, with its parents, durably. Harmless where it exists."""
        missing = []
        parent = folder
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        with contextlib.suppress(PermissionError):  # what we may not read, we did not make
            self.fsync_folder(parent.parent)  # a crash may have come between its making and its name's fsync
        for path in reversed(missing):
            self._make_one_folder(path)
            self.fsync_folder(path.parent)

    def write_durably(self, path: Path, content: bytes) -> None:
        """Put `content` at `path`, whole or not at all."""
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        descriptor = self._open_anew(temporary)
        try:
            self.write_all(descriptor, content)
            self.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.rename_durably(temporary, path)

    def rename_durably(self, source: Path, target: Path) -> None:
        """Rename within one folder, durably. The source's own bytes must be durable already."""
        self._rename(source, target)
        self.fsync_folder(target.parent)

    def unlink(self, path: Path) -> None:
        """Remove a file, where there is one; not yet durably."""
        path.unlink(missing_ok=True)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder and everything in it, as far as that works; not yet durably."""
        shutil.rmtree(folder, ignore_errors=True)

    def _open_anew(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def _make_one_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def _rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)


def _fsync_path(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


REAL_DISK = Disk()

# For state beside the engine: the catalogue, the data folder, a shard's identity.
fsync_file = REAL_DISK.fsync_file
fsync_folder = REAL_DISK.fsync_folder
make_folder = REAL_DISK.make_folder
rename_durably = REAL_DISK.rename_durably
write_durably = REAL_DISK.write_durably
