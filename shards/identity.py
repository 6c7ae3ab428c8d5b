"""Whose folder this is: a shard's identity, written once when the catalogue first names the shard.

A shard that starts on a folder without this file, or with another cluster's, has lost its data (or was given the
wrong disk): it must answer Unavailable, never empty. So nothing but `create_shard_folder` writes the file, and only
the supervisor calls it.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.disk import fsync_folder, make_folder, write_durably
from shards.errors import Corrupt, ShardUnavailable

IDENTITY_FILE = "shard.json"
LOCK_FILE = "lock"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class ShardIdentity:
    """Which shard of which cluster, and the node whose disk holds it."""

    cluster_id: str
    shard_id: int
    node_id: str


def create_shard_folder(folder: Path, identity: ShardIdentity) -> None:
    """Make the folder and its identity file, durably. Harmless to repeat with the same identity."""
    if (folder / IDENTITY_FILE).exists():
        check_shard_folder(folder, identity)
        fsync_folder(folder)  # a crash may have come between the file's renaming and this
        return
    make_folder(folder)
    write_durably(folder / IDENTITY_FILE, json.dumps({"format": FORMAT, **asdict(identity)}, indent=1).encode())


def lock_shard_folder(folder: Path) -> int:
    """Keep every other process off the shard's files; returns the open file that holds the lock.

    The kernel lets go when the process ends, however it ends. Raises ShardUnavailable where another has it.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ShardUnavailable(f"another process works on the files of {folder}; one at a time can") from None
    return descriptor


def check_shard_folder(folder: Path, identity: ShardIdentity) -> None:
    """Raises ShardUnavailable or Corrupt, naming the file, unless the folder is this shard's."""
    path = folder / IDENTITY_FILE
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ShardUnavailable(
            f"shard {identity.shard_id} has no files: {path} is missing; restore the folder from a snapshot or its"
            " disk"
        ) from None
    except ValueError as error:
        raise Corrupt(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Corrupt(f"{path} has no format {FORMAT}; this version of Shoal can't read it")
    expected = asdict(identity)
    wrong = [name for name, value in expected.items() if found.get(name) != value]
    if wrong:
        told = ", ".join(f"{name} {found.get(name)!r} instead of {expected[name]!r}" for name in wrong)
        raise ShardUnavailable(f"{path} belongs to another shard: {told}")
