"""A file system of a few MiB, to be filled: a tmpfs, which takes the right to mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"
BLOCK_BYTES = 4096


class NoSmallDisk(Exception):
    """None can be made here; the message says why."""


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A new, empty file system at `folder`, which is made. Raises NoSmallDisk."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "shoal-chaos", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoSmallDisk("there is no `mount`") from None
    except subprocess.CalledProcessError as error:
        raise NoSmallDisk(f"mounting a tmpfs is not permitted: {error.stderr.strip()}") from None
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, left_bytes: int) -> int:
    """Take all room of a file system but about `left_bytes`; the bytes taken."""
    path, block = folder / FILLER, b"\1" * BLOCK_BYTES
    with open(path, "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        taken = max(0, os.fstat(filler.fileno()).st_size - left_bytes)
        filler.truncate(taken)
    return taken


def make_room(folder: Path) -> None:
    """Undo `fill`."""
    (folder / FILLER).unlink(missing_ok=True)
