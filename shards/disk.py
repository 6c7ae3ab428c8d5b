"""The few ways in which Shoal makes bytes durable. Everything that writes state goes through here.

Durable means: the file's bytes are fsynced, and so is the folder that names it. A file is replaced by writing a
temporary neighbour, fsyncing it and renaming it over the old one, so a crash leaves the old file or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def fsync_file(path: Path) -> None:
    """Make a closed file's bytes durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, with its parents, durably. Harmless where it exists."""
    missing = []
    parent = folder
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(temporary, path)


def rename_durably(source: Path, target: Path) -> None:
    """Rename within one folder, durably. The source's own bytes must be durable already."""
    os.rename(source, target)
    fsync_folder(target.parent)
