"""A disk that fails: a write or an fsync ends in EIO, or there is no room for a while.

After a failed fsync of the log nothing is acknowledged until a restart, while reads go on; what was acknowledged
before is there after it, also where the machine goes down. A full disk is told by a typed error, and writes go
through again once there is room. A seal or a load whose step failed may be tried again, and is then as good as any.
"""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

from tests.simulated_disk import Fault, Operation, When
from tests.simulation.workload import Tally, Workload

STEPS_MAX = 400
STEPS_WITHOUT_ROOM = 12
REFUSED_TRIES = 4
"""So often a fenced log is asked again."""

FAILING = {
    Operation.APPEND_WRITE: 25,
    Operation.APPEND_FSYNC: 25,
    Operation.SEGMENT_FSYNC: 25,
    Operation.WRITE: 40,
    Operation.FSYNC: 80,
}
"""What fails -> the most operations of its kind that go well before."""


def failing_operation(seed: int, root: Path) -> Tally:
    """EIO on one write or fsync; then a restart of the process or the machine, more work, and the machine's end."""
    random = Random(seed)
    work = Workload(root, random)
    operation = random.choice(list(FAILING))
    when = random.choice([When.BEFORE, When.HALFWAY, When.AFTER])
    work.disk.faults.append(Fault(operation, when, random.randint(1, FAILING[operation]), errno.EIO))
    _work_until(work, lambda: work.disk.injected)
    if work.collection.wal.fence_reason is not None:
        _check_fenced(work)
    work.restart(is_power_lost=random.random() < 0.5)
    return _end(work)


def full_disk(seed: int, root: Path) -> Tally:
    """No room for a while. Reads go on; afterwards writes do, too."""
    random = Random(seed)
    work = Workload(root, random)
    for _ in range(random.randint(0, 20)):
        work.step()
    refused = work.tally.refused
    work.disk.room_bytes = random.choice([0, random.randint(1, 20_000), random.randint(1, 200_000)])
    _work_until(work, lambda: work.tally.refused > refused)
    for _ in range(random.randint(0, STEPS_WITHOUT_ROOM)):
        work.step()
        work.check()
    work.disk.room_bytes = None
    acknowledged = work.tally.acknowledged
    work.upsert()
    assert work.tally.acknowledged == acknowledged + 1, "there is room again"
    work.restart(is_power_lost=random.random() < 0.5)
    _end(work)
    work.tally.injected = 1
    return work.tally


def _work_until(work: Workload, is_done) -> None:
    for _ in range(STEPS_MAX):
        work.step()
        if is_done():
            return
    raise AssertionError(f"no fault struck within {STEPS_MAX} operations: {work.disk.faults}")


def _check_fenced(work: Workload) -> None:
    acknowledged = work.tally.acknowledged
    for _ in range(REFUSED_TRIES):
        work.upsert()
        work.check()
    work.seal_all()  # what is in memory may still be sealed
    work.check()
    assert work.tally.acknowledged == acknowledged, "a write was acknowledged after a failed fsync"


def _end(work: Workload) -> Tally:
    for _ in range(work.random.randint(1, 8)):
        work.step()
    return work.end()
