"""Crashes: at every named point of the write path, and power failures at any moment.

Each run: a workload until the fault strikes; a restart, with the process alone or the whole machine gone; some more
work on what was found; the machine gone once more (what the first restart stood on must have been durable); a clean
close. Every opening must succeed and find what the oracle has.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.simulated_disk import Crash, Fault, Operation, When
from tests.simulation.workload import Tally, Workload

STEPS_MAX = 400
"""A fault that did not strike within so many operations is none: the run has failed."""

STEPS_AFTER = 6
ANY_MOMENT_MAX = 500
"""Disk operations among which a power failure picks its moment: about 60 writes and a few seals."""

POINTS = {
    "before the append's write": Fault(Operation.APPEND_WRITE, When.BEFORE, 25),
    "halfway in the append's write": Fault(Operation.APPEND_WRITE, When.HALFWAY, 25),
    "between the append's write and its fsync": Fault(Operation.APPEND_WRITE, When.AFTER, 25),
    "after the append's fsync": Fault(Operation.APPEND_FSYNC, When.AFTER, 25),
    "before the acknowledgement": Fault(Operation.ACKNOWLEDGE, When.BEFORE, 25),
    "before a segment file's fsync": Fault(Operation.SEGMENT_FSYNC, When.BEFORE, 25),
    "before the segment header's rename": Fault(Operation.SEGMENT_HEADER, When.BEFORE, 4),
    "before the segment's rename": Fault(Operation.SEGMENT_RENAME, When.BEFORE, 4),
    "after the segment's rename": Fault(Operation.SEGMENT_RENAME, When.AFTER, 4),
    "before the manifest's rename": Fault(Operation.MANIFEST_RENAME, When.BEFORE, 4),
    "after the manifest's rename": Fault(Operation.MANIFEST_RENAME, When.AFTER, 4),
    "before the log's truncation": Fault(Operation.LOG_TRUNCATE, When.BEFORE, 1),
    "after the log's truncation": Fault(Operation.LOG_TRUNCATE, When.AFTER, 1),
    "before a log file's removal": Fault(Operation.LOG_DROP, When.BEFORE, 3),
    "after a log file's removal": Fault(Operation.LOG_DROP, When.AFTER, 3),
}
"""Name -> fault; its countdown is the most that a run draws."""


def crash_at_point(seed: int, root: Path, point: str) -> Tally:
    """A crash at a named point. Even seeds kill the process, odd ones the machine."""
    random = Random(f"{point} {seed}")
    work = Workload(root, random)
    fault = POINTS[point]
    work.disk.faults.append(Fault(fault.operation, fault.when, random.randint(1, fault.countdown)))
    if fault.operation is Operation.LOG_TRUNCATE:  # a log is cut where a write failed
        failing = Fault(Operation.APPEND_WRITE, When.HALFWAY, random.randint(1, 25), error=28)
        work.disk.faults.append(failing)
    return _run(work, is_power_lost=seed % 2 == 1)


def power_loss(seed: int, root: Path) -> Tally:
    """A power failure at any moment, at times with one before it that only kills the process."""
    random = Random(seed)
    work = Workload(root, random)
    when = random.choice(list(When))
    work.disk.faults.append(Fault(Operation.ANY, when, random.randint(1, ANY_MOMENT_MAX)))
    if random.random() < 0.3:
        _work_until_crash(work)
        work.restart(is_power_lost=False)
        work.disk.faults.append(Fault(Operation.ANY, when, random.randint(1, 40)))
    return _run(work, is_power_lost=True)


def _run(work: Workload, is_power_lost: bool) -> Tally:
    _work_until_crash(work)
    work.restart(is_power_lost)
    for _ in range(work.random.randint(0, STEPS_AFTER)):
        work.step()
    return work.end()


def _work_until_crash(work: Workload) -> None:
    try:
        for _ in range(STEPS_MAX):
            work.step()
    except Crash:
        return
    raise AssertionError(f"no fault struck within {STEPS_MAX} operations: {work.disk.faults}")
