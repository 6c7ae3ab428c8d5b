"""What the system says of this process's memory, and giving back to it what was freed. Both take milliseconds where
much is held: call them off the loop.
"""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from pathlib import Path

ROLLUP = Path("/proc/self/smaps_rollup")


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes in memory now. anonymous: heap and stacks, what a limit is about; mapped: pages of files, which the system
    takes back when it needs room, and memory shared with other processes.
    """

    anonymous_bytes: int
    mapped_bytes: int

    def to_json(self) -> dict[str, int]:
        """For a report."""
        return asdict(self)


def read_resident(rollup: Path = ROLLUP) -> Resident | None:
    """The figures of this process, None where the system has no such file or it has other words."""
    try:
        lines = rollup.read_text().splitlines()
    except OSError:
        return None
    kib = {words[0]: int(words[1]) for line in lines if (words := line.split())[-1:] == ["kB"]}
    if "Rss:" not in kib or "Anonymous:" not in kib:
        return None
    anonymous = kib["Anonymous:"]
    return Resident(1024 * anonymous, 1024 * (kib["Rss:"] - anonymous))


def give_back_freed() -> None:
    """Let the system have what this process has freed. Harmless, and without effect where the C library can't.

    glibc keeps freed memory for the next allocation. After a graph was built that is the segment's rows and their
    copies, in pieces that the next graph does not fit into.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
