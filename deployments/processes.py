"""The processes of this machine as /proc shows them: whose child, of which session, started when; and how to end them.

A pid alone proves nothing, for it is used again. A `ProcessId` also has the start time, and is compared before anything
is signalled. The processes of a cluster are found in two ways: as descendants of its guardian (which adopts orphans, so the
tree is whole while it lives), and as members of its session (which a child inherits, also when its parent is gone).
Linux only, as is the local cluster.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ProcessId:
    """A process for certain: `started_ticks` since boot, of the boot `boot_id`."""

    pid: int
    started_ticks: int
    boot_id: str

    def is_alive(self) -> bool:
        """A zombie is not."""
        found = _read_stat(self.pid)
        return found is not None and found.started_ticks == self.started_ticks and boot_id() == self.boot_id


@dataclass(frozen=True)
class _Stat:
    pid: int
    parent: int
    session: int
    started_ticks: int


def boot_id() -> str:
    """Another one after every boot of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def own_id() -> ProcessId:
    """The calling process."""
    found = _read_stat(os.getpid())
    assert found is not None
    return ProcessId(found.pid, found.started_ticks, boot_id())


def descendants(ancestor: int) -> list[int]:
    """Children, their children, and so on, without zombies and without `ancestor`."""
    children: dict[int, list[int]] = {}
    for found in _all_stats():
        children.setdefault(found.parent, []).append(found.pid)
    waiting, family = [ancestor], []
    while waiting:
        born = children.get(waiting.pop(), [])
        family += born
        waiting += born
    return family


def session_members(leader: ProcessId) -> list[int]:
    """Every live process of the session that `leader` opened, itself included.

    Empty if the session's number now belongs to somebody else: to a process of another boot, or to a later leader of that
    pid (a pid is not given again while a session or group has its number).
    """
    if boot_id() != leader.boot_id:
        return []
    current = _read_stat(leader.pid)
    if current is not None and current.started_ticks != leader.started_ticks:
        return []
    return [
        found.pid
        for found in _all_stats()
        if found.session == leader.pid and found.started_ticks >= leader.started_ticks
    ]


def end_all(find: Callable[[], list[int]], timeout_s: float) -> list[int]:
    """SIGKILL what `find` finds, again and again (a dying process may just have had a child), until it finds nothing.

    Returns what is left at the timeout: empty, but for processes that the kernel can't end now.
    """
    deadline = time.monotonic() + timeout_s
    while left := find():
        for pid in left:
            _signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(POLL_S)
    return []


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came true before the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def reap_children() -> dict[int, int]:
    """Collect the children that have ended: pid -> exit code (negative: the signal).

    All of them: only for a process, such as the guardian, in which nobody else waits for a child of his own.
    """
    ended = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    except ChildProcessError:
        pass
    return ended


def adopt_orphans() -> None:
    """From now on, descendants whose parent dies become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process at once when its parent, which has to be `parent`, ends in any way."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _all_stats() -> Iterator[_Stat]:
    for entry in os.listdir(PROC):
        if entry.isdigit() and (found := _read_stat(int(entry))) is not None:
            yield found


def _read_stat(pid: int) -> _Stat | None:
    """proc(5), /proc/pid/stat; None for a process that is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the name in brackets, which may hold anything.
    fields = text.rpartition(")")[2].split()
    state, parent, session, started_ticks = fields[0], fields[1], fields[3], fields[19]
    return None if state in "ZX" else _Stat(pid, int(parent), int(session), int(started_ticks))
