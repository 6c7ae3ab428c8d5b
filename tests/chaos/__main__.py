"""`python -m tests.chaos`, or `make chaos`: every row that exists, at the figure of its row; exit code 1 if one failed.

--row N        this row only, may be repeated (see docs/chaos.md)
--quick        little of everything, to see that it runs
--seed S       the first seed (default 1); the same seed gives the same requests and the same kills, not the same timing
--seeds N      so many runs of each row, with one seed after the other (the simulations take it for their own amount)
--kills N      row 1: kills;  --writes N  row 1: acknowledged writes;  --cycles N  rows 6 and 14: cycles
--scratch DIR  where data folders and results lie (default ./shoal-chaos); the folder of a run that failed is kept
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import (
    cache_interleavings,
    disk_full,
    kills,
    overload,
    recall_cycles,
    redis_faults,
    simulations,
    tenant_keys,
)
from tests.chaos.real_cluster import RealCluster
from tests.chaos.report import Report, in_words, to_json
from tests.chaos.small_disk import NoSmallDisk, small_disk

Options = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    options = _parse(arguments)
    reports: list[Report] = []
    file = options.scratch / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for row in options.row:
        for report in ROWS[row](options) if row in ROWS else [_simulate(row, options)]:
            print(in_words(report), flush=True)
            reports.append(report)
            file.write_text(to_json(reports))
    failed = [f"row {report.row} seed {report.seed}" for report in reports if report.verdict == "FAILED"]
    print(f"\n{len(reports)} runs, failed: {', '.join(failed) or 'none'}\n{file}")
    return 1 if failed else 0


def _kills(options: Options) -> Iterator[Report]:
    little = {"kills": 8, "writes": 4_000, "parts": 2, "ids_per_client": 500} if options.quick else {}
    chosen = {name: value for name, value in (("kills", options.kills), ("writes", options.writes)) if value}
    for seed in _seeds(options):
        plan = kills.KillPlan(seed, **{**little, **chosen})
        yield _on_new_folder(options, 1, seed, lambda cluster, plan=plan: kills.run(cluster, plan))


def _disk_full(options: Options) -> Iterator[Report]:
    little = {"cycles": 3, "ids": 1_000} if options.quick else {}
    chosen = {"cycles": options.cycles} if options.cycles else {}
    for seed in _seeds(options):
        folder = options.scratch / f"row-6-disk-{seed}"
        plan = disk_full.DiskPlan(seed, **{**little, **chosen})
        try:
            with small_disk(folder, disk_full.DISK_BYTES):
                yield _on_cluster(6, seed, folder, lambda cluster, plan=plan: disk_full.run(cluster, plan))
        except NoSmallDisk as missing:
            yield Report(6, "disk full", seed, skipped=str(missing))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _recall_cycles(options: Options) -> Iterator[Report]:
    little = {"cycles": 4, "restart_every": 4, "points": 4_000} if options.quick else {}
    chosen = {"cycles": options.cycles} if options.cycles else {}
    for seed in _seeds(options):
        plan = recall_cycles.RecallPlan(seed, **{**little, **chosen})
        yield _on_new_folder(options, 14, seed, lambda cluster, plan=plan: recall_cycles.run(cluster, plan))


def _overload(options: Options) -> Iterator[Report]:
    little = {"seconds": 8.0, "steady_s": 8.0, "points": 5_000} if options.quick else {}
    for seed in _seeds(options):
        plan = overload.OverloadPlan(seed, **little)
        yield _on_new_folder(options, 19, seed, lambda cluster, plan=plan: overload.run(cluster, plan), plan.sections)


def _redis_faults(options: Options) -> Iterator[Report]:
    little = {"phase_s": 2.0, "points": 4_000} if options.quick else {}
    for seed in _seeds(options):
        plan = redis_faults.RedisPlan(seed, **little)
        yield _in_new_folder(options, 18, seed, lambda folder, plan=plan: redis_faults.run(folder, plan))


def _cache_interleavings(options: Options) -> Iterator[Report]:
    little = {"interleavings": 2_000, "restarts": 2} if options.quick else {}
    for seed in _seeds(options):
        plan = cache_interleavings.InterleavingPlan(seed, **little)
        yield _in_new_folder(options, 23, seed, lambda folder, plan=plan: cache_interleavings.run(folder, plan))


def _tenant_keys(options: Options) -> Iterator[Report]:
    little = {"requests": 2_000} if options.quick else {}
    for seed in _seeds(options):
        plan = tenant_keys.TenantPlan(seed, **little)
        yield _in_new_folder(options, 22, seed, lambda folder, plan=plan: tenant_keys.run(folder, plan))


ROWS: dict[int, Callable[[Options], Iterator[Report]]] = {
    1: _kills,
    6: _disk_full,
    14: _recall_cycles,
    18: _redis_faults,
    19: _overload,
    22: _tenant_keys,
    23: _cache_interleavings,
}


def _simulate(row: int, options: Options) -> Report:
    simulation = simulations.SIMULATIONS[row]
    return simulations.run(simulation, options.seeds or (simulation.quick if options.quick else simulation.figure))


def _seeds(options: Options) -> range:
    return range(options.seed, options.seed + (options.seeds or 1))


def _in_new_folder(options: Options, row: int, seed: int, run: Callable[[Path], Report]) -> Report:
    """A run that starts what it needs itself, in a folder of its own, which is removed where the run passed."""
    folder = options.scratch / f"row-{row}-seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        report = run(folder)
    except Exception as error:
        traceback.print_exc()
        return Report(row, "broken off", seed, complaints=[f"{type(error).__name__}: {error}"])
    if report.verdict == "passed":
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _on_new_folder(
    options: Options,
    row: int,
    seed: int,
    run: Callable[[RealCluster], Report],
    sections: Mapping[str, object] | None = None,
) -> Report:
    """A run on a cluster with a folder of its own, which is removed where the run passed."""
    folder = options.scratch / f"row-{row}-seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    report = _on_cluster(row, seed, folder, run, sections)
    if report.verdict == "passed":
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _on_cluster(
    row: int,
    seed: int,
    folder: Path,
    run: Callable[[RealCluster], Report],
    sections: Mapping[str, object] | None = None,
) -> Report:
    """A run that breaks off has failed; the other rows go on."""
    try:
        with RealCluster(folder, sections=sections) as cluster:
            return run(cluster)
    except Exception as error:
        traceback.print_exc()
        return Report(row, "broken off", seed, complaints=[f"{type(error).__name__}: {error}"])


def _parse(arguments: Sequence[str] | None) -> Options:
    rows = sorted([*ROWS, *simulations.SIMULATIONS])
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Faults on purpose, nothing lost.")
    parser.add_argument("--row", type=int, action="append", choices=rows, help="this row only (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--seeds", type=int, help="so many runs, one seed after the other")
    parser.add_argument("--kills", type=int, help="row 1: how many kills")
    parser.add_argument("--writes", type=int, help="row 1: how many acknowledged writes")
    parser.add_argument("--cycles", type=int, help="rows 6 and 14: how many cycles")
    parser.add_argument("--scratch", type=Path, default=Path("shoal-chaos"), help="where all lies (%(default)s)")
    options = parser.parse_args(arguments)
    options.row = sorted(set(options.row or rows))
    options.scratch = options.scratch.absolute()
    return options


if __name__ == "__main__":
    sys.exit(main())
