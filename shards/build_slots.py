"""How many graphs the shards of one machine build at once: one fewer than it has cores, so that a core stays free for
searches.

A search crosses half a dozen threads, and each hop to a core that is busy with a build costs a wait, whatever the build's
priority. With every core building, searches of 3 ms took 100 to 300 (docs/benchmarks.md); so builds take turns instead.
A slot is an exclusive lock on a file beside the shards' folders: the system gives it back when its process ends, however.

What can't wait does not: the caller says so, and goes on without a slot.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

POLL_S = 0.1
FILE_PREFIX = "build-slot-"


class BuildSlots:
    """The slots of a machine; `folder` is shared by its shards. Without a folder every build goes on at once."""

    def __init__(self, folder: Path | None = None, count: int | None = None) -> None:
        self._folder = folder
        self._count = max(1, (os.cpu_count() or 1) - 1) if count is None else count

    @asynccontextmanager
    async def one(self, is_urgent: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a slot, and hold it. `is_urgent` is asked now and then: true ends the waiting, without a slot."""
        slot = None
        # Other processes give slots back, and tell nobody: so they are tried again and again.
        while not is_urgent() and self._folder is not None and (slot := self._try_take(self._folder)) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        try:
            yield
        finally:
            if slot is not None:
                os.close(slot)

    def _try_take(self, folder: Path) -> int | None:
        """An open file that holds a slot's lock, or None where all are taken. Where no lock can be had, nobody waits."""
        for number in range(self._count):
            try:
                slot = os.open(folder / f"{FILE_PREFIX}{number}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError:
                return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(slot)
                continue
            except OSError:
                pass
            return slot
        return None
