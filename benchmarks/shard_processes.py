"""Which process holds which shard of a running cluster, and what /proc says of it.

A shard's process is known by the lock file of its folder, which it alone keeps open; its name in the process list is
Ray's affair. Only processes of the cluster's own tree are looked at. Linux only.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployments.data_folder import RunInfo
from deployments.lifecycle import cluster_processes
from shards.identity import LOCK_FILE

KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Bytes of one process that are resident: `anonymous` (heap and stacks), and the rest, which is mapped files."""

    anonymous: int
    mapped: int


def shard_pids(info: RunInfo, data_folder: Path) -> dict[int, int]:
    """Shard id -> pid of the shards that run now."""
    found = {}
    locks = {str(path): int(path.parent.name) for path in data_folder.resolve().glob(f"shards/*/{LOCK_FILE}")}
    for pid in cluster_processes(info):
        for link in _open_files(pid):
            if link in locks:
                found[locks[link]] = pid
    return found


def kill_hard(pid: int, data_folder: Path) -> bool:
    """SIGKILL a shard's process; False where it is gone or no shard of this folder any more.

    The pid is pinned first, so that no other process can have taken it over in between.
    """
    folder = str(data_folder.resolve())
    with suppress(ProcessLookupError):
        pinned = os.pidfd_open(pid)
        try:
            if any(link.startswith(folder) for link in _open_files(pid)):
                signal.pidfd_send_signal(pinned, signal.SIGKILL)
                return True
        finally:
            os.close(pinned)
    return False


def memory_of(pid: int) -> Memory:
    """What of a process is resident. Raises OSError where it is gone."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * KIB
    return Memory(fields["Anonymous"], fields["Rss"] - fields["Anonymous"])


def written_bytes(pid: int) -> int:
    """Bytes that a process has caused to be written to the disk so far. Raises OSError where it is gone."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes:")))


def _open_files(pid: int) -> list[str]:
    links = []
    with suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return links
