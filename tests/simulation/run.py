"""The figures: every row of the simulation over a range of seeds, in temporary folders.

    python -m tests.simulation.run --row 2 --seeds 50     a crash at each named point, 50 seeds each
    python -m tests.simulation.run --row 3 --seeds 2000   power failures at any moment
    python -m tests.simulation.run --row 4 --seeds 20000  so many mutants, 100 of each log
    python -m tests.simulation.run --row 7 --seeds 500    500 x EIO on a write or fsync, 500 full disks

Prints what was done and every seed that failed, with its reason; exits with 1 where one did, or injected no fault.
A few times faster with TMPDIR on a file system in memory: nothing here needs a real disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from time import monotonic

from tests.simulation.crashes import POINTS, crash_at_point, power_loss
from tests.simulation.failing_disk import failing_operation, full_disk
from tests.simulation.log_mutants import MutantTally, log_mutants
from tests.simulation.workload import Tally

MUTANTS_A_LOG = 100
Run = Callable[[int, Path], Tally | MutantTally]

ROWS: dict[int, dict[str, Run]] = {
    2: {point: partial(crash_at_point, point=point) for point in POINTS},
    3: {"power loss at any moment": power_loss},
    4: {"log mutants": partial(log_mutants, count=MUTANTS_A_LOG)},
    7: {"EIO on a write or fsync": failing_operation, "a full disk": full_disk},
}


@dataclass
class Summary:
    """One kind of run over all its seeds."""

    name: str
    tally: Tally | MutantTally | None = None
    failures: list[str] = field(default_factory=list)
    run_count: int = 0
    took_s: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in vars(self.tally).items()) if self.tally else "-"
        return f"{self.name}: {self.run_count} runs, {len(self.failures)} failed, {self.took_s:.0f} s; {counts}"


def summaries(row: int, seeds: range) -> Iterator[Summary]:
    """Run a row's kinds one after the other."""
    for name, run in ROWS[row].items():
        summary = Summary(name)
        started = monotonic()
        for seed in seeds:
            summary.run_count += 1
            try:
                _run_one(run, seed, summary)
            except Exception:
                summary.failures.append(f"seed {seed}: {traceback.format_exc()}")
        summary.took_s = monotonic() - started
        yield summary


def _run_one(run: Run, seed: int, summary: Summary) -> None:
    with tempfile.TemporaryDirectory(prefix="shoal-simulation-") as folder:
        tally = run(seed, Path(folder))
    assert tally.injected, "the run injected no fault: it shows nothing"
    if summary.tally is None:
        summary.tally = tally
    else:
        summary.tally.add(tally)  # type: ignore[arg-type]


def main() -> int:
    """Parse the arguments, run the row, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=int, choices=ROWS, required=True)
    parser.add_argument("--seeds", type=int, required=True, help="how many; of row 4, mutants")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    count = ceil(arguments.seeds / MUTANTS_A_LOG) if arguments.row == 4 else arguments.seeds
    seeds = range(arguments.first, arguments.first + count)
    print(f"row {arguments.row}, seeds {seeds.start} to {seeds.stop - 1}", flush=True)
    failed_count = 0
    for summary in summaries(arguments.row, seeds):
        print(summary, flush=True)
        failed_count += len(summary.failures)
        for failure in summary.failures:
            print(failure, flush=True)
    print("failed" if failed_count else "passed")
    return 1 if failed_count else 0


if __name__ == "__main__":
    sys.exit(main())
